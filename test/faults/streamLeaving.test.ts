/**
 * Streams and messages in parts on a connection whose server goes away: what was begun goes on, what is new goes
 * elsewhere, and what is open at the end of the grace is told why it ends.
 */
import { describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Scope, Stream } from "effect"
import { Server } from "effect-call"
import * as assert from "node:assert/strict"
import * as Networks from "../support/networks.ts"
import { message } from "../support/raw.ts"
import { type StreamPeer, streamServer } from "../support/streamPeer.ts"
import * as Wire from "../support/streamWire.ts"
import { flag, identity, type } from "../support/streamWire.ts"
import { echo, endless, feed, makeStreams, mirror, silent, sink, u32s, until, withCall } from "./streams.ts"

const fork = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.forkChild(effect, { startImmediately: true })

/** A client's answer to a server that goes away. */
const lastWord = Wire.version(Wire.streamsFlags | flag.noMoreRequests)

/** A server that can be stopped, and a peer with a call on it as id 1. */
const leaving = Effect.fnUntraced(function*(shutdownGrace: Server.ServerOptions["shutdownGrace"] = "1 minute") {
  const { handlers, seen } = makeStreams()
  const { endpoint, listener } = yield* Networks.tcp.listen(handlers)
  const scope = yield* Scope.make()
  const serving = yield* Effect.forkIn(Server.serve(listener, { shutdownGrace }), scope, { startImmediately: true })
  yield* Effect.addFinalizer(() => Scope.close(scope, Exit.void))
  const peer = yield* withCall({ endpoint, seen })
  const leave = Effect.gen(function*() {
    const stopping = yield* Effect.forkIn(Fiber.interrupt(serving), scope, { startImmediately: true })
    const { payload } = yield* peer.next({ type: type.version })
    assert.equal(payload.readUInt32LE(4), 11)
    return stopping
  })
  return { endpoint, seen, peer, leave }
})

describe("a server that goes away", () => {
  it.live("serves items, ends, credit and cancels of what is open, until all of it is over", () =>
    Effect.gen(function*() {
      const { leave, peer, seen } = yield* leaving()
      peer.open(2, mirror, 16)
      peer.open(3, feed, 12, u32s(3, 8))
      peer.open(4, silent, 100)
      yield* peer.item(3)
      const stopping = yield* leave
      peer.write(lastWord)
      peer.items(2, Buffer.from("still"))
      assert.equal((yield* peer.item(2)).toString(), "still")
      peer.end(2)
      assert.equal((yield* peer.answer(2)).type, type.response)
      peer.credit(3, 100)
      yield* peer.item(3)
      yield* peer.item(3)
      assert.equal((yield* peer.answer(3)).type, type.response)
      peer.cancel(4)
      yield* until("its handler to be interrupted", () => seen.running === 0)
      assert.ok(!peer.isClosed)
      peer.cancel(1)
      yield* peer.closed
      yield* Fiber.join(stopping)
    }).pipe(Effect.scoped))

  it.live("serves a message whose parts were begun before the client's last word", () =>
    Effect.gen(function*() {
      const { leave, peer } = yield* leaving()
      peer.cancel(1)
      yield* peer.answer(1)
      const args = Buffer.alloc(100_000, 3)
      const pieces = Wire.inParts(2, type.request, Wire.requestPayload(echo, args), 30_000)
      peer.begins(2, type.request)
      peer.write(pieces[0]!)
      const stopping = yield* leave
      peer.write(lastWord)
      // Longer than the quiet period of a server that has nothing to do.
      yield* Effect.sleep(300)
      assert.ok(!peer.isClosed, "an unfinished request holds the connection")
      peer.write(...pieces.slice(1))
      assert.ok((yield* peer.answer(2)).payload.equals(args))
      yield* peer.closed
      yield* Fiber.join(stopping)
    }).pipe(Effect.scoped))

  it.live("sends an answer in parts to its end", () =>
    Effect.gen(function*() {
      const { handlers } = makeStreams()
      const { endpoint, listener } = yield* Networks.tcp.listen(handlers)
      const serving = yield* Effect.forkScoped(Server.serve(listener), { startImmediately: true })
      const connection = yield* Networks.connect([endpoint])
      const large = { component: "test/Streams", method: "large" }
      const key = [...handlers.entries.values()].find(({ key }) => key.method === large.method)!.key
      const calling = yield* fork(connection.call(key, u32s(20_000_000)))
      yield* until("bytes of it", () => Effect.runSync(connection.state).endpoints[0]!.callsInFlight === 1)
      yield* Effect.sleep(3)
      const stopping = yield* fork(Fiber.interrupt(serving))
      const exit = yield* Fiber.await(calling)
      // It may not have been sent at all when the server left; then nobody has run it.
      if (Exit.isSuccess(exit)) assert.equal(exit.value.length, 20_000_000)
      else assert.match(JSON.stringify(exit), /Unreachable/)
      yield* Fiber.join(stopping)
    }).pipe(Effect.scoped))

  it.live("ends what is open at the end of its grace with the identity of leaving, before the connection ends", () =>
    Effect.gen(function*() {
      const { leave, peer, seen } = yield* leaving(100)
      peer.open(2, silent, 100)
      peer.open(3, endless, 100, u32s(8))
      peer.open(4, sink, 100)
      yield* until("all to run", () => seen.running === 3)
      const stopping = yield* leave
      for (const id of [2, 3, 4]) {
        const error = yield* peer.error(id)
        assert.equal(error.identity, identity.leaving, error.message)
      }
      yield* peer.closed
      yield* Fiber.join(stopping)
      assert.deepEqual([seen.running, seen.interrupted], [0, 3])
    }).pipe(Effect.scoped))
})

describe("a client whose server goes away", () => {
  const opened = Effect.gen(function*() {
    const server = yield* streamServer()
    const connection = yield* Networks.connect([server.endpoint])
    return { server, connection }
  })

  /** Says that the server goes away, and waits for the client's answer. */
  const leaves = Effect.fnUntraced(function*(peer: StreamPeer) {
    peer.write(Wire.version(Wire.streamsFlags | flag.goingAway))
    yield* peer.holds(
      "the last word",
      () => peer.messages.some(({ payload, type: each }) => each === type.version && payload.readUInt32LE(4) === 13)
    )
  })

  it.live("says its last word with the flag of streams, and sends nothing new behind it", () =>
    Effect.gen(function*() {
      const { connection, server } = yield* opened
      const got: Array<number> = []
      const gate = { open: false }
      const items = Stream.fromIterable(
        (function*() {
          for (let index = 0; !gate.open; index++) yield new Uint8Array(8).fill(index)
        })(),
        { chunkSize: 1 }
      )
      const streaming = yield* fork(Stream.runForEach(
        connection.stream(mirror, new Uint8Array(), { items }),
        (item) => Effect.sync(() => void got.push(item.length))
      ))
      const peer = yield* server.accepted
      yield* peer.next({ type: type.open, id: 1 })
      yield* leaves(peer)
      // What is open goes on, both ways.
      peer.credit(1, 12)
      const before = peer.rules.countOf(1)
      yield* peer.holds("items behind the last word", () => peer.rules.countOf(1) > before)
      peer.items(1, Buffer.alloc(5), Buffer.alloc(6))
      yield* until("the items", () => got.length === 2)
      gate.open = true
      peer.credit(1, 1000)
      yield* peer.next({ type: type.end, id: 1 })
      // A call goes elsewhere, and the rules of the peer see that nothing begins here.
      const calling = yield* fork(connection.call(echo, new Uint8Array(1)))
      const second = yield* server.accepted
      yield* second.next({ type: type.request, id: 1 })
      second.respond(1)
      yield* Fiber.join(calling)
      peer.respond(1)
      yield* Fiber.join(streaming)
      yield* peer.closed
    }).pipe(Effect.scoped))

  it.live("completes a call whose first part has left, and makes those elsewhere that have not", () =>
    Effect.gen(function*() {
      const server = yield* streamServer({ returns: false })
      const connection = yield* Networks.connect([server.endpoint])
      // Each is larger than what may be in flight; together they are more than may be under way.
      const calls = yield* Effect.forEach(
        [1, 2, 3],
        (index) => fork(connection.call(echo, new Uint8Array(30_000_000).fill(index)))
      )
      const peer = yield* server.accepted
      yield* peer.holds("as much as there may be", () => peer.rules.flown >= Wire.mostInFlight)
      const begun = new Set(peer.messages.filter(({ type: each }) => each === type.part).map(({ id }) => id))
      yield* leaves(peer)
      const second = yield* server.accepted
      for (const each of [peer, second]) {
        yield* fork(Effect.gen(function*() {
          while (!each.isClosed) {
            each.tell()
            yield* Effect.callback<void>((resume) => void setImmediate(() => resume(Effect.void)))
          }
        }))
        yield* fork(Effect.forever(Effect.gen(function*() {
          const { id, payload } = yield* each.next({ type: type.request })
          each.write(message(id, type.response, payload.subarray(49, 53)))
          each.rules.sentEnd(id)
        })))
      }
      for (const [index, call] of calls.entries()) {
        assert.deepEqual([...(yield* Fiber.join(call))], new Array(4).fill(index + 1))
      }
      const served = (each: StreamPeer) => each.rules.seen.get(type.request) ?? 0
      assert.equal(served(peer), begun.size)
      assert.equal(served(second), 3 - begun.size)
    }).pipe(Effect.scoped))

  it.live("fails with a RemoteError that isLeaving, when the server ends its stream so", () =>
    Effect.gen(function*() {
      const { connection, server } = yield* opened
      const streaming = yield* fork(Effect.flip(Stream.runDrain(connection.stream(feed, new Uint8Array()))))
      const peer = yield* server.accepted
      yield* peer.next({ type: type.open })
      peer.fail(1, "leaving", identity.leaving)
      const error = yield* Fiber.join(streaming)
      assert.ok(error._tag === "RemoteError", error._tag)
      assert.equal((error as unknown as { readonly isLeaving: boolean }).isLeaving, true)
    }).pipe(Effect.scoped))
})
