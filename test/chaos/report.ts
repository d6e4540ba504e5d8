/**
 * What came of a soak, for programs and for people.
 */
import { type Memory, table } from "../benchmark/support.ts"
import type { FaultName } from "./faultName.ts"
import type { Recovered } from "./recovery.ts"
import type { StreamFigures } from "./streamCounts.ts"
import { type Check, checks, type Violations } from "./violations.ts"

/** What was measured. */
export interface Figures {
  readonly seconds: number
  readonly calls: number
  readonly callsPerSecond: number
  /** How the calls have ended. */
  readonly endings: Readonly<Record<string, number>>
  /** The streams among them. */
  readonly streams: StreamFigures
  /** How often replicas have executed a call. */
  readonly executions: number
  readonly faults: Readonly<Partial<Record<FaultName, number>>>
  readonly processes: number
  readonly connections: number
  readonly slowestCloseMillis: number
  /** The longest until a process that was (back) there had served a call, of any Connection and of each. */
  readonly recovery: {
    readonly used: number
    readonly first: Recovered | undefined
    readonly any: Recovered | undefined
  }
  readonly memory: {
    readonly start: Memory
    readonly end: Memory
    /**
     * Of the driver, during the faults: the median of each eighth of that time, and by which part it grew over the last
     * half.
     */
    readonly rss: { readonly eighths: ReadonlyArray<number>; readonly growth: number }
  }
  readonly fibers: number
  /** Of the driver, with faults. Where others need the machine, too, its event loop's delays are theirs. */
  readonly cpuSeconds: number
  readonly maxEventLoopDelayMillis: number
}

/** All that there is to say. */
export interface Report {
  readonly seed: number
  readonly ok: boolean
  readonly checks: Readonly<Record<Check, number>>
  readonly violations: ReadonlyArray<
    { readonly check: Check; readonly text: string; readonly journal: ReadonlyArray<string> }
  >
  /** Where there is more to look at. */
  readonly directory: string | undefined
  /** Undefined where the soak has failed before it was over. */
  readonly figures: Figures | undefined
  /** How long the process was still there when everything was closed. */
  readonly exitMillis: number
}

/** Counts of all checks. */
export const countsOf = (violations: Violations): Report["checks"] =>
  // `checks` has these keys, and no others.
  Object.fromEntries(Object.keys(checks).map((check) => [check, violations.of(check as Check)])) as Report["checks"]

const mebibytes = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MiB`

const millis = (value: number): string => `${value.toFixed(value < 10 ? 1 : 0)} ms`

const recovered = (value: Recovered | undefined): string =>
  value === undefined ? "none" : `${millis(value.millis)} (replica ${value.replica}, process ${value.stamp})`

const byCount = (counts: Readonly<Record<string, number | undefined>>): ReadonlyArray<ReadonlyArray<string>> =>
  Object.entries(counts)
    .map(([name, count = 0]) => ({ name, count }))
    .sort((a, b) => b.count - a.count)
    .map(({ count, name }) => [name, String(count)])

const streamRows = (streams: StreamFigures): ReadonlyArray<ReadonlyArray<string>> => {
  const { bytesMade, bytesReceived, itemsMade, itemsReceived, largestItem, mostItems, opened } = streams
  return [
    ...byCount(opened),
    ["items received", `${itemsReceived} (${mebibytes(bytesReceived)})`],
    ["items made for sending", `${itemsMade} (${mebibytes(bytesMade)})`],
    ["most items of a stream", String(mostItems)],
    ["largest item", mebibytes(largestItem)]
  ]
}

const figuresText = (figures: Figures, exitMillis: number): string => {
  const { end, rss, start } = figures.memory
  const grown = (of: (memory: Memory) => number) => `${mebibytes(of(start))} → ${mebibytes(of(end))}`
  return [
    table(["calls", "count"], [["made", String(figures.calls)], ...byCount(figures.endings)]),
    table(["streams", "count"], streamRows(figures.streams)),
    table(["faults", "count"], byCount(figures.faults)),
    table(["figure", "value"], [
      ["calls per second", figures.callsPerSecond.toFixed(0)],
      ["executions", String(figures.executions)],
      ["replica processes", String(figures.processes)],
      ["processes that were used", String(figures.recovery.used)],
      ["longest until the first call was served", recovered(figures.recovery.first)],
      ["longest until a call of each Connection was", recovered(figures.recovery.any)],
      ["Connections", String(figures.connections)],
      ["slowest close of one", millis(figures.slowestCloseMillis)],
      ["fibers", String(figures.fibers)],
      ["heap, start → end", grown(({ heapUsed }) => heapUsed)],
      ["outside the heap", grown(({ external }) => external)],
      ["RSS", grown(({ rss }) => rss)],
      ["RSS in each eighth of the run", `${rss.eighths.map((bytes) => (bytes / 2 ** 20).toFixed(0)).join(" ")} MiB`],
      ["growth of the RSS over the last half", `${(100 * rss.growth).toFixed(0)} %`],
      ["CPU of the driver", `${(100 * figures.cpuSeconds / figures.seconds).toFixed(0)} %`],
      ["longest event loop delay", millis(figures.maxEventLoopDelayMillis)],
      ["from closed to the end of the process", millis(exitMillis)]
    ])
  ].join("\n\n")
}

/** The report as a text. */
export const textOf = (report: Report): string => {
  const lines: Array<string> = []
  if (report.figures !== undefined) lines.push(figuresText(report.figures, report.exitMillis))
  lines.push(table(
    ["must be 0", "found"],
    // As above.
    Object.entries(report.checks).map(([check, count]) => [checks[check as Check], String(count)])
  ))
  for (const { check, journal, text } of report.violations) {
    lines.push([`✗ ${checks[check]}: ${text}`, ...journal.map((line) => `    ${line}`)].join("\n"))
  }
  if (report.directory !== undefined) lines.push(`more in ${report.directory}`)
  lines.push(
    report.ok ? "nothing went wrong" : `something went wrong; for the same faults again: --seed ${report.seed}`
  )
  return lines.join("\n\n")
}
