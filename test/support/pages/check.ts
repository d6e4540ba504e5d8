/** All checks of a page that need no program to run. */
import { checkFences, checkNames } from "./fences.ts"
import { checkLinks } from "./links.ts"
import type { Page } from "./page.ts"
import type { Problem } from "./problem.ts"
import { checkShape } from "./shape.ts"
import type { Tree } from "./tree.ts"

export const checkPage = (page: Page, tree: Tree): ReadonlyArray<Problem> => [
  ...checkShape(page),
  ...checkLinks(page, tree),
  ...checkNames(page),
  ...checkFences(page, tree)
]
