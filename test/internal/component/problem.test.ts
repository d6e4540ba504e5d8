/** The texts that say what is wrong with a value. */
import { describe, it } from "@effect/vitest"
import { Cause, Exit, Schema } from "effect"
import { MethodKey } from "effect-call"
import * as assert from "node:assert/strict"
import * as Problem from "../../../src/internal/component/problem.ts"
import { hostileErrors } from "../../support/hostileErrors.ts"

describe("what is wrong with a value", () => {
  const Item = Schema.Struct({ id: Schema.Int, parts: Schema.Array(Schema.Struct({ name: Schema.NonEmptyString })) })

  it("is one line with what was expected, and where", () => {
    const refused = Schema.decodeUnknownExit(Item)({ id: 1, parts: [{ name: "a" }, { name: 1 }] })
    assert.ok(Exit.isFailure(refused))
    assert.equal(Problem.refusalOf(refused.cause), "Expected string at [\"parts\"][1][\"name\"]")
  })

  it("is found in the error that a constructor throws", () => {
    let thrown: unknown
    try {
      Item.make({ id: 1, parts: [{ name: "" }] })
    } catch (error) {
      thrown = error
    }
    assert.equal(Problem.problemOf(thrown), "Expected a value with a length of at least 1 at [\"parts\"][0][\"name\"]")
  })

  it("names every issue where all of them were asked for", () => {
    const refused = Schema.decodeUnknownExit(Item, { errors: "all" })({ id: "x", parts: [{ name: 1 }] })
    assert.ok(Exit.isFailure(refused))
    assert.equal(
      Problem.refusalOf(refused.cause),
      "Expected number at [\"id\"]; Expected string at [\"parts\"][0][\"name\"]"
    )
  })

  it("is a text of a thousand characters at most, however long the value or its path", () => {
    const refused = Schema.decodeUnknownExit(Schema.Record(Schema.String, Schema.Int))({ ["k".repeat(100_000)]: "x" })
    assert.ok(Exit.isFailure(refused))
    const problem = Problem.refusalOf(refused.cause) ?? ""
    assert.match(problem, /^Expected number at \["k+…$/)
    assert.equal(problem.length, 1001)
  })

  it("is the text of any other error", () => {
    assert.equal(Problem.problemOf(new Error("not utf-8")), "not utf-8")
    assert.equal(Problem.problemOf("text"), "text")
    assert.equal(Problem.problemOf(undefined), "undefined")
  })

  it("is not told where a transformation has died", () => {
    assert.equal(Problem.refusalOf(Cause.die(new Error("dead"))), undefined)
    assert.equal(Problem.refusalOf(Cause.die(new RangeError("Invalid time value"))), undefined)
    assert.equal(Problem.problemOf(Object.create(null)), "{}")
  })

  for (const [what, make] of Object.entries(hostileErrors)) {
    it(`does not throw, and says something, where a transformation has failed or died with ${what}`, () => {
      const key = MethodKey.make("test/Codec", "do")
      for (const cause of [Cause.fail(make()), Cause.die(make())]) {
        assert.notEqual(Problem.refusalOf(cause), "")
        assert.match(
          Problem.unencodable("result", key, cause).message,
          /^the result of test\/Codec\.do cannot be encoded: ./
        )
      }
      assert.match(Problem.unencodable("payload", key, make()).message, /cannot be encoded: ./)
    })
  }
})
