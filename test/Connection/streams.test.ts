/**
 * Streams of a Connection, against a server that is written by hand from the page of the wire: what goes over the wire,
 * and how a stream ends.
 */
import { describe, it } from "@effect/vitest"
import { Cause, Context, Deferred, Effect, Exit, Fiber, Latch, Queue, Schedule, Stream } from "effect"
import { CallError, Connection, Deadline, MethodKey } from "effect-call"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { identity, type } from "../support/streamWire.ts"
import { bytes, connected, feed, opened, textOf, texts } from "./streamsSupport.ts"

describe("a stream", () => {
  it.live("is opened with its arguments and a credit of 64 KiB, and gives the items that come until its end", () =>
    Effect.gen(function*() {
      const { connection, server } = yield* connected()
      const reading = yield* Effect.forkChild(texts(connection.stream(feed, bytes("args"))))
      const peer = yield* server.accepted
      const open = yield* peer.next({ type: type.open })
      assert.equal(open.payload.readUInt32LE(49), 65_536)
      assert.equal(open.payload.subarray(53).toString(), "args")
      yield* peer.next({ type: type.end, id: open.id })
      peer.items(open.id, bytes("a"), bytes(""), bytes("bc"))
      peer.items(open.id, bytes("d"))
      peer.respond(open.id)
      assert.deepEqual(yield* Fiber.join(reading), ["a", "", "bc", "d"])
    }).pipe(Effect.scoped))

  it.live("opens nothing until it is run, and another stream each time", () =>
    Effect.gen(function*() {
      const { connection, server } = yield* connected()
      let runs = 0
      const items = Stream.map(Stream.suspend(() => Stream.make(++runs)), (run) => bytes(`${run}`))
      const stream = connection.stream(feed, bytes(""), { items })
      assert.equal(server.peers.length, 0)
      for (const run of ["1", "2"]) {
        const reading = yield* Effect.forkChild(texts(stream))
        const peer = server.peers[0] ?? (yield* server.accepted)
        const { id } = yield* peer.next({ type: type.open })
        assert.equal((yield* peer.item(id)).toString(), run)
        peer.respond(id)
        assert.deepEqual(yield* Fiber.join(reading), [])
      }
    }).pipe(Effect.scoped))

  it.live("gives what came together as one chunk, and an item that came in pieces as one", () =>
    Effect.gen(function*() {
      const { connection, server } = yield* connected()
      const stream = yield* opened(server, connection.stream(feed, bytes("")))
      stream.peer.items(stream.id, bytes("a"), bytes("b"))
      assert.deepEqual(yield* stream.next, ["a", "b"])
      stream.peer.rawItems(stream.id, Buffer.from([9, 0, 0, 0x80, 10, 0, 0, 0]), bytes("01234"))
      stream.peer.rawItems(stream.id, Buffer.from([5, 0, 0, 0]), bytes("56789"), Buffer.from([1, 0, 0, 0]), bytes("z"))
      assert.deepEqual(yield* stream.next, ["0123456789", "z"])
    }).pipe(Effect.scoped))

  it.live("grants its server what its consumer has taken, and nothing while that takes nothing", () =>
    Effect.gen(function*() {
      const { connection, server } = yield* connected({ streamWindow: 4096 })
      const { next, peer, id } = yield* opened(server, connection.stream(feed, bytes("")))
      const item = new Uint8Array(1020)
      peer.items(id, item, item, item, item)
      yield* next
      yield* peer.holds("a grant", () => peer.granted(id) === 4096)
      peer.items(id, item, item, item, item)
      peer.write(Buffer.alloc(0))
      const call = yield* Effect.forkChild(connection.call(feed, bytes("")))
      yield* peer.next({ type: type.request })
      assert.equal(peer.granted(id), 4096)
      yield* Fiber.interrupt(call)
    }).pipe(Effect.scoped))

  it.live("fails with the error of its handler, behind the items before it", () =>
    Effect.gen(function*() {
      const { connection, server } = yield* connected()
      const { next, peer, id } = yield* opened(server, connection.stream(feed, bytes("")))
      peer.items(id, bytes("a"))
      peer.fail(id, "leaving", identity.leaving)
      assert.deepEqual(yield* next, ["a"])
      const error = yield* Effect.flip(next)
      assert.ok(error instanceof CallError.RemoteError && error.isLeaving)
    }).pipe(Effect.scoped))

  it.live("fails as lost behind the items that came, when its connection is lost", () =>
    Effect.gen(function*() {
      const { connection, server } = yield* connected()
      const { next, peer, id } = yield* opened(server, connection.stream(feed, bytes("")))
      peer.items(id, bytes("a"))
      peer.items(id, bytes("b"))
      yield* peer.send()
      peer.socket.end()
      assert.deepEqual((yield* Effect.all([next, next])).flat().length, 2)
      const error = yield* Effect.flip(next)
      assert.ok(error instanceof CallError.CommunicationError)
      assert.deepEqual([error.reason._tag, error.maybeExecuted], ["Lost", true])
    }).pipe(Effect.scoped))

  it.live("fails as closed when its Connection is closed", () =>
    Effect.gen(function*() {
      const { connection, server } = yield* connected()
      const { next } = yield* opened(server, connection.stream(feed, bytes("")))
      yield* connection.close
      const error = yield* Effect.flip(next)
      assert.ok(error instanceof CallError.CommunicationError && error.reason._tag === "Closed")
    }).pipe(Effect.scoped))

  it.live("of bytes has no result: one is an error", () =>
    Effect.gen(function*() {
      const { connection, server } = yield* connected()
      const { next, peer, id } = yield* opened(server, connection.stream(feed, bytes("")))
      peer.items(id, bytes("a"))
      peer.respond(id, bytes("result"))
      assert.deepEqual(yield* next, ["a"])
      const error = yield* Effect.flip(next)
      assert.ok(error instanceof CallError.CommunicationError && error.reason._tag === "Protocol")
      assert.match(error.message, /test\/Echo\.feed: .* with a result of 6 bytes, expected none/)
    }).pipe(Effect.scoped))

  it.live("is canceled at once when its consumer has enough, before its items' finalizers have run", () =>
    Effect.gen(function*() {
      const { connection, server } = yield* connected()
      const slow = yield* Latch.make()
      const items = Stream.ensuring(Stream.never, slow.await)
      const reading = yield* Effect.forkChild(
        texts(Stream.take(connection.stream(feed, bytes(""), { items }), 1))
      )
      const peer = yield* server.accepted
      const { id } = yield* peer.next({ type: type.open })
      peer.items(id, bytes("a"), bytes("b"))
      yield* peer.next({ type: type.cancel, id })
      assert.equal(reading.pollUnsafe(), undefined)
      yield* slow.open
      assert.deepEqual(yield* Fiber.join(reading), ["a"])
    }).pipe(Effect.scoped))

  it.live("is canceled when its consumer is interrupted, also before anything has come", () =>
    Effect.gen(function*() {
      const { connection, server } = yield* connected()
      const reading = yield* Effect.forkChild(texts(connection.stream(feed, bytes(""))))
      const peer = yield* server.accepted
      const { id } = yield* peer.next({ type: type.open })
      yield* Fiber.interrupt(reading)
      yield* peer.next({ type: type.cancel, id })
      // What still comes is ignored.
      peer.items(id, bytes("a"))
      peer.respond(id)
      const call = yield* Effect.forkChild(connection.call(feed, bytes("")))
      peer.respond((yield* peer.next({ type: type.request })).id, bytes("b"))
      assert.equal(textOf(yield* Fiber.join(call)), "b")
    }).pipe(Effect.scoped))

  it.live("that is over stays over: its server gets neither end nor cancel", () =>
    Effect.gen(function*() {
      const { connection, server } = yield* connected()
      const stopped = yield* Deferred.make<void>()
      const started = yield* Deferred.make<void>()
      const items = Stream.ensuring(
        Stream.concat(Stream.fromEffectDrain(Deferred.succeed(started, undefined)), Stream.never),
        Deferred.succeed(stopped, undefined)
      )
      const reading = yield* Effect.forkChild(texts(connection.stream(feed, bytes(""), { items })))
      const peer = yield* server.accepted
      const { id } = yield* peer.next({ type: type.open })
      yield* Deferred.await(started)
      peer.respond(id)
      yield* Deferred.await(stopped)
      assert.deepEqual(yield* Fiber.join(reading), [])
      const call = yield* Effect.forkChild(connection.call(feed, bytes("")))
      yield* peer.next({ type: type.request })
      assert.deepEqual(peer.messages.filter((message) => message.id === id).map((message) => message.type), [type.open])
      yield* Fiber.interrupt(call)
    }).pipe(Effect.scoped))

  it.live("counts as open in the Connection's state, and not as a call", () =>
    Effect.gen(function*() {
      const { connection, server } = yield* connected()
      const { peer, id, next } = yield* opened(server, connection.stream(feed, bytes("")))
      const [before] = (yield* connection.state).endpoints
      assert.deepEqual([before!.streams, before!.callsInFlight], [1, 0])
      peer.respond(id)
      yield* Effect.exit(next)
      const [after] = (yield* connection.state).endpoints
      assert.deepEqual([after!.streams, after!.callsInFlight], [0, 0])
    }).pipe(Effect.scoped))

  it.live("carries the span of its caller, and the time that is left", () =>
    Effect.gen(function*() {
      const { connection, server } = yield* connected()
      const reading = texts(connection.stream(feed, bytes(""), { timeout: "1 minute" }))
      const span = yield* Effect.makeSpan("outer")
      yield* Effect.forkChild(Effect.withParentSpan(reading, span))
      const peer = yield* server.accepted
      const { payload } = yield* peer.next({ type: type.open })
      const micros = Number(payload.readBigInt64LE(16))
      assert.ok(micros > 50_000_000 && micros <= 60_000_000, `${micros}`)
      assert.equal(payload.subarray(24, 40).toString("hex"), span.traceId)
    }).pipe(Effect.scoped))

  it.effect("ends at its deadline, which is that of the region that runs it, without a word to its server", () =>
    Effect.gen(function*() {
      const { connection, server } = yield* connected()
      const stopped = yield* Deferred.make<void>()
      const items = Stream.ensuring(Stream.never, Deferred.succeed(stopped, undefined))
      const run = connection.stream(feed, bytes(""), { items })
      const reading = yield* Effect.forkChild(Effect.flip(Connection.withOptions(texts(run), { timeout: "1 second" })))
      const peer = yield* server.accepted
      const { id } = yield* peer.next({ type: type.open })
      peer.items(id, bytes("a"))
      yield* TestClock.adjust("1 second")
      const error = yield* Fiber.join(reading)
      assert.ok(error instanceof CallError.DeadlineExceeded, String(error))
      yield* Deferred.await(stopped)
      const within = yield* Effect.forkChild(Effect.flip(Deadline.within(texts(run), "1 second")))
      yield* peer.next({ type: type.open })
      yield* TestClock.adjust("1 second")
      assert.ok((yield* Fiber.join(within)) instanceof CallError.DeadlineExceeded)
      const call = yield* Effect.forkChild(connection.call(feed, bytes("")))
      yield* peer.next({ type: type.request })
      assert.deepEqual(peer.messages.filter(({ type: is }) => is === type.cancel || is === type.end), [])
      yield* Fiber.interrupt(call)
    }).pipe(Effect.scoped))

  it.live("whose key, arguments or items have a wrong type dies", () =>
    Effect.gen(function*() {
      const { connection } = yield* connected()
      const defectOf = <E>(stream: Stream.Stream<Uint8Array, E>) =>
        Effect.map(Effect.exit(Stream.runDrain(stream)), (exit) => {
          assert.ok(Exit.isFailure(exit) && Cause.hasDies(exit.cause))
          return (Cause.squash(exit.cause) as Error).message
        })
      assert.match(yield* defectOf(connection.stream("key" as never, bytes(""))), /the key of a call is a MethodKey/)
      assert.match(yield* defectOf(connection.stream(feed, "text" as never)), /the arguments of .* are a Uint8Array/)
      const items = [1] as never
      assert.match(
        yield* defectOf(connection.stream(feed, bytes(""), { items })),
        /the items of a stream: expected a Stream/
      )
      assert.match(
        yield* defectOf(connection.stream(feed, bytes(""), { retry: "twice" as never })),
        /option retry: expected a Schedule, got twice/
      )
    }).pipe(Effect.scoped))
})

describe("the items of a client", () => {
  it.live("are sent in their order, and then their end", () =>
    Effect.gen(function*() {
      const { connection, server } = yield* connected()
      const items = Stream.map(Stream.make("x", "y", "z"), bytes)
      const reading = yield* Effect.forkChild(texts(connection.stream(feed, bytes(""), { items })))
      const peer = yield* server.accepted
      const { id } = yield* peer.next({ type: type.open })
      for (const text of ["x", "y", "z"]) assert.equal((yield* peer.item(id)).toString(), text)
      yield* peer.next({ type: type.end, id })
      peer.respond(id)
      assert.deepEqual(yield* Fiber.join(reading), [])
    }).pipe(Effect.scoped))

  it.live("are pulled only as fast as the server takes them", () =>
    Effect.gen(function*() {
      const { connection, server } = yield* connected()
      let pulled = 0
      const items = Stream.fromEffectRepeat(Effect.sync(() => {
        pulled++
        return new Uint8Array(1020)
      }))
      yield* Effect.forkChild(texts(connection.stream(feed, bytes(""), { items })))
      const peer = yield* server.accepted
      const { id } = yield* peer.next({ type: type.open })
      yield* peer.holds("what may be sent at first", () => peer.rules.countOf(id) === 16)
      // Behind all that the client would have sent.
      const call = yield* Effect.forkChild(connection.call(feed, bytes("")))
      yield* peer.next({ type: type.request })
      assert.deepEqual([peer.rules.countOf(id), pulled], [16, 17])
      yield* Fiber.interrupt(call)
      peer.credit(id, 1024)
      yield* peer.holds("one more", () => peer.rules.countOf(id) === 17)
    }).pipe(Effect.scoped))

  it.live("run in the context of the fiber that runs the stream", () =>
    Effect.gen(function*() {
      const Name = Context.Service<"Name", string>("Name")
      const { connection, server } = yield* connected()
      const items = Stream.fromEffect(Effect.map(Name, bytes))
      const reading = Effect.provideService(texts(connection.stream(feed, bytes(""), { items })), Name, "Ada")
      yield* Effect.forkChild(reading)
      const peer = yield* server.accepted
      const { id } = yield* peer.next({ type: type.open })
      assert.equal((yield* peer.item(id)).toString(), "Ada")
    }).pipe(Effect.scoped))

  for (
    const [how, end] of [
      ["fail", Effect.fail("no more")],
      ["die", Effect.die("no more")]
    ] as const
  ) {
    it.live(`that ${how} cancel the stream, which ends like that behind what has come`, () =>
      Effect.gen(function*() {
        const { connection, server } = yield* connected()
        const latch = yield* Latch.make()
        const items = Stream.fromEffect(Effect.andThen(latch.await, end))
        const { next, peer, id } = yield* opened(server, connection.stream(feed, bytes(""), { items }))
        peer.items(id, bytes("a"))
        assert.deepEqual(yield* next, ["a"])
        yield* latch.open
        yield* peer.next({ type: type.cancel, id })
        const exit = yield* Effect.exit(next)
        assert.ok(Exit.isFailure(exit))
        assert.equal(Cause.squash(exit.cause), "no more")
        assert.equal(Cause.hasDies(exit.cause), how === "die")
      }).pipe(Effect.scoped))
  }

  it.live("that fail before anything has come end the stream, and are not run again", () =>
    Effect.gen(function*() {
      const { connection, server } = yield* connected()
      let runs = 0
      const items = Stream.fromEffect(Effect.suspend(() => Effect.fail(`run ${++runs}`)))
      const key = MethodKey.idempotent(feed)
      const stream = connection.stream(key, bytes(""), { items, retry: Schedule.spaced(1) })
      const reading = yield* Effect.forkChild(Effect.flip(texts(stream)))
      const peer = yield* server.accepted
      const { id } = yield* peer.next({ type: type.open })
      yield* peer.next({ type: type.cancel, id })
      assert.equal(yield* Fiber.join(reading), "run 1")
    }).pipe(Effect.scoped))

  it.live("that are no Uint8Array are a defect", () =>
    Effect.gen(function*() {
      const { connection, server } = yield* connected()
      const items = Stream.make("text" as never)
      const reading = yield* Effect.forkChild(Effect.exit(texts(connection.stream(feed, bytes(""), { items }))))
      const peer = yield* server.accepted
      yield* peer.next({ type: type.cancel })
      const exit = yield* Fiber.join(reading)
      assert.ok(Exit.isFailure(exit) && Cause.hasDies(exit.cause))
      assert.match(
        (Cause.squash(exit.cause) as Error).message,
        /an item of a stream: expected a Uint8Array, got "text"/
      )
    }).pipe(Effect.scoped))

  it.live("that are longer than the largest message are too large", () =>
    Effect.gen(function*() {
      const { connection, server } = yield* connected({ maxMessageSize: 2000 })
      const items = Stream.make(new Uint8Array(2000), new Uint8Array(2001))
      const reading = yield* Effect.forkChild(Effect.flip(texts(connection.stream(feed, bytes(""), { items }))))
      const peer = yield* server.accepted
      const { id } = yield* peer.next({ type: type.open })
      assert.equal((yield* peer.item(id)).length, 2000)
      const error = yield* Fiber.join(reading)
      assert.ok(error instanceof CallError.CommunicationError && error.reason._tag === "TooLarge")
      assert.match(error.message, /an item for test\/Echo\.feed is 2001 bytes, expected at most 2000/)
    }).pipe(Effect.scoped))
})

describe("both directions of a stream", () => {
  it.live("go on side by side", () =>
    Effect.gen(function*() {
      const { connection, server } = yield* connected()
      const words = yield* Queue.make<string, Cause.Done>()
      const items = Stream.map(Stream.fromQueue(words), bytes)
      const stream = yield* opened(server, connection.stream(feed, bytes(""), { items }))
      for (const word of ["a", "b", "c"]) {
        yield* Queue.offer(words, word)
        const item = yield* stream.peer.item(stream.id)
        stream.peer.items(stream.id, Buffer.concat([item, item]))
        assert.deepEqual(yield* stream.next, [word + word])
      }
      yield* Queue.end(words)
      yield* stream.peer.next({ type: type.end, id: stream.id })
      stream.peer.respond(stream.id)
      assert.ok(Exit.isFailure(yield* Effect.exit(stream.next)))
    }).pipe(Effect.scoped))
})
