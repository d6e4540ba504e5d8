/**
 * Servers that break the rules of streams: what ends their connection, what ends one stream only, and what a client
 * ignores.
 */
import { describe, it } from "@effect/vitest"
import { Effect, Fiber, Queue, Stream } from "effect"
import type { CallError, Connection } from "effect-call"
import * as assert from "node:assert/strict"
import * as Networks from "../support/networks.ts"
import { message } from "../support/raw.ts"
import { type StreamPeer, type StreamPeerOptions, streamServer } from "../support/streamPeer.ts"
import * as Wire from "../support/streamWire.ts"
import { flag, type } from "../support/streamWire.ts"
import { echo, feed, mirror } from "./streams.ts"

const some = Buffer.from("some bytes")
const none = Buffer.alloc(0)

/** A client with a call (id 1) and a stream (id 2) on one connection, served by hand. */
const opened = Effect.fnUntraced(function*(
  options?: StreamPeerOptions,
  client?: Connection.ClientOptions,
  sends?: Stream.Stream<Uint8Array>
) {
  const server = yield* streamServer(options)
  const connection = yield* Networks.connect([server.endpoint], client)
  const call = yield* Effect.forkChild(Effect.flip(connection.call(echo, some)), { startImmediately: true })
  const peer = yield* server.accepted
  yield* peer.next({ id: 1, type: type.request })
  const items = yield* Queue.unbounded<Uint8Array>()
  const stream = connection.stream(
    sends === undefined ? feed : mirror,
    some,
    sends === undefined ? {} : { items: sends }
  )
  const streaming = yield* Effect.forkChild(
    Effect.flip(Stream.runForEach(stream, (item) => Queue.offer(items, item))),
    { startImmediately: true }
  )
  const { payload } = yield* peer.next({ id: 2, type: type.open })
  return { server, connection, call, peer, items, streaming, credit: payload.readUInt32LE(49) }
})

/** The connection is as good as before: a call that is made now is answered on it. */
const stillGood = Effect.fnUntraced(function*(connection: Connection.Connection, peer: StreamPeer, id: number) {
  const calling = yield* Effect.forkChild(connection.call(echo, some), { startImmediately: true })
  yield* peer.next({ id, type: type.request })
  peer.respond(id, Buffer.from("beside it"))
  assert.equal(Buffer.from(yield* Fiber.join(calling)).toString(), "beside it")
  assert.ok(!peer.isClosed)
})

const isCommunication = (
  error: CallError.CallError,
  reason: string
): error is Extract<CallError.CallError, { readonly _tag: "CommunicationError" }> =>
  error._tag === "CommunicationError" && error.reason._tag === reason

describe("a client closes the connection of a server that sends", () => {
  const begun = (id: number) => Wire.firstPart(id, 200, Buffer.alloc(100))
  const refused: ReadonlyArray<readonly [what: string, sends: ReadonlyArray<Buffer>, reason: RegExp]> = [
    ["an open", [Wire.open(2, feed, 1000)], /type 5/],
    ["an end", [Wire.end(2)], /type 8/],
    ["a type after the last", [message(2, 10)], /type 10/],
    ["credit of 3 bytes", [message(2, type.credit, Buffer.alloc(3, 1))], /type 9|credit/],
    ["credit of 5 bytes", [message(2, type.credit, Buffer.alloc(5, 1))], /type 9|credit/],
    ["credit of 0", [Wire.credit(2, 0)], /credit/],
    ["credit of 0 for an id that does not run", [Wire.credit(77, 0)], /credit/],
    ["credit of 0 for the connection", [Wire.credit(0, 0)], /credit|read/],
    ["more bytes as read than are in flight", [Wire.credit(0, 1)], /in flight|read/],
    ["items with id 0", [Wire.items(0, some)], /id 0|with id/],
    ["a part with id 0", [begun(0)], /id 0|with id/],
    ["a first part of 3 bytes", [message(1, type.part, Buffer.alloc(3, 1))], /part/],
    ["an empty first part", [message(1, type.part)], /0 bytes|part/],
    ["an empty later part", [begun(1), Wire.part(1, none)], /0 bytes|part/],
    ["parts of more than their total", [begun(1), Wire.part(1, Buffer.alloc(101))], /part|total/],
    ["a first part of more than its total", [Wire.firstPart(1, 9, some)], /part|total/],
    ["a response whose parts are less than their total", [begun(1), Wire.response(1, Buffer.alloc(99))], /part|total/],
    ["a response whose parts are more than their total", [begun(1), Wire.response(1, Buffer.alloc(101))], /part|total/],
    ["items of more than 1 MiB", [Wire.items(2, Buffer.alloc(1_048_573))], /1048577 bytes/],
    ["a part of more than 1 MiB", [Wire.firstPart(1, 2_000_000, Buffer.alloc(1_048_573))], /1048577 bytes/],
    ["items without bytes", [message(2, type.items)], /0 bytes|items/],
    ["items without bytes for no stream", [message(77, type.items)], /0 bytes|items/]
  ]
  for (const [what, sends, reason] of refused) {
    it.live(`${what}: what is on it ends in CommunicationError Lost, which says why`, () =>
      Effect.gen(function*() {
        const { call, connection, peer, server, streaming } = yield* opened()
        peer.write(Buffer.concat(sends))
        yield* peer.closed
        for (const error of [yield* Fiber.join(call), yield* Fiber.join(streaming)]) {
          assert.ok(isCommunication(error, "Lost"), `${error._tag}: ${error.message}`)
          assert.equal(error.maybeExecuted, true)
          assert.match(error.message, reason)
        }
        // The next call has another connection.
        const calling = yield* Effect.forkChild(connection.call(echo, some), { startImmediately: true })
        const next = yield* server.accepted
        yield* next.next({ id: 1, type: type.request })
        next.respond(1, some)
        assert.deepEqual(yield* Fiber.join(calling), new Uint8Array(some))
      }).pipe(Effect.scoped))
  }

  it.live("a 65th message in parts", () =>
    Effect.gen(function*() {
      const { connection, peer, server, streaming } = yield* opened()
      const calls = yield* Effect.forEach(
        Array.from({ length: 64 }),
        () => Effect.forkChild(Effect.flip(connection.call(echo, some)), { startImmediately: true })
      )
      yield* peer.next({ id: 66, type: type.request })
      const ids = [1, ...Array.from({ length: 64 }, (_, index) => index + 3)]
      for (const id of ids.slice(0, 64)) peer.write(begun(id))
      yield* peer.until("all requests", () => peer.rules.seen.get(type.request) === 65 ? true : undefined)
      assert.ok(!peer.isClosed, "64 are allowed")
      peer.write(begun(ids[64]!))
      yield* peer.closed
      const errors = [yield* Fiber.join(streaming), ...(yield* Effect.forEach(calls, (call) => Fiber.join(call)))]
      for (const error of errors) assert.ok(isCommunication(error, "Lost"), error.message)
      assert.equal(server.peers.length, 1)
    }).pipe(Effect.scoped))

  const without: ReadonlyArray<readonly [says: string, flags: number | "none"]> = [
    ["says its version as the reference does", "none"],
    ["understands flags, and not streams", flag.understood],
    ["has the flag of streams, and does not understand flags", flag.streams]
  ]
  const ofStreams: ReadonlyArray<readonly [what: string, bytes: Buffer]> = [
    ["items", Wire.items(1, some)],
    ["a part", begun(1)],
    ["credit", Wire.credit(1, 10)],
    ["credit for the connection", Wire.credit(0, 10)]
  ]
  for (const [says, flags] of without) {
    for (const [what, bytes] of ofStreams) {
      it.live(`${what}, and ${says}`, () =>
        Effect.gen(function*() {
          const server = yield* streamServer({ flags })
          const connection = yield* Networks.connect([server.endpoint])
          const call = yield* Effect.forkChild(Effect.flip(connection.call(echo, some)), { startImmediately: true })
          const peer = yield* server.accepted
          yield* peer.next({ id: 1, type: type.request })
          peer.write(bytes)
          yield* peer.closed
          const error = yield* Fiber.join(call)
          assert.ok(isCommunication(error, "Lost"), error.message)
          assert.match(error.message, new RegExp(`a message of type ${bytes[8]}`))
        }).pipe(Effect.scoped))
    }
  }
})

describe("a client cancels a stream, and nothing else, of a server that sends", () => {
  interface Ended {
    readonly what: string
    readonly sends: (peer: StreamPeer, credit: number) => void
    /** How many items come before. */
    readonly items?: number
    readonly reason?: "Protocol" | "TooLarge"
  }
  const raw = (...payloads: ReadonlyArray<ReadonlyArray<Buffer>>) => (peer: StreamPeer) => {
    for (const payload of payloads) peer.rawItems(2, ...payload)
  }
  const ended: ReadonlyArray<Ended> = [
    {
      what: "an item without credit",
      // In one message, so that nothing is granted between.
      sends: (peer, credit) => peer.rawItems(2, Wire.item(Buffer.alloc(credit - 4)), Wire.item(none))
    },
    { what: "a length past its message", sends: raw([Wire.item(some)], [Wire.u32(11), some]), items: 1 },
    { what: "the longest length that there is", sends: raw([Wire.u32(0x7fff_ffff), some]) },
    { what: "a length of 3 bytes", sends: raw([Wire.item(some)], [Buffer.alloc(3)]), items: 1 },
    { what: "a piece's length past its message", sends: raw([Wire.u32((Wire.goesOn | 20) >>> 0, 100), some]) },
    { what: "a first piece of 4 bytes", sends: raw([Wire.firstPiece(100, none)]) },
    { what: "a first piece without bytes", sends: raw([Wire.u32(Wire.goesOn)]) },
    { what: "a first piece of more than its item", sends: raw([Wire.firstPiece(9, some)]) },
    { what: "a later piece of more than its item", sends: raw([Wire.firstPiece(15, some)], [Wire.laterPiece(some)]) },
    { what: "a last piece of more than its item", sends: raw([Wire.firstPiece(15, some)], [Wire.item(some)]) },
    { what: "a last piece of less than its item", sends: raw([Wire.firstPiece(25, some)], [Wire.item(some)]) },
    { what: "an empty later piece", sends: raw([Wire.firstPiece(15, some)], [Wire.laterPiece(none)]) },
    { what: "an empty last piece", sends: raw([Wire.firstPiece(15, some)], [Wire.item(none)]) },
    {
      what: "an item after a piece that goes on, in its message",
      sends: raw([Wire.firstPiece(20, some), Wire.item(some)])
    },
    {
      what: "credit past 2^31 - 1",
      sends: (peer) => {
        peer.credit(2, 0x7fff_ffff)
        peer.credit(2, 0x7fff_ffff)
      }
    },
    {
      what: "an item over the limit of messages",
      sends: raw([Wire.firstPiece(104_857_601, some)]),
      reason: "TooLarge"
    },
    { what: "an item of 4 GiB", sends: raw([Wire.firstPiece(0xffff_ffff, some)]), reason: "TooLarge" }
  ]
  for (const { items: before = 0, reason = "Protocol", sends, what } of ended) {
    it.live(`${what}: it fails with CommunicationError ${reason}`, () =>
      Effect.gen(function*() {
        const { call, connection, credit, items, peer, streaming } = yield* opened({}, {}, Stream.never)
        assert.equal(credit, 65_536)
        sends(peer, credit)
        yield* peer.next({ id: 2, type: type.cancel })
        const error = yield* Fiber.join(streaming)
        assert.ok(isCommunication(error, reason), `${error._tag}: ${error.message}`)
        assert.equal(error.maybeExecuted, true)
        assert.ok(error.message.length > 20, error.message)
        if (before > 0) assert.equal(yield* Queue.size(items), before, "what came before it was delivered")
        // What still comes for it is ignored, and counts as read.
        const read = peer.granted(0)
        peer.items(2, Buffer.alloc(100_000))
        peer.credit(2, 100)
        peer.respond(2)
        yield* stillGood(connection, peer, 3)
        yield* peer.holds("what was ignored to count as read", () => peer.granted(0) >= read + 65_536)
        peer.respond(1, some)
        yield* Fiber.interrupt(call)
      }).pipe(Effect.scoped))
  }

  it.live("its end inside an item: it fails with CommunicationError Protocol, and is not canceled", () =>
    Effect.gen(function*() {
      const { connection, items, peer, streaming } = yield* opened()
      peer.items(2, some)
      peer.rawItems(2, Wire.firstPiece(20, some))
      peer.respond(2)
      const error = yield* Fiber.join(streaming)
      assert.ok(isCommunication(error, "Protocol"), `${error._tag}: ${error.message}`)
      assert.equal(yield* Queue.size(items), 1)
      yield* stillGood(connection, peer, 3)
      assert.equal(peer.rules.seen.get(type.cancel), undefined)
    }).pipe(Effect.scoped))

  it.live("an item over the client's own limit, whose bytes are skipped", () =>
    Effect.gen(function*() {
      const { connection, items, peer, streaming } = yield* opened({}, { maxMessageSize: 20_000 })
      peer.items(2, Buffer.alloc(20_000))
      peer.items(2, Buffer.alloc(20_001))
      const error = yield* Fiber.join(streaming)
      assert.ok(isCommunication(error, "TooLarge"), `${error._tag}: ${error.message}`)
      assert.match(error.message, /an item of 20001 bytes, which is over the limit of 20000/)
      assert.equal(yield* Queue.size(items), 1)
      yield* peer.next({ id: 2, type: type.cancel })
      yield* stillGood(connection, peer, 3)
    }).pipe(Effect.scoped))

  it.live("many small items in a message that is over the client's limit: they are taken", () =>
    Effect.gen(function*() {
      const { connection, items, peer } = yield* opened({}, { maxMessageSize: 20_000 })
      peer.items(2, ...Array.from({ length: 50 }, () => Buffer.alloc(1000)))
      yield* stillGood(connection, peer, 3)
      assert.equal(yield* Queue.size(items), 50)
    }).pipe(Effect.scoped))
})

describe("a client ignores", () => {
  const ignored: ReadonlyArray<readonly [what: string, bytes: (id: number) => Buffer, read: number]> = [
    ["items", (id) => Wire.items(id, Buffer.alloc(70_000)), 70_004],
    ["items that break the rules", (id) => Wire.rawItems(id, Buffer.alloc(70_000, 0xff)), 70_000],
    ["credit", (id) => Wire.credit(id, 1000), 0],
    ["credit past 2^31 - 1", (id) => Wire.credit(id, 0xffff_ffff), 0],
    ["a response", (id) => Wire.response(id, some), 0],
    ["an error", (id) => Wire.responseError(id, "no", "no"), 0],
    [
      "a response in parts",
      (id) => Buffer.concat(Wire.inParts(id, type.response, Buffer.alloc(70_000), 60_000)),
      60_004
    ]
  ]
  for (const [what, bytes, read] of ignored) {
    it.live(`${what} for an id that has never run, or runs no more`, () =>
      Effect.gen(function*() {
        const { call, connection, peer, streaming } = yield* opened()
        yield* Fiber.interrupt(call)
        yield* Fiber.interrupt(streaming)
        yield* peer.next({ id: 1, type: type.cancel })
        yield* peer.next({ id: 2, type: type.cancel })
        for (const id of [1, 2, 77]) peer.write(bytes(id))
        yield* stillGood(connection, peer, 3)
        if (read > 0) yield* peer.holds("it to count as read", () => peer.granted(0) > 3 * read - 65_536)
        assert.ok(peer.granted(0) <= 3 * read)
      }).pipe(Effect.scoped))
  }

  it.live("what comes behind an error: neither items nor a second end changes it", () =>
    Effect.gen(function*() {
      const { connection, items, peer, streaming } = yield* opened()
      peer.items(2, some)
      peer.fail(2, "no more", "(test:no-more)")
      peer.items(2, some)
      peer.respond(2)
      const error = yield* Fiber.join(streaming)
      assert.ok(error._tag === "RemoteError", error._tag)
      assert.deepEqual(error.chain, [{ message: "no more", identity: "(test:no-more)" }])
      assert.equal(yield* Queue.size(items), 1, "what was sent before a failure is delivered before it")
      yield* stillGood(connection, peer, 3)
    }).pipe(Effect.scoped))
})
