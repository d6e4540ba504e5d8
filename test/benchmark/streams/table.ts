/**
 * Measures the table of streams: systems at full speed, one after the other in each round.
 */
import { count, fail } from "../support.ts"
import { Contest, type StreamFigures } from "./pair.ts"
import { type Cell, type Peaks, type StreamRow, streamRow } from "./report.ts"
import { type StreamSystemName } from "./systems.ts"

export interface TableSettings {
  readonly systems: ReadonlyArray<StreamSystemName>
  readonly cells: ReadonlyArray<Cell>
  readonly rounds: number
  readonly seconds: number
}

/** What the whole table is. */
export const allCells = "16:1:1,16:1:64,16:256:1,16:256:64,4096:16:64,65536:1:1,65536:1:64"

/** What a quick run measures of it. */
export const quickCells = "16:1:64,4096:16:64"

/** Cells as `bytes:chunk:streams`, separated by commas. Others end the program. */
export const cellsOf = (option: string, text: string): ReadonlyArray<Cell> =>
  text.split(",").map((cell) => {
    const parts = cell.split(":")
    if (parts.length !== 3) fail(`--${option}: expected bytes:chunk:streams, got "${cell}"`)
    const [itemBytes = NaN, chunk = NaN, streams = NaN] = parts.map((part) => count(option, part))
    return { itemBytes, chunk, streams }
  })

/** Compilers need a while before they are done. */
const warmUpSeconds = 1
/** Before each measurement the windows have to be full. */
const leadSeconds = 0.15
const checkedChunks = 40

export interface TableOfStreams {
  readonly rows: ReadonlyArray<StreamRow>
  readonly problems: ReadonlyArray<string>
}

const measureCell = async (cell: Cell, settings: TableSettings): Promise<TableOfStreams> => {
  const { chunk, itemBytes, streams } = cell
  const { rounds, seconds, systems } = settings
  const feed = { itemBytes, chunk, chunks: Infinity, counted: false }
  const contest = await Contest.start(systems)
  const what = `${streams} streams of ${itemBytes} B in chunks of ${chunk}`
  try {
    await contest.each((pair) => pair.check({ ...feed, chunks: checkedChunks }, streams), what)
    await contest.each((pair) => pair.run(feed, streams, warmUpSeconds / 2, warmUpSeconds / 2), what)
    const samples = new Map(systems.map((system) => [system, new Array<StreamFigures>()]))
    for (let round = 0; round < rounds; round++) {
      await contest.each(
        async (pair) => samples.get(pair.system)?.push(await pair.run(feed, streams, leadSeconds, seconds)),
        what
      )
    }
    const peaks = new Map<StreamSystemName, Peaks>()
    await contest.each(async (pair) => {
      const { client, server } = await pair.moment()
      peaks.set(pair.system, { client: client.peakRss, server: server.peakRss })
    }, what)
    const baseline = contest.systems.includes("raw") ? samples.get("raw") : undefined
    const rows = contest.systems.map((system) =>
      streamRow(system, cell, samples.get(system) ?? [], baseline, peaks.get(system))
    )
    return { rows, problems: contest.problems }
  } finally {
    contest.kill()
  }
}

/** Cells one after the other, each with new processes. */
export const measureTable = async (settings: TableSettings): Promise<TableOfStreams> => {
  const measured: Array<TableOfStreams> = []
  for (const cell of settings.cells) {
    process.stderr.write(`${cell.streams} streams, ${cell.itemBytes} B, chunks of ${cell.chunk}\n`)
    measured.push(await measureCell(cell, settings))
  }
  return {
    rows: measured.flatMap(({ rows }) => rows),
    problems: measured.flatMap(({ problems }) => problems)
  }
}
