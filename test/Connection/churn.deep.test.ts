import { describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, SubscriptionRef } from "effect"
import { Balancer, Connection, type Endpoint, Resolver } from "effect-call"
import * as assert from "node:assert/strict"
import { bytesOf, memory, mtlsOverTcp, tcp, textOf, unix } from "../support/networks.ts"
import { ask, echo, type Replica, startOn, turn, until, untilState, who } from "./support.ts"

const callers = 50

/** Numbers that look random and are the same each time. */
const makeNumbers = (seed: number) => (below: number): number => {
  seed = (seed + 0x6d2b79f5) | 0
  let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
  return ((t ^ (t >>> 14)) >>> 0) % below
}

/** A balancer that notes what it was told, at the very moment at which the Connection takes it over. */
const observed = Effect.map(Balancer.roundRobin, (balancer) => {
  const seen = { listed: new Set<string>(), changes: 0, empty: 0 }
  const update = balancer.update.bind(balancer)
  balancer.update = (endpoints, views) => {
    seen.listed = new Set(endpoints.map(({ address }) => address))
    seen.changes++
    if (endpoints.length === 0) seen.empty++
    update(endpoints, views)
  }
  return { balancer, seen }
})

/** What must hold whenever nothing is in the middle of running. */
const assertInvariants = ({ endpoints }: Connection.ConnectionState, listed: ReadonlySet<string>) => {
  const addresses = new Set(endpoints.map(({ address }) => address))
  assert.equal(addresses.size, endpoints.length, "an address is there twice")
  for (const address of listed) assert.ok(addresses.has(address), `${address} is listed and not there`)
  for (const { address, callsInFlight, inBackoff, lastFailure, state } of endpoints) {
    assert.equal(lastFailure, undefined, address)
    assert.equal(inBackoff, false, address)
    if (listed.has(address)) {
      assert.match(state, /^(Idle|Dialing|Active)$/, address)
      if (state !== "Active") assert.equal(callsInFlight, 0, `${address} is ${state}`)
    } else {
      assert.equal(state, "Draining", address)
      assert.ok(callsInFlight > 0, `${address} drains without calls`)
    }
  }
}

/** Lets fibers wait for the changes to go on. */
const makePace = () => {
  let change = 0
  const waiting = new Map<number, Array<() => void>>()
  return {
    next: () => {
      const due = waiting.get(++change) ?? []
      waiting.delete(change)
      for (const wake of due) wake()
    },
    changes: (count: number) =>
      count === 0 ? Effect.void : Effect.callback<void>((resume) => {
        const at = change + count
        waiting.set(at, [...waiting.get(at) ?? [], () => resume(Effect.void)])
      })
  }
}

const churn = Effect.fnUntraced(function*(
  replicas: ReadonlyArray<Replica>,
  { changes, connections, eager = false, seed, turns }: {
    readonly changes: number
    readonly connections: number
    readonly eager?: boolean
    readonly seed: number
    readonly turns: number
  }
) {
  const number = makeNumbers(seed)
  const { balancer, seen } = yield* observed
  const endpoints = yield* SubscriptionRef.make<ReadonlyArray<Endpoint.Endpoint>>([])
  const connection = yield* Connection.make(Resolver.fromSubscriptionRef(endpoints), {
    balancer: Effect.succeed(balancer),
    connectionsPerEndpoint: connections,
    eager
  })
  const names = new Set(replicas.map(({ name }) => name))
  const pace = makePace()
  const calls = { over: false }
  const counts = { answered: 0, unreachable: 0, interrupted: 0 }

  const call = Effect.fnUntraced(function*(caller: number, n: number) {
    const wasEmpty = seen.listed.size === 0
    const before = seen.empty
    const options: Connection.CallOptions = {
      ...(number(3) === 0 ? { waitForReady: true } : {}),
      ...(number(3) === 0 ? { timeout: "1 minute" } : {})
    }
    if (number(10) === 0) {
      const given = yield* Effect.forkChild(connection.call(echo, bytesOf("given up"), options), {
        startImmediately: true
      })
      yield* pace.changes(number(6))
      yield* Fiber.interrupt(given)
      counts.interrupted++
      return
    }
    const text = `${caller}/${n}/${"x".repeat(number(200))}`
    const answer = yield* Effect.exit(
      number(2) === 0 ? connection.call(who, bytesOf(text), options) : connection.call(echo, bytesOf(text), options)
    )
    if (Exit.isSuccess(answer)) {
      const answered = textOf(answer.value)
      assert.ok(names.has(answered) || answered === text, `${text} was answered ${answered}`)
      counts.answered++
    } else {
      const error = yield* Effect.flip(answer)
      assert.equal(error._tag, "Unreachable", error.message)
      assert.ok(wasEmpty || seen.empty > before, `there were endpoints, and yet: ${error.message}`)
      assert.notEqual(options.waitForReady, true)
      counts.unreachable++
    }
  })

  const calling = yield* Effect.forEach(
    Array.from({ length: callers }, (_, i) => i),
    (caller) =>
      Effect.forkChild(
        Effect.gen(function*() {
          for (let n = 0; !calls.over; n++) {
            yield* call(caller, n)
            yield* pace.changes(number(25))
          }
        }),
        { startImmediately: true }
      )
  )

  for (let change = 0; change < changes; change++) {
    const wanted = number(12) === 0 ? 0 : 1 + number(replicas.length)
    const shuffled = replicas.map((replica) => ({ replica, order: number(1000) })).toSorted((a, b) => a.order - b.order)
    yield* SubscriptionRef.set(endpoints, shuffled.slice(0, wanted).map(({ replica }) => replica.endpoint))
    pace.next()
    for (let left = number(turns); left > 0; left--) yield* turn
    assertInvariants(yield* connection.state, seen.listed)
  }
  // Callers that wait for endpoints are to come to an end.
  yield* SubscriptionRef.set(endpoints, replicas.map(({ endpoint }) => endpoint))
  calls.over = true
  while (calling.some((fiber) => fiber.pollUnsafe() === undefined)) {
    pace.next()
    yield* turn
  }
  yield* Effect.forEach(calling, (fiber) => Fiber.join(fiber), { discard: true })
  assert.match(yield* ask(connection), /^replica/)

  // With the last list gone, everything drains and closes by itself.
  yield* SubscriptionRef.set(endpoints, [])
  yield* untilState(connection, ({ endpoints }) => endpoints.length === 0)
  yield* until(() => replicas.every(({ open }) => open === 0))
  assert.ok(counts.answered > changes, JSON.stringify(counts))
  assert.ok(counts.unreachable > 0 && counts.interrupted > 0, JSON.stringify(counts))
  assert.ok(replicas.every(({ accepted }) => accepted > 10), replicas.map(({ accepted }) => accepted).join(" "))
})

const ways = [
  [memory, { changes: 2500, connections: 1, turns: 4, seed: 42 }],
  [memory, { changes: 1000, connections: 3, turns: 4, seed: 42 }],
  [memory, { changes: 1000, connections: 2, eager: true, turns: 4, seed: 42 }],
  [unix, { changes: 1000, connections: 1, turns: 4, seed: 42 }],
  [tcp, { changes: 1000, connections: 1, turns: 4, seed: 7 }],
  [tcp, { changes: 500, connections: 3, turns: 6, seed: 7 }],
  // A handshake takes many more turns than a dial without one: its changes are fewer and further between.
  [mtlsOverTcp, { changes: 200, connections: 1, turns: 12, seed: 42 }]
] as const

for (const [network, how] of ways) {
  describe(`${how.changes} endpoint changes while ${callers} callers call, over ${network.name}, with ${how.connections} to an endpoint${"eager" in how ? ", ahead of need" : ""}`, () => {
    // More than a second, since what goes wrong here takes many changes to happen.
    it.live("give only right answers, and Unreachable where there were no endpoints", () =>
      Effect.gen(function*() {
        const replicas = yield* Effect.forEach(["1", "2", "3", "4", "5", "6"], (n) => startOn(network)(`replica ${n}`))
        yield* churn(replicas, how)
      }))
  })
}
