/**
 * All replicas are down: what a call costs until it fails, with many endpoints and many callers. All in one process.
 *
 * `node test/benchmark/failing.ts [--endpoints 10,100,1000] [--callers 1,100,300] [--dial refused|fails] [--balancer
 * roundRobin] [--rounds 3] [--json]
 * [--save]`
 *
 * In each round a new Connection gets one call of each caller, all at once, and all of them fail with `Unreachable`.
 * Endpoints are `refused` ports of loopback addresses, each its own, or ones whose dial `fails` without a socket: what
 * is ours is then nearly all. `dials` is how often any of them was dialed. CPU is that of the process, garbage
 * collection included, from the first call to the end of the last; to make the Connection is not part of it.
 * `longest block` is the longest turn of the event loop, which on a busy machine includes waiting for a core. Medians
 * of the rounds are printed.
 *
 * The last column compares with a sum of so much an endpoint and so much a call, the lowest that the runs with one of
 * the fewest of either show: where there are many of both, it stays near or below 1 if the cost grows no faster than
 * endpoints + callers.
 */
import { Effect, Logger } from "effect"
import { Balancer, Connection, Endpoint, MethodKey, Resolver } from "effect-call"
import { monitorEventLoopDelay } from "node:perf_hooks"
import { setImmediate as turn } from "node:timers/promises"
import { block, save } from "./results.ts"
import { count, counts, cpuMicros, fail, median, parse, table } from "./support.ts"

const method = MethodKey.make("benchmark", "unanswered")
const args = new Uint8Array(16)

const balancers: Readonly<Record<string, Effect.Effect<Balancer.Balancer>>> = {
  roundRobin: Balancer.roundRobin,
  leastPending: Balancer.leastPending,
  weighted: Balancer.weighted,
  consistentHash: Balancer.consistentHash
}

interface Dials {
  count: number
}

const refused = (index: number, dials: Dials): Endpoint.Endpoint => {
  // No server listens at the discard port.
  const endpoint = Endpoint.tcp(`127.${1 + (index >> 16)}.${(index >> 8) & 255}.${index & 255}:9`)
  return {
    address: endpoint.address,
    dial: Effect.suspend(() => {
      dials.count++
      return endpoint.dial
    })
  }
}

const failing = (index: number, dials: Dials): Endpoint.Endpoint => ({
  address: `test://${index}`,
  // In a later turn, as a socket does.
  dial: Effect.andThen(
    Effect.callback<void>((resume) => {
      dials.count++
      const immediate = setImmediate(() => resume(Effect.void))
      return Effect.sync(() => clearImmediate(immediate))
    }),
    Effect.fail(new Endpoint.DialError({ message: "it is down" }))
  )
})

interface Figures {
  readonly cpuMillis: number
  readonly wallMillis: number
  readonly blockMillis: number
  readonly dials: number
}

const run = (
  make: typeof refused,
  balancer: Effect.Effect<Balancer.Balancer>,
  endpoints: number,
  callers: number
): Promise<Figures> =>
  Effect.runPromise(
    Effect.scoped(Effect.gen(function*() {
      const dials: Dials = { count: 0 }
      const down = Array.from({ length: endpoints }, (_, index) => make(index, dials))
      const connection = yield* Connection.make(Resolver.constant(...down), { balancer })
      const call = Effect.flip(connection.call(method, args))
      yield* Effect.promise(() => turn())
      const delay = monitorEventLoopDelay({ resolution: 1 })
      delay.enable()
      const start = performance.now()
      const cpu = cpuMicros()
      const errors = yield* Effect.all(Array.from({ length: callers }, () => call), { concurrency: "unbounded" })
      const cpuMillis = (cpuMicros() - cpu) / 1000
      const wallMillis = performance.now() - start
      delay.disable()
      for (const error of errors) {
        if (error._tag !== "Unreachable" || error.attempts.length !== endpoints) {
          fail(`a call has failed with ${error._tag}: ${error.message}`)
        }
      }
      return { cpuMillis, wallMillis, blockMillis: delay.max / 1e6, dials: dials.count }
    })).pipe(Effect.provide(Logger.layer([])))
  )

/** What so many endpoints and calls would cost, where each has its price. */
const expected = (rows: ReadonlyArray<{ endpoints: number; callers: number; cpuMillis: number }>) => {
  const fewestCallers = Math.min(...rows.map(({ callers }) => callers))
  const fewestEndpoints = Math.min(...rows.map(({ endpoints }) => endpoints))
  const alone = rows.filter(({ callers }) => callers === fewestCallers)
  const few = rows.filter(({ endpoints }) => endpoints === fewestEndpoints)
  const anEndpoint = Math.min(...alone.map(({ cpuMillis, endpoints }) => cpuMillis / endpoints))
  const aCall = Math.min(...few.map(({ callers, cpuMillis }) => cpuMillis / callers))
  return (endpoints: number, callers: number) => endpoints * anEndpoint + callers * aCall
}

const main = async () => {
  const values = parse({
    endpoints: { type: "string", default: "10,100,1000" },
    callers: { type: "string", default: "1,100,300" },
    dial: { type: "string", default: "refused" },
    balancer: { type: "string", default: "roundRobin" },
    rounds: { type: "string", default: "3" },
    json: { type: "boolean", default: false },
    save: { type: "boolean", default: false }
  })
  const rounds = count("rounds", values.rounds)
  const make = values.dial === "refused"
    ? refused
    : values.dial === "fails"
    ? failing
    : fail(`--dial: expected refused or fails, got "${values.dial}"`)
  const balancer = balancers[values.balancer] ??
    fail(`--balancer: expected one of ${Object.keys(balancers).join(", ")}, got "${values.balancer}"`)
  const cases = counts("endpoints", values.endpoints).flatMap((endpoints) =>
    counts("callers", values.callers).map((callers) => ({ endpoints, callers, figures: new Array<Figures>() }))
  )
  // The first round warms up and is not counted.
  for (let round = 0; round <= rounds; round++) {
    for (const { callers, endpoints, figures } of cases) {
      const figure = await run(make, balancer, endpoints, callers)
      if (round > 0) figures.push(figure)
    }
  }
  const rows = cases.map(({ callers, endpoints, figures }) => ({
    endpoints,
    callers,
    cpuMillis: median(figures.map(({ cpuMillis }) => cpuMillis)),
    wallMillis: median(figures.map(({ wallMillis }) => wallMillis)),
    blockMillis: median(figures.map(({ blockMillis }) => blockMillis)),
    dials: median(figures.map(({ dials }) => dials))
  }))
  if (values.json) return console.log(JSON.stringify(rows))
  const sum = expected(rows)
  const text = table(
    ["endpoints", "callers", "CPU ms", "CPU µs a call", "ms", "longest block ms", "dials", "of a sum"],
    rows.map(({ blockMillis, callers, cpuMillis, dials, endpoints, wallMillis }) => [
      String(endpoints),
      String(callers),
      cpuMillis.toFixed(1),
      (cpuMillis * 1000 / callers).toFixed(0),
      wallMillis.toFixed(0),
      blockMillis.toFixed(0),
      String(dials),
      (cpuMillis / sum(endpoints, callers)).toFixed(2)
    ])
  )
  console.log(text)
  if (values.save) save("failing", block(text))
}

await main()
