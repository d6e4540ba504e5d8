/**
 * Clients that break the rules of streams: what ends their connection, what ends one stream only, and what a server
 * ignores.
 */
import { describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as assert from "node:assert/strict"
import { message } from "../support/raw.ts"
import type { StreamPeer } from "../support/streamPeer.ts"
import * as Wire from "../support/streamWire.ts"
import { flag, identity, type } from "../support/streamWire.ts"
import {
  echo,
  endless,
  feed,
  goesOn,
  hang,
  makeLog,
  serveStreams,
  silent,
  sink,
  u32s,
  until,
  withCall
} from "./streams.ts"

const some = Buffer.from("some bytes")
const none = Buffer.alloc(0)

/** What is logged when a connection is closed for its peer's fault. */
const refusal = /^a connection was closed: its peer sent /

describe("a server closes the connection of a client that sends", () => {
  interface Refused {
    readonly what: string
    readonly sends: ReadonlyArray<Buffer>
    /** Of the line in the log. */
    readonly reason: RegExp
  }
  const requestPart = Wire.requestPayload(echo, Buffer.alloc(200))
  const openPart = Wire.openPayload(silent, 1000, Buffer.alloc(200))
  const begun = (id: number) => Wire.firstPart(id, requestPart.length, requestPart.subarray(0, 100))
  const refused: ReadonlyArray<Refused> = [
    { what: "credit of 3 bytes", sends: [message(2, type.credit, Buffer.alloc(3, 1))], reason: /type 9|credit/ },
    { what: "credit of 5 bytes", sends: [message(2, type.credit, Buffer.alloc(5, 1))], reason: /type 9|credit/ },
    { what: "credit without bytes", sends: [message(2, type.credit)], reason: /type 9|credit/ },
    { what: "credit of 0 for a stream", sends: [Wire.open(2, silent, 1000), Wire.credit(2, 0)], reason: /credit/ },
    { what: "credit of 0 for an id that does not run", sends: [Wire.credit(7, 0)], reason: /credit/ },
    { what: "credit of 0 for the connection", sends: [Wire.credit(0, 0)], reason: /credit|read/ },
    { what: "more bytes as read than are in flight", sends: [Wire.credit(0, 1)], reason: /in flight|read/ },
    { what: "an open with id 0", sends: [Wire.open(0, silent, 1000)], reason: /id 0|with id/ },
    { what: "items with id 0", sends: [Wire.items(0, some)], reason: /id 0|with id/ },
    { what: "a part with id 0", sends: [begun(0)], reason: /id 0|with id/ },
    { what: "an end with id 0", sends: [Wire.end(0)], reason: /id 0|with id/ },
    { what: "an open of 52 bytes", sends: [message(2, type.open, openPart.subarray(0, 52))], reason: /52 bytes/ },
    { what: "an empty open", sends: [message(2, type.open)], reason: /0 bytes/ },
    { what: "a first part of 3 bytes", sends: [message(2, type.part, Buffer.alloc(3, 1))], reason: /part/ },
    {
      what: "a first part of 52 bytes",
      sends: [Wire.firstPart(2, 100, requestPart.subarray(0, 48))],
      reason: /part/
    },
    { what: "an empty first part", sends: [message(2, type.part)], reason: /0 bytes|part/ },
    { what: "an empty later part", sends: [begun(2), Wire.part(2, none)], reason: /0 bytes|part/ },
    {
      what: "parts of more than their total",
      sends: [begun(2), Wire.part(2, Buffer.alloc(requestPart.length - 99))],
      reason: /part|total/
    },
    {
      what: "a first part of more than its total",
      sends: [Wire.firstPart(2, 60, requestPart.subarray(0, 61))],
      reason: /part|total/
    },
    {
      what: "a request whose parts are less than their total",
      sends: [begun(2), message(2, type.request, requestPart.subarray(101))],
      reason: /part|total/
    },
    {
      what: "a request whose parts are more than their total",
      sends: [begun(2), message(2, type.request, Buffer.concat([requestPart.subarray(100), some]))],
      reason: /part|total/
    },
    {
      what: "an open whose parts are less than their total",
      sends: [Wire.firstPart(2, openPart.length, openPart.subarray(0, 100)), message(2, type.open, some)],
      reason: /part|total/
    },
    { what: "items of more than 1 MiB", sends: [Wire.items(2, Buffer.alloc(1_048_573))], reason: /1048577 bytes/ },
    {
      what: "a part of more than 1 MiB",
      sends: [Wire.firstPart(2, 2_000_000, Buffer.alloc(1_048_573))],
      reason: /1048577 bytes/
    },
    {
      what: "items without bytes",
      sends: [Wire.open(2, silent, 1000), message(2, type.items)],
      reason: /0 bytes|items/
    },
    { what: "items without bytes for no stream", sends: [message(7, type.items)], reason: /0 bytes|items/ },
    {
      what: "a 65th message in parts",
      sends: Array.from({ length: 65 }, (_, index) => begun(index + 2)),
      reason: /part/
    },
    {
      what: "a request with the id of a call that runs",
      sends: [Wire.request(1, echo)],
      reason: /request 1 twice|1 twice/
    },
    { what: "an open with the id of a call that runs", sends: [Wire.open(1, silent, 1000)], reason: /1 twice/ },
    { what: "a first part with the id of a call that runs", sends: [begun(1)], reason: /1 twice/ },
    {
      what: "a request with the id of a stream that runs",
      sends: [Wire.open(2, silent, 1000), Wire.request(2, echo)],
      reason: /2 twice/
    },
    {
      what: "an open with the id of a stream that runs",
      sends: [Wire.open(2, silent, 1000), Wire.open(2, silent, 1000)],
      reason: /2 twice/
    },
    {
      what: "a first part with the id of a stream that runs",
      sends: [Wire.open(2, silent, 1000), begun(2)],
      reason: /2 twice/
    },
    { what: "a response", sends: [Wire.response(2, some)], reason: /type 2/ },
    { what: "a type after the last", sends: [message(2, 10, some)], reason: /type 10/ }
  ]

  for (const { reason, sends, what } of refused) {
    it.live(`${what}, and says why in its log`, () => {
      const log = makeLog()
      return Effect.gen(function*() {
        const server = yield* serveStreams()
        const peer = yield* withCall(server, { strict: false })
        const other = yield* withCall(server)
        peer.write(Buffer.concat(sends))
        yield* peer.closed
        yield* until("what ran on it to be interrupted", () => server.seen.hanging === 1 && server.seen.running === 0)
        const lines = log.lines.filter((line) => refusal.test(line))
        assert.equal(lines.length, 1, log.lines.join("\n"))
        assert.match(lines[0]!, reason)
        yield* goesOn(other, server.seen, 2)
      }).pipe(Effect.scoped, Effect.provide(log.layer))
    })
  }

  it.live("more bytes as read than it was sent, where some were", () => {
    const log = makeLog()
    return Effect.gen(function*() {
      const server = yield* serveStreams()
      const peer = yield* withCall(server, { returns: false, strict: false })
      peer.open(2, feed, 65_536, u32s(1, 96))
      yield* peer.answer(2)
      peer.credit(0, 100)
      yield* goesOn(peer, server.seen, 3)
      peer.credit(0, 1)
      yield* peer.closed
      assert.equal(log.lines.length, 1)
    }).pipe(Effect.scoped, Effect.provide(log.layer))
  })

  const without: ReadonlyArray<readonly [says: string, flags: number | "none"]> = [
    ["says its version as the reference does", "none"],
    ["understands flags, and not streams", flag.understood],
    ["has the flag of streams, and does not understand flags", flag.streams]
  ]
  const ofStreams: ReadonlyArray<readonly [what: string, bytes: Buffer]> = [
    ["an open", Wire.open(2, silent, 1000)],
    ["items", Wire.items(2, some)],
    ["a part", begun(2)],
    ["an end", Wire.end(2)],
    ["credit", Wire.credit(2, 10)],
    ["credit for the connection", Wire.credit(0, 10)]
  ]
  for (const [says, flags] of without) {
    for (const [what, bytes] of ofStreams) {
      it.live(`${what}, and ${says}`, () => {
        const log = makeLog()
        return Effect.gen(function*() {
          const server = yield* serveStreams()
          const peer = yield* withCall(server, { flags })
          peer.write(bytes)
          yield* peer.closed
          yield* until("the call on it to be interrupted", () => server.seen.hanging === 0)
          assert.match(log.lines.join("\n"), new RegExp(`a message of type ${bytes[8]}`))
          assert.equal(server.seen.begun, 0)
        }).pipe(Effect.scoped, Effect.provide(log.layer))
      })
    }
  }

  it.live("an open as its first message", () => {
    const log = makeLog()
    return Effect.gen(function*() {
      const server = yield* serveStreams()
      const socket = yield* Effect.orDie(server.endpoint.dial)
      socket.on("error", () => {})
      socket.resume()
      socket.write(Wire.open(1, silent, 1000))
      yield* until("the connection to close", () => socket.closed)
      assert.match(log.lines.join("\n"), /a message of type 5/)
      assert.equal(server.seen.begun, 0)
    }).pipe(Effect.scoped, Effect.provide(log.layer))
  })
})

describe("a server ends the stream of a client, and nothing else, that sends", () => {
  interface Ended {
    readonly what: string
    readonly sends: (peer: StreamPeer, id: number) => void
    readonly identity?: string
  }
  const raw = (...payloads: ReadonlyArray<ReadonlyArray<Buffer>>) => (peer: StreamPeer, id: number) => {
    for (const payload of payloads) peer.rawItems(id, ...payload)
  }
  const ended: ReadonlyArray<Ended> = [
    { what: "an item without credit", sends: raw([Wire.item(Buffer.alloc(65_532))], [Wire.item(none)]) },
    {
      what: "an item without credit in the same message",
      sends: raw([Wire.item(Buffer.alloc(65_532)), Wire.item(none)])
    },
    {
      what: "an item after one that took more than there was",
      sends: raw([Wire.item(Buffer.alloc(65_000))], [Wire.item(Buffer.alloc(5000))], [Wire.item(none)])
    },
    { what: "a length past its message", sends: raw([Wire.u32(11), some]) },
    { what: "the longest length that there is", sends: raw([Wire.u32(0x7fff_ffff), some]) },
    { what: "a length of 3 bytes", sends: raw([Wire.item(some), Buffer.alloc(3)]) },
    { what: "a piece's length past its message", sends: raw([Wire.u32((Wire.goesOn | 20) >>> 0, 100), some]) },
    { what: "a first piece of 4 bytes", sends: raw([Wire.firstPiece(100, none)]) },
    { what: "a first piece of 3 bytes", sends: raw([Wire.u32((Wire.goesOn | 3) >>> 0), Buffer.alloc(3)]) },
    { what: "a first piece without bytes", sends: raw([Wire.u32(Wire.goesOn)]) },
    { what: "a first piece of more than its item", sends: raw([Wire.firstPiece(9, some)]) },
    {
      what: "a later piece of more than its item",
      sends: raw([Wire.firstPiece(15, some)], [Wire.laterPiece(some)])
    },
    { what: "a last piece of more than its item", sends: raw([Wire.firstPiece(15, some)], [Wire.item(some)]) },
    { what: "a last piece of less than its item", sends: raw([Wire.firstPiece(25, some)], [Wire.item(some)]) },
    { what: "an empty later piece", sends: raw([Wire.firstPiece(15, some)], [Wire.laterPiece(none)]) },
    { what: "an empty last piece", sends: raw([Wire.firstPiece(15, some)], [Wire.item(none)]) },
    {
      what: "an item after a piece that goes on, in its message",
      sends: raw([Wire.firstPiece(20, some), Wire.item(some)])
    },
    {
      what: "its end inside an item",
      sends: (peer, id) => {
        peer.rawItems(id, Wire.firstPiece(20, some))
        peer.end(id)
      }
    },
    {
      what: "items after its end",
      sends: (peer, id) => {
        peer.end(id)
        peer.items(id, some)
      }
    },
    {
      what: "credit past 2^31 - 1",
      sends: (peer, id) => {
        peer.credit(id, 0x7fff_ffff)
        peer.credit(id, 0x7fff_ffff)
      }
    },
    { what: "credit of 2^32 - 1", sends: (peer, id) => peer.credit(id, 0xffff_ffff) },
    {
      what: "an item over the limit of messages",
      sends: raw([Wire.firstPiece(104_857_601, some)]),
      identity: identity.tooLarge
    },
    {
      what: "an item of 4 GiB",
      sends: raw([Wire.firstPiece(0xffff_ffff, some)]),
      identity: identity.tooLarge
    }
  ]

  for (const { identity: expected = identity.flowControl, sends, what } of ended) {
    it.live(what, () => {
      const log = makeLog()
      return Effect.gen(function*() {
        const server = yield* serveStreams()
        const { seen } = server
        const peer = yield* withCall(server)
        peer.open(2, silent, 1000)
        yield* peer.holds("the window to be granted", () => peer.granted(2) === 65_536 - Wire.firstCredit)
        sends(peer, 2)
        const error = yield* peer.error(2)
        assert.equal(error.identity, expected, error.message)
        assert.ok(error.message.length > 10, `it says what came, and what was expected: ${error.message}`)
        yield* until("the handler to be interrupted", () => seen.running === 0)
        assert.equal(seen.interrupted, 1)
        // What still comes for it is ignored, and counts as read.
        const read = peer.granted(0)
        peer.items(2, Buffer.alloc(100_000))
        peer.end(2)
        peer.credit(2, 100)
        peer.cancel(2)
        yield* goesOn(peer, seen, 3)
        yield* peer.holds("what was ignored to count as read", () => peer.granted(0) >= read + 65_536)
        assert.ok(!log.lines.some((line) => refusal.test(line)), log.lines.join("\n"))
      }).pipe(Effect.scoped, Effect.provide(log.layer))
    })
  }

  it.live("an open with credit past 2^31 - 1, whose handler may not begin", () =>
    Effect.gen(function*() {
      const server = yield* serveStreams()
      const peer = yield* withCall(server)
      peer.open(2, silent, 0xffff_ffff)
      assert.equal((yield* peer.error(2)).identity, identity.flowControl)
      yield* until("no handler to run", () => server.seen.running === 0)
      yield* goesOn(peer, server.seen, 3)
    }).pipe(Effect.scoped))

  it.live("an item over the limit of messages, whose bytes are skipped", () =>
    Effect.gen(function*() {
      const server = yield* serveStreams({ maxMessageSize: 20_000 })
      const peer = yield* withCall(server)
      peer.open(2, sink, 1000)
      peer.items(2, Buffer.alloc(10))
      // In one message, as its credit allows: there is credit where it begins.
      peer.rawItems(2, Wire.item(Buffer.alloc(20_001)))
      assert.equal((yield* peer.error(2)).identity, identity.tooLarge)
      yield* goesOn(peer, server.seen, 3)
    }).pipe(Effect.scoped))
})

describe("a server ignores", () => {
  const ignored: ReadonlyArray<readonly [what: string, bytes: (id: number) => Buffer, read: number]> = [
    ["a cancel", Wire.cancel, 0],
    ["items", (id) => Wire.items(id, Buffer.alloc(70_000)), 70_004],
    ["items that break the rules", (id) => Wire.rawItems(id, Buffer.alloc(70_000, 0xff)), 70_000],
    ["an end", Wire.end, 0],
    ["credit", (id) => Wire.credit(id, 1000), 0],
    ["credit past 2^31 - 1", (id) => Wire.credit(id, 0xffff_ffff), 0]
  ]
  for (const [what, bytes, read] of ignored) {
    it.live(`${what} for an id that has never run, or runs no more`, () => {
      const log = makeLog()
      return Effect.gen(function*() {
        const server = yield* serveStreams()
        const peer = yield* withCall(server)
        peer.open(2, feed, 1000, u32s(1, 5))
        yield* peer.answer(2)
        peer.request(3, echo)
        yield* peer.answer(3)
        for (const id of [2, 3, 77]) peer.write(bytes(id))
        yield* goesOn(peer, server.seen, 4)
        // All of it but less than 64 KiB at the end.
        if (read > 0) yield* peer.holds("it to count as read", () => peer.granted(0) > 3 * read - 65_536)
        assert.equal(peer.granted(0) <= 3 * read, true)
        assert.deepEqual(log.lines, [])
      }).pipe(Effect.scoped, Effect.provide(log.layer))
    })
  }

  it.live("items and an end for a call, and credit for it", () =>
    Effect.gen(function*() {
      const server = yield* serveStreams()
      const peer = yield* withCall(server)
      peer.items(1, some)
      peer.end(1)
      peer.credit(1, 100)
      yield* goesOn(peer, server.seen, 2)
    }).pipe(Effect.scoped))

  it.live("what comes behind a cancel of a stream", () =>
    Effect.gen(function*() {
      const server = yield* serveStreams()
      const peer = yield* withCall(server)
      peer.open(2, endless, 1_000_000, u32s(100))
      yield* peer.next({ id: 2, type: type.items })
      peer.cancel(2)
      peer.items(2, some, some)
      peer.rawItems(2, Wire.u32(50))
      peer.end(2)
      peer.credit(2, 5)
      peer.cancel(2)
      yield* until("the handler to be interrupted", () => server.seen.running === 0)
      yield* goesOn(peer, server.seen, 3)
    }).pipe(Effect.scoped))
})

describe("a stream's id is free again", () => {
  it.live("when its answer is there", () =>
    Effect.gen(function*() {
      const server = yield* serveStreams()
      const peer = yield* withCall(server)
      for (let round = 0; round < 3; round++) {
        peer.open(2, feed, 1000, u32s(2, 5))
        assert.equal((yield* peer.answer(2)).type, type.response)
      }
      peer.request(2, hang)
      yield* until("the call to run", () => server.seen.hanging === 2)
    }).pipe(Effect.scoped))
})
