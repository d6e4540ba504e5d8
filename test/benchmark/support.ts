/**
 * What the benchmarks have in common: options, medians, tables, memory, and a child's side of being asked.
 */
import { setImmediate as turn } from "node:timers/promises"
import { parseArgs, type ParseArgsOptionsConfig } from "node:util"
import { isSystemName, type SystemName, systems } from "./systems.ts"

/** Ends the program with a message for its user. */
export const fail = (message: string): never => {
  console.error(message)
  process.exit(1)
}

/** What the options were set to. An option that does not exist ends the program. */
export const parse = <const T extends ParseArgsOptionsConfig>(options: T) => {
  try {
    return parseArgs({ options }).values
  } catch (error) {
    return fail(error instanceof Error ? error.message : String(error))
  }
}

/** The numbers of an option, separated by commas, all greater than 0. Others end the program. */
export const numbers = (option: string, text: string): ReadonlyArray<number> =>
  text.split(",").map((part) => number(option, part))

/** The number of an option, greater than 0. */
export const number = (option: string, text: string): number => {
  const value = text.trim() === "" ? NaN : Number(text)
  return value > 0 && value < Infinity ? value : fail(`--${option}: expected a number above 0, got "${text}"`)
}

/** The whole numbers of an option, separated by commas, all 1 or more. Others end the program. */
export const counts = (option: string, text: string): ReadonlyArray<number> =>
  text.split(",").map((part) => count(option, part))

/** The whole number of an option, 1 or more. */
export const count = (option: string, text: string): number => {
  const value = text.trim() === "" ? NaN : Number(text)
  return value >= 1 && Number.isSafeInteger(value)
    ? value
    : fail(`--${option}: expected a whole number from 1 on, got "${text}"`)
}

/** The systems of an option, separated by commas. Others end the program. */
export const systemNames = (option: string, text: string): ReadonlyArray<SystemName> =>
  text.split(",").map((part) => systemName(option, part))

/** The system of an option. */
export const systemName = (option: string, text: string): SystemName =>
  isSystemName(text) ? text : fail(`--${option}: expected one of ${Object.keys(systems).join(", ")}; got "${text}"`)

/** The middle one, or of an even number of values the middle of the two; NaN where there is none. */
export const median = (values: ReadonlyArray<number>): number => {
  const sorted = [...values].sort((a, b) => a - b)
  const half = sorted.length / 2
  return ((sorted[Math.ceil(half) - 1] ?? NaN) + (sorted[Math.floor(half)] ?? NaN)) / 2
}

/** The rows below their heads; the first column begins at the left, the others end at the right. */
export const table = (heads: ReadonlyArray<string>, rows: ReadonlyArray<ReadonlyArray<string>>): string => {
  const lines = [heads, ...rows]
  const widths = heads.map((_, column) => Math.max(...lines.map((line) => line[column]?.length ?? 0)))
  return lines
    .map((line) =>
      widths.map((width, column) => {
        const cell = line[column] ?? ""
        return column === 0 ? cell.padEnd(width) : cell.padStart(width)
      }).join("  ").trimEnd()
    )
    .join("\n")
}

/** A size as people write it. */
export const sizeName = (bytes: number): string =>
  bytes >= 2 ** 20 && bytes % 2 ** 20 === 0
    ? `${bytes / 2 ** 20} MiB`
    : bytes >= 1024 && bytes % 1024 === 0
    ? `${bytes / 1024} KiB`
    : `${bytes} B`

/** What a process holds, in bytes. */
export interface Memory {
  readonly heapUsed: number
  /** Outside the heap, but belonging to objects in it: the bytes of buffers are most of it. */
  readonly external: number
  readonly rss: number
}

const readMemory = (): Memory => {
  const { external, heapUsed, rss } = process.memoryUsage()
  return { heapUsed, external, rss }
}

/** Changes that small are the measurement's own. */
const unchanged = 16_384

/** After that many garbage collections what still changes does so by itself. */
const mostCollections = 30

/**
 * What is alive. The process needs `--expose-gc`. What one collection finds dead may have to run finalizers before the
 * next one finds more, and pages are given back by other threads: it is done when the figures no longer change.
 * `shrink` also gives back the room that the heap keeps for what is to come, without which RSS says more about what was
 * than about what is.
 */
export const liveMemory = async ({ shrink = false }: { readonly shrink?: boolean } = {}): Promise<Memory> => {
  const { gc } = globalThis
  if (gc === undefined) throw new Error("memory can only be measured with --expose-gc")
  let before = readMemory()
  let quiet = 0
  for (let i = 0; i < mostCollections && quiet < 3; i++) {
    gc({ type: "major", execution: "sync", flavor: shrink ? "last-resort" : "regular" })
    await turn()
    const after = readMemory()
    const change = Math.max(
      Math.abs(after.heapUsed - before.heapUsed),
      Math.abs(after.external - before.external),
      shrink ? Math.abs(after.rss - before.rss) : 0
    )
    quiet = change < unchanged ? quiet + 1 : 0
    before = after
  }
  return before
}

const held: Array<unknown> = []

/**
 * Fills the heap with what an application may hold: records with texts, lists and records in them, as they come from
 * JSON, all alive until the process ends. The process needs `--expose-gc`. Gives the bytes that have been added.
 */
export const fillHeap = async (megabytes: number): Promise<number> => {
  const before = (await liveMemory()).heapUsed
  const grown = async () => (await liveMemory()).heapUsed - before
  let bytes = 0
  // A first part shows how much a record takes; all others are then made in one or two steps.
  let missing = 1000
  while (bytes < megabytes * 1e6) {
    for (let i = 0; i < missing; i++) {
      const id = held.length
      const record = {
        id,
        name: `customer number ${id}`,
        address: { street: `${id % 211} Station Road`, city: `city ${id % 977}`, location: [id / 7, id / 11] },
        tags: [`group ${id % 13}`, "active"],
        orders: Array.from(
          { length: id % 4 },
          (_, order) => ({ order, total: id * 1.19, note: `order ${order} of ${id}` })
        )
      }
      held.push(JSON.parse(JSON.stringify(record)))
    }
    bytes = await grown()
    missing = Math.ceil((megabytes * 1e6 - bytes) / (bytes / held.length))
  }
  return bytes
}

/** A child's side: answers each question of its parent, and ends with it. */
export const answerParent = <Question>(answer: (question: Question) => Promise<object>): void => {
  process.on("disconnect", () => process.exit())
  process.on("message", (message) => {
    // It is the parent that says what it asks.
    void answer(message as Question).then((reply) => process.send?.(reply))
  })
}

/** The CPU that this process has used since it started, in µs. */
export const cpuMicros = (): number => {
  const { system, user } = process.cpuUsage()
  return system + user
}
