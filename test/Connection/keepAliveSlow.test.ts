/** `keepAlive` with servers that are slow to take a large message, and over real sockets. */
import { describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { TestNetwork } from "effect-call/testing"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { Duplex } from "node:stream"
import { bytesOf, connect, eachNetwork, handlers, mtlsOverTcp, tcp, textOf, unix } from "../support/networks.ts"
import { clientVersion, message, messagesOf, rawAccepted } from "../support/raw.ts"
import {
  fork,
  isLost,
  keepAlive,
  kindsOf,
  mebibyte,
  nothing,
  onNetwork,
  put,
  silence,
  stateOf,
  understood
} from "./keepAliveSupport.ts"
import { standsStill } from "./standstill.ts"
import { settle, turn } from "./support.ts"

describe("a server that is slow to take a large message, and says nothing meanwhile", () => {
  /** An upload of 8 MiB to a server that reads only when it is told to. */
  const uploading = Effect.gen(function*() {
    const listener = yield* TestNetwork.listener("a", handlers)
    const connection = yield* connect([yield* TestNetwork.endpoint("a")], { keepAlive })
    const args = new Uint8Array(8 * mebibyte)
    const call = yield* fork(connection.call(put, args))
    const { connection: socket } = yield* listener.accept
    socket.on("error", () => {})
    socket.write(understood)
    let taken = 0
    /** Takes so many bytes, or what there is until nothing more comes. */
    const take = Effect.fnUntraced(function*(bytes: number) {
      const until = taken + bytes
      for (let idle = 0; taken < until && idle < 20;) {
        const chunk: Buffer | null = socket.read()
        if (chunk === null) {
          idle++
          yield* turn
        } else {
          idle = 0
          taken += chunk.length
        }
      }
    })
    yield* settle
    return { call, socket, take, size: clientVersion.length + 65 + args.length, taken: () => taken }
  })

  it.effect("is alive as long as it takes some of it", () =>
    Effect.gen(function*() {
      const { call, size, socket, take, taken } = yield* uploading
      while (taken() < size) {
        yield* TestClock.adjust(4999)
        assert.equal(call.pollUnsafe(), undefined, `given up after ${taken()} bytes`)
        yield* take(mebibyte)
      }
      socket.write(message(1, 2, bytesOf("taken")))
      assert.equal(textOf(yield* Fiber.join(call)), "taken")
    }).pipe(onNetwork))

  it.effect("is dead as soon as it has taken nothing for the interval and the timeout", () =>
    Effect.gen(function*() {
      const { call } = yield* uploading
      yield* TestClock.adjust(14_999)
      yield* settle
      assert.equal(call.pollUnsafe(), undefined)
      yield* TestClock.adjust(1)
      isLost(yield* Effect.flip(Fiber.join(call)), silence("15s"))
    }).pipe(onNetwork))

  it.effect("is dead as soon as it has taken nothing for the timeout after it had taken some", () =>
    Effect.gen(function*() {
      const { call, take } = yield* uploading
      yield* TestClock.adjust(12_000)
      yield* take(3 * mebibyte)
      // It is only looked at when the timeout is over.
      yield* TestClock.adjust(3000)
      yield* settle
      yield* TestClock.adjust(4999)
      yield* settle
      assert.equal(call.pollUnsafe(), undefined)
      yield* TestClock.adjust(1)
      isLost(yield* Effect.flip(Fiber.join(call)), silence("20s"))
    }).pipe(onNetwork))
})

describe("a server that is dead, while its system takes what comes", () => {
  it.effect("is given up anyway, even if much is sent to it", () =>
    Effect.gen(function*() {
      const socket = new Duplex({
        writableHighWaterMark: 1024,
        read: () => {},
        write: (_chunk, _encoding, done) => void setImmediate(done)
      })
      socket.push(understood)
      const connection = yield* connect([{ address: "memory://a", dial: Effect.succeed(socket) }], { keepAlive })
      const call = yield* fork(Effect.flip(connection.call(put, bytesOf("one"))))
      yield* settle
      for (let second = 0; second < 15; second++) {
        yield* fork(Effect.exit(connection.call(put, new Uint8Array(2048), { timeout: "1 second" })))
        yield* settle
        assert.equal(call.pollUnsafe(), undefined)
        yield* TestClock.adjust("1 second")
      }
      yield* settle
      assert.notEqual(call.pollUnsafe(), undefined)
      isLost(yield* Fiber.join(call), silence("15s"))
    }))
})

describe("over real sockets", () => {
  const brief = { interval: 20, timeout: 50 } as const

  eachNetwork((network) => {
    it.live("a server that falls silent is given up", () =>
      Effect.gen(function*() {
        const { endpoint, listener } = yield* network.listen(handlers)
        const connection = yield* connect([endpoint], { keepAlive: brief })
        const call = yield* fork(Effect.flip(connection.call(put, nothing)))
        const raw = yield* rawAccepted(listener)
        raw.write(understood)
        const error = yield* Fiber.join(call)
        assert.match(error.message, /: nothing was heard of it for \d/)
        yield* raw.closed
        assert.deepEqual(kindsOf(raw.received()), [[0, 0], [1, 1], [0, 0]])
      }).pipe(Effect.scoped))

    it.live("a server that answers is probed again and again, and kept", () =>
      Effect.gen(function*() {
        const { endpoint, listener } = yield* network.listen(handlers)
        // A busy machine may be slow to answer.
        const connection = yield* connect([endpoint], { keepAlive: { interval: 5, timeout: "10 seconds" } })
        const call = yield* fork(Effect.exit(connection.call(put, nothing)))
        const raw = yield* rawAccepted(listener)
        for (let asked = 1; asked <= 10; asked++) {
          yield* raw.until((bytes) => messagesOf(bytes).filter(({ type }) => type === 0).length === asked)
          raw.write(understood)
        }
        assert.deepEqual([yield* stateOf(connection), call.pollUnsafe()], ["Active", undefined])
      }).pipe(Effect.scoped))
  }, [tcp, unix, mtlsOverTcp])

  // Three times 200 ms; twenty times in the deep tests.
  it.live("no server is given up because this process has stood still, with the answer in the kernel", () =>
    standsStill(3))
})
