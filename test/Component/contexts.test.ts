/**
 * What a handler runs in: the services of its layer, and of its call the Scope, the span and the deadline, wherever the
 * layer was built.
 */
import { describe, it } from "@effect/vitest"
import { Context, Deferred, Effect, Exit, Fiber, Layer, Option, Queue, Schema, Scope } from "effect"
import { Component, Connection, Deadline, HandlerMap, MethodKey } from "effect-call"
import { Rpc, RpcClient, RpcGroup } from "effect/rpc"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { connect, memory } from "../support/networks.ts"
import { clientOver, open } from "./support.ts"

class Failed extends Schema.TaggedError<Failed>()("Failed", {}) {}
class Greeting extends Context.Service<Greeting, { readonly text: string }>()("Greeting") {}
const Region = Context.Reference<string>("Region", { defaultValue: () => "default" })

const group = RpcGroup.make(Rpc.make("Do", { payload: Schema.String, success: Schema.String, error: Failed }))
const Things = Component.make("test/Things", group)

describe("a handler's services", () => {
  it.effect("are the services of its layer, also where the server has others", () =>
    Effect.gen(function*() {
      const map = yield* Component.handlers(
        Things,
        group.toLayer({
          Do: () => Effect.map(Effect.all([Greeting, Region]), ([{ text }, region]) => `${text}, ${region}`)
        })
          .pipe(Layer.provide(Layer.succeed(Greeting, { text: "the layer's" })))
      ).pipe(Effect.provideService(Region, "where it was built"))
      const { endpoint } = yield* memory.serve(map).pipe(
        Effect.provideService(Greeting, { text: "the server's" }),
        Effect.provideService(Region, "where it is served")
      )
      const client = yield* clientOver(yield* connect([endpoint]), Things)
      assert.equal(yield* client.Do(""), "the layer's, where it was built")
    }).pipe(Effect.scoped))

  it.effect("live as long as the Scope that the handlers were built in", () =>
    Effect.gen(function*() {
      const events: Array<string> = []
      const scope = yield* Scope.make()
      const layer = Layer.effect(
        Greeting,
        Effect.as(Effect.addFinalizer(() => Effect.sync(() => void events.push("released"))), { text: "hello" })
      )
      const map = yield* Scope.provide(
        Component.handlers(
          Things,
          group.toLayer(Effect.map(Greeting, ({ text }) => ({ Do: () => Effect.succeed(text) }))).pipe(
            Layer.provide(layer)
          )
        ),
        scope
      )
      const { endpoint } = yield* memory.serve(map)
      const client = yield* clientOver(yield* connect([endpoint]), Things)
      assert.equal(yield* client.Do(""), "hello")
      assert.deepEqual(events, [])
      yield* Scope.close(scope, Exit.void)
      assert.deepEqual(events, ["released"])
    }).pipe(Effect.scoped))
})

describe("the headers of the region that handlers were built in", () => {
  it.effect("are not the services of the calls that they make", () =>
    Effect.gen(function*() {
      const seen: Array<unknown> = []
      const inner = yield* open(
        Things,
        group.toLayer({
          Do: (_, { headers }) =>
            Effect.sync(() => {
              seen.push({ ...headers })
              return "done"
            })
        })
      )
      const map = yield* Component.handlers(Things, group.toLayer({ Do: () => Effect.orDie(inner.client.Do("")) }))
        .pipe(
          RpcClient.withHeaders({ authorization: "of the fiber that started the server" })
        )
      const { endpoint } = yield* memory.serve(map)
      const client = yield* clientOver(yield* connect([endpoint]), Things)
      yield* client.Do("")
      assert.deepEqual(seen, [{}])
    }).pipe(Effect.scoped))
})

describe("a handler's client", () => {
  it.effect("is one for each connection", () =>
    Effect.gen(function*() {
      const ids: Array<number> = []
      const { client, endpoint } = yield* open(
        Things,
        group.toLayer({ Do: (_, { client }) => Effect.sync(() => (ids.push(client.id), "done")) })
      )
      const other = yield* clientOver(yield* connect([endpoint]), Things)
      yield* client.Do("")
      yield* other.Do("")
      yield* client.Do("")
      assert.equal(ids[0], ids[2])
      assert.notEqual(ids[0], ids[1])
    }).pipe(Effect.scoped))
})

describe("a handler's Scope", () => {
  it.effect("has closed before the answer is there, in whichever way the call ends", () =>
    Effect.gen(function*() {
      const events: Array<string> = []
      const { client } = yield* open(
        Things,
        group.toLayer({
          Do: (how) =>
            Effect.addFinalizer((exit) =>
              // It takes its time.
              Effect.andThen(Effect.yieldNow, Effect.sync(() => void events.push(`${how}: ${exit._tag}`)))
            ).pipe(Effect.andThen(
              how === "succeed" ? Effect.succeed(how) : how === "fail" ? Effect.fail(new Failed()) : Effect.die("dead")
            ))
        })
      )
      yield* client.Do("succeed")
      assert.deepEqual(events.splice(0), ["succeed: Success"])
      yield* Effect.flip(client.Do("fail"))
      assert.deepEqual(events.splice(0), ["fail: Failure"])
      yield* Effect.flip(client.Do("die"))
      assert.deepEqual(events.splice(0), ["die: Failure"])
    }).pipe(Effect.scoped))

  it.effect("closes when its call is cancelled, at its deadline, and when the connection is lost", () =>
    Effect.gen(function*() {
      const events = yield* Queue.unbounded<string>()
      const { client, connection } = yield* open(
        Things,
        group.toLayer({
          Do: () =>
            Effect.addFinalizer((exit) => Queue.offer(events, exit._tag)).pipe(
              Effect.andThen(Queue.offer(events, "started")),
              Effect.andThen(Effect.never)
            )
        })
      )
      const start = (call: Effect.Effect<unknown, unknown>) =>
        Effect.tap(
          Effect.forkChild(call),
          () => Effect.map(Queue.take(events), (event) => assert.equal(event, "started"))
        )
      yield* Fiber.interrupt(yield* start(client.Do("")))
      assert.equal(yield* Queue.take(events), "Failure")
      yield* start(Deadline.within(client.Do(""), "1 second"))
      yield* TestClock.adjust("1 second")
      assert.equal(yield* Queue.take(events), "Failure")
      yield* start(client.Do(""))
      yield* connection.close
      assert.equal(yield* Queue.take(events), "Failure")
    }).pipe(Effect.scoped))

  it.effect("that cannot be closed is the call's defect", () =>
    Effect.gen(function*() {
      const { client } = yield* open(
        Things,
        group.toLayer({ Do: () => Effect.as(Effect.addFinalizer(() => Effect.die("not closed")), "done") })
      )
      const error = yield* Effect.flip(client.Do(""))
      assert.ok(error._tag === "RemoteError")
      assert.equal(error.message, "internal error: the handler died")
    }).pipe(Effect.scoped))

  it.effect("is closed while a Deferred is waited for, and so is the wait when the call is cancelled", () =>
    Effect.gen(function*() {
      const events = yield* Queue.unbounded<string>()
      const never = yield* Deferred.make<string, Failed>()
      const { client, serving } = yield* open(
        Things,
        group.toLayer({ Do: () => Effect.as(Effect.addFinalizer(() => Queue.offer(events, "closed")), never) }),
        { server: { shutdownGrace: "1 hour" } }
      )
      const calling = yield* Effect.forkChild(client.Do(""))
      assert.equal(yield* Queue.take(events), "closed")
      assert.equal(calling.pollUnsafe(), undefined)
      yield* Fiber.interrupt(calling)
      // Nothing is left to wait for.
      yield* Fiber.interrupt(serving)
    }).pipe(Effect.scoped))
})

describe("handlers that were built inside another call", () => {
  it.effect("have nothing of that call: no deadline, no span, no options, no Scope", () =>
    Effect.gen(function*() {
      const seen: Array<unknown> = []
      const finalized: Array<string> = []
      const keys: Array<bigint | undefined> = []
      const scope = yield* Effect.scope
      const build = MethodKey.make("test/Builder", "build")
      let built: HandlerMap.HandlerMap<never> | undefined
      // A Connection that the handlers call on themselves, which tells the options that a call has.
      const own = yield* connect([(yield* memory.serve(HandlerMap.empty)).endpoint], {
        balancer: Effect.succeed({
          update: () => {},
          pick: ({ shardKey }) => Effect.suspend(() => (keys.push(shardKey), Effect.never))
        })
      })
      const layer = group.toLayer({
        Do: (name) =>
          Effect.gen(function*() {
            yield* Effect.addFinalizer(() => Effect.sync(() => void finalized.push(name)))
            seen.push(yield* Deadline.remaining, Option.isSome(yield* Effect.option(Effect.currentParentSpan)))
            yield* Effect.forkScoped(own.call(build, new Uint8Array(0)), { startImmediately: true })
            return name
          })
      })
      const builder = HandlerMap.set(HandlerMap.empty, build.component, build.method, () =>
        Effect.gen(function*() {
          yield* Effect.currentSpan
          assert.ok(Option.isSome(yield* Deadline.remaining))
          built = yield* Scope.provide(Component.handlers(Things, layer, { disableTracing: true }), scope).pipe(
            Connection.withOptions({ shardKey: 9n })
          )
          return new Uint8Array(0)
        }))
      const first = yield* connect([(yield* memory.serve(builder)).endpoint])
      yield* first.call(build, new Uint8Array(0), { timeout: "1 second" }).pipe(Effect.withSpan("builder"))
      const { endpoint } = yield* memory.serve(built!)
      const client = yield* clientOver(yield* connect([endpoint]), Things, { disableTracing: true })
      yield* TestClock.adjust("1 hour")
      assert.equal(yield* client.Do("first"), "first")
      assert.deepEqual(seen, [Option.none(), false])
      assert.deepEqual(finalized, ["first"])
      assert.deepEqual(keys, [undefined])
    }).pipe(Effect.scoped))
})
