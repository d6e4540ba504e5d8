/**
 * Large messages in parts, seen from outside: what goes in parts, what comes between, what gives them up, and that
 * nothing of them is decided before they are whole.
 */
import { describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import * as assert from "node:assert/strict"
import * as Networks from "../support/networks.ts"
import { message } from "../support/raw.ts"
import { type StreamPeer, streamServer } from "../support/streamPeer.ts"
import * as Wire from "../support/streamWire.ts"
import { identity, type } from "../support/streamWire.ts"
import { echo, goesOn, hang, large, mirror, serveStreams, silent, sizeOf, u32s, until, withCall } from "./streams.ts"

const fork = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.forkChild(effect, { startImmediately: true })

/** Bytes that differ from place to place. */
const bytesOf = (size: number): Buffer => {
  const bytes = Buffer.alloc(size)
  for (let at = 0; at + 4 <= size; at += 4) bytes.writeUInt32LE(at * 2_654_435_761 % 0x1_0000_0000, at)
  return bytes
}

const deadlineExceeded = "(context:context.deadlineExceededError{})"
const unknownFunction = "internal error: unknown function"

describe("a server", () => {
  const sizes: ReadonlyArray<readonly [payload: number, size: number, parts: string]> = [
    [0, 100, "none of its arguments in parts"],
    [300, 100, "arguments in parts of 100 bytes"],
    [1000, 49, "the smallest first part"],
    [1_000_000, 65_536, "a MB in parts of 64 KiB"],
    [3_000_000, 1_048_572, "the largest parts"]
  ]
  for (const [size, part, what] of sizes) {
    it.live(`takes a call with ${size} bytes: ${what}`, () =>
      Effect.gen(function*() {
        const server = yield* serveStreams()
        const peer = yield* withCall(server)
        const args = bytesOf(size)
        peer.inParts(2, type.request, Wire.requestPayload(echo, args), part)
        assert.ok((yield* peer.answer(2)).payload.equals(args))
        yield* goesOn(peer, server.seen, 3)
      }).pipe(Effect.scoped))
  }

  it.live("takes a message whose last part is empty, or the whole of it is in its first part", () =>
    Effect.gen(function*() {
      const server = yield* serveStreams()
      const peer = yield* withCall(server)
      const payload = Wire.requestPayload(echo, Buffer.from("all of it"))
      peer.begins(2, type.request)
      peer.write(Wire.firstPart(2, payload.length, payload), message(2, type.request))
      assert.equal((yield* peer.answer(2)).payload.toString(), "all of it")
      yield* goesOn(peer, server.seen, 3)
    }).pipe(Effect.scoped))

  it.live("takes an open in parts", () =>
    Effect.gen(function*() {
      const server = yield* serveStreams()
      const peer = yield* withCall(server)
      // The credit is in the second part.
      peer.inParts(2, type.open, Wire.openPayload(mirror, 70_000, bytesOf(500)), 49)
      yield* peer.holds("the first grant", () => peer.granted(2) > 0)
      peer.items(2, Buffer.from("back"))
      peer.end(2)
      assert.equal((yield* peer.item(2)).toString(), "back")
      yield* peer.answer(2)
    }).pipe(Effect.scoped))

  it.live("takes 64 messages whose parts come in turns, with calls between them", () =>
    Effect.gen(function*() {
      const server = yield* serveStreams()
      const peer = yield* withCall(server)
      const ids = Array.from({ length: 64 }, (_, index) => index + 2)
      const payloads = ids.map((id) => Wire.requestPayload(echo, Buffer.alloc(1000 + id, id)))
      const pieces = ids.map((id, index) => Wire.inParts(id, type.request, payloads[index]!, 150))
      for (const id of ids) peer.begins(id, type.request)
      for (let round = 0; round < 8; round++) {
        peer.write(...pieces.flatMap((each) => each[round] ?? []))
        if (round < 6) yield* goesOn(peer, server.seen, 100 + round)
      }
      for (const id of ids) {
        const { payload } = yield* peer.answer(id)
        assert.ok(payload.equals(Buffer.alloc(1000 + id, id)))
      }
    }).pipe(Effect.scoped))

  it.live("forgets a message that is canceled in the middle, and takes 64 others then", () =>
    Effect.gen(function*() {
      const server = yield* serveStreams()
      const peer = yield* withCall(server)
      const payload = Wire.requestPayload(hang, Buffer.alloc(500))
      for (let id = 2; id < 202; id++) {
        peer.begins(id, type.request)
        peer.write(
          Wire.firstPart(id, payload.length, payload.subarray(0, 100)),
          Wire.part(id, payload.subarray(100, 200))
        )
        peer.cancel(id)
        peer.rules.sentEnd(id)
      }
      yield* goesOn(peer, server.seen, 300)
      const whole = Wire.requestPayload(echo, Buffer.alloc(500, 5))
      for (let id = 301; id < 365; id++) {
        peer.begins(id, type.request)
        peer.write(Wire.firstPart(id, whole.length, whole.subarray(0, 100)))
      }
      for (let id = 301; id < 365; id++) peer.write(message(id, type.request, whole.subarray(100)))
      for (let id = 301; id < 365; id++) yield* peer.answer(id)
      assert.equal(server.seen.hanging, 1)
    }).pipe(Effect.scoped))

  interface Refused {
    readonly what: string
    readonly payload: Buffer
    readonly of?: number
    readonly isSo: (error: Wire.Link) => boolean
  }
  const refused: ReadonlyArray<Refused> = [
    {
      what: "of an unknown method",
      payload: Wire.requestPayload(silent, Buffer.alloc(400)),
      isSo: ({ message }) => message === unknownFunction
    },
    {
      what: "of a stream for a call's method",
      payload: Wire.openPayload(echo, 1000, Buffer.alloc(400)),
      of: type.open,
      isSo: ({ message }) => message === unknownFunction
    },
    {
      what: "whose deadline has passed when it begins",
      payload: Wire.requestPayload(echo, Buffer.alloc(400), -1),
      isSo: (error) => error.identity === deadlineExceeded
    },
    {
      what: "whose deadline passes in the middle",
      payload: Wire.requestPayload(echo, Buffer.alloc(400), 1000),
      isSo: (error) => error.identity === deadlineExceeded
    },
    {
      what: "that is over the limit",
      payload: Wire.requestPayload(echo, Buffer.alloc(30_000)),
      isSo: (error) => error.identity === identity.tooLarge
    }
  ]
  for (const { isSo, of = type.request, payload, what } of refused) {
    it.live(`refuses a message in parts ${what} only when it is whole`, () =>
      Effect.gen(function*() {
        const server = yield* serveStreams({ maxMessageSize: 20_000 })
        const peer = yield* withCall(server)
        const pieces = Wire.inParts(2, of, payload, Math.ceil(payload.length / 3))
        peer.begins(2, of, payload)
        for (const piece of pieces.slice(0, -1)) {
          peer.write(piece)
          yield* goesOn(peer, server.seen, 10 + pieces.indexOf(piece))
        }
        // Longer than the deadline above.
        yield* Effect.sleep(5)
        yield* goesOn(peer, server.seen, 20)
        assert.equal(peer.messages.filter(({ id }) => id === 2).length, 0)
        peer.write(pieces.at(-1)!)
        const error = yield* peer.error(2)
        assert.ok(isSo(error), `${error.message} ${error.identity}`)
        yield* goesOn(peer, server.seen, 21)
        assert.equal(server.seen.begun, 0)
      }).pipe(Effect.scoped))
  }

  it.live("takes parts that are larger than its limit of messages, and skips them", () =>
    Effect.gen(function*() {
      const server = yield* serveStreams({ maxMessageSize: 20_000 })
      const peer = yield* withCall(server)
      peer.inParts(2, type.request, Wire.requestPayload(echo, Buffer.alloc(300_000)), 60_000)
      assert.equal((yield* peer.error(2)).identity, identity.tooLarge)
      yield* goesOn(peer, server.seen, 3)
    }).pipe(Effect.scoped))

  it.live("counts the deadline from the first part", () =>
    Effect.gen(function*() {
      const server = yield* serveStreams()
      const peer = yield* withCall(server)
      const payload = Wire.requestPayload(hang, Buffer.alloc(400), 300_000)
      const pieces = Wire.inParts(2, type.request, payload, 200)
      peer.begins(2, type.request)
      const start = performance.now()
      peer.write(pieces[0]!)
      yield* Effect.sleep(150)
      peer.write(...pieces.slice(1))
      assert.equal((yield* peer.error(2)).identity, deadlineExceeded)
      const took = performance.now() - start
      assert.ok(took > 290 && took < 440, `${took} ms`)
    }).pipe(Effect.scoped))

  it.live("sends what is over 256 KiB in parts, and answers other calls between them", () =>
    Effect.gen(function*() {
      const server = yield* serveStreams()
      const peer = yield* withCall(server, { returns: false })
      peer.request(2, large, u32s(262_144))
      assert.equal((yield* peer.answer(2)).payload.length, 262_144)
      assert.equal(peer.rules.seen.get(type.part), undefined)
      peer.request(3, large, u32s(262_145))
      yield* peer.answer(3)
      assert.ok(peer.rules.seen.get(type.part)! > 0)
      peer.request(4, large, u32s(5_000_000))
      yield* peer.holds("as much as there may be", () => peer.rules.flown >= Wire.mostInFlight)
      yield* goesOn(peer, server.seen, 5)
      const answer = yield* fork(Effect.map(peer.answer(4), ({ payload }) => payload))
      while (answer.pollUnsafe() === undefined) {
        peer.tell()
        yield* Effect.callback<void>((resume) => void setImmediate(() => resume(Effect.void)))
      }
      assert.ok((yield* Fiber.join(answer)).equals(Buffer.alloc(5_000_000, 7)))
    }).pipe(Effect.scoped))

  it.live("sends no more of an answer in parts behind a cancel, and answers it with nothing", () =>
    Effect.gen(function*() {
      const server = yield* serveStreams()
      const peer = yield* withCall(server, { returns: false })
      peer.request(2, large, u32s(5_000_000))
      yield* peer.holds("as much as there may be", () => peer.rules.flown >= Wire.mostInFlight)
      peer.cancel(2)
      yield* goesOn(peer, server.seen, 3)
      const stands = peer.rules.flown
      peer.tell()
      peer.request(4, large, u32s(1_000_000))
      while (peer.messages.every(({ id, type: each }) => id !== 4 || each === type.part)) {
        peer.tell()
        yield* Effect.callback<void>((resume) => void setImmediate(() => resume(Effect.void)))
      }
      assert.equal(peer.messages.some(({ id, type: each }) => id === 2 && each === type.response), false)
      assert.ok(peer.rules.flown < stands + 1_000_004)
    }).pipe(Effect.scoped))
})

describe("a client", () => {
  /** A client whose calls are answered by hand; the call on id 1 hangs. */
  const made = Effect.gen(function*() {
    const server = yield* streamServer({ returns: false })
    const connection = yield* Networks.connect([server.endpoint])
    yield* fork(Effect.exit(connection.call(hang, new Uint8Array())))
    const peer = yield* server.accepted
    yield* peer.next({ id: 1, type: type.request })
    const goesOn = Effect.gen(function*() {
      const calling = yield* fork(connection.call(echo, Buffer.from("beside it")))
      const { id, payload } = yield* peer.next({ type: type.request })
      peer.respond(id, payload.subarray(49))
      yield* Fiber.join(calling)
    })
    return { connection, peer, goesOn }
  })
  const full = (peer: StreamPeer) => peer.holds("as much as there may be", () => peer.rules.flown >= Wire.mostInFlight)

  it.live("sends a call over 256 KiB in parts, and others between them", () =>
    Effect.gen(function*() {
      const { connection, goesOn, peer } = yield* made
      const args = bytesOf(3_000_000)
      const calling = yield* fork(connection.call(echo, Uint8Array.from(args)))
      yield* full(peer)
      yield* goesOn
      const request = yield* fork(peer.next({ id: 2, type: type.request }))
      while (request.pollUnsafe() === undefined) {
        peer.tell()
        yield* Effect.callback<void>((resume) => void setImmediate(() => resume(Effect.void)))
      }
      const { payload } = yield* Fiber.join(request)
      assert.ok(payload.subarray(49).equals(args))
      peer.respond(2, Buffer.from("done"))
      assert.equal(Buffer.from(yield* Fiber.join(calling)).toString(), "done")
    }).pipe(Effect.scoped))

  for (const how of ["its caller", "its deadline"] as const) {
    it.live(`cancels a call in parts that ${how} gives up, and sends no more of it`, () =>
      Effect.gen(function*() {
        const { connection, goesOn, peer } = yield* made
        const calling = yield* fork(
          Effect.exit(connection.call(echo, new Uint8Array(3_000_000), how === "its deadline" ? { timeout: 50 } : {}))
        )
        yield* full(peer)
        if (how === "its caller") yield* Fiber.interrupt(calling)
        else {
          const exit = yield* Fiber.join(calling)
          assert.match(JSON.stringify(exit), /DeadlineExceeded/)
        }
        yield* peer.next({ id: 2, type: type.cancel })
        const stands = peer.rules.flown
        peer.tell()
        yield* goesOn
        assert.equal(peer.rules.flown, stands)
        assert.equal(peer.messages.some(({ id, type: each }) => id === 2 && each === type.request), false)
      }).pipe(Effect.scoped))
  }

  it.live("writes the deadline of a call in parts into the header, at the start of its first part behind the total", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* made
      yield* fork(Effect.exit(connection.call(echo, new Uint8Array(1_000_000), { timeout: "1 hour" })))
      const { payload } = yield* peer.next({ id: 2, type: type.part })
      assert.equal(payload.readUInt32LE(0), 1_000_049)
      assert.ok(payload.subarray(4, 20).equals(Buffer.from(echo.bytes)))
      const deadline = Number(payload.readBigInt64LE(20))
      assert.ok(deadline > 3_590_000_000 && deadline <= 3_600_000_000, String(deadline))
    }).pipe(Effect.scoped))

  it.live("takes an error that comes before all parts of its call have left, cancels it, and sends no more of it", () =>
    Effect.gen(function*() {
      const { connection, goesOn, peer } = yield* made
      const calling = yield* fork(Effect.flip(connection.call(echo, new Uint8Array(3_000_000))))
      yield* full(peer)
      peer.fail(2, "no", "(test:no)")
      const error = yield* Fiber.join(calling)
      assert.equal(error._tag, "RemoteError")
      const stands = peer.rules.flown
      peer.tell()
      yield* goesOn
      assert.ok(peer.rules.flown <= stands + 131_072, "it may have been on its way")
    }).pipe(Effect.scoped))

  it.live("takes an error behind parts of a response: they are discarded", () =>
    Effect.gen(function*() {
      const { connection, goesOn, peer } = yield* made
      const calling = yield* fork(Effect.flip(connection.call(echo, new Uint8Array(10))))
      yield* peer.next({ id: 2, type: type.request })
      peer.write(Wire.firstPart(2, 1_000_000, Buffer.alloc(60_000)), Wire.part(2, Buffer.alloc(60_000)))
      peer.fail(2, "no", "(test:no)")
      const error = yield* Fiber.join(calling)
      assert.ok(error._tag === "RemoteError", error._tag)
      assert.equal(error.chain[0]?.identity, "(test:no)")
      yield* goesOn
    }).pipe(Effect.scoped))

  it.live("takes a response whose parts come between those of others, and items", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* made
      const calls = yield* Effect.forEach([2, 3, 4], () => fork(connection.call(echo, new Uint8Array(1))))
      yield* peer.next({ id: 4, type: type.request })
      const pieces = [2, 3, 4].map((id) => Wire.inParts(id, type.response, Buffer.alloc(1000 * id, id), 900))
      for (let round = 0; round < 6; round++) peer.write(...pieces.flatMap((each) => each[round] ?? []))
      for (const [index, call] of calls.entries()) {
        assert.ok(Buffer.from(yield* Fiber.join(call)).equals(Buffer.alloc(1000 * (index + 2), index + 2)))
      }
    }).pipe(Effect.scoped))

  it.live("ends a call whose response in parts is over its limit, and skips it", () =>
    Effect.gen(function*() {
      const server = yield* streamServer()
      const connection = yield* Networks.connect([server.endpoint], { maxMessageSize: 20_000 })
      const calling = yield* fork(Effect.flip(connection.call(echo, new Uint8Array(1))))
      const peer = yield* server.accepted
      yield* peer.next({ id: 1, type: type.request })
      peer.inParts(1, type.response, Buffer.alloc(300_000), 60_000)
      const error = yield* Fiber.join(calling)
      assert.ok(error._tag === "CommunicationError", error._tag)
      assert.deepEqual([error.reason._tag, error.maybeExecuted], ["TooLarge", true])
      assert.match(error.message, /300000 bytes, expected at most 20000/)
      const next = yield* fork(connection.call(sizeOf, new Uint8Array(1)))
      yield* peer.next({ id: 2, type: type.request })
      peer.respond(2)
      yield* Fiber.join(next)
      yield* until("all to be read", () => peer.granted(0) > 180_000)
    }).pipe(Effect.scoped))
})
