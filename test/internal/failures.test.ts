import { assert, describe, it } from "@effect/vitest"
import { listFailures } from "../../src/internal/failures.ts"

const failures = (count: number) =>
  Array.from({ length: count }, (_, i) => ({ endpoint: `tcp://host:${i}`, message: `refused ${i}` }))

describe("the text of several failures", () => {
  it("names each endpoint with its failure", () => {
    assert.strictEqual(listFailures(failures(2)), "tcp://host:0: refused 0; tcp://host:1: refused 1")
    assert.strictEqual(listFailures([]), "")
  })

  it("names twenty of them, and counts the others", () => {
    assert.notInclude(listFailures(failures(20)), "more")
    const text = listFailures(failures(1000))
    assert.match(text, /; tcp:\/\/host:19: refused 19; and 980 more$/)
  })
})
