/** Code blocks that are not run: JSON and YAML parse, commands name what there is, excerpts stand in their program. */
import * as Yaml from "effect/encoding/Yaml"
import { readFileSync } from "node:fs"
import { posix } from "node:path"
import { excerptProblem } from "./excerpts.ts"
import { exportsOf, hasProperty, publicModules } from "./names.ts"
import { codeSpans, type Fence, type Page, root } from "./page.ts"
import type { Problem } from "./problem.ts"
import type { Tree } from "./tree.ts"

/** The languages of blocks that a check knows; "text" without a program is a drawing. */
const checked = ["ts", "text", "sh", "json", "yaml"]
/** The languages of other systems, for pages that compare with them: nothing here can check these. */
const foreign = ["go", "proto", "dockerfile"]

const { scripts }: { readonly scripts: Readonly<Record<string, string>> } = JSON.parse(
  readFileSync(`${root}package.json`, "utf8")
)

/** The commands of npm itself that a page may show. */
const npmCommands = new Set(["ci", "install", "i", "pack", "init", "pkg", "--version"])

const parses = (parse: () => unknown): string | undefined => {
  try {
    parse()
    return undefined
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
}

/** The texts between the lines "---". */
const documentsOf = (code: ReadonlyArray<string>): ReadonlyArray<string> => code.join("\n").split(/^---$/m)

/** What is wrong with a line of a shell's commands. */
const commandProblem = (command: string, tree: Tree): string | undefined => {
  const words = command.replace(/(^|\s)#.*$/, "").split(/[\s;|&()]+/).filter((word) => word !== "")
  for (const [at, word] of words.entries()) {
    const next = words[at + 1]
    if (
      /^(?:\.\/)?(?:examples|test|src|\.ci)\/[\w./-]+$/.test(word) && tree(word.replace(/^\.\/|\/$/g, "")) === undefined
    ) {
      return `there is no ${word}`
    }
    if (word !== "npm" || next === undefined) continue
    const script = next === "run" ? words.slice(at + 2).find((other) => !other.startsWith("-")) : next
    if (script === undefined) return "`npm run` without the name of a script"
    if (!(script in scripts) && (next === "run" || !npmCommands.has(next))) {
      return `package.json has no script "${script}"; it has ${Object.keys(scripts).join(", ")}`
    }
  }
  return undefined
}

const fenceProblem = (page: Page, fence: Fence, tree: Tree): readonly [line: number, message: string] | undefined => {
  const { code, isClosed, language, line, program } = fence
  if (!isClosed) return [line, "a code block without an end"]
  if (language === "") return [line, "a code block without a language; a drawing is ```text"]
  if (![...checked, ...foreign].includes(language)) {
    return [line, `a code block in "${language}"; expected ${[...checked, ...foreign].join(", ")}`]
  }
  if (language === "json") {
    const message = parses(() => JSON.parse(code.join("\n")))
    if (message !== undefined) return [line, `the JSON does not parse: ${message}`]
  }
  if (language === "yaml") {
    for (const document of documentsOf(code)) {
      const message = parses(() => Yaml.parse(document))
      if (message !== undefined) return [line, `the YAML does not parse: ${message}`]
    }
  }
  if (language === "sh") {
    for (const [at, command] of code.entries()) {
      const message = commandProblem(command, tree)
      if (message !== undefined) return [line + 1 + at, message]
    }
  }
  if (program === "" || page.kind === "comments") return undefined
  if (language !== "ts" && language !== "text") return [line, "only ts and text blocks name a program"]
  const path = posix.join(posix.dirname(page.name), program)
  if (tree(path) !== "file") return [line, `there is no program ${path}`]
  if (language === "text") return undefined
  const missing = excerptProblem(code, readFileSync(root + path, "utf8").split("\n"))
  return missing === undefined
    ? undefined
    : [line, `the excerpt is not in ${path} (a line "// ..." skips lines). Not found, or not at this place: ${missing}`]
}

export const checkFences = (page: Page, tree: Tree): ReadonlyArray<Problem> =>
  page.fences.flatMap((fence) => {
    const problem = fenceProblem(page, fence, tree)
    return problem === undefined ? [] : [{ page: page.name, line: problem[0], message: problem[1] }]
  })

/**
 * Code spans that name something of a public module which that module does not export. A property of the type of the
 * same name is right, too: `Endpoint.zone` is read as that of an `Endpoint`.
 */
export const checkNames = (page: Page): ReadonlyArray<Problem> =>
  codeSpans(page).flatMap(({ line, text }) =>
    [...text.matchAll(/(?<![\w./"'`@:-])([A-Z]\w*)\.([A-Za-z]\w*)/g)].flatMap(([, module = "", name = ""]) => {
      const file = publicModules.get(module)
      // `Server.ts` is a file.
      if (file === undefined || name === "ts" || exportsOf(file).has(name) || hasProperty(file, module, name)) return []
      return [{
        page: page.name,
        line,
        message: `\`${text}\`: ${file} does not export ${name}; it exports ${
          [...exportsOf(file)].toSorted().join(", ")
        }`
      }]
    })
  )
