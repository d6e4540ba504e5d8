/**
 * Where a stream goes: replicas that do not know streams, replicas that have not taken it, and when it is made again.
 */
import { describe, it } from "@effect/vitest"
import { Effect, Fiber, Schedule, Stream } from "effect"
import { Balancer, CallError, Connection, Endpoint, MethodKey, Resolver } from "effect-call"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { type StreamPeerOptions, type StreamServer, streamServer } from "../support/streamPeer.ts"
import { identity, type, version } from "../support/streamWire.ts"
import { bytes, connected, feed, opened, texts } from "./streamsSupport.ts"

const idempotent = MethodKey.idempotent(feed)

/** Servers, and a Connection that tries them in this order. */
const replicas = (...options: ReadonlyArray<StreamPeerOptions>) =>
  Effect.gen(function*() {
    const servers = yield* Effect.forEach(options, streamServer)
    const inOrder = Balancer.make((endpoints, { avoid }) => {
      const found = endpoints.find(({ address }) => !avoid.has(address))
      return found === undefined ? Effect.fail(CallError.Unreachable.fromAttempts([])) : Effect.succeed(found)
    })
    const connection = yield* Effect.orDie(
      Connection.make(Resolver.constant(...servers.map(({ endpoint }) => endpoint)), { balancer: inOrder })
    )
    return { connection, servers }
  })

const old: StreamPeerOptions = { flags: "none", strict: false }
const oldWithFlags: StreamPeerOptions = { flags: 1, strict: false }

/** The types of the messages that a server has got, without versions. */
const typesAt = (server: StreamServer): Array<number> =>
  server.peers.flatMap(({ messages }) => messages.map((message) => message.type)).filter((is) => is !== type.version)

/** A server answers the next stream with one item and its end. */
const answered = Effect.fnUntraced(function*(server: StreamServer) {
  const peer = server.peers[0] ?? (yield* server.accepted)
  const { id } = yield* peer.next({ type: type.open })
  peer.items(id, bytes("a"))
  peer.respond(id)
})

describe("a stream, where replicas do not understand streams,", () => {
  it.live("goes to one that does, and the others are sent nothing", () =>
    Effect.gen(function*() {
      const { connection, servers: [first, second, third] } = yield* replicas(old, oldWithFlags, {})
      const reading = yield* Effect.forkChild(texts(connection.stream(feed, bytes(""))))
      yield* answered(third!)
      assert.deepEqual(yield* Fiber.join(reading), ["a"])
      assert.deepEqual([typesAt(first!), typesAt(second!)], [[], []])
      // Calls still go to the first.
      const call = yield* Effect.forkChild(connection.call(feed, bytes("")))
      const peer = first!.peers[0]!
      peer.respond((yield* peer.next({ type: type.request })).id)
      yield* Fiber.join(call)
    }).pipe(Effect.scoped))

  it.live("is unreachable if no other is left, and nothing has run", () =>
    Effect.gen(function*() {
      const { connection, servers } = yield* replicas(old, oldWithFlags)
      const error = yield* Effect.flip(texts(connection.stream(feed, bytes(""))))
      assert.ok(error instanceof CallError.Unreachable)
      assert.deepEqual(
        error.attempts.map(({ message }) => message),
        ["its server does not understand streams", "its server does not understand streams"]
      )
      assert.deepEqual(servers.flatMap(typesAt), [])
    }).pipe(Effect.scoped))

  it.effect("waits with waitForReady until one does", () =>
    Effect.gen(function*() {
      const server = yield* streamServer({ answers: false, strict: false })
      const connection = yield* Connection.make(Resolver.constant(server.endpoint))
      const reading = yield* Effect.forkChild(texts(connection.stream(feed, bytes(""), { waitForReady: true })))
      const before = yield* server.accepted
      before.write(version(1))
      const call = yield* Effect.forkChild(Effect.exit(connection.call(feed, bytes(""))))
      yield* before.next({ type: type.request })
      before.reset()
      yield* Fiber.join(call)
      yield* Effect.forkScoped(Effect.forever(TestClock.adjust("50 millis")))
      const after = yield* server.accepted
      after.hello(9)
      const { id } = yield* after.next({ type: type.open })
      after.respond(id)
      assert.deepEqual(yield* Fiber.join(reading), [])
    }).pipe(Effect.scoped))
})

describe("a stream that its server has not taken", () => {
  it.live("goes elsewhere if the server cannot be dialed", () =>
    Effect.gen(function*() {
      const server = yield* streamServer()
      const nobody = Endpoint.tcp("127.0.0.1:1")
      const connection = yield* Connection.make(Resolver.constant(nobody, server.endpoint))
      const items = Stream.make(bytes("x"))
      const reading = yield* Effect.forkChild(texts(connection.stream(feed, bytes(""), { items })))
      yield* answered(server)
      assert.deepEqual(yield* Fiber.join(reading), ["a"])
    }).pipe(Effect.scoped))

  it.live("is made again by its retry where the server has refused it, however many items the client has", () =>
    Effect.gen(function*() {
      const { connection, server } = yield* connected()
      const stream = connection.stream(feed, bytes("args"), { retry: Schedule.spaced(1) })
      const reading = yield* Effect.forkChild(texts(stream))
      const peer = yield* server.accepted
      for (let n = 0; n < 3; n++) {
        const { id, payload } = yield* peer.next({ type: type.open })
        assert.equal(payload.subarray(53).toString(), "args")
        peer.fail(id, "overloaded", identity.overloaded)
      }
      yield* answered(server)
      assert.deepEqual(yield* Fiber.join(reading), ["a"])
    }).pipe(Effect.scoped))

  it.live("fails as overloaded without a retry", () =>
    Effect.gen(function*() {
      const { connection, server } = yield* connected()
      const reading = yield* Effect.forkChild(Effect.flip(texts(connection.stream(feed, bytes("")))))
      const peer = yield* server.accepted
      const { id } = yield* peer.next({ type: type.open })
      peer.fail(id, "overloaded", identity.overloaded)
      const error = yield* Fiber.join(reading)
      assert.ok(error instanceof CallError.RemoteError && error.isOverloaded)
    }).pipe(Effect.scoped))
})

describe("a stream whose connection is lost", () => {
  for (
    const [how, key, again] of [
      ["is made again by its retry, if its method is idempotent and nothing has come", idempotent, true],
      ["fails, if its method is not idempotent", feed, false]
    ] as const
  ) {
    it.live(how, () =>
      Effect.gen(function*() {
        const { connection, server } = yield* connected()
        const reading = yield* Effect.forkChild(
          Effect.result(texts(connection.stream(key, bytes(""), { retry: Schedule.recurs(3) })))
        )
        const peer = yield* server.accepted
        yield* peer.next({ type: type.open })
        peer.reset()
        if (again) {
          const next = yield* server.accepted
          const { id } = yield* next.next({ type: type.open })
          next.items(id, bytes("a"))
          next.respond(id)
        }
        const result = yield* Fiber.join(reading)
        if (again) return assert.deepEqual(result._tag === "Success" && result.success, ["a"])
        assert.ok(result._tag === "Failure" && result.failure instanceof CallError.CommunicationError)
        assert.deepEqual([result.failure.reason._tag, result.failure.maybeExecuted], ["Lost", true])
      }).pipe(Effect.scoped))
  }

  it.live("is not made again once an item has come", () =>
    Effect.gen(function*() {
      const { connection, server } = yield* connected()
      const { next, peer, id } = yield* opened(
        server,
        connection.stream(idempotent, bytes(""), { retry: Schedule.spaced(1) })
      )
      peer.items(id, bytes("a"))
      assert.deepEqual(yield* next, ["a"])
      peer.reset()
      const error = yield* Effect.flip(next)
      assert.ok(error instanceof CallError.CommunicationError && error.reason._tag === "Lost")
      assert.equal(server.peers.length, 1)
    }).pipe(Effect.scoped))

  it.live("is not made again once an item was taken from its client", () =>
    Effect.gen(function*() {
      const { connection, server } = yield* connected()
      let pulled = 0
      const items = Stream.fromEffect(Effect.sync(() => bytes(`${++pulled}`)))
      const reading = yield* Effect.forkChild(
        Effect.flip(texts(connection.stream(idempotent, bytes(""), { items, retry: Schedule.spaced(1) })))
      )
      const peer = yield* server.accepted
      const { id } = yield* peer.next({ type: type.open })
      yield* peer.item(id)
      peer.reset()
      const error = yield* Fiber.join(reading)
      assert.ok(error instanceof CallError.CommunicationError && error.reason._tag === "Lost")
      assert.deepEqual([pulled, server.peers.length], [1, 1])
    }).pipe(Effect.scoped))
})

describe("a connection whose server goes away", () => {
  it.live("stays open for its streams, and further streams go over another one", () =>
    Effect.gen(function*() {
      const { connection, server } = yield* connected()
      const { next, peer, id } = yield* opened(
        server,
        connection.stream(feed, bytes(""), { items: Stream.make(bytes("x")) })
      )
      yield* peer.item(id)
      yield* peer.next({ type: type.version })
      peer.write(version(11))
      assert.equal((yield* peer.next({ type: type.version })).payload[4], 13)
      const reading = yield* Effect.forkChild(texts(connection.stream(feed, bytes(""))))
      const other = yield* server.accepted
      const { id: otherId } = yield* other.next({ type: type.open })
      other.items(otherId, bytes("a"))
      other.respond(otherId)
      assert.deepEqual(yield* Fiber.join(reading), ["a"])
      peer.items(id, bytes("late"))
      assert.deepEqual(yield* next, ["late"])
      assert.equal(peer.isClosed, false)
      peer.respond(id)
      yield* Effect.exit(next)
      yield* peer.closed
    }).pipe(Effect.scoped))
})
