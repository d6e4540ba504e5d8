/**
 * Checks the site that TypeDoc has built: each public module has a page, names and guides can be searched for, and each
 * link within the site leads to a page and a place that exist. TypeDoc itself fails if there is a warning.
 */
import { globSync, readFileSync, statSync } from "node:fs"
import { dirname, join, normalize } from "node:path"

const site = join(import.meta.dirname, "site")
const root = join(import.meta.dirname, "..")
const problems: Array<string> = []

const isFile = (path: string): boolean => statSync(path, { throwIfNoEntry: false })?.isFile() === true

/** The modules that the entry points of the package export, as TypeDoc names their pages. */
const modules = ["src/", "src/testing/"].flatMap((folder) =>
  [...readFileSync(join(root, folder, "index.ts"), "utf8").matchAll(/^export \* as (\w+) from/gm)].map(([, name]) =>
    `${folder === "src/" ? "" : "testing_"}${name}.html`
  )
)
for (const page of modules) {
  if (!isFile(join(site, "modules", page))) problems.push(`there is no page modules/${page}`)
}

if (!isFile(join(site, "assets/search.js"))) problems.push("there is no search index")

const pages = globSync("**/*.html", { cwd: site })
const html = new Map(pages.map((page) => [page, readFileSync(join(site, page), "utf8")]))
const anchors = new Map<string, Set<string>>()

/** The places of a page that a link can lead to. */
const anchorsOf = (page: string): Set<string> => {
  const known = anchors.get(page)
  if (known !== undefined) return known
  const found = new Set([...html.get(page)?.matchAll(/ id="([^"]+)"/g) ?? []].map(([, id]) => id ?? ""))
  anchors.set(page, found)
  return found
}

let links = 0
for (const [page, text] of html) {
  for (const [, href = ""] of text.matchAll(/<(?:a|img|use)\b[^>]*? (?:href|src)="([^"]*)"/g)) {
    if (href === "" || href === "#" || /^[a-z]+:/.test(href)) continue
    links++
    const [path = "", anchor] = decodeURI(href).split("#")
    const target = path === ""
      ? page
      : normalize(join(dirname(page), path === "../" || path === "./" ? `${path}index.html` : path))
    if (!isFile(join(site, target))) problems.push(`${page}: the link ${href} leads nowhere`)
    else if (anchor !== undefined && html.has(target) && !anchorsOf(target).has(anchor)) {
      problems.push(`${page}: the link ${href}: ${target} has no place ${anchor}`)
    }
  }
}

for (const problem of problems) console.error(problem)
console.log(
  `${modules.length} modules, ${pages.length} pages, ${links} links, ${problems.length} problems: .docs/site/index.html`
)
process.exitCode = problems.length === 0 ? 0 : 1
