/** `keepAlive`: its option and its default, and when its timers run. */
import { describe, it } from "@effect/vitest"
import { Clock, Effect, Fiber } from "effect"
import type { Connection } from "effect-call"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import * as DuplexPair from "../../src/internal/testing/duplexPair.ts"
import { connect } from "../support/networks.ts"
import {
  clientVersion,
  message,
  messagesOf,
  type Raw,
  rawOf,
  receives,
  request,
  version,
  versionWith
} from "../support/raw.ts"
import { calling, fork, keepAlive, nothing, onNetwork, put, understood } from "./keepAliveSupport.ts"
import { settle } from "./support.ts"

/** A clock's own methods, which a copy of it does not have. */
const bound = (clock: Clock.Clock): Omit<Clock.Clock, "sleep"> => ({
  currentTimeMillisUnsafe: () => clock.currentTimeMillisUnsafe(),
  currentTimeMillis: clock.currentTimeMillis,
  currentTimeNanosUnsafe: () => clock.currentTimeNanosUnsafe(),
  currentTimeNanos: clock.currentTimeNanos,
  monotonicTimeNanosUnsafe: () => clock.monotonicTimeNanosUnsafe(),
  monotonicTimeNanos: clock.monotonicTimeNanos
})

describe("keepAlive", () => {
  const askedWithin = Effect.fnUntraced(function*(options: Connection.ClientOptions | undefined) {
    const { raw, sent } = yield* calling(options ?? {})
    yield* TestClock.adjust("1 hour")
    yield* settle
    return raw.received().length - Buffer.concat(sent).length
  })

  it.effect("is off where it is false", () =>
    Effect.gen(function*() {
      assert.equal(yield* askedWithin({ keepAlive: false }), 0)
    }).pipe(onNetwork))

  it.effect("is off in memory where it is not given, so that a test may let hours pass", () =>
    Effect.gen(function*() {
      assert.equal(yield* askedWithin(undefined), 0)
    }).pipe(onNetwork))

  /** An endpoint that is not of our network in memory: this is what one of a user's own looks like. */
  const ownEndpoint = Effect.gen(function*() {
    const pair = DuplexPair.make()
    yield* Effect.addFinalizer(() => Effect.sync(pair.close))
    const raw = rawOf(pair.server)
    raw.write(understood)
    return { raw, endpoint: { address: "test://pair", dial: Effect.succeed(pair.client) } }
  })

  it.effect("is ten seconds and ten seconds where it is not given", () =>
    Effect.gen(function*() {
      const { endpoint, raw } = yield* ownEndpoint
      const connection = yield* connect([endpoint])
      const call = yield* fork(Effect.exit(connection.call(put, nothing)))
      const sent = [clientVersion, request(1, put, nothing)]
      yield* receives(raw, ...sent)
      yield* TestClock.adjust(9999)
      yield* settle
      yield* receives(raw, ...sent)
      yield* TestClock.adjust(1)
      yield* receives(raw, ...sent, version)
      yield* TestClock.adjust(9999)
      yield* settle
      assert.equal(call.pollUnsafe(), undefined)
      yield* TestClock.adjust(1)
      yield* Fiber.join(call)
    }))

  it.effect("sends its probe at once, even in a long turn of the event loop", () =>
    Effect.gen(function*() {
      const clock = yield* Clock.Clock
      const { endpoint, raw } = yield* ownEndpoint
      const socket = yield* endpoint.dial
      let bytes = 0
      const write = socket.write.bind(socket)
      socket.write = (chunk: Uint8Array) => {
        bytes += chunk.length
        return write(chunk)
      }
      const atTheEnd: Array<number> = []
      const noting: Clock.Clock = {
        ...bound(clock),
        // Whatever is put off to the end of the turn from then on comes after this.
        sleep: (duration) =>
          Effect.andThen(
            clock.sleep(duration),
            Effect.sync(() => void setImmediate(() => void atTheEnd.push(bytes)))
          )
      }
      const connection = yield* Effect.provideService(connect([endpoint], { keepAlive }), Clock.Clock, noting)
      yield* fork(Effect.exit(connection.call(put, nothing)))
      yield* raw.until((received) => messagesOf(received).length === 2)
      const before = bytes
      yield* TestClock.adjust("10 seconds")
      yield* raw.until((received) => messagesOf(received).length === 3)
      assert.deepEqual(atTheEnd, [before + version.length])
    }))

  it.effect("has no timer once its connection is over, from either end", () =>
    Effect.gen(function*() {
      const clock = yield* Clock.Clock
      let sleepers = 0
      const counting: Clock.Clock = {
        ...bound(clock),
        sleep: (duration) =>
          Effect.suspend(() => {
            sleepers++
            return clock.sleep(duration)
          }).pipe(Effect.onExit(() => Effect.sync(() => sleepers--)))
      }
      const opened = Effect.gen(function*() {
        const { endpoint, raw } = yield* ownEndpoint
        const connection = yield* connect([endpoint], { keepAlive })
        const call = yield* fork(connection.call(put, nothing))
        yield* raw.until((bytes) => messagesOf(bytes).length === 2)
        raw.write(message(1, 2))
        yield* Fiber.join(call)
        yield* settle
        assert.equal(sleepers, 1)
        return { connection, raw }
      }).pipe(Effect.provideService(Clock.Clock, counting))
      const ends = {
        "the client closes it": ({ connection }) => connection.close,
        "the server closes it": ({ raw }) => Effect.sync(() => void raw.socket.end()),
        "it breaks": ({ raw }) => Effect.sync(() => void raw.socket.destroy(new Error("broken"))),
        "the server goes away": ({ raw }) => Effect.sync(() => raw.write(versionWith(2))),
        "the server breaks the protocol": ({ raw }) => Effect.sync(() => raw.write(message(1, 9))),
        "it is given up": () => TestClock.adjust("15 seconds")
      } satisfies Record<string, (opened: { connection: Connection.Connection; raw: Raw }) => Effect.Effect<void>>
      for (const [how, end] of Object.entries(ends)) {
        const connected = yield* opened
        yield* end(connected)
        yield* connected.raw.closed
        yield* settle
        assert.equal(sleepers, 0, how)
      }
    }).pipe(Effect.scoped))
})
