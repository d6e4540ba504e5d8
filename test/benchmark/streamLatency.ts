/**
 * How long calls take on a connection that carries streams and large answers, and how long the first item of a stream.
 *
 * `node test/benchmark/streamLatency.ts [--systems raw,raw-credit,…] [--rounds 5] [--seconds 1] [--quick] [--json]
 * [--save]`
 *
 * One caller makes calls of 16 bytes, one after the other: alone; beside 64 streams at full speed; and beside another
 * caller, whose answers have 16 MiB. Then streams of one item of 16 bytes are opened, one after the other. All on one
 * connection; client and server are processes of their own, and so the caller also waits for its own process, which
 * takes the items. Rounds go from system to system. Figures are medians of the rounds' percentiles, and the last
 * column is the median of the ratios within a round.
 */
import { setTimeout as sleep } from "node:timers/promises"
import type { Latencies } from "./meter.ts"
import { block, save } from "./results.ts"
import { Contest, figuresOf, pairedRatio, type StreamPair } from "./streams/pair.ts"
import { streamSystemNames, streamSystemsOf } from "./streams/systems.ts"
import { count, median, number, parse, sizeName, table } from "./support.ts"

const streams = 64
const largeBytes = 16 * 2 ** 20
/** How long the streams and the large calls run before calls are timed. */
const leadSeconds = 0.2

/** What the calls have beside them, and what was aimed at for effect-call, in ms. */
interface Case {
  readonly name: string
  readonly measure: (pair: StreamPair, seconds: number) => Promise<Round>
  readonly target?: readonly [p50: number, p99: number]
}

interface Round {
  readonly latencies: Latencies
  /** What went on beside the calls, in a second. */
  readonly beside: number
}

const alone: Case = {
  name: "nothing",
  measure: async (pair, seconds) => ({ latencies: await pair.timeCalls(seconds), beside: NaN })
}

const besideStreams = (itemBytes: number, chunk: number, target: readonly [p50: number, p99: number]): Case => ({
  name: `${streams} streams, ${sizeName(itemBytes)}, chunks of ${chunk}: items/s`,
  target,
  measure: async (pair, seconds) => {
    await pair.start({ itemBytes, chunk, chunks: Infinity, counted: false }, streams)
    await sleep(leadSeconds * 1000)
    const before = await pair.moment()
    const latencies = await pair.timeCalls(seconds)
    const { rate } = figuresOf(before, await pair.moment())
    await pair.stop()
    return { latencies, beside: rate }
  }
})

const besideLargeAnswers: Case = {
  name: `a caller of ${sizeName(largeBytes)}: answers/s`,
  target: [1.5, 8],
  measure: async (pair, seconds) => {
    await pair.startLoad(largeBytes)
    await sleep(leadSeconds * 1000)
    const { client: before } = await pair.moment()
    const latencies = await pair.timeCalls(seconds)
    const { client: after } = await pair.moment()
    await pair.endLoad()
    return { latencies, beside: (after.large - before.large) / (after.now - before.now) * 1000 }
  }
}

const firstItem: Case = {
  name: "nothing; the first item",
  measure: async (pair, seconds) => ({ latencies: await pair.timeFirstItems(seconds), beside: NaN })
}

const cases: ReadonlyArray<Case> = [
  alone,
  besideStreams(4096, 16, [1, 5]),
  besideStreams(16, 1, [4, 10]),
  besideStreams(16, 256, [4, 10]),
  besideLargeAnswers,
  firstItem
]

const ours = new Set<string>(["bytes", "typed"])

const values = parse({
  systems: { type: "string", default: streamSystemNames.join(",") },
  rounds: { type: "string" },
  seconds: { type: "string" },
  quick: { type: "boolean", default: false },
  json: { type: "boolean", default: false },
  save: { type: "boolean", default: false }
})
const systems = streamSystemsOf("systems", values.systems)
const rounds = count("rounds", values.rounds ?? (values.quick ? "2" : "5"))
const seconds = number("seconds", values.seconds ?? (values.quick ? "0.3" : "1"))

const problems: Array<string> = []
const samples = new Map<Case, ReadonlyMap<string, ReadonlyArray<Round>>>()
for (const each of cases) {
  process.stderr.write(`beside ${each.name}\n`)
  // A system that gets stuck in one case is measured in the others.
  const contest = await Contest.start(systems)
  try {
    const measured = new Map(systems.map((system) => [system, new Array<Round>()]))
    // The first round warms up and is not counted.
    for (let round = 0; round <= rounds; round++) {
      await contest.each(async (pair) => {
        const sample = await each.measure(pair, seconds)
        if (round > 0) measured.get(pair.system)?.push(sample)
      }, `calls beside ${each.name}`)
    }
    problems.push(...contest.problems)
    samples.set(each, new Map(contest.systems.map((system) => [system, measured.get(system) ?? []])))
  } finally {
    contest.kill()
  }
}

const percentiles = (rounds: ReadonlyArray<Round> | undefined, share: number) =>
  (rounds ?? []).map(({ latencies }) => latencies.percentile(share) / 1000)

const results = cases.flatMap((each) =>
  [...samples.get(each) ?? []].map(([system, rounds]) => ({
    beside: each.name,
    system,
    perSecond: median(rounds.map(({ beside }) => beside)),
    p50Millis: median(percentiles(rounds, 0.5)),
    p99Millis: median(percentiles(rounds, 0.99)),
    p50ToAlone: pairedRatio(percentiles(rounds, 0.5), percentiles(samples.get(alone)?.get(system), 0.5)),
    target: ours.has(system) ? each.target : undefined
  }))
)
if (problems.length > 0) process.exitCode = 1

const millis = (figure: number) => figure.toFixed(3)
const text = [
  table(
    ["beside the calls", "in a second", "system", "p50 ms", "p99 ms", "p50 ÷ alone", "target"],
    results.map((row, index) => [
      results[index - 1]?.beside === row.beside ? "" : row.beside,
      Number.isNaN(row.perSecond) ? "" : row.perSecond.toFixed(0),
      row.system,
      millis(row.p50Millis),
      millis(row.p99Millis),
      row.p50ToAlone.toFixed(2),
      row.target === undefined ? "" : `≤ ${row.target[0]}, ≤ ${row.target[1]}`
    ])
  ),
  ...problems
].join("\n\n")
console.log(values.json ? JSON.stringify({ rounds, seconds, results, problems }) : text)
if (values.save) save("streamLatency", block(text))
