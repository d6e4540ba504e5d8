/**
 * Mutated conversations against servers and against clients. What is checked is in README.md in this folder.
 *
 * `npm run fuzz -- [--cases 200000] [--seconds N] [--seed N] [--direction server|client] [--path P] [--json]`
 *
 * Each direction has a process of its own and half of the cases. The first violation of either ends it; what has failed
 * is made smaller, and printed with the command that repeats it.
 */
import { fork } from "node:child_process"
import { parseArgs } from "node:util"
import type { Found, Held, Report, Task } from "./child.ts"

const fail = (message: string): never => {
  console.error(message)
  process.exit(2)
}

const options = () => {
  try {
    return parseArgs({
      options: {
        cases: { type: "string", default: "200000" },
        seconds: { type: "string" },
        seed: { type: "string" },
        direction: { type: "string" },
        path: { type: "string" },
        json: { type: "boolean", default: false }
      }
    }).values
  } catch (error) {
    return fail(error instanceof Error ? error.message : String(error))
  }
}

/** The whole number of an option. */
const whole = (option: string, text: string, least: number): number => {
  const value = text.trim() === "" ? NaN : Number(text)
  return Number.isSafeInteger(value) && value >= least
    ? value
    : fail(`--${option}: expected a whole number${least > 0 ? ` from ${least} on` : ""}, got "${text}"`)
}

const directions = ["server", "client"] as const
type Direction = (typeof directions)[number]

const directionsOf = (text: string | undefined): ReadonlyArray<Direction> => {
  const some = directions.filter((direction) => text === undefined || text === direction)
  return some.length > 0 ? some : fail(`--direction: expected server or client, got "${text}"`)
}

/**
 * For how long a direction may say nothing, in milliseconds: a batch takes a moment, and a counterexample is looked at
 * for a while.
 */
const patience = 60_000

type Done = Report & { readonly _tag: "Done" }

/** Runs one direction. A process that ends, or says nothing any more, is a violation of the round that it was in. */
const run = (task: Task, onRunning: (stop: () => void) => void): Promise<Done | Found> =>
  new Promise((resolve) => {
    const child = fork(new URL("./child.ts", import.meta.url), [JSON.stringify(task)], {
      execArgv: ["--expose-gc"],
      serialization: "advanced",
      stdio: ["ignore", 2, 2, "ipc"]
    })
    let seed = task.seed
    const give = (problem: string) => resolve({ problem, seed, path: task.path, counterexample: "all of a round" })
    const hung = setTimeout(() => {
      give(`nothing was heard of it for ${patience / 1000} s`)
      child.kill("SIGKILL")
    }, patience)
    child.on("message", (message) => {
      const report = message as Report // it sends nothing else
      hung.refresh()
      if (report._tag === "Round") seed = report.seed
      else resolve(report)
    })
    child.on("exit", (code, signal) => {
      clearTimeout(hung)
      give(`its process ended with ${signal ?? `code ${code}`}`)
    })
    onRunning(() => {
      give("it was stopped")
      child.kill("SIGKILL")
    })
  })

const isDone = (result: Done | Found): result is Done => "_tag" in result

const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(1)

const change = (what: string, before: number, after: number): string =>
  `${what} ${megabytes(before)} → ${megabytes(after)} MB`

const heldText = (before: Held, after: Held): string =>
  [
    change("heap", before.heap, after.heap),
    change("outside", before.external, after.external),
    `sockets ${before.sockets} → ${after.sockets}`
  ].join(", ")

const text = (direction: Direction, result: Done | Found): string => {
  if (!isDone(result)) return `against the ${direction}: ${result.problem}`
  const { after, before, cases, neighbourCalls, peakRss, seconds, seen } = result
  const most = Object.entries(seen).sort(([, a], [, b]) => b - a)
  return [
    `against the ${direction}: ${cases} cases in ${seconds.toFixed(1)} s (${Math.round(cases / seconds)} a second)`,
    `  ${heldText(before, after)}, RSS at most ${megabytes(peakRss)} MB`,
    `  ${neighbourCalls} calls of neighbours; ${most.map(([what, times]) => `${times} × ${what}`).join(", ")}`
  ].join("\n")
}

const foundText = (direction: Direction, { counterexample, path, problem, seed }: Found): string =>
  [
    `VIOLATION against the ${direction}: ${problem}`,
    `counterexample: ${counterexample}`,
    `replay: npm run fuzz -- --direction ${direction} --seed ${seed}${path === undefined ? "" : ` --path "${path}"`}`
  ].join("\n")

const main = async () => {
  const values = options()
  const chosen = directionsOf(values.direction)
  const cases = whole("cases", values.cases, 1)
  const seconds = values.seconds === undefined ? Infinity : whole("seconds", values.seconds, 1)
  const seed = values.seed === undefined ? Math.floor(Math.random() * 2 ** 31) : whole("seed", values.seed, -Infinity)
  const path = values.path
  if (path !== undefined && (values.seed === undefined || values.direction === undefined)) {
    return fail("--path: it is one of a --seed and a --direction")
  }
  if (!values.json) console.log(`seed ${seed}`)
  const start = performance.now()
  const stops = new Map<Direction, () => void>()
  const results = await Promise.all(chosen.map(async (direction) => {
    // JSON has no infinity.
    const task = { direction, cases: cases / chosen.length, seconds: Math.min(seconds, 1e9), seed, path }
    const result = await run(task, (stop) => stops.set(direction, stop))
    stops.delete(direction)
    const found = isDone(result) ? result.found : result
    if (found !== undefined && process.exitCode === undefined) {
      process.exitCode = 1
      if (!values.json) console.log(foundText(direction, found))
      for (const stop of stops.values()) stop()
    }
    return { direction, result, found }
  }))
  const total = results.reduce((sum, { result }) => sum + (isDone(result) ? result.cases : 0), 0)
  const took = (performance.now() - start) / 1000
  const ok = process.exitCode === undefined
  if (values.json) {
    return console.log(JSON.stringify({
      seed,
      ok,
      cases: total,
      seconds: took,
      directions: results.map(({ direction, found, result }) => ({ direction, ...result, found }))
    }))
  }
  for (const { direction, result } of results) console.log(text(direction, result))
  console.log(
    `${total} cases in ${took.toFixed(1)} s (${Math.round(total / took)} a second): ${ok ? "no" : "a"} violation`
  )
}

await main()
