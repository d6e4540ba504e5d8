/**
 * The soak: hundreds of callers, replicas that come and go, a network that fails in every way, and an account of every
 * call.
 *
 * `npm run soak -- [--seconds 30] [--seed S] [--callers 300] [--json]`
 *
 * What it does and what it checks is in README.md in this folder. It ends with code 1 where it has found a violation.
 */
import { Cause, Context, Effect, Exit, Logger, Metric, References } from "effect"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as v8 from "node:v8"
import * as vm from "node:vm"
import { Journal } from "./journal.ts"
import { activeResources, FiberCount } from "./leftovers.ts"
import { limits } from "./limits.ts"
import { parseOptions, type SoakOptions } from "./options.ts"
import { countsOf, type Figures, type Report, textOf } from "./report.ts"
import { run } from "./run.ts"
import { Violations } from "./violations.ts"

const readOptions = (): SoakOptions => {
  try {
    return parseOptions(process.argv.slice(2))
  } catch (error) {
    console.error(error instanceof Error ? error.message : String(error))
    process.exit(1)
  }
}

// Memory is measured after garbage collections. (A process that was started with the option would be another one.)
v8.setFlagsFromString("--expose-gc")
globalThis.gc = vm.runInNewContext("gc")

const options = readOptions()
const { callers, json, seconds, seed } = options
const resourcesBefore = activeResources()
const directory = mkdtempSync(join(tmpdir(), "soak-"))
const journal = new Journal(directory)
const violations = new Violations(({ check, id, text }) => journal.add("violation", { check, text, id }))
const fibers = new FiberCount()

/** Says what came of it, when there is nothing left to be done. */
const finish = (figures: Figures | undefined, exitMillis: number) => {
  const ok = violations.total === 0
  const journaled = journal.about(new Set(violations.told.flatMap(({ id }) => id ?? [])))
  const report: Report = {
    seed,
    ok,
    checks: countsOf(violations),
    violations: violations.told.map(({ check, id, text }) => ({
      check,
      text,
      journal: journaled.get(id ?? NaN) ?? []
    })),
    directory: ok ? undefined : directory,
    figures,
    exitMillis
  }
  if (ok) rmSync(directory, { recursive: true })
  console.log(json ? JSON.stringify(report) : textOf(report))
  process.exitCode = ok ? 0 : 1
}

/** What Connections log belongs to the journal. */
const logger = Logger.make(({ cause, fiber, logLevel, message }) =>
  journal.add("log", {
    level: logLevel,
    message: Array.isArray(message) ? message.join(" ") : message,
    ...fiber.getRef(References.CurrentLogAnnotations),
    ...(cause.reasons.length === 0 ? {} : { cause: Cause.pretty(cause) })
  })
)

if (!json) console.log(`${callers} callers, faults for ${seconds} s, seed ${seed}\n`)
const running = Effect.runForkWith(Context.make(Metric.FiberRuntimeMetrics, fibers))(
  Effect.provide(
    run({ options, directory, journal, violations, fibers, resourcesBefore }),
    Logger.layer([logger])
  )
)
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => running.interruptUnsafe())
running.addObserver((exit) => {
  if (Exit.isFailure(exit)) violations.add("broken", Cause.pretty(exit.cause))
  const figures = Exit.isSuccess(exit) ? exit.value : undefined
  const closedAt = performance.now()
  // It does not keep the process alive: if it comes, something else has.
  const watch = setTimeout(() => {
    violations.add("didNotExit", activeResources().join(", "))
    finish(figures, performance.now() - closedAt)
    process.exit(1)
  }, limits.exit).unref()
  // Nothing keeps the process alive any more.
  process.once("beforeExit", () => {
    clearTimeout(watch)
    finish(figures, performance.now() - closedAt)
  })
})
