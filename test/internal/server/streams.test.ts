/** What a client that knows streams may send, and what it is refused for, by hand. */
import { describe, it } from "@effect/vitest"
import { Effect, Stream } from "effect"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { message } from "../../support/raw.ts"
import * as Wire from "../../support/streamWire.ts"
import { identity, type } from "../../support/streamWire.ts"
import { bytes, calls, echo, key, never, openStreams, streams } from "./streamSupport.ts"
import { open } from "./support.ts"

const window = 65_536
const handlers = calls(streams({ echo, never }), { call: (args) => Effect.succeed(args) })
const ignoring = { strict: false }

describe("a client that breaks a rule of the connection", () => {
  const opened = Wire.open(1, key("never"), window)
  const rules: ReadonlyArray<readonly [what: string, sent: ReadonlyArray<Buffer>, problem: string]> = [
    ["says credit of 0", [opened, Wire.credit(1, 0)], "credit of 0 bytes for 1, expected more"],
    ["says credit of 3 bytes", [message(1, type.credit, Buffer.alloc(3))], "a message of type 9 with 3 bytes"],
    ["has read 0 bytes", [Wire.credit(0, 0)], "credit of 0 bytes for 0, expected more"],
    [
      "has read more than was sent",
      [Wire.credit(0, 7)],
      "that it has read 7 bytes of items and parts, while 0 are in flight"
    ],
    ["opens the stream 0", [Wire.open(0, key("never"), 1)], "a message of type 5 with id 0"],
    ["sends items for 0", [Wire.items(0, bytes("a"))], "a message of type 6 with id 0"],
    ["sends a part for 0", [Wire.firstPart(0, 100, Buffer.alloc(60))], "a message of type 7 with id 0"],
    ["ends the items of 0", [Wire.end(0)], "a message of type 8 with id 0"],
    ["sends a short open", [message(1, type.open, Buffer.alloc(52))], "an open of 52 bytes, expected at least 53"],
    ["opens a stream twice", [opened, opened], "request 1 twice"],
    ["calls with the id of a stream", [opened, Wire.request(1, key("call"))], "request 1 twice"],
    ["begins parts with the id of a stream", [opened, Wire.firstPart(1, 100, Buffer.alloc(60))], "request 1 twice"],
    [
      "sends a first part without a header",
      [Wire.firstPart(1, 100, Buffer.alloc(48))],
      "a first part of 52 bytes, expected at least 53"
    ],
    ["sends an empty part", [message(1, type.part)], "a message of type 7 with 0 bytes"],
    ["sends an empty message of items", [opened, message(1, type.items)], "a message of type 6 with 0 bytes"],
    [
      "sends parts that are longer than they say",
      [Wire.firstPart(1, 60, Buffer.alloc(49)), Wire.part(1, Buffer.alloc(12))],
      "parts of 61 bytes of a message of 60"
    ],
    [
      "sends parts that are shorter than they say",
      [Wire.firstPart(1, 60, Buffer.alloc(49)), message(1, type.request, Buffer.alloc(10))],
      "parts of 59 bytes, the last one included, of a message of 60"
    ],
    [
      "sends a short open in parts",
      [Wire.firstPart(1, 52, Buffer.alloc(49)), message(1, type.open, Buffer.alloc(3))],
      "an open of 52 bytes, expected at least 53"
    ],
    [
      "opens in parts, and opens the same again",
      [Wire.firstPart(1, 160, Buffer.alloc(60)), Wire.open(1, key("never"), 1)],
      "parts of 113 bytes, the last one included, of a message of 160"
    ],
    [
      "begins more than 64 messages in parts",
      Array.from({ length: 65 }, (_, i) => Wire.firstPart(i + 1, 1000, Buffer.alloc(60))),
      "more than 64 messages in parts at once"
    ],
    [
      "sends more than 1 MiB of items at once",
      [message(1, type.items, Buffer.alloc(1_048_577))],
      "a message of type 6 with 1048577 bytes"
    ]
  ]
  for (const [what, sent, problem] of rules) {
    it.effect(`as it ${what} loses it`, () =>
      Effect.gen(function*() {
        const { done, lines, peer } = yield* openStreams(handlers, {}, ignoring)
        peer.write(...sent)
        yield* peer.closed
        yield* done
        assert.deepEqual(
          lines.filter(({ level }) => level === "Warn").map(({ message }) => message),
          [`a connection was closed: its peer sent ${problem}`]
        )
      }))
  }

  it.effect("as it sends a message of streams, without having said that it knows them, loses it", () =>
    Effect.gen(function*() {
      for (const flags of [undefined, 1]) {
        for (const  of of[type.open, type.items, type.part, type.end, type.credit]) {
          const { client, lines } = yield* open(handlers)
          client.write(Wire.version(flags))
          client.write(message(1, of, Buffer.alloc(60)))
          yield* client.closed
          assert.ok(lines.some(({ message }) => message.endsWith(`its peer sent a message of type ${of}`)))
        }
      }
    }))
})

describe("a client that knows streams", () => {
  it.effect("is told so in every version message", () =>
    Effect.gen(function*() {
      const { peer, session } = yield* openStreams(handlers)
      peer.hello(1)
      assert.equal((yield* peer.next({ type: type.version })).payload.readUInt32LE(4), 9)
      session.leave()
      assert.equal((yield* peer.next({ type: type.version })).payload.readUInt32LE(4), 11)
    }))

  it.effect("may say so late", () =>
    Effect.gen(function*() {
      const { peer } = yield* openStreams(handlers, {}, { flags: "none" })
      peer.hello(9)
      yield* peer.next({ type: type.version })
      peer.open(1, key("echo"), window)
      peer.items(1, bytes("a"))
      yield* peer.item(1)
    }))

  it.effect("hears what was read of items and parts, whether or not their ids run", () =>
    Effect.gen(function*() {
      const { peer } = yield* openStreams(handlers)
      for (let i = 0; i < 5; i++) peer.items(7, new Uint8Array(16_384))
      yield* peer.holds("what was read", () => peer.granted(0) >= 65_536)
      peer.cancel(7)
      peer.end(7)
      peer.credit(7, 5)
      peer.request(8, key("call"), bytes("a"))
      yield* peer.answer(8)
    }))
})

describe("a stream whose client breaks its rules", () => {
  const rules: ReadonlyArray<readonly [what: string, sent: ReadonlyArray<Buffer>, problem: string]> = [
    [
      "items without credit",
      [Wire.items(1, Buffer.alloc(window)), Wire.items(1, bytes("a"))],
      "an item after 0 bytes, with credit for 0"
    ],
    ["an item past its message", [Wire.rawItems(1, Wire.u32(5), bytes("abc"))], "an item of 5 bytes in a message"],
    ["half of a length", [Wire.rawItems(1, Buffer.alloc(3))], "3 bytes where the length of an item was expected"],
    [
      "a first piece of 4 bytes",
      [Wire.rawItems(1, Wire.u32((4 | Wire.goesOn) >>> 0, 10))],
      "a first piece of 4 bytes, expected at least 5"
    ],
    [
      "pieces that are longer than their item",
      [Wire.rawItems(1, Wire.firstPiece(10, Buffer.alloc(5))), Wire.items(1, Buffer.alloc(6))],
      "a piece of 6 bytes"
    ],
    [
      "pieces that are shorter than their item",
      [Wire.rawItems(1, Wire.firstPiece(10, Buffer.alloc(5))), Wire.items(1, Buffer.alloc(4))],
      "a piece of 4 bytes"
    ],
    [
      "an empty later piece",
      [Wire.rawItems(1, Wire.firstPiece(10, Buffer.alloc(5))), Wire.items(1, Buffer.alloc(0))],
      "an empty piece of an item"
    ],
    [
      "a piece that goes on and is not the last",
      [Wire.rawItems(1, Wire.firstPiece(10, Buffer.alloc(5)), Wire.item(bytes("a")))],
      "a piece that goes on"
    ],
    [
      "the end inside an item",
      [Wire.rawItems(1, Wire.firstPiece(10, Buffer.alloc(5))), Wire.end(1)],
      "the end of the items inside an item"
    ],
    ["items after the end", [Wire.end(1), Wire.items(1, bytes("a"))], "items after the end of the items"],
    ["credit past 2^31 - 1", [Wire.credit(1, 0x7fff_ffff)], "credit of 2147483647 bytes in addition to"]
  ]
  for (const [what, sent, problem] of rules) {
    it.effect(`with ${what} ends with the reason, and nothing else does`, () =>
      Effect.gen(function*() {
        const { peer, session } = yield* openStreams(handlers, {}, ignoring)
        peer.open(1, key("never"), window)
        peer.open(2, key("echo"), window)
        peer.write(...sent)
        const error = yield* peer.error(1)
        assert.equal(error.identity, identity.flowControl)
        assert.ok(error.message.startsWith(problem), error.message)
        peer.items(2, bytes("b"))
        assert.equal((yield* peer.item(2)).toString(), "b")
        assert.equal(session.callsInFlight, 1)
      }))
  }

  it.effect("is not opened with more credit than there may be", () =>
    Effect.gen(function*() {
      const { peer } = yield* openStreams(handlers, {}, ignoring)
      peer.open(1, key("never"), 0x8000_0000)
      assert.deepEqual(yield* peer.error(1), {
        message: "a credit of 2147483648 bytes, expected at most 2147483647",
        identity: identity.flowControl
      })
    }))

  it.effect("with an item over the limit ends as too large", () =>
    Effect.gen(function*() {
      const { peer } = yield* openStreams(handlers, { maxMessageSize: 2048 }, ignoring)
      peer.open(1, key("never"), window)
      peer.open(2, key("never"), window)
      peer.items(1, new Uint8Array(2000), new Uint8Array(2049))
      assert.deepEqual(yield* peer.error(1), {
        message: "an item of 2049 bytes, which is over the limit of 2048",
        identity: identity.tooLarge
      })
      peer.rawItems(2, Wire.firstPiece(2049, Buffer.alloc(5)))
      assert.equal((yield* peer.error(2)).identity, identity.tooLarge)
    }))

  it.effect("is answered once, though its handler ends later, and its place is free then", () =>
    Effect.gen(function*() {
      const slow = () => Stream.unwrap(Effect.as(Effect.addFinalizer(() => Effect.sleep("1 second")), Stream.never))
      const { peer, session } = yield* openStreams(streams({ slow, echo }), { maxStreams: 1 }, ignoring)
      peer.open(1, key("slow"), window)
      peer.end(1)
      peer.items(1, bytes("a"))
      yield* peer.error(1)
      peer.open(2, key("echo"), window)
      assert.equal((yield* peer.error(2)).identity, identity.overloaded)
      yield* TestClock.adjust("1 second")
      assert.equal(session.callsInFlight, 0)
      peer.open(3, key("echo"), window)
      peer.end(3)
      yield* peer.next({ id: 3, type: type.response })
      assert.equal(peer.messages.filter(({ id }) => id === 1).length, 2, "credit, and one answer")
    }))
})

describe("an item that does not become whole", () => {
  it.effect("ends its stream when it has got nothing for the message timeout", () =>
    Effect.gen(function*() {
      const { peer } = yield* openStreams(handlers, { messageTimeout: "5 seconds" })
      peer.open(1, key("never"), window)
      peer.open(2, key("echo"), window)
      peer.rawItems(1, Wire.firstPiece(1000, Buffer.alloc(5)))
      peer.items(2, bytes("a"))
      yield* peer.item(2)
      yield* TestClock.adjust("4 seconds")
      peer.rawItems(1, Wire.laterPiece(Buffer.alloc(5)))
      peer.items(2, bytes("b"))
      yield* peer.item(2)
      yield* TestClock.adjust("4 seconds")
      assert.ok(!peer.messages.some(({ id, type: of }) => id === 1 && of === type.responseError))
      yield* TestClock.adjust("1 second")
      assert.deepEqual(yield* peer.error(1), {
        message: "an item that got nothing for too long",
        identity: identity.overloaded
      })
      peer.items(2, bytes("c"))
      yield* peer.item(2)
    }))
})
