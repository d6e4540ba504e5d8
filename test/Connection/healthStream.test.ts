/** Health as a stream, where both ends know streams; and as a question where one of them does not. */
import { describe, it } from "@effect/vitest"
import { Effect, Stream } from "effect"
import { Connection, HandlerMap, Health, MethodKey, Resolver, Server } from "effect-call"
import { TestNetwork } from "effect-call/testing"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { unknownMethod } from "../../src/internal/protocol/identities.ts"
import { byHand } from "../support/byHand.ts"
import { component, echo } from "../support/networks.ts"
import { receives, request, versionWith } from "../support/raw.ts"
import { streamServer } from "../support/streamPeer.ts"
import { type } from "../support/streamWire.ts"
import { connectToListed, settle, until, untilState } from "./support.ts"

const onNetwork = Effect.provide(TestNetwork.layer)
const cart = "example/Cart"
const changes = MethodKey.make("effect-call/Health", "changes")
const options: Connection.ClientOptions = { health: cart, eager: true }

const isServing = (connection: Connection.Connection, wanted: boolean) =>
  untilState(connection, ({ endpoints }) => endpoints.every(({ isServing }) => isServing === wanted))

/** A client with a server that is written by hand and knows streams, and the stream that it has opened. */
const probed = Effect.gen(function*() {
  const server = yield* streamServer()
  const connection = yield* Connection.make(Resolver.constant(server.endpoint), options)
  const peer = yield* server.accepted
  const open = yield* peer.next({ type: type.open })
  return { connection, open, peer }
})

const status = (isServing: boolean) => Buffer.from([isServing ? 1 : 0])

describe("a health probe of a server that knows streams", () => {
  it.live("is one stream, whose items are the status each time", () =>
    Effect.gen(function*() {
      const { connection, open, peer } = yield* probed
      assert.ok(open.payload.subarray(0, 16).equals(Buffer.from(changes.bytes)))
      assert.equal(open.payload.subarray(53).toString(), cart)
      peer.items(open.id, status(false))
      yield* isServing(connection, false)
      peer.items(open.id, status(false), status(true))
      yield* isServing(connection, true)
      const { endpoints: [endpoint] } = yield* connection.state
      assert.deepEqual([endpoint?.callsInFlight, endpoint?.streams], [0, 0])
      assert.equal(peer.messages.filter((message) => message.type === type.open).length, 1)
      yield* peer.kept
    }).pipe(Effect.scoped))

  it.live("gives the server credit for what has come, so that it can go on for ever", () =>
    Effect.gen(function*() {
      const { connection, open, peer } = yield* probed
      for (let i = 0; i < 40; i++) peer.items(open.id, ...Array.from({ length: 200 }, (_, i) => status(i % 2 === 1)))
      yield* isServing(connection, true)
      yield* peer.holds("the credit", () => peer.granted(open.id) > 0)
    }).pipe(Effect.scoped))

  it.live("is canceled where an item is no status, and opened again later", () =>
    Effect.gen(function*() {
      for (const item of [Buffer.from([2]), Buffer.from([]), Buffer.from([1, 1])]) {
        const { open, peer } = yield* probed
        peer.items(open.id, item)
        yield* peer.next({ id: open.id, type: type.cancel })
        if (item.length > 0) continue
        const again = yield* peer.next({ type: type.open })
        assert.ok(again.id > open.id)
      }
    }).pipe(Effect.scoped))

  it.live("is a question where the server has no such stream", () =>
    Effect.gen(function*() {
      const { connection, open, peer } = yield* probed
      peer.fail(open.id, unknownMethod.message, unknownMethod.identity)
      const asked = yield* peer.next({ type: type.request })
      assert.equal(asked.payload[49], 255)
      peer.respond(asked.id, status(false))
      yield* isServing(connection, false)
      const again = yield* peer.next({ type: type.request })
      assert.equal(again.payload[49], 0)
    }).pipe(Effect.scoped))

  it.live("ends with the connection's calls: a server that goes away need not wait for it", () =>
    Effect.gen(function*() {
      const { open, peer } = yield* probed
      peer.items(open.id, status(true))
      peer.hello(11)
      yield* peer.closed
    }).pipe(Effect.scoped))
})

describe("a health probe of a server that does not know streams", () => {
  it.effect("is a question", () =>
    Effect.gen(function*() {
      const a = yield* byHand("a")
      yield* connectToListed([a], options)
      const raw = yield* a.accepted()
      const watch = MethodKey.make("effect-call/Health", "watch")
      yield* receives(raw, versionWith(8), request(1, watch, Uint8Array.of(255, ...Buffer.from(cart))))
    }).pipe(onNetwork))
})

describe("a server with the handlers of health", () => {
  const start = Effect.fnUntraced(function*(options?: Server.ServerOptions) {
    const health = yield* Health.make()
    const own = HandlerMap.empty.pipe(
      HandlerMap.set(component, "echo", (args) => Effect.succeed(args)),
      HandlerMap.setStream(component, "never", () => Stream.never)
    )
    const handlers = HandlerMap.merge(own, yield* Effect.provideService(Health.handlers, Health.Health, health))
    const server = yield* Effect.forkScoped(
      Server.serve(yield* TestNetwork.listener("a", handlers), { shutdownGrace: "1 hour", ...options }),
      { startImmediately: true }
    )
    return { endpoint: yield* TestNetwork.endpoint("a"), health, server }
  })

  it.effect("gives a client its status also where that has all the streams that it may have", () =>
    Effect.gen(function*() {
      const { endpoint, health } = yield* start({ maxStreamsPerConnection: 1 })
      const { connection } = yield* connectToListed([{ endpoint }], options)
      yield* isServing(connection, true)
      const never = connection.stream(MethodKey.make(component, "never"), new Uint8Array())
      yield* Effect.forkChild(Stream.runDrain(never), { startImmediately: true })
      yield* untilState(connection, ({ endpoints }) => endpoints[0]?.streams === 1)
      yield* settle
      const refused = yield* Effect.flip(Stream.runDrain(never))
      assert.ok(refused._tag === "RemoteError" && refused.isOverloaded)
      yield* health.set("NotServing")
      yield* isServing(connection, false)
      // A second one of the same client takes a place like any other.
      const second = yield* Effect.flip(Stream.runDrain(connection.stream(changes, new Uint8Array())))
      assert.ok(second._tag === "RemoteError" && second.isOverloaded)
    }).pipe(onNetwork))

  it.effect("does not wait for its watchers when it stops", () =>
    Effect.gen(function*() {
      const { endpoint, server } = yield* start()
      const { connection } = yield* connectToListed([{ endpoint }], options)
      yield* isServing(connection, true)
      yield* connection.call(echo, new Uint8Array(1))
      server.interruptUnsafe()
      yield* until(() => server.pollUnsafe() !== undefined)
      yield* TestClock.adjust(0)
    }).pipe(onNetwork))
})
