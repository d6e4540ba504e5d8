/**
 * Tries out the mutations of `list.ts`: applies each to a copy of the project, and says which test catches it.
 *
 *     npm run mutations                                  all of them
 *     npm run mutations -- "name" "another name"         these; a part of a name will do
 *     npm run mutations -- --workers 2 --suite test
 *
 * - `--workers`: how many copies are tested at once. Default: 1.
 * - `--suite`: `test` for the suite of `npm test`, `all` for the deep tests, too. Default: all.
 *
 * What a mutation names as its most probable tests runs first, then the suite of `npm test`, then the deep tests. The
 * results are in `caught.json`; those of mutations that were not tried stay as they are. It fails where a mutation that
 * was caught before is not caught any more, or where one cannot be tried.
 *
 * A failure counts only where the same tests pass without the mutation. One that looks like a time limit has to happen
 * twice, since the machine may be busy.
 */
import { execFileSync, spawn } from "node:child_process"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { type Mutation, mutations } from "./list.ts"

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../..")
const resultsFile = path.join(root, "test/mutations/caught.json")

type Suite = "test" | "deep"

/** What is written of each mutation. */
type Result =
  | { readonly suite: Suite; readonly test: string }
  | "not caught"
  /** The deep tests were not tried. */
  | "not caught by npm test"

/** How a run of some tests has ended. */
type Outcome =
  | { readonly _tag: "Passed" }
  | {
    readonly _tag: "Failed"
    readonly test: string
    /** The file of the test, from the root; undefined where none is to blame alone. */
    readonly file: string | undefined
    readonly isTimeLimit: boolean
  }

const configs: Readonly<Record<Suite, string>> = { test: "vitest.config.ts", deep: "vitest.deep.config.ts" }
/** How long a test may take in milliseconds: far longer than any does without a mutation. */
const testTimeouts: Readonly<Record<Suite, number>> = { test: 30_000, deep: 180_000 }
/** How long a whole run may take in milliseconds. */
const runTimeouts: Readonly<Record<Suite, number>> = { test: 600_000, deep: 2_400_000 }

// ---- Processes. Those that run are ended with this one.

const running = new Set<number>()
const copies = new Set<string>()

const kill = (pid: number): void => {
  try {
    // The group: vitest has processes of its own.
    process.kill(-pid, "SIGKILL")
  } catch {
    // It has ended.
  }
}

const cleanUp = (): void => {
  for (const pid of running) kill(pid)
  for (const copy of copies) fs.rmSync(copy, { recursive: true, force: true, maxRetries: 3 })
}

process.on("exit", cleanUp)
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => process.exit(1))

/** Runs Node in a folder; `code` is undefined where it has not ended in time. */
const node = (
  cwd: string,
  args: ReadonlyArray<string>,
  timeout: number
): Promise<{ readonly code: number | undefined; readonly output: string }> =>
  new Promise((resolve, reject) => {
    const child = spawn(process.execPath, args, { cwd, detached: true, stdio: ["ignore", "pipe", "pipe"] })
    const { pid } = child
    if (pid !== undefined) running.add(pid)
    let output = ""
    let isLate = false
    const read = (chunk: Buffer) => {
      output = (output + chunk.toString()).slice(-20_000)
    }
    child.stdout.on("data", read)
    child.stderr.on("data", read)
    const timer = setTimeout(() => {
      isLate = true
      if (pid !== undefined) kill(pid)
    }, timeout)
    child.on("error", reject)
    child.on("exit", (code) => {
      clearTimeout(timer)
      if (pid !== undefined) {
        // What it has left behind.
        kill(pid)
        running.delete(pid)
      }
      resolve({ code: isLate ? undefined : code ?? 1, output })
    })
  })

// ---- Copies of the project.

/** A copy of the project's files, beside the same node_modules. */
const makeCopy = (): string => {
  const copy = fs.mkdtempSync(path.join(os.tmpdir(), "mutations-"))
  copies.add(copy)
  const listed = execFileSync("git", ["ls-files", "-coz", "--exclude-standard"], { cwd: root, encoding: "utf8" })
  for (const file of listed.split("\0")) {
    const source = path.join(root, file)
    // One that was deleted is listed all the same.
    if (file === "" || !fs.existsSync(source)) continue
    fs.mkdirSync(path.join(copy, path.dirname(file)), { recursive: true })
    fs.copyFileSync(source, path.join(copy, file))
  }
  fs.symlinkSync(path.join(root, "node_modules"), path.join(copy, "node_modules"))
  return copy
}

/** The tests of the command use what is built. */
const build = async (copy: string): Promise<void> => {
  fs.rmSync(path.join(copy, "dist"), { recursive: true, force: true })
  const { code, output } = await node(copy, ["node_modules/typescript/bin/tsc", "-p", "tsconfig.build.json"], 120_000)
  if (code !== 0) throw new Error(`the project cannot be built: ${output.trim()}`)
}

/** Sets the file of a mutation to the text that it has with the mutation, or without it, and builds. */
const put = async (copy: string, { file, from, to }: Mutation, isMutated: boolean): Promise<void> => {
  const text = fs.readFileSync(path.join(root, file), "utf8")
  const parts = text.split(from)
  if (parts.length !== 2) throw new Error(`${file} has the text ${parts.length - 1} times, expected once: ${from}`)
  fs.writeFileSync(path.join(copy, file), isMutated ? parts.join(to) : text)
  await build(copy)
}

// ---- Tests.

/** As much of vitest's JSON report as is read. */
interface Report {
  readonly testResults: ReadonlyArray<{
    readonly name: string
    readonly status: string
    readonly message: string
    readonly assertionResults: ReadonlyArray<{
      readonly fullName: string
      readonly status: string
      readonly failureMessages: ReadonlyArray<string> | null
    }>
  }>
}

const timeLimit = /timed out|timeout|took longer|in time\b/i

const reportOf = (file: string): Report | undefined => {
  try {
    return JSON.parse(fs.readFileSync(file, "utf8")) as Report // as vitest has written it
  } catch {
    return undefined
  }
}

/** The first failure in a report. */
const failureIn = (copy: string, report: Report | undefined): Outcome | undefined => {
  for (const { assertionResults, message, name, status } of report?.testResults ?? []) {
    const file = path.relative(fs.realpathSync(copy), fs.realpathSync(name)).replaceAll("\\", "/")
    const failed = assertionResults.find((test) => test.status === "failed")
    if (failed !== undefined) {
      const isTimeLimit = timeLimit.test((failed.failureMessages ?? []).join("\n"))
      return { _tag: "Failed", test: `${file} > ${failed.fullName}`, file, isTimeLimit }
    }
    // It could not be loaded.
    if (status === "failed" && message !== "") {
      return { _tag: "Failed", test: `${file} > ${message.split("\n")[0]}`, file, isTimeLimit: false }
    }
  }
  return undefined
}

/** Runs some test files, or all of a suite where none are named, up to the first failure. */
const runTests = async (copy: string, suite: Suite, files: ReadonlyArray<string>): Promise<Outcome> => {
  const reportFile = path.join(copy, "report.json")
  fs.rmSync(reportFile, { force: true })
  const args = [
    "node_modules/vitest/vitest.mjs",
    "run",
    ...["--config", configs[suite], "--bail", "1", "--testTimeout", String(testTimeouts[suite])],
    // The list itself does not fit the mutated file.
    ...["--exclude", "test/mutations/**", "--reporter", "json", "--outputFile", reportFile],
    ...files
  ]
  const { code, output } = await node(copy, args, runTimeouts[suite])
  if (code === 0) return { _tag: "Passed" }
  const failure = failureIn(copy, reportOf(reportFile))
  if (failure !== undefined) return failure
  const test = code === undefined
    ? `no end within ${runTimeouts[suite] / 1000} s`
    : `an error outside of the tests: ${/\w*Error: [^\n]*/.exec(output)?.[0] ?? "unknown"}`
  return { _tag: "Failed", test, file: undefined, isTimeLimit: code === undefined }
}

/** Whether files pass without a mutation: asked once for each. */
const soundness = new Map<string, boolean>()

/** Whether a failure is due to the mutation, which is in place before and after. */
const isDueTo = async (
  copy: string,
  mutation: Mutation,
  suite: Suite,
  files: ReadonlyArray<string>,
  failure: Outcome & { readonly _tag: "Failed" }
): Promise<boolean> => {
  const again = failure.file === undefined ? files : [failure.file]
  if (failure.isTimeLimit && (await runTests(copy, suite, again))._tag === "Passed") return false
  const key = `${suite} ${again.join(" ")}`
  if (!soundness.has(key) || failure.isTimeLimit) {
    await put(copy, mutation, false)
    soundness.set(key, (await runTests(copy, suite, again))._tag === "Passed")
    await put(copy, mutation, true)
  }
  return soundness.get(key) === true
}

/** How often a suite is run on where a failure was not due to the mutation. */
const mostRuns = 2

/** The test of a suite that catches the mutation in place; undefined where none does. */
const caughtBy = async (
  copy: string,
  mutation: Mutation,
  suite: Suite,
  files: ReadonlyArray<string>
): Promise<string | undefined> => {
  for (let run = 0; run < mostRuns; run++) {
    const outcome = await runTests(copy, suite, files)
    if (outcome._tag === "Passed") return undefined
    if (await isDueTo(copy, mutation, suite, files, outcome)) return outcome.test
    log(`    not due to the mutation: ${outcome.test}`)
  }
  return undefined
}

const tryOut = async (copy: string, mutation: Mutation, suites: ReadonlyArray<Suite>): Promise<Result> => {
  await put(copy, mutation, true)
  try {
    const likely = (mutation.tests ?? []).filter((file) => fs.existsSync(path.join(copy, file)))
    for (const suite of suites) {
      const first = likely.filter((file) => file.endsWith(".deep.test.ts") === (suite === "deep"))
      for (const files of first.length === 0 ? [[]] : [first, []]) {
        const test = await caughtBy(copy, mutation, suite, files)
        if (test !== undefined) return { suite, test }
      }
    }
    return suites.includes("deep") ? "not caught" : "not caught by npm test"
  } finally {
    fs.copyFileSync(path.join(root, mutation.file), path.join(copy, mutation.file))
  }
}

// ---- The program.

const log = (line: string): void => void process.stdout.write(`${line}\n`)

const usage = (problem: string): never => {
  process.stderr.write(`${problem}\n`)
  process.exit(2)
}

const readResults = (): Record<string, Result> =>
  fs.existsSync(resultsFile)
    // As this program has written it.
    ? JSON.parse(fs.readFileSync(resultsFile, "utf8")) as Record<string, Result>
    : {}

/** Writes the results in the order of the list; those of mutations that there are no more are left out. */
const writeResults = (results: Readonly<Record<string, Result>>): void => {
  const ordered = mutations.flatMap(({ name }) => {
    const result = results[name]
    return result === undefined ? [] : [[name, result] as const]
  })
  fs.writeFileSync(resultsFile, `${JSON.stringify(Object.fromEntries(ordered), undefined, 2)}\n`)
}

const describeResult = (result: Result | undefined): string => {
  if (result === undefined) return "was not tried"
  return typeof result === "object" ? `${result.suite}: ${result.test}` : result.toUpperCase()
}

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: { workers: { type: "string", default: "1" }, suite: { type: "string", default: "all" } }
})
const workers = Number(values.workers)
if (!Number.isSafeInteger(workers) || workers < 1) usage(`--workers is ${values.workers}, expected a number from 1 on`)
if (values.suite !== "test" && values.suite !== "all") usage(`--suite is ${values.suite}, expected test or all`)
const suites: ReadonlyArray<Suite> = values.suite === "test" ? ["test"] : ["test", "deep"]
for (const part of positionals) {
  if (!mutations.some(({ name }) => name.includes(part))) usage(`there is no mutation named ${part}`)
}
const chosen = positionals.length === 0
  ? mutations
  : mutations.filter(({ name }) => positionals.some((part) => name.includes(part)))

const startedAt = Date.now()
const before = readResults()
const results: Record<string, Result> = { ...before }
const waiting = [...chosen]
let problems = 0

/** Whether a test catches a mutation; undefined where that is not known. */
const suiteOf = (result: Result | undefined): Suite | undefined => typeof result === "object" ? result.suite : undefined

/** Takes over what a mutation has come to. Without the deep tests nothing new is known of what they catch. */
const note = (name: string, result: Result): void => {
  const old = before[name]
  const knowsMore = old === "not caught" || suiteOf(old) === "deep"
  if (result === "not caught by npm test" && old !== undefined && knowsMore) return
  results[name] = result
  writeResults(results)
}

/** Whether a mutation was caught before and is not any more, or only by the deep tests. */
const isWorse = (name: string): boolean => {
  const old = suiteOf(before[name])
  const now = suiteOf(results[name])
  return results[name] !== undefined && old !== undefined && now !== old && now !== "test"
}

const work = async (): Promise<void> => {
  const copy = makeCopy()
  for (let mutation = waiting.shift(); mutation !== undefined; mutation = waiting.shift()) {
    const since = Date.now()
    try {
      const result = await tryOut(copy, mutation, suites)
      note(mutation.name, result)
      log(`${mutation.name}\n    ${describeResult(result)} (${Math.round((Date.now() - since) / 1000)} s)`)
    } catch (error) {
      problems++
      delete results[mutation.name]
      log(`${mutation.name}\n    CANNOT BE TRIED: ${error instanceof Error ? error.message : String(error)}`)
    }
  }
}

await Promise.all(Array.from({ length: Math.min(workers, chosen.length) }, work))

log("")
for (const { name, room } of chosen) {
  log(`${room.padEnd(11)} ${name}\n${" ".repeat(12)}${describeResult(results[name])}`)
}
const caught = (suite: Suite): number => chosen.filter(({ name }) => suiteOf(results[name]) === suite).length
const missed = chosen.filter(({ name }) => typeof results[name] === "string").length
const worse = chosen.filter(({ name }) => isWorse(name))
log("")
log(`mutations:                       ${chosen.length}`)
log(`caught by the suite of npm test: ${caught("test")}`)
log(`caught by the deep tests only:   ${caught("deep")}`)
log(`not caught:                      ${missed}`)
log(`cannot be tried:                 ${problems}`)
log(`time:                            ${Math.round((Date.now() - startedAt) / 1000)} s`)
if (worse.length > 0) {
  log("")
  log("These were caught better before:")
  for (const { name } of worse) log(`  ${name}\n    before: ${describeResult(before[name])}`)
}
process.exitCode = problems === 0 && worse.length === 0 ? 0 : 1
