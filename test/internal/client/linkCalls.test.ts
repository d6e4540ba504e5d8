/**
 * The calls of one connection: what their endpoint hears of them, over a real session.
 */
import { describe, it } from "@effect/vitest"
import { Context, Effect, Exit, Option } from "effect"
import { CallError } from "effect-call"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { Call, type CallOwner } from "../../../src/internal/client/call.ts"
import { EndpointLog } from "../../../src/internal/client/endpointLog.ts"
import { Latency } from "../../../src/internal/client/latency.ts"
import { LinkCalls } from "../../../src/internal/client/linkCalls.ts"
import { LogQueue } from "../../../src/internal/log.ts"
import { encodeErrorChain } from "../../../src/internal/protocol/errorChain.ts"
import * as Identities from "../../../src/internal/protocol/identities.ts"
import { Warnings } from "../../../src/internal/warnings.ts"
import { echo } from "../../support/networks.ts"
import { message } from "../../support/raw.ts"
import { openSession, sessionSettings, turn } from "./openSession.ts"

const owner: CallOwner = { onUnsent: () => {}, onRefused: () => {} }

const calling = Effect.gen(function*() {
  const { duplex, sent, session } = yield* openSession
  const { clock } = yield* sessionSettings
  const heard: Array<string> = []
  const endpoint = {
    address: "test://a",
    size: 1,
    lastFailure: undefined,
    failuresInARow: 0,
    latencies: new Latency(),
    onBusy: () => void heard.push("busy"),
    onAnswered: () => void heard.push("answered"),
    onCallFailed: () => void heard.push("call failed")
  }
  const log = new EndpointLog("test://a", new LogQueue(Context.empty()), new Warnings(clock))
  const calls = new LinkCalls(session, endpoint, log, clock, undefined)
  /** Sends a call; its result comes to be in the list. */
  const send = (deadlineAt = Infinity) => {
    const results: Array<unknown> = []
    const call = new Call(
      echo,
      undefined,
      deadlineAt,
      undefined,
      undefined,
      (result) => void results.push(result),
      owner
    )
    calls.send(call, Buffer.from("args"))
    return { call, results }
  }
  const answers = (call: Call, type: number, payload: Uint8Array) => {
    duplex.push(message(call.id, type, payload))
    return turn
  }
  return { answers, calls, duplex, endpoint, heard, send, sent }
})

/** The call has ended once, with this error. */
const endedWith = ([result, ...others]: ReadonlyArray<unknown>, tag: CallError.CallError["_tag"]) => {
  assert.ok(Exit.isExit(result) && Exit.isFailure(result) && others.length === 0)
  const error = Option.getOrUndefined(Exit.findErrorOption(result))
  assert.ok(CallError.isCallError(error) && error._tag === tag, String(error))
}

describe("the calls of a connection", () => {
  it.effect("tell their endpoint that it is busy with the first of several, and not with the others", () =>
    Effect.gen(function*() {
      const { answers, heard, send } = yield* calling
      const [first, second] = [send(), send()]
      assert.deepEqual(heard, ["busy"])
      yield* turn
      yield* answers(first.call, 2, Buffer.from("1"))
      yield* answers(second.call, 2, Buffer.from("2"))
      send()
      assert.deepEqual(heard, ["busy", "busy"])
    }))

  it.effect("get their answers, which their endpoint takes as its latency", () =>
    Effect.gen(function*() {
      const { answers, endpoint, heard, send } = yield* calling
      const { call, results } = send()
      yield* turn
      yield* TestClock.adjust(30)
      yield* answers(call, 2, Buffer.from("done"))
      assert.deepEqual(results, [Exit.succeed(Uint8Array.from(Buffer.from("done")))])
      assert.equal(endpoint.latencies.at(30), 30)
      assert.deepEqual(heard, ["busy"])
    }))

  it.effect("tell their endpoint that it answers again only after failures", () =>
    Effect.gen(function*() {
      const { answers, endpoint, heard, send } = yield* calling
      const { call } = send()
      endpoint.failuresInARow = 3
      yield* turn
      // An error is an answer, too.
      yield* answers(call, 3, encodeErrorChain([Identities.unknownMethod]))
      assert.deepEqual(heard, ["busy", "answered"])
    }))

  it.effect("count against their endpoint at their deadline, after they were sent", () =>
    Effect.gen(function*() {
      const { heard, send } = yield* calling
      const { results } = send(50)
      yield* turn
      yield* TestClock.adjust(50)
      yield* turn
      endedWith(results, "DeadlineExceeded")
      assert.deepEqual(heard, ["busy", "call failed"])
    }))

  it.effect("end with a RemoteError where the server says that its time was up, and they had no deadline", () =>
    Effect.gen(function*() {
      const { answers, heard, send } = yield* calling
      const { call, results } = send()
      yield* turn
      yield* answers(call, 3, encodeErrorChain([Identities.deadlineExceeded]))
      endedWith(results, "RemoteError")
      assert.deepEqual(heard, ["busy"])
    }))

  it.effect("do not count against their endpoint when they are canceled, and are canceled on the wire", () =>
    Effect.gen(function*() {
      const { heard, send, sent } = yield* calling
      const { call, results } = send()
      yield* sent
      yield* call
      assert.deepEqual((yield* sent).map(({ id, type }) => [id, type]), [[call.id, 4]])
      assert.deepEqual([results, heard], [[], ["busy"]])
    }))
})
