/** The programs of the guide, and that its pages list them. */
import { posix } from "node:path"
import { filesIn, linksOf, type Page, root } from "./page.ts"
import type { Problem } from "./problem.ts"
import { topics } from "./shape.ts"

/** The TypeScript files directly in a topic's folder: programs, and tests, which vitest runs. */
const filesOf = (topic: string): ReadonlyArray<string> => filesIn(root, `examples/${topic}/*.ts`)

const isTest = (name: string): boolean => name.endsWith(".test.ts")

/** All programs of the guide, in the order of the learning path. */
export const programs: ReadonlyArray<string> = topics.flatMap((topic) => filesOf(topic).filter((name) => !isTest(name)))

/** The files that a page links to or says how to run, as paths below the root. */
const linked = (page: Page): ReadonlySet<string> =>
  new Set([
    ...linksOf(page).map(({ text }) => posix.join(posix.dirname(page.name), text.split("#")[0] ?? "")),
    ...page.fences.flatMap(({ code, language }) =>
      language === "sh" ? code.flatMap((command) => command.match(/\bexamples\/\S+\.ts\b/g) ?? []) : []
    )
  ])

/** The programs that the pages of topics list. */
export const listed = (pages: ReadonlyArray<Page>): ReadonlyArray<string> =>
  topics.flatMap((topic) => {
    const page = pages.find(({ name }) => name === `examples/${topic}/README.md`)
    return page === undefined ?
      [] :
      [...linked(page)].filter((name) =>
        posix.dirname(name) === `examples/${topic}` && name.endsWith(".ts") && !isTest(name)
      )
  })

/** What the learning path, the pages of topics and the folders don't agree on. */
export const checkGuide = (
  pages: ReadonlyArray<Page>,
  filesOfTopic: (topic: string) => ReadonlyArray<string> = filesOf
): ReadonlyArray<Problem> => {
  const problems: Array<Problem> = []
  const pageOf = (page: string) => pages.find(({ name }) => name === page)
  const way = pageOf("examples/README.md")
  if (way === undefined) problems.push({ page: "examples/README.md", line: 1, message: "there is no such page" })
  for (const topic of topics) {
    const name = `examples/${topic}/README.md`
    const page = pageOf(name)
    if (way !== undefined && !linked(way).has(name) && !linked(way).has(`examples/${topic}/`)) {
      problems.push({ page: way.name, line: 1, message: `there is no link to ${name}` })
    }
    if (page === undefined) problems.push({ page: name, line: 1, message: "there is no such page" })
    const links = page === undefined ? new Set<string>() : linked(page)
    for (const file of filesOfTopic(topic)) {
      if (page !== undefined && !links.has(file)) {
        problems.push({
          page: name,
          line: 1,
          message: `there is neither a link nor a command for ${file}, which is in the topic's folder`
        })
      }
    }
  }
  const found = new Set(topics.flatMap(filesOfTopic))
  for (const page of pages) {
    for (const { language, line, program } of page.fences) {
      const path = posix.join(posix.dirname(page.name), program)
      if (language === "text" && program !== "" && !found.has(path)) {
        problems.push({
          page: page.name,
          line,
          message: `${path} is no program of the guide, so its output is not checked`
        })
      }
    }
  }
  for (const program of listed(pages)) {
    if (!found.has(program)) {
      problems.push({ page: `${posix.dirname(program)}/README.md`, line: 1, message: `there is no program ${program}` })
    }
  }
  return problems
}
