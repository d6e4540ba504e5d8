/**
 * A health probe, over a real session: when it asks, and what it learns.
 */
import { describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { HealthProbe } from "../../../src/internal/client/probe.ts"
import { encodeErrorChain } from "../../../src/internal/protocol/errorChain.ts"
import { MessageType } from "../../../src/internal/protocol/frame.ts"
import { decodeQuestion, encodeAnswer } from "../../../src/internal/protocol/health.ts"
import { unknownMethod } from "../../../src/internal/protocol/identities.ts"
import { message } from "../../support/raw.ts"
import { openSession, sessionSettings, turn } from "./openSession.ts"

/** A probe, and the server that it asks. */
const probing = Effect.gen(function*() {
  const { duplex, life, sent, session } = yield* openSession
  const { clock, context } = yield* sessionSettings
  const learned: Array<boolean> = []
  const probe: HealthProbe = new HealthProbe(
    session,
    "shop",
    { clock, context, scope: yield* Effect.scope },
    () => learned.push(probe.isServing)
  )
  /** What was asked since the last look: the status that the probe knows. */
  const asked = Effect.map(sent, (messages) =>
    messages.map(({ payload, type }) => {
      if (type !== MessageType.request) return `message of type ${type}`
      const question = decodeQuestion(payload.subarray(49))
      assert.ok(typeof question !== "string" && question.component === "shop")
      return question.known
    }))
  const answer = (type: number, payload: Uint8Array) => {
    duplex.push(message(probe.id, type, payload))
    return turn
  }
  const says = (isServing: boolean) => answer(MessageType.response, encodeAnswer(isServing))
  return { answer, asked, duplex, learned, life, probe, says, session }
})

describe("a health probe", () => {
  it.effect("asks at once, and again at once after an answer with another status", () =>
    Effect.gen(function*() {
      const { asked, learned, says } = yield* probing
      assert.deepEqual(yield* asked, [undefined])
      yield* says(false)
      assert.deepEqual(yield* asked, [false])
      yield* says(true)
      assert.deepEqual(yield* asked, [true])
      assert.deepEqual(learned, [false, true])
    }))

  it.effect("asks again after a second where the status is the same, and reports nothing", () =>
    Effect.gen(function*() {
      const { asked, learned, says } = yield* probing
      yield* says(true)
      yield* asked
      yield* says(true)
      yield* TestClock.adjust(999)
      assert.deepEqual(yield* asked, [])
      yield* TestClock.adjust(1)
      assert.deepEqual(yield* asked, [true])
      assert.deepEqual(learned, [true])
    }))

  it.effect("asks again after a second where the answer cannot be read", () =>
    Effect.gen(function*() {
      const { answer, asked, learned } = yield* probing
      yield* asked
      yield* answer(MessageType.response, Uint8Array.of(7))
      assert.deepEqual(yield* asked, [])
      yield* TestClock.adjust("1 second")
      assert.deepEqual(yield* asked, [undefined])
      yield* answer(MessageType.responseError, Uint8Array.of(1, 2, 3))
      assert.deepEqual(yield* asked, [])
      yield* TestClock.adjust("1 second")
      assert.deepEqual(yield* asked, [undefined])
      assert.deepEqual(learned, [])
    }))

  it.effect("takes a server without the method as serving, and does not ask again", () =>
    Effect.gen(function*() {
      const { answer, asked, learned, probe } = yield* probing
      assert.ok(!probe.isServing)
      yield* asked
      yield* answer(MessageType.responseError, encodeErrorChain([unknownMethod]))
      yield* TestClock.adjust("1 hour")
      assert.deepEqual(yield* asked, [])
      assert.deepEqual(learned, [true])
    }))

  it.effect("cancels its question when it is stopped, and ignores a second stop", () =>
    Effect.gen(function*() {
      const { asked, learned, probe, session } = yield* probing
      yield* asked
      probe.stop()
      probe.stop()
      assert.deepEqual(yield* asked, [`message of type ${MessageType.cancel}`])
      assert.equal(session.callsInFlight, 0)
      assert.deepEqual(learned, [])
    }))

  it.effect("asks no more when it is stopped between two questions", () =>
    Effect.gen(function*() {
      const { answer, asked, probe } = yield* probing
      yield* asked
      yield* answer(MessageType.response, Uint8Array.of(7))
      probe.stop()
      yield* TestClock.adjust("1 hour")
      assert.deepEqual(yield* asked, [])
    }))

  it.effect("asks no more when its connection is over", () =>
    Effect.gen(function*() {
      const { answer, asked, life, session } = yield* probing
      yield* asked
      yield* answer(MessageType.response, Uint8Array.of(7))
      session.close()
      yield* TestClock.adjust("1 hour")
      assert.deepEqual(yield* asked, [])
      assert.deepEqual(life.at(-1), "over with 0")
    }))
})
