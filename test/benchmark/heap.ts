/**
 * What a large application heap in both processes does to the rate of calls.
 *
 * `node test/benchmark/heap.ts [--systems raw,bytes] [--heap-mb 200] [--callers 64] [--bytes 65536] [--seconds 2]
 * [--rounds 5] [--json] [--save]`
 *
 * Each system runs twice, with and without so many megabytes of live objects in its client and its server. Rounds go
 * from one to the other, so that a noisy machine hits all alike. What is printed are medians; the ratios are those
 * within a round: with the heap ÷ without.
 *
 * Target: the rate of `bytes` falls by at most 10 %, to a ratio of 0.90.
 */
import { type Figures, Pair } from "./pair.ts"
import { block, save } from "./results.ts"
import { count, median, number, parse, systemNames, table } from "./support.ts"
import type { SystemName } from "./systems.ts"

/** What a run comes to. */
interface Round {
  readonly rate: number
  readonly clientMicros: number
  readonly serverMicros: number
}

const roundOf = ({ calls, clientCpuMicros, seconds, serverCpuMicros }: Figures): Round => ({
  rate: calls / seconds,
  clientMicros: clientCpuMicros / calls,
  serverMicros: serverCpuMicros / calls
})

const start = async (system: SystemName) => ({
  system,
  plain: await Pair.start(system, ["--expose-gc"]),
  full: await Pair.start(system, ["--expose-gc"]),
  rounds: new Array<{ readonly plain: Round; readonly full: Round }>()
})

const main = async () => {
  const values = parse({
    systems: { type: "string", default: "raw,bytes" },
    "heap-mb": { type: "string", default: "200" },
    callers: { type: "string", default: "64" },
    bytes: { type: "string", default: "65536" },
    seconds: { type: "string", default: "2" },
    rounds: { type: "string", default: "5" },
    json: { type: "boolean", default: false },
    save: { type: "boolean", default: false }
  })
  const names = systemNames("systems", values.systems)
  const megabytes = number("heap-mb", values["heap-mb"])
  const callers = count("callers", values.callers)
  const bytes = count("bytes", values.bytes)
  const seconds = number("seconds", values.seconds)
  const rounds = count("rounds", values.rounds)

  const measured = await Promise.all(names.map(start))
  for (const { full, plain } of measured) {
    for (const pair of [plain, full]) {
      await pair.check([bytes])
    }
    // One process after the other: memory is what they would take from each other.
    await full.client.fillHeap(megabytes)
    await full.server.fillHeap(megabytes)
  }
  // The first round warms up and is not counted.
  for (let round = 0; round <= rounds; round++) {
    for (const { full, plain, rounds } of measured) {
      const run = async (pair: Pair) => roundOf(await pair.run(callers, bytes, seconds))
      // Neither is always the one that comes after the other.
      const first = await run(round % 2 === 0 ? plain : full)
      const second = await run(round % 2 === 0 ? full : plain)
      if (round > 0) rounds.push(round % 2 === 0 ? { plain: first, full: second } : { plain: second, full: first })
    }
  }
  for (const { full, plain } of measured) {
    plain.kill()
    full.kill()
  }

  const results = measured.map(({ rounds, system }) => {
    const ratio = (name: keyof Round) => median(rounds.map(({ full, plain }) => full[name] / plain[name]))
    return {
      system,
      rate: median(rounds.map(({ plain }) => plain.rate)),
      rateWithHeap: median(rounds.map(({ full }) => full.rate)),
      ratio: ratio("rate"),
      clientCpuRatio: ratio("clientMicros"),
      serverCpuRatio: ratio("serverMicros")
    }
  })
  if (values.json) return console.log(JSON.stringify({ megabytes, callers, bytes, seconds, rounds, systems: results }))
  const title = `${callers} callers with ${bytes} bytes each, with and without ${megabytes} MB of live objects`
  const figures = table(
    ["system", "calls/s without", "with", "ratio", "client CPU, ratio", "server CPU, ratio"],
    results.map((result) => [
      result.system,
      result.rate.toFixed(0),
      result.rateWithHeap.toFixed(0),
      result.ratio.toFixed(3),
      result.clientCpuRatio.toFixed(3),
      result.serverCpuRatio.toFixed(3)
    ])
  )
  const text = `${title}\n\n${figures}`
  console.log(text)
  if (values.save) save("heap", block(text))
}

await main()
