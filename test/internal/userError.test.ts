import { describe, it } from "@effect/vitest"
import { Cause, Console, Data, Effect, Logger, Schema } from "effect"
import * as assert from "node:assert/strict"
import { runInNewContext } from "node:vm"
import * as UserError from "../../src/internal/userError.ts"
import { hostileErrors } from "../support/hostileErrors.ts"

class NotFound extends Data.TaggedError("NotFound")<{ readonly id: number }> {}

describe("any error", () => {
  for (const [what, make] of Object.entries(hostileErrors)) {
    it(`it has a text and a type of bounded length: ${what}`, () => {
      const text = UserError.textOf(make())
      assert.ok(typeof text === "string" && text.length > 0 && text.length <= 65_537, `a text of ${text.length}`)
      const type = UserError.typeOf(make())
      assert.ok(typeof type === "string" && type.length > 0 && type.length <= 128, `a type of ${type.length}`)
      assert.ok(UserError.ownTextOf(make()).length <= 65_537)
      UserError.causeOf(make())
      assert.equal(UserError.isInstance(make(), Map), false)
      assert.equal(UserError.isReset(make()), false)
    })

    it(`a logger or tracer can read it: ${what}`, () => {
      for (const cause of [Cause.fail(make()), Cause.die(make())]) {
        const readable = UserError.readableCause(cause)
        for (const error of Cause.prettyErrors(readable, { includeCauseInStack: true })) assert.ok(error.message)
        assert.notEqual(Cause.pretty(readable), "")
        assert.deepEqual(readable.reasons.map(({ _tag }) => _tag), cause.reasons.map(({ _tag }) => _tag))
      }
    })
  }
})

describe("an error says that the peer has reset a connection", () => {
  const reset = Object.assign(new Error("read ECONNRESET"), { code: "ECONNRESET" })
  const refused = Object.assign(new Error("connect ECONNREFUSED"), { code: "ECONNREFUSED" })

  it("by its code, by that of what caused it, and by that of one of several attempts", () => {
    assert.equal(UserError.isReset(reset), true)
    assert.equal(UserError.isReset(Object.assign(new Error("write EPIPE"), { code: "EPIPE" })), true)
    assert.equal(UserError.isReset(new Error("cannot dial", { cause: new Error("TLS", { cause: reset }) })), true)
    assert.equal(UserError.isReset(new Error("cannot dial", { cause: new AggregateError([refused, reset]) })), true)
  })

  it("and by nothing else", () => {
    for (const error of [refused, new Error("ECONNRESET"), new AggregateError([refused]), "ECONNRESET", undefined]) {
      assert.equal(UserError.isReset(error), false)
    }
  })
})

describe("the text of an error", () => {
  it("is its message", () => {
    assert.equal(UserError.textOf(new Error("no", { cause: "why" })), "no")
    assert.equal(UserError.textOf("no"), "no")
    assert.equal(UserError.textOf(new Error("wrong version number\n")), "wrong version number")
    assert.equal(UserError.textOf({ reason: 1 }), "{\"reason\":1}")
    assert.equal(UserError.textOf(runInNewContext("new Error('foreign')")), "foreign")
  })

  it("is its name where it has no message, and says so where it has neither", () => {
    assert.equal(UserError.textOf(new NotFound({ id: 1 })), "NotFound")
    assert.equal(UserError.textOf(new Error("")), "an error without a message")
    assert.equal(UserError.ownTextOf(new Error("")), "")
  })

  it("is there also where another part of it throws", () => {
    for (const what of ["a tag that throws", "a name that throws", "a cause that throws", "a stack that throws"]) {
      assert.equal(UserError.textOf(hostileErrors[what]!()), "visible", what)
    }
    assert.equal(UserError.textOf(hostileErrors["a revoked proxy"]!()), UserError.unreadableText)
  })

  it("is cut between two characters", () => {
    assert.equal(UserError.textOf(`${"a".repeat(65_535)}😀`), `${"a".repeat(65_535)}…`)
    assert.equal(UserError.textOf("a".repeat(65_536)), "a".repeat(65_536))
  })
})

describe("the type of an error", () => {
  it("is its tag, or its name", () => {
    assert.equal(UserError.typeOf(new NotFound({ id: 1 })), "NotFound")
    assert.equal(UserError.typeOf({ _tag: "Gone" }), "Gone")
    assert.equal(UserError.typeOf(new TypeError("no")), "TypeError")
    assert.equal(UserError.typeOf(runInNewContext("new TypeError('foreign')")), "TypeError")
  })

  it("is its name where its tag is none, or throws", () => {
    assert.equal(UserError.typeOf(Object.assign(new TypeError("no"), { _tag: "" })), "TypeError")
    assert.equal(UserError.typeOf(Object.assign(new TypeError("no"), { _tag: 404 })), "TypeError")
    assert.equal(UserError.typeOf(hostileErrors["a tag that throws"]!()), "Error")
  })

  it("is the same for all that have neither", () => {
    for (const error of ["text", undefined, null, 1, {}, { name: "Plain" }, hostileErrors["an empty tag"]!()]) {
      assert.equal(UserError.typeOf(error), "failure")
    }
  })

  it("is cut", () => {
    assert.equal(UserError.typeOf({ _tag: "x".repeat(1000) }), `${"x".repeat(127)}…`)
  })
})

describe("a cause that is to be read by loggers and tracers", () => {
  it("is the same one where it can be read", () => {
    const errors = [
      new Error("outer", { cause: new NotFound({ id: 1 }) }),
      new (class Coded extends Error {
        readonly code = "E"
      })("coded"),
      new Schema.SchemaError(failedIssue()),
      hostileErrors["causes that go in a circle"]!(),
      hostileErrors["a name that is a number"]!(),
      "text",
      undefined
    ]
    for (const error of errors) {
      const cause = Cause.combine(Cause.fail(error), Cause.interrupt(1))
      assert.equal(UserError.readableCause(cause), cause)
    }
  })

  const loggers = {
    "the default logger": Logger.consolePretty(),
    "the JSON logger": Logger.consoleJson,
    "the structured logger": Logger.consoleStructured,
    "the logger of lines": Logger.consoleLogFmt
  }
  for (const [name, logger] of Object.entries(loggers)) {
    it.effect(`is written by ${name}, for any error`, () =>
      Effect.gen(function*() {
        for (const [what, make] of Object.entries(hostileErrors)) {
          const written: Array<unknown> = []
          const write = (...values: ReadonlyArray<unknown>) => void written.push(...values)
          const nothing = () => {}
          const quiet = { ...console, log: write, error: write, group: nothing, groupEnd: nothing }
          yield* Effect.logError("it failed", UserError.readableCause(Cause.die(make()))).pipe(
            // Written after the cause.
            Effect.annotateLogs({ method: "do" }),
            Effect.provide(Logger.layer([logger])),
            Effect.provideService(Console.Console, quiet)
          )
          assert.match(JSON.stringify(written), /it failed.*method/, what)
        }
      }))
  }

  it("keeps what can be said of an error that cannot be read", () => {
    const cause = Cause.fromReasons<unknown>([
      Cause.makeFailReason(hostileErrors["a cause that throws"]!()),
      Cause.makeDieReason(hostileErrors["a cause whose name throws"]!()),
      Cause.makeInterruptReason(7)
    ])
    const { reasons } = UserError.readableCause(cause)
    const [failed, died, interrupted] = reasons
    assert.ok(failed?._tag === "Fail" && failed.error instanceof Error)
    assert.deepEqual([failed.error.name, failed.error.message, failed.error.cause], ["Error", "visible", undefined])
    // Where it was made, and not where it was replaced.
    assert.match(failed.error.stack ?? "", /hostileErrors/)
    assert.ok(died?._tag === "Die" && died.defect instanceof Error && died.defect.cause instanceof Error)
    assert.deepEqual([died.defect.message, died.defect.cause.message], ["outer", "visible"])
    assert.equal(interrupted, cause.reasons[2])
  })

  // Before Node 24 it is a field, and to ask what kind of property it is reads it.
  const isField = Object.getOwnPropertyDescriptor(new Error(), "stack")?.get === undefined
  it.skipIf(isField)("does not make a text of a stack before it is read", () => {
    let formatted = 0
    const prepare: unknown = Reflect.get(Error, "prepareStackTrace")
    Error.prepareStackTrace = (error) => {
      formatted++
      return String(error)
    }
    try {
      const cause = Cause.fail(new NotFound({ id: 1 }))
      assert.equal(UserError.readableCause(cause), cause)
    } finally {
      Reflect.set(Error, "prepareStackTrace", prepare)
    }
    assert.equal(formatted, 0)
  })
})

const failedIssue = () => {
  const result = Schema.decodeUnknownResult(Schema.Number)("text")
  assert.ok(result._tag === "Failure")
  return result.failure.issue
}
