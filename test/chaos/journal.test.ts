import { describe, it } from "@effect/vitest"
import * as assert from "node:assert/strict"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Journal } from "./journal.ts"

describe("the journal", () => {
  it("has everything in its order, and finds what is about a call", () => {
    const directory = mkdtempSync(join(tmpdir(), "journal-"))
    const journal = new Journal(directory)
    assert.deepEqual(journal.about(new Set([1])), new Map())
    // More than is read at once, and letters of several bytes that may lie across two readings.
    const text = "ü".repeat(100)
    for (let id = 0; id < 20_000; id++) journal.add("call", { id, text })
    journal.add("fault", { replica: "a" })
    journal.add("violation", { check: "endedTwice", id: 12 })
    const about = journal.about(new Set([12, 19_999, 20_000]))
    const lines = readFileSync(join(directory, "journal.jsonl"), "utf8").trim().split("\n")
    rmSync(directory, { recursive: true })
    assert.equal(lines.length, 20_002)
    const details = (line: string) => Object.entries(JSON.parse(line)).filter(([name]) => name !== "seconds")
    assert.deepEqual([...about.keys()], [12, 19_999])
    assert.deepEqual(about.get(12)?.map((line) => Object.fromEntries(details(line))), [
      { what: "call", id: 12, text },
      { what: "violation", check: "endedTwice", id: 12 }
    ])
    assert.deepEqual(about.get(19_999), [lines[19_999]])
  })
})
