/** How endless streams end when their server leaves, with a client by hand. */
import { describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Stream } from "effect"
import { type HandlerMap, Server } from "effect-call"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { duplexPair } from "node:stream"
import { bytes, key, never, streams } from "../internal/server/streamSupport.ts"
import { streamPeerOn } from "../support/streamPeer.ts"
import { identity, type } from "../support/streamWire.ts"

const window = 65_536

/** A server of one connection, and its client. */
const serve = Effect.fnUntraced(function*(
  handlers: Record<string, HandlerMap.StreamHandler>,
  options?: Server.ServerOptions
) {
  const [clientSide, serverSide] = duplexPair()
  const server = yield* Effect.forkScoped(Server.serveOn(serverSide, streams(handlers), options))
  const peer = yield* streamPeerOn(clientSide, "client")
  yield* peer.next({ type: type.version })
  /** Stops the server, whose client says its last word. */
  const stop = Effect.gen(function*() {
    const stopping = yield* Effect.forkScoped(Fiber.interrupt(server))
    yield* peer.next({ type: type.version })
    peer.hello(13)
    yield* peer.next({ type: type.version })
    return stopping
  })
  return { peer, stop }
})

describe("a server that leaves", () => {
  it.effect("tells its handlers, which can end their streams well", () =>
    Effect.gen(function*() {
      const feed = () => Stream.concat(Stream.interruptWhen(Stream.never, Server.leaving), Stream.make(bytes("bye")))
      const { peer, stop } = yield* serve({ feed })
      peer.open(1, key("feed"), window)
      yield* peer.holds("credit", () => peer.granted(1) > 0)
      const stopping = yield* stop
      assert.equal((yield* peer.item(1)).toString(), "bye")
      yield* peer.next({ id: 1, type: type.response })
      peer.socket.end()
      yield* Fiber.join(stopping)
    }))

  it.effect("ends what lasts until then, so that the client knows why, and logs nothing", () =>
    Effect.gen(function*() {
      const closed = yield* Deferred.make<void>()
      const feed = () =>
        Stream.make(bytes("a")).pipe(
          Stream.concat(Stream.never),
          Stream.ensuring(Deferred.succeed(closed, undefined)),
          Server.untilLeaving
        )
      const { peer, stop } = yield* serve({ feed })
      peer.open(1, key("feed"), window)
      yield* peer.item(1)
      const stopping = yield* stop
      assert.deepEqual(yield* peer.error(1), { message: "leaving", identity: identity.leaving })
      yield* Deferred.await(closed)
      peer.socket.end()
      yield* Fiber.join(stopping)
    }))

  it.effect("ends at the end of its grace what does not end by itself, and says why", () =>
    Effect.gen(function*() {
      const { peer, stop } = yield* serve({ never }, { shutdownGrace: "5 seconds" })
      peer.open(1, key("never"), window)
      yield* peer.holds("credit", () => peer.granted(1) > 0)
      const stopping = yield* stop
      yield* TestClock.adjust("4999 millis")
      assert.ok(!peer.messages.some(({ id, type: of }) => id === 1 && of === type.responseError))
      yield* TestClock.adjust("1 millis")
      assert.deepEqual(yield* peer.error(1), { message: "leaving", identity: identity.leaving })
      peer.socket.end()
      yield* Fiber.join(stopping)
    }))

  it.effect("without a grace says so, too", () =>
    Effect.gen(function*() {
      const { peer, stop } = yield* serve({ never }, { shutdownGrace: 0 })
      peer.open(1, key("never"), window)
      yield* peer.holds("credit", () => peer.granted(1) > 0)
      yield* Effect.forkScoped(stop)
      assert.equal((yield* peer.error(1)).identity, identity.leaving)
    }))

  it.effect("still takes items, credit and ends of the streams that are open", () =>
    Effect.gen(function*() {
      const { peer, stop } = yield* serve({ echo: (_args, items) => items })
      peer.open(1, key("echo"), 1)
      peer.items(1, bytes("a"))
      yield* peer.item(1)
      const stopping = yield* stop
      peer.items(1, bytes("b"))
      peer.credit(1, 1000)
      assert.equal((yield* peer.item(1)).toString(), "b")
      peer.end(1)
      yield* peer.next({ id: 1, type: type.response })
      peer.socket.end()
      yield* Fiber.join(stopping)
    }))
})

describe("outside of a server", () => {
  it.effect("nothing leaves: streams stay as they are", () =>
    Effect.gen(function*() {
      const fiber = yield* Effect.forkChild(Server.leaving)
      assert.deepEqual(yield* Stream.runCollect(Server.untilLeaving(Stream.make(1, 2))), [1, 2])
      assert.equal(fiber.pollUnsafe(), undefined)
      yield* Fiber.interrupt(fiber)
    }))
})
