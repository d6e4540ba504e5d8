/**
 * Compares two builds of effect-call: the CPU of a call, on both sides together.
 *
 * `node test/benchmark/compare.ts DIST_A DIST_B [--systems bytes,typed] [--concurrency 1,64] [--payload 16]
 * [--rounds 12] [--seconds 1] [--json]`
 *
 * Each round has new processes, since no two runs are compiled alike. Within a round the builds take turns of a quarter
 * of the seconds each, so that a noisy machine hits both. The ratio is B's to A's: the mean of the rounds' ratios (of
 * their logarithms), with the interval in which it is with 95 % confidence. Compare a build with itself to see what the
 * machine can tell apart.
 */
import { statSync } from "node:fs"
import { resolve } from "node:path"
import { pathToFileURL } from "node:url"
import { parseArgs } from "node:util"
import { meanRatio } from "./interval.ts"
import { type Figures, Pair } from "./pair.ts"
import { count, counts, fail, number, systemNames, table } from "./support.ts"
import type { SystemName } from "./systems.ts"

const options = {
  systems: { type: "string", default: "bytes,typed" },
  concurrency: { type: "string", default: "1,64" },
  payload: { type: "string", default: "16" },
  rounds: { type: "string", default: "12" },
  seconds: { type: "string", default: "1" },
  json: { type: "boolean", default: false }
} as const

const parse = () => {
  try {
    return parseArgs({ options, allowPositionals: true })
  } catch (error) {
    return fail(error instanceof Error ? error.message : String(error))
  }
}

const { positionals, values } = parse()
const [a, b] = positionals
if (a === undefined || b === undefined || positionals.length !== 2) fail("expected two folders of builds")

/** The options of Node with which a process uses a build. */
const using = (dist: string): ReadonlyArray<string> => {
  const folder = resolve(dist)
  if (statSync(`${folder}/index.js`, { throwIfNoEntry: false }) === undefined) fail(`there is no ${folder}/index.js`)
  const hooks = new URL("build.ts", import.meta.url)
  hooks.searchParams.set("dist", pathToFileURL(`${folder}/`).href)
  return ["--import", hooks.href]
}

const builds = [using(a ?? ""), using(b ?? "")] as const
const names = systemNames("systems", values.systems)
const concurrencies = counts("concurrency", values.concurrency)
const payloads = counts("payload", values.payload)
const rounds = count("rounds", values.rounds)
const seconds = number("seconds", values.seconds)

const turns = 4
/** Compilers need many calls before they are done, and a single caller makes few. */
const warmUpCallers = 64

/** The CPU of a call in µs, in the builds' order. */
type Round = readonly [a: number, b: number]

const microsOf = (figures: ReadonlyArray<Figures>): number => {
  const sum = (of: (figures: Figures) => number) => figures.reduce((total, figures) => total + of(figures), 0)
  return sum((figures) => figures.clientCpuMicros + figures.serverCpuMicros) / sum(({ calls }) => calls)
}

const measureRound = async (system: SystemName, callers: number, bytes: number, round: number): Promise<Round> => {
  const pairs = await Promise.all(builds.map((execArgv) => Pair.start(system, execArgv)))
  try {
    const sides = pairs.map((pair) => ({ pair, figures: new Array<Figures>() }))
    // Neither is always the one that comes after the other.
    const inTurn = async (turn: number, run: (side: (typeof sides)[number]) => Promise<unknown>) => {
      for (const side of (round + turn) % 2 === 0 ? sides : sides.toReversed()) await run(side)
    }
    await inTurn(0, async ({ pair }) => {
      await pair.check([bytes])
      await pair.run(warmUpCallers, bytes, seconds)
    })
    for (let turn = 1; turn <= turns + 1; turn++) {
      await inTurn(turn, async ({ figures, pair }) => {
        const run = await pair.run(callers, bytes, seconds / turns)
        if (turn > 1) figures.push(run)
      })
    }
    const [ofA = NaN, ofB = NaN] = sides.map(({ figures }) => microsOf(figures))
    return [ofA, ofB]
  } finally {
    for (const pair of pairs) pair.kill()
  }
}

const results: Array<{
  readonly system: SystemName
  readonly callers: number
  readonly bytes: number
  readonly microsA: number
  readonly microsB: number
  readonly ratio: number
  readonly lowest: number
  readonly highest: number
}> = []
for (const bytes of payloads) {
  for (const callers of concurrencies) {
    for (const system of names) {
      process.stderr.write(`${system}, ${callers} callers × ${bytes} B\n`)
      const measured: Array<Round> = []
      for (let round = 0; round < rounds; round++) measured.push(await measureRound(system, callers, bytes, round))
      const mean = (side: 0 | 1) => measured.reduce((total, round) => total + round[side], 0) / rounds
      results.push({
        system,
        callers,
        bytes,
        microsA: mean(0),
        microsB: mean(1),
        ...meanRatio(measured.map(([a, b]) => b / a))
      })
    }
  }
}

console.log(
  values.json ? JSON.stringify({ rounds, seconds, results }) : table(
    ["system", "callers", "bytes", "A, µs a call", "B, µs a call", "B ÷ A", "95 % interval"],
    results.map((row) => [
      row.system,
      String(row.callers),
      String(row.bytes),
      row.microsA.toFixed(2),
      row.microsB.toFixed(2),
      row.ratio.toFixed(3),
      `${row.lowest.toFixed(3)} to ${row.highest.toFixed(3)}`
    ])
  )
)
