/**
 * The pages of the documentation, taken apart: their prose, code blocks, code spans, headings and links. The doc
 * comments of a source file are a page, too.
 */
import { globSync, readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"

/** The folder of the repository, with a slash at its end. */
export const root = fileURLToPath(new URL("../../../", import.meta.url))

/** A code block, from its opening to its closing fence. */
export interface Fence {
  /** The line of the opening fence. The first line of a page is 1. */
  readonly line: number
  /** The word after the fence's back-ticks, or "". */
  readonly language: string
  /** What comes after the language: the path of a program, relative to the page, or "". */
  readonly program: string
  readonly code: ReadonlyArray<string>
  readonly isClosed: boolean
}

/** A piece of the prose of a page. */
export interface Piece {
  readonly line: number
  readonly text: string
}

export interface Page {
  /** The path below the root. */
  readonly name: string
  readonly kind: "markdown" | "comments"
  readonly bytes: number
  readonly fences: ReadonlyArray<Fence>
  /** The lines outside code blocks. Those of a source file hold its doc comments only. */
  readonly prose: ReadonlyArray<Piece>
}

const fenceLine = /^ {0,3}```+ *(\S*) *(.*?) *$/

/** Takes a page's text apart. */
export const parsePage = (name: string, text: string): Page => {
  const kind = name.endsWith(".ts") ? "comments" : "markdown"
  const lines = kind === "comments" ? docLines(text) : text.split("\n")
  const fences: Array<Fence> = []
  const prose: Array<Piece> = []
  for (let at = 0; at < lines.length; at++) {
    const [, language, program] = fenceLine.exec(lines[at] ?? "") ?? []
    if (language === undefined || program === undefined) {
      prose.push({ line: at + 1, text: lines[at] ?? "" })
      continue
    }
    let end = at + 1
    while (end < lines.length && !/^ {0,3}```+ *$/.test(lines[end] ?? "")) end++
    fences.push({ line: at + 1, language, program, code: lines.slice(at + 1, end), isClosed: end < lines.length })
    at = end
  }
  return { name, kind, bytes: Buffer.byteLength(text), fences, prose }
}

/** The lines of a source file, without what is not in its doc comments, and without the stars. */
const docLines = (text: string): ReadonlyArray<string> => {
  let inside = false
  return text.split("\n").map((line) => {
    const opens = !inside && /^\s*\/\*\*/.test(line)
    inside = inside || opens
    if (!inside) return ""
    if (line.includes("*/")) inside = false
    return line.replace(/^\s*\/?\*+ ?/, "").replace(/\s*\*\/\s*$/, "")
  })
}

const codeSpan = /(`+)(.+?)\1/g

/** The code spans of a page's prose. A span that goes over the end of a line is not found. */
export const codeSpans = ({ prose }: Page): ReadonlyArray<Piece> =>
  prose.flatMap(({ line, text }) => [...text.matchAll(codeSpan)].map((match) => ({ line, text: match[2] ?? "" })))

/** The prose without its code spans. */
const withoutSpans = ({ prose }: Page): ReadonlyArray<Piece> =>
  prose.map(({ line, text }) => ({ line, text: text.replaceAll(codeSpan, (span) => "`".repeat(span.length)) }))

/** The targets of a page's links and pictures. */
export const linksOf = (page: Page): ReadonlyArray<Piece> =>
  withoutSpans(page).flatMap(({ line, text }) =>
    [...text.matchAll(/\]\(\s*((?:[^()\s]|\([^()\s]*\))*)(?:\s+"[^"]*")?\s*\)|^\s*\[[^\]]+\]:\s+(\S+)/g)].map((
      match
    ) => ({
      line,
      text: match[1] ?? match[2] ?? ""
    }))
  )

/** The names of links whose target should stand elsewhere on the page, but does not. */
export const linksWithoutTarget = (page: Page): ReadonlyArray<Piece> => {
  const pieces = withoutSpans(page)
  const targets = new Set(pieces.flatMap(({ text }) => /^\s*\[([^\]]+)\]:\s+\S/.exec(text)?.[1]?.toLowerCase() ?? []))
  return pieces.flatMap(({ line, text }) =>
    [...text.matchAll(/\[([^[\]]+)\]\[([^[\]]*)\]/g)].map((match) => ({ line, text: match[2] || (match[1] ?? "") }))
  ).filter(({ text }) => !targets.has(text.toLowerCase()))
}

const headingsOf = ({ prose }: Page): ReadonlyArray<Piece> =>
  prose.filter(({ text }) => /^#{1,6} /.test(text)).map(({ line, text }) => ({
    line,
    text: text.replace(/^#+ +/, "").trim()
  }))

/** The anchors of a page's headings, as GitHub makes them. */
export const anchorsOf = (page: Page): ReadonlySet<string> => {
  const anchors = new Set<string>()
  for (const { text } of headingsOf(page)) {
    const plain = text.replaceAll(/\[([^\]]*)\]\([^)]*\)/g, "$1")
    const slug = plain.toLowerCase().replaceAll(/[^\p{L}\p{N}\p{M}_ -]/gu, "").replaceAll(" ", "-")
    let anchor = slug
    for (let copy = 1; anchors.has(anchor); copy++) anchor = `${slug}-${copy}`
    anchors.add(anchor)
  }
  return anchors
}

/** The files below a folder that match a pattern, in the order of their names. */
export const filesIn = (folder: string, ...patterns: ReadonlyArray<string>): ReadonlyArray<string> =>
  globSync(patterns, { cwd: folder, exclude: (name) => /(^|[/\\])(node_modules|\..+)$/.test(name) })
    .map((name) => name.replaceAll("\\", "/"))
    .toSorted()

const pagesIn = (folder: string, ...patterns: ReadonlyArray<string>): ReadonlyArray<Page> =>
  filesIn(folder, ...patterns).map((name) => parsePage(name, readFileSync(`${folder}/${name}`, "utf8")))

/** The pages of the manual in a folder: the repository, or the package as users get it. */
export const markdownPages = (folder: string): ReadonlyArray<Page> =>
  pagesIn(folder, "README.md", "CHANGELOG.md", "{examples,test,src}/**/*.md")

/** The doc comments of the public modules, and of the internal files that define public types. */
export const commentPages = (folder: string): ReadonlyArray<Page> =>
  pagesIn(folder, "src/*.ts", "src/testing/*.ts", "src/internal/**/{model,options,callOptions}.ts")
