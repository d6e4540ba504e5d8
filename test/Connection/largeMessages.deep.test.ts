/**
 * Requests and answers in parts, with servers that understand streams and are written by hand from the page of the
 * wire.
 */
import { describe, it } from "@effect/vitest"
import { Effect, Fiber, Stream } from "effect"
import { Balancer, CallError, Connection, Resolver } from "effect-call"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { type Message, message } from "../support/raw.ts"
import { type StreamPeer, streamServer } from "../support/streamPeer.ts"
import { firstPart, identity, inParts, part, type, version } from "../support/streamWire.ts"
import { bytes, connected, feed, textOf, texts } from "./streamsSupport.ts"

const mib = 1_048_576

/** Bytes that differ from each other. */
const large = (size: number): Uint8Array => Uint8Array.from({ length: size }, (_, n) => n * 7 + (n >> 8))

const same = (a: Uint8Array, b: Uint8Array) => assert.ok(Buffer.from(a).equals(b), `${a.length} and ${b.length} bytes`)

/** How many parts have come with this id. */
const partsOf = ({ messages }: StreamPeer, id: number): number =>
  messages.filter((message) => message.id === id && message.type === type.part).length

/** Answers each call with its arguments, in one message. */
const echoes = (peer: StreamPeer) =>
  Effect.forever(
    Effect.map(peer.next({ type: type.request }), ({ id, payload }) => peer.respond(id, payload.subarray(49)))
  )

const failed = (error: unknown): CallError.CommunicationError => {
  assert.ok(error instanceof CallError.CommunicationError, String(error))
  return error
}

/** The first part of a request that its server takes only in part: it says nothing of what it has read. */
const begun = Effect.fnUntraced(function*(peer: StreamPeer): Effect.fn.Return<Message> {
  const first = yield* peer.next({ type: type.part })
  yield* peer.holds("all that may be in flight", () => partsOf(peer, first.id) >= 2)
  return first
})

describe("a request of more than 256 KiB", () => {
  it.live("goes in parts, with its header at the start of the first, and small calls pass it", () =>
    Effect.gen(function*() {
      const { connection, server } = yield* connected({}, { returns: false })
      const args = large(mib)
      const call = yield* Effect.forkChild(connection.call(feed, args, { timeout: "1 minute" }))
      const peer = yield* server.accepted
      const first = yield* begun(peer)
      assert.equal(first.payload.readUInt32LE(0), 49 + mib)
      const micros = Number(first.payload.readBigInt64LE(4 + 16))
      assert.ok(micros > 50_000_000 && micros <= 60_000_000, `${micros}`)
      const small = yield* Effect.forkChild(connection.call(feed, bytes("small")))
      const { id: smallId } = yield* peer.next({ type: type.request })
      peer.respond(smallId, bytes("passed"))
      assert.equal(textOf(yield* Fiber.join(small)), "passed")
      yield* Effect.forkScoped(Effect.forever(Effect.andThen(
        peer.next({ type: type.part }),
        Effect.sync(() => peer.tell())
      )))
      peer.tell()
      const whole = yield* peer.next({ type: type.request, id: first.id })
      same(whole.payload.subarray(49), args)
      peer.respond(first.id, bytes("done"))
      assert.equal(textOf(yield* Fiber.join(call)), "done")
    }).pipe(Effect.scoped))

  it.live("goes whole to a server that does not understand streams", () =>
    Effect.gen(function*() {
      const { connection, server } = yield* connected({}, { flags: 1 })
      const call = yield* Effect.forkChild(connection.call(feed, large(mib)))
      const peer = yield* server.accepted
      const { id, payload } = yield* peer.next({ type: type.request })
      assert.deepEqual([payload.length, partsOf(peer, id)], [49 + mib, 0])
      peer.respond(id)
      yield* Fiber.join(call)
    }).pipe(Effect.scoped))

  it.live("is copied where its arguments are below writeFlattenLimit: they may be changed", () =>
    Effect.gen(function*() {
      const { connection, server } = yield* connected({ writeFlattenLimit: 10 * mib })
      const args = large(mib)
      const before = Uint8Array.from(args)
      const call = yield* Effect.forkChild(connection.call(feed, args), { startImmediately: true })
      const peer = yield* server.accepted
      args.fill(0)
      const second = yield* Effect.forkChild(connection.call(feed, args), { startImmediately: true })
      args.fill(1)
      same((yield* peer.next({ type: type.request })).payload.subarray(49), before)
      same((yield* peer.next({ type: type.request })).payload.subarray(49), new Uint8Array(mib))
      yield* Fiber.interruptAll([call, second])
    }).pipe(Effect.scoped))

  it.live("is the open of a stream, too, whose items and end come behind it", () =>
    Effect.gen(function*() {
      const { connection, server } = yield* connected()
      const args = large(mib)
      for (const items of [undefined, Stream.make(bytes("x"))]) {
        const stream = connection.stream(feed, args, items === undefined ? {} : { items })
        const reading = yield* Effect.forkChild(texts(stream))
        const peer = server.peers[0] ?? (yield* server.accepted)
        const { id, payload } = yield* peer.next({ type: type.open })
        assert.equal(payload.readUInt32LE(49), 65_536)
        same(payload.subarray(53), args)
        if (items !== undefined) assert.equal((yield* peer.item(id)).toString(), "x")
        yield* peer.next({ type: type.end, id })
        peer.respond(id)
        assert.deepEqual(yield* Fiber.join(reading), [])
      }
    }).pipe(Effect.scoped))

  it.live("is canceled when it is given up after a part has left, and nothing of it follows", () =>
    Effect.gen(function*() {
      const { connection, server } = yield* connected({}, { returns: false })
      const call = yield* Effect.forkChild(connection.call(feed, large(mib)))
      const peer = yield* server.accepted
      const { id } = yield* begun(peer)
      yield* Fiber.interrupt(call)
      yield* peer.next({ type: type.cancel, id })
      const parts = partsOf(peer, id)
      peer.tell()
      const after = yield* Effect.forkChild(connection.call(feed, bytes("after")))
      yield* peer.next({ type: type.request })
      assert.equal(partsOf(peer, id), parts)
      yield* Fiber.interrupt(after)
    }).pipe(Effect.scoped))

  it.effect("is canceled at its deadline, too, after a part has left", () =>
    Effect.gen(function*() {
      const { connection, server } = yield* connected({}, { returns: false })
      const call = yield* Effect.forkChild(Effect.flip(connection.call(feed, large(mib), { timeout: "1 second" })))
      const peer = yield* server.accepted
      const { id } = yield* begun(peer)
      yield* TestClock.adjust("1 second")
      yield* peer.next({ type: type.cancel, id })
      assert.ok((yield* Fiber.join(call)) instanceof CallError.DeadlineExceeded)
    }).pipe(Effect.scoped))

  it.live("is made elsewhere if its connection is lost before its last part", () =>
    Effect.gen(function*() {
      const { connection, server } = yield* connected({}, { returns: false })
      const args = large(mib)
      const call = yield* Effect.forkChild(connection.call(feed, args))
      const peer = yield* server.accepted
      yield* begun(peer)
      peer.reset()
      const next = yield* server.accepted
      yield* Effect.forkScoped(Effect.forever(Effect.andThen(
        next.next({ type: type.part }),
        Effect.sync(() => next.tell())
      )))
      const { id, payload } = yield* next.next({ type: type.request })
      same(payload.subarray(49), args)
      next.respond(id, bytes("done"))
      assert.equal(textOf(yield* Fiber.join(call)), "done")
    }).pipe(Effect.scoped))

  it.live("is lost if its connection is lost after its last part", () =>
    Effect.gen(function*() {
      const { connection, server } = yield* connected()
      const call = yield* Effect.forkChild(Effect.flip(connection.call(feed, large(mib))))
      const peer = yield* server.accepted
      yield* peer.next({ type: type.request })
      peer.reset()
      const error = failed(yield* Fiber.join(call))
      assert.deepEqual([error.reason._tag, error.maybeExecuted], ["Lost", true])
    }).pipe(Effect.scoped))

  it.live("goes elsewhere if its server goes away before its first part, and where it was if after it", () =>
    Effect.gen(function*() {
      const servers = yield* Effect.all([streamServer({ returns: false }), streamServer()])
      // Both calls go to the first, and what comes back from there to the second.
      let picks = 0
      const balancer = Balancer.make((endpoints) => Effect.sync(() => endpoints[picks++ < 2 ? 0 : 1]!))
      const connection = yield* Connection.make(
        Resolver.constant(...servers.map(({ endpoint }) => endpoint)),
        { balancer }
      )
      // The second waits for the first: together they are more than may be under way.
      const call = (size: number) => Effect.forkChild(connection.call(feed, large(size)), { startImmediately: true })
      const first = yield* call(40 * mib)
      const peer = yield* servers[0].accepted
      const { id } = yield* begun(peer)
      const second = yield* call(30 * mib)
      yield* peer.next({ type: type.version })
      peer.write(version(11))
      assert.equal((yield* peer.next({ type: type.version })).payload[4], 13)
      const other = yield* servers[1].accepted
      yield* Effect.forkScoped(echoes(other))
      assert.equal((yield* Fiber.join(second)).length, 30 * mib)
      yield* Effect.forkScoped(Effect.forever(Effect.andThen(
        peer.next({ type: type.part }),
        Effect.sync(() => peer.tell())
      )))
      peer.tell()
      const { payload } = yield* peer.next({ type: type.request, id })
      assert.equal(payload.length, 49 + 40 * mib)
      peer.respond(id, bytes("done"))
      assert.equal(textOf(yield* Fiber.join(first)), "done")
      yield* peer.closed
    }).pipe(Effect.scoped))
})

describe("an answer in parts", () => {
  const asked = Effect.fnUntraced(function*(options?: Connection.ClientOptions) {
    const { connection, server } = yield* connected(options, { strict: false })
    const call = yield* Effect.forkChild(Effect.result(connection.call(feed, bytes(""))))
    const peer = yield* server.accepted
    const { id } = yield* peer.next({ type: type.request })
    return { connection, call, peer, id }
  })

  it.live("is put together, between messages of others", () =>
    Effect.gen(function*() {
      const { call, connection, id, peer } = yield* asked()
      const [first, ...rest] = inParts(id, type.response, large(500_000), 100_000)
      peer.write(first!)
      const small = yield* Effect.forkChild(connection.call(feed, bytes("")))
      peer.respond((yield* peer.next({ type: type.request })).id, bytes("b"))
      assert.equal(textOf(yield* Fiber.join(small)), "b")
      peer.write(...rest)
      const result = yield* Fiber.join(call)
      assert.ok(result._tag === "Success")
      same(result.success, large(500_000))
    }).pipe(Effect.scoped))

  it.live("may have an empty rest", () =>
    Effect.gen(function*() {
      const { call, id, peer } = yield* asked()
      peer.write(firstPart(id, 4, bytes("ab")), part(id, bytes("cd")), message(id, type.response))
      const result = yield* Fiber.join(call)
      assert.equal(result._tag === "Success" && textOf(result.success), "abcd")
    }).pipe(Effect.scoped))

  it.live("is dropped for an error that follows it", () =>
    Effect.gen(function*() {
      const { call, id, peer } = yield* asked()
      peer.write(firstPart(id, 1000, bytes("ab")))
      peer.fail(id, "overloaded", identity.overloaded)
      const result = yield* Fiber.join(call)
      assert.ok(result._tag === "Failure" && result.failure instanceof CallError.RemoteError)
      assert.ok(result.failure.isOverloaded)
    }).pipe(Effect.scoped))

  it.live("that is too large fails its call at its first part, which is canceled, and what follows is ignored", () =>
    Effect.gen(function*() {
      const { call, connection, id, peer } = yield* asked({ maxMessageSize: 100_000 })
      const [first, ...rest] = inParts(id, type.response, large(500_000), 100_000)
      peer.write(first!)
      yield* peer.next({ type: type.cancel, id })
      const result = yield* Fiber.join(call)
      assert.ok(result._tag === "Failure")
      const error = failed(result.failure)
      assert.deepEqual([error.reason._tag, error.maybeExecuted], ["TooLarge", true])
      assert.match(error.message, /the result of test\/Echo\.feed is 500000 bytes, expected at most 100000/)
      peer.write(...rest)
      const after = yield* Effect.forkChild(connection.call(feed, bytes("")))
      peer.respond((yield* peer.next({ type: type.request })).id, bytes("b"))
      assert.equal(textOf(yield* Fiber.join(after)), "b")
    }).pipe(Effect.scoped))

  it.effect("that gets nothing for the time of messageTimeout fails its call, which is canceled", () =>
    Effect.gen(function*() {
      const { call, connection, id, peer } = yield* asked({ messageTimeout: "5 seconds", keepAlive: false })
      peer.write(firstPart(id, 1000, bytes("ab")))
      const after = yield* Effect.forkChild(connection.call(feed, bytes("")))
      peer.respond((yield* peer.next({ type: type.request })).id, bytes("b"))
      yield* Fiber.join(after)
      yield* TestClock.adjust("5 seconds")
      yield* peer.next({ type: type.cancel, id })
      const result = yield* Fiber.join(call)
      assert.ok(result._tag === "Failure")
      const error = failed(result.failure)
      assert.equal(error.reason._tag, "Protocol")
      assert.match(error.message, /an answer of 1000 bytes in parts that got nothing for too long/)
    }).pipe(Effect.scoped))

  it.live("of a call that was given up is ignored", () =>
    Effect.gen(function*() {
      const { call, connection, id, peer } = yield* asked()
      const [first, ...rest] = inParts(id, type.response, large(500_000), 100_000)
      peer.write(first!)
      yield* Fiber.interrupt(call)
      yield* peer.next({ type: type.cancel, id })
      peer.write(...rest)
      const after = yield* Effect.forkChild(connection.call(feed, bytes("")))
      peer.respond((yield* peer.next({ type: type.request })).id, bytes("b"))
      assert.equal(textOf(yield* Fiber.join(after)), "b")
    }).pipe(Effect.scoped))
})
