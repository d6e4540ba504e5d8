/**
 * Components without what is usually below them: clients over any object that is a Connection, and handlers that are
 * called by hand.
 */
import { describe, it } from "@effect/vitest"
import { Context, Deferred, Duration, Effect, Fiber, Layer, Option, Schema, Stream, type Tracer } from "effect"
import { CallError, Component, type Connection, Deadline, HandlerMap } from "effect-call"
import { Rpc, RpcClient, RpcGroup, RpcMiddleware } from "effect/rpc"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { bytesOf, connect, memory, textOf } from "../support/networks.ts"
import { clientOver, formats, open } from "./support.ts"

class NotFound extends Schema.TaggedError<NotFound>()("NotFound", { id: Schema.Int }) {}

const group = RpcGroup.make(
  Rpc.make("Get", { payload: { id: Schema.Int }, success: Schema.String, error: NotFound }).pipe(
    Component.shardBy(({ id }) => BigInt(id))
  )
)
const Items = Component.make("test/Items", group)
const getting = group.toLayer({
  Get: ({ id }) => id < 10 ? Effect.succeed(`item ${id}`) : Effect.fail(new NotFound({ id }))
})

/** A text after a format byte. */
const text = (format: number, text: string) => Uint8Array.of(format, ...bytesOf(text))

/** A Connection that is nothing but its `call`. */
const calling = (call: Connection.Connection["call"]): Connection.Connection => ({
  call,
  stream: () => Stream.empty,
  close: Effect.void,
  state: Effect.succeed({ closed: false, endpoints: [] }),
  changes: Stream.empty
})

describe("a client over an object that is a Connection", () => {
  it.effect("calls it with the method's key, bytes, and options", () =>
    Effect.gen(function*() {
      const calls: Array<Parameters<Connection.Connection["call"]>> = []
      const connection = calling((...call) => {
        calls.push(call)
        return Effect.succeed(text(0x02, "\"tea\""))
      })
      const client = yield* clientOver(connection, Items, { format: "json" })
      assert.equal(yield* client.Get({ id: 7 }), "tea")
      assert.deepEqual(calls, [[Items.keys.get("Get"), text(0x02, "{\"id\":7}"), { shardKey: 7n }]])
    }))

  it.effect("gets what its bytes say, and fails as it fails", () =>
    Effect.gen(function*() {
      const answers = [
        Effect.succeed(text(0x12, "{\"_tag\":\"NotFound\",\"id\":7}")),
        Effect.succeed(text(0x02, "7")),
        Effect.fail(new CallError.DeadlineExceeded({ message: "late" })),
        Effect.die("dead")
      ]
      const client = yield* clientOver(calling(() => answers.shift()!), Items)
      assert.deepEqual(yield* Effect.flip(client.Get({ id: 7 })), new NotFound({ id: 7 }))
      const undecodable = yield* Effect.flip(client.Get({ id: 7 }))
      assert.ok(undecodable._tag === "CommunicationError" && undecodable.reason._tag === "Protocol")
      // It is unknown who has answered.
      assert.equal(undecodable.endpoint, undefined)
      assert.equal((yield* Effect.flip(client.Get({ id: 7 })))._tag, "DeadlineExceeded")
      assert.equal((yield* Effect.flip(Effect.sandbox(client.Get({ id: 7 })))).reasons[0]?._tag, "Die")
    }))

  it.effect("interrupts its call where it is interrupted itself", () =>
    Effect.gen(function*() {
      const called = yield* Deferred.make<void>()
      const interrupted = yield* Deferred.make<void>()
      const client = yield* clientOver(
        calling(() =>
          Deferred.succeed(called, undefined).pipe(
            Effect.andThen(Effect.never),
            Effect.onInterrupt(() => Deferred.succeed(interrupted, undefined))
          )
        ),
        Items
      )
      const fiber = yield* Effect.forkChild(client.Get({ id: 7 }))
      yield* Deferred.await(called)
      yield* Fiber.interrupt(fiber)
      assert.equal(yield* Deferred.isDone(interrupted), true)
    }))

  it.effect("sends the same bytes as over one of this package", () =>
    Effect.gen(function*() {
      const served: Array<Uint8Array> = []
      const recorded: Array<Uint8Array> = []
      const [key] = [...Items.keys.values()]
      const map = HandlerMap.set(HandlerMap.empty, key!.component, key!.method, (args) =>
        Effect.sync(() => {
          served.push(args)
          return Uint8Array.of(args[0]! & 0x0f)
        }))
      const connection = yield* connect([(yield* memory.serve(map)).endpoint])
      for (const format of formats) {
        for (const options of [{ discard: true }, { discard: true, headers: { a: "1" } }] as const) {
          const direct = yield* clientOver(connection, Items, { format })
          yield* direct.Get({ id: 7 }, options)
          const recording = calling((_, args) => {
            recorded.push(args)
            return Effect.succeed(Uint8Array.of(args[0]! & 0x0f))
          })
          const recorder = yield* clientOver(recording, Items, { format })
          yield* recorder.Get({ id: 7 }, options)
        }
      }
      assert.deepEqual(served, recorded)
      assert.equal(recorded.length, 4)
    }).pipe(Effect.scoped))

  it.effect("goes through it also where it is made of another one, with a `call` of its own", () =>
    Effect.gen(function*() {
      const { connection } = yield* open(Items, getting)
      let calls = 0
      const call: Connection.Connection["call"] = (...args) => {
        calls++
        return connection.call(...args)
      }
      const client = yield* clientOver({ ...connection, call }, Items)
      assert.equal(yield* client.Get({ id: 7 }), "item 7")
      const other = yield* clientOver(Object.assign(Object.create(connection), { call }), Items)
      assert.deepEqual(yield* Effect.flip(other.Get({ id: 10 })), new NotFound({ id: 10 }))
      assert.equal(calls, 2)
    }).pipe(Effect.scoped))

  it.effect("calls it within the client's span, and the trace goes on from there", () =>
    Effect.gen(function*() {
      const spans: Array<Tracer.AnySpan> = []
      const see = Effect.flatMap(Effect.currentParentSpan, (span) => Effect.sync(() => void spans.push(span)))
      const { connection } = yield* open(
        Items,
        group.toLayer({ Get: () => Effect.as(Effect.orDie(see), "seen") })
      )
      const client = yield* clientOver(
        calling((...call) => Effect.andThen(Effect.orDie(see), connection.call(...call))),
        Items
      )
      yield* Effect.withSpan(client.Get({ id: 7 }), "caller")
      const [inClient, inServer] = spans as Array<Tracer.Span>
      assert.deepEqual([inClient!.name, inClient!.kind], ["test/Items/Get", "client"])
      assert.deepEqual([inServer!.name, inServer!.kind], ["test/Items/Get", "server"])
      assert.equal(Option.getOrThrow(inServer!.parent).spanId, inClient!.spanId)
      assert.equal(inServer!.traceId, inClient!.traceId)
    }).pipe(Effect.scoped))
})

class Greeting extends Context.Service<Greeting, { readonly text: string }>()("Greeting") {}
class Token extends RpcMiddleware.Service<Token>()("Token", { error: NotFound }) {}

describe("a component's handler that is called by hand", () => {
  /** The handler of a map's only method. */
  const handlerIn = (map: HandlerMap.HandlerMap<never>) => [...map.entries.values()][0]!.handler!

  it.effect("takes and gives what a server would", () =>
    Effect.gen(function*() {
      const handler = handlerIn(yield* Component.handlers(Items, getting))
      assert.deepEqual(yield* handler(text(0x02, "{\"id\":7}")), text(0x02, "\"item 7\""))
      assert.deepEqual(yield* handler(text(0x02, "{\"id\":10}")), text(0x12, "{\"_tag\":\"NotFound\",\"id\":10}"))
      assert.deepEqual(yield* handler(text(0x22, "{\"id\":7}")), text(0x02, ""))
    }).pipe(Effect.scoped))

  it.effect("gives results of any size", () =>
    Effect.gen(function*() {
      const layer = group.toLayer({ Get: () => Effect.succeed("x".repeat(500_000)) })
      const handler = handlerIn(yield* Component.handlers(Items, layer))
      assert.equal((yield* handler(text(0x02, "{\"id\":7}"))).length, 500_003)
    }).pipe(Effect.scoped))

  it.effect("can serve calls of any Connection", () =>
    Effect.gen(function*() {
      const handler = handlerIn(yield* Component.handlers(Items, getting))
      for (const format of formats) {
        // What a handler of bytes fails with reaches callers as a RemoteError.
        const connection = calling((_, args) => Effect.orDie(handler(args)))
        const client = yield* clientOver(connection, Items, { format })
        assert.equal(yield* client.Get({ id: 7 }), "item 7")
        assert.deepEqual(yield* Effect.flip(client.Get({ id: 10 })), new NotFound({ id: 10 }))
      }
    }).pipe(Effect.scoped))

  it.effect("fails where it cannot read what it is given, and dies as its handler dies", () =>
    Effect.gen(function*() {
      const layer = group.toLayer({ Get: () => Effect.die("dead") })
      const handler = handlerIn(yield* Component.handlers(Items, layer))
      const error = yield* Effect.flip(handler(text(0x02, "{}")))
      assert.ok(error instanceof Error)
      assert.match(error.message, /^cannot decode the payload of test\/Items\.Get: .*\["id"\]/)
      assert.deepEqual((yield* Effect.flip(Effect.sandbox(handler(text(0x02, "{\"id\":1}"))))).reasons.map(String), [
        "Die(\"dead\")"
      ])
    }).pipe(Effect.scoped))

  it.effect("runs in the context of its layer, as it does in a server, with a Scope of its own", () =>
    Effect.gen(function*() {
      const events: Array<string> = []
      const layer = group.toLayer({
        Get: () =>
          Effect.gen(function*() {
            yield* Effect.addFinalizer((exit) => Effect.sync(() => void events.push(`closed after ${exit._tag}`)))
            return (yield* Greeting).text
          })
      }).pipe(Layer.provide(Layer.succeed(Greeting, { text: "the layer's" })))
      const map = yield* Component.handlers(Items, layer)
      const answer = yield* handlerIn(map)(text(0x02, "{\"id\":7}")).pipe(
        Effect.provideService(Greeting, { text: "the caller's" })
      )
      assert.equal(textOf(answer.subarray(1)), "\"the layer's\"")
      assert.deepEqual(events, ["closed after Success"])
    }).pipe(Effect.scoped))

  it.effect("runs under its caller's deadline and span, and behind its middleware", () =>
    Effect.gen(function*() {
      const seen: Array<unknown> = []
      const guarded = group.middleware(Token)
      const map = yield* Component.handlers(
        Component.make("test/Items", guarded),
        guarded.toLayer({
          Get: () =>
            Effect.gen(function*() {
              const { name } = yield* Effect.orDie(Effect.currentSpan)
              seen.push(yield* Deadline.remaining, name)
              return "got"
            })
        })
      ).pipe(
        Effect.provideService(Token, (effect, { headers }) =>
          headers["token"] === "ok" ? effect : Effect.fail(new NotFound({ id: 0 })))
      )
      const handler = handlerIn(map)
      const connection = calling((_, args) =>
        Effect.orDie(handler(args))
      )
      const client = yield* clientOver(connection, Items, { format: "json", disableTracing: true })
      yield* client.Get({ id: 7 }).pipe(
        RpcClient.withHeaders({ token: "ok" }),
        Effect.withSpan("by hand"),
        Deadline.within("5 seconds")
      )
      assert.deepEqual(seen, [Option.some(Duration.seconds(5)), "by hand"])
      assert.deepEqual(yield* Effect.flip(client.Get({ id: 7 })), new NotFound({ id: 0 }))
    }).pipe(Effect.scoped))

  it.effect("is interrupted with its caller", () =>
    Effect.gen(function*() {
      const interrupted = yield* Deferred.make<void>()
      const layer = group.toLayer({
        Get: () => Effect.onInterrupt(Effect.never, () => Deferred.succeed(interrupted, undefined))
      })
      const handler = handlerIn(yield* Component.handlers(Items, layer))
      const fiber = yield* Effect.forkChild(Deadline.within(handler(text(0x02, "{\"id\":7}")), "1 second"))
      yield* TestClock.adjust("1 second")
      assert.ok((yield* Effect.flip(Fiber.join(fiber))) instanceof CallError.DeadlineExceeded)
      assert.equal(yield* Deferred.isDone(interrupted), true)
    }).pipe(Effect.scoped))
})
