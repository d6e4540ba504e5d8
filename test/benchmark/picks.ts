/**
 * What a pick of each balancer costs, as a call on an open connection makes it: at once, without an Effect. All in one
 * process; nothing is dialed.
 *
 * `node test/benchmark/picks.ts [--endpoints 2,10,100,1000] [--millis 5] [--rounds 40] [--json] [--save]`
 *
 * The views are a Connection's as far as it matters: calls pending that change with every pick, and latencies that
 * decay as they are read. There may be an endpoint to avoid, as there is while one of them is in backoff. Keys are made
 * before: to make a `bigint` costs about as much as a pick. Each figure is measured for `--millis` in every round,
 * compared with the same without a pick. The least of each is printed, in ns: what other processes take from a core
 * only ever adds to it. The last columns are the time of an update in which one endpoint goes or comes back, in µs.
 *
 * It is the code in `src` that is measured, since `dist` does not export how to pick at once.
 */
import { Context, Effect, Random } from "effect"
import * as Balancer from "../../src/Balancer.ts"
import * as Endpoint from "../../src/Endpoint.ts"
import { isImmediate, pickNow } from "../../src/internal/balancer/immediate.ts"
import { Latency } from "../../src/internal/client/latency.ts"
import { block, save } from "./results.ts"
import { count, counts, fail, number, parse, table } from "./support.ts"

const keys = Array.from({ length: 1024 }, (_, i) => BigInt.asUintN(64, BigInt(i) * 0x9e3779b97f4a7c15n))

const balancers: ReadonlyArray<readonly [name: string, make: Effect.Effect<Balancer.Balancer>, keyed: boolean]> = [
  ["roundRobin", Balancer.roundRobin, false],
  ["weighted", Balancer.weighted, false],
  ["leastPending", Balancer.leastPending, false],
  ["peakEwma", Balancer.peakEwma, false],
  ["consistentHash", Balancer.consistentHash, true],
  ["sharded", Balancer.sharded, true],
  ["zoneAware, roundRobin", Balancer.zoneAware("a"), false],
  ["zoneAware, peakEwma", Balancer.zoneAware("a", Balancer.peakEwma), false],
  ["subset of 20, leastPending", Balancer.subset(20, { client: "client" }, Balancer.leastPending), false]
]

class View implements Balancer.EndpointView {
  readonly endpoint: Endpoint.Endpoint
  readonly state = "Active"
  readonly failuresInARow = 0
  readonly times = new Latency()
  readonly weight: number
  callsPending = 0
  constructor(endpoint: Endpoint.Endpoint) {
    this.endpoint = endpoint
    this.weight = endpoint.weight ?? 1
    this.times.observe(5 + endpoint.address.length % 7, 0)
  }
  get latency() {
    return this.times.at(now)
  }
}

/** The clock of the views, which goes on by 0.01 ms with each pick. */
let now = 0

/** A third of the endpoints has twice the weight, every second one is in zone a. */
const endpointsOf = (count: number): ReadonlyArray<Endpoint.Endpoint> =>
  Array.from(
    { length: count },
    (_, i) =>
      Endpoint.withAttributes(Endpoint.tcp(`10.${i >> 16}.${(i >> 8) & 255}.${i & 255}:7000`), {
        weight: i % 3 === 0 ? 2 : 1,
        zone: i % 2 === 0 ? "a" : "b"
      })
  )

const nanosEach = (millis: number, run: () => number): number => {
  const start = performance.now()
  let operations = 0
  let end = start
  while (end - start < millis) {
    operations += run()
    end = performance.now()
  }
  return (end - start) * 1e6 / operations
}

const picking = (make: Effect.Effect<Balancer.Balancer>, keyed: boolean, size: number, avoid: ReadonlySet<string>) => {
  const balancer = Effect.runSync(make)
  if (!isImmediate(balancer)) return fail("a balancer cannot pick at once")
  const endpoints = endpointsOf(size)
  const views = endpoints.map((endpoint) => new View(endpoint))
  const byAddress = new Map(views.map((view) => [view.endpoint.address, view]))
  balancer.update(endpoints, views)
  const context = Context.make(Random.Random, { nextIntUnsafe: () => 0, nextDoubleUnsafe: () => Math.random() })
  const options = keyed ? keys.map((shardKey) => ({ shardKey, avoid })) : [{ avoid }]
  // The calls that are pending: a ring of twice as many as there are endpoints, of which the oldest ends with each
  // pick.
  const pending = new Array<View | undefined>(2 * size).fill(undefined)
  let at = 0
  const pickAll = (pick: (options: Balancer.PickOptions) => Endpoint.Endpoint | undefined) => () => {
    for (let i = 0; i < 1000; i++) {
      now += 0.01
      const picked = pick(options[i % options.length] ?? { avoid })
      const view = picked === undefined ? undefined : byAddress.get(picked.address)
      if (view !== undefined) view.callsPending++
      const ended = pending[at]
      if (ended !== undefined) {
        ended.callsPending--
        ended.times.observe(5 + (i & 7), now)
      }
      pending[at] = view
      at = at + 1 === pending.length ? 0 : at + 1
    }
    return 1000
  }
  let turn = 0
  return {
    pick: pickAll((options) => balancer[pickNow](options, context)),
    // The same around no pick at all.
    nothing: pickAll(() => endpoints[turn = turn + 1 === size ? 0 : turn + 1])
  }
}

const updating = (make: Effect.Effect<Balancer.Balancer>, size: number) => {
  const balancer = Effect.runSync(make)
  const endpoints = endpointsOf(size)
  const views = endpoints.map((endpoint) => new View(endpoint))
  const fewer = endpoints.slice(1)
  const fewerViews = views.slice(1)
  return () => {
    balancer.update(endpoints, views)
    balancer.update(fewer, fewerViews)
    return 2
  }
}

const main = () => {
  const values = parse({
    endpoints: { type: "string", default: "2,10,100,1000" },
    millis: { type: "string", default: "5" },
    rounds: { type: "string", default: "40" },
    json: { type: "boolean", default: false },
    save: { type: "boolean", default: false }
  })
  const millis = number("millis", values.millis)
  const rounds = count("rounds", values.rounds)
  const sizes = counts("endpoints", values.endpoints)
  if (sizes.some((size) => size < 2)) fail("--endpoints: expected 2 or more, since one of them is avoided")

  const first = endpointsOf(1).map(({ address }) => address)
  const measured = balancers.flatMap(([name, make, keyed]) =>
    sizes.map((size) => {
      const free = picking(make, keyed, size, new Set())
      const avoiding = picking(make, keyed, size, new Set(first))
      const update = updating(make, size)
      const runs = [free.pick, free.nothing, avoiding.pick, avoiding.nothing, update]
      return { name, size, runs: runs.map((run) => ({ run, least: Infinity })) }
    })
  )
  for (let round = 0; round < rounds; round++) {
    for (const { runs } of measured) for (const run of runs) run.least = Math.min(run.least, nanosEach(millis, run.run))
  }
  const results = measured.map(({ name, runs, size }) => {
    const [pick = NaN, nothing = NaN, avoiding = NaN, nothingAvoided = NaN, update = NaN] = runs.map(({ least }) =>
      least
    )
    return {
      balancer: name,
      endpoints: size,
      pickNanos: pick - nothing,
      avoidingNanos: avoiding - nothingAvoided,
      updateMicros: update / 1000
    }
  })
  if (values.json) return console.log(JSON.stringify(results))
  const figures = (name: string, of: (result: typeof results[number]) => string) =>
    results.filter(({ balancer }) => balancer === name).map(of)
  const text = table(
    [
      "a pick, ns",
      ...sizes.map(String),
      "one to avoid:",
      ...sizes.map(String),
      "an update, µs:",
      ...sizes.map(String)
    ],
    balancers.map(([name]) => [
      name,
      ...figures(name, ({ pickNanos }) => pickNanos.toFixed(0)),
      "",
      ...figures(name, ({ avoidingNanos }) => avoidingNanos.toFixed(0)),
      "",
      ...figures(name, ({ updateMicros }) => updateMicros.toFixed(updateMicros < 10 ? 1 : 0))
    ])
  )
  console.log(text)
  if (values.save) save("picks", block(text))
}

main()
