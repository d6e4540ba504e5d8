/**
 * Runs all programs of the guide, two at a time, each in a process of its own. A program must end by itself with exit
 * code 0, write nothing to stderr, and print what the pages of the manual show of it, and no warning that they don't.
 *
 * `node test/guide/run.ts [WORD]`: with a word only the programs whose path contains it.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Console, Duration, Effect, Option } from "effect"
import { posix } from "node:path"
import { hasDnsmasq } from "../../examples/support/dnsmasq.ts"
import { run } from "../support/pages/blocks.ts"
import { outputProblem, printedLines, unexplained } from "../support/pages/excerpts.ts"
import { checkGuide, listed, programs } from "../support/pages/guide.ts"
import { type Fence, markdownPages, root } from "../support/pages/page.ts"
import { show } from "../support/pages/problem.ts"

/** Far more than any program takes, except on a busy machine. */
const limit = Duration.minutes(2)

const pages = markdownPages(root)

interface Shown extends Fence {
  readonly page: string
}

/** The blocks of the manual that show what a program prints. */
const shownOf = (program: string): ReadonlyArray<Shown> =>
  pages.flatMap(({ fences, name }) =>
    fences.filter((fence) =>
      fence.language === "text" && fence.program !== "" && posix.join(posix.dirname(name), fence.program) === program
    ).map((fence) => ({ ...fence, page: name }))
  )

const hasServer = Effect.runSync(hasDnsmasq)

/** The lines in which a program says what it did not show, because there is no DNS server. */
const notShown = (printed: ReadonlyArray<string>): ReadonlyArray<string> =>
  printed.filter((line) => line.startsWith("NOT SHOWN"))

const indented = (lines: ReadonlyArray<string>): string => lines.slice(0, 100).map((line) => `      ${line}`).join("\n")

/** Runs a program, prints a line about it, and returns what is wrong. */
const check = Effect.fnUntraced(function*(program: string) {
  const [time, ended] = yield* run(process.execPath, root + program).pipe(
    Effect.timeoutOption(limit),
    Effect.timed
  )
  const seconds = `${(Duration.toMillis(time) / 1000).toFixed(1)} s`.padStart(7)
  const problems: Array<string> = []
  const shown = shownOf(program)
  const missing: Array<string> = []
  if (Option.isNone(ended)) {
    problems.push(`it did not end within ${Duration.format(limit)}`)
  } else {
    const { code, stderr, stdout } = ended.value
    const printed = printedLines(stdout)
    if (code !== 0) problems.push(`exit code ${code}`)
    if (stderr !== "") problems.push(`it wrote to stderr:\n${indented(stderr.split("\n"))}`)
    for (const line of unexplained(printed, shown.flatMap((block) => block.code))) {
      problems.push(`it printed a warning that no page shows: ${line}`)
    }
    missing.push(...notShown(printed))
    if (hasServer) problems.push(...missing.map((line) => `it did not show all, though dnsmasq is installed: ${line}`))
    for (const { code: lines, line, page } of missing.length > 0 ? [] : shown) {
      const wrong = outputProblem(lines, printed)
      if (wrong !== undefined) problems.push(`${page}:${line}: not printed, or not at this place: ${wrong}`)
    }
    if (problems.length > 0) problems.push(`it printed:\n${indented(printed)}`)
  }
  const blocks = missing.length > 0 ? "" : `, ${shown.length} ${shown.length === 1 ? "block" : "blocks"} of output`
  yield* Console.log(`${problems.length === 0 ? "ok" : "NO"} ${seconds}  ${program}${blocks}`)
  for (const problem of problems) yield* Console.log(`    ${problem}`)
  if (missing.length > 0 && !hasServer) {
    yield* Console.log(`!!! THERE IS NO DNSMASQ: what the pages show of ${program} WAS NOT CHECKED`)
  }
  return problems.length === 0
})

const main = Effect.gen(function*() {
  const word = process.argv[2] ?? ""
  const chosen = programs.filter((program) => program.includes(word))
  const results = yield* Effect.forEach(chosen, check, { concurrency: 2 })
  const wrong = results.filter((isRight) => !isRight).length
  const problems = word === "" ? checkGuide(pages) : []
  for (const problem of problems) yield* Console.log(show(problem))
  const expected = word === "" ? listed(pages).length : 1
  if (chosen.length < expected) yield* Console.log(`found ${chosen.length} programs, but the pages list ${expected}`)
  const failed = wrong > 0 || problems.length > 0 || chosen.length < expected
  yield* Console.log(`${chosen.length} programs, ${wrong} wrong; ${problems.length} problems of the guide`)
  if (failed) yield* Effect.sync(() => void (process.exitCode = 1))
})

main.pipe(Effect.provide(NodeServices.layer), NodeRuntime.runMain)
