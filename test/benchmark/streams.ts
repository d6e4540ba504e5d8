/**
 * The benchmark of streams: effect-call compared with raw `node:net` and its peers. README.md in this folder explains
 * the figures.
 *
 * `node test/benchmark/streams.ts [--systems raw,raw-credit,…] [--cells 16:1:64,…] [--rounds 5] [--seconds 0.6]
 * [--quick] [--json] [--save]`
 *
 * A cell is the bytes of an item, the items of a chunk, and the number of streams. The streams run from the server to
 * the client, without an end, on one connection; both are processes of their own, new ones for each cell. Rounds go
 * from system to system; figures are medians of the rounds, and ratios medians of the ratios within a round. Before the
 * timing, streams that end must give all their items, and give them right.
 *
 * `npm run bench` measures the same table after the echo.
 */
import { save } from "./results.ts"
import { streamMarkdown, streamText } from "./streams/report.ts"
import { streamSystemNames, streamSystemsOf } from "./streams/systems.ts"
import { allCells, cellsOf, measureTable, quickCells } from "./streams/table.ts"
import { count, number, parse } from "./support.ts"

const values = parse({
  systems: { type: "string", default: streamSystemNames.join(",") },
  cells: { type: "string" },
  rounds: { type: "string" },
  seconds: { type: "string" },
  quick: { type: "boolean", default: false },
  json: { type: "boolean", default: false },
  save: { type: "boolean", default: false }
})
const measured = await measureTable({
  systems: streamSystemsOf("systems", values.systems),
  cells: cellsOf("cells", values.cells ?? (values.quick ? quickCells : allCells)),
  rounds: count("rounds", values.rounds ?? (values.quick ? "3" : "5")),
  seconds: number("seconds", values.seconds ?? (values.quick ? "0.3" : "0.6"))
})
const { problems, rows } = measured
if (problems.length > 0) process.exitCode = 1
console.log(values.json ? JSON.stringify(measured) : streamText(rows))
if (values.save) save("streams", [streamMarkdown(rows), ...problems].join("\n\n"))
