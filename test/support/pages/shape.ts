/** The shape of pages: their size, their first and last lines, and the width of their lines. */
import { posix } from "node:path"
import { filesIn, linksOf, type Page, root } from "./page.ts"
import type { Problem } from "./problem.ts"

/** The topics in the order in which the learning path leads through them. */
export const path = [
  "first-calls",
  "components",
  "errors",
  "streams",
  "discovery",
  "balancing",
  "tls",
  "shop",
  "testing",
  "telemetry",
  "deployment",
  "command",
  "security"
] as const

/** The topics for those who come from another system. */
const comingFrom = ["coming-from-go", "coming-from-grpc", "coming-from-effect-rpc"] as const

/** All topics: each is a folder of `examples`. */
export const topics: ReadonlyArray<string> = [...path, ...comingFrom]

const kilobyte = 1024

/** How many bytes a page may have at most. */
const maxBytes = (name: string): number | undefined => {
  if (name === "README.md") return 16 * kilobyte
  if (name === "test/benchmark/README.md") return 10 * kilobyte
  if (name === "src/README.md") return 12 * kilobyte
  // The whole wire, so that a peer can be written from it.
  if (name === "src/internal/protocol/README.md") return 28 * kilobyte
  return /^(examples(\/.*)?|test(\/\w+)?)\/README\.md$/.test(name) ? 8 * kilobyte : undefined
}

const maxColumns = 120

/** A table's row, and what cannot be broken: URLs and the targets of links. */
const mayBeWide = (text: string): boolean =>
  /https?:\/\//.test(text) || /^\s*\|/.test(text) || text.replaceAll(/\]\([^)]*\)/g, "").length <= maxColumns

const topicOf = (name: string): string | undefined => /^examples\/([\w-]+)\/README\.md$/.exec(name)?.[1]

/** What a topic's page must have beside its text. */
const topicProblems = (page: Page, topic: string): ReadonlyArray<readonly [line: number, message: string]> => {
  const last = page.prose.at(-1)?.line ?? 1
  const problems: Array<readonly [line: number, message: string]> = []
  if (!page.prose.some(({ text }) => text.startsWith("**Reference:**"))) {
    problems.push([last, "there is no line **Reference:** with links to the reference"])
  }
  const place = path.findIndex((other) => other === topic)
  const isOnPath = place >= 0
  const next = isOnPath ? path[place + 1] : undefined
  const wanted = next === undefined ? "examples/README.md" : `examples/${next}/README.md`
  const line = page.prose.findLast(({ text }) => text.includes("**Next:**"))
  const links = linksOf(page).filter((link) => line === undefined || link.line >= line.line)
  const leads = links.some(({ text }) => posix.join(posix.dirname(page.name), text.split("#")[0] ?? "") === wanted)
  if (isOnPath && line === undefined) problems.push([last, "there is no line **Next:** with a link to the next page"])
  // The last page of the path may lead anywhere.
  else if (!leads && (!isOnPath || next !== undefined)) {
    problems.push([line?.line ?? last, `there is no link to ${wanted}${isOnPath ? " after **Next:**" : ""}`])
  }
  const closing = page.prose.findLast(({ text }) => /^\*\*|^#/.test(text))
  if (line !== undefined && closing !== line) {
    problems.push([closing?.line ?? last, "the page must end with the line **Next:**"])
  }
  if (!/^[A-Z]/.test(page.prose.find(({ line: at, text }) => at > 1 && text !== "")?.text ?? "")) {
    problems.push([2, "after its title, the page must say in a sentence what the reader can do after it"])
  }
  const first = page.fences[0]
  const runs = first?.language === "sh" && first.code.some((command) => command.includes(`examples/${topic}/`))
  if (!runs && filesIn(root, `examples/${topic}/*.ts`).length > 0) {
    problems.push([
      first?.line ?? 1,
      "the first block must be ```sh, with the command that runs the page's first program"
    ])
  }
  return problems
}

/** Whether a page has the shape that all pages have. */
export const checkShape = (page: Page): ReadonlyArray<Problem> => {
  if (page.kind !== "markdown") return []
  const problems: Array<readonly [line: number, message: string]> = []
  const limit = maxBytes(page.name)
  if (limit !== undefined && page.bytes > limit) {
    problems.push([1, `the page has ${page.bytes} bytes; at most ${limit} are allowed`])
  }
  if (!/^# \S/.test(page.prose[0]?.text ?? "") || page.prose[0]?.line !== 1) {
    problems.push([1, "the page must begin with a line `# Title`"])
  }
  for (const { line, text } of page.prose) {
    if (text.length > maxColumns && !mayBeWide(text)) {
      problems.push([line, `the line has ${text.length} columns; at most ${maxColumns} are allowed`])
    }
    const html = /<\/?[a-z][a-z0-9]*(\s[^<>]*)?\/?>|<!--/i.exec(text.replaceAll(/(`+).+?\1/g, ""))
    if (html !== null) problems.push([line, `HTML: ${html[0]}; a page is Markdown only`])
  }
  const topic = topicOf(page.name)
  if (topic !== undefined) problems.push(...topicProblems(page, topic))
  return problems.map(([line, message]) => ({ page: page.name, line, message }))
}
