/** The life of a stream that a server serves, with a client by hand. */
import { describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Stream } from "effect"
import type { HandlerMap } from "effect-call"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { identity, type } from "../../support/streamWire.ts"
import { bytes, calls, echo, key, never, openStreams, streams } from "./streamSupport.ts"

const window = 65_536

/** A handler that tells when it has started, and how it has ended. */
const watched = Effect.map(
  Effect.all([Deferred.make<void>(), Deferred.make<Exit.Exit<unknown, unknown>>()]),
  ([started, ended]) => {
    const handler: HandlerMap.StreamHandler = () =>
      Stream.never.pipe(
        Stream.onStart(Deferred.succeed(started, undefined)),
        Stream.onExit((exit) => Deferred.succeed(ended, exit))
      )
    return { ended: Deferred.await(ended), handler, started: Deferred.await(started) }
  }
)

describe("a stream of bytes", () => {
  it.effect("sends the handler's items, and an empty response behind them", () =>
    Effect.gen(function*() {
      const count = () => Stream.make(bytes("a"), bytes("bc"), bytes(""))
      const { peer, session } = yield* openStreams(streams({ count }))
      peer.open(1, key("count"), window)
      for (const item of ["a", "bc", ""]) assert.equal((yield* peer.item(1)).toString(), item)
      assert.equal((yield* peer.next({ id: 1, type: type.response })).payload.length, 0)
      assert.equal(session.callsInFlight, 0)
    }))

  it.effect("gives the handler the arguments, the client's items, and their end", () =>
    Effect.gen(function*() {
      const { peer } = yield* openStreams(
        streams({ echo: (args, items) => Stream.concat(Stream.make(args), items) })
      )
      peer.open(1, key("echo"), window, bytes("args"))
      assert.equal((yield* peer.item(1)).toString(), "args")
      peer.items(1, bytes("one"), bytes("two"))
      assert.equal((yield* peer.item(1)).toString(), "one")
      assert.equal((yield* peer.item(1)).toString(), "two")
      peer.items(1, bytes("three"))
      assert.equal((yield* peer.item(1)).toString(), "three")
      peer.end(1)
      yield* peer.next({ id: 1, type: type.response })
    }))

  it.effect("answers with the handler's failure behind its items", () =>
    Effect.gen(function*() {
      const fails = () => Stream.concat(Stream.make(bytes("a")), Stream.fail(new Error("no more")))
      const { peer } = yield* openStreams(streams({ fails }))
      peer.open(1, key("fails"), window)
      assert.equal((yield* peer.error(1)).message, "no more")
      assert.equal((yield* peer.item(1)).toString(), "a")
    }))

  it.effect("grants what the window has beyond the first credit when its handler starts, and more as it is taken", () =>
    Effect.gen(function*() {
      const { peer } = yield* openStreams(streams({ echo, never }))
      peer.open(1, key("never"), window)
      yield* peer.holds("credit", () => peer.granted(1) > 0)
      assert.equal(peer.granted(1), window - 16_384)
      peer.open(2, key("echo"), 10_000_000)
      const item = new Uint8Array(16_000)
      for (let i = 0; i < 40; i++) {
        peer.items(2, item)
        yield* peer.item(2)
      }
      assert.ok(peer.granted(2) + 16_384 > 40 * 16_000)
    }))

  it.effect("grants nothing where the window is not larger than the first credit", () =>
    Effect.gen(function*() {
      const { peer } = yield* openStreams(streams({ echo }), { streamWindow: 4096 })
      peer.open(1, key("echo"), window)
      peer.items(1, bytes("a"))
      yield* peer.item(1)
      assert.equal(peer.granted(1), 0)
    }))

  it.effect("sends no item without credit, and those that wait as soon as there is some", () =>
    Effect.gen(function*() {
      const count = () => Stream.make(bytes("aaaa"), bytes("bbbb"), bytes("cccc"))
      const { peer } = yield* openStreams(streams({ count, echo }))
      peer.open(1, key("count"), 0)
      peer.open(2, key("echo"), window)
      peer.items(2, bytes("x"))
      yield* peer.item(2)
      assert.equal(peer.rules.itemsOf(1).length, 0)
      peer.credit(1, 1)
      assert.equal((yield* peer.item(1)).toString(), "aaaa")
      peer.credit(1, 100)
      assert.equal((yield* peer.item(1)).toString(), "bbbb")
      assert.equal((yield* peer.item(1)).toString(), "cccc")
      yield* peer.next({ id: 1, type: type.response })
    }))

  it.effect("holds up no other stream while its items are not taken", () =>
    Effect.gen(function*() {
      const { peer } = yield* openStreams(streams({ never, echo }))
      peer.open(1, key("never"), window)
      for (let i = 0; i < 4; i++) peer.items(1, new Uint8Array(16_000))
      peer.open(2, key("echo"), window)
      peer.items(2, bytes("b"))
      assert.equal((yield* peer.item(2)).toString(), "b")
    }))

  it.effect("ends with its handler, whatever items still come", () =>
    Effect.gen(function*() {
      const { peer } = yield* openStreams(streams({ first: (_args, items) => Stream.take(items, 1), echo }))
      peer.open(1, key("first"), window)
      peer.items(1, bytes("a"), bytes("b"))
      yield* peer.next({ id: 1, type: type.response })
      assert.deepEqual(peer.rules.itemsOf(1).map(String), ["a"])
      peer.items(1, bytes("c"))
      peer.credit(1, 100)
      peer.end(1)
      peer.cancel(1)
      peer.open(2, key("echo"), window)
      peer.items(2, bytes("b"))
      yield* peer.item(2)
    }))
})

describe("the handler of a stream", () => {
  it.effect("is interrupted by a cancel", () =>
    Effect.gen(function*() {
      const { ended, handler, started } = yield* watched
      const { peer, session } = yield* openStreams(streams({ handler }))
      peer.open(1, key("handler"), window)
      yield* started
      peer.cancel(1)
      assert.ok(Exit.hasInterrupts(yield* ended))
      assert.equal((yield* peer.error(1)).message, "context canceled")
      assert.equal(session.callsInFlight, 0)
    }))

  it.effect("is interrupted at its deadline", () =>
    Effect.gen(function*() {
      const { ended, handler, started } = yield* watched
      const { peer } = yield* openStreams(streams({ handler }))
      peer.open(1, key("handler"), window, undefined, 1_000_000)
      yield* started
      yield* TestClock.adjust("1 second")
      assert.ok(Exit.hasInterrupts(yield* ended))
      assert.equal((yield* peer.error(1)).message, "context deadline exceeded")
    }))

  it.effect("is not run where the deadline has passed", () =>
    Effect.gen(function*() {
      const { peer } = yield* openStreams(streams({ never }))
      peer.open(1, key("never"), window, undefined, -1)
      assert.equal((yield* peer.error(1)).message, "context deadline exceeded")
    }))

  it.effect("is interrupted when its connection is lost", () =>
    Effect.gen(function*() {
      const { ended, handler, started } = yield* watched
      const { done, peer } = yield* openStreams(streams({ handler }))
      peer.open(1, key("handler"), window)
      yield* started
      peer.reset()
      assert.ok(Exit.hasInterrupts(yield* ended))
      yield* done
    }))

  it.effect("is not left waiting for items or for credit where it cannot be interrupted", () =>
    Effect.gen(function*() {
      const waits: HandlerMap.StreamHandler = (_args, items) =>
        Stream.unwrap(Effect.as(Effect.uninterruptible(Effect.exit(Stream.runDrain(items))), Stream.empty))
      const writes: HandlerMap.StreamHandler = () => Stream.forever(Stream.make(new Uint8Array(10)))
      const { peer, session } = yield* openStreams(streams({ waits, writes }))
      peer.open(1, key("waits"), window)
      peer.open(2, key("writes"), 1000)
      yield* peer.item(2)
      peer.cancel(1)
      peer.cancel(2)
      yield* peer.answer(1)
      yield* peer.answer(2)
      assert.equal(session.callsInFlight, 0)
    }))

  it.effect("has its Scope closed before the stream ends for its client, and keeps its place until then", () =>
    Effect.gen(function*() {
      const gate = yield* Deferred.make<void>()
      const slow: HandlerMap.StreamHandler = () =>
        Stream.concat(
          Stream.make(bytes("a")),
          Stream.unwrap(Effect.as(Effect.addFinalizer(() => Deferred.await(gate)), Stream.empty))
        )
      const { peer, session } = yield* openStreams(streams({ slow, echo }), { maxStreams: 1 })
      peer.open(1, key("slow"), window)
      yield* peer.item(1)
      peer.cancel(1)
      peer.open(2, key("echo"), window)
      assert.equal((yield* peer.error(2)).identity, identity.overloaded)
      assert.equal(session.callsInFlight, 1)
      yield* Deferred.succeed(gate, undefined)
      yield* peer.answer(1)
      peer.open(3, key("echo"), window)
      peer.items(3, bytes("c"))
      yield* peer.item(3)
    }))

  const wrong: ReadonlyArray<readonly [what: string, handler: unknown, logged: RegExp]> = [
    ["throws", () => {
      throw new Error("thrown")
    }, /thrown/],
    ["gives no Stream", () => 7, /the handler of test\/Streams\.wrong: expected a Stream, got 7/],
    ["gives an Effect", () => Effect.void, /the handler of test\/Streams\.wrong: expected a Stream, got an Effect/],
    ["gives a promise that fails", () => Promise.reject(new Error("no")), /expected a Stream, got/],
    ["dies", () => Stream.die(new Error("a bug")), /a bug/],
    ["gives an item that is no bytes", () => Stream.make("text"), /an item of a stream: expected a Uint8Array, got/],
    [
      "runs its items twice",
      (_args: Uint8Array, items: Stream.Stream<Uint8Array>) => Stream.merge(items, items),
      /the items of test\/Streams\.wrong were run a second time, expected once/
    ]
  ]
  for (const [what, handler, logged] of wrong) {
    it.effect(`that ${what} has died: its client gets no details, and the log has them`, () =>
      Effect.gen(function*() {
        // The cast: a user without types may give anything.
        const { lines, peer } = yield* openStreams(streams({ wrong: handler as HandlerMap.StreamHandler }))
        peer.open(1, key("wrong"), window)
        assert.equal((yield* peer.error(1)).message, "internal error: the handler died")
        yield* Effect.yieldNow
        assert.match(JSON.stringify(lines), logged)
      }))
  }
})

describe("an item of a handler that is too large", () => {
  it.effect("ends its stream behind the items before it, and interrupts the handler", () =>
    Effect.gen(function*() {
      const large = () => Stream.make(bytes("a"), new Uint8Array(2000), bytes("b"))
      const { peer, session } = yield* openStreams(streams({ large, echo }), { maxMessageSize: 1024 })
      peer.open(1, key("large"), window)
      assert.deepEqual(yield* peer.error(1), {
        message: "an item of test/Streams.large is 2000 bytes, expected at most 1024",
        identity: "(effect-call:answer-too-large)"
      })
      assert.deepEqual(peer.rules.itemsOf(1).map(String), ["a"])
      assert.equal(session.callsInFlight, 0)
    }))
})

describe("methods", () => {
  it.effect("that are streams are unknown to calls, and methods that are calls to streams", () =>
    Effect.gen(function*() {
      const { peer } = yield* openStreams(calls(streams({ stream: echo }), { call: (args) => Effect.succeed(args) }))
      peer.request(1, key("stream"))
      assert.equal((yield* peer.error(1)).message, "internal error: unknown function")
      peer.open(2, key("call"), window)
      assert.equal((yield* peer.error(2)).message, "internal error: unknown function")
      peer.open(3, key("neither"), window)
      assert.equal((yield* peer.error(3)).message, "internal error: unknown function")
    }))

  it.effect("that are calls take no notice of messages of streams", () =>
    Effect.gen(function*() {
      const gate = yield* Deferred.make<void>()
      const { peer } = yield* openStreams(
        calls(streams({}), { call: (args) => Effect.as(Deferred.await(gate), args) })
      )
      peer.request(1, key("call"), bytes("a"))
      peer.items(1, bytes("b"))
      peer.credit(1, 5)
      peer.end(1)
      yield* Deferred.succeed(gate, undefined)
      assert.equal((yield* peer.next({ id: 1, type: type.response })).payload.toString(), "a")
    }))
})

describe("the limits of streams", () => {
  it.effect("of a connection refuse what is over them at once", () =>
    Effect.gen(function*() {
      const { peer } = yield* openStreams(streams({ never, echo }), { maxStreamsPerConnection: 2 })
      peer.open(1, key("never"), window)
      peer.open(2, key("never"), window)
      peer.open(3, key("echo"), window)
      assert.deepEqual(yield* peer.error(3), { message: "overloaded", identity: identity.overloaded })
      peer.cancel(1)
      yield* peer.answer(1)
      peer.open(4, key("echo"), window)
      peer.end(4)
      yield* peer.next({ id: 4, type: type.response })
    }))

  it.effect("are not those of calls", () =>
    Effect.gen(function*() {
      const handlers = calls(streams({ never }), { call: (args) => Effect.succeed(args) })
      const { peer } = yield* openStreams(handlers, { maxConcurrentCalls: 1, maxQueuedCalls: 0 })
      peer.open(1, key("never"), window)
      peer.open(2, key("never"), window)
      peer.request(3, key("call"), bytes("c"))
      assert.equal((yield* peer.next({ id: 3, type: type.response })).payload.toString(), "c")
    }))

  it.effect("leave nothing behind after many streams that are opened and canceled at once", () =>
    Effect.gen(function*() {
      const { peer, session } = yield* openStreams(streams({ never, echo }), { maxStreams: 3 })
      for (let id = 1; id <= 500; id++) {
        peer.open(id, key(id % 2 === 0 ? "never" : "echo"), window)
        peer.items(id, bytes("x"))
        peer.cancel(id)
      }
      peer.open(501, key("echo"), window)
      peer.end(501)
      yield* peer.next({ id: 501, type: type.response })
      assert.equal(session.callsInFlight, 0)
    }))
})

describe("a stream in a trace", () => {
  it.effect("whose handler waits is ended like any other", () =>
    Effect.gen(function*() {
      const { ended, handler, started } = yield* watched
      const { peer } = yield* openStreams(streams({ handler }))
      const fiber = yield* Effect.forkChild(ended)
      peer.open(1, key("handler"), window)
      yield* started
      peer.cancel(1)
      yield* Fiber.join(fiber)
      yield* peer.answer(1)
    }))
})
