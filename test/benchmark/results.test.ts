import { describe, it } from "@effect/vitest"
import * as assert from "node:assert/strict"
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { pathToFileURL } from "node:url"
import { headline, markdown, type Row } from "./report.ts"
import { block, type Circumstances, machine, page, type PageName, pages, save } from "./results.ts"
import { isSystemName } from "./systems.ts"

const read = (name: string): string => readFileSync(new URL(name, import.meta.url), "utf8")

/** The pages that no script writes. */
const writtenByHand = ["freshBuffers.md", "targets.md"]

/** The pages whose scripts were not run yet, or write none that is kept. */
const unwritten = ["quick.md", "streamMemory.md"]

const committed = readdirSync(new URL("results/", import.meta.url))

/** A figure of a table and its ratio, such as "16 918 ×1.00". */
const figure = (cell: string): readonly [figure: number, ratio: number | null] => {
  const [value = "", ratio] = cell.split(" ×")
  return [Number(value.replaceAll(" ", "")), ratio === undefined ? null : Number(ratio)]
}

/** The lines of the tables of a page, as lists of cells, without their heads; headings as they are. */
const tableLines = (text: string) =>
  text.split("\n").filter((line) => /^(\||##)/.test(line) && !/^\| (---|Callers|Payload)/.test(line)).map((line) =>
    line.startsWith("##") ? line.slice(3) : line.slice(2, -2).split(" | ").map((cell) => cell.trim())
  )

const sizes: Readonly<Record<string, number>> = { "16 B": 16, "4 KiB": 4096, "64 KiB": 65_536 }

/** The rows that a page of the echo was written from, as far as they are in it. */
const rowsOf = (text: string): ReadonlyArray<Row> => {
  let heading = ""
  let group = ""
  return tableLines(text).flatMap((line) => {
    if (typeof line === "string") {
      heading = line
      return []
    }
    const [first = "", name = "", rate = "", p50 = "", p99 = "", p999 = "", client = "", server = "", rss = ""] = line
    group = first === "" ? group : first
    const [callers, size] = heading in sizes ? [group, heading] : [heading.split(" ")[0], group]
    const system = name.replaceAll("`", "")
    if (!isSystemName(system)) throw new Error(`no system: ${system}`)
    const [clientRss = "", serverRss = ""] = rss.split(", ")
    return [{
      system,
      concurrency: Number(callers),
      payloadBytes: sizes[size] ?? NaN,
      callsPerSecond: figure(rate)[0],
      ratioToRaw: figure(rate)[1],
      p50Us: figure(p50)[0],
      p50Ratio: figure(p50)[1],
      p99Us: figure(p99)[0],
      p99Ratio: figure(p99)[1],
      p999Us: figure(p999)[0],
      p999Ratio: figure(p999)[1],
      clientCpuUs: figure(client)[0],
      clientCpuRatio: figure(client)[1],
      serverCpuUs: figure(server)[0],
      serverCpuRatio: figure(server)[1],
      clientPeakRssBytes: figure(clientRss)[0] * 1e6,
      clientPeakRssRatio: figure(clientRss)[1],
      serverPeakRssBytes: figure(serverRss)[0] * 1e6,
      serverPeakRssRatio: figure(serverRss)[1]
    }]
  })
}

const now: Circumstances = { date: "2030-01-02", machine: "a machine", args: [] }

describe("the pages of results", () => {
  it("are those that scripts write, and those that are written by hand", () => {
    const known = [...Object.keys(pages).map((name) => `${name}.md`), ...writtenByHand]
    assert.deepEqual(committed.filter((name) => !known.includes(name)), [])
    const missing = known.filter((name) => !committed.includes(name) && !unwritten.includes(name))
    assert.deepEqual(missing, [])
  })

  it("say what their scripts say", () => {
    for (const [name, { title }] of Object.entries(pages)) {
      if (!committed.includes(`${name}.md`)) continue
      const text = read(`results/${name}.md`)
      // What is above the circumstances depends on the page alone.
      const fixed = page(name as PageName, "", now).split("\n- Measured on")[0] ?? ""
      assert.ok(text.startsWith(`# ${title}\n`) && text.startsWith(fixed), `results/${name}.md: expected\n${fixed}`)
    }
  })

  it("are all linked from the README, and it links no others", () => {
    const linked = [...read("README.md").matchAll(/\(results\/([^)#]+)/g)].map(([, name]) => name)
    const written = committed.filter((name) => name !== "quick.md")
    assert.deepEqual(new Set(linked), new Set(written))
  })

  it("have the form that the benchmark writes", () => {
    for (const name of ["results/echo.md", "results/variants.md"]) {
      const text = read(name)
      const rows = rowsOf(text)
      assert.ok(rows.length > 30)
      assert.ok(text.includes(markdown(rows)), `${name}: expected\n${markdown(rows)}`)
    }
  })
})

describe("the README of the benchmarks", () => {
  it("has the rates of the page of the echo", () => {
    const expected = headline(rowsOf(read("results/echo.md")))
    assert.ok(read("README.md").includes(expected), `README.md: expected\n${expected}`)
  })
})

describe("the README of the package", () => {
  const text = read("../../README.md")
  const rows = rowsOf(read("results/echo.md"))
  const rate = (system: string, concurrency: number, payloadBytes: number) =>
    rows.find((row) => row.system === system && row.concurrency === concurrency && row.payloadBytes === payloadBytes)!
      .callsPerSecond

  it("compares by the rates of the page of the echo", () => {
    for (
      const [label, callers, bytes] of [["1 caller, 16 B", 1, 16], ["64 callers, 16 B", 64, 16], [
        "64 callers, 4 KiB",
        64,
        4096
      ]] as const
    ) {
      const row = text.split("\n").find((line) => line.startsWith(`| Calls/s, ${label} `))
      assert.ok(row !== undefined, `no row "Calls/s, ${label}"`)
      assert.deepEqual(
        row.split("|").slice(2, 6).map((cell) => figure(cell.trim())[0]),
        ["typed", "effect-rpc", "grpc-js", "connect-node"].map((system) => rate(system, callers, bytes))
      )
    }
  })

  it("says how many times the calls of grpc-js it makes", () => {
    const times = (system: string) => Math.floor(rate(system, 64, 16) / rate("grpc-js", 64, 16))
    assert.match(
      text.replaceAll(/\s+/g, " "),
      new RegExp(
        `${times("typed")} times the calls of grpc-js with typed contracts, ${times("bytes")} times with bytes`
      )
    )
  })
})

describe("a page", () => {
  it("says what was measured, when, where and by which command", () => {
    assert.equal(
      page("heap", block("a  b\n1  2\n"), { ...now, args: ["--rounds", "2", "--save"] }),
      [
        "# A large heap",
        "",
        "The influence of the application's other live objects. \"ratio\" is with them to without them.",
        "",
        "[How it is measured](../README.md)",
        "",
        "- Measured on 2030-01-02: a machine",
        "- Written by: `npx node test/benchmark/heap.ts --rounds 2 --save`",
        "",
        "```text",
        "a  b",
        "1  2",
        "```",
        ""
      ].join("\n")
    )
  })

  it("does not repeat the options that its script always has", () => {
    assert.match(page("variants", "", { ...now, args: ["--variants", "--save"] }), /bench -- --variants --save`/)
  })

  it("wraps long lines", () => {
    const text = page("balancers", "", { ...now, machine: "a machine with a long name, ".repeat(9) })
    assert.ok(text.split("\n").every((line) => line.length <= 120))
  })

  it("is written into its folder, which is made if need be", () => {
    const folder = mkdtempSync(join(tmpdir(), "results-"))
    try {
      save("heap", block("x"), pathToFileURL(`${folder}/new/`))
      const text = readFileSync(join(folder, "new", "heap.md"), "utf8")
      assert.match(text, /^- Measured on \d{4}-\d\d-\d\d: \d+ cores/m)
      assert.match(text, /\n```text\nx\n```\n$/)
    } finally {
      rmSync(folder, { recursive: true })
    }
  })

  it("names the machine and what runs on it", () => {
    assert.match(machine(), /^\d+ cores? \(.+\), \d+ GiB, .+, Node \d+\.\d+\.\d+, effect \d+\.\d+\.\d+$/)
  })
})
