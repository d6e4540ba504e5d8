/**
 * Credit and what is in flight, seen from outside: who may send how much, when more is granted, and that a peer that
 * takes nothing costs what it was granted and not more.
 */
import { describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Stream } from "effect"
import * as assert from "node:assert/strict"
import * as Networks from "../support/networks.ts"
import { type StreamPeer, streamServer } from "../support/streamPeer.ts"
import * as Wire from "../support/streamWire.ts"
import { type } from "../support/streamWire.ts"
import {
  echo,
  endless,
  feed,
  goesOn,
  large,
  mirror,
  serveStreams,
  silent,
  sink,
  u32s,
  until,
  withCall
} from "./streams.ts"

/** What a server grants when a handler starts, with a window of 64 KiB. */
const firstGrant = 65_536 - Wire.firstCredit

/** Time for what should not come: turns of the event loop, each with calls to a peer and back. */
const turns = Effect.forEach(
  Array.from({ length: 30 }),
  () => Effect.callback<void>((resume) => void setImmediate(() => resume(Effect.void))),
  { discard: true }
)

const fork = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.forkChild(effect, { startImmediately: true })

/** The credit that an item takes from our server: its length, and where it goes in pieces those and its total. */
const costOf = (size: number) => size <= 262_144 ? size + 4 : size + 4 * Math.ceil(size / 262_144) + 4

describe("a server", () => {
  const sends: ReadonlyArray<readonly [credit: number, size: number, items: number]> = [
    [0, 16, 0],
    [1, 16, 1],
    [20, 16, 1],
    [21, 16, 2],
    [100, 16, 5],
    [101, 16, 6],
    [40, 0, 10],
    [41, 0, 11],
    [1, 100_000, 1],
    [100_004, 100_000, 1],
    [100_005, 100_000, 2],
    [1, 600_000, 1]
  ]
  for (const [credit, size, items] of sends) {
    it.live(`sends ${items} items of ${size} bytes with a credit of ${credit}, and then as many more as it gets credit for`, () =>
      Effect.gen(function*() {
        const server = yield* serveStreams()
        const peer = yield* withCall(server)
        peer.open(2, endless, credit, u32s(size))
        yield* peer.holds("the items", () => peer.rules.countOf(2) === items)
        yield* goesOn(peer, server.seen, 3)
        yield* goesOn(peer, server.seen, 4)
        assert.equal(peer.rules.countOf(2), items)
        // What brings it above 0 by 1 is one item more.
        peer.credit(2, items * costOf(size) - credit + 1)
        yield* peer.holds("one more", () => peer.rules.countOf(2) === items + 1)
        yield* goesOn(peer, server.seen, 5)
        assert.equal(peer.rules.countOf(2), items + 1)
        peer.cancel(2)
      }).pipe(Effect.scoped))
  }

  it.live("sends its answer without credit", () =>
    Effect.gen(function*() {
      const server = yield* serveStreams()
      const peer = yield* withCall(server)
      peer.open(2, feed, 0, u32s(0, 0))
      assert.equal((yield* peer.answer(2)).type, type.response)
      peer.open(3, feed, 12, u32s(1, 8))
      assert.equal((yield* peer.answer(3)).type, type.response)
    }).pipe(Effect.scoped))

  const windows: ReadonlyArray<readonly [window: number | undefined, grant: number]> = [
    [undefined, firstGrant],
    [4096, 0],
    [16_384, 0],
    [16_385, 1],
    [40_000, 23_616],
    [10_000_000, firstGrant]
  ]
  for (const [window, grant] of windows) {
    it.live(`grants ${grant} bytes when a handler starts, with a window of ${window ?? "no size that is given"}`, () =>
      Effect.gen(function*() {
        const server = yield* serveStreams(window === undefined ? {} : { streamWindow: window })
        const peer = yield* withCall(server)
        peer.open(2, silent, 1000)
        if (grant > 0) yield* peer.holds("the grant", () => peer.granted(2) > 0)
        yield* goesOn(peer, server.seen, 3)
        yield* turns
        assert.equal(peer.granted(2), grant)
      }).pipe(Effect.scoped))
  }

  it.live("grants nothing more while its handler takes nothing, and says what it has read", () =>
    Effect.gen(function*() {
      const server = yield* serveStreams()
      const peer = yield* withCall(server)
      peer.open(2, silent, 1000)
      yield* peer.holds("the grant", () => peer.granted(2) === firstGrant)
      for (let index = 0; index < 8; index++) peer.items(2, Buffer.alloc(8188))
      yield* peer.holds("it to be read", () => peer.granted(0) === 65_536)
      yield* goesOn(peer, server.seen, 3)
      assert.equal(peer.granted(2), firstGrant)
    }).pipe(Effect.scoped))

  it.live("grants what its handler has taken when that is half of the window, and not before", () =>
    Effect.gen(function*() {
      const server = yield* serveStreams()
      const peer = yield* withCall(server)
      peer.open(2, sink, 1000)
      yield* peer.holds("the grant", () => peer.granted(2) === firstGrant)
      peer.items(2, Buffer.alloc(16_380))
      peer.items(2, Buffer.alloc(16_379))
      yield* until("them to be taken", () => server.seen.taken === 2)
      yield* goesOn(peer, server.seen, 3)
      assert.equal(peer.granted(2), firstGrant, "one byte is missing to the half")
      peer.items(2, Buffer.alloc(0))
      yield* peer.holds("a grant", () => peer.granted(2) >= firstGrant + 32_768)
    }).pipe(Effect.scoped))

  it.live("takes a peer at its word that sends as soon as it may: no sender that keeps to its credit is cut off", () =>
    Effect.gen(function*() {
      const server = yield* serveStreams()
      const peer = yield* withCall(server)
      peer.open(2, sink, 1000)
      let sent = 0
      const credit = () => Wire.firstCredit + peer.granted(2) - sent
      for (let index = 0; index < 3000; index++) {
        if (credit() <= 0) yield* peer.holds("credit", () => credit() > 0)
        const size = index * 37 % 9000
        peer.items(2, Buffer.alloc(size))
        sent += size + 4
      }
      peer.end(2)
      assert.deepEqual((yield* peer.item(2)).readUInt32LE(0), 3000)
      yield* peer.answer(2)
    }).pipe(Effect.scoped))

  it.live("has at most 256 KiB and a message of items and parts in flight, and small messages go before them", () =>
    Effect.gen(function*() {
      const server = yield* serveStreams()
      const peer = yield* withCall(server, { returns: false })
      peer.request(2, large, u32s(8_000_000))
      for (let id = 3; id < 20; id++) peer.open(id, endless, 1_000_000, u32s(id % 2 === 0 ? 100 : 20_000))
      yield* peer.holds("as much as there may be", () => peer.rules.flown >= Wire.mostInFlight)
      for (let id = 20; id < 30; id++) yield* goesOn(peer, server.seen, id)
      const stands = peer.rules.flown
      yield* turns
      assert.equal(peer.rules.flown, stands)
      assert.ok(stands < Wire.mostInFlight + 1_048_576, `${stands} bytes`)
      // And when it is said that some was read, so much more comes.
      peer.tell()
      yield* peer.holds("more", () => peer.rules.flown >= stands + Wire.mostInFlight)
      yield* goesOn(peer, server.seen, 30)
      for (let id = 3; id < 20; id++) peer.cancel(id)
      peer.tell()
      peer.cancel(2)
      yield* until("the handlers to be interrupted", () => server.seen.running === 0)
    }).pipe(Effect.scoped))

  it.live("makes items for a client that takes none no further than its credit and a little", () =>
    Effect.gen(function*() {
      const server = yield* serveStreams()
      const peer = yield* withCall(server)
      peer.open(2, endless, 65_536, u32s(8192))
      yield* peer.holds("the items", () => peer.rules.countOf(2) === 8)
      yield* goesOn(peer, server.seen, 3)
      yield* turns
      // A window, one item, and two messages.
      assert.ok(server.seen.made <= 8 + 1 + 2, `${server.seen.made} items were made`)
      assert.equal(peer.rules.countOf(2), 8)
    }).pipe(Effect.scoped))
})

describe("a client", () => {
  const opened = Effect.fnUntraced(function*(
    stream: (connection: Effect.Success<ReturnType<typeof Networks.connect>>) => Effect.Effect<unknown, unknown>
  ) {
    const server = yield* streamServer()
    const connection = yield* Networks.connect([server.endpoint])
    const streaming = yield* fork(stream(connection))
    const peer = yield* server.accepted
    const { payload } = yield* peer.next({ id: 1, type: type.open })
    return { connection, peer, streaming, credit: payload.readUInt32LE(49) }
  })
  const endlessItems = (size: number, chunkSize: number) =>
    Stream.fromIterable(
      (function*() {
        for (let index = 0;; index++) yield new Uint8Array(size).fill(index)
      })(),
      { chunkSize }
    )

  const beside = Effect.fnUntraced(function*(
    connection: Effect.Success<ReturnType<typeof Networks.connect>>,
    peer: StreamPeer
  ) {
    const calling = yield* fork(connection.call(echo, Buffer.from("beside it")))
    const { id, payload } = yield* peer.next({ type: type.request })
    peer.respond(id, payload.subarray(49))
    yield* Fiber.join(calling)
  })

  const sends: ReadonlyArray<readonly [size: number, items: number]> = [[12, 1024], [0, 4096], [13, 964], [20_000, 1]]
  for (const [size, items] of sends) {
    it.live(`sends ${items} items of ${size} bytes before the server's first credit, and one more when there is some`, () =>
      Effect.gen(function*() {
        const { connection, peer, streaming } = yield* opened((connection) =>
          Stream.runDrain(connection.stream(mirror, new Uint8Array(), { items: endlessItems(size, 7) }))
        )
        yield* peer.holds("the items", () => peer.rules.countOf(1) >= items)
        yield* beside(connection, peer)
        assert.equal(peer.rules.countOf(1), items)
        peer.credit(1, items * (size + 4) - Wire.firstCredit + 1)
        yield* peer.holds("one more", () => peer.rules.countOf(1) > items)
        yield* beside(connection, peer)
        assert.equal(peer.rules.countOf(1), items + 1)
        yield* Fiber.interrupt(streaming)
        yield* peer.next({ id: 1, type: type.cancel })
      }).pipe(Effect.scoped))
  }

  it.live("sends its end without credit, and only when all items have left", () =>
    Effect.gen(function*() {
      const { peer, streaming } = yield* opened((connection) =>
        Stream.runDrain(connection.stream(mirror, new Uint8Array(), {
          items: Stream.fromArray([new Uint8Array(20_000), new Uint8Array(3)])
        }))
      )
      yield* peer.item(1)
      yield* turns
      assert.equal(peer.rules.hasEnded(1), false)
      peer.credit(1, 4000)
      yield* peer.next({ id: 1, type: type.end })
      assert.equal(peer.rules.countOf(1), 2)
      peer.respond(1)
      yield* Fiber.join(streaming)
    }).pipe(Effect.scoped))

  it.live("sends an end without items", () =>
    Effect.gen(function*() {
      for (const items of [undefined, Stream.empty]) {
        const { peer, streaming } = yield* opened((connection) =>
          Stream.runDrain(connection.stream(mirror, new Uint8Array(), items === undefined ? {} : { items }))
        )
        yield* peer.next({ id: 1, type: type.end })
        assert.equal(peer.rules.countOf(1), 0)
        peer.respond(1)
        yield* Fiber.join(streaming)
      }
    }).pipe(Effect.scoped))

  it.live("grants what its consumer has taken when that is half of the window, and not before", () =>
    Effect.gen(function*() {
      let taken = 0
      const { connection, credit, peer } = yield* opened((connection) =>
        Stream.runForEach(connection.stream(feed, new Uint8Array()), () => Effect.sync(() => void taken++))
      )
      assert.equal(credit, 65_536)
      peer.items(1, Buffer.alloc(32_763))
      yield* until("it to be taken", () => taken === 1)
      yield* beside(connection, peer)
      assert.equal(peer.granted(1), 0, "one byte is missing to the half")
      peer.items(1, Buffer.alloc(0))
      yield* peer.holds("a grant", () => peer.granted(1) >= 32_768)
    }).pipe(Effect.scoped))

  it.live("grants nothing while its consumer takes nothing, says what it has read, and goes on with the others", () =>
    Effect.gen(function*() {
      const gate = yield* Deferred.make<void>()
      const got: Array<number> = []
      const { connection, peer, streaming } = yield* opened((connection) =>
        Stream.runForEach(connection.stream(feed, new Uint8Array()), (item) => {
          got.push(item.length)
          return Deferred.await(gate)
        })
      )
      peer.items(1, Buffer.alloc(0))
      yield* until("the first", () => got.length === 1)
      for (let index = 0; index < 8; index++) peer.items(1, Buffer.alloc(8188))
      yield* peer.holds("it to be read", () => peer.granted(0) >= 65_536)
      yield* beside(connection, peer)
      assert.equal(peer.granted(1), 0)
      peer.respond(1)
      yield* Deferred.succeed(gate, undefined)
      yield* Fiber.join(streaming)
      assert.deepEqual(got, [0, ...Array.from({ length: 8 }, () => 8188)])
    }).pipe(Effect.scoped))

  it.live("asks for a window of the size that it is given", () =>
    Effect.gen(function*() {
      for (const [window, expected] of [[4096, 4096], [40_000, 40_000], [1_000_000, 65_536]] as const) {
        const server = yield* streamServer()
        const connection = yield* Networks.connect([server.endpoint], { streamWindow: window })
        yield* fork(Stream.runDrain(connection.stream(feed, new Uint8Array())))
        const peer = yield* server.accepted
        const { payload } = yield* peer.next({ type: type.open })
        assert.equal(payload.readUInt32LE(49), expected)
      }
    }).pipe(Effect.scoped))

  it.live("has at most 256 KiB and a message in flight, and small messages go before them", () =>
    Effect.gen(function*() {
      const server = yield* streamServer({ returns: false })
      const connection = yield* Networks.connect([server.endpoint])
      const calls = yield* fork(Effect.forEach(
        [0, 1, 2],
        () => Effect.exit(connection.call(echo, new Uint8Array(4_000_000))),
        { concurrency: "unbounded" }
      ))
      const streams = yield* Effect.forEach([0, 1, 2, 3], (index) =>
        fork(Effect.exit(Stream.runDrain(
          connection.stream(mirror, new Uint8Array(), { items: endlessItems(index === 0 ? 100 : 50_000, 3) })
        ))))
      const peer = yield* server.accepted
      yield* peer.holds("as much as there may be", () => peer.rules.flown >= Wire.mostInFlight)
      yield* beside(connection, peer)
      const stands = peer.rules.flown
      yield* turns
      assert.equal(peer.rules.flown, stands)
      assert.ok(stands < Wire.mostInFlight + 1_048_576, `${stands} bytes`)
      peer.tell()
      yield* peer.holds("more", () => peer.rules.flown >= stands + 100_000)
      yield* beside(connection, peer)
      yield* Fiber.interrupt(calls)
      yield* Fiber.interruptAll(streams)
    }).pipe(Effect.scoped))
})
