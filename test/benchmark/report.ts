/**
 * What a benchmark says at the end: medians of its rounds, compared with the baseline's.
 */
import { Latencies } from "./meter.ts"
import type { Figures, Usage } from "./pair.ts"
import { median, table } from "./support.ts"
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

/** Rows for people. */
export const text = (rows: ReadonlyArray<Row>): string =>
  table(
    ["system", ...columns.map(([title]) => title)],
    rows.map((row) => [row.system, ...columns.map(([, cell]) => cell(row))])
  )
