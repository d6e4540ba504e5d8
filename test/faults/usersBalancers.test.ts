/**
 * Balancers and options of calls that go wrong: it is a defect, or a typed failure, of that one call, and the next one
 * is answered.
 */
import { describe, it } from "@effect/vitest"
import { Duration, Effect, type Exit, Fiber, Layer, Random, Schedule, Schema, SubscriptionRef } from "effect"
import { Balancer, Component, Connection, Endpoint, Resolver } from "effect-call"
import { TestNetwork } from "effect-call/testing"
import { Rpc, RpcClient, RpcGroup, RpcMiddleware } from "effect/rpc"
import * as assert from "node:assert/strict"
import { clientOver, open } from "../Component/support.ts"
import { ask, startInMemory, untilState } from "../Connection/support.ts"
import { dies, makeReadableLog, never, succeedsWrong, throws, type Way, way, wrongAtFirst } from "./misbehaving.ts"

const onNetwork = Effect.provide(TestNetwork.layer)

/** In a fiber of its own, since it may interrupt itself. */
const exitOf = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.flatMap(Effect.forkChild(effect, { startImmediately: true }), (fiber) => Fiber.await(fiber))

const isDefect = (exit: Exit.Exit<unknown, unknown>) =>
  assert.match(String(exit), /Die\(|Interrupt/, `no defect: ${String(exit)}`)

const first: Effect.Effect<Balancer.Balancer> = Balancer.make((endpoints) => Effect.succeed(endpoints[0]!))

describe("what makes a balancer and", () => {
  // An undefined balancer is allowed: the default is used.
  for (const { give, how } of [...dies, ...succeedsWrong].filter(({ how }) => how !== "gives undefined")) {
    it.live(`${how} is a defect of make, also inside another`, () =>
      Effect.gen(function*() {
        const a = yield* startInMemory("a")
        const resolver = Resolver.constant(a.endpoint)
        const throwing = Object.defineProperty({}, "balancer", { get: give })
        isDefect(yield* exitOf(Connection.make(resolver, throwing)))
        if (how !== "throws") {
          isDefect(yield* exitOf(Connection.make(resolver, { balancer: Balancer.zoneAware("z", give()) })))
          isDefect(yield* exitOf(Connection.make(resolver, { balancer: Balancer.subset(1, { client: "c" }, give()) })))
        }
        assert.equal(yield* ask(yield* Connection.make(resolver)), "a")
      }).pipe(onNetwork))
  }

  it.live("never ends lets make be interrupted; invalid options are defects that name them", () =>
    Effect.gen(function*() {
      const a = yield* startInMemory("a")
      const making = yield* Effect.forkChild(
        Connection.make(Resolver.constant(a.endpoint), { balancer: never.give() }),
        { startImmediately: true }
      )
      yield* Fiber.interrupt(making)
      assert.match(String(yield* Effect.exit(Balancer.zoneAware(5 as never))), /zone.*got 5/)
      assert.match(String(yield* Effect.exit(Balancer.subset("2" as never, { client: "c" }))), /size.*got 2/)
      assert.match(String(yield* Effect.exit(Balancer.subset(1, { client: 5 as never }))), /client.*got 5/)
      isDefect(yield* Effect.exit(Balancer.subset(1, undefined as never)))
    }).pipe(onNetwork))
})

describe("a balancer whose update throws", () => {
  const spoiled = (balancer: Balancer.Balancer, isWrong: () => boolean): Balancer.Balancer => ({
    update: (endpoints, views) => isWrong() ? throws() : balancer.update(endpoints, views),
    pick: (options) => balancer.pick(options)
  })
  for (const place of ["itself", "inside zoneAware", "inside subset"] as const) {
    it.live(`at first ends make; later the last endpoints stay, and it is asked again (${place})`, () =>
      Effect.gen(function*() {
        const [a, b] = [yield* startInMemory("a"), yield* startInMemory("b")]
        const state = { isWrong: true, refused: 0 }
        const own = Effect.map(first, (balancer) =>
          spoiled(balancer, () => {
            if (state.isWrong) state.refused++
            return state.isWrong
          }))
        const balancer = place === "itself"
          ? own
          : place === "inside subset"
          ? Balancer.subset(1, { client: "c" }, own)
          : Balancer.zoneAware("z", own)
        isDefect(yield* Effect.exit(Connection.make(Resolver.constant(a.endpoint), { balancer })))
        state.isWrong = false
        const list = yield* SubscriptionRef.make<ReadonlyArray<Endpoint.Endpoint>>([a.endpoint])
        const log = makeReadableLog()
        const connection = yield* Connection.make(Resolver.fromSubscriptionRef(list), { balancer }).pipe(
          Effect.provide(log.layer)
        )
        assert.equal(yield* ask(connection), "a")
        state.isWrong = true
        state.refused = 0
        yield* SubscriptionRef.set(list, [b.endpoint])
        yield* log.until(1)
        assert.match(log.lines[0]!.message, /the new endpoints could not be used/)
        // Of what is inside another one, the endpoints may have changed.
        if (place === "itself") assert.equal(yield* ask(connection), "a")
        state.isWrong = false
        yield* untilState(
          connection,
          ({ endpoints }) => endpoints.some(({ address }) => address === b.endpoint.address)
        )
        assert.equal(yield* ask(connection), "b")
        assert.deepEqual(log.lines.map(({ level }) => level), ["Error"])
      }).pipe(onNetwork))
  }
})

const unlisted = way("succeeds with an endpoint that it was not given", () => Effect.succeed(Endpoint.tcp("other:1")))

describe("a balancer whose pick", () => {
  const rows: ReadonlyArray<Way> = [...dies, ...succeedsWrong, unlisted]
  for (const { give, how } of rows) {
    const places: ReadonlyArray<
      readonly [place: string, wrap: (own: Balancer.Balancer) => Effect.Effect<Balancer.Balancer>]
    > = [
      ["its own", Effect.succeed],
      ["of Balancer.make", (own) => Balancer.make((_, options) => own.pick(options))],
      ["inside zoneAware", (own) => Balancer.zoneAware("z", Effect.succeed(own))],
      ["inside subset", (own) => Balancer.subset(1, { client: "c" }, Effect.succeed(own))]
    ]
    for (const [place, wrap] of places) {
      it.live(`${how} is a defect of that call (${place})`, () =>
        Effect.gen(function*() {
          const [a, b] = [yield* startInMemory("a"), yield* startInMemory("b")]
          for (const isOpen of [false, true]) {
            for (const perCall of [false, true]) {
              const next = wrongAtFirst<ReturnType<Balancer.Balancer["pick"]>>(
                give,
                () => Effect.succeed(b.endpoint)
              )
              const balancer = yield* wrap({ update: () => {}, pick: () => next() })
              const connection = yield* Connection.make(
                Resolver.constant(b.endpoint, a.endpoint),
                perCall ? {} : { balancer: Effect.succeed(balancer) }
              )
              const options = perCall ? { balancer } : {}
              if (isOpen && perCall) assert.equal(yield* ask(connection), "b")
              isDefect(yield* exitOf(ask(connection, options)))
              assert.equal(yield* ask(connection, options), "b")
              yield* connection.close
            }
          }
        }).pipe(onNetwork))
    }
  }

  it.live("never ends waits no longer than the call does, or than the Connection is open", () =>
    Effect.gen(function*() {
      const a = yield* startInMemory("a")
      const connection = yield* Connection.make(Resolver.constant(a.endpoint))
      const balancer: Balancer.Balancer = { update: () => {}, pick: never.give }
      const late = yield* Effect.flip(ask(connection, { balancer, timeout: "10 millis" }))
      assert.equal(late._tag, "DeadlineExceeded")
      const interrupted = yield* Effect.forkChild(ask(connection, { balancer }), { startImmediately: true })
      yield* Fiber.interrupt(interrupted)
      assert.equal(yield* ask(connection), "a")
      const waiting = yield* Effect.forkChild(Effect.flip(ask(connection, { balancer })), { startImmediately: true })
      yield* connection.close
      const closed = yield* Fiber.join(waiting)
      assert.ok(closed._tag === "CommunicationError" && closed.reason._tag === "Closed")
    }).pipe(onNetwork))
})

describe("an option of a call that is wrong", () => {
  const evil = Object.defineProperty({}, "timeout", { get: throws })
  const rows: ReadonlyArray<readonly [what: string, options: object, reason: RegExp]> = [
    ["a timeout that is a text", { timeout: "soon" }, /timeout: expected a duration, got soon/],
    ["a timeout that is null", { timeout: null }, /timeout: expected a duration, got null/],
    ["a timeout that is NaN", { timeout: Number.NaN }, /timeout: expected a duration, got NaN/],
    ["a timeout that is an array", { timeout: [1, 2, 3] }, /timeout: expected a duration/],
    ["a timeout that throws", evil, /boom/],
    ["a shard key that is a number", { shardKey: 5 }, /Unreachable.*shard key 5 of .* is not a u64: expected a bigint/],
    ["a shard key that is a text", { shardKey: "5" }, /Unreachable.*shard key "5" of .* is not a u64/],
    ["a shard key that is null", { shardKey: null }, /Unreachable.*shard key null of .* is not a u64/],
    ["a retry that is a number", { retry: 3 }, /retry: expected a Schedule, got 3/],
    ["a balancer that is a text", { balancer: "roundRobin" }, /the balancer: expected an object with update and pick/],
    ["a balancer that is null", { balancer: { update: () => {} } }, /the balancer: expected an object/]
  ]
  for (const [what, options, reason] of rows) {
    it.live(`${what} ends that call, and no other`, () =>
      Effect.gen(function*() {
        const a = yield* startInMemory("a")
        const connection = yield* Connection.make(Resolver.constant(a.endpoint))
        assert.equal(yield* ask(connection), "a")
        assert.match(String(yield* Effect.exit(ask(connection, options))), reason)
        if (!what.endsWith("null")) {
          assert.match(String(yield* Effect.exit(Connection.withOptions(ask(connection), options))), reason)
        }
        assert.equal(yield* ask(connection), "a")
      }).pipe(onNetwork))
  }

  const step = (step: () => unknown): Schedule.Schedule<unknown> => Schedule.fromStep(Effect.succeed(step as never))
  const schedules: ReadonlyArray<readonly [how: string, schedule: Schedule.Schedule<unknown>, reason: RegExp]> = [
    ...dies.filter(({ how }) => how !== "goes on with what is no effect").map(({ give, how }) =>
      [how, step(give), /boom|expected an Effect|toString threw|Interrupt/] as const
    ),
    ...succeedsWrong.map(({ give, how }) => [how, step(give), /expected an output and a duration/] as const),
    ["dies before its first step", Schedule.fromStep(Effect.die(new Error("boom"))), /boom/],
    ["waits for a negative time", step(() => Effect.succeed([0, Duration.millis(-5)])), /Unreachable/],
    ["waits for NaN", step(() => Effect.succeed([0, Duration.millis(Number.NaN)])), /Unreachable/],
    ["waits without end", step(() => Effect.succeed([0, Duration.infinity])), /Unreachable/],
    ["says what is no duration", step(() => Effect.succeed([0, "soon"])), /expected an output and a duration/]
  ]
  for (const [how, retry, reason] of schedules) {
    it.live(`a retry whose schedule ${how} ends that call, and no other`, () =>
      Effect.gen(function*() {
        const a = yield* startInMemory("a")
        const gone = yield* TestNetwork.endpoint("gone")
        const connection = yield* Connection.make(Resolver.constant(gone), { retryBudget: { burst: 3 } })
        assert.match(String(yield* exitOf(ask(connection, { retry }))), reason)
        assert.equal((yield* Effect.flip(ask(connection)))._tag, "Unreachable")
        const good = yield* Connection.make(Resolver.constant(a.endpoint))
        assert.equal(yield* ask(good, { retry }), "a")
      }).pipe(onNetwork))
  }

  it.live("a retry whose schedule never ends fails at the call's deadline, and with the Connection", () =>
    Effect.gen(function*() {
      const gone = yield* TestNetwork.endpoint("gone")
      const connection = yield* Connection.make(Resolver.constant(gone))
      const retry = step(never.give)
      const late = yield* Effect.flip(ask(connection, { retry, timeout: "10 millis" }))
      assert.equal(late._tag, "Unreachable")
      const waiting = yield* Effect.forkChild(Effect.flip(ask(connection, { retry })), { startImmediately: true })
      yield* untilState(connection, ({ endpoints }) => endpoints[0]!.state === "Idle")
      yield* connection.close
      const closed = yield* Fiber.join(waiting)
      assert.ok(closed._tag === "CommunicationError" && closed.reason._tag === "Closed", closed.message)
    }).pipe(onNetwork))

  it.live("a Random that throws ends the calls that draw from it, and no other", () =>
    Effect.gen(function*() {
      const [a, b] = [yield* startInMemory("a"), yield* startInMemory("b")]
      const connection = yield* Connection.make(Resolver.constant(a.endpoint, b.endpoint), {
        balancer: Balancer.leastPending
      })
      const random = { nextDoubleUnsafe: throws, nextIntUnsafe: throws }
      isDefect(yield* Effect.exit(Effect.provideService(ask(connection), Random.Random, random)))
      assert.match(yield* ask(connection), /a|b/)
    }).pipe(onNetwork))
})

class Around extends RpcMiddleware.Service<Around>()("Around") {}

const group = RpcGroup.make(
  Rpc.make("Echo", { payload: { text: Schema.String }, success: Schema.String }).pipe(
    Component.shardBy(({ text }) => text === "throws" ? throws() : text === "number" ? 5 as never : undefined)
  )
)
const Echo = Component.make("test/Echo", group)
const GuardedEcho = Component.make("test/Guarded", group.middleware(Around))
const echo = { Echo: ({ text }: { readonly text: string }) => Effect.succeed(text) }

describe("a typed call", () => {
  const rows: ReadonlyArray<readonly [what: string, headers: object, reason: RegExp]> = [
    ["a header that is a number", { a: 5 }, /the header a: expected a text, got 5/],
    ["a header that is a bigint", { a: 5n }, /the header a: expected a text/],
    ["a header that is null", { a: null }, /the header a: expected a text, got null/],
    ["a header that throws", Object.defineProperty({}, "a", { get: throws, enumerable: true }), /boom/]
  ]
  for (const [what, headers, reason] of rows) {
    it.live(`with ${what} ends with a defect, and no other does`, () =>
      Effect.gen(function*() {
        const { client } = yield* open(Echo, group.toLayer(echo))
        const call = client.Echo({ text: "a" }, { headers: headers as never })
        const exit = yield* Effect.exit(call)
        assert.match(String(exit), /Die/)
        assert.match(String(exit), reason)
        const ambient = Effect.suspend(() => RpcClient.withHeaders(client.Echo({ text: "a" }), headers as never))
        assert.match(String(yield* exitOf(ambient)), reason)
        assert.equal(yield* client.Echo({ text: "b" }), "b")
      }))
  }

  it.live("whose shardBy throws, or gives a number, ends by itself", () =>
    Effect.gen(function*() {
      const { client } = yield* open(Echo, group.toLayer(echo))
      assert.match(String(yield* Effect.exit(client.Echo({ text: "throws" }))), /Die.*boom/)
      assert.match(String(yield* Effect.exit(client.Echo({ text: "number" }))), /Unreachable.*shard key 5/)
      assert.equal(yield* client.Echo({ text: "b" }), "b")
    }))

  // What gives a promise is wrapped by Effect.
  for (const { give, how } of dies.filter(({ how }) => !how.includes("promise"))) {
    it.live(`whose middleware ${how} ends with that, and no other does`, () =>
      Effect.gen(function*() {
        const { connection } = yield* open(GuardedEcho, group.middleware(Around).toLayer(echo)).pipe(
          Effect.provideService(Around, (effect) => effect)
        )
        let isFirst = true
        const context = yield* Layer.build(RpcMiddleware.layerClient(Around, ({ next, request }) => {
          if (!isFirst) return next(request)
          isFirst = false
          return give()
        }))
        const client = yield* Effect.provideContext(clientOver(connection, GuardedEcho), context)
        isDefect(yield* exitOf(client.Echo({ text: "a" })))
        assert.equal(yield* client.Echo({ text: "b" }), "b")
      }))
  }

  it.live("whose middleware calls twice, or on with nothing, or never, harms no other", () =>
    Effect.gen(function*() {
      const { connection } = yield* open(GuardedEcho, group.middleware(Around).toLayer(echo)).pipe(
        Effect.provideService(Around, (effect) => effect)
      )
      const through = (middleware: RpcMiddleware.RpcMiddlewareClient<never, never, never>) =>
        Effect.flatMap(
          Layer.build(RpcMiddleware.layerClient(Around, middleware)),
          (context) => Effect.provideContext(clientOver(connection, GuardedEcho), context)
        )
      const twice = yield* through(({ next, request }) => Effect.andThen(next(request), next(request)))
      assert.equal(yield* twice.Echo({ text: "a" }), "a")
      const nothing = yield* through(({ next }) => next(undefined as never))
      isDefect(yield* exitOf(nothing.Echo({ text: "a" })))
      const waits = yield* through(never.give)
      const waiting = yield* Effect.forkChild(waits.Echo({ text: "a" }), { startImmediately: true })
      yield* Fiber.interrupt(waiting)
      assert.equal(yield* twice.Echo({ text: "b" }), "b")
    }))

  for (const { give, how } of [...dies, ...succeedsWrong]) {
    it.live(`over a Connection of a user's own whose call ${how} ends with a defect`, () =>
      Effect.gen(function*() {
        const { connection } = yield* open(Echo, group.toLayer(echo))
        const own: Connection.Connection = {
          close: connection.close,
          state: connection.state,
          changes: connection.changes,
          stream: (...args) => connection.stream(...args),
          call: wrongAtFirst(give, () => null as never)
        }
        const client = yield* clientOver(own, Echo)
        isDefect(yield* exitOf(client.Echo({ text: "a" })))
      }))
  }
})
