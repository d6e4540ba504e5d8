import { describe, it } from "@effect/vitest"
import { Cause, Exit } from "effect"
import { CallError } from "effect-call"
import * as assert from "node:assert/strict"
import { failureOf, Refused } from "./contract.ts"
import { type Circumstances, endingOf } from "./ending.ts"
import { makeAnswer, makePayload } from "./payload.ts"
import type { Plan } from "./plan.ts"

const plan: Plan = {
  api: "bytes",
  method: "echo",
  size: 100,
  work: 0,
  timeout: 50,
  within: false,
  interruptAfter: undefined,
  shardKey: undefined,
  waitForReady: false
}

const circumstances: Circumstances = { id: 3, elapsed: 60, interrupted: false, closing: false, maxMessageSize: 1000 }

type Result = Exit.Exit<Uint8Array | void, CallError.CallError | Refused>

const answer = (id = 3) => Exit.succeed(makeAnswer(9, makePayload(id, 100, 0)))
const remote = (message: string, identity = "") => Exit.fail(CallError.RemoteError.fromChain([{ message, identity }]))
const communication = (reason: "Closed" | "Lost" | "Protocol" | "TooLarge", maybeExecuted: boolean) =>
  Exit.fail(new CallError.CommunicationError({ reason: { _tag: reason }, message: "m", maybeExecuted }))
const late = Exit.fail(new CallError.DeadlineExceeded({ message: "late" }))
const overloaded = remote("overloaded", "(effect-call:overloaded)")

const end = (exit: Result, changed: Partial<Plan> = {}, met: Partial<Circumstances> = {}) =>
  endingOf(exit, { ...plan, ...changed }, { ...circumstances, ...met })

describe("the end of a call", () => {
  const possible: ReadonlyArray<[string, ReturnType<typeof end>, string, string]> = [
    ["its answer", end(answer()), "answered", "once"],
    ["a discarded one's start", end(Exit.void, { api: "typed", method: "note" }), "started (discarded)", "once"],
    ["a failure that was planned", end(remote(failureOf(3)), { method: "fail" }), "failed, as it was to", "once"],
    [
      "one of a typed method",
      end(Exit.fail(new Refused({ id: 3 })), { api: "typed", method: "fail" }),
      "failed, as it was to",
      "once"
    ],
    ["a planned death", end(remote("m"), { method: "die" }), "RemoteError, died", "once"],
    ["overload", end(overloaded), "RemoteError, overloaded", "never"],
    ["unreachability", end(Exit.fail(CallError.Unreachable.fromAttempts([]))), "Unreachable", "never"],
    ["a deadline", end(late), "DeadlineExceeded", "perhaps"],
    ["a loss", end(communication("Lost", true)), "CommunicationError Lost, maybe executed", "perhaps"],
    [
      "a close",
      end(communication("Closed", false), {}, { closing: true }),
      "CommunicationError Closed, not executed",
      "never"
    ],
    [
      "its size",
      end(communication("TooLarge", false), { size: 990 }),
      "CommunicationError TooLarge, not executed",
      "never"
    ],
    [
      "the size of its answer",
      end(communication("TooLarge", true), { size: 990 }),
      "CommunicationError TooLarge, maybe executed",
      "perhaps"
    ],
    ["that it was given up", end(Exit.interrupt(), {}, { interrupted: true }), "given up", "perhaps"],
    ["the answer to no bytes", end(Exit.succeed(makeAnswer(9, new Uint8Array())), { size: 0 }), "answered", "unknown"]
  ]
  for (const [name, ending, kind, executed] of possible) {
    it(`may be ${name}`, () => {
      assert.deepEqual([ending.kind, ending.executed, ending.problem], [kind, executed, undefined])
    })
  }

  it("says who has answered", () => {
    assert.equal(end(answer()).stamp, 9)
  })

  const impossible: ReadonlyArray<[string, ReturnType<typeof end>]> = [
    ["another call's answer", end(answer(4))],
    ["no bytes", end(Exit.void)],
    ["an answer of a method that has none", end(answer(), { method: "never" })],
    ["a failure that was not planned", end(remote(failureOf(3)))],
    ["another call's failure", end(remote(failureOf(4)), { method: "fail" })],
    ["another call's typed failure", end(Exit.fail(new Refused({ id: 4 })), { api: "typed", method: "fail" })],
    ["a deadline that it has not", end(late, { timeout: undefined })],
    ["a deadline before its time", end(late, {}, { elapsed: 40 })],
    ["a close of a Connection that is open", end(communication("Closed", false))],
    ["a breach of the protocol", end(communication("Protocol", true))],
    ["a size that is none too large", end(communication("TooLarge", false))],
    ["an interruption without a cause", end(Exit.interrupt())],
    ["a defect", end(Exit.failCause(Cause.die("oops")))]
  ]
  for (const [name, ending] of impossible) {
    it(`cannot be ${name}`, () => {
      assert.equal(typeof ending.problem, "string")
    })
  }
})
