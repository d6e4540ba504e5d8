/**
 * Rolling restarts under load: no call may fail.
 *
 * `node test/chaos/rolling.ts [--transports tcp,unix] [--rounds 10] [--callers 64] [--seconds-per-restart 1]
 * [--min-calls 200000] [--json]`
 *
 * Three replicas, each a process, at addresses that stay the same. One after the other is told to stop with SIGTERM,
 * and another process is started at its address as soon as it has ended; so often per round as there are replicas. All
 * the while callers call at full load, with payloads of 16 B to 3 MiB, a fifth of which take up to 20 ms to answer;
 * each answer has to be that call's own, with the right checksum. From one restart to the next there are at least so
 * many seconds.
 *
 * It ends with 1 where a call has failed, or there were too few of them, or a replica did not end in an orderly way.
 */
import { Effect, Logger, type Scope } from "effect"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Connection, Endpoint, Resolver } from "../../src/index.ts"
import { count, fail, median, number, parse, table } from "../benchmark/support.ts"
import { startCallers } from "./restarts/calls.ts"
import { type Ended, freePorts, type ReplicaProcess, startReplica } from "./restarts/process.ts"

const replicas = 3

/** A program that was interrupted, and nothing else, ends with this: that is NodeRuntime's own way. */
const orderly = 130

interface Extent {
  readonly rounds: number
  readonly callers: number
  readonly secondsPerRestart: number
  readonly minCalls: number
}

/** One restart, with durations in milliseconds. */
interface Restart {
  readonly replica: number
  readonly ended: Ended
  /** From SIGTERM until the process had ended. */
  readonly stopMillis: number
  /** From then until the next one listened. */
  readonly startMillis: number
  /** From SIGTERM until the client was connected to the next one. */
  readonly backMillis: number
}

const temporaryDirectory = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "effect-call-"))),
  (path) => Effect.sync(() => rmSync(path, { recursive: true, force: true }))
)

const addressesOf: Readonly<Record<string, Effect.Effect<ReadonlyArray<string>, never, Scope.Scope>>> = {
  tcp: Effect.map(freePorts(replicas), (ports) => ports.map((port) => `tcp://127.0.0.1:${port}`)),
  unix: Effect.map(
    temporaryDirectory,
    (path) => Array.from({ length: replicas }, (_, i) => `unix://${join(path, `${i}.sock`)}`)
  )
}

const since = (startedAt: number) => performance.now() - startedAt

const run = Effect.fnUntraced(function*(transport: string, extent: Extent) {
  const addresses = yield* addressesOf[transport] ?? Effect.die(new Error(`there is no transport ${transport}`))
  const warnings = new Map<string, number>()
  const logger = Logger.make(({ message }) => {
    const text = String(message)
    warnings.set(text, (warnings.get(text) ?? 0) + 1)
  })
  const running: Array<ReplicaProcess> = []
  for (const address of addresses) running.push(yield* startReplica(address))
  const endpoints = yield* Effect.forEach(addresses, (address) => Endpoint.parse(address))
  const connection = yield* Effect.provide(
    Connection.make(Resolver.constant(...endpoints)),
    Logger.layer([logger])
  )
  const isActive = (address: string) =>
    Effect.map(
      connection.state,
      ({ endpoints }) => endpoints.some((endpoint) => endpoint.address === address && endpoint.state === "Active")
    )
  const untilActive = (address: string) =>
    isActive(address).pipe(
      Effect.tap((active) => active ? Effect.void : Effect.sleep(1)),
      Effect.repeat({ until: (active) => active })
    )
  const begun = performance.now()
  const { stop, tally } = yield* startCallers(connection, extent.callers)
  const restarts: Array<Restart> = []
  for (let round = 0; round < extent.rounds; round++) {
    for (const [replica, address] of addresses.entries()) {
      yield* untilActive(address)
      const startedAt = performance.now()
      running[replica]?.signal("SIGTERM")
      const ended = yield* running[replica]?.ended ?? Effect.die(new Error("there is no such replica"))
      const stopMillis = since(startedAt)
      const next = yield* startReplica(address)
      running[replica] = next
      yield* untilActive(address)
      restarts.push({ replica, ended, stopMillis, startMillis: next.startMillis, backMillis: since(startedAt) })
      yield* Effect.sleep(Math.max(0, extent.secondsPerRestart * 1000 - since(startedAt)))
    }
  }
  while (tally.calls < extent.minCalls && tally.failed === 0) yield* Effect.sleep(100)
  yield* stop
  const { latencies } = tally
  return {
    transport,
    ...extent,
    seconds: since(begun) / 1000,
    calls: tally.calls,
    failed: tally.failed,
    failures: Object.fromEntries(tally.failures),
    messages: Object.fromEntries(tally.messages),
    latency: {
      p50Micros: latencies.percentile(0.5),
      p99Micros: latencies.percentile(0.99),
      maxMicros: tally.longest * 1000
    },
    restarts,
    warnings: Object.fromEntries(warnings)
  }
}, Effect.scoped)

type Result = Effect.Success<ReturnType<typeof run>>

const how = ({ code, signal }: Ended): string => signal ?? `code ${code}`

const millis = (value: number): string => value.toFixed(value < 10 ? 1 : 0)

const isGood = ({ calls, failed, minCalls, restarts }: Result): boolean =>
  failed === 0 && calls >= minCalls && restarts.every(({ ended }) => ended.code === orderly)

const print = (result: Result): void => {
  const { calls, callers, failed, failures, latency, messages, restarts, seconds, transport, warnings } = result
  console.log(`over ${transport}: ${callers} callers, ${restarts.length} restarts in ${seconds.toFixed(1)} s`)
  console.log(`  ${calls} calls, ${failed} failed${failed === 0 ? "" : ":"}`)
  for (const [kind, count] of Object.entries(failures)) console.log(`    ${count} ${kind}: ${messages[kind]}`)
  const [p50, p99, max] = [latency.p50Micros, latency.p99Micros, latency.maxMicros].map((micros) =>
    millis(micros / 1000)
  )
  console.log(`  latency: p50 ${p50} ms, p99 ${p99} ms, max ${max} ms`)
  const rows = (["stopMillis", "startMillis", "backMillis"] as const).map((name) => {
    const values = restarts.map((restart) => restart[name])
    return [
      {
        stopMillis: "SIGTERM to its end",
        startMillis: "start of the next to listening",
        backMillis: "SIGTERM to connected again"
      }[name],
      ...[Math.min(...values), median(values), Math.max(...values)].map(millis)
    ]
  })
  console.log(
    table(["  a restart, in ms", "min", "median", "max"], rows.map(([name, ...rest]) => [`  ${name}`, ...rest]))
  )
  const ends = new Map<string, number>()
  for (const { ended } of restarts) ends.set(how(ended), (ends.get(how(ended)) ?? 0) + 1)
  console.log(`  replicas ended with ${[...ends].map(([end, count]) => `${end} (${count} times)`).join(", ")}`)
  for (const [text, count] of Object.entries(warnings)) console.log(`  ${count} times: ${text}`)
}

const main = Effect.gen(function*() {
  const values = parse({
    transports: { type: "string", default: "tcp,unix" },
    rounds: { type: "string", default: "10" },
    callers: { type: "string", default: "64" },
    "seconds-per-restart": { type: "string", default: "1" },
    "min-calls": { type: "string", default: "200000" },
    json: { type: "boolean", default: false }
  })
  const transports = values.transports.split(",")
  for (const transport of transports) {
    if (addressesOf[transport] === undefined) fail(`--transports: expected tcp or unix, got "${transport}"`)
  }
  const extent: Extent = {
    rounds: count("rounds", values.rounds),
    callers: count("callers", values.callers),
    secondsPerRestart: number("seconds-per-restart", values["seconds-per-restart"]),
    minCalls: count("min-calls", values["min-calls"])
  }
  const results: Array<Result> = []
  for (const transport of transports) {
    const result = yield* run(transport, extent)
    results.push(result)
    if (!values.json) print(result)
  }
  if (values.json) console.log(JSON.stringify(results))
  if (!results.every(isGood)) process.exitCode = 1
})

await Effect.runPromise(main)
