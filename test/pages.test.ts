/**
 * The pages of the manual: README.md, CHANGELOG.md, the guides below `examples`, the pages of `test` and `src`, and the
 * doc comments of public modules. Their code is compiled and run by `pages.deep.test.ts`, and the programs of the
 * guides by `test/guide/run.ts`.
 */
import { describe, it } from "@effect/vitest"
import * as Package from "effect-call"
import * as Testing from "effect-call/testing"
import * as assert from "node:assert/strict"
import { existsSync } from "node:fs"
import { checkPage } from "./support/pages/check.ts"
import { checkGuide } from "./support/pages/guide.ts"
import { checkLinks } from "./support/pages/links.ts"
import { exportsOf, publicModules } from "./support/pages/names.ts"
import { commentPages, filesIn, markdownPages, root } from "./support/pages/page.ts"
import { type Problem, show } from "./support/pages/problem.ts"
import { topics } from "./support/pages/shape.ts"
import { packedFiles, treeOf, treeOfFiles } from "./support/pages/tree.ts"

const pages = markdownPages(root)
const comments = commentPages(root)

const none = (problems: ReadonlyArray<Problem>) => {
  assert.ok(problems.length === 0, `\n${problems.map(show).join("\n")}\n`)
}

describe("the pages", () => {
  it("are there: the README, each topic of the guide, the tests and the house", () => {
    const expected = [
      "README.md",
      "CHANGELOG.md",
      "examples/README.md",
      ...topics.map((topic) => `examples/${topic}/README.md`),
      "test/README.md",
      "test/benchmark/README.md",
      "src/README.md",
      "src/internal/protocol/README.md"
    ]
    const found = new Set(pages.map(({ name }) => name))
    assert.deepEqual(expected.filter((name) => !found.has(name)), [], "there are no such pages")
    assert.ok(comments.length >= 14)
  })

  it("have one folder for each topic, and no other", () => {
    const folders = new Set(filesIn(root, "examples/*/**").map((name) => name.split("/")[1] ?? ""))
    const others = [...folders].filter((folder) => folder !== "support" && !topics.includes(folder))
    assert.deepEqual(others, [], "these folders of examples are no topics (see test/support/pages/shape.ts)")
  })

  const tree = treeOf(root)
  for (const page of [...pages, ...comments]) {
    it(`have sizes, links, names and code blocks that are right: ${page.name}`, () => {
      none(checkPage(page, tree))
    })
  }

  it("list all topics of the guide and all their programs", () => {
    none(checkGuide(pages))
  })

  it("have links that lead to what is in the package, too", () => {
    const packed = packedFiles()
    const shipped = treeOfFiles(packed)
    none(
      pages.filter(({ name }) => packed.includes(name)).flatMap((page) =>
        checkLinks(page, shipped, "in the package that users get (see `files` of package.json)")
      )
    )
  })
})

describe("the names that the checks know", () => {
  it("include all that the modules export", () => {
    for (const [name, module] of Object.entries({ ...Package, ...Testing })) {
      const known = exportsOf(publicModules.get(name) ?? assert.fail(`no module ${name}`))
      assert.deepEqual(Object.keys(module).filter((value) => !known.has(value)), [])
    }
    assert.equal(publicModules.size, Object.keys({ ...Package, ...Testing }).length)
    assert.ok([...publicModules.values()].every((file) => existsSync(root + file)))
  })
})
