/**
 * The echo benchmark: effect-call beside raw `node:net` and its peers. What the figures say, and what not, is in docs/performance.md.
 *
 * `npm run bench -- [--systems raw,bytes,…] [--concurrency 1,16,64,256] [--payload 16,4096,65536] [--rounds 5] [--seconds 1] [--quick]
 * [--json] [--svg FILE]`
 *
 * Client and server are processes of their own, fresh ones for each concurrency and payload. Callers call again when they are answered.
 * Rounds go from system to system, so that a noisy machine hits all alike; figures are medians of the rounds, and ratios medians of the
 * ratios within a round. A system whose answers are not what was sent is not timed, and the benchmark fails.
 */
import { writeFileSync } from "node:fs"
import { parseArgs } from "node:util"
import { chart } from "./chart.ts"
import { type Figures, Pair } from "./pair.ts"
import { type Row, rowOf, table } from "./report.ts"
import { isSystemName, type SystemName, systems } from "./systems.ts"

const { values } = parseArgs({
  options: {
    systems: { type: "string" },
    concurrency: { type: "string" },
    payload: { type: "string" },
    rounds: { type: "string" },
    seconds: { type: "string" },
    quick: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
    svg: { type: "string" }
  }
})

/** What is asked for with a wrong option. */
const usage = (problem: string): never => {
  console.error(problem)
  process.exit(1)
}

const numbersOf = (name: string, text: string): ReadonlyArray<number> =>
  text.split(",").map((part) => {
    const number = Number(part)
    return part.trim() !== "" && number >= 0 ? number : usage(`--${name}: expected numbers of 0 or more, got "${part}"`)
  })

const numberOf = (name: string, text: string): number => {
  const [number = 0, ...more] = numbersOf(name, text)
  return number > 0 && more.length === 0 ? number : usage(`--${name}: expected one number over 0, got "${text}"`)
}

const systemsOf = (text: string): ReadonlyArray<SystemName> =>
  text.split(",").map((name) =>
    isSystemName(name) ? name : usage(`--systems: expected some of ${Object.keys(systems).join(", ")}, got "${name}"`)
  )

const quick = {
  systems: "raw,bytes,typed,effect-rpc,grpc-js",
  concurrency: "1,64",
  payload: "16,4096",
  rounds: "3",
  seconds: "0.3"
}
const full = {
  systems: Object.keys(systems).join(","),
  concurrency: "1,16,64,256",
  payload: "16,4096,65536",
  rounds: "5",
  seconds: "1"
}
const asked = { ...(values.quick ? quick : full), ...values }
const names = systemsOf(asked.systems)
const rounds = numberOf("rounds", asked.rounds)
const seconds = numberOf("seconds", asked.seconds)

const progress = (text: string) => process.stderr.write(`${text}\n`)

/** Measures all systems at one concurrency and one payload. */
const measure = async (callers: number, payloadBytes: number): Promise<ReadonlyArray<Row>> => {
  const pairs = await Promise.all(names.map((name) => Pair.start(name)))
  const timed: Array<Pair> = []
  const samples = new Map<SystemName, Array<Figures>>()
  try {
    for (const pair of pairs) {
      const problem = await pair.check([0, 1, payloadBytes])
      if (problem === undefined) {
        timed.push(pair)
        samples.set(pair.system, [])
      } else {
        process.exitCode = 1
        progress(`${pair.system} is not timed: ${problem}`)
      }
    }
    // The first round warms up and is not counted.
    for (let round = 0; round <= rounds; round++) {
      for (const pair of timed) {
        const figures = await pair.run(callers, payloadBytes, seconds)
        if (round > 0) samples.get(pair.system)?.push(figures)
      }
    }
    const usages = await Promise.all(
      timed.map(async ({ client, server }) => ({ client: await client.usage(), server: await server.usage() }))
    )
    const baseline = samples.get("raw")
    const rss = (system: SystemName) => usages[timed.findIndex((pair) => pair.system === system)]
    return timed.map(({ system }) =>
      rowOf(system, callers, payloadBytes, samples.get(system) ?? [], rss(system), baseline, rss("raw"))
    )
  } finally {
    for (const pair of pairs) pair.kill()
  }
}

const rows: Array<Row> = []
for (const payloadBytes of numbersOf("payload", asked.payload)) {
  for (const callers of numbersOf("concurrency", asked.concurrency)) {
    progress(`${callers} callers × ${payloadBytes} B`)
    rows.push(...await measure(callers, payloadBytes))
  }
}
console.log(values.json ? JSON.stringify({ rows }) : table(rows))
if (values.svg !== undefined) writeFileSync(values.svg, chart(rows))
