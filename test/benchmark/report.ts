/**
 * What a benchmark says at the end: medians of its rounds, compared with the baseline's.
 */
import { Latencies } from "./meter.ts"
import type { Figures, Usage } from "./pair.ts"
import { median, sizeName, table } from "./support.ts"
import type { SystemName } from "./systems.ts"

/** One system at one concurrency and payload. Ratios are to the raw loop's, and null where that was not measured. */
export interface Row {
  readonly system: SystemName
  readonly concurrency: number
  readonly payloadBytes: number
  readonly callsPerSecond: number
  readonly p50Us: number
  readonly p99Us: number
  readonly p999Us: number
  readonly clientCpuUs: number
  readonly serverCpuUs: number
  readonly clientPeakRssBytes: number
  readonly serverPeakRssBytes: number
  readonly ratioToRaw: number | null
  readonly p50Ratio: number | null
  readonly p99Ratio: number | null
  readonly p999Ratio: number | null
  readonly clientCpuRatio: number | null
  readonly serverCpuRatio: number | null
  readonly clientPeakRssRatio: number | null
  readonly serverPeakRssRatio: number | null
}

/** The largest resident sets of both halves. */
export interface Peaks {
  readonly client: Usage
  readonly server: Usage
}

const percentile = (share: number) => ({ calls, latencies }: Figures) =>
  new Latencies(latencies, calls).percentile(share)
const figuresOf = {
  rate: ({ calls, seconds }: Figures) => calls / seconds,
  p50: percentile(0.5),
  p99: percentile(0.99),
  p999: percentile(0.999),
  clientCpu: ({ calls, clientCpuMicros }: Figures) => clientCpuMicros / calls,
  serverCpu: ({ calls, serverCpuMicros }: Figures) => serverCpuMicros / calls
}

/** Sums up the rounds of a system and compares them with those of the baseline. */
export const rowOf = (
  system: SystemName,
  concurrency: number,
  payloadBytes: number,
  rounds: ReadonlyArray<Figures>,
  peaks: Peaks | undefined,
  baseline: ReadonlyArray<Figures> | undefined,
  baselinePeaks: Peaks | undefined
): Row => {
  const of = (name: keyof typeof figuresOf) => median(rounds.map(figuresOf[name]))
  const ratio = (name: keyof typeof figuresOf) =>
    baseline === undefined ? null : median(rounds.map((figures, round) => {
      const other = baseline[round]
      return other === undefined ? NaN : figuresOf[name](figures) / figuresOf[name](other)
    }))
  const peak = (half: "client" | "server") => peaks?.[half].peakRss ?? NaN
  const peakRatio = (half: "client" | "server") =>
    baselinePeaks === undefined ? null : peak(half) / baselinePeaks[half].peakRss
  return {
    system,
    concurrency,
    payloadBytes,
    callsPerSecond: of("rate"),
    p50Us: of("p50"),
    p99Us: of("p99"),
    p999Us: of("p999"),
    clientCpuUs: of("clientCpu"),
    serverCpuUs: of("serverCpu"),
    clientPeakRssBytes: peak("client"),
    serverPeakRssBytes: peak("server"),
    ratioToRaw: ratio("rate"),
    p50Ratio: ratio("p50"),
    p99Ratio: ratio("p99"),
    p999Ratio: ratio("p999"),
    clientCpuRatio: ratio("clientCpu"),
    serverCpuRatio: ratio("serverCpu"),
    clientPeakRssRatio: peakRatio("client"),
    serverPeakRssRatio: peakRatio("server")
  }
}

const columns: ReadonlyArray<readonly [title: string, cell: (row: Row) => string]> = [
  ["callers", (row) => String(row.concurrency)],
  ["bytes", (row) => String(row.payloadBytes)],
  ["calls/s", (row) => withRatio(row.callsPerSecond, 0, row.ratioToRaw)],
  ["p50 µs", (row) => withRatio(row.p50Us, 0, row.p50Ratio)],
  ["p99 µs", (row) => withRatio(row.p99Us, 0, row.p99Ratio)],
  ["p99.9 µs", (row) => withRatio(row.p999Us, 0, row.p999Ratio)],
  ["client CPU µs", (row) => withRatio(row.clientCpuUs, 2, row.clientCpuRatio)],
  ["server CPU µs", (row) => withRatio(row.serverCpuUs, 2, row.serverCpuRatio)],
  ["client MB", (row) => withRatio(row.clientPeakRssBytes / 1e6, 0, row.clientPeakRssRatio)],
  ["server MB", (row) => withRatio(row.serverPeakRssBytes / 1e6, 0, row.serverPeakRssRatio)]
]

/** A figure and, behind it, its ratio to the baseline's. */
const withRatio = (figure: number, digits: number, ratio: number | null): string =>
  `${figure.toFixed(digits)} ${(ratio === null ? "" : `×${ratio.toFixed(2)}`).padStart(6)}`

/** Rows for a terminal. */
export const text = (rows: ReadonlyArray<Row>): string =>
  table(
    ["system", ...columns.map(([title]) => title)],
    rows.map((row) => [row.system, ...columns.map(([, cell]) => cell(row))])
  )

/** A figure with spaces between its thousands. */
export const grouped = (figure: number, digits: number): string => {
  const [whole = "", fraction] = figure.toFixed(digits).split(".")
  return whole.replace(/\B(?=(\d{3})+$)/g, " ") + (fraction === undefined ? "" : `.${fraction}`)
}

/** A ratio: below 0.01 with three digits behind the point, otherwise with two. */
export const ratioText = (ratio: number): string => ratio < 0.00995 ? ratio.toFixed(3) : ratio.toFixed(2)

const times = (ratio: number | null): string => ratio === null ? "" : ` ×${ratioText(ratio)}`

const mega = (bytes: number, ratio: number | null): string => `${grouped(bytes / 1e6, 0)}${times(ratio)}`

const pageColumns: ReadonlyArray<readonly [title: string, cell: (row: Row) => string]> = [
  ["calls/s", (row) => `${grouped(row.callsPerSecond, 0)}${times(row.ratioToRaw)}`],
  ["p50 µs", (row) => `${grouped(row.p50Us, 0)}${times(row.p50Ratio)}`],
  ["p99 µs", (row) => `${grouped(row.p99Us, 0)}${times(row.p99Ratio)}`],
  ["p99.9 µs", (row) => `${grouped(row.p999Us, 0)}${times(row.p999Ratio)}`],
  ["client CPU µs", (row) => `${grouped(row.clientCpuUs, 2)}${times(row.clientCpuRatio)}`],
  ["server CPU µs", (row) => `${grouped(row.serverCpuUs, 2)}${times(row.serverCpuRatio)}`],
  [
    "peak RSS client, server MB",
    (row) =>
      [
        mega(row.clientPeakRssBytes, row.clientPeakRssRatio),
        mega(row.serverPeakRssBytes, row.serverPeakRssRatio)
      ].join(", ")
  ]
]

/** A table of a page, padded as the formatter pads it. */
export const pageTable = (heads: ReadonlyArray<string>, rows: ReadonlyArray<ReadonlyArray<string>>): string => {
  const widths = heads.map((_, column) => Math.max(3, ...[heads, ...rows].map((row) => row[column]?.length ?? 0)))
  const line = (cells: ReadonlyArray<string>) => `| ${widths.map((w, i) => (cells[i] ?? "").padEnd(w)).join(" | ")} |`
  return [line(heads), `| ${widths.map((w) => "-".repeat(w)).join(" | ")} |`, ...rows.map(line)].join("\n")
}

/** Rows for a page: a table for each payload, or one table where there was one concurrency. */
export const markdown = (rows: ReadonlyArray<Row>): string => {
  const payloads = [...new Set(rows.map(({ payloadBytes }) => payloadBytes))]
  const concurrencies = [...new Set(rows.map(({ concurrency }) => concurrency))]
  /** A table whose first column says what a row and those below it have in common. */
  const grouping = (title: string, rows: ReadonlyArray<Row>, of: (row: Row) => string) =>
    pageTable(
      [title, "System", ...pageColumns.map(([title]) => title)],
      rows.map((row, index) => {
        const previous = rows[index - 1]
        const isFirst = previous === undefined || of(previous) !== of(row)
        return [isFirst ? of(row) : "", `\`${row.system}\``, ...pageColumns.map(([, cell]) => cell(row))]
      })
    )
  return concurrencies.length === 1
    ? [`## ${concurrencies[0]} callers`, grouping("Payload", rows, ({ payloadBytes }) => sizeName(payloadBytes))]
      .join("\n\n")
    : payloads.map((size) =>
      [
        `## ${sizeName(size)}`,
        grouping("Callers", rows.filter(({ payloadBytes }) => payloadBytes === size), (row) => String(row.concurrency))
      ].join("\n\n")
    ).join("\n\n")
}

/** The columns of the headline table: callers and bytes. */
const headlines = [[1, 16], [64, 16], [256, 16], [64, 4096], [64, 65_536]] as const

/** The table of the README in this folder: the rates, and in brackets their ratios to the baseline's. */
export const headline = (rows: ReadonlyArray<Row>): string =>
  pageTable(
    ["calls/s (÷ `raw`)", ...headlines.map(([callers, bytes]) => `${callers} × ${sizeName(bytes)}`)],
    [...new Set(rows.map(({ system }) => system))].map((system) => [
      `\`${system}\``,
      ...headlines.map(([callers, bytes]) => {
        const row = rows.find((row) =>
          row.system === system && row.concurrency === callers && row.payloadBytes === bytes
        )
        if (row === undefined) return "–"
        const ratio = row.ratioToRaw === null ? "" : ` (${ratioText(row.ratioToRaw)})`
        return `${grouped(row.callsPerSecond, 0)}${ratio}`
      })
    ])
  )
