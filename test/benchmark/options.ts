/**
 * The curves behind the defaults of three options: what the bytes API does at several values of each.
 *
 * `node test/benchmark/options.ts [--option writeFlattenLimit|inlineHandlerDuration|optimisticSpinDuration] [--rounds
 * 5] [--seconds 0.5] [--json] [--save]`
 *
 * Each value has processes of its own, some twenty at a time. Every round goes from value to value, and the next one in
 * the opposite direction; the first warms up and is not counted. Medians of the others are printed.
 *
 * `writeFlattenLimit`, the same on both sides: payloads below it are copied, the others are queued by reference. To
 * copy takes the longer the more bytes there are; a reference takes a buffer and two writes of its own, however many
 * there are. A payload is treated alike by all limits above it, and alike by all others. Their differences among
 * themselves are noise; the last table compares the two kinds.
 *
 * `inlineHandlerDuration`: one connection floods the server, and its handlers answer at once, but keep the event loop
 * for 20 µs each. Another, in a process of its own, makes one call after the other: how long do those take, how late
 * does a timer of 1 ms fire in the server's process, and what does it cost the flood? The last column is the rate of
 * handlers that take no time, without another connection: there a limit has nothing to give, and should cost nothing.
 *
 * `optimisticSpinDuration`: a client with calls in flight goes round its event loop in place of sleeping. It gains the
 * time that it takes to wake a process up. It pays with CPU: a whole core, for as long as it spins. Where there is no
 * core to spare, that is taken from others, the server included if it runs on the same machine, and calls get slower.
 * What is gained depends on how deeply the machine's cores sleep, so the figures of one machine say little of another.
 * They are also those of a client that does nothing but call a server that answers at once, where what is longer than
 * an answer takes is hardly ever used up: a client that makes a call now and then, to a server that takes its time,
 * spins for all of the duration after each, for nothing.
 */
import { setTimeout as sleep } from "node:timers/promises"
import { Latencies } from "./meter.ts"
import { Child, type Command, type Figures, Pair, type Report } from "./pair.ts"
import { block, save } from "./results.ts"
import { count, fail, median, number, parse, sizeName, table } from "./support.ts"
import type { BytesOptions } from "./systems/effectCall.ts"

/** How much is measured. */
interface Extent {
  readonly rounds: number
  readonly seconds: number
}

/** What came out of it, for programs and for people. */
interface Curve {
  readonly results: object
  readonly text: string
}

/** What a run comes to: calls per second, latencies, and the CPU of one call. */
interface Round {
  readonly rate: number
  readonly p50Micros: number
  readonly p99Micros: number
  readonly clientMicros: number
  readonly serverMicros: number
}

const roundOf = ({ calls, clientCpuMicros, latencies, seconds, serverCpuMicros }: Figures): Round => {
  const measured = new Latencies(latencies, calls)
  return {
    rate: calls / seconds,
    p50Micros: measured.percentile(0.5),
    p99Micros: measured.percentile(0.99),
    clientMicros: clientCpuMicros / calls,
    serverMicros: serverCpuMicros / calls
  }
}

/** The median of one figure. */
const medianOf = <Name extends string>(rounds: ReadonlyArray<Readonly<Record<Name, number>>>, name: Name): number =>
  median(rounds.map((round) => round[name]))

/** Runs each in every round, and gives the results of the rounds that count. The order changes from round to round. */
const interleave = async <A, B>(
  all: ReadonlyArray<A>,
  { rounds }: Extent,
  run: (one: A) => Promise<B>
): Promise<ReadonlyArray<ReadonlyArray<B>>> => {
  const measured = all.map((one) => ({ one, rounds: new Array<B>() }))
  for (let round = 0; round <= rounds; round++) {
    for (const { one, rounds } of round % 2 === 0 ? measured : measured.toReversed()) {
      const figures = await run(one)
      if (round > 0) rounds.push(figures)
    }
  }
  return measured.map(({ rounds }) => rounds)
}

const start = async (options: BytesOptions, bytes: number): Promise<Pair> => {
  const pair = await Pair.start("bytes", [], options)
  await pair.check([bytes])
  return pair
}

/** The rounds of each of these options, in processes that end with them. */
const measure = async (
  options: ReadonlyArray<BytesOptions>,
  extent: Extent,
  callers: number,
  bytes: number
): Promise<ReadonlyArray<ReadonlyArray<Round>>> => {
  const pairs = await Promise.all(options.map((each) => start(each, bytes)))
  const rounds = await interleave(
    pairs,
    extent,
    async (pair) => roundOf(await pair.run(callers, bytes, extent.seconds))
  )
  for (const pair of pairs) pair.kill()
  return rounds
}

/** The CPU of a call. */
const micros = (figure: number): string => figure.toFixed(2)

const limits = [0, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576]
const payloads = [1024, 4096, 16_384, 32_768, 65_536, 262_144]
const limitCallers = 64

/**
 * The median of what copying comes to ÷ what references do, within a round, and of all limits that do the one or the
 * other.
 */
const copiedToReferenced = (
  bytes: number,
  ofLimits: ReadonlyArray<ReadonlyArray<Round>>,
  name: "rate" | "clientMicros" | "serverMicros"
): number => {
  const ofKind = (round: number, isCopied: boolean) =>
    median(limits.flatMap((limit, i) => bytes < limit === isCopied ? [ofLimits[i]?.[round]?.[name] ?? NaN] : []))
  return median((ofLimits[0] ?? []).map((_, round) => ofKind(round, true) / ofKind(round, false)))
}

const writeFlattenLimit = async (extent: Extent): Promise<Curve> => {
  const options = limits.map((writeFlattenLimit) => ({ client: { writeFlattenLimit }, server: { writeFlattenLimit } }))
  const measured: Array<{ readonly bytes: number; readonly ofLimits: ReadonlyArray<ReadonlyArray<Round>> }> = []
  for (const bytes of payloads) {
    measured.push({ bytes, ofLimits: await measure(options, extent, limitCallers, bytes) })
  }
  const values = measured.flatMap(({ bytes, ofLimits }) =>
    ofLimits.map((rounds, i) => {
      const limit = limits[i] ?? NaN
      return {
        bytes,
        limit,
        isCopied: bytes < limit,
        rate: medianOf(rounds, "rate"),
        clientMicros: medianOf(rounds, "clientMicros"),
        serverMicros: medianOf(rounds, "serverMicros")
      }
    })
  )
  const ratios = measured.map(({ bytes, ofLimits }) => ({
    bytes,
    rate: copiedToReferenced(bytes, ofLimits, "rate"),
    clientMicros: copiedToReferenced(bytes, ofLimits, "clientMicros"),
    serverMicros: copiedToReferenced(bytes, ofLimits, "serverMicros")
  }))
  const text = [
    `writeFlattenLimit, at ${limitCallers} callers; CPU is that of one call\n`,
    table(
      ["payload", "limit", "payloads are", "calls/s", "client CPU µs", "server CPU µs"],
      values.map(({ bytes, clientMicros, isCopied, limit, rate, serverMicros }) => [
        sizeName(bytes),
        sizeName(limit),
        isCopied ? "copied" : "referenced",
        rate.toFixed(0),
        micros(clientMicros),
        micros(serverMicros)
      ])
    ),
    "\ncopied ÷ referenced\n",
    table(
      ["payload", "calls/s", "client CPU", "server CPU"],
      ratios.map(({ bytes, clientMicros, rate, serverMicros }) => [
        sizeName(bytes),
        ...[rate, clientMicros, serverMicros].map((ratio) => ratio.toFixed(3))
      ])
    )
  ].join("\n")
  return { results: { callers: limitCallers, values, ratios }, text }
}

/** In ms, as JSON can tell a child. */
const inlineDurations = [0, 0.1, 0.5, 1, 5, 20, "Infinity"] as const
const flood = { callers: 256, bytes: 16, burnMicros: 20 }
/** How long before and after the other client's calls the flood goes on, in seconds. */
const margin = 0.2

const run = async (client: Child, callers: number, seconds: number) => {
  const command: Command = { _tag: "Run", callers, payloadBytes: flood.bytes, seconds }
  const report = await client.ask<Report>(command)
  return report._tag === "Ran" ? report : fail("a client did not do what it was asked to")
}

/** What a flood leaves to another client, for each of these options. */
const measureFlood = async (options: ReadonlyArray<BytesOptions>, extent: Extent) => {
  const all = await Promise.all(options.map(async (each) => {
    const pair = await start({ ...each, burnMicros: flood.burnMicros }, flood.bytes)
    const other = new Child(["client", pair.system, pair.address])
    await other.receive()
    return { pair, other }
  }))
  const rounds = await interleave(all, extent, async ({ other, pair }) => {
    const flooding = run(pair.client, flood.callers, extent.seconds + 2 * margin)
    await sleep(margin * 1000)
    const [calls, late] = await Promise.all([
      run(other, 1, extent.seconds),
      pair.server.timerLateness(extent.seconds)
    ])
    const flooded = await flooding
    const latencies = new Latencies(calls.latencies, calls.calls)
    return {
      p50Micros: latencies.percentile(0.5),
      p99Micros: latencies.percentile(0.99),
      timerP99Micros: late.percentile(0.99),
      floodRate: flooded.calls / flooded.seconds
    }
  })
  for (const { other, pair } of all) {
    other.kill()
    pair.kill()
  }
  return rounds
}

const inlineHandlerDuration = async (extent: Extent): Promise<Curve> => {
  const options = inlineDurations.map((inlineHandlerDuration) => ({ server: { inlineHandlerDuration } }))
  const flooded = await measureFlood(options, extent)
  const plain = await measure(options, extent, flood.callers, flood.bytes)
  const values = inlineDurations.map((duration, i) => {
    const ofFlood = flooded[i] ?? []
    return {
      duration,
      p50Micros: medianOf(ofFlood, "p50Micros"),
      p99Micros: medianOf(ofFlood, "p99Micros"),
      timerP99Micros: medianOf(ofFlood, "timerP99Micros"),
      floodRate: medianOf(ofFlood, "floodRate"),
      plainRate: medianOf(plain[i] ?? [], "rate")
    }
  })
  const text = [
    `inlineHandlerDuration; the flood is ${flood.callers} callers of ${flood.bytes} bytes, and handlers take ` +
    `${flood.burnMicros} µs, but in the last column\n`,
    table(
      [
        "inline, ms",
        "other's p50 µs",
        "other's p99 µs",
        "timer late, p99 µs",
        "flood, calls/s",
        "handlers take nothing, calls/s"
      ],
      values.map(({ duration, floodRate, p50Micros, p99Micros, plainRate, timerP99Micros }) => [
        String(duration),
        p50Micros.toFixed(0),
        p99Micros.toFixed(0),
        timerP99Micros.toFixed(0),
        floodRate.toFixed(0),
        plainRate.toFixed(0)
      ])
    )
  ].join("\n")
  return { results: { flood, values }, text }
}

/** In ms. */
const spinDurations = [0, 0.02, 0.05, 0.1, 0.5, 2]
const spinCallers = [1, 16]
const spinBytes = 16

const optimisticSpinDuration = async (extent: Extent): Promise<Curve> => {
  const options = spinDurations.map((optimisticSpinDuration) => ({ client: { optimisticSpinDuration } }))
  const measured: Array<{ readonly callers: number; readonly ofDurations: ReadonlyArray<ReadonlyArray<Round>> }> = []
  for (const callers of spinCallers) {
    measured.push({ callers, ofDurations: await measure(options, extent, callers, spinBytes) })
  }
  const values = measured.flatMap(({ callers, ofDurations }) =>
    ofDurations.map((rounds, i) => ({
      callers,
      duration: spinDurations[i] ?? NaN,
      rate: medianOf(rounds, "rate"),
      p50Micros: medianOf(rounds, "p50Micros"),
      p99Micros: medianOf(rounds, "p99Micros"),
      clientMicros: medianOf(rounds, "clientMicros"),
      serverMicros: medianOf(rounds, "serverMicros")
    }))
  )
  const text = [
    `optimisticSpinDuration, with ${spinBytes} bytes; CPU is that of one call\n`,
    table(
      ["callers", "spin, µs", "calls/s", "p50 µs", "p99 µs", "client CPU µs", "server CPU µs"],
      values.map(({ callers, clientMicros, duration, p50Micros, p99Micros, rate, serverMicros }) => [
        String(callers),
        (duration * 1000).toFixed(0),
        rate.toFixed(0),
        p50Micros.toFixed(0),
        p99Micros.toFixed(0),
        micros(clientMicros),
        micros(serverMicros)
      ])
    )
  ].join("\n")
  return { results: { bytes: spinBytes, values }, text }
}

const curves = new Map(Object.entries({ writeFlattenLimit, inlineHandlerDuration, optimisticSpinDuration }))

const main = async () => {
  const values = parse({
    option: { type: "string" },
    rounds: { type: "string", default: "5" },
    seconds: { type: "string", default: "0.5" },
    json: { type: "boolean", default: false },
    save: { type: "boolean", default: false }
  })
  const names = values.option === undefined ? [...curves.keys()] : [values.option]
  const extent = { rounds: count("rounds", values.rounds), seconds: number("seconds", values.seconds) }
  const results: Record<string, object> = {}
  const texts: Array<string> = []
  for (const [index, name] of names.entries()) {
    const measure = curves.get(name) ??
      fail(`--option: expected one of ${[...curves.keys()].join(", ")}; got "${name}"`)
    const curve = await measure(extent)
    results[name] = curve.results
    texts.push(curve.text)
    if (!values.json) console.log(`${index > 0 ? "\n\n" : ""}${curve.text}`)
  }
  if (values.json) console.log(JSON.stringify({ ...extent, ...results }))
  if (values.save) save("options", block(texts.join("\n\n\n")))
}

await main()
