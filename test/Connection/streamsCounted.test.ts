/**
 * What is counted of streams: by metrics, by balancers, and as failures of endpoints.
 */
import { describe, it } from "@effect/vitest"
import { Effect, Fiber, Stream } from "effect"
import { Balancer, Connection, Endpoint, Resolver } from "effect-call"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { callsOf, durationsOf, metered } from "../support/metrics.ts"
import { streamServer } from "../support/streamPeer.ts"
import { type } from "../support/streamWire.ts"
import { bytes, connected, feed, opened, texts } from "./streamsSupport.ts"

const outcomes = (metrics: Parameters<typeof callsOf>[0]) =>
  callsOf(metrics, "client").map((line) => line.replace(/ at .*(?=: )/, ""))

describe("a stream is counted once", () => {
  it.effect(
    "with the time from its start to its end",
    metered((metrics) =>
      Effect.gen(function*() {
        const { connection, server } = yield* connected()
        const { id, next, peer } = yield* opened(server, connection.stream(feed, bytes("")))
        peer.items(id, bytes("a"))
        yield* next
        yield* TestClock.adjust("3 seconds")
        peer.respond(id)
        yield* Effect.exit(next)
        assert.deepEqual(outcomes(metrics), ["1 feed: ok"])
        assert.equal(durationsOf(metrics, "client").sum, 3)
      }).pipe(Effect.scoped)
    )
  )

  it.live(
    "with how it has failed: on its server, by its consumer, by its items, or with its connection",
    metered((metrics) =>
      Effect.gen(function*() {
        const { connection, server } = yield* connected()
        const refused = yield* opened(server, connection.stream(feed, bytes("")))
        refused.peer.fail(refused.id, "no", "no")
        yield* Effect.exit(refused.next)
        const peer = refused.peer
        const enough = yield* Effect.forkChild(texts(Stream.take(connection.stream(feed, bytes("")), 1)))
        peer.items((yield* peer.next({ type: type.open })).id, bytes("a"))
        yield* Fiber.join(enough)
        const items = Stream.fail({ _tag: "NoMore" })
        yield* Effect.exit(texts(connection.stream(feed, bytes(""), { items })))
        yield* peer.next({ type: type.open })
        const lost = yield* opened(server, connection.stream(feed, bytes("")))
        peer.reset()
        yield* Effect.exit(lost.next)
        assert.deepEqual(outcomes(metrics), [
          "1 feed: CommunicationError",
          "1 feed: NoMore",
          "1 feed: RemoteError",
          "1 feed: canceled"
        ])
      }).pipe(Effect.scoped)
    )
  )

  it.live(
    "as unreachable where no server understands streams",
    metered((metrics) =>
      Effect.gen(function*() {
        const { connection } = yield* connected({}, { flags: 1, strict: false })
        yield* Effect.exit(texts(connection.stream(feed, bytes(""))))
        assert.deepEqual(callsOf(metrics, "client"), ["1 feed: Unreachable"])
      }).pipe(Effect.scoped)
    )
  )
})

describe("balancers", () => {
  it.live("count streams as pending", () =>
    Effect.gen(function*() {
      const servers = yield* Effect.all([streamServer(), streamServer()])
      const connection = yield* Connection.make(Resolver.constant(...servers.map(({ endpoint }) => endpoint)), {
        balancer: Balancer.leastPending
      })
      // One after the other: each goes where fewer are.
      for (let n = 0; n < 6; n++) {
        yield* Effect.forkScoped(texts(connection.stream(feed, bytes(""))))
        yield* Effect.gen(function*() {
          while (true) {
            const { endpoints } = yield* connection.state
            if (endpoints.reduce((sum, { streams }) => sum + streams, 0) === n + 1) return
            yield* Effect.yieldNow
          }
        })
      }
      const { endpoints } = yield* connection.state
      assert.deepEqual(endpoints.map(({ callsInFlight, streams }) => [streams, callsInFlight]), [[3, 0], [3, 0]])
    }).pipe(Effect.scoped))

  it.effect("are told nothing of how long streams take", () =>
    Effect.gen(function*() {
      const { connection, server } = yield* connected()
      const { id, next, peer } = yield* opened(server, connection.stream(feed, bytes("")))
      peer.items(id, bytes("a"))
      yield* next
      const call = yield* Effect.forkChild(connection.call(feed, bytes("")))
      const request = yield* peer.next({ type: type.request })
      yield* TestClock.adjust(20)
      peer.respond(request.id)
      yield* Fiber.join(call)
      assert.equal((yield* connection.state).endpoints[0]!.latency, 20)
      yield* TestClock.adjust("1 minute")
      assert.ok((yield* connection.state).endpoints[0]!.latency! < 20)
      peer.respond(id)
      yield* Effect.exit(next)
      assert.ok((yield* connection.state).endpoints[0]!.latency! < 20)
    }).pipe(Effect.scoped))
})

describe("an endpoint is ejected", () => {
  /** Five streams with a second each, of which the server sends `items` items before that. */
  const late = (items: number) =>
    Effect.gen(function*() {
      const server = yield* streamServer()
      // Of one endpoint, none is ejected.
      const other = Endpoint.tcp("127.0.0.1:1")
      const connection = yield* Connection.make(Resolver.constant(server.endpoint, other), {
        balancer: Balancer.make(([first]) => Effect.succeed(first!))
      })
      for (let n = 0; n < 5; n++) {
        const reading = yield* Effect.forkChild(
          Effect.flip(texts(connection.stream(feed, bytes(""), { timeout: "1 second" })))
        )
        const peer = server.peers[0] ?? (yield* server.accepted)
        const { id } = yield* peer.next({ type: type.open })
        for (let i = 0; i < items; i++) peer.items(id, bytes("a"))
        // What comes after it has been read, too.
        const call = yield* Effect.forkChild(connection.call(feed, bytes("")))
        if (items > 0) {
          peer.respond((yield* peer.next({ type: type.request })).id)
          yield* Fiber.join(call)
        } else {
          yield* Fiber.interrupt(call)
        }
        yield* TestClock.adjust("1 second")
        assert.equal((yield* Fiber.join(reading))._tag, "DeadlineExceeded")
      }
      return (yield* connection.state).endpoints[0]!.isEjected
    }).pipe(Effect.scoped)

  it.effect("after five streams of which nothing has come in time", () =>
    Effect.gen(function*() {
      assert.equal(yield* late(0), true)
    }))

  it.effect("not for streams that have given items and last for as long as they may", () =>
    Effect.gen(function*() {
      assert.equal(yield* late(1), false)
    }))
})
