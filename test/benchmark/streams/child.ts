/**
 * One half of a system of streams: serves, or opens streams and makes calls as it is told. Started by
 * {@link StreamPair}.
 */
import { setTimeout as sleep } from "node:timers/promises"
import { Latencies } from "../meter.ts"
import { answerParent, cpuMicros, liveMemory } from "../support.ts"
import type { Question, Snapshot, Timed, Tried } from "./pair.ts"
import { type Feed, itemOf, type Opened, served, type StreamClient, type Take } from "./system.ts"
import { isStreamSystemName, streamSystems } from "./systems.ts"

const done = { _tag: "Done" }

const [role, name = "", address = ""] = process.argv.slice(2)
if (!isStreamSystemName(name)) throw new Error(`there is no system ${name}`)
const system = await streamSystems[name]()

/** One client for each connection. */
const clients: Array<StreamClient> = []
const client = (): StreamClient => {
  const [first] = clients
  if (first === undefined) throw new Error("there is no connection")
  return first
}

/** What the consumers have taken, and what was wrong with it. */
let items = 0
let problem: string | undefined
let opened: ReadonlyArray<Opened> = []
let stopping = false

/** So many items are compared byte by byte after each start. Of those that follow, the length is looked at. */
const compared = 200

const taking = (feed: Feed): Take => {
  const expected = itemOf(feed.itemBytes)
  let left = compared
  return (count, item) => {
    items += count
    const isRight = left > 0 ? left-- > 0 && Buffer.compare(item, expected) === 0 : item.length === expected.length
    if (!isRight) problem ??= `an item of ${feed.itemBytes} bytes came as ${item.length} others`
    return true
  }
}

const takingFor = (feed: Feed, seconds: number): Take => {
  const take = taking(feed)
  const end = performance.now() + seconds * 1000
  return (count, item) => take(count, item) && performance.now() < end
}

const start = (feed: Feed, streams: number, takeSeconds: number) => {
  const take = takeSeconds === Infinity ? taking(feed) : takingFor(feed, takeSeconds)
  stopping = false
  opened = clients.map((client) => client.open(feed, streams, take))
  for (const { ended } of opened) {
    ended.catch((error: unknown) => {
      if (!stopping) problem ??= `a stream has failed: ${String(error)}`
    })
  }
}

const stop = async () => {
  stopping = true
  await Promise.all(opened.map(({ stop }) => stop()))
  opened = []
}

/** Whether bounded streams give all that they should. */
const check = async (feed: Feed, streams: number) => {
  items = 0
  const expected = feed.chunk * feed.chunks * streams
  await client().open(feed, streams, taking(feed)).ended
  if (items !== expected) problem ??= `${items} of ${expected} items have come`
}

const callBytes = 16

const checkedCall = async (bytes: number) => {
  const length = await client().call(bytes)
  if (length !== bytes) problem ??= `an answer of ${bytes} bytes had ${length}`
}

/** How long a call takes, where it takes no longer than that. */
const tryCall = async (seconds: number): Promise<Tried> => {
  const now = performance.now()
  const answered = await Promise.race([
    checkedCall(callBytes).then(() => true),
    sleep(seconds * 1000, false)
  ])
  return { millis: answered ? performance.now() - now : Infinity }
}

/** Makes calls one after the other. */
const timeCalls = async (seconds: number): Promise<Timed> => {
  const latencies = new Latencies()
  const end = performance.now() + seconds * 1000
  for (let now = performance.now(); now < end;) {
    await checkedCall(callBytes)
    const answered = performance.now()
    latencies.add(answered - now)
    now = answered
  }
  return { latencies: latencies.counts, count: latencies.total }
}

/** Opens streams of one item, one after the other: how long the items take. */
const timeFirstItems = async (seconds: number): Promise<Timed> => {
  const latencies = new Latencies()
  const feed: Feed = { itemBytes: callBytes, chunk: 1, chunks: 1, counted: false }
  const end = performance.now() + seconds * 1000
  while (performance.now() < end) {
    const before = latencies.total
    const now = performance.now()
    const { ended } = client().open(feed, 1, (_count, item) => {
      latencies.add(performance.now() - now)
      return item.length === callBytes
    })
    await ended
    if (latencies.total !== before + 1) problem ??= "a stream of one item has not given one"
  }
  return { latencies: latencies.counts, count: latencies.total }
}

const load = { goesOn: false, answers: 0, ended: Promise.resolve() }

/** One caller of answers of this size, until it is told to end. */
const startLoad = (bytes: number) => {
  load.goesOn = true
  load.ended = (async () => {
    while (load.goesOn) {
      await checkedCall(bytes)
      load.answers++
    }
  })()
  load.ended.catch((error: unknown) => {
    problem ??= `a large call has failed: ${String(error)}`
  })
}

const snapshot = (): Snapshot => {
  const { external, heapUsed, rss } = process.memoryUsage()
  return {
    items: role === "server" ? served.items : items,
    streams: served.streams,
    large: load.answers,
    micros: cpuMicros(),
    now: performance.now(),
    memory: { external, heapUsed, rss },
    peakRss: process.resourceUsage().maxRSS * 1024,
    problem
  }
}

const answer = async (question: Question): Promise<object> => {
  switch (question._tag) {
    case "Connect":
      while (clients.length < question.connections) clients.push(await system.connect(address))
      return done
    case "Check":
      await check(question.feed, question.streams)
      return snapshot()
    case "Start":
      start(question.feed, question.streams, question.takeSeconds)
      return done
    case "Stop":
      await stop()
      return snapshot()
    case "TryCall":
      return tryCall(question.seconds)
    case "TimeCalls":
      return timeCalls(question.seconds)
    case "TimeFirstItems":
      return timeFirstItems(question.seconds)
    case "StartLoad":
      startLoad(question.bytes)
      return done
    case "EndLoad":
      load.goesOn = false
      await load.ended
      return done
    case "Snapshot":
      return snapshot()
    case "LiveMemory":
      return liveMemory({ shrink: true })
  }
}

answerParent<Question>((question) =>
  answer(question).catch((error: unknown) => {
    problem ??= String(error)
    return snapshot()
  })
)
process.send?.(role === "server" ? await system.serve() : "ready")
