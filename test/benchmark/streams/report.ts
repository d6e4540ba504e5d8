/**
 * What the table of streams says: medians of the rounds, compared with the baseline's of the same round.
 */
import { grouped, pageTable, ratioText } from "../report.ts"
import { median, sizeName, table } from "../support.ts"
import { pairedRatio, type StreamFigures } from "./pair.ts"
import type { StreamSystemName } from "./systems.ts"

/** What the streams of a measurement are. */
export interface Cell {
  readonly itemBytes: number
  readonly chunk: number
  readonly streams: number
}

/** The largest resident sets of both halves, in bytes. */
export interface Peaks {
  readonly client: number
  readonly server: number
}

/** One system's figures of a cell. The ratio is to `raw`, and null where that was not measured. */
export interface StreamRow extends Cell {
  readonly system: StreamSystemName
  readonly itemsPerSecond: number
  readonly ratioToRaw: number | null
  readonly clientCpuUs: number
  readonly serverCpuUs: number
  readonly clientPeakRssBytes: number
  readonly serverPeakRssBytes: number
}

export const streamRow = (
  system: StreamSystemName,
  { chunk, itemBytes, streams }: Cell,
  rounds: ReadonlyArray<StreamFigures>,
  baseline: ReadonlyArray<StreamFigures> | undefined,
  peaks: Peaks | undefined
): StreamRow => {
  const rates = rounds.map(({ rate }) => rate)
  return {
    system,
    itemBytes,
    chunk,
    streams,
    itemsPerSecond: median(rates),
    ratioToRaw: baseline === undefined ? null : pairedRatio(rates, baseline.map(({ rate }) => rate)),
    clientCpuUs: median(rounds.map(({ clientMicros }) => clientMicros)),
    serverCpuUs: median(rounds.map(({ serverMicros }) => serverMicros)),
    clientPeakRssBytes: peaks?.client ?? NaN,
    serverPeakRssBytes: peaks?.server ?? NaN
  }
}

/** The least ratios to `raw` that are aimed at, by the bytes of an item and the items of a chunk. */
const targets: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  bytes: { "16 × 1": 0.3, "16 × 256": 0.75, "4096 × 16": 0.6, "65536 × 1": 0.95 },
  typed: { "16 × 1": 0.12, "16 × 256": 0.3, "4096 × 16": 0.25, "65536 × 1": 0.4 }
}

export const targetOf = (system: string, { chunk, itemBytes }: Cell): number | undefined =>
  targets[system]?.[`${itemBytes} × ${chunk}`]

const mega = (bytes: number): string => grouped(bytes / 1e6, 0)

/** Small ratios with as many digits as say something. */
const ratio = (figure: number | null): string =>
  figure === null ? "–" : figure < 0.00995 ? figure.toFixed(4) : ratioText(figure)

const target = (row: StreamRow): string => {
  const least = targetOf(row.system, row)
  if (least === undefined) return ""
  return row.ratioToRaw !== null && row.ratioToRaw < least ? `≥ ${least}, **missed**` : `≥ ${least}`
}

const columns: ReadonlyArray<readonly [title: string, cell: (row: StreamRow) => string]> = [
  ["items/s", (row) => grouped(row.itemsPerSecond, 0)],
  ["÷ raw", (row) => ratio(row.ratioToRaw)],
  ["target", target],
  ["MB/s", (row) => grouped(row.itemsPerSecond * row.itemBytes / 1e6, 0)],
  ["client CPU µs", (row) => grouped(row.clientCpuUs, 3)],
  ["server CPU µs", (row) => grouped(row.serverCpuUs, 3)],
  ["peak RSS client, server MB", (row) => `${mega(row.clientPeakRssBytes)}, ${mega(row.serverPeakRssBytes)}`]
]

const cellName = ({ chunk, itemBytes, streams }: Cell): string =>
  `${sizeName(itemBytes)}, chunks of ${chunk}, ${streams === 1 ? "1 stream" : `${streams} streams`}`

/** The rows of each cell. */
const cellsOf = (
  rows: ReadonlyArray<StreamRow>
): ReadonlyArray<readonly [name: string, rows: ReadonlyArray<StreamRow>]> =>
  [...new Set(rows.map(cellName))].map((name) => [name, rows.filter((row) => cellName(row) === name)] as const)

/** Rows for a terminal. */
export const streamText = (rows: ReadonlyArray<StreamRow>): string =>
  cellsOf(rows).map(([name, rows]) =>
    `${name}\n\n${
      table(
        ["system", ...columns.map(([title]) => title)],
        rows.map((row) => [row.system, ...columns.map(([, cell]) => cell(row).replaceAll("*", ""))])
      )
    }`
  ).join("\n\n")

/** Rows for a page, a table for each cell. */
export const streamMarkdown = (rows: ReadonlyArray<StreamRow>): string =>
  cellsOf(rows).map(([name, rows]) =>
    `## ${name}\n\n${
      pageTable(
        ["System", ...columns.map(([title]) => title)],
        rows.map((row) => [`\`${row.system}\``, ...columns.map(([, cell]) => cell(row))])
      )
    }`
  ).join("\n\n")

/** The table of the README: the rates, and in brackets their ratios to the baseline's. */
export const streamHeadline = (rows: ReadonlyArray<StreamRow>): string => {
  const cells = cellsOf(rows).map(([, rows]) => rows)
  return pageTable(
    ["items/s (÷ `raw`)", ...cells.map(([row]) => row === undefined ? "" : shortName(row))],
    [...new Set(rows.map(({ system }) => system))].map((system) => [
      `\`${system}\``,
      ...cells.map((rows) => {
        const row = rows.find((row) => row.system === system)
        return row === undefined ? "–" : `${short(row.itemsPerSecond)} (${ratio(row.ratioToRaw)})`
      })
    ])
  )
}

const shortName = ({ chunk, itemBytes, streams }: Cell): string => `${streams} × ${chunk} × ${sizeName(itemBytes)}`

/** A rate with three digits. */
const short = (rate: number): string =>
  rate >= 1e6 ? `${(rate / 1e6).toPrecision(3)} M` : rate >= 1e4 ? `${(rate / 1e3).toPrecision(3)} k` : rate.toFixed(0)
