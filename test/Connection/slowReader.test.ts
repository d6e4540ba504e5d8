import { describe, it } from "@effect/vitest"
import { Duration, Effect, Fiber, Option } from "effect"
import { CallError, Connection, Deadline, Endpoint, HandlerMap, MethodKey, Resolver } from "effect-call"
import { TestNetwork } from "effect-call/testing"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { join } from "node:path"
import { plainServer } from "../internal/net/sockets.ts"
import { component, temporaryDirectory } from "../support/networks.ts"
import { message, messagesOf, version } from "../support/raw.ts"
import { settle, turn, until, untilState } from "./support.ts"

const put = MethodKey.make(component, "put")
const onNetwork = Effect.provide(TestNetwork.layer)

const kibibyte = 1024
const mebibyte = 1024 * kibibyte

/** The arguments of the n-th call: they begin with n. */
const numbered = (n: number, size: number) => {
  const args = new Uint8Array(size)
  new DataView(args.buffer).setUint32(0, n)
  return args
}

const numberOf = (args: Uint8Array) => new DataView(args.buffer, args.byteOffset).getUint32(0)

/** A server on the TestNetwork that notes which calls it got. */
const serve = Effect.gen(function*() {
  const got: Array<number> = []
  const left: Array<number> = []
  yield* TestNetwork.listen(
    "a",
    HandlerMap.empty.pipe(
      HandlerMap.set(component, "put", (args) =>
        Effect.map(Deadline.remaining, (remaining) => {
          got.push(numberOf(args))
          left.push(
            Option.match(remaining, { onNone: () => Infinity, onSome: (duration) => Duration.toMillis(duration) })
          )
          return args.subarray(0, 4)
        }))
    )
  )
  const connection = yield* Connection.make(Resolver.constant(yield* TestNetwork.endpoint("a")))
  yield* connection.call(put, numbered(0, 4))
  got.length = 0
  left.length = 0
  return { connection, got, left }
})

const fork = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.forkChild(effect, { startImmediately: true })

const inFlight = (connection: Connection.Connection) =>
  Effect.map(connection.state, ({ endpoints }) => endpoints[0]!.callsInFlight)

describe("a server that stops reading", () => {
  it.effect("is named by the error of a call that had no room on its connection", () =>
    Effect.gen(function*() {
      const { connection } = yield* serve
      yield* TestNetwork.fault("a", { blackHole: "toServer" })
      for (let n = 1; n <= 48; n++) yield* fork(connection.call(put, numbered(n, 64 * kibibyte)))
      yield* settle
      const calling = yield* fork(connection.call(put, numbered(0, 4), { timeout: "1 second" }))
      yield* TestClock.adjust("1 second")
      const { message } = yield* Effect.flip(Fiber.join(calling))
      assert.match(message, /^deadline exceeded: .* in time; memory:\/\/a: there was no room on its connection$/)
      yield* TestNetwork.heal("a")
      yield* settle
    }).pipe(Effect.scoped, onNetwork))

  for (const [how, size] of [["copied", 8 * kibibyte], ["sent from where they are", 64 * kibibyte]] as const) {
    it.effect(`lets calls wait, with a few MiB queued at most, whose arguments are ${how}`, () =>
      Effect.gen(function*() {
        const { connection, got } = yield* serve
        yield* TestNetwork.fault("a", { blackHole: "toServer" })
        const count = 24 * mebibyte / size
        const calls: Array<Fiber.Fiber<Uint8Array, unknown>> = []
        for (let n = 1; n <= count; n++) {
          calls.push(yield* fork(connection.call(put, numbered(n, size))))
          // Some at once, some in later turns.
          if (n % 7 === 0) yield* turn
        }
        yield* settle
        assert.equal(got.length, 0)
        let most = yield* inFlight(connection)
        assert.ok(most * size <= 3 * mebibyte, `${most * size} bytes are queued`)
        yield* TestNetwork.heal("a")
        while (calls.some((call) => call.pollUnsafe() === undefined)) {
          most = Math.max(most, yield* inFlight(connection))
          yield* turn
        }
        assert.ok(most * size <= 4 * mebibyte, `${most * size} bytes were queued`)
        const answers = yield* Effect.forEach(calls, (call) => Fiber.join(call))
        assert.ok(answers.every((answer, i) => numberOf(answer) === i + 1))
        assert.deepEqual(got.toSorted((a, b) => a - b), Array.from({ length: count }, (_, i) => i + 1))
      }).pipe(onNetwork))
  }

  it.effect("never gets requests that were given up or expired before they were sent, and gets the others with the time that is left", () =>
    Effect.gen(function*() {
      const { connection, got, left } = yield* serve
      yield* TestNetwork.fault("a", { blackHole: "toServer" })
      const call = (n: number, size: number, timeout?: Duration.Input) =>
        fork(connection.call(put, numbered(n, size), timeout === undefined ? {} : { timeout }))
      // The socket has this one, and takes no more.
      const plug = yield* call(1, 250 * kibibyte)
      yield* settle
      const queued = {
        interrupted: [yield* call(2, 100), yield* call(3, 64 * kibibyte)],
        expired: [yield* call(4, 100, "1 second"), yield* call(5, 64 * kibibyte, "1 second")],
        kept: [
          yield* call(6, 100),
          yield* call(7, 64 * kibibyte),
          yield* call(8, 100, "10 seconds"),
          yield* call(9, 250 * kibibyte, "10 seconds")
        ]
      }
      const large = yield* Effect.forEach([20, 21], (n) => call(n, 250 * kibibyte))
      assert.equal(yield* inFlight(connection), 11)
      // There is no room for these.
      const waiting = {
        interrupted: [yield* call(10, 100), yield* call(11, 100, "1 hour")],
        expired: [yield* call(12, 100, "1 second"), yield* call(13, 64 * kibibyte, "1 second")],
        kept: [yield* call(14, 100), yield* call(15, 100, "10 seconds")]
      }
      assert.equal(yield* inFlight(connection), 11)
      yield* Effect.forEach([...queued.interrupted, ...waiting.interrupted], (fiber) => Fiber.interrupt(fiber))
      yield* TestClock.adjust("999 millis")
      const expired = [...queued.expired, ...waiting.expired]
      assert.ok(expired.every((fiber) => fiber.pollUnsafe() === undefined))
      yield* TestClock.adjust("1 millis")
      for (const fiber of expired) assert.equal((yield* Effect.flip(Fiber.join(fiber)))._tag, "DeadlineExceeded")
      assert.equal(yield* inFlight(connection), 7)
      yield* TestClock.adjust("2 seconds")
      yield* TestNetwork.heal("a")
      for (const fiber of [plug, ...queued.kept, ...large, ...waiting.kept]) yield* Fiber.join(fiber)
      yield* settle
      assert.deepEqual(got, [1, 6, 7, 8, 9, 20, 21, 14, 15])
      assert.deepEqual(left, [...Array(3).fill(Infinity), 7000, 7000, ...Array(3).fill(Infinity), 7000])
    }).pipe(onNetwork))

  it.effect("does not keep a Connection from closing", () =>
    Effect.gen(function*() {
      const { connection } = yield* serve
      yield* TestNetwork.fault("a", { blackHole: "toServer" })
      const calls: Array<Fiber.Fiber<Uint8Array, unknown>> = []
      for (let n = 1; n <= 5; n++) {
        calls.push(yield* fork(connection.call(put, numbered(n, 250 * kibibyte))))
        yield* settle
      }
      yield* connection.close
      const executed: Array<boolean> = []
      for (const call of calls) {
        const error = yield* Effect.flip(Fiber.join(call))
        assert.ok(CallError.isCallError(error) && error._tag === "CommunicationError")
        assert.equal(error.reason._tag, "Closed")
        executed.push(error.maybeExecuted)
      }
      // Only the first one was handed to the socket.
      assert.deepEqual(executed, [true, false, false, false, false])
    }).pipe(onNetwork))

  it.live("gets, when it reads again, only calls that are still wanted: over a Unix socket, byte for byte", () =>
    Effect.gen(function*() {
      const path = join(yield* temporaryDirectory, "socket")
      const server = yield* plainServer({ path })
      const accepting = yield* fork(server.next)
      const connection = yield* Connection.make(Resolver.constant(Endpoint.unix(path)))
      const plug = yield* fork(connection.call(put, numbered(1, 800 * kibibyte)))
      const socket = yield* Fiber.join(accepting)
      const chunks: Array<Buffer> = []
      socket.on("data", (chunk: Buffer) => chunks.push(chunk))
      yield* until(() => chunks.length > 0)
      socket.pause()
      socket.write(version)
      // More than the system takes: the last part of the first call holds up all others.
      yield* untilState(connection, ({ endpoints }) => endpoints[0]!.callsInFlight === 1)
      yield* settle
      const full = yield* Effect.forEach([2, 3], (n) => fork(connection.call(put, numbered(n, 100_000))))
      const interrupted = yield* Effect.forEach([4, 5, 6], (n) => fork(connection.call(put, numbered(n, 1000))))
      const late = yield* Effect.forEach(
        [7, 8],
        (n) => fork(Effect.flip(connection.call(put, numbered(n, 1000), { timeout: "20 millis" })))
      )
      const patient = yield* fork(connection.call(put, numbered(9, 1000), { timeout: "1 minute" }))
      // Its time runs from here at the latest.
      const called = performance.now()
      yield* Effect.forEach(late, (fiber) => Fiber.join(fiber))
      yield* Effect.forEach([...interrupted, full[0]!], (fiber) => Fiber.interrupt(fiber))
      const waited = performance.now() - called
      socket.resume()
      let last: ReturnType<typeof messagesOf> = []
      yield* until(() => {
        last = messagesOf(Buffer.concat(chunks))
        return last.length === 4
      })
      assert.deepEqual(last.map(({ id, type }) => [id, type]), [[0, 0], [1, 1], [3, 1], [9, 1]])
      const requests = last.slice(1)
      assert.deepEqual(requests.map(({ payload }) => numberOf(payload.subarray(49))), [1, 3, 9])
      const micros = Number(requests[2]!.payload.readBigInt64LE(16))
      assert.ok(micros > 0 && micros <= 60_000_000 - waited * 1000, `${micros} µs left after ${waited} ms`)
      for (const { id } of requests) socket.write(message(id, 2))
      for (const fiber of [plug, full[1]!, patient]) yield* Fiber.join(fiber)
    }))
})
