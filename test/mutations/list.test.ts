import { assert, describe, it } from "@effect/vitest"
import * as fs from "node:fs"
import { leastPerRoom, mutations } from "./list.ts"

const textOf = (file: string): string =>
  fs.existsSync(file) ? fs.readFileSync(file, "utf8").replaceAll("\r\n", "\n") : ""

describe("the list of mutations", () => {
  for (const { file, from, name, to } of mutations) {
    it(`finds its place: ${name}`, () => {
      const found = textOf(file).split(from).length - 1
      assert.strictEqual(found, 1, `${file} has the text ${JSON.stringify(from)} ${found} times, expected once`)
      assert.notStrictEqual(from, to)
    })
  }

  it("has enough mutations for each room", () => {
    const counts = new Map<string, number>()
    for (const { room } of mutations) counts.set(room, (counts.get(room) ?? 0) + 1)
    for (const [room, least] of Object.entries(leastPerRoom)) {
      assert.isAtLeast(counts.get(room) ?? 0, least, `mutations of ${room}`)
    }
  })

  it("has no name twice", () => {
    assert.strictEqual(new Set(mutations.map(({ name }) => name)).size, mutations.length)
  })
})
