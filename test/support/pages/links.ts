/** Links of pages: that they lead to something, also in the package as users get it. */
import { readFileSync } from "node:fs"
import { posix } from "node:path"
import { exportsOf, hasProperty, publicModules } from "./names.ts"
import { anchorsOf, linksOf, linksWithoutTarget, type Page, parsePage, root } from "./page.ts"
import type { Problem } from "./problem.ts"
import type { Tree } from "./tree.ts"

const publicFiles = new Set(publicModules.values())

/** What is wrong with an anchor of a page. */
const headingProblem = (page: Page, anchor: string): string | undefined => {
  const anchors = anchorsOf(page)
  return anchors.has(anchor)
    ? undefined
    : `there is no heading #${anchor} in ${page.name}; it has ${[...anchors].map((name) => `#${name}`).join(" ")}`
}

/** What is wrong with an anchor of another file, which exists. */
const anchorProblem = (path: string, anchor: string, folder: string): string | undefined => {
  if (path.endsWith(".md")) return headingProblem(parsePage(path, readFileSync(`${folder}/${path}`, "utf8")), anchor)
  if (!path.endsWith(".ts")) return "only pages and public modules have anchors"
  if (!publicFiles.has(path)) return `${path} is not a public module, so nothing of it is in the reference`
  const [name = "", property, ...more] = anchor.split(".")
  if (!exportsOf(path).has(name)) return `${path} does not export ${name}`
  if (property === undefined) return undefined
  if (more.length > 0) return "an anchor is a name, or a name and a property"
  return hasProperty(path, name, property) ? undefined : `${name} of ${path} has no property ${property}`
}

/**
 * The links of a page that lead nowhere.
 *
 * @param tree which files there are
 * @param where how to call this set of files in messages
 * @param folder where the text of pages is read
 */
export const checkLinks = (page: Page, tree: Tree, where = "here", folder = root): ReadonlyArray<Problem> => [
  ...(page.kind === "comments" ? [] : linksWithoutTarget(page)).map(({ line, text }) => ({
    page: page.name,
    line,
    message: `the link [${text}]: there is no line "[${text}]: …" with its target`
  })),
  // `[shutdownGrace](…#ServerOptions.shutdownGrace)`: the name that is shown and the one that is linked are the same.
  ...page.prose.flatMap(({ line, text }) =>
    [...text.matchAll(/\[`?([a-z]+[A-Z]\w*)`?\]\([^()\s#]*\.ts#([\w.]+)\)/g)].flatMap(([, label = "", anchor = ""]) =>
      anchor.split(".").at(-1) === label
        ? []
        : [{ page: page.name, line, message: `the link [${label}]: it leads to ${anchor}` }]
    )
  ),
  ...linksOf(page).flatMap(({ line, text }) => {
    const wrong = (message: string): ReadonlyArray<Problem> => [{
      page: page.name,
      line,
      message: `the link ${text}: ${message}`
    }]
    if (/^(https?|mailto):/.test(text)) return []
    if (/^[a-z]+:/i.test(text) || text.startsWith("/")) return wrong("expected a path relative to the page")
    const [target = "", anchor] = text.split("#")
    if (target === "") {
      const problem = headingProblem(page, anchor ?? "")
      return problem === undefined ? [] : wrong(problem)
    }
    const path = posix.join(posix.dirname(page.name), target).replace(/(?<=.)\/$/, "")
    if (path.startsWith("..")) return wrong("it leads out of the repository")
    const found = tree(path === "." ? "" : path)
    if (found === undefined) return wrong(`there is no ${path} ${where}`)
    if (anchor === undefined) return []
    if (found === "folder") return wrong("a folder has no anchors; name its README.md")
    const problem = anchorProblem(path, anchor, folder)
    return problem === undefined ? [] : wrong(problem)
  })
]
