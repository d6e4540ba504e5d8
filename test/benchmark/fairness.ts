/**
 * Whether one busy client leaves room for others, and for what else the server's process does.
 *
 * `node test/benchmark/fairness.ts [--systems raw,bytes] [--callers 256] [--bytes 16] [--seconds 2] [--rounds 5]
 * [--json] [--save]`
 *
 * One client floods a server on one connection. Another, in a process and on a connection of its own, makes one call
 * after the other: how long those take is measured, and at the same time how late a timer of 1 ms fires in the server's
 * process, with and without the flood. Medians of the rounds' percentiles are printed. `raw` shows what is Node's. Its
 * timers count in whole milliseconds, so that what is below one says little of them. A call may take longer without the
 * flood than with it, where cores that have fallen asleep have to wake up; with fewer than three free cores the
 * processes also wait for each other.
 */
import { setTimeout as sleep } from "node:timers/promises"
import { Latencies } from "./meter.ts"
import { Child, type Command, Pair, type Report } from "./pair.ts"
import { block, save } from "./results.ts"
import { count, fail, median, number, parse, systemNames, table } from "./support.ts"
import type { SystemName } from "./systems.ts"

/** How long before and after the other client's calls the flood goes on. */
const margin = 0.3

/** All in µs but the rate. */
interface Figures {
  readonly p50: number
  readonly p99: number
  readonly timerP99: number
  readonly timerMost: number
  /** The flood's calls in a second. */
  readonly floodRate: number
}

interface Processes {
  readonly server: Child
  readonly flood: Child
  readonly other: Child
}

const startProcesses = async (system: SystemName): Promise<Processes> => {
  const { address, client, server } = await Pair.start(system)
  const other = new Child(["client", system, address])
  await other.receive()
  return { server, flood: client, other }
}

const run = async (client: Child, callers: number, payloadBytes: number, seconds: number) => {
  const report = await client.ask<Report>({ _tag: "Run", callers, payloadBytes, seconds } satisfies Command)
  return report._tag === "Ran" ? report : fail("a client did not do what it was asked to")
}

const measure = async (
  { flood, other, server }: Processes,
  callers: number,
  bytes: number,
  seconds: number
): Promise<Figures> => {
  const flooding = callers === 0 ? undefined : run(flood, callers, bytes, seconds + 2 * margin)
  if (flooding !== undefined) await sleep(margin * 1000)
  const [calls, late] = await Promise.all([run(other, 1, bytes, seconds), server.timerLateness(seconds)])
  const flooded = await flooding
  const latencies = new Latencies(calls.latencies, calls.calls)
  return {
    p50: latencies.percentile(0.5),
    p99: latencies.percentile(0.99),
    timerP99: late.percentile(0.99),
    timerMost: late.percentile(1),
    floodRate: flooded === undefined ? 0 : flooded.calls / flooded.seconds
  }
}

const main = async () => {
  const values = parse({
    systems: { type: "string", default: "raw,bytes" },
    callers: { type: "string", default: "256" },
    bytes: { type: "string", default: "16" },
    seconds: { type: "string", default: "2" },
    rounds: { type: "string", default: "5" },
    json: { type: "boolean", default: false },
    save: { type: "boolean", default: false }
  })
  const names = systemNames("systems", values.systems)
  const callers = count("callers", values.callers)
  const bytes = count("bytes", values.bytes)
  const seconds = number("seconds", values.seconds)
  const rounds = count("rounds", values.rounds)

  const measured = await Promise.all(names.map(async (system) => ({
    system,
    processes: await startProcesses(system),
    quiet: new Array<Figures>(),
    flooded: new Array<Figures>()
  })))
  // The first round warms up and is not counted.
  for (let round = 0; round <= rounds; round++) {
    for (const { flooded, processes, quiet } of measured) {
      quiet[round] = await measure(processes, 0, bytes, seconds)
      flooded[round] = await measure(processes, callers, bytes, seconds)
    }
  }
  for (const { processes: { flood, other, server } } of measured) {
    flood.kill()
    other.kill()
    server.kill()
  }

  const results = measured.flatMap(({ flooded, quiet, system }) =>
    [{ flood: false, figures: quiet }, { flood: true, figures: flooded }].map(({ figures, flood }) => {
      const of = (name: keyof Figures) => median(figures.slice(1).map((figures) => figures[name]))
      return {
        system,
        flood,
        p50Micros: of("p50"),
        p99Micros: of("p99"),
        timerP99Micros: of("timerP99"),
        timerMostMicros: of("timerMost"),
        floodRate: of("floodRate")
      }
    })
  )
  if (values.json) return console.log(JSON.stringify({ callers, bytes, seconds, rounds, results }))
  const title =
    `one client floods the server, with ${callers} callers of ${bytes} bytes; another makes one call at a time`
  const millis = (micros: number) => `${(micros / 1000).toFixed(2)} ms`
  const figures = table(
    ["system", "flood, calls/s", "call p50", "call p99", "timer late, p99", "timer late, most"],
    results.map((result) => [
      result.system,
      result.flood ? result.floodRate.toFixed(0) : "none",
      millis(result.p50Micros),
      millis(result.p99Micros),
      millis(result.timerP99Micros),
      millis(result.timerMostMicros)
    ])
  )
  const text = `${title}\n\n${figures}`
  console.log(text)
  if (values.save) save("fairness", block(text))
}

await main()
