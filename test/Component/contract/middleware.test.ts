/** Middleware of servers and clients: in which order it runs, what it is told, what it can do. */
import { it } from "@effect/vitest"
import { Context, Effect, Layer, Schema } from "effect"
import { Rpc, RpcGroup, RpcMiddleware } from "effect/rpc"
import * as assert from "node:assert/strict"
import { defect, eachHarness, outcome } from "./harnesses.ts"

class Denied extends Schema.TaggedError<Denied>()("Denied", { why: Schema.String }) {}
class Offline extends Schema.TaggedError<Offline>()("Offline", {}) {}
class Failed extends Schema.TaggedError<Failed>()("Failed", {}) {}

class User extends Context.Service<User, { readonly name: string }>()("User") {}
class Users extends Context.Service<Users, { readonly nameOf: (token: string) => string }>()("Users") {}

class First extends RpcMiddleware.Service<First>()("First") {}
class Second extends RpcMiddleware.Service<Second>()("Second") {}
class Third extends RpcMiddleware.Service<Third>()("Third") {}
class Auth extends RpcMiddleware.Service<Auth, { provides: User }>()("Auth", { error: Denied }) {}
class Local extends RpcMiddleware.Service<Local, { clientError: Offline }>()("Local", { requiredForClient: true }) {}

eachHarness((harness) => {
  it.effect("the last middleware that was added is the outermost, of servers as of clients", () =>
    Effect.gen(function*() {
      const group = RpcGroup.make(Rpc.make("Do").middleware(First).middleware(Second)).middleware(Third)
      const log: Array<string> = []
      const note = (what: string) => Effect.sync(() => void log.push(what))
      const server = (name: string): RpcMiddleware.RpcMiddleware<never, never, never> => (effect) =>
        Effect.andThen(note(`${name} in`), effect).pipe(Effect.ensuring(note(`${name} out`)))
      const client = (name: string): RpcMiddleware.RpcMiddlewareClient<never, never, never> => ({ next, request }) =>
        Effect.andThen(note(`client ${name}`), next(request))
      const middleware = Layer.mergeAll(
        Layer.succeed(First, server("first")),
        Layer.succeed(Second, server("second")),
        Layer.succeed(Third, server("third")),
        RpcMiddleware.layerClient(First, client("first")),
        // The client's half is optional: the second has none.
        RpcMiddleware.layerClient(Third, client("third"))
      )
      const context = yield* Layer.build(middleware)
      const called = yield* Effect.provideContext(
        harness.client(group, group.toLayer({ Do: () => note("handler") })),
        context
      )
      yield* called.Do()
      assert.deepEqual(log, [
        "client third",
        "client first",
        "third in",
        "second in",
        "first in",
        "handler",
        "first out",
        "second out",
        "third out"
      ])
    }).pipe(Effect.scoped))

  it.effect("a group's middleware applies to the methods that the group had when it was added", () =>
    Effect.gen(function*() {
      const group = RpcGroup.make(Rpc.make("Before")).middleware(First).add(Rpc.make("After"))
      const through: Array<string> = []
      const client = yield* harness.client(
        group,
        group.toLayer({ Before: () => Effect.void, After: () => Effect.void })
      ).pipe(
        Effect.provideService(First, (effect, { rpc }) => {
          through.push(rpc._tag)
          return effect
        })
      )
      yield* client.Before()
      yield* client.After()
      assert.deepEqual(through, ["Before"])
    }).pipe(Effect.scoped))

  it.effect("middleware and handler get the same information about a call", () =>
    Effect.gen(function*() {
      const group = RpcGroup.make(
        Rpc.make("Do", { payload: { n: Schema.Int } }).middleware(First),
        Rpc.make("Other", { payload: Schema.String }).middleware(First)
      )
      const told: Array<Parameters<RpcMiddleware.Any>[1]> = []
      const toHandlers: Array<Parameters<Rpc.Handler<string>["handler"]>[1]> = []
      const Counter = Context.Reference<number>("Counter", { defaultValue: () => 0 })
      const handler = (_: unknown, info: Parameters<Rpc.Handler<string>["handler"]>[1]) =>
        Effect.sync(() => {
          toHandlers.push(info)
          info.client.annotate(Counter, Context.get(info.client.annotations, Counter) + 1)
        })
      const client = yield* harness.client(group, group.toLayer({ Do: handler, Other: handler })).pipe(
        Effect.provideService(First, (effect, info) => {
          told.push(info)
          return effect
        })
      )
      yield* client.Do({ n: 1 }, { headers: { a: "1" } })
      yield* client.Other("text")
      assert.deepEqual(told.map(({ payload }) => payload), [{ n: 1 }, "text"])
      assert.deepEqual(told.map(({ headers }) => ({ ...headers })), [{ a: "1" }, {}])
      assert.deepEqual(told.map(({ rpc }) => rpc), [...group.requests.values()])
      for (const [index, info] of toHandlers.entries()) {
        assert.equal(info.headers, told[index]?.headers)
        assert.equal(info.requestId, told[index]?.requestId)
        assert.equal(info.client, told[index]?.client)
        assert.equal(info.rpc, told[index]?.rpc)
      }
      // Each call has an id, and the client is one for all of its calls: what is noted on it stays.
      assert.notEqual(told[0]?.requestId, told[1]?.requestId)
      assert.equal(told[0]?.client, told[1]?.client)
      assert.equal(Context.get(told[0]!.client.annotations, Counter), 2)
    }).pipe(Effect.scoped))

  /** A method that says who calls it; the middleware knows who by the call's headers, and a service of its own. */
  const whoami = Effect.gen(function*() {
    const group = RpcGroup.make(Rpc.make("Who", { success: Schema.String })).middleware(Auth)
    const auth = Layer.effect(
      Auth,
      Effect.map(Users, ({ nameOf }) => (effect, { headers }) => {
        const token = headers["token"]
        return token === undefined
          ? Effect.fail(new Denied({ why: "no token" }))
          : Effect.provideService(effect, User, { name: nameOf(token) })
      })
    ).pipe(Layer.provide(Layer.succeed(Users, { nameOf: (token) => token.toUpperCase() })))
    const calls: Array<string> = []
    const Who = () => Effect.map(User, ({ name }) => (calls.push(name), name))
    const context = yield* Layer.build(auth)
    const client = yield* Effect.provideContext(harness.client(group, group.toLayer({ Who })), context)
    return { client, calls }
  })

  it.effect("middleware provides services to the handler, for each call its own", () =>
    Effect.gen(function*() {
      const { client } = yield* whoami
      const names = yield* Effect.forEach(["ada", "bob"], (token) => client.Who(undefined, { headers: { token } }), {
        concurrency: 2
      })
      assert.deepEqual(names, ["ADA", "BOB"])
    }).pipe(Effect.scoped))

  it.effect("what middleware fails with is the call's failure, an instance of its class, and the handler does not run", () =>
    Effect.gen(function*() {
      const { calls, client } = yield* whoami
      const denied = yield* outcome(client.Who())
      assert.ok("failure" in denied && denied.failure instanceof Denied)
      assert.equal(denied.failure.why, "no token")
      assert.deepEqual(calls, [])
    }).pipe(Effect.scoped))

  it.effect("middleware may run its handler again, and may see it fail", () =>
    Effect.gen(function*() {
      const group = RpcGroup.make(Rpc.make("Do", { success: Schema.Int, error: Failed })).middleware(First)
      let runs = 0
      const failures: Array<unknown> = []
      const client = yield* harness.client(
        group,
        group.toLayer({ Do: () => Effect.suspend(() => ++runs < 3 ? Effect.fail(new Failed()) : Effect.succeed(runs)) })
      ).pipe(
        Effect.provideService(First, (effect) =>
          effect.pipe(
            Effect.tapError((error) => Effect.sync(() => void failures.push(error))),
            Effect.retry({ times: 5 })
          ))
      )
      assert.deepEqual(yield* outcome(client.Do()), { success: 3 })
      assert.deepEqual(failures, [new Failed(), new Failed()])
    }).pipe(Effect.scoped))

  it.effect("middleware is around a handler that throws, too", () =>
    Effect.gen(function*() {
      const group = RpcGroup.make(Rpc.make("Do")).middleware(First)
      const log: Array<string> = []
      const note = (what: string) => Effect.sync(() => void log.push(what))
      const Do = (): Effect.Effect<void> => {
        throw new Error("thrown")
      }
      const client = yield* harness.client(group, group.toLayer({ Do })).pipe(
        Effect.provideService(First, (effect) =>
          Effect.andThen(note("in"), effect).pipe(Effect.onError(() => note("failed"))))
      )
      assert.deepEqual(yield* outcome(client.Do()), defect)
      assert.deepEqual(log, ["in", "failed"])
    }).pipe(Effect.scoped))

  it.effect("middleware that dies, or throws, is a defect of the call", () =>
    Effect.gen(function*() {
      const group = RpcGroup.make(Rpc.make("Do")).middleware(First)
      const call = (middleware: RpcMiddleware.RpcMiddleware<never, never, never>) =>
        harness.client(group, group.toLayer({ Do: () => Effect.void })).pipe(
          Effect.provideService(First, middleware),
          Effect.flatMap((client) => outcome(client.Do()))
        )
      assert.deepEqual(yield* call(() => Effect.die("dead")), defect)
      assert.deepEqual(
        yield* call(() => {
          throw new Error("thrown")
        }),
        defect
      )
    }).pipe(Effect.scoped))

  it.effect("client middleware may fail the call before it is sent, and may change what is sent", () =>
    Effect.gen(function*() {
      const group = RpcGroup.make(Rpc.make("Do", { payload: { n: Schema.Int }, success: Schema.Int })).middleware(Local)
      const payloads: Array<unknown> = []
      const requests: Array<unknown> = []
      const context = yield* Layer.build(
        RpcMiddleware.layerClient(Local, ({ next, request, rpc }) => {
          requests.push([request._tag, request.tag, request.payload, request.discard, rpc._tag])
          const payload: { readonly n: number } = request.payload
          if (payload.n < 0) return Effect.fail(new Offline())
          return next({ ...request, payload: { n: payload.n + 1 } as never })
        })
      )
      const client = yield* Effect.provideContext(
        harness.client(
          group,
          group.toLayer({
            Do: (payload) =>
              Effect.sync(() => {
                payloads.push(payload)
                return payload.n
              })
          })
        ).pipe(Effect.provideService(Local, (effect) => effect)),
        context
      )
      assert.deepEqual(yield* outcome(client.Do({ n: -1 })), { failure: new Offline() })
      assert.deepEqual(yield* outcome(client.Do({ n: 1 })), { success: 2 })
      yield* client.Do({ n: 5 }, { discard: true })
      assert.deepEqual(payloads, [{ n: 2 }, { n: 6 }])
      assert.deepEqual(requests, [
        ["Request", "Do", { n: -1 }, undefined, "Do"],
        ["Request", "Do", { n: 1 }, undefined, "Do"],
        ["Request", "Do", { n: 5 }, true, "Do"]
      ])
    }).pipe(Effect.scoped))

  it.effect("client middleware has the services of its layer, and of the caller", () =>
    Effect.gen(function*() {
      const group = RpcGroup.make(Rpc.make("Do")).middleware(First)
      const Region = Context.Reference<string>("Region", { defaultValue: () => "none" })
      const seen: Array<string> = []
      const context = yield* Layer.build(
        RpcMiddleware.layerClient(First, ({ next, request }) =>
          Effect.gen(function*() {
            seen.push((yield* User).name, yield* Region)
            return yield* next(request)
          })).pipe(Layer.provide(Layer.succeed(User, { name: "Ada" })))
      )
      const client = yield* Effect.provideContext(
        harness.client(group, group.toLayer({ Do: () => Effect.void })).pipe(
          Effect.provideService(First, (effect) => effect)
        ),
        context
      )
      yield* Effect.provideService(client.Do(), Region, "here")
      assert.deepEqual(seen, ["Ada", "here"])
    }).pipe(Effect.scoped))
})
