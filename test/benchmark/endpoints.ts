/**
 * Many endpoints: what a balancer's pick costs, and what it costs to change the endpoints. All in one process; nothing
 * is dialed.
 *
 * `node test/benchmark/endpoints.ts [--endpoints 10,1000,10000] [--millis 100] [--rounds 5] [--json] [--save]`
 *
 * Picks are made one after the other through Effect, as a program makes them; `Effect.succeed` picks nothing, and shows
 * what is Effect's own. There may be an endpoint to avoid, as there is while one of them is in backoff. As for changes,
 * one endpoint goes and comes back: in a balancer alone (`update`), and in a Connection over
 * `Resolver.fromSubscriptionRef`, from setting the ref until `Connection.state` shows it. To read that state is part of
 * it, and listed alone, too. Each figure is measured for `--millis` in every round; medians are printed.
 */
import { Deferred, Effect, SubscriptionRef } from "effect"
import { Balancer, Connection, Endpoint, Resolver } from "effect-call"
import { setImmediate as turn } from "node:timers/promises"
import { block, save } from "./results.ts"
import { count, counts, fail, median, number, parse, table } from "./support.ts"

type Endpoints = ReadonlyArray<Endpoint.Endpoint>

/** So many picks are made in one run of Effect. */
const picksPerRun = 1000

const balancers = { roundRobin: Balancer.roundRobin, sharded: Balancer.sharded }

/** How calls may pick. Keys are made before: to make a `bigint` costs about as much as a pick. */
const pickers: ReadonlyArray<{
  readonly name: string
  readonly balancer: Effect.Effect<Balancer.Balancer>
  readonly keys: ReadonlyArray<bigint | undefined>
}> = [
  { name: "roundRobin", balancer: balancers.roundRobin, keys: [undefined] },
  {
    name: "sharded, key of 32 bits",
    balancer: balancers.sharded,
    keys: Array.from({ length: picksPerRun }, (_, i) => BigInt(Math.imul(i, 0x9e3779b1) >>> 0))
  },
  {
    name: "sharded, key of 64 bits",
    balancer: balancers.sharded,
    keys: Array.from({ length: picksPerRun }, (_, i) => BigInt.asUintN(64, BigInt(i) * 0x9e3779b97f4a7c15n))
  },
  { name: "sharded, no key", balancer: balancers.sharded, keys: [undefined] }
]

const endpointsOf = (count: number): Endpoints =>
  Array.from({ length: count }, (_, i) => Endpoint.tcp(`10.${i >> 16}.${(i >> 8) & 255}.${i & 255}:7000`))

/** How many µs an operation takes, where `run` makes `operations` of them. */
const microsEach = (millis: number, operations: number, run: () => void): number => {
  const start = performance.now()
  let runs = 0
  let now = start
  while (now - start < millis) {
    run()
    runs++
    now = performance.now()
  }
  return (now - start) * 1000 / (runs * operations)
}

/** Picks one after the other, and looks at what was picked. */
const picking = (pick: (index: number) => Effect.Effect<Endpoint.Endpoint, unknown>) => () => {
  let index = 0
  let length = 0
  Effect.runSync(Effect.whileLoop({
    while: () => index < picksPerRun,
    body: () => pick(index++),
    step: ({ address }) => {
      length += address.length
    }
  }))
  if (length < picksPerRun) throw new Error("what was picked is no endpoint")
}

interface Picks {
  readonly name: string
  readonly run: () => void
  /** The same, with an endpoint to avoid. */
  readonly runAvoiding: (() => void) | undefined
}

const preparePicks = (endpoints: Endpoints): ReadonlyArray<Picks> => {
  const first = endpoints[0] ?? fail("there are no endpoints")
  const own = Effect.succeed(first)
  return [
    { name: "Effect.succeed", run: picking(() => Effect.withFiber(() => own)), runAvoiding: undefined },
    ...pickers.map(({ balancer: make, keys, name }): Picks => {
      const balancer = Effect.runSync(make)
      balancer.update(endpoints)
      const picksOf = (keys: ReadonlyArray<bigint | undefined>, avoid: ReadonlySet<string>) => {
        const options = keys.map((shardKey): Balancer.PickOptions => ({ shardKey, avoid }))
        const plain: Balancer.PickOptions = { avoid }
        return picking((index) => balancer.pick(options[index % options.length] ?? plain))
      }
      // A key has no other endpoint than its own: that there is none to pick is not what is measured.
      const others = keys.filter((key) => key === undefined || key % BigInt(endpoints.length) !== 0n)
      return {
        name,
        run: picksOf(keys, new Set()),
        runAvoiding: picksOf(others, new Set([first.address]))
      }
    })
  ]
}

/** Updates a balancer with all endpoints and with all but one in turn. */
const updating = (make: Effect.Effect<Balancer.Balancer>, endpoints: Endpoints) => {
  const balancer = Effect.runSync(make)
  const fewer = endpoints.toSpliced(endpoints.length >> 1, 1)
  return () => {
    balancer.update(endpoints)
    balancer.update(fewer)
  }
}

interface ConnectionTimes {
  readonly updateMicros: number
  readonly stateMicros: number
}

/** Changes the endpoints of a Connection, again and again. */
const updateConnection = (make: Effect.Effect<Balancer.Balancer>, endpoints: Endpoints, millis: number) =>
  Effect.runPromise(Effect.scoped(Effect.gen(function*() {
    const fewer = endpoints.toSpliced(endpoints.length >> 1, 1)
    const ref = yield* SubscriptionRef.make(endpoints)
    let updated = Deferred.makeUnsafe<void>()
    // Says when there is something to be seen in the state: to look again and again would be most of what is measured.
    const telling = Effect.map(make, (balancer): Balancer.Balancer => ({
      update: (endpoints) => {
        balancer.update(endpoints)
        // Once the Connection, which goes on when this returns, is done with its own part.
        queueMicrotask(() => Deferred.doneUnsafe(updated, Effect.void))
      },
      pick: (options) => balancer.pick(options)
    }))
    const connection = yield* Connection.make(Resolver.fromSubscriptionRef(ref), { balancer: telling })
    let updateMillis = 0
    let stateMillis = 0
    let updates = 0
    while (updateMillis < millis) {
      // The Connection listens for the next change by then. It also lets changes wait that come without a turn of the
      // event loop in between.
      yield* Effect.promise(() => turn())
      yield* Effect.promise(() => turn())
      const next = updates++ % 2 === 0 ? fewer : endpoints
      updated = Deferred.makeUnsafe<void>()
      const start = performance.now()
      yield* SubscriptionRef.set(ref, next)
      yield* Deferred.await(updated)
      const reading = performance.now()
      const state = yield* connection.state
      const end = performance.now()
      if (state.endpoints.length !== next.length) throw new Error("the state does not show the endpoints")
      updateMillis += end - start
      stateMillis += end - reading
    }
    const times: ConnectionTimes = {
      updateMicros: updateMillis * 1000 / updates,
      stateMicros: stateMillis * 1000 / updates
    }
    return times
  })))

const main = async () => {
  const values = parse({
    endpoints: { type: "string", default: "10,1000,10000" },
    millis: { type: "string", default: "100" },
    rounds: { type: "string", default: "5" },
    json: { type: "boolean", default: false },
    save: { type: "boolean", default: false }
  })
  const millis = number("millis", values.millis)
  const rounds = count("rounds", values.rounds)
  const sizes = counts("endpoints", values.endpoints)
  if (sizes.some((size) => size < 2)) fail("--endpoints: expected 2 or more, since one of them goes and one is avoided")

  const picks = sizes.flatMap((size) =>
    preparePicks(endpointsOf(size)).map((picks) => ({
      size,
      ...picks,
      micros: new Array<number>(),
      avoidingMicros: new Array<number>()
    }))
  )
  const updates = sizes.flatMap((size) =>
    Object.entries(balancers).map(([name, balancer]) => {
      const endpoints = endpointsOf(size)
      return {
        size,
        name,
        run: updating(balancer, endpoints),
        updateConnection: () => updateConnection(balancer, endpoints, millis),
        balancerMicros: new Array<number>(),
        times: new Array<ConnectionTimes>()
      }
    })
  )
  // The first round warms up and is not counted.
  for (let round = 0; round <= rounds; round++) {
    for (const { avoidingMicros, micros, run, runAvoiding } of picks) {
      micros[round] = microsEach(millis, picksPerRun, run)
      if (runAvoiding !== undefined) avoidingMicros[round] = microsEach(millis, picksPerRun, runAvoiding)
    }
    for (const update of updates) {
      update.balancerMicros[round] = microsEach(millis, 2, update.run)
      update.times[round] = await update.updateConnection()
    }
  }
  const result = {
    picks: picks.map(({ avoidingMicros, micros, name, size }) => ({
      endpoints: size,
      balancer: name,
      pickNanos: 1000 * median(micros.slice(1)),
      avoidingNanos: avoidingMicros.length === 0 ? undefined : 1000 * median(avoidingMicros.slice(1))
    })),
    updates: updates.map(({ balancerMicros, name, size, times }) => ({
      endpoints: size,
      balancer: name,
      balancerMicros: median(balancerMicros.slice(1)),
      connectionMicros: median(times.slice(1).map(({ updateMicros }) => updateMicros)),
      stateMicros: median(times.slice(1).map(({ stateMicros }) => stateMicros))
    }))
  }
  if (values.json) return console.log(JSON.stringify(result))
  const picked = table(
    ["endpoints  a pick of", "ns", "ns, one to avoid"],
    result.picks.map(({ avoidingNanos, balancer, endpoints, pickNanos }) => [
      `${String(endpoints).padStart(9)}  ${balancer}`,
      pickNanos.toFixed(0),
      avoidingNanos?.toFixed(0) ?? "–"
    ])
  )
  const updated = table(
    ["endpoints  an update of", "balancer µs", "Connection µs", "of which its state"],
    result.updates.map(({ balancer, balancerMicros, connectionMicros, endpoints, stateMicros }) => [
      `${String(endpoints).padStart(9)}  ${balancer}`,
      balancerMicros.toFixed(1),
      connectionMicros.toFixed(0),
      stateMicros.toFixed(0)
    ])
  )
  const text = `${picked}\n\n${updated}`
  console.log(text)
  if (values.save) save("endpoints", block(text))
}

await main()
