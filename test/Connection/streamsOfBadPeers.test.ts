/**
 * Servers that break the rules of streams: what ends one stream, and what ends the connection.
 */
import { describe, it } from "@effect/vitest"
import { Effect, Fiber, Stream } from "effect"
import { CallError, type Connection } from "effect-call"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { message } from "../support/raw.ts"
import type { StreamPeer } from "../support/streamPeer.ts"
import {
  credit,
  firstPart,
  firstPiece,
  inParts,
  item,
  items,
  laterPiece,
  rawItems,
  type,
  u32
} from "../support/streamWire.ts"
import { bytes, connected, feed, opened, textOf, texts } from "./streamsSupport.ts"

const small = { maxMessageSize: 10_000, streamWindow: 4096 }

/** The error of a call or stream that fails with a CommunicationError. */
const communicationError = (error: unknown): CallError.CommunicationError => {
  assert.ok(error instanceof CallError.CommunicationError, String(error))
  return error
}

/** Whether another call on the connection is answered. */
const goesOn = (connection: Connection.Connection, peer: StreamPeer) =>
  Effect.gen(function*() {
    const call = yield* Effect.forkChild(connection.call(feed, bytes("")))
    const { id } = yield* peer.next({ type: type.request })
    peer.respond(id, bytes("yes"))
    assert.equal(textOf(yield* Fiber.join(call)), "yes")
  })

describe("a stream whose server breaks its rules", () => {
  const rules: ReadonlyArray<readonly [what: string, sent: (id: number) => ReadonlyArray<Buffer>, problem: RegExp]> = [
    [
      "sends an item without credit",
      (id) => [items(id, Buffer.alloc(4100), bytes("x"))],
      /an item after 4104 bytes, with credit for 4096/
    ],
    [
      "sends an item of a length past its message",
      (id) => [rawItems(id, u32(5), bytes("abcd"))],
      /an item of 5 bytes in a message that has 4 left/
    ],
    ["sends half a length", (id) => [rawItems(id, Buffer.from([1, 0]))], /2 bytes where the length of an item/],
    [
      "sends a first piece of 4 bytes",
      (id) => [rawItems(id, u32(0x8000_0004, 10))],
      /a first piece of 4 bytes, expected at least 5/
    ],
    [
      "sends more pieces than the item is long",
      (id) => [rawItems(id, firstPiece(4, bytes("ab"))), rawItems(id, laterPiece(bytes("cde")))],
      /a piece of 3 bytes that goes on, of an item that has 2 left/
    ],
    [
      "sends fewer pieces than the item is long",
      (id) => [rawItems(id, firstPiece(6, bytes("ab"))), rawItems(id, item(bytes("c")))],
      /a piece of 1 bytes that is the last, of an item that has 4 left/
    ],
    [
      "sends an empty piece",
      (id) => [rawItems(id, firstPiece(6, bytes("ab"))), rawItems(id, laterPiece(bytes("")))],
      /an empty piece of an item/
    ],
    [
      "sends a piece that goes on, and another item behind it",
      (id) => [rawItems(id, firstPiece(6, bytes("ab")), item(bytes("c")))],
      /a piece that goes on, with 5 bytes behind it/
    ],
    ["ends inside an item", (id) => [rawItems(id, firstPiece(6, bytes("ab"))), message(id, 2)], /inside an item/],
    [
      "grants more than can be counted",
      (id) => [credit(id, 0x7fff_ffff), credit(id, 0x7fff_ffff)],
      /credit of 2147483647 bytes in addition to/
    ]
  ]
  for (const [what, sent, problem] of rules) {
    it.live(`since it ${what} is canceled and fails, and the connection goes on`, () =>
      Effect.gen(function*() {
        const { connection, server } = yield* connected(small, { strict: false })
        const stream = connection.stream(feed, bytes(""), { items: Stream.never })
        const reading = yield* Effect.forkChild(Effect.flip(texts(stream)))
        const peer = yield* server.accepted
        const { id } = yield* peer.next({ type: type.open })
        peer.write(...sent(id))
        // An answer has ended it for the server.
        if (!what.startsWith("ends")) yield* peer.next({ type: type.cancel, id })
        const error = communicationError(yield* Fiber.join(reading))
        assert.deepEqual([error.reason._tag, error.maybeExecuted, error.endpoint], [
          "Protocol",
          true,
          server.endpoint.address
        ])
        assert.match(error.message, /^test\/Echo\.feed: tcp:\/\/.* sent /)
        assert.match(error.message, problem)
        yield* goesOn(connection, peer)
      }).pipe(Effect.scoped))
  }

  it.live("since it sends an item that is too large is canceled, and its bytes are dropped", () =>
    Effect.gen(function*() {
      const { connection, server } = yield* connected(small, { strict: false })
      const { next, peer, id } = yield* opened(server, connection.stream(feed, bytes("")))
      peer.write(rawItems(id, firstPiece(10_001, bytes("ab"))))
      yield* peer.next({ type: type.cancel, id })
      const error = communicationError(yield* Effect.flip(next))
      assert.deepEqual([error.reason._tag, error.maybeExecuted], ["TooLarge", true])
      assert.match(error.message, /an item of 10001 bytes, which is over the limit of 10000/)
      peer.write(rawItems(id, laterPiece(bytes("cd"))))
      yield* goesOn(connection, peer)
    }).pipe(Effect.scoped))

  it.effect("since an item gets nothing for the time of messageTimeout is canceled", () =>
    Effect.gen(function*() {
      const { connection, server } = yield* connected({ ...small, messageTimeout: "5 seconds" }, { strict: false })
      const { next, peer, id } = yield* opened(server, connection.stream(feed, bytes("")))
      peer.items(id, bytes("a"))
      peer.write(rawItems(id, firstPiece(6, bytes("ab"))))
      assert.deepEqual(yield* next, ["a"])
      yield* goesOn(connection, peer)
      yield* TestClock.adjust("5 seconds")
      yield* peer.next({ type: type.cancel, id })
      const error = communicationError(yield* Effect.flip(next))
      assert.match(error.message, /an item that got nothing for too long/)
      yield* goesOn(connection, peer)
    }).pipe(Effect.scoped))
})

describe("a connection", () => {
  const refused: ReadonlyArray<readonly [what: string, sent: (id: number) => Buffer, problem: RegExp]> = [
    ["an empty message of items", (id) => rawItems(id), /a message of type 6 with 0 bytes/],
    [
      "a message of items over 1 MiB",
      (id) => message(id, 6, Buffer.alloc(1_048_577)),
      /a message of type 6 with 1048577 bytes/
    ],
    ["items with id 0", () => items(0, bytes("a")), /items with id 0/],
    ["a part with id 0", () => firstPart(0, 10, bytes("a")), /a part with id 0/],
    ["an empty part", (id) => message(id, 7), /a message of type 7 with 0 bytes/],
    [
      "a first part of 3 bytes",
      (id) => message(id, 7, Buffer.alloc(3)),
      /a first part of 3 bytes, expected at least 4/
    ],
    [
      "parts of more bytes than the message has",
      (id) => Buffer.concat([firstPart(id, 4, bytes("abc")), message(id, 7, bytes("de"))]),
      /parts of 5 bytes of a message of 4/
    ],
    [
      "parts of fewer bytes than the message has",
      (id) => Buffer.concat([firstPart(id, 10, bytes("abc")), message(id, 2, bytes("de"))]),
      /parts of 5 bytes, the last one included, of a message of 10/
    ],
    ["credit of 0 bytes", (id) => credit(id, 0), /credit of 0 bytes/],
    ["credit of 3 bytes' length", (id) => message(id, 9, Buffer.alloc(3)), /a message of type 9 with 3 bytes/],
    [
      "more read than is in flight",
      () => credit(0, 1000),
      /that it has read 1000 bytes of items and parts, while 0 are/
    ],
    ["an end", (id) => message(id, 8), /a message of type 8/],
    ["an open", (id) => message(id, 5), /a message of type 5/]
  ]
  for (const [what, sent, problem] of refused) {
    it.live(`is closed by a client that gets ${what}`, () =>
      Effect.gen(function*() {
        const { connection, server } = yield* connected(undefined, { strict: false })
        const { next, peer, id } = yield* opened(server, connection.stream(feed, bytes("")))
        peer.write(sent(id))
        yield* peer.closed
        const error = communicationError(yield* Effect.flip(next))
        assert.equal(error.reason._tag, "Lost")
        assert.match(error.message, problem)
      }).pipe(Effect.scoped))
  }

  it.live("is closed by a client that gets a 65th answer in parts at once", () =>
    Effect.gen(function*() {
      const { connection, server } = yield* connected(undefined, { strict: false })
      const calls = yield* Effect.forkChild(
        Effect.forEach(Array.from({ length: 65 }), () => Effect.flip(connection.call(feed, bytes(""))), {
          concurrency: "unbounded"
        })
      )
      const peer = yield* server.accepted
      for (let n = 0; n < 65; n++) {
        const { id } = yield* peer.next({ type: type.request })
        peer.write(firstPart(id, 100, bytes("a")))
      }
      yield* peer.closed
      for (const error of yield* Fiber.join(calls)) assert.match(communicationError(error).message, /more than 64/)
    }).pipe(Effect.scoped))

  for (const  of of[5, 6, 7, 8, 9]) {
    it.live(`whose server does not say that it understands streams is closed if that sends a message of type ${of}`, () =>
      Effect.gen(function*() {
        const { connection, server } = yield* connected(undefined, { flags: 1, strict: false })
        const call = yield* Effect.forkChild(Effect.flip(connection.call(feed, bytes(""))))
        const peer = yield* server.accepted
        const { id } = yield* peer.next({ type: type.request })
        peer.write(message(id, of, Buffer.alloc(4, 1)))
        yield* peer.closed
        assert.match(communicationError(yield* Fiber.join(call)).message, new RegExp(`a message of type ${of}`))
      }).pipe(Effect.scoped))
  }

  it.live("goes on where items, parts and credit come for ids that do not run; they count as read", () =>
    Effect.gen(function*() {
      const { connection, server } = yield* connected(undefined, { strict: false })
      const { next, peer, id } = yield* opened(server, connection.stream(feed, bytes("")))
      const unknown = id + 1000
      const large = Buffer.alloc(30_000)
      peer.write(
        items(unknown, large),
        ...inParts(unknown, 2, large, 20_000),
        credit(unknown, 5),
        items(unknown, large)
      )
      yield* peer.holds("what was read", () => peer.granted(0) >= 65_536)
      peer.items(id, bytes("a"))
      assert.deepEqual(yield* next, ["a"])
    }).pipe(Effect.scoped))
})
