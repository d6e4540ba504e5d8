/**
 * The rules of the house that neither the compiler nor the linter knows: how long files are, how wide comments are,
 * what each room may know of the others, and the words that we use. `pages.test.ts` has the rules of the pages.
 */
import { describe, it } from "@effect/vitest"
import * as assert from "node:assert/strict"
import { globSync, readFileSync } from "node:fs"

const root = new URL("..", import.meta.url)

interface SourceFile {
  readonly name: string
  readonly text: string
  readonly lines: ReadonlyArray<string>
}

/** The files below the root that match a pattern. */
const filesOf = (...patterns: ReadonlyArray<string>): ReadonlyArray<SourceFile> =>
  globSync(patterns, { cwd: root }).map((name) => {
    const text = readFileSync(new URL(name, root), "utf8")
    return { name: name.replaceAll("\\", "/"), text, lines: text.split("\n") }
  })

const sources = filesOf("src/**/*.ts")
const tests = filesOf("test/**/*.ts")
const examples = filesOf("examples/**/*.ts")

const docComment = /\/\*\*[\s\S]*?\*\//g

/** What a file holds beside its doc comments. */
const withoutDocs = ({ text }: SourceFile): string => text.replaceAll(docComment, "")

/** The lines of comments, with their numbers. */
const commentLines = ({ lines }: SourceFile): ReadonlyArray<readonly [line: string, number: number]> => {
  let inside = false
  return lines.flatMap((line, index) => {
    const opens = !inside && /^\s*\/\*/.test(line)
    const isComment = inside || opens || /^\s*\/\//.test(line)
    if (opens) inside = true
    if (inside && line.includes("*/")) inside = false
    return isComment ? [[line, index + 1] as const] : []
  })
}

const maxLines = 500
const maxColumns = 120

/** A table's row, and what cannot be broken. */
const mayBeWide = (line: string): boolean => /https?:\/\//.test(line) || /^\s*(\*|\/\/)?\s*\|/.test(line)

describe("the files of src", () => {
  it("are found", () => {
    assert.ok(sources.length > 100)
    assert.ok(tests.length > 200)
  })

  it("have at most 500 lines, doc comments not counted", () => {
    const long = sources.map((file) =>
      [file.name, withoutDocs(file).split("\n").filter((line) => line.trim() !== "").length] as const
    )
      .filter(([, lines]) => lines > maxLines)
    assert.deepEqual(long, [])
  })

  it("say in their first lines what they are for", () => {
    const silent = sources.filter(({ text }) => !/^(#!.*\n)?\/\*\*/.test(text)).map(({ name }) => name)
    assert.deepEqual(silent, [])
  })
})

describe("the files of examples", () => {
  it("say in their first lines what they show or are for", () => {
    assert.deepEqual(examples.filter(({ text }) => !/^(#!.*\n)?\/\*\*/.test(text)).map(({ name }) => name), [])
  })
})

describe("the files of test", () => {
  it("have at most 500 lines", () => {
    const long = tests.map(({ lines, name }) => [name, lines.length - 1] as const).filter(([, lines]) =>
      lines > maxLines
    )
    assert.deepEqual(long, [])
  })
})

describe("comments", () => {
  it("are at most 120 columns wide", () => {
    const wide = [...sources, ...tests, ...examples].flatMap((file) =>
      commentLines(file).filter(([line]) => line.length > maxColumns && !mayBeWide(line))
        .map(([, number]) => `${file.name}:${number}`)
    )
    assert.deepEqual(wide, [])
  })

  it("use the words of the glossary, and not those that it replaces", () => {
    const old =
      /\b(inquir(e|es|ed|ing|y|ies)|resting until|left alone|leave[sd]? (it|them|others) alone|alone until|unsettled|no way round|lets? go of it)\b/i
    const found = [...sources, ...examples].flatMap((file) =>
      commentLines(file).filter(([line]) => old.test(line)).map(([line, number]) =>
        `${file.name}:${number}: ${line.trim()}`
      )
    )
    const pages = filesOf("README.md", "{src,examples,test}/**/*.md")
    for (const { lines, name } of pages) {
      for (const [at, line] of lines.entries()) if (old.test(line)) found.push(`${name}:${at + 1}: ${line}`)
    }
    assert.deepEqual(found, [])
  })
})

describe("the rooms of client and server", () => {
  const rooms = sources.filter(({ name }) => /^src\/internal\/(client|server)\//.test(name))

  it("name no concrete transport", () => {
    const named = rooms.filter((file) =>
      /instanceof \w*Socket|"node:(net|tls|http2?)"|["'`]mtls:/.test(withoutDocs(file))
    )
    assert.deepEqual(named.map(({ name }) => name), [])
  })

  it("know nothing of each other", () => {
    const knows = rooms.filter(({ name, text }) =>
      text.includes(name.includes("/client/") ? "../server/" : "../client/")
    )
    assert.deepEqual(knows.map(({ name }) => name), [])
  })
})

describe("the protocol", () => {
  it("is pure: it imports neither Effect nor what does I/O", () => {
    const impure = sources.filter(({ name, text }) =>
      name.startsWith("src/internal/protocol/") && /from "(effect|@effect|node:(?!buffer|crypto))/.test(text)
    )
    assert.deepEqual(impure.map(({ name }) => name), [])
  })
})
