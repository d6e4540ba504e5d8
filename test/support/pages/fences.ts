/** Code blocks that are not run: JSON and YAML parse, commands name what there is, excerpts stand in their program. */
import * as Yaml from "effect/encoding/Yaml"
import { readFileSync } from "node:fs"
import { posix } from "node:path"
import { excerptProblem } from "./excerpts.ts"
import { exportsOf, hasProperty, publicModules } from "./names.ts"
import { codeSpans, type Fence, filesIn, type Page, root } from "./page.ts"
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

export const checkFences = (page: Page, tree: Tree): ReadonlyArray<Problem> => [
  ...page.fences.flatMap((fence) => {
    const problem = fenceProblem(page, fence, tree)
    return problem === undefined ? [] : [{ page: page.name, line: problem[0], message: problem[1] }]
  }),
  ...page.prose.filter(({ text }) => /^\s*(~~~|```)/.test(text)).map(({ line }) => ({
    page: page.name,
    line,
    message: "a code block that no check sees: write ```, after at most three spaces"
  }))
]

/** Pages that name what other systems have. */
const isForeign = (page: Page): boolean => /^examples\/coming-from|\/results\//.test(page.name)

/** The public modules that export each name. */
const exporting = new Map<string, Array<string>>()
for (const file of publicModules.values()) {
  for (const name of exportsOf(file)) exporting.set(name, [...exporting.get(name) ?? [], file])
}

/** Names of other systems that our own pages use: that of Kubernetes. */
const outside = ["preStop"]

/** All words of the project's code, in which a page's `someOption` must be. */
const words = new Set([
  ...outside,
  ...filesIn(root, "{src,examples,test}/**/*.{ts,yaml}").flatMap((file) =>
    file.startsWith("test/support/pages/") ? [] : readFileSync(root + file, "utf8").match(/\w+/g) ?? []
  )
])

/** What is wrong with a name and its property: `Module.export`, or `Type.property` of a public type. */
const propertyProblem = (owner: string, name: string): string | undefined => {
  const file = publicModules.get(owner)
  // `Server.ts` is a file.
  if (name === "ts") return undefined
  if (file !== undefined) {
    return exportsOf(file).has(name) || hasProperty(file, owner, name)
      ? undefined
      : `${file} does not export ${name}; it exports ${[...exportsOf(file)].toSorted().join(", ")}`
  }
  const files = exporting.get(owner) ?? []
  return files.length === 0 || files.some((exports) => hasProperty(exports, owner, name))
    ? undefined
    : `${owner} of ${files.join(", ")} has no property ${name}`
}

/**
 * Code spans that name what there isn't: of a public module something that it does not export, of a public type a
 * property that it does not have, or an option (`likeThis`) that is nowhere in the code. A property of the type of the
 * same name as its module is right, too: `Endpoint.zone` is read as that of an `Endpoint`.
 */
export const checkNames = (page: Page): ReadonlyArray<Problem> =>
  codeSpans(page).flatMap(({ line, text }) => {
    const problems = [...text.matchAll(/(?<![\w./"'`@:-])([A-Z]\w*)\.([A-Za-z]\w*)/g)].map((
      [, owner = "", name = ""]
    ) => isForeign(page) && !publicModules.has(owner) ? undefined : propertyProblem(owner, name))
    if (page.kind === "markdown" && !isForeign(page) && /^[a-z]+[A-Z]\w*$/.test(text) && !words.has(text)) {
      problems.push("no code of the project has this name")
    }
    return problems.flatMap((problem) =>
      problem === undefined ? [] : [{ page: page.name, line, message: `\`${text}\`: ${problem}` }]
    )
  })
