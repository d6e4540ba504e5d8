/**
 * Whether processes grow while calls go on: RSS of client and server after each minute, and at the end against the
 * first.
 *
 * `node test/benchmark/growth.ts [--system bytes] [--callers 64] [--bytes 65536] [--minutes 10] [--seconds-per-sample
 * 60] [--samples 10] [--json] [--save]`
 *
 * A sample is the median of RSS as read every few seconds, since it goes up and down with garbage collection. There are
 * as many samples as fit into `--minutes`, unless `--samples` says how many: `--seconds-per-sample 5 --samples 4` is a
 * short run.
 */
import { Pair } from "./pair.ts"
import { block, save } from "./results.ts"
import { count, median, number, parse, systemName } from "./support.ts"

/** RSS is read so often, in seconds. The calls pause for that, for a moment. */
const secondsPerReading = 2

/** RSS in bytes, and how fast calls were. */
interface Sample {
  readonly seconds: number
  readonly rate: number
  readonly client: number
  readonly server: number
}

const takeSample = async (pair: Pair, callers: number, bytes: number, seconds: number): Promise<Sample> => {
  const readings = Math.max(1, Math.round(seconds / secondsPerReading))
  const client: Array<number> = []
  const server: Array<number> = []
  let calls = 0
  let elapsed = 0
  for (let i = 0; i < readings; i++) {
    const figures = await pair.run(callers, bytes, seconds / readings)
    calls += figures.calls
    elapsed += figures.seconds
    client.push((await pair.client.usage()).rss)
    server.push((await pair.server.usage()).rss)
  }
  return { seconds: elapsed, rate: calls / elapsed, client: median(client), server: median(server) }
}

const line = (cells: ReadonlyArray<string>): string => cells.map((cell) => cell.padStart(12)).join("")

const mebibytes = (bytes: number): string => (bytes / 2 ** 20).toFixed(1)

const main = async () => {
  const values = parse({
    system: { type: "string", default: "bytes" },
    callers: { type: "string", default: "64" },
    bytes: { type: "string", default: "65536" },
    minutes: { type: "string", default: "10" },
    "seconds-per-sample": { type: "string", default: "60" },
    samples: { type: "string" },
    json: { type: "boolean", default: false },
    save: { type: "boolean", default: false }
  })
  const { json } = values
  const system = systemName("system", values.system)
  const callers = count("callers", values.callers)
  const bytes = count("bytes", values.bytes)
  const minutes = number("minutes", values.minutes)
  const seconds = number("seconds-per-sample", values["seconds-per-sample"])
  const samples = values.samples === undefined
    ? Math.max(1, Math.floor(minutes * 60 / seconds))
    : count("samples", values.samples)

  const pair = await Pair.start(system)
  await pair.check([bytes])
  const lines: Array<string> = []
  /** Says a line at once, since the next one comes a minute later. */
  const say = (text: string) => {
    lines.push(text)
    if (!json) console.log(text)
  }
  say(`${callers} callers with ${bytes} bytes each, over ${system}; RSS in MiB\n`)
  say(line(["after", "client", "server", "calls/s"]))
  const taken: Array<Sample> = []
  while (taken.length < samples) {
    const sample = await takeSample(pair, callers, bytes, seconds)
    taken.push(sample)
    const after = `${(taken.length * seconds).toFixed(0)} s`
    say(line([after, mebibytes(sample.client), mebibytes(sample.server), sample.rate.toFixed(0)]))
  }
  pair.kill()
  const ratio = (half: "client" | "server") => (taken.at(-1)?.[half] ?? NaN) / (taken[0]?.[half] ?? NaN)
  const ratios = { client: ratio("client"), server: ratio("server") }
  say(line(["last ÷ first", ratios.client.toFixed(3), ratios.server.toFixed(3)]))
  if (json) {
    console.log(JSON.stringify({ system, callers, bytes, secondsPerSample: seconds, samples: taken, ratios }))
  }
  if (values.save) save("growth", block(lines.join("\n")))
}

await main()
