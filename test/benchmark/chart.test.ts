import { describe, it } from "@effect/vitest"
import * as assert from "node:assert/strict"
import { chart } from "./chart.ts"
import { type Row, rowOf } from "./report.ts"
import { isSystemName, type SystemName, systems } from "./systems.ts"

const allSystems = Object.keys(systems).filter(isSystemName)

const row = (system: SystemName, callsPerSecond: number, over: Partial<Row> = {}): Row => ({
  ...rowOf(system, 64, 16, [], undefined, undefined, undefined),
  callsPerSecond,
  ...over
})

interface Shape {
  readonly name: string
  readonly attributes: Readonly<Record<string, string>>
  readonly content: string
}

const unescape = (text: string): string =>
  text.replace(
    /&(lt|gt|quot|amp|#39);/g,
    (_, name: string) => ({ lt: "<", gt: ">", quot: "\"", amp: "&", "#39": "'" })[name] ?? ""
  )

/** Reads the part of XML that a chart may need, and fails at anything else. */
const parse = (svg: string): ReadonlyArray<Shape> => {
  const shapes: Array<Shape> = []
  const open: Array<{ readonly name: string; readonly attributes: Record<string, string>; content: string }> = []
  let roots = 0
  const token = /<\/([a-z]+)>|<([a-z]+)((?: [a-zA-Z:]+="[^"<>]*")*)(\/?)>|([^<>]+)/gy
  while (token.lastIndex < svg.length) {
    const at = token.lastIndex
    const [, closed, opened, attributes = "", empty, content] = token.exec(svg) ??
      assert.fail(`no XML: ${svg.slice(at, at + 80)}`)
    for (const text of [attributes, content ?? ""]) assert.doesNotMatch(text, /&(?!(?:lt|gt|quot|amp|#39);)/)
    const outer = open.at(-1)
    if (content !== undefined) {
      if (outer !== undefined) outer.content += content
      else assert.equal(content.trim(), "")
    } else if (opened !== undefined) {
      if (outer === undefined) roots++
      const pairs = [...attributes.matchAll(/ ([a-zA-Z:]+)="([^"]*)"/g)].map((
        [, name = "", value = ""]
      ) => [name, value])
      assert.equal(new Set(pairs.map(([name]) => name)).size, pairs.length, `an attribute twice: ${attributes}`)
      const shape = { name: opened, attributes: Object.fromEntries(pairs), content: "" }
      if (empty === "/") shapes.push(shape)
      else open.push(shape)
    } else {
      const shape = open.pop() ?? assert.fail(`</${closed}> ends nothing`)
      assert.equal(closed, shape.name)
      shapes.push({ ...shape, content: unescape(shape.content) })
    }
  }
  assert.equal(open.length, 0)
  assert.equal(roots, 1)
  assert.equal(shapes.at(-1)?.name, "svg")
  return shapes
}

const number = (shape: Shape, name: string): number => {
  const value = Number(shape.attributes[name])
  assert.ok(Number.isFinite(value), `${shape.name} has no ${name}: ${shape.attributes[name]}`)
  return value
}

const texts = (shapes: ReadonlyArray<Shape>, kind: string): ReadonlyArray<Shape> =>
  shapes.filter(({ attributes, name }) => name === "text" && attributes["class"] === kind)

const contents = (shapes: ReadonlyArray<Shape>, kind: string): ReadonlyArray<string> =>
  texts(shapes, kind).map(({ content }) => content)

/** The bars, each with the figure behind it. */
const bars = (shapes: ReadonlyArray<Shape>): ReadonlyArray<{ readonly bar: Shape; readonly figure: Shape }> =>
  shapes.flatMap((bar, index) => {
    const figure = shapes[index + 1]
    return bar.name === "rect" && figure?.attributes["class"] === "figure" ? [{ bar, figure }] : []
  })

const lengths = (shapes: ReadonlyArray<Shape>): ReadonlyArray<number> =>
  bars(shapes).map(({ bar }) => number(bar, "width"))

/** Within what numbers in the file are rounded to. */
const assertAbout = (actual: number | undefined, expected: number) =>
  assert.ok(actual !== undefined && Math.abs(actual - expected) <= 0.02, `${actual} in place of ${expected}`)

describe("the chart of the benchmark", () => {
  const everything = [16, 4096, 65_536].flatMap((payloadBytes) =>
    allSystems.map((system, i) => row(system, 1e7 / payloadBytes / (i + 1), { payloadBytes, ratioToRaw: 1 / (i + 1) }))
  )
  const kinds: Readonly<Record<string, ReadonlyArray<Row>>> = {
    everything,
    "one row": [row("bytes", 1000)],
    "no raw": everything.filter(({ system }) => system !== "raw"),
    "peers only": [row("undici", 10), row("grpc-js", 20)],
    "gaps": everything.filter((_, i) => i % 3 > 0),
    "many payloads": [1, 2, 3, 4, 5, 6, 7].map((payloadBytes) => row("raw", 1, { payloadBytes })),
    "no calls": [row("raw", 0), row("bytes", 0)],
    "no figures": [row("raw", NaN, { ratioToRaw: NaN }), row("bytes", NaN, { ratioToRaw: NaN })],
    "large figures": everything.map((row) => ({ ...row, callsPerSecond: 9_999_999, ratioToRaw: 10 })),
    "an infinite figure": [row("raw", Infinity), row("bytes", 1)],
    nothing: []
  }

  it("is well-formed, at most 960 pixels wide, and has nothing outside of it, with any rows", () => {
    for (const rows of Object.values(kinds)) {
      const shapes = parse(chart(rows))
      const svg = shapes.at(-1) ?? assert.fail()
      assert.equal(svg.attributes["xmlns"], "http://www.w3.org/2000/svg")
      const width = number(svg, "width")
      const height = number(svg, "height")
      assert.ok(width <= 960)
      for (const shape of shapes.filter(({ name }) => name === "rect")) {
        assert.ok(number(shape, "width") >= 0)
        assert.ok(number(shape, "x") >= 0 && number(shape, "x") + number(shape, "width") <= width)
        assert.ok(number(shape, "y") >= 0 && number(shape, "y") + number(shape, "height") <= height)
      }
      for (const shape of shapes.filter(({ name }) => name === "text")) {
        const length = shape.content.length * 7
        const isEnd = ["name", "note end"].includes(shape.attributes["class"] ?? "")
        assert.ok(isEnd ? number(shape, "x") - length >= 0 : number(shape, "x") + length <= width, shape.content)
        assert.ok(number(shape, "y") > 0 && number(shape, "y") < height)
      }
    }
  })

  it("needs no scripts and no other files", () => {
    for (const rows of Object.values(kinds)) {
      const names = new Set(parse(chart(rows)).map(({ name }) => name))
      assert.deepEqual([...names].filter((name) => !["svg", "title", "style", "rect", "text"].includes(name)), [])
      assert.doesNotMatch(chart(rows), /url\(|@import|href|https?:(?!\/\/www\.w3\.org\/2000\/svg")/)
    }
  })

  it("says so where nothing was measured", () => {
    assert.match(contents(parse(chart([])), "note").join(), /nothing was measured/)
  })

  it("has a bar for each system in each panel, as long as its figure says", () => {
    const rows = [row("raw", 400), row("bytes", 300), row("grpc-js", 100), row("undici", 1)]
    const [raw = NaN, ...others] = lengths(parse(chart(rows)))
    assert.equal(others.length, 3)
    assert.ok(raw > 100)
    for (const [i, share] of [0.75, 0.25, 0.0025].entries()) assertAbout(others[i], raw * share)
  })

  it("has a scale for each payload", () => {
    const rows = [
      row("raw", 1000),
      row("bytes", 500),
      row("raw", 8, { payloadBytes: 65_536 }),
      row("bytes", 2, { payloadBytes: 65_536 })
    ]
    const shapes = parse(chart(rows))
    assert.deepEqual(contents(shapes, "panel"), ["16 B", "64 KiB"])
    const [most = NaN, half, large = NaN, quarter] = lengths(shapes)
    assertAbout(half, most / 2)
    assertAbout(large, most)
    assertAbout(quarter, most / 4)
  })

  it("has the figure and its ratio to raw at the end of each bar", () => {
    const rows = [
      row("raw", 123_456.7, { ratioToRaw: 1 }),
      row("bytes", 61_728.35, { ratioToRaw: 0.5 }),
      row("undici", 9)
    ]
    const all = bars(parse(chart(rows)))
    assert.deepEqual(all.map(({ figure }) => figure.content), ["123,457 ×1.00", "61,728 ×0.50", "9"])
    for (const { bar, figure } of all) {
      const gap = number(figure, "x") - number(bar, "x") - number(bar, "width")
      assert.ok(gap > 0 && gap < 10)
      assert.ok(
        number(figure, "y") > number(bar, "y") && number(figure, "y") < number(bar, "y") + number(bar, "height")
      )
    }
  })

  it("says where a figure is missing, and leaves its place", () => {
    const rows = [
      row("raw", 10),
      row("bytes", 10),
      row("bytes", NaN, { payloadBytes: 4096 }),
      row("undici", 10, { payloadBytes: 4096 })
    ]
    const shapes = parse(chart(rows))
    assert.deepEqual(contents(shapes, "name"), ["raw", "bytes", "undici"])
    assert.equal(bars(shapes).length, 3)
    assert.equal(contents(shapes, "note").filter((note) => note === "no figure").length, 3)
  })

  it("has raw first, then effect-call, then its peers, in any order of measurement", () => {
    const rows = (["undici", "typed", "bytes-unix", "effect-rpc", "raw-loaded", "bytes", "grpc-js", "raw"] as const)
      .map((system) => row(system, 1))
    assert.deepEqual(contents(parse(chart(rows)), "name"), [
      "raw",
      "raw-loaded",
      "bytes",
      "typed",
      "bytes-unix",
      "effect-rpc",
      "grpc-js",
      "undici"
    ])
    const colors = bars(parse(chart(rows))).map(({ bar }) => bar.attributes["fill"])
    const [raw, loaded, bytes, typed, unix, rpc, grpc, undici] = colors
    assert.equal(new Set(colors).size, 3)
    assert.deepEqual([loaded, typed, unix, grpc, undici], [raw, bytes, bytes, rpc, rpc])
  })

  it("knows what each system is: all are drawn, each once, from raw to a peer", () => {
    const shapes = parse(chart(everything))
    assert.deepEqual([...contents(shapes, "name")].sort(), [...allSystems].sort())
    assert.equal(bars(shapes).length, everything.length)
  })

  it("draws 64 callers, or the most where there are none with 64, and says how many", () => {
    const at = (concurrency: number, rate: number) => row("bytes", rate, { concurrency })
    const drawn = (rows: ReadonlyArray<Row>) => {
      const shapes = parse(chart(rows))
      return [bars(shapes).map(({ figure }) => figure.content).join(), contents(shapes, "title").join()]
    }
    assert.deepEqual(drawn([at(1, 10), at(64, 20), at(256, 30)]), [
      "20",
      "Echo of 16 B at 64 callers: calls per second"
    ])
    assert.deepEqual(drawn([at(1, 10), at(16, 20)]), ["20", "Echo of 16 B at 16 callers: calls per second"])
    assert.deepEqual(drawn([at(1, 10)]), ["10", "Echo of 16 B at 1 caller: calls per second"])
  })

  it("escapes its texts, and draws an unknown system as a peer", () => {
    // Rows may have been read from a file that another version has written.
    const strange = "<b>&\"it's\"]]>" as SystemName
    const shapes = parse(chart([row(strange, 5), row("undici", 10)]))
    assert.deepEqual(contents(shapes, "name"), ["undici", strange])
    const [known, unknown] = bars(shapes).map(({ bar }) => bar.attributes["fill"])
    assert.equal(unknown, known)
  })
})
