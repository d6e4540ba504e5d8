/**
 * What the pages for those who change the library say of its files: promises and their tests, rooms and what they may
 * use, the states of machines.
 */
import { describe, it } from "@effect/vitest"
import * as assert from "node:assert/strict"
import { existsSync, globSync, readFileSync } from "node:fs"
import { posix } from "node:path"

const root = new URL("../", import.meta.url)
const read = (path: string): string => readFileSync(new URL(path, root), "utf8")
const exists = (path: string): boolean => existsSync(new URL(path, root))

/** The lines of the drawings (bare text blocks) of a page. */
const drawings = (text: string): ReadonlyArray<ReadonlyArray<string>> =>
  [...text.matchAll(/^```text\n([\s\S]*?)^```$/gm)].map(([, lines = ""]) => lines.trimEnd().split("\n"))

describe("test/README.md", () => {
  const [, promises = ""] = /^## Promises\n([\s\S]*?)^## /m.exec(read("test/README.md")) ?? []
  const named = [...promises.matchAll(/`((?:[A-Z]|faults\/|internal\/|wire`)[A-Za-z/.]*)`?/g)]
    .map(([, name = ""]) => name.replaceAll("`", ""))
    .filter((name) => name.includes("/") || name === "wire")

  it("names tests that exist", () => {
    assert.ok(named.length > 50, `${named.length} tests`)
    assert.deepEqual(named.filter((name) => !exists(`test/${name}.test.ts`)), [])
  })

  it("names a test, or a script, for each promise", () => {
    const entries = promises.split(/^- /m).slice(1)
    assert.ok(entries.length > 20)
    const bare = entries.filter((entry) =>
      !named.some((name) => entry.includes(`\`${name}\``)) && !/soak|fuzzer|chaos/.test(entry)
    )
    assert.deepEqual(bare, [])
  })
})

describe("src/README.md", () => {
  const [rooms = [], machines = []] = drawings(read("src/README.md"))

  const lines = rooms.map((line) => /^(\w+) +(.*?) {2,}(.*)$/.exec(line) ?? assert.fail(`no room: ${line}`))
  const names = lines.map(([, name = ""]) => name)
  /** What a room may use: the rooms that its line names, or all above but one. */
  const allowed = new Map<string, ReadonlySet<string>>()
  for (const [, name = "", , uses = ""] of lines) {
    const used = uses.startsWith("all above but ")
      ? [...allowed.keys()].filter((room) => room !== uses.slice("all above but ".length))
      : names.filter((room) => new RegExp(`\\b${room}\\b`).test(uses))
    allowed.set(name, new Set(used))
  }

  it("lists the rooms that there are", () => {
    const folders = globSync("src/internal/*/", { cwd: root }).map((path) => posix.basename(path.replaceAll("\\", "/")))
    assert.deepEqual(new Set(names), new Set(folders))
  })

  it("says what each room uses, no more and no less", () => {
    const used = new Map(names.map((room) => [room, new Set<string>()]))
    for (const file of globSync("src/internal/*/*.ts", { cwd: root }).map((path) => path.replaceAll("\\", "/"))) {
      const room = file.split("/")[2] ?? ""
      for (const [, , target = ""] of read(file).matchAll(/(from |import\()"(\.\.\/[^"]+)"/g)) {
        const [, , other = ""] = posix.join(posix.dirname(file), target).split("/")
        if (other !== room && allowed.has(other)) used.get(room)?.add(other)
      }
    }
    const sorted = (rooms: ReadonlyMap<string, ReadonlySet<string>>) =>
      [...rooms].map(([room, others]) => `${room}: ${names.filter((name) => others.has(name)).join(", ")}`)
    assert.deepEqual(sorted(allowed), sorted(used))
  })

  it("lists the states of the machines", () => {
    assert.ok(machines.length >= 20)
    for (const line of machines) {
      const [, path = "", states = ""] = /^(\w+\/\w+)(?:, \w+)? +(.*)$/.exec(line) ?? assert.fail(`no machine: ${line}`)
      const text = read(`src/internal/${path}.ts`)
      for (const state of states.split(", ")) assert.ok(text.includes(state), `${path}: ${state}`)
      // Where a table says what may follow what, it has these states and no others.
      const tables = [...text.matchAll(/: Transitions<.*> = \{\n([\s\S]*?)^\}/gm)].map(([, table = ""]) =>
        [...table.matchAll(/^ {2}(\w+): \[/gm)].map(([, state]) => state)
      )
      if (tables.length > 0) assert.ok(tables.some((table) => table.join(", ") === states), `${path}: ${states}`)
    }
  })

  it("names all machines that are checked", () => {
    const checked = globSync("src/internal/*/*.ts", { cwd: root }).map((path) => path.replaceAll("\\", "/"))
      .filter((file) => read(file).includes("checkTransition("))
    const listed = machines.map((line) => `src/internal/${line.split(/[ ,]/)[0]}.ts`)
    assert.deepEqual(checked.filter((file) => !listed.includes(file)), [])
  })
})
