/**
 * What a server does with more calls than it can serve.
 *
 * `node test/chaos/overload.ts [--kinds wait,burn] [--loads 0.5,1,2,3] [--seconds 4] [--connections 4] [--json]`
 *
 * The load is open: calls are made at a fixed rate, however many are still to be answered, and each has a timeout of
 * 500 ms. First it is measured how many calls per second the server can serve, with callers that wait for their
 * answers; the loads are multiples of that. The handlers of `wait` wait for 10 ms, and 20 of them may run at once;
 * those of `burn` keep the event loop busy for 1 ms. Each is measured with the defaults of everything else, and with
 * limits that suit it. A call's latency counts from when it was due, so that a client that is late does not make it
 * shorter; p50 and p99 are those of the calls that were answered. Wasted work is the work of handlers whose calls were
 * not answered in time. In the end the server gets three times what it can serve for a while, and then half of it:
 * recovery is how long after that change it takes until answers are as fast as they were at half the load, and nothing
 * is refused.
 *
 * Client and server are processes of their own: with less than three free cores they also wait for each other.
 */
import { Effect, type Exit, Fiber } from "effect"
import { type CallError, Connection, Endpoint, HandlerMap, Listener, MethodKey, Resolver, Server } from "effect-call"
import { Latencies } from "../benchmark/meter.ts"
import { Child } from "../benchmark/pair.ts"
import { answerParent, count, fail, number, numbers, parse, table } from "../benchmark/support.ts"

const kinds = ["wait", "burn"] as const
type Kind = (typeof kinds)[number]

const waitMillis = 10
const burnMillis = 1
const timeoutMillis = 500

/** What may run at once of handlers that wait is what they wait for, so that it is no matter of taste. */
const given: Record<Kind, Server.ServerOptions> = { wait: { maxConcurrentCalls: 20 }, burn: {} }

/** Limits under which a call that is accepted waits for no longer than a few dozen milliseconds. */
const suitable: Record<Kind, Server.ServerOptions> = {
  wait: { maxConcurrentCalls: 20, maxQueuedCalls: 40 },
  burn: { maxConcurrentCalls: 10, maxQueuedCalls: 30 }
}

/** So many callers that wait for their answers keep the server busy, and do not fill its queue. */
const callers: Record<Kind, number> = { wait: 20, burn: 10 }

const work = MethodKey.make("chaos/Work", "work")

interface ServerSetup {
  readonly kind: Kind
  readonly options: Server.ServerOptions
}

/** How many calls are made per second, and for how long. */
interface Phase {
  readonly rate: number
  readonly seconds: number
}

type Question =
  /** The server: how many handlers have run to their end. */
  | { readonly _tag: "Executed" }
  /** The client: how many calls per second are answered, with so many callers that wait for their answers. */
  | { readonly _tag: "Closed"; readonly callers: number; readonly seconds: number }
  /** The client: one phase after the other; answers with its {@link Calls}. */
  | { readonly _tag: "Open"; readonly phases: ReadonlyArray<Phase> }

const outcomes = ["answered", "refused", "expired", "failed"] as const
type Outcome = (typeof outcomes)[number]

/** What has become of calls: of each when it was due, in ms, how long it took, and its outcome as an index. */
interface Calls {
  readonly due: Float64Array
  readonly millis: Float64Array
  readonly outcome: Uint8Array
}

const runServer = async ({ kind, options }: ServerSetup) => {
  let executed = 0
  const burn = () => {
    const end = performance.now() + burnMillis
    while (performance.now() < end);
  }
  const handler = (args: Uint8Array) =>
    kind === "wait"
      ? Effect.map(Effect.sleep(waitMillis), () => {
        executed++
        return args
      })
      : Effect.sync(() => {
        burn()
        executed++
        return args
      })
  answerParent<Question>(async () => ({ executed }))
  await Effect.runPromise(Effect.scoped(Effect.gen(function*() {
    const listener = yield* Listener.tcp(
      "127.0.0.1:0",
      HandlerMap.empty.pipe(HandlerMap.set(work.component, work.method, handler))
    )
    process.send?.(listener.address)
    return yield* Server.serve(listener, options)
  })))
}

const outcomeOf = (exit: Exit.Exit<unknown, CallError.CallError>): Outcome => {
  if (exit._tag === "Success") return "answered"
  const [reason] = exit.cause.reasons
  const error = reason?._tag === "Fail" ? reason.error : undefined
  if (error?._tag === "RemoteError" && error.isOverloaded) return "refused"
  return error?._tag === "DeadlineExceeded" ? "expired" : "failed"
}

const openLoad = async (connection: Connection.Connection, phases: ReadonlyArray<Phase>): Promise<Calls> => {
  const total = phases.reduce((sum, { rate, seconds }) => sum + Math.floor(rate * seconds), 0)
  const calls: Calls = {
    due: new Float64Array(total),
    millis: new Float64Array(total),
    outcome: new Uint8Array(total)
  }
  const call = connection.call(work, new Uint8Array(16), { timeout: timeoutMillis })
  const fibers: Array<Fiber.Fiber<unknown, unknown>> = []
  const start = performance.now()
  const make = (index: number, due: number) => {
    calls.due[index] = due
    const fiber = Effect.runFork(call)
    fibers.push(fiber)
    fiber.addObserver((exit) => {
      calls.millis[index] = performance.now() - start - due
      calls.outcome[index] = outcomes.indexOf(outcomeOf(exit))
    })
  }
  let phaseAt = 0
  let made = 0
  for (const { rate, seconds } of phases) {
    const count = Math.floor(rate * seconds)
    const first = made
    while (made < first + count) {
      const now = performance.now() - start
      while (made < first + count) {
        const due = phaseAt + (made - first) * 1000 / rate
        if (due > now) break
        make(made++, due)
      }
      await new Promise((resolve) => setTimeout(resolve, 1))
    }
    phaseAt += seconds * 1000
  }
  await Effect.runPromise(Effect.exit(Fiber.joinAll(fibers)))
  await Effect.runPromise(Effect.forEach(fibers, Fiber.await, { discard: true }))
  return calls
}

const closedLoad = async (connection: Connection.Connection, callers: number, seconds: number): Promise<number> => {
  const call = connection.call(work, new Uint8Array(16))
  const end = performance.now() + seconds * 1000
  let answered = 0
  const loop = async () => {
    while (performance.now() < end) {
      await Effect.runPromise(call)
      answered++
    }
  }
  await Promise.all(Array.from({ length: callers }, loop))
  return answered / seconds
}

const runClient = async (address: string, connections: number) => {
  await Effect.runPromise(Effect.scoped(Effect.gen(function*() {
    const endpoint = yield* Endpoint.parse(address)
    const connection = yield* Connection.make(Resolver.constant(endpoint), { connectionsPerEndpoint: connections })
    yield* connection.call(work, new Uint8Array(16))
    answerParent<Question>(async (question) => {
      if (question._tag === "Closed") return { rate: await closedLoad(connection, question.callers, question.seconds) }
      if (question._tag === "Open") return openLoad(connection, question.phases)
      throw new Error(`no client answers ${question._tag}`)
    })
    process.send?.("ready")
    return yield* Effect.never
  })))
}

/** What was measured at one load. Rates are per second, latencies in ms. */
interface Row {
  readonly kind: Kind
  readonly limits: "defaults" | "suitable"
  readonly capacity: number
  readonly load: number
  readonly offered: number
  readonly answered: number
  readonly refused: number
  readonly expired: number
  readonly failed: number
  readonly p50: number
  readonly p99: number
  readonly inVain: number
}

interface Recovery {
  readonly kind: Kind
  readonly limits: "defaults" | "suitable"
  /** Undefined where it has not recovered while it was looked at. */
  readonly millis: number | undefined
}

const percentiles = (calls: Calls, from = 0, to = Infinity) => {
  const latencies = new Latencies()
  const counts: Record<Outcome, number> = { answered: 0, refused: 0, expired: 0, failed: 0 }
  for (let i = 0; i < calls.due.length; i++) {
    const due = calls.due[i] ?? 0
    if (due < from || due >= to) continue
    const outcome = outcomes[calls.outcome[i] ?? 0] ?? "failed"
    counts[outcome]++
    if (outcome === "answered") latencies.add(Math.max(0, calls.millis[i] ?? 0))
  }
  return { counts, p50: latencies.percentile(0.5) / 1000, p99: latencies.percentile(0.99) / 1000 }
}

/** Windows of so many ms are looked at, each by itself. */
const windowMillis = 50
/**
 * A load that is half of what can be served is as it should be where its p50 is no higher than this multiple of what it
 * is undisturbed.
 */
const tolerance = 2

const recoveryOf = (calls: Calls, overloadMillis: number, endMillis: number, normal: number): number | undefined => {
  let recovered: number | undefined
  for (let at = overloadMillis; at < endMillis; at += windowMillis) {
    const { counts, p50 } = percentiles(calls, at, at + windowMillis)
    const fine = counts.refused + counts.expired + counts.failed === 0 &&
      !(p50 > Math.max(normal * tolerance, normal + 2))
    if (!fine) recovered = undefined
    else recovered ??= at - overloadMillis
  }
  return recovered
}

const measure = async (
  kind: Kind,
  limits: Row["limits"],
  capacity: number | undefined,
  { connections, loads, seconds }: {
    readonly connections: number
    readonly loads: ReadonlyArray<number>
    readonly seconds: number
  }
) => {
  const program = new URL(import.meta.url)
  const setup: ServerSetup = { kind, options: limits === "defaults" ? given[kind] : suitable[kind] }
  const server = new Child(["server", JSON.stringify(setup)], [], program)
  const client = new Child(["client", await server.receive<string>(), String(connections)], [], program)
  await client.receive()
  const closed = (seconds: number) =>
    client.ask<{ readonly rate: number }>(
      { _tag: "Closed", callers: callers[kind], seconds } satisfies Question
    )
  const open = (...phases: ReadonlyArray<Phase>) => client.ask<Calls>({ _tag: "Open", phases } satisfies Question)
  const executed = async () => (await server.ask<{ readonly executed: number }>({ _tag: "Executed" })).executed
  await closed(1)
  // The same for both, so that their rows can be compared.
  const served = capacity ?? (await closed(Math.min(2, seconds))).rate
  const rows: Array<Row> = []
  for (const load of loads) {
    const before = await executed()
    const calls = await open({ rate: served * load, seconds })
    const { counts, p50, p99 } = percentiles(calls)
    rows.push({
      kind,
      limits,
      capacity: served,
      load,
      offered: calls.due.length / seconds,
      answered: counts.answered / seconds,
      refused: counts.refused / seconds,
      expired: counts.expired / seconds,
      failed: counts.failed / seconds,
      p50,
      p99,
      inVain: (await executed() - before - counts.answered) / seconds
    })
  }
  const half = { rate: served / 2, seconds }
  const normal = percentiles(await open(half)).p50
  const calls = await open({ rate: served * 3, seconds }, half)
  const millis = recoveryOf(calls, seconds * 1000, seconds * 2000, normal)
  server.kill()
  client.kill()
  return { rows, recovery: { kind, limits, millis } satisfies Recovery }
}

const main = async () => {
  const values = parse({
    kinds: { type: "string", default: "wait,burn" },
    loads: { type: "string", default: "0.5,1,2,3" },
    seconds: { type: "string", default: "4" },
    connections: { type: "string", default: "4" },
    json: { type: "boolean", default: false }
  })
  const chosen = values.kinds.split(",").map((name) =>
    kinds.find((kind) => kind === name) ?? fail(`--kinds: expected some of ${kinds.join(",")}, got "${name}"`)
  )
  const settings = {
    loads: numbers("loads", values.loads),
    seconds: number("seconds", values.seconds),
    connections: count("connections", values.connections)
  }
  const rows: Array<Row> = []
  const recoveries: Array<Recovery> = []
  for (const kind of chosen) {
    for (const limits of ["defaults", "suitable"] as const) {
      const measured = await measure(kind, limits, rows.find((row) => row.kind === kind)?.capacity, settings)
      rows.push(...measured.rows)
      recoveries.push(measured.recovery)
    }
  }
  if (values.json) return console.log(JSON.stringify({ ...settings, rows, recoveries }))
  console.log(`calls with a timeout of ${timeoutMillis} ms; all rates are per second\n`)
  const rate = (value: number) => value.toFixed(0)
  const millis = (value: number) => Number.isNaN(value) ? "-" : `${value.toFixed(1)} ms`
  console.log(table(
    ["handlers", "limits", "load", "offered", "answered", "refused", "expired", "failed", "p50", "p99", "in vain"],
    rows.map((row) => [
      row.kind,
      row.limits,
      `× ${row.load}`,
      rate(row.offered),
      rate(row.answered),
      rate(row.refused),
      rate(row.expired),
      rate(row.failed),
      millis(row.p50),
      millis(row.p99),
      rate(row.inVain)
    ])
  ))
  console.log()
  console.log(table(
    ["handlers", "limits", "as fast as before after"],
    recoveries.map(({ kind, limits, millis }) => [kind, limits, millis === undefined ? "never" : `${millis} ms`])
  ))
}

const [role, argument = "", connections = "1"] = process.argv.slice(2)
// What the parent has written.
if (role === "server") await runServer(JSON.parse(argument) as ServerSetup)
else if (role === "client") await runClient(argument, Number(connections))
else await main()
