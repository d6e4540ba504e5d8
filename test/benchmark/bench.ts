/**
 * The echo benchmark: effect-call compared with raw `node:net` and its peers. README.md in this folder explains the
 * figures. The table of streams follows (`streams.ts` measures it alone).
 *
 * `npm run bench -- [--systems raw,bytes,…] [--concurrency 1,16,64,256] [--payload 16,4096,65536] [--rounds 5]
 * [--seconds 1] [--quick] [--variants] [--json] [--svg FILE] [--save]`
 *
 * Client and server are processes of their own, fresh ones for each concurrency and payload. Callers call again when
 * they are answered. Rounds go from system to system, so that a noisy machine hits all alike; figures are medians of
 * the rounds, and ratios medians of the ratios within a round. A system whose answers are not what was sent is not
 * timed, and the benchmark fails.
 *
 * Streams are measured by all runs but those of variants and of chosen systems, callers or payloads.
 * `--variants` measures effect-call in more ways, at 64 callers. `--save` writes the tables into `results/`. A run that
 * is neither quick nor of variants also writes the chart.
 */
import { writeFileSync } from "node:fs"
import { chart } from "./chart.ts"
import { type Figures, Pair } from "./pair.ts"
import { markdown, type Peaks, type Row, rowOf, text } from "./report.ts"
import { save } from "./results.ts"
import { streamMarkdown, streamText } from "./streams/report.ts"
import { streamSystemNames } from "./streams/systems.ts"
import { allCells, cellsOf, measureTable, quickCells } from "./streams/table.ts"
import { count, counts, number, parse, systemNames } from "./support.ts"
import type { SystemName } from "./systems.ts"

const values = parse({
  systems: { type: "string" },
  concurrency: { type: "string" },
  payload: { type: "string" },
  rounds: { type: "string" },
  seconds: { type: "string" },
  quick: { type: "boolean", default: false },
  variants: { type: "boolean", default: false },
  json: { type: "boolean", default: false },
  svg: { type: "string" },
  save: { type: "boolean", default: false }
})

const quick = {
  systems: "raw,bytes,typed,effect-rpc,grpc-js",
  concurrency: "1,64",
  payload: "16,4096",
  rounds: "3",
  seconds: "0.3"
}
const full = {
  systems: "raw,raw-loaded,bytes,typed,typed-traced,effect-rpc,effect-rpc-traced,effect-rpc-ndjson," +
    "effect-rpc-ndjson-traced,grpc-js,connect-node,undici",
  concurrency: "1,16,64,256",
  payload: "16,4096,65536",
  rounds: "5",
  seconds: "1"
}
const variants = {
  ...full,
  systems: "raw,raw-tls,bytes,typed,bytes-timeout,bytes-uncounted,bytes-unix,typed-unix,typed-traced-unix,bytes-mtls," +
    "typed-mtls,typed-traced-mtls",
  concurrency: "64"
}
const pageName = values.quick ? "quick" : values.variants ? "variants" : "echo"
const asked = { ...{ echo: full, quick, variants }[pageName], ...values }
const names = systemNames("systems", asked.systems)
const concurrencies = counts("concurrency", asked.concurrency)
const payloads = counts("payload", asked.payload)
const rounds = count("rounds", asked.rounds)
const seconds = number("seconds", asked.seconds)

const warmUpCallers = 64

/** Of a longer run of streams nothing more is learned. */
const mostStreamSeconds = 0.6

const progress = (text: string) => process.stderr.write(`${text}\n`)

/** What was not timed, and why. */
const problems: Array<string> = []

/** Measures all systems at one concurrency and one payload. */
const measure = async (callers: number, payloadBytes: number): Promise<ReadonlyArray<Row>> => {
  const pairs = await Promise.all(names.map((name) => Pair.start(name)))
  const samples = new Map<SystemName, Array<Figures>>()
  let timed = pairs
  /** Asks each system for something. One that fails is not timed any more, and the others are. */
  const each = async (ask: (pair: Pair) => Promise<unknown>) => {
    for (const pair of timed) {
      const problem = await ask(pair).then(
        () => undefined,
        (error: unknown) => error instanceof Error ? error.message : "it failed"
      )
      if (problem === undefined) continue
      process.exitCode = 1
      progress(`${pair.system} is not timed: ${problem}`)
      problems.push(`\`${pair.system}\` was not timed with ${callers} callers and ${payloadBytes} B: ${problem}`)
      pair.kill()
      timed = timed.filter((other) => other !== pair)
    }
  }
  try {
    await each((pair) => pair.check([0, 1, payloadBytes]))
    // Compilers need many calls before they are done, and a single caller makes few.
    await each((pair) => pair.run(warmUpCallers, payloadBytes, seconds))
    await each((pair) => pair.run(callers, payloadBytes, seconds))
    for (const { system } of timed) samples.set(system, [])
    for (let round = 0; round < rounds; round++) {
      await each(async (pair) => samples.get(pair.system)?.push(await pair.run(callers, payloadBytes, seconds)))
    }
    const peaks = new Map<SystemName, Peaks>()
    await each(async ({ client, server, system }) =>
      peaks.set(system, { client: await client.usage(), server: await server.usage() })
    )
    return timed.map(({ system }) =>
      rowOf(
        system,
        callers,
        payloadBytes,
        samples.get(system) ?? [],
        peaks.get(system),
        samples.get("raw"),
        peaks.get("raw")
      )
    )
  } finally {
    for (const pair of timed) pair.kill()
  }
}

const rows: Array<Row> = []
for (const payloadBytes of payloads) {
  for (const callers of concurrencies) {
    progress(`${callers} callers × ${payloadBytes} B`)
    rows.push(...await measure(callers, payloadBytes))
  }
}
const isWhole = !values.variants && values.systems === undefined && values.concurrency === undefined &&
  values.payload === undefined
const streams = isWhole
  ? await measureTable({
    systems: streamSystemNames,
    cells: cellsOf("cells", values.quick ? quickCells : allCells),
    rounds,
    seconds: Math.min(seconds, mostStreamSeconds)
  })
  : undefined
if (streams !== undefined && streams.problems.length > 0) process.exitCode = 1
if (values.json) console.log(JSON.stringify({ rows, ...(streams === undefined ? {} : { streams: streams.rows }) }))
else console.log([text(rows), ...(streams === undefined ? [] : [streamText(streams.rows)])].join("\n\n"))
if (values.svg !== undefined) writeFileSync(values.svg, chart(rows))
if (values.save) {
  save(pageName, [markdown(rows), ...problems].join("\n\n"))
  if (streams !== undefined && !values.quick) {
    save("streams", [streamMarkdown(streams.rows), ...streams.problems].join("\n\n"))
  }
  if (pageName === "echo") writeFileSync(new URL("echo.svg", import.meta.url), chart(rows))
}
