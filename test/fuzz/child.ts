/**
 * One direction in a process of its own: started by fuzz.ts, with what it is to do as JSON. Needs `--expose-gc`.
 */
import { Effect, Exit, Scope } from "effect"
import * as fc from "fast-check"
import { setTimeout as sleep } from "node:timers/promises"
import { clientTarget } from "./againstClient.ts"
import { serverTarget } from "./againstServer.ts"
import { batchesOf, batchSize } from "./batches.ts"
import { ProcessWatch, type Target, until, Violation } from "./harness.ts"

export interface Task {
  readonly direction: "server" | "client"
  readonly cases: number
  readonly seconds: number
  readonly seed: number
  /** Of one counterexample of this seed, and nothing else is run. */
  readonly path: string | undefined
}

/** What a process holds after a collection: bytes, and sockets that keep its event loop alive. */
export interface Held {
  readonly heap: number
  readonly external: number
  readonly sockets: number
}

export interface Found {
  readonly problem: string
  readonly seed: number
  readonly path: string | undefined
  readonly counterexample: string
}

export type Report =
  /** A round begins, or goes on. */
  | { readonly _tag: "Round"; readonly seed: number }
  | {
    readonly _tag: "Done"
    readonly cases: number
    readonly seconds: number
    readonly found: Found | undefined
    /** When it was warm, and at the end. */
    readonly before: Held
    readonly after: Held
    readonly peakRss: number
    readonly neighbourCalls: number
    /** What the package has done, and how often. */
    readonly seen: Readonly<Record<string, number>>
  }

/** How many batches a round has: between rounds there is a look at everything. */
const roundSize = 40
/** After so many cases compilers have done most of what they do. */
const warmUp = 20_000

/** What the pool of out buffers keeps once it is full, which it may not be when it is warm: 16 of 256 KiB. */
const pooled = 16 * 256 * 1024

/**
 * How many more bytes there may be than when it was warm. What compilers add is less than 3 MB, and what each case
 * leaves would be more: 90 bytes a case, of 80 000.
 */
const slack = 3_000_000 + pooled

/** Sockets that keep the event loop alive: with the listening ones, or without them. */
const sockets = (which: RegExp): number => process.getActiveResourcesInfo().filter((name) => which.test(name)).length
const connected = /^TCPSocketWrap$/
const any = /^TCP/

/**
 * After a collection that finds nothing more: what one finds dead may have to be finalized before the next one finds
 * what it held.
 */
const held = async (): Promise<Held> => {
  const { gc } = globalThis
  if (gc === undefined) throw new Error("memory can only be measured with --expose-gc")
  let least: Held = { heap: Infinity, external: Infinity, sockets: 0 }
  for (let unchanged = 0; unchanged < 10;) {
    gc()
    await sleep(5)
    const { external, heapUsed } = process.memoryUsage()
    const isLess = heapUsed + external < least.heap + least.external - 10_000
    if (isLess) least = { heap: heapUsed, external, sockets: sockets(connected) }
    unchanged = isLess ? 0 : unchanged + 1
  }
  return least
}

const watch = new ProcessWatch()

/** Runs batches of cases until one fails, or all are done; fast-check makes what fails smaller. */
const round = async <Case>(
  target: Target<Case>,
  { path, seed }: Pick<Task, "path" | "seed">,
  most: number
): Promise<{ readonly cases: number; readonly found: Found | undefined }> => {
  let cases = 0
  const property = batchesOf(target, watch, {
    shrinkTime: 30_000,
    first: path !== undefined,
    onBatch: (size) => {
      cases += size
      // It goes on, however little time the machine has for it.
      process.send?.({ _tag: "Round", seed } satisfies Report)
    }
  })
  const numRuns = Math.min(roundSize, Math.ceil(2 * most / batchSize))
  const result = await fc.check(property, {
    seed,
    ...(path === undefined ? { numRuns } : { path, endOnFailure: true })
  })
  if (!result.failed) return { cases, found: undefined }
  const { counterexample, counterexamplePath, errorInstance } = result
  return {
    cases,
    found: {
      problem: errorInstance instanceof Violation
        ? errorInstance.message
        : errorInstance instanceof Error
        ? errorInstance.stack ?? errorInstance.message
        : String(errorInstance),
      seed,
      path: counterexamplePath ?? undefined,
      counterexample: (counterexample?.[0] ?? []).map((input) => `\n    ${fc.stringify(input)}`).join("")
    }
  }
}

/** What is only seen when nothing is under way. */
const whole = async <Case>(target: Target<Case>, seed: number): Promise<Found | undefined> => {
  const problem = await target.audit() ?? watch.take()
  return problem === undefined ? undefined : { problem, seed, path: undefined, counterexample: "all of a round" }
}

const run = async <Case>(make: Effect.Effect<Target<Case>, never, Scope.Scope>, task: Task): Promise<Report> => {
  const socketsBefore = sockets(any)
  const scope = Effect.runSync(Scope.make())
  watch.start({ exceptions: true })
  const target = await Effect.runPromise(Scope.provide(make, scope))
  const start = performance.now()
  let cases = 0
  let found: Found | undefined
  let before: Held | undefined
  let seed = task.seed
  while (found === undefined && cases < task.cases && performance.now() - start < task.seconds * 1000) {
    if (before === undefined && cases >= Math.min(warmUp, task.cases / 2)) before = await held()
    process.send?.({ _tag: "Round", seed } satisfies Report)
    const done = await round(target, { path: task.path, seed }, task.cases - cases)
    cases += done.cases
    found = done.found ?? await whole(target, seed)
    if (task.path !== undefined) break
    seed = (seed + 1) | 0
  }
  const seconds = (performance.now() - start) / 1000
  // The other ends of what has just been closed may take a moment.
  if (before !== undefined) await until(() => sockets(connected) <= (before?.sockets ?? 0))
  const after = await held()
  before ??= after
  const grown = after.heap + after.external - before.heap - before.external
  const whatIsLeft = grown > slack
    ? `${grown} bytes more are held than when it was warm`
    : after.sockets > before.sockets
    ? `${after.sockets - before.sockets} sockets more are open than when it was warm`
    : undefined
  await Effect.runPromise(Scope.close(scope, Exit.void))
  const isClosed = await until(() => sockets(any) <= socketsBefore)
  const problem = whatIsLeft ?? watch.take() ?? (isClosed ? undefined : "sockets are open when all is closed")
  if (problem !== undefined) found ??= { problem, seed: task.seed, path: undefined, counterexample: "all of it" }
  const neighbourCalls = target.neighbours.reduce((sum, { calls }) => sum + calls, 0)
  const peakRss = process.resourceUsage().maxRSS * 1024
  return {
    _tag: "Done",
    cases,
    seconds,
    found,
    before,
    after,
    peakRss,
    neighbourCalls,
    seen: Object.fromEntries(target.seen)
  }
}

// What its parent has written.
const task = JSON.parse(process.argv[2] ?? "{}") as Task
// A stack for each failure that is part of the game costs more than the failure. One counterexample may have its own.
if (task.path === undefined) Error.stackTraceLimit = 0
const report = task.direction === "server" ? await run(serverTarget, task) : await run(clientTarget, task)
process.send?.(report, () => process.disconnect())
