/** That the doc comments list all metrics, and all messages that the library logs. */
import { describe, it } from "@effect/vitest"
import * as assert from "node:assert/strict"
import { globSync, readFileSync } from "node:fs"

const root = new URL("..", import.meta.url)

const read = (name: string): string => readFileSync(new URL(name, root), "utf8")

const docsOf = (...names: ReadonlyArray<string>): string =>
  names.flatMap((name) => read(name).match(/\/\*\*[\s\S]*?\*\//g) ?? []).join("\n")

/** All matches of the first group that takes part. */
const found = (text: string, pattern: RegExp): ReadonlyArray<string> =>
  [...text.matchAll(pattern)].flatMap(([, ...groups]) => groups.filter((group) => group !== undefined))

const sources = globSync("src/**/*.ts", { cwd: root })
  .filter((name) => !/^src[\\/]cli[\\/]/.test(name))
  .map((name) => read(name).replaceAll(/\/\*\*[\s\S]*?\*\//g, ""))

/** The start of a text in code, up to its first value: what is constant in a message. */
const constant = /\(\s*["`]([^"`$]+)/.source

/** How lines are logged: by Effect, with a message of an endpoint's, and by what logs the failures of calls. */
const messages = sources.flatMap((source) => [
  ...found(source, new RegExp(`Effect\\.log(?:Debug|Warning|Error)${constant}`, "g")),
  ...found(source, /\blog\.(?:debug|warn)\((?:[^"`,]*\? "([^"]+)" : )?["`]([^"`$]+)/g),
  ...found(source, /\blogFailure\([^"]*"([^"]+)"/g)
])

describe("the doc comments", () => {
  it("list the metrics of clients", () => {
    const names = found(read("src/internal/telemetry/metrics.ts"), /name: "(rpc\.client\.[a-z_.]+)"/g)
    const listed = found(docsOf("src/internal/client/model.ts"), /\| `(rpc\.client\.[a-z_.]+)` \|/g)
    assert.deepEqual([...new Set(listed)].toSorted(), [...new Set(names)].toSorted())
  })

  it("list the metrics of servers", () => {
    const names = found(read("src/internal/telemetry/metrics.ts"), /name: "(rpc\.server\.[a-z_.]+)"/g)
    const listed = found(docsOf("src/internal/server/options.ts"), /\| `(rpc\.server\.[a-z_.]+)` \|/g)
    assert.deepEqual([...new Set(listed)].toSorted(), [...new Set(names)].toSorted())
  })

  it("list the messages of the log", () => {
    assert.ok(messages.length > 40, `${messages.length} messages were found`)
    const docs = docsOf("src/Connection.ts", "src/Server.ts", "src/Listener.ts", "src/Resolver.ts")
    assert.deepEqual(messages.filter((message) => !docs.includes(message.replace(/:? $/, ""))), [])
  })
})
