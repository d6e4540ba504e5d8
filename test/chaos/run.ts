/**
 * A run of the soak, from its first process to its last check.
 */
import { Effect, Fiber, Option, Schedule } from "effect"
import { monitorEventLoopDelay } from "node:perf_hooks"
import { cpuMicros, liveMemory, type Memory } from "../benchmark/support.ts"
import { caller } from "./caller.ts"
import { assemble, type Cast } from "./cast.ts"
import {
  callEndlessly,
  checkCounted,
  checkHealth,
  checkMemory,
  checkNothingInFlight,
  checkNothingOpen,
  checkResources
} from "./checks.ts"
import { readExecutions } from "./executions.ts"
import type { FaultName } from "./faultName.ts"
import { fateOf } from "./faults.ts"
import { flap, list } from "./flapping.ts"
import type { Journal } from "./journal.ts"
import type { FiberCount } from "./leftovers.ts"
import { limits } from "./limits.ts"
import type { Question } from "./network.ts"
import type { SoakOptions } from "./options.ts"
import { longestTimeout } from "./plan.ts"
import { Random } from "./random.ts"
import type { Figures } from "./report.ts"
import { Resident } from "./resident.ts"
import { calm } from "./settings.ts"
import { connectionsMade } from "./slots.ts"
import type { Violations } from "./violations.ts"
import { Phase } from "./world.ts"

/** Calls and streams of all callers, until the phase is over and each call has ended. */
const callAll = (name: string, count: number, phase: Phase, cast: Cast) => {
  const { ledger, recovery, slots, streams, world } = cast
  const callers = Array.from({ length: count }, (_, index) => {
    const slot = slots[index % slots.length]
    const random = new Random(world.seed, `${name} ${index}`)
    return slot === undefined ? Effect.void : caller(slot, random, phase, world, ledger, recovery, streams)
  })
  return Effect.all(callers, { concurrency: "unbounded", discard: true })
}

/** Waits for callers whose phase is over. What does not end by then is a violation, and is given up. */
const awaitCallers = Effect.fnUntraced(function*(calling: Fiber.Fiber<void>, { ledger }: Cast) {
  ledger.limitAll(longestTimeout + limits.slack)
  const ended = yield* Effect.timeoutOption(Fiber.join(calling), longestTimeout + limits.stop)
  if (Option.isNone(ended)) yield* Fiber.interrupt(calling)
})

/** Callers without faults, so that everything has been used once. */
const warmUp = Effect.fnUntraced(function*(cast: Cast, callers: number) {
  const phase = new Phase()
  for (const { spec } of cast.slots) {
    for (const replica of cast.replicas) cast.recovery.listed(spec.name, replica.spec.name, performance.now())
  }
  const calling = yield* Effect.forkChild(callAll("early caller", callers, phase, cast))
  yield* Effect.sleep(calm)
  yield* phase.end
  yield* awaitCallers(calling, cast)
})

/** Everything that goes wrong, until the phase is over; then all is in good health again. */
const trouble = Effect.fnUntraced(function*(phase: Phase, counts: Map<FaultName, number>, cast: Cast) {
  const { dead, recovery, replicas, slots, world } = cast
  const random = (name: string) => new Random(world.seed, name)
  yield* Effect.all([
    ...replicas.map((replica) =>
      fateOf(replica, random(`replica ${replica.spec.name}`), phase, world, recovery, counts)
    ),
    ...slots.flatMap((slot) => [
      flap(slot.endpoints, replicas, dead, slot.spec.name, random(`resolver ${slot.spec.name}`), phase, recovery),
      slot.renew(random(`slot ${slot.spec.name}`), phase, replicas, recovery)
    ])
  ], { concurrency: "unbounded", discard: true })
  const listed = replicas.map(({ endpoint }) => endpoint)
  for (const { endpoints, spec } of slots) yield* list(endpoints, listed, replicas, spec.name, recovery)
  world.journal.add("all healed", {})
})

/** Callers and faults. Gives how often there was which fault. */
const chaos = Effect.fnUntraced(function*(cast: Cast, { callers, seconds }: SoakOptions) {
  const counts = new Map<FaultName, number>()
  const calls = new Phase()
  const faults = new Phase()
  const calling = yield* Effect.forkChild(callAll("caller", callers, calls, cast))
  const troubling = yield* Effect.forkChild(trouble(faults, counts, cast))
  // It does not end by itself, but fails where a process could not be started, say.
  yield* Effect.raceFirst(Effect.sleep(seconds * 1000), Fiber.join(troubling))
  yield* faults.end
  yield* Fiber.join(troubling)
  // Now also those end that have no deadline.
  cast.ledger.limitAll(longestTimeout + limits.slack)
  yield* Effect.sleep(calm)
  yield* calls.end
  yield* awaitCallers(calling, cast)
  return counts
})

const forAll = { concurrency: "unbounded", discard: true } as const

/** Closes everything, in the middle of calls that would never end, and checks what is left of it at the replicas. */
const close = Effect.fnUntraced(function*(cast: Cast) {
  const { ledger, replicas, slots, world } = cast
  yield* Effect.forEach(replicas, ({ checkHandlersEnded }) => checkHandlersEnded, forAll)
  yield* checkNothingInFlight(cast)
  const endless = yield* callEndlessly(cast)
  yield* Effect.forEach(slots, ({ close }) => close, forAll)
  yield* checkNothingOpen(ledger)
  yield* Fiber.interrupt(endless)
  yield* world.network.ask({ _tag: "Close" } satisfies Question)
  yield* Effect.forEach(replicas, ({ checkHandlersEnded }) => checkHandlersEnded, forAll)
  yield* Effect.forEach(replicas, ({ checkIdle }) => checkIdle, forAll)
  yield* Effect.forEach(replicas, ({ stop }) => stop, forAll)
})

/** Looks at the RSS every second, for as long as its Scope is open. */
const watchResident = Effect.gen(function*() {
  const resident = new Resident()
  const look = Effect.sync(() => resident.add(process.memoryUsage.rss()))
  yield* Effect.forkScoped(Effect.repeat(look, Schedule.spaced("1 second")))
  return resident
})

const takeMemory: Effect.Effect<Memory> = Effect.promise(() => liveMemory({ shrink: true }))

/** What a run is given. */
interface Setting {
  readonly options: SoakOptions
  readonly directory: string
  readonly journal: Journal
  readonly violations: Violations
  /** Counts all fibers that there are. */
  readonly fibers: FiberCount
  /** What kept the process alive before anything was done. */
  readonly resourcesBefore: ReadonlyArray<string>
}

/** Runs a soak. All that it has started is gone when it has ended. */
export const run = Effect.fnUntraced(function*(setting: Setting): Effect.fn.Return<Figures, unknown> {
  const { directory, fibers, journal, options, resourcesBefore, violations } = setting
  const fibersBefore = fibers.active
  const delay = monitorEventLoopDelay({ resolution: 10 })
  const measured = yield* Effect.scoped(Effect.gen(function*() {
    const cast = yield* assemble(options.seed, directory, journal, violations)
    const { ledger } = cast
    yield* warmUp(cast, options.callers)
    const memory = yield* takeMemory
    delay.enable()
    const startedBefore = ledger.started
    const microsBefore = cpuMicros()
    const start = performance.now()
    const { faults, resident } = yield* Effect.scoped(Effect.gen(function*() {
      const resident = yield* watchResident
      return { faults: yield* chaos(cast, options), resident }
    }))
    const seconds = (performance.now() - start) / 1000
    delay.disable()
    const cpuSeconds = (cpuMicros() - microsBefore) / 1e6
    const calls = ledger.started - startedBefore
    yield* checkHealth(cast)
    yield* close(cast)
    return { cast, memory, faults, resident, seconds, cpuSeconds, rate: calls / seconds }
  }))
  const { cast: { ledger, recovery, slots, streams }, cpuSeconds, faults, memory, rate, resident, seconds } = measured
  const executions = readExecutions(directory)
  ledger.checkExecutions(executions)
  yield* checkCounted(ledger, violations)
  yield* checkResources(resourcesBefore, violations)
  if (fibers.active > fibersBefore) violations.add("fibersLeft", `${fibers.active - fibersBefore}`)
  const recovered = recovery.finish()
  if (recovered.first !== undefined && recovered.first.millis > limits.recovery) {
    const { millis, replica, stamp } = recovered.first
    violations.add("notUsedAgain", `replica ${replica} (process ${stamp}) for ${millis.toFixed(0)} ms`)
  }
  const end = yield* takeMemory
  checkMemory({ start: memory, end, resident, seconds: options.seconds }, violations)
  return {
    seconds,
    calls: ledger.started,
    callsPerSecond: rate,
    endings: Object.fromEntries(ledger.endings),
    streams: streams.figures,
    executions: executions.total,
    faults: Object.fromEntries(faults),
    processes: executions.processes,
    connections: connectionsMade(),
    slowestCloseMillis: Math.max(...slots.map(({ slowestClose }) => slowestClose)),
    recovery: { used: recovery.used, ...recovered },
    memory: { start: memory, end, rss: { eighths: resident.eighths, growth: resident.growth } },
    fibers: fibers.started,
    cpuSeconds,
    maxEventLoopDelayMillis: delay.max / 1e6
  }
})
