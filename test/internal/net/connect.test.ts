import { describe, it } from "@effect/vitest"
import * as assert from "node:assert/strict"
import { describe as textOf } from "../../../src/internal/net/connect.ts"
import { hostileErrors } from "../../support/hostileErrors.ts"

describe("what an error of a connection says", () => {
  it("is its message, or the messages of the attempts that it sums up", () => {
    assert.equal(textOf(new Error("connect ECONNREFUSED 127.0.0.1:80")), "connect ECONNREFUSED 127.0.0.1:80")
    assert.equal(textOf(new AggregateError([new Error("no v6"), new Error("no v4")])), "no v6; no v4")
    assert.equal(textOf(new AggregateError([new Error("no v6")], "no address")), "no address")
    assert.equal(textOf(new AggregateError([])), "AggregateError")
    assert.equal(textOf("UNABLE_TO_GET_ISSUER_CERT"), "UNABLE_TO_GET_ISSUER_CERT")
  })

  it("is a text of bounded length, where attempts sum up each other", () => {
    const circular = new AggregateError([])
    circular.errors.push(circular, circular)
    assert.equal(textOf(circular), "AggregateError; AggregateError")
    const long = Array.from({ length: 10 }, () => new Error("x".repeat(60_000)))
    assert.equal(textOf(new AggregateError(long)).length, 65_537)
  })

  for (const [what, make] of Object.entries(hostileErrors)) {
    it(`is a text, where it is one with ${what}, or sums up such a one`, () => {
      for (const text of [textOf(make()), textOf(new AggregateError([make(), make()]))]) {
        assert.ok(typeof text === "string" && text.length > 0 && text.length <= 65_537)
      }
    })
  }
})
