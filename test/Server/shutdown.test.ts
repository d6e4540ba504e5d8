/**
 * Stopping a server: calls in flight get their grace, then everything ends.
 */
import { describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Layer, Scope } from "effect"
import { type CallError, Connection, Endpoint, HandlerMap, Listener, MethodKey, Resolver, Server } from "effect-call"
import { TestNetwork } from "effect-call/testing"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { Duplex } from "node:stream"
import * as DuplexPair from "../../src/internal/testing/duplexPair.ts"
import { bytesOf, component, connect, eachNetwork, echo, handlers, memory, textOf } from "../support/networks.ts"
import { rawClient, request, version } from "../support/raw.ts"

const work = MethodKey.make(component, "work")
const nothing = new Uint8Array()

/** A handler that works until it is released, with what becomes of it. */
const working = Effect.gen(function*() {
  const started = yield* Deferred.make<void>()
  const release = yield* Deferred.make<void>()
  const interrupted = yield* Deferred.make<void>()
  return {
    started: Deferred.await(started),
    release: Deferred.succeed(release, undefined),
    interrupted: Deferred.await(interrupted),
    isInterrupted: Deferred.isDone(interrupted),
    handlers: HandlerMap.set(
      handlers,
      work.component,
      work.method,
      (args) =>
        Effect.andThen(Deferred.succeed(started, undefined), Deferred.await(release)).pipe(
          Effect.as(args),
          Effect.onInterrupt(() => Deferred.succeed(interrupted, undefined))
        )
    )
  }
})

const isLost = (error: CallError.CallError) => {
  assert.ok(error._tag === "CommunicationError", error.message)
  assert.equal(error.reason._tag, "Lost")
  assert.equal(error.maybeExecuted, true)
}

describe("interrupting serve", () => {
  eachNetwork((network) => {
    it.live("accepts no new connections, and lets calls in flight end", () =>
      Effect.gen(function*() {
        const { handlers, isInterrupted, release, started } = yield* working
        const { endpoint, serving } = yield* network.serve(handlers, { shutdownGrace: "1 minute" })
        const connection = yield* connect([endpoint])
        const calling = yield* Effect.forkChild(connection.call(work, bytesOf("done")))
        yield* started
        const stopping = yield* Effect.forkChild(Fiber.interrupt(serving), { startImmediately: true })
        const refused = yield* Effect.flip(Effect.flatMap(connect([endpoint]), (late) => late.call(echo, nothing)))
        assert.equal(refused._tag, "Unreachable")
        assert.equal(stopping.pollUnsafe(), undefined)
        yield* release
        assert.equal(textOf(yield* Fiber.join(calling)), "done")
        yield* Fiber.join(stopping)
        assert.equal(yield* isInterrupted, false)
        // Its connections are gone with it.
        assert.equal((yield* Effect.flip(connection.call(echo, nothing)))._tag, "Unreachable")
      }).pipe(Effect.scoped))

    it.live("answers with large results that are still being written when the last handler has ended", () =>
      Effect.gen(function*() {
        const { handlers, release, started } = yield* working
        const { endpoint, serving } = yield* network.serve(handlers, { shutdownGrace: "1 minute" })
        const connection = yield* connect([endpoint])
        const args = new Uint8Array(3_000_000).fill(7)
        const calling = yield* Effect.forkChild(connection.call(work, args))
        yield* started
        const stopping = yield* Effect.forkChild(Fiber.interrupt(serving), { startImmediately: true })
        yield* release
        assert.ok(Buffer.compare(yield* Fiber.join(calling), args) === 0)
        yield* Fiber.join(stopping)
      }).pipe(Effect.scoped))

    it.live("past the grace interrupts what is left, and closes every connection", () =>
      Effect.gen(function*() {
        const { handlers, interrupted, started } = yield* working
        const { endpoint, serving } = yield* network.serve(handlers, { shutdownGrace: 10 })
        const connection = yield* connect([endpoint])
        // A client that says nothing, and delays no other.
        const idle = yield* rawClient(endpoint)
        idle.write(version)
        yield* idle.until((received) => received.length >= version.length)
        const calling = yield* Effect.forkChild(connection.call(work, nothing))
        yield* started
        yield* Fiber.interrupt(serving)
        isLost(yield* Effect.flip(Fiber.join(calling)))
        yield* interrupted
        yield* idle.closed
      }).pipe(Effect.scoped))
  })

  it.effect("waits exactly as long as the grace, 2 seconds unless it is told otherwise", () =>
    Effect.gen(function*() {
      const { handlers, interrupted, isInterrupted, started } = yield* working
      const { endpoint, listener } = yield* memory.listen(handlers)
      const serving = yield* Effect.forkChild(Server.serve(listener))
      const connection = yield* connect([endpoint])
      const calling = yield* Effect.forkChild(connection.call(work, nothing))
      yield* started
      const stopping = yield* Effect.forkChild(Fiber.interrupt(serving), { startImmediately: true })
      yield* TestClock.adjust(1999)
      assert.equal(yield* isInterrupted, false)
      assert.equal(stopping.pollUnsafe(), undefined)
      yield* TestClock.adjust(1)
      yield* interrupted
      yield* Fiber.join(stopping)
      isLost(yield* Effect.flip(Fiber.join(calling)))
    }).pipe(Effect.scoped))

  it.effect("ends the connection at the grace also where a handler cannot be interrupted, and itself with that handler", () =>
    Effect.gen(function*() {
      const started = yield* Deferred.make<void>()
      const { endpoint, serving } = yield* memory.serve(
        HandlerMap.set(
          handlers,
          component,
          "stubborn",
          (args) =>
            Effect.andThen(Deferred.succeed(started, undefined), Effect.sleep("10 seconds")).pipe(
              Effect.as(args),
              Effect.uninterruptible
            )
        ),
        { shutdownGrace: "1 second" }
      )
      const connection = yield* connect([endpoint])
      const calling = yield* Effect.forkChild(connection.call(MethodKey.make(component, "stubborn"), nothing))
      yield* Deferred.await(started)
      const stopping = yield* Effect.forkChild(Fiber.interrupt(serving), { startImmediately: true })
      yield* TestClock.adjust("1 second")
      isLost(yield* Effect.flip(Fiber.join(calling)))
      assert.equal(stopping.pollUnsafe(), undefined)
      yield* TestClock.adjust("9 seconds")
      yield* Fiber.join(stopping)
    }).pipe(Effect.scoped))
})

describe("a connection that is lost", () => {
  eachNetwork((network) => {
    it.live("interrupts the handlers of its own calls only", () =>
      Effect.gen(function*() {
        const lost = yield* working
        const { endpoint } = yield* network.serve(
          HandlerMap.set(lost.handlers, component, "other", (args) => Effect.as(lost.interrupted, args))
        )
        const scope = yield* Scope.make()
        const connection = yield* Scope.provide(connect([endpoint]), scope)
        const other = yield* connect([endpoint])
        const calling = yield* Effect.forkChild(Effect.exit(connection.call(work, nothing)))
        yield* lost.started
        const waiting = yield* Effect.forkChild(other.call(MethodKey.make(component, "other"), bytesOf("still here")))
        yield* Scope.close(scope, Exit.void)
        assert.equal(textOf(yield* Fiber.join(waiting)), "still here")
        yield* Fiber.join(calling)
      }).pipe(Effect.scoped))
  })
})

describe("a handler that ends its own connection before it returns", () => {
  for (const traced of [false, true]) {
    it.live(`is interrupted, ${traced ? "in" : "without"} a trace`, () =>
      Effect.gen(function*() {
        // Says that it is closed as soon as it is, unlike Node's own.
        const far = new Duplex({
          emitClose: false,
          read: () => {},
          write: (_chunk, _encoding, done) => done(),
          destroy(error, done) {
            done(error)
            this.emit("close")
          }
        })
        const interrupted = yield* Deferred.make<void>()
        const handlers = HandlerMap.set(HandlerMap.empty, work.component, work.method, () => {
          far.destroy()
          return Effect.onInterrupt(Effect.never, () => Deferred.succeed(interrupted, undefined))
        })
        const serving = yield* Effect.forkChild(Server.serveOn(far, handlers), { startImmediately: true })
        const bytes = request(1, work, nothing)
        // The trace context of the request, after its key and its deadline.
        if (traced) bytes.fill(1, 16 + 24, 16 + 49)
        far.push(Buffer.concat([version, bytes]))
        yield* Deferred.await(interrupted)
        yield* Fiber.join(serving)
      }))
  }
})

describe("serve", () => {
  it.effect("fails when its listener breaks, and ends the calls of its connections then", () =>
    Effect.gen(function*() {
      const { handlers, interrupted, started } = yield* working
      const network = yield* TestNetwork.make
      const { endpoint, listener } = yield* Effect.map(network.listener("server", handlers), (listener) => ({
        endpoint: network.endpoint("server"),
        listener
      }))
      const broken = yield* Deferred.make<never, Listener.ListenerError>()
      let closed = 0
      const breakable: typeof listener = {
        address: listener.address,
        accept: Effect.raceFirst(listener.accept, Deferred.await(broken)),
        close: Effect.andThen(Effect.sync(() => closed++), listener.close)
      }
      const serving = yield* Effect.forkChild(Server.serve(breakable, { shutdownGrace: 0 }))
      const connection = yield* connect([endpoint])
      const calling = yield* Effect.forkChild(connection.call(work, nothing))
      yield* started
      yield* Deferred.fail(broken, new Listener.ListenerError({ message: "broken", address: listener.address }))
      assert.equal((yield* Effect.flip(Fiber.join(serving))).message, "broken")
      yield* interrupted
      isLost(yield* Effect.flip(Fiber.join(calling)))
      assert.ok(closed > 0)
    }).pipe(Effect.scoped))
})

describe("layer", () => {
  it.live("serves for as long as it lives, at the address that it tells", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const context = yield* Layer.buildWithScope(Server.layer(Listener.tcp("127.0.0.1:0", handlers)), scope)
      const { address } = yield* Effect.provideContext(Server.Server, context)
      const endpoint = yield* Endpoint.parse(address)
      const connection = yield* connect([endpoint])
      assert.equal(textOf(yield* connection.call(echo, bytesOf("hello"))), "hello")
      // The address is taken, and that is the layer's error.
      const failed = yield* Effect.flip(Effect.scoped(Layer.build(Server.layer(Listener.tcp(endpoint.addr, handlers)))))
      assert.equal(failed._tag, "ListenerError")
      yield* Scope.close(scope, Exit.void)
      const error = yield* Effect.flip(connection.call(echo, nothing))
      assert.equal(error._tag, "Unreachable", error.message)
      yield* Effect.scoped(Layer.build(Server.layer(Listener.tcp(endpoint.addr, handlers))))
    }).pipe(Effect.scoped))
})

describe("serveOn", () => {
  /**
   * Both ends of a connection that is there already. Not Node's `duplexPair`: in 22.19 its ends do not hear of each
   * other's end.
   */
  const connected = Effect.gen(function*() {
    const { client: near, server: far } = DuplexPair.make()
    yield* Effect.addFinalizer(() => Effect.sync(() => void near.destroy()))
    const connection = yield* Connection.make(
      Resolver.constant({ address: "test://pair", dial: Effect.succeed(near) })
    )
    return { near, far, connection }
  })

  const closed = (duplex: Duplex) =>
    Effect.callback<void>((resume) => {
      if (duplex.closed) resume(Effect.void)
      else duplex.once("close", () => resume(Effect.void))
    })

  it.live("serves a connection, and ends when its peer ends it and its handlers have ended", () =>
    Effect.gen(function*() {
      const { handlers, interrupted, started } = yield* working
      const { connection, far } = yield* connected
      const serving = yield* Effect.forkChild(Server.serveOn(far, handlers))
      assert.equal(textOf(yield* connection.call(echo, bytesOf("hello"))), "hello")
      const calling = yield* Effect.forkChild(Effect.exit(connection.call(work, nothing)))
      yield* started
      assert.equal(serving.pollUnsafe(), undefined)
      yield* connection.close
      yield* Fiber.join(serving)
      yield* interrupted
      yield* Fiber.join(calling)
      yield* closed(far)
    }).pipe(Effect.scoped))

  it.effect("when interrupted lets calls in flight end, and closes the connection", () =>
    Effect.gen(function*() {
      const { handlers, release, started } = yield* working
      const { connection, far } = yield* connected
      const serving = yield* Effect.forkChild(Server.serveOn(far, handlers))
      const calling = yield* Effect.forkChild(connection.call(work, bytesOf("done")))
      yield* started
      const stopping = yield* Effect.forkChild(Fiber.interrupt(serving), { startImmediately: true })
      yield* release
      assert.equal(textOf(yield* Fiber.join(calling)), "done")
      yield* Fiber.join(stopping)
      yield* closed(far)
    }).pipe(Effect.scoped))

  it.effect("past the grace interrupts them", () =>
    Effect.gen(function*() {
      const { handlers, interrupted, started } = yield* working
      const { connection, far } = yield* connected
      const serving = yield* Effect.forkChild(Server.serveOn(far, handlers, { shutdownGrace: "1 second" }))
      const calling = yield* Effect.forkChild(connection.call(work, nothing))
      yield* started
      const stopping = yield* Effect.forkChild(Fiber.interrupt(serving), { startImmediately: true })
      yield* TestClock.adjust("1 second")
      yield* interrupted
      yield* Fiber.join(stopping)
      isLost(yield* Effect.flip(Fiber.join(calling)))
    }).pipe(Effect.scoped))

  it.live("of a connection that is closed already ends at once", () =>
    Effect.gen(function*() {
      const { client: near, server: far } = DuplexPair.make()
      near.destroy()
      far.destroy()
      yield* closed(far)
      yield* Server.serveOn(far, handlers)
    }))
})
