/**
 * A server of streams and its client in processes of their own, and what they are asked.
 */
import { setTimeout as sleep } from "node:timers/promises"
import { Latencies } from "../meter.ts"
import { Child } from "../pair.ts"
import { median, type Memory } from "../support.ts"
import type { Feed } from "./system.ts"
import type { StreamSystemName } from "./systems.ts"

export type Question =
  | { readonly _tag: "Connect"; readonly connections: number }
  /** Streams that end by themselves: all their items have to come. */
  | { readonly _tag: "Check"; readonly feed: Feed; readonly streams: number }
  /** So many streams on each connection. Their consumers stop after `takeSeconds`. */
  | { readonly _tag: "Start"; readonly feed: Feed; readonly streams: number; readonly takeSeconds: number }
  | { readonly _tag: "Stop" }
  /** A call that may get no answer. */
  | { readonly _tag: "TryCall"; readonly seconds: number }
  | { readonly _tag: "TimeCalls"; readonly seconds: number }
  | { readonly _tag: "TimeFirstItems"; readonly seconds: number }
  | { readonly _tag: "StartLoad"; readonly bytes: number }
  | { readonly _tag: "EndLoad" }
  | { readonly _tag: "Snapshot" }
  /** Needs `--expose-gc`. */
  | { readonly _tag: "LiveMemory" }

/** What a process has done and used since it started. */
export interface Snapshot {
  /** Those that its consumers have taken, or that it has given where it is the server. */
  readonly items: number
  /** The streams that it has served. */
  readonly streams: number
  /** The large answers that it has got. */
  readonly large: number
  readonly micros: number
  /** By its own clock, in ms. */
  readonly now: number
  readonly memory: Memory
  readonly peakRss: number
  readonly problem: string | undefined
}

/** Latencies as {@link Latencies} counts them. */
export interface Timed {
  readonly latencies: Uint32Array
  readonly count: number
}

/** How long a call took: `Infinity` where it was given up. */
export interface Tried {
  readonly millis: number
}

/** What a run has measured. */
export interface StreamFigures {
  /** In a second. */
  readonly rate: number
  /** Of one item, in µs. */
  readonly clientMicros: number
  readonly serverMicros: number
}

/** Both ends at about the same time. */
export interface Moment {
  readonly client: Snapshot
  readonly server: Snapshot
}

const half = new URL("./child.ts", import.meta.url)

/** What does not answer for so long is stuck. */
const patience = 15_000

const within = async <A>(answer: Promise<A>, millis: number): Promise<A> => {
  const timer = new AbortController()
  const late = sleep(millis, undefined, { signal: timer.signal }).then(() => {
    throw new Error(`no answer in ${millis / 1000} s`)
  })
  try {
    return await Promise.race([answer, late])
  } finally {
    late.catch(() => {})
    timer.abort()
  }
}

/** A server and its client. What rejects leaves it in no state to go on. */
export class StreamPair {
  readonly system: StreamSystemName
  private readonly server: Child
  private readonly client: Child

  private constructor(system: StreamSystemName, server: Child, client: Child) {
    this.system = system
    this.server = server
    this.client = client
  }

  static async start(
    system: StreamSystemName,
    { connections = 1, execArgv }: { readonly connections?: number; readonly execArgv?: ReadonlyArray<string> } = {}
  ): Promise<StreamPair> {
    const server = new Child(["server", system], execArgv, half)
    const client = new Child(["client", system, await server.receive<string>()], execArgv, half)
    await client.receive()
    const pair = new StreamPair(system, server, client)
    await pair.settled({ _tag: "Connect", connections })
    return pair
  }

  private ask<A>(question: Question, millis: number = patience): Promise<A> {
    return within(this.client.ask<A>(question), millis)
  }

  /** Asks for something that may go wrong. */
  private async settled(question: Question): Promise<void> {
    const { problem } = await this.ask<Partial<Snapshot>>(question)
    if (problem !== undefined) throw new Error(problem)
  }

  check(feed: Feed, streams: number): Promise<void> {
    return this.settled({ _tag: "Check", feed, streams })
  }

  async start(feed: Feed, streams: number, takeSeconds = Infinity): Promise<void> {
    await this.ask({ _tag: "Start", feed, streams, takeSeconds })
  }

  stop(): Promise<void> {
    return this.settled({ _tag: "Stop" })
  }

  async moment(): Promise<Moment> {
    const question: Question = { _tag: "Snapshot" }
    const [client, server] = await Promise.all([
      this.ask<Snapshot>(question),
      within(this.server.ask<Snapshot>(question), patience)
    ])
    if (client.problem !== undefined) throw new Error(client.problem)
    return { client, server }
  }

  /** The rate of streams that are at full speed, and the CPU of an item. */
  async run(feed: Feed, streams: number, warmUp: number, seconds: number): Promise<StreamFigures> {
    await this.start(feed, streams)
    await sleep(warmUp * 1000)
    const before = await this.moment()
    await sleep(seconds * 1000)
    const after = await this.moment()
    await this.stop()
    return figuresOf(before, after)
  }

  async tryCall(seconds: number): Promise<number> {
    return (await this.ask<Tried>({ _tag: "TryCall", seconds })).millis
  }

  async timeCalls(seconds: number): Promise<Latencies> {
    const { count, latencies } = await this.ask<Timed>({ _tag: "TimeCalls", seconds }, seconds * 1000 + patience)
    return new Latencies(latencies, count)
  }

  async timeFirstItems(seconds: number): Promise<Latencies> {
    const { count, latencies } = await this.ask<Timed>({ _tag: "TimeFirstItems", seconds }, seconds * 1000 + patience)
    return new Latencies(latencies, count)
  }

  async startLoad(bytes: number): Promise<void> {
    await this.ask({ _tag: "StartLoad", bytes })
  }

  async endLoad(): Promise<void> {
    await this.settled({ _tag: "EndLoad" })
  }

  async liveMemory(): Promise<{ readonly client: Memory; readonly server: Memory }> {
    const question: Question = { _tag: "LiveMemory" }
    const [client, server] = await Promise.all([
      this.ask<Memory>(question, 4 * patience),
      this.server.ask<Memory>(question)
    ])
    return { client, server }
  }

  kill(): void {
    this.client.kill()
    this.server.kill()
  }
}

/** What was between two moments. The halves are asked at slightly different times, so each is counted by its own. */
export const figuresOf = (before: Moment, after: Moment): StreamFigures => {
  const items = after.client.items - before.client.items
  const rate = items / (after.client.now - before.client.now) * 1000
  const serverSeconds = (after.server.now - before.server.now) / 1000
  return {
    rate,
    clientMicros: (after.client.micros - before.client.micros) / items,
    serverMicros: (after.server.micros - before.server.micros) / serverSeconds / rate
  }
}

/** The medians of the rounds, and of the ratios to the other figures of the same round. */
export const pairedRatio = (
  rounds: ReadonlyArray<number>,
  baseline: ReadonlyArray<number>
): number => median(rounds.map((figure, round) => figure / (baseline[round] ?? NaN)))

/** Asks each of them in turn; one that fails is reported and ended, and the others go on. */
export class Contest {
  readonly problems: Array<string> = []
  private running: ReadonlyArray<StreamPair>

  private constructor(pairs: ReadonlyArray<StreamPair>) {
    this.running = pairs
  }

  static async start(
    systems: ReadonlyArray<StreamSystemName>,
    options?: Parameters<typeof StreamPair.start>[1]
  ): Promise<Contest> {
    return new Contest(await Promise.all(systems.map((system) => StreamPair.start(system, options))))
  }

  async each(ask: (pair: StreamPair) => Promise<unknown>, what: string): Promise<void> {
    for (const pair of this.running) {
      const problem = await ask(pair).then(
        () => undefined,
        (error: unknown) => error instanceof Error ? error.message : String(error)
      )
      if (problem === undefined) continue
      process.stderr.write(`${pair.system}, ${what}: ${problem}\n`)
      this.problems.push(`\`${pair.system}\`, ${what}: ${problem}`)
      pair.kill()
      this.running = this.running.filter((other) => other !== pair)
    }
  }

  get systems(): ReadonlyArray<StreamSystemName> {
    return this.running.map(({ system }) => system)
  }

  kill(): void {
    for (const pair of this.running) pair.kill()
  }
}
