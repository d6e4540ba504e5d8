/** Requests and answers in parts, with a client by hand. */
import { describe, it } from "@effect/vitest"
import { Deferred, Effect, Stream } from "effect"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { message } from "../../support/raw.ts"
import * as Wire from "../../support/streamWire.ts"
import { identity, type } from "../../support/streamWire.ts"
import { bytes, calls, echo, key, openStreams, streams } from "./streamSupport.ts"
import { open } from "./support.ts"

const window = 65_536
const ignoring = { strict: false }
const large = Uint8Array.from({ length: 300_000 }, (_, index) => index % 251)

const handlers = calls(streams({ stream: (args, items) => Stream.concat(Stream.make(args), items), echo }), {
  call: (args) => Effect.succeed(args),
  large: () => Effect.succeed(large)
})
const payload = Wire.requestPayload(key("call"), bytes("some arguments"))

describe("a request in parts", () => {
  it.effect("is served when it is whole", () =>
    Effect.gen(function*() {
      const { peer, session } = yield* openStreams(handlers)
      peer.inParts(1, type.request, payload, 56)
      assert.equal((yield* peer.next({ id: 1, type: type.response })).payload.toString(), "some arguments")
      assert.equal(session.callsInFlight, 0)
    }))

  it.effect("may end with an empty message, and calls in between are served before it", () =>
    Effect.gen(function*() {
      const { peer, session } = yield* openStreams(handlers)
      peer.begins(1, type.request)
      peer.write(...[Wire.firstPart(1, payload.length, payload)])
      peer.request(2, key("call"), bytes("small"))
      assert.equal((yield* peer.next({ id: 2, type: type.response })).payload.toString(), "small")
      assert.equal(session.callsInFlight, 1)
      peer.write(message(1, type.request))
      assert.equal((yield* peer.next({ id: 1, type: type.response })).payload.toString(), "some arguments")
    }))

  it.effect("and an open in parts, is a stream when it is whole", () =>
    Effect.gen(function*() {
      const { peer } = yield* openStreams(handlers)
      peer.inParts(1, type.open, Wire.openPayload(key("stream"), window, large), 200_000)
      assert.deepEqual(new Uint8Array(yield* peer.item(1)), large)
      peer.credit(1, 1_000_000)
      peer.items(1, bytes("a"))
      assert.equal((yield* peer.item(1)).toString(), "a")
      peer.end(1)
      yield* peer.next({ id: 1, type: type.response })
    }))

  it.effect("to a method that there is not is refused when it is whole, and so is a call of a stream's", () =>
    Effect.gen(function*() {
      const { peer } = yield* openStreams(handlers)
      for (
        const [id, method, of] of [[1, "none", type.request], [2, "stream", type.request], [
          3,
          "call",
          type.open
        ]] as const
      ) {
        const parts = Wire.inParts(id, of, Wire.openPayload(key(method), 1, bytes("some arguments")), 56)
        peer.begins(id, of)
        peer.write(...parts.slice(0, -1))
        peer.request(id + 10, key("call"))
        yield* peer.answer(id + 10)
        assert.ok(!peer.messages.some((message) => message.id === id))
        peer.write(...parts.slice(-1))
        assert.equal((yield* peer.error(id)).message, "internal error: unknown function")
      }
    }))

  it.effect("has its deadline from its first part on, and is answered when it is whole", () =>
    Effect.gen(function*() {
      const { peer, session } = yield* openStreams(handlers)
      const late = Wire.requestPayload(key("call"), bytes("some arguments"), 1_000_000)
      const parts = Wire.inParts(1, type.request, late, 56)
      peer.begins(1, type.request)
      peer.write(...parts.slice(0, -1))
      peer.request(2, key("call"))
      yield* peer.answer(2)
      yield* TestClock.adjust("2 seconds")
      assert.equal(session.callsInFlight, 1)
      assert.ok(!peer.messages.some(({ id }) => id === 1))
      peer.write(...parts.slice(-1))
      assert.equal((yield* peer.error(1)).message, "context deadline exceeded")
      assert.equal(session.callsInFlight, 0)
    }))

  it.effect("is forgotten when it is canceled", () =>
    Effect.gen(function*() {
      const { peer, session } = yield* openStreams(handlers)
      peer.begins(1, type.request)
      peer.write(...[Wire.firstPart(1, payload.length, payload.subarray(0, 55))])
      peer.cancel(1)
      peer.request(2, key("call"))
      yield* peer.answer(2)
      assert.equal(session.callsInFlight, 0)
    }))

  it.effect("that is too large is refused when it is whole, and its bytes are not kept", () =>
    Effect.gen(function*() {
      const { peer } = yield* openStreams(handlers, { maxMessageSize: 100_000 })
      peer.inParts(1, type.request, Wire.requestPayload(key("call"), large), 80_000)
      assert.deepEqual(yield* peer.error(1), {
        message: "the arguments are 300000 bytes, expected at most 99951",
        identity: identity.tooLarge
      })
      peer.begins(2, type.request)
      peer.write(...[
        Wire.firstPart(2, large.length, large.subarray(0, 100)),
        message(2, type.request, large.subarray(100))
      ])
      assert.equal((yield* peer.error(2)).identity, identity.tooLarge)
    }))

  it.effect("that gets nothing for the message timeout is refused when it is whole", () =>
    Effect.gen(function*() {
      const { peer } = yield* openStreams(handlers, { messageTimeout: "5 seconds" })
      const parts = Wire.inParts(1, type.request, payload, 56)
      peer.begins(1, type.request)
      peer.write(...parts.slice(0, -1))
      peer.request(2, key("call"))
      yield* peer.answer(2)
      yield* TestClock.adjust("5 seconds")
      assert.ok(!peer.messages.some(({ id }) => id === 1))
      peer.write(...parts.slice(-1))
      assert.deepEqual(yield* peer.error(1), {
        message: `a message of ${payload.length} bytes in parts that got nothing for too long`,
        identity: identity.overloaded
      })
    }))

  it.effect("of which the rest comes after the client's last word is served, and ends the connection", () =>
    Effect.gen(function*() {
      const { done, peer, session } = yield* openStreams(handlers)
      const parts = Wire.inParts(1, type.request, payload, 56)
      peer.begins(1, type.request)
      peer.write(...parts.slice(0, -1))
      peer.request(2, key("call"))
      yield* peer.answer(2)
      session.leave()
      yield* peer.next({ type: type.version })
      peer.hello(13)
      yield* peer.next({ type: type.version })
      peer.write(...parts.slice(-1))
      assert.equal((yield* peer.next({ id: 1, type: type.response })).payload.toString(), "some arguments")
      peer.socket.end()
      yield* done
    }))

  it.effect("may not begin after the client's last word", () =>
    Effect.gen(function*() {
      const gate = yield* Deferred.make<void>()
      const waiting = calls(streams({}), { call: (args) => Effect.as(Deferred.await(gate), args) })
      const { lines, peer, session } = yield* openStreams(waiting, {}, ignoring)
      peer.request(1, key("call"))
      session.leave()
      yield* peer.next({ type: type.version })
      peer.hello(13)
      yield* peer.next({ type: type.version })
      peer.write(...[Wire.firstPart(2, payload.length, payload.subarray(0, 55))])
      yield* peer.closed
      assert.ok(lines.some(({ message }) => message.endsWith("request 2 after it had said that there are no more")))
      yield* Deferred.succeed(gate, undefined)
    }))
})

describe("an answer over 256 KiB", () => {
  it.effect("goes in parts, and small answers overtake it", () =>
    Effect.gen(function*() {
      const { peer, session } = yield* openStreams(handlers, {}, { returns: false })
      peer.request(1, key("large"))
      yield* peer.holds("a part", () => (peer.rules.seen.get(type.part) ?? 0) > 0)
      assert.equal(session.callsInFlight, 1)
      assert.ok(session.pendingBytes > 0)
      peer.request(2, key("call"), bytes("small"))
      assert.equal((yield* peer.next({ id: 2, type: type.response })).payload.toString(), "small")
      assert.ok(!peer.messages.some(({ id, type: of }) => id === 1 && of === type.response))
      peer.tell()
      assert.deepEqual(new Uint8Array((yield* peer.next({ id: 1, type: type.response })).payload), large)
      assert.equal(session.callsInFlight, 0)
    }))

  it.effect("goes whole to a client that does not know streams", () =>
    Effect.gen(function*() {
      const { answered, client } = yield* open(handlers)
      client.write(Wire.version(1))
      client.write(Wire.request(1, key("large")))
      const [answer] = yield* answered(1)
      assert.deepEqual(answer, [1, [...large]])
    }))

  it.effect("is not gone on with when it is canceled, and the connection goes on", () =>
    Effect.gen(function*() {
      const { peer, session } = yield* openStreams(handlers, {}, { returns: false })
      peer.request(1, key("large"))
      yield* peer.holds("a part", () => (peer.rules.seen.get(type.part) ?? 0) > 0)
      peer.cancel(1)
      peer.request(2, key("call"))
      yield* peer.answer(2)
      assert.equal(session.callsInFlight, 0)
      const before = peer.rules.seen.get(type.part) ?? 0
      peer.tell()
      peer.request(3, key("large"))
      yield* peer.holds("a part of another", () => (peer.rules.seen.get(type.part) ?? 0) > before)
      peer.tell()
      yield* peer.next({ id: 3, type: type.response })
      assert.ok(!peer.messages.some(({ id, type: of }) => id === 1 && of === type.response))
    }))

  it.effect("keeps its id until all of it has left", () =>
    Effect.gen(function*() {
      const { lines, peer } = yield* openStreams(handlers, {}, { returns: false, strict: false })
      peer.request(1, key("large"))
      yield* peer.holds("a part", () => (peer.rules.seen.get(type.part) ?? 0) > 0)
      peer.request(1, key("call"))
      yield* peer.closed
      assert.ok(lines.some(({ message }) => message.endsWith("request 1 twice")))
    }))

  it.effect("is sent to its end by a server that stops", () =>
    Effect.gen(function*() {
      const { done, peer, session } = yield* openStreams(handlers, {}, { returns: false })
      peer.request(1, key("large"))
      yield* peer.holds("a part", () => (peer.rules.seen.get(type.part) ?? 0) > 0)
      session.leave()
      yield* peer.next({ type: type.version })
      peer.hello(13)
      yield* peer.next({ type: type.version })
      peer.tell()
      yield* peer.next({ id: 1, type: type.response })
      peer.socket.end()
      yield* done
    }))

  it.effect("is sent also past the end of the grace, if the client takes it then", () =>
    Effect.gen(function*() {
      const { done, peer, session } = yield* openStreams(handlers, { shutdownGrace: "1 second" }, { returns: false })
      peer.request(1, key("large"))
      yield* peer.holds("a part", () => (peer.rules.seen.get(type.part) ?? 0) > 0)
      session.leave()
      yield* TestClock.adjust("1 second")
      peer.tell()
      yield* peer.next({ id: 1, type: type.response })
      peer.socket.end()
      yield* done
    }))
})

describe("many large answers that a client does not take", () => {
  it.effect("keep further calls from being started until some have left, while all is read", () =>
    Effect.gen(function*() {
      let started = 0
      const counting = calls(handlers, {
        many: () =>
          Effect.sync(() => {
            started++
            return large
          })
      })
      const { peer, session } = yield* openStreams(counting, { maxUnsentBytes: 50_000 }, { returns: false })
      for (let id = 1; id <= 10; id++) peer.request(id, key("many"))
      yield* peer.holds("a part", () => (peer.rules.seen.get(type.part) ?? 0) > 0)
      yield* Effect.yieldNow
      assert.ok(started >= 3 && started < 10, `${started} were started`)
      assert.ok(session.paused && !session.isDeaf)
      const tells = setInterval(() => peer.tell(), 1)
      for (let id = 1; id <= 10; id++) yield* peer.next({ id, type: type.response })
      clearInterval(tells)
      assert.equal(started, 10)
      assert.equal(session.paused, false)
    }))

  it.effect("cost it its connection", () =>
    Effect.gen(function*() {
      const { done, lines, peer } = yield* openStreams(handlers, { unsentTimeout: "10 seconds" }, { returns: false })
      peer.request(1, key("large"))
      yield* peer.holds("a part", () => (peer.rules.seen.get(type.part) ?? 0) > 0)
      for (let i = 0; i < 10; i++) yield* TestClock.adjust("1 second")
      yield* done
      assert.ok(
        lines.some(({ message }) => /its peer took nothing of \d+ bytes of its answers within 10s/.test(message))
      )
    }))
})
