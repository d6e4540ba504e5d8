/**
 * How far a server is ahead of a consumer that stops, and what streams hold that nothing comes from.
 *
 * `node test/benchmark/streamMemory.ts [--systems raw,raw-credit,…] [--seconds 60] [--streams 10000]
 * [--connections 10] [--rounds 3] [--quick] [--json] [--save]`
 *
 * A consumer that stops takes one chunk, or items for a second at full speed, and then no more; its stream stays open.
 * Each second afterwards the server's count of what it has given is compared with the consumer's, a call is made on the
 * same connection, and the memory of both processes is read; for so many seconds. "grown" is the change from the first
 * of these readings to the last.
 *
 * An idle stream gives nothing, and its consumer waits for it in a fiber, where the system has fibers. What it takes is
 * what both processes have grown by, after garbage collection and divided by the streams: heap and memory outside of it
 * together, and RSS, which contains both and is less exact. The first round warms up and is not counted.
 */
import { setTimeout as sleep } from "node:timers/promises"
import { block, save } from "./results.ts"
import { type Moment, StreamPair } from "./streams/pair.ts"
import type { Feed } from "./streams/system.ts"
import { type StreamSystemName, streamSystemNames, streamSystemsOf } from "./streams/systems.ts"
import { count, median, type Memory, parse, sizeName, table } from "./support.ts"

const values = parse({
  systems: { type: "string", default: streamSystemNames.join(",") },
  seconds: { type: "string" },
  streams: { type: "string" },
  connections: { type: "string", default: "10" },
  rounds: { type: "string" },
  quick: { type: "boolean", default: false },
  json: { type: "boolean", default: false },
  save: { type: "boolean", default: false }
})
const systems = streamSystemsOf("systems", values.systems)
const seconds = count("seconds", values.seconds ?? (values.quick ? "3" : "60"))
const connections = count("connections", values.connections)
const streams = count("streams", values.streams ?? (values.quick ? "1000" : "10000"))
const rounds = count("rounds", values.rounds ?? (values.quick ? "1" : "3"))

const problems: Array<string> = []
/** What fails is reported, and the others are measured. */
const attempt = async <A>(system: string, what: string, measure: () => Promise<A>): Promise<A | undefined> => {
  try {
    return await measure()
  } catch (error) {
    const problem = `${system}, ${what}: ${error instanceof Error ? error.message : String(error)}`
    process.stderr.write(`${problem}\n`)
    problems.push(problem)
    return undefined
  }
}

/** What a call may take that is made beside a consumer that has stopped. */
const callSeconds = 2
/** How long what is under way may take to arrive. */
const settleSeconds = 1

/** The items, and for how long they are taken. */
const stops: ReadonlyArray<{ readonly feed: Feed; readonly takeSeconds: number }> = [0, 1].flatMap((takeSeconds) =>
  [16, 4096, 65_536].map((itemBytes) => ({
    feed: { itemBytes, chunk: 1, chunks: Infinity, counted: true },
    takeSeconds
  }))
)

/**
 * What effect-call may be ahead by, in bytes of items: a window, which is 64 KiB at first and 1 MiB at most, an item
 * and two messages (64 KiB of small items, 256 KiB of a large one).
 */
const aheadLimit = (itemBytes: number, takeSeconds: number): number =>
  (takeSeconds === 0 ? 2 ** 16 : 2 ** 20) + itemBytes + 2 * (itemBytes < 16_384 ? 2 ** 16 : 2 ** 18)

interface Stopped {
  readonly system: StreamSystemName
  readonly itemBytes: number
  readonly takeSeconds: number
  readonly taken: number
  readonly aheadItems: number
  readonly aheadLater: number
  readonly aheadLimitBytes: number
  /** The slowest of the calls. */
  readonly callMillis: number
  readonly client: Grown
  readonly server: Grown
}

interface Grown {
  readonly rss: number
  readonly rssLater: number
}

const aheadOf = ({ client, server }: Moment) => server.items - client.items

const watch = async (pair: StreamPair, itemBytes: number, takeSeconds: number): Promise<Stopped> => {
  const before = await pair.moment()
  let after = before
  let callMillis = 0
  for (let second = 0; second < seconds; second++) {
    // Of calls without an answer, one is enough.
    if (callMillis < Infinity) callMillis = Math.max(callMillis, await pair.tryCall(callSeconds))
    await sleep(1000)
    after = await pair.moment()
  }
  return {
    system: pair.system,
    itemBytes,
    takeSeconds,
    taken: before.client.items,
    aheadItems: aheadOf(before),
    aheadLater: aheadOf(after),
    aheadLimitBytes: aheadLimit(itemBytes, takeSeconds),
    callMillis,
    client: { rss: before.client.memory.rss, rssLater: after.client.memory.rss },
    server: { rss: before.server.memory.rss, rssLater: after.server.memory.rss }
  }
}

/** Consumers stop one after the other. All are then watched at once, since nothing happens any more. */
const measureStops = async (): Promise<ReadonlyArray<Stopped>> => {
  const watched: Array<Promise<Stopped | undefined>> = []
  for (const { feed, takeSeconds } of stops) {
    for (const system of systems) {
      const what = `a consumer that stops, ${feed.itemBytes} B`
      const pair = await attempt(system, what, async () => {
        const pair = await StreamPair.start(system)
        await pair.start(feed, 1, takeSeconds)
        await sleep((takeSeconds + settleSeconds) * 1000)
        return pair
      })
      if (pair === undefined) continue
      watched.push(
        attempt(system, what, () => watch(pair, feed.itemBytes, takeSeconds)).finally(() => pair.kill())
      )
    }
  }
  return (await Promise.all(watched)).filter((stopped) => stopped !== undefined)
}

/** What one idle stream takes, in bytes. */
interface Idle {
  readonly client: Share
  readonly server: Share
}

interface Share {
  readonly heap: number
  readonly rss: number
}

const idle: Feed = { itemBytes: 16, chunk: 1, chunks: 0, counted: false }

const share = (before: Memory, after: Memory): Share => ({
  heap: (after.heapUsed + after.external - before.heapUsed - before.external) / streams,
  rss: (after.rss - before.rss) / streams
})

const openIdle = async (pair: StreamPair): Promise<void> => {
  const { server: { streams: before } } = await pair.moment()
  await pair.start(idle, streams / connections)
  for (let waits = 0; waits < 100; waits++) {
    const { server } = await pair.moment()
    if (server.streams - before === streams) return
    await sleep(100)
  }
  throw new Error("not all streams were opened")
}

const measureIdle = async (system: StreamSystemName) => {
  const pair = await StreamPair.start(system, { connections, execArgv: ["--expose-gc"] })
  try {
    const shares: Array<Idle> = []
    for (let round = 0; round <= rounds; round++) {
      const before = await pair.liveMemory()
      await openIdle(pair)
      const after = await pair.liveMemory()
      await pair.stop()
      if (round === 0) continue
      shares.push({ client: share(before.client, after.client), server: share(before.server, after.server) })
    }
    const of = (side: keyof Idle, kind: keyof Share) => median(shares.map((idle) => idle[side][kind]))
    return {
      system,
      clientHeapBytes: of("client", "heap"),
      clientRssBytes: of("client", "rss"),
      serverHeapBytes: of("server", "heap"),
      serverRssBytes: of("server", "rss")
    }
  } finally {
    pair.kill()
  }
}

const stopped = await measureStops()
const idles: Array<Awaited<ReturnType<typeof measureIdle>>> = []
for (const system of systems) {
  const measured = await attempt(system, "idle streams", () => measureIdle(system))
  if (measured !== undefined) idles.push(measured)
}
if (problems.length > 0) process.exitCode = 1

const ours = new Set<string>(["bytes", "typed"])
const mega = (bytes: number) => (bytes / 1e6).toFixed(1)
const grown = ({ rss, rssLater }: Grown) =>
  `${mega(rss)} ${rssLater < rss ? "−" : "+"}${mega(Math.abs(rssLater - rss))}`
const stoppedTable = table(
  [
    "item, taken for",
    "system",
    "taken",
    "ahead, items",
    `after ${seconds} s`,
    "ahead, KiB",
    "target",
    "call, most",
    "client RSS MB, grown",
    "server RSS MB, grown"
  ],
  stopped.map((row) => [
    `${sizeName(row.itemBytes)}, ${row.takeSeconds === 0 ? "once" : `${row.takeSeconds} s`}`,
    row.system,
    String(row.taken),
    String(row.aheadItems),
    String(row.aheadLater),
    (row.aheadLater * row.itemBytes / 1024).toFixed(0),
    ours.has(row.system) ? `≤ ${(row.aheadLimitBytes / 1024).toFixed(0)}` : "",
    row.callMillis === Infinity ? "no answer" : `${row.callMillis.toFixed(1)} ms`,
    grown(row.client),
    grown(row.server)
  ])
)
const idleTable = table(
  ["system", "client heap", "client RSS", "server heap", "server RSS"],
  idles.map((row) => [
    row.system,
    row.clientHeapBytes.toFixed(0),
    row.clientRssBytes.toFixed(0),
    row.serverHeapBytes.toFixed(0),
    row.serverRssBytes.toFixed(0)
  ])
)
const text = [
  "a consumer that stops",
  stoppedTable,
  `${streams} idle streams on ${connections} connections: bytes for each`,
  idleTable,
  ...problems
].join("\n\n")
console.log(values.json ? JSON.stringify({ seconds, streams, connections, stopped, idles, problems }) : text)
if (values.save) save("streamMemory", block(text))
