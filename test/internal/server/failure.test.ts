import { assert, describe, it } from "@effect/vitest"
import { Cause, Data, Effect, Exit } from "effect"
import { runInNewContext } from "node:vm"
import { CommunicationError, DeadlineExceeded, RemoteError, Unreachable } from "../../../src/CallError.ts"
import { plainError } from "../../../src/internal/protocol/errorChain.ts"
import * as Identities from "../../../src/internal/protocol/identities.ts"
import { chainOf, chainOfCause } from "../../../src/internal/server/failure.ts"

const plain = (...texts: ReadonlyArray<string>) => texts.map(plainError)

const lost = (message: string, cause?: unknown) =>
  new CommunicationError({
    reason: { _tag: "Lost" },
    message,
    maybeExecuted: true,
    ...(cause === undefined ? {} : { cause })
  })

describe("what a handler's failure becomes", () => {
  it("is its message, then the messages along its causes", () => {
    const error = new Error("outer", { cause: new TypeError("middle", { cause: new Error("inner") }) })
    assert.deepStrictEqual(chainOf(error), plain("outer", "middle", "inner"))
  })

  it("follows a cause that is no Error, and ends there", () => {
    assert.deepStrictEqual(chainOf(new Error("outer", { cause: "because" })), plain("outer", "because"))
    assert.deepStrictEqual(chainOf(new Error("outer", { cause: null })), plain("outer"))
  })

  it("ends where causes go in a circle", () => {
    const first = new Error("first")
    const second = new Error("second", { cause: first })
    first.cause = second
    assert.deepStrictEqual(chainOf(first), plain("first", "second"))
    first.cause = first
    assert.deepStrictEqual(chainOf(first), plain("first"))
  })

  it("ends after 32 errors", () => {
    let error = new Error("0")
    for (let i = 1; i < 100; i++) error = new Error(String(i), { cause: error })
    const chain = chainOf(error)
    assert.strictEqual(chain.length, 32)
    assert.strictEqual(chain[31]?.message, "68")
  })

  it("is the text of what is no Error", () => {
    assert.deepStrictEqual(chainOf("just text"), plain("just text"))
    assert.deepStrictEqual(chainOf(""), plain(""))
    assert.deepStrictEqual(chainOf(42), plain("42"))
    assert.deepStrictEqual(chainOf(10n), plain("10n"))
    assert.deepStrictEqual(chainOf(undefined), plain("undefined"))
    assert.deepStrictEqual(chainOf(null), plain("null"))
    assert.deepStrictEqual(chainOf(Symbol("s")), plain("Symbol(s)"))
    assert.deepStrictEqual(chainOf({ _tag: "NotFound", id: 7 }), plain("{\"_tag\":\"NotFound\",\"id\":7}"))
    assert.deepStrictEqual(chainOf({ toString: () => "printed" }), plain("printed"))
  })

  it("is the name of an error that has no message, but an empty text where the name says nothing", () => {
    class NotFound extends Data.TaggedError("NotFound")<{ readonly id: number }> {}
    assert.deepStrictEqual(chainOf(new NotFound({ id: 7 })), plain("NotFound"))
    assert.deepStrictEqual(chainOf(new Error("")), plain(""))
  })

  it("knows an error of another realm", () => {
    const foreign: unknown = runInNewContext("new TypeError('foreign', { cause: new Error('inner') })")
    assert.isFalse(foreign instanceof Error)
    assert.deepStrictEqual(chainOf(foreign), plain("foreign", "inner"))
  })

  it("survives errors that throw when they are read", () => {
    const thrower = () => {
      throw new Error("no")
    }
    const message = Object.defineProperty(new Error("hidden"), "message", { get: thrower })
    assert.deepStrictEqual(chainOf(message), plain("an error whose message could not be read"))
    const cause = Object.defineProperty(new Error("visible"), "cause", { get: thrower })
    assert.deepStrictEqual(chainOf(cause), plain("visible"))
    const text = chainOf({ toString: thrower, [Symbol.toPrimitive]: thrower })
    assert.strictEqual(text.length, 1)
    const closedProxy = new Proxy(new Error("x"), {
      get: thrower,
      getPrototypeOf: thrower,
      has: thrower,
      ownKeys: thrower
    })
    assert.strictEqual(chainOf(closedProxy).length, 1)
    const number = Object.assign(new Error("x"), { message: 7 })
    assert.deepStrictEqual(chainOf(number), plain("7"))
  })

  it("cuts a text that is too long, and not within a character", () => {
    const [link] = chainOf(new Error(`${"a".repeat(65_535)}😀${"b".repeat(100_000)}`))
    assert.strictEqual(link?.message, `${"a".repeat(65_535)}…`)
    const whole = "a".repeat(65_536)
    assert.deepStrictEqual(chainOf(whole), plain(whole))
  })

  it("is what the other server sent, where a call that the handler made failed there", () => {
    const sent = [{ message: "outer: inner", identity: "(app:outer)" }, ...plain("inner")]
    const remote = RemoteError.fromChain(sent)
    assert.deepStrictEqual(chainOf(remote), sent)
    assert.deepStrictEqual(chainOf(new Error("asking B", { cause: remote })), [...plain("asking B"), ...sent])
    assert.deepStrictEqual(chainOf(new RemoteError({ message: "mine", chain: sent })), [...plain("mine"), ...sent])
    assert.deepStrictEqual(chainOf(RemoteError.fromChain([])), plain("remote error without a message"))
  })

  it("is read once, and has nothing but texts, where user code made it by hand", () => {
    const remoteWith = (fields: object): unknown => Object.assign(Object.create(RemoteError.prototype), fields)
    const links = Array.from({ length: 100_000 }, () => plainError("one"))
    assert.strictEqual(chainOf(remoteWith({ message: "one", chain: links })).length, 32)
    const unreadable = plain("an error whose message could not be read")
    assert.deepStrictEqual(chainOf(remoteWith({ message: "m", chain: [{ message: 404, identity: "i" }] })), unreadable)
    assert.deepStrictEqual(chainOf(remoteWith({ message: "m", chain: [{ message: "m" }] })), unreadable)
    assert.deepStrictEqual(chainOf(remoteWith({ message: "m" })), unreadable)
    let reads = 0
    const counting = {
      identity: "(app:counting)",
      get message() {
        return String(reads++)
      }
    }
    const chain = chainOf(remoteWith({ message: "outer", chain: [counting] }))
    assert.deepStrictEqual(chain, [...plain("outer"), { message: "0", identity: "(app:counting)" }])
  })

  it("has no message where the other server sent none", () => {
    assert.deepStrictEqual(chainOf(RemoteError.fromChain(plain(""))), plain(""))
  })

  it("never says that this server refused the call where it was another one that did", () => {
    const refusals = [
      Identities.overloaded,
      Identities.unknownMethod,
      Identities.argumentsTooLarge(2, 1),
      Identities.answerTooLarge("the result is 2 bytes, expected at most 1")
    ]
    for (const refusal of refusals) {
      const chain = chainOf(RemoteError.fromChain([refusal]))
      assert.deepStrictEqual(chain, [plainError(`the handler failed: ${refusal.message}`), refusal])
      const seen = RemoteError.fromChain(chain)
      assert.isFalse(seen.isOverloaded)
      assert.isFalse(seen.isUnknownMethod)
      assert.isTrue(seen.is(refusal.identity))
    }
    assert.isFalse(RemoteError.fromChain(chainOf(new Error(Identities.unknownMethod.message))).isUnknownMethod)
  })

  it("gives our errors the links by which a Go client knows them", () => {
    assert.deepStrictEqual(chainOf(lost("the connection was lost", new Error("read ECONNRESET"))), [
      plainError("the connection was lost"),
      Identities.communicationError,
      plainError("read ECONNRESET")
    ])
    assert.deepStrictEqual(chainOf(Unreachable.fromAttempts([])), [
      plainError("unreachable: there are no endpoints"),
      Identities.unreachable
    ])
    assert.deepStrictEqual(chainOf(new DeadlineExceeded({ message: "late" })), [
      plainError("late"),
      Identities.deadlineExceeded
    ])
  })

  it("gives our errors just that link where it says all", () => {
    assert.deepStrictEqual(chainOf(lost("communication error")), [Identities.communicationError])
    assert.deepStrictEqual(chainOf(new Unreachable({ message: "unreachable", attempts: [] })), [Identities.unreachable])
    assert.deepStrictEqual(chainOf(new DeadlineExceeded({ message: "context deadline exceeded" })), [
      Identities.deadlineExceeded
    ])
  })
})

describe("what the end of a handler's fiber becomes", () => {
  const causeOf = (effect: Effect.Effect<unknown, unknown>) =>
    Effect.map(Effect.exit(effect), (exit) => Exit.isFailure(exit) ? exit.cause : assert.fail("did not fail"))

  it.effect("is the chain of its failure", () =>
    Effect.gen(function*() {
      const cause = yield* causeOf(Effect.fail(new Error("boom", { cause: "why" })))
      assert.deepStrictEqual(chainOfCause(cause), plain("boom", "why"))
    }))

  it("is the chain of its first failure, without regard to other failures", () => {
    const failed = Cause.combine(Cause.fail("boom"), Cause.fail("bang"))
    assert.deepStrictEqual(chainOfCause(Cause.combine(Cause.die("secret"), failed)), plain("boom"))
    assert.deepStrictEqual(chainOfCause(Cause.combine(Cause.interrupt(1), failed)), plain("boom"))
  })

  it.effect("tells nothing of a defect", () =>
    Effect.gen(function*() {
      const cause = yield* causeOf(Effect.die(new Error("secret")))
      assert.deepStrictEqual(chainOfCause(cause), plain("internal error: the handler died"))
      assert.deepStrictEqual(chainOfCause(Cause.empty), plain("internal error: the handler died"))
      const both = Cause.combine(cause, Cause.interrupt(1))
      assert.deepStrictEqual(chainOfCause(both), plain("internal error: the handler died"))
    }))

  it.effect("is \"context canceled\" for an interruption", () =>
    Effect.gen(function*() {
      const cause = yield* causeOf(Effect.interrupt)
      assert.deepStrictEqual(chainOfCause(cause), [Identities.canceled])
    }))
})
