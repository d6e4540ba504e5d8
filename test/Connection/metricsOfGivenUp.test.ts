/**
 * Calls that are given up are counted, too: each once, at its deadline or when it is interrupted, wherever it is by
 * then.
 */
import { describe, it } from "@effect/vitest"
import { Clock, Effect, Fiber } from "effect"
import { TestNetwork } from "effect-call/testing"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { encodeErrorChain } from "../../src/internal/protocol/errorChain.ts"
import * as Identities from "../../src/internal/protocol/identities.ts"
import { clockThat } from "../support/clock.ts"
import { assertTook, callsOf, durationsOf, metered, meteredInMemory } from "../support/metrics.ts"
import { connect, echo, hang } from "../support/networks.ts"
import { message, messagesOf, rawServer, version } from "../support/raw.ts"
import { fill, fork, nothing, open, plug, serve, sleep, toA } from "./metricsSupport.ts"
import { elapse, settle } from "./support.ts"

const okay = "1 echo at memory://a: ok"

describe("a call at its deadline is counted once", () => {
  const exceeded = "1 hang at memory://a: DeadlineExceeded"

  it.effect(
    "where it was sent and nothing came back",
    meteredInMemory((metrics) =>
      Effect.gen(function*() {
        const connection = yield* open()
        yield* TestNetwork.fault("a", { blackHole: true })
        const call = yield* fork(Effect.flip(connection.call(hang, nothing, { timeout: "3 seconds" })))
        yield* elapse(call, 1000)
        assert.deepEqual(callsOf(metrics, "client"), [okay, exceeded])
        assertTook(durationsOf(metrics, "client", { "rpc.method": "hang" }), 3)
      })
    )
  )

  it.effect(
    "with its own time, where another call's deadline was the last thing that happened",
    meteredInMemory((metrics) =>
      Effect.gen(function*() {
        const connection = yield* open()
        yield* TestNetwork.fault("a", { blackHole: true })
        const calls = yield* Effect.forEach(
          [1000, 3000, 7000],
          (timeout) => fork(Effect.flip(connection.call(hang, nothing, { timeout })))
        )
        yield* elapse(calls.at(-1)!, 1000)
        const { max, min, sum } = durationsOf(metrics, "client", { "rpc.method": "hang" })
        assert.deepEqual({ max, min, sum }, { max: 7, min: 1, sum: 11 })
      })
    )
  )

  it.effect(
    "where the server was the first to say so",
    metered((metrics) =>
      Effect.gen(function*() {
        const endpoint = yield* rawServer((raw) => {
          raw.write(version)
          raw.socket.on("data", () => {
            for (const { id, type } of messagesOf(raw.received())) {
              if (type === 1) raw.write(message(id, 3, encodeErrorChain([Identities.deadlineExceeded])))
            }
          })
        })
        const connection = yield* connect([endpoint])
        yield* Effect.flip(connection.call(hang, nothing, { timeout: "1 minute" }))
        assert.deepEqual(callsOf(metrics, "client"), ["1 hang at 127.0.0.1: DeadlineExceeded"])
      })
    )
  )

  it.effect(
    "where it had not left yet",
    meteredInMemory((metrics) =>
      Effect.gen(function*() {
        const connection = yield* open()
        yield* plug(connection)
        const call = yield* fork(Effect.flip(connection.call(echo, nothing, { timeout: "3 seconds" })))
        yield* elapse(call, 1000)
        assert.deepEqual(callsOf(metrics, "client"), [okay, "1 echo at memory://a: DeadlineExceeded"].toSorted())
        assertTook(durationsOf(metrics, "client", { "error.type": "DeadlineExceeded" }), 3)
      })
    )
  )

  it.effect("where its time is found to be up as it leaves", () => {
    let now = 0
    return meteredInMemory((metrics) =>
      Effect.gen(function*() {
        const connection = yield* open()
        const call = yield* fork(Effect.flip(connection.call(hang, nothing, { timeout: "1 second" })))
        now = 3000
        yield* Fiber.join(call)
        assert.deepEqual(callsOf(metrics, "client"), [okay, exceeded])
        assertTook(durationsOf(metrics, "client", { "rpc.method": "hang" }), 3)
      }).pipe(Effect.provideService(Clock.Clock, clockThat(() => now)))
    )()
  })

  it.effect(
    "where it was sent after it had waited for its connection",
    meteredInMemory((metrics) =>
      Effect.gen(function*() {
        yield* serve
        const connection = yield* toA()
        const call = yield* fork(Effect.flip(connection.call(hang, nothing, { timeout: "3 seconds" })))
        yield* elapse(call, 1000)
        assert.deepEqual(callsOf(metrics, "client"), [exceeded])
        assertTook(durationsOf(metrics, "client"), 3)
      })
    )
  )

  for (const caller of ["a caller", "a caller that cannot be interrupted"]) {
    it.effect(
      `where its dial hangs, for ${caller}, also when the dial then succeeds`,
      meteredInMemory((metrics) =>
        Effect.gen(function*() {
          yield* serve
          yield* TestNetwork.fault("a", { dial: "hang" })
          const connection = yield* toA()
          const calling = connection.call(hang, nothing, { timeout: "3 seconds" })
          const call = yield* fork(Effect.flip(caller === "a caller" ? calling : Effect.uninterruptible(calling)))
          yield* elapse(call, 1000)
          yield* TestNetwork.heal("a")
          yield* connection.call(echo, nothing)
          assert.deepEqual(callsOf(metrics, "client"), [okay, "1 hang: DeadlineExceeded"])
          assertTook(durationsOf(metrics, "client", { "rpc.method": "hang" }), 3)
        })
      )
    )
  }

  it.effect(
    "where there was no room for it",
    meteredInMemory((metrics) =>
      Effect.gen(function*() {
        const connection = yield* open()
        yield* fill(connection)
        const call = yield* fork(Effect.flip(connection.call(echo, nothing, { timeout: "3 seconds" })))
        yield* elapse(call, 1000)
        assert.deepEqual(callsOf(metrics, "client"), [okay, "1 echo: DeadlineExceeded"])
      })
    )
  )

  it.effect(
    "where no time was left when it was made",
    meteredInMemory((metrics) =>
      Effect.gen(function*() {
        const connection = yield* open()
        yield* Effect.flip(connection.call(echo, nothing, { timeout: 0 }))
        assert.deepEqual(callsOf(metrics, "client"), [okay, "1 echo: DeadlineExceeded"])
        assertTook(durationsOf(metrics, "client", { "error.type": "DeadlineExceeded" }), 0)
      })
    )
  )
})

describe("a call that is answered after another one's deadline", () => {
  it.effect(
    "has its own time, also where nothing happened in between",
    meteredInMemory((metrics) =>
      Effect.gen(function*() {
        const connection = yield* open()
        yield* TestNetwork.fault("a", { blackHole: "toClient" })
        const expiring = yield* fork(Effect.flip(connection.call(hang, nothing, { timeout: "1 second" })))
        const call = yield* fork(connection.call(sleep, new Uint8Array(500)))
        yield* elapse(expiring, 500)
        yield* TestClock.adjust("4 seconds")
        yield* TestNetwork.heal("a")
        yield* Fiber.join(call)
        assertTook(durationsOf(metrics, "client", { "rpc.method": "sleep" }), 5)
      })
    )
  )
})

describe("a call that is given up is counted once, as canceled", () => {
  it.effect(
    "in flight",
    meteredInMemory((metrics) =>
      Effect.gen(function*() {
        const connection = yield* open()
        const call = yield* fork(connection.call(hang, nothing))
        yield* settle
        yield* TestClock.adjust("3 seconds")
        yield* Fiber.interrupt(call)
        assert.deepEqual(callsOf(metrics, "client"), [okay, "1 hang at memory://a: canceled"])
        assertTook(durationsOf(metrics, "client", { "rpc.method": "hang" }), 3)
      })
    )
  )

  it.effect(
    "in flight, after it had waited for its connection",
    meteredInMemory((metrics) =>
      Effect.gen(function*() {
        yield* serve
        const call = yield* fork((yield* toA()).call(hang, nothing))
        yield* settle
        yield* Fiber.interrupt(call)
        assert.deepEqual(callsOf(metrics, "client"), ["1 hang at memory://a: canceled"])
      })
    )
  )

  it.effect(
    "before its request had left",
    meteredInMemory((metrics) =>
      Effect.gen(function*() {
        const connection = yield* open()
        const call = yield* fork(connection.call(hang, nothing))
        yield* Fiber.interrupt(call)
        yield* settle
        assert.deepEqual(callsOf(metrics, "client"), [okay, "1 hang at memory://a: canceled"])
      })
    )
  )

  it.effect(
    "while it waits for a dial",
    meteredInMemory((metrics) =>
      Effect.gen(function*() {
        yield* TestNetwork.fault("a", { dial: "hang" })
        const call = yield* fork((yield* toA()).call(echo, nothing))
        yield* TestClock.adjust("3 seconds")
        yield* Fiber.interrupt(call)
        assert.deepEqual(callsOf(metrics, "client"), ["1 echo: canceled"])
        assertTook(durationsOf(metrics, "client"), 3)
      })
    )
  )

  it.effect(
    "while it waits for room",
    meteredInMemory((metrics) =>
      Effect.gen(function*() {
        const connection = yield* open()
        yield* fill(connection)
        const call = yield* fork(connection.call(echo, nothing))
        yield* settle
        yield* Fiber.interrupt(call)
        assert.deepEqual(callsOf(metrics, "client"), [okay, "1 echo: canceled"])
      })
    )
  )
})
