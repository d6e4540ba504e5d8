import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Schema } from "effect"
import * as CallError from "../src/CallError.ts"
import { canceled, overloaded, unknownMethod } from "../src/internal/protocol/identities.ts"
import { hostileErrors } from "./support/hostileErrors.ts"

const lost = new CallError.CommunicationError({
  reason: { _tag: "Lost" },
  endpoint: "tcp://127.0.0.1:80",
  message: "the connection to tcp://127.0.0.1:80 was lost: read ECONNRESET",
  cause: new Error("read ECONNRESET"),
  maybeExecuted: true
})
const closed = new CallError.CommunicationError({
  reason: { _tag: "Closed" },
  message: "the connection is closed",
  maybeExecuted: false
})
const unreachable = CallError.Unreachable.fromAttempts([
  { endpoint: "tcp://a:1", message: "connect ECONNREFUSED" },
  { endpoint: "unix:///b", message: "connect ENOENT" }
])
const late = new CallError.DeadlineExceeded({ message: "the deadline passed after 20 ms" })
const outer = { message: "outer: inner", identity: "(app:outer)" }
const inner = { message: "inner", identity: "(app:inner)" }
const remote = CallError.RemoteError.fromChain([outer, inner])
const all: ReadonlyArray<CallError.CallError> = [lost, closed, unreachable, late, remote]

describe("CallError", () => {
  it("says what broke a call, where, and whether a handler may have seen it", () => {
    assert.strictEqual(lost._tag, "CommunicationError")
    assert.deepStrictEqual(lost.reason, { _tag: "Lost" })
    assert.strictEqual(lost.endpoint, "tcp://127.0.0.1:80")
    assert.strictEqual((lost.cause as Error).message, "read ECONNRESET")
    assert.isTrue(lost.maybeExecuted)
    assert.isUndefined(closed.endpoint)
    assert.isUndefined(closed.cause)
    assert.isFalse(closed.maybeExecuted)
  })

  it("names each attempt to reach a server in the message", () => {
    assert.strictEqual(unreachable.message, "unreachable: tcp://a:1: connect ECONNREFUSED; unix:///b: connect ENOENT")
    assert.strictEqual(unreachable.attempts.length, 2)
    assert.strictEqual(CallError.Unreachable.fromAttempts([]).message, "unreachable: there are no endpoints")
    const many = Array.from({ length: 1000 }, (_, i) => ({ endpoint: `tcp://10.0.0.1:${i}`, message: "refused" }))
    const { attempts, message } = CallError.Unreachable.fromAttempts(many)
    assert.strictEqual(attempts.length, 1000)
    assert.ok(message.endsWith("; tcp://10.0.0.1:19: refused; and 980 more"), message)
  })

  it("takes a remote error's message from the outermost link, and says so where there is none", () => {
    assert.strictEqual(remote.message, "outer: inner")
    assert.deepStrictEqual(remote.chain, [outer, inner])
    assert.strictEqual(CallError.RemoteError.fromChain([]).message, "remote error without a message")
    const silent = CallError.RemoteError.fromChain([{ message: "", identity: "(app:silent)" }])
    assert.strictEqual(silent.message, "remote error without a message")
    assert.strictEqual(silent.chain[0]?.message, "")
  })

  it("finds an identity anywhere in a remote error's chain", () => {
    assert.isTrue(remote.is("(app:outer)"))
    assert.isTrue(remote.is("(app:inner)"))
    assert.isFalse(remote.is("inner"))
    assert.isFalse(CallError.RemoteError.fromChain([]).is(canceled.identity))
  })

  it("distinguishes a call that the server refused from one whose handler was refused elsewhere", () => {
    const refused = CallError.RemoteError.fromChain([overloaded])
    assert.isTrue(refused.isOverloaded)
    assert.isFalse(refused.isUnknownMethod)
    const unknown = CallError.RemoteError.fromChain([unknownMethod])
    assert.isTrue(unknown.isUnknownMethod)
    assert.isFalse(unknown.isOverloaded)
    assert.isFalse(CallError.RemoteError.fromChain([outer, overloaded]).isOverloaded)
    assert.isFalse(CallError.RemoteError.fromChain([outer, unknownMethod]).isUnknownMethod)
    assert.isFalse(CallError.RemoteError.fromChain([]).isOverloaded)
  })

  for (const error of all) {
    it(`${error._tag} goes through JSON and back: ${error.message}`, () => {
      const codec = Schema.fromJsonString(Schema.toCodecJson(CallError.CallError))
      const back = Schema.decodeSync(codec)(Schema.encodeSync(codec)(error))
      assert.strictEqual(back.constructor, error.constructor)
      assert.deepStrictEqual(Object.entries(back), Object.entries(error))
      assert.strictEqual(back.message, error.message)
      assert.isTrue(CallError.isCallError(back))
    })
  }

  it("is an Error that shows its kind and message", () => {
    for (const error of all) {
      assert.instanceOf(error, Error)
      assert.strictEqual(String(error), `effect-call/${error._tag}: ${error.message}`)
      assert.include(Cause.pretty(Cause.fail(error)), error.message)
    }
  })

  it("is made without a stack, and does not change the stacks of other errors", () => {
    const limit = Error.stackTraceLimit
    const error = new CallError.DeadlineExceeded({ message: "late" })
    assert.notInclude(error.stack, "\n")
    assert.throws(() => new CallError.DeadlineExceeded({ message: 1 as unknown as string }))
    assert.strictEqual(Error.stackTraceLimit, limit)
    assert.include(new Error("other").stack, "CallError.test")
  })

  it("distinguishes the errors of calls from other errors, even with the same tag", () => {
    for (const error of all) assert.isTrue(CallError.isCallError(error))
    class Unreachable extends Schema.TaggedError<Unreachable>()("Unreachable", { message: Schema.String }) {}
    assert.isFalse(CallError.isCallError(new Unreachable({ message: "mine" })))
    assert.isFalse(CallError.isCallError({ _tag: "DeadlineExceeded", message: "late" }))
    assert.isFalse(CallError.isCallError(new Error("late")))
  })

  it("distinguishes them from values that throw when they are read", () => {
    for (const make of Object.values(hostileErrors)) assert.isFalse(CallError.isCallError(make()))
  })

  it.effect("is caught by its tag", () =>
    Effect.gen(function*() {
      const handle = (error: CallError.CallError) =>
        Effect.fail(error).pipe(
          Effect.catchTags({
            CommunicationError: (error) => Effect.succeed(error.reason._tag),
            Unreachable: (error) => Effect.succeed(`${error.attempts.length} attempts`),
            DeadlineExceeded: (error) => Effect.succeed(error.message),
            RemoteError: (error) => Effect.succeed(error.chain[1]?.message)
          })
        )
      const handled = yield* Effect.forEach(all, handle)
      assert.deepStrictEqual(handled, ["Lost", "Closed", "2 attempts", late.message, "inner"])
    }))

  it.effect("is caught by the reason of a communication error", () =>
    Effect.gen(function*() {
      const program = Effect.fail<CallError.CallError>(lost).pipe(
        Effect.catchReason("CommunicationError", "Lost", () => Effect.succeed("again"))
      )
      assert.strictEqual(yield* program, "again")
      const other = Effect.fail<CallError.CallError>(closed).pipe(
        Effect.catchReason("CommunicationError", "Lost", () => Effect.succeed("again"))
      )
      assert.strictEqual(yield* Effect.flip(other), closed)
    }))
})
