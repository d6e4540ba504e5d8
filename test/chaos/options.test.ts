import { describe, it } from "@effect/vitest"
import * as assert from "node:assert/strict"
import { parseOptions } from "./options.ts"

describe("the options of the soak", () => {
  it("are half a minute and a seed of its own, where nothing is said", () => {
    const first = parseOptions([])
    assert.deepEqual({ ...first, seed: 0 }, { seconds: 30, seed: 0, callers: 300, json: false })
    assert.notEqual(parseOptions([]).seed, first.seed)
  })

  it("are what is said", () => {
    const args = ["--seconds", "0.5", "--seed", "4294967295", "--callers", "7", "--json"]
    assert.deepEqual(parseOptions(args), { seconds: 0.5, seed: 4_294_967_295, callers: 7, json: true })
  })

  for (
    const [args, problem] of [
      [["--seconds", "0"], /--seconds: expected a number above 0, got "0"/],
      [["--seconds", ""], /--seconds/],
      [["--seconds", "Infinity"], /--seconds/],
      [["--seed", "-1"], /--seed/],
      [["--seed", "4294967296"], /--seed: expected a whole number from 0 to 4294967295/],
      [["--callers", "1.5"], /--callers/],
      [["--fast"], /--fast/],
      [["now"], /now/]
    ] as const
  ) {
    it(`cannot be ${args.join(" ")}`, () => {
      assert.throws(() => parseOptions(args), problem)
    })
  }
})
