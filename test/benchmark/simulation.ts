/**
 * Clients that call replicas through balancers, in virtual time: nothing is dialed, nothing waits, and the same seed
 * gives the same figures.
 *
 * ```
 * arrivals (Poisson) ──▶ a client ──▶ its balancer ──▶ a replica: a queue before 4 workers ──▶ answered
 *                           ▲  its own view of each replica: calls pending, latency, weight       │
 *                           └─────────────────────────────────────────────────────────────────────┘
 * ```
 *
 * The load is open: calls come however slowly they are answered. A replica answers `workers` calls at a time, first
 * come first served, each in a time that is distributed exponentially. A client knows what a Connection knows: of its
 * own calls only. There is no network, no call is lost and none is given up.
 *
 * It is the code in `src` that runs here, since `dist` does not export how to pick at once.
 */
import { Context, Effect, Random } from "effect"
import * as Balancer from "../../src/Balancer.ts"
import * as Endpoint from "../../src/Endpoint.ts"
import { isImmediate, pickNow } from "../../src/internal/balancer/immediate.ts"
import { Latency } from "../../src/internal/client/latency.ts"

/** All times are in milliseconds. */
const meanService = 10
const workers = 4

/** So long a replica that is back answers more slowly, and has less weight. */
const warmup = 10_000
const coldSpeed = 0.25
const coldWeight = 0.1

/** How long an error takes of a replica that fails at once. */
const failsIn = 0.5

export interface Span {
  readonly from: number
  readonly to: number
}

export interface Scenario {
  readonly title: string
  /** How fast each replica is. */
  readonly speeds: ReadonlyArray<number>
  /** While the first one takes calls and answers none. */
  readonly stalls?: Span
  /** While the first one answers every call at once, with an error. */
  readonly fails?: Span
  /** While the first one is gone, after which it is back, cold. */
  readonly gone?: Span
}

/** A balancer of each client, by its number. */
export type Balancers = (client: number) => Effect.Effect<Balancer.Balancer>

export interface Contender {
  readonly make: Balancers
  /** Whether the endpoints say how fast they are. */
  readonly knowsSpeeds?: boolean
  /** Whether calls have keys. */
  readonly hasKeys?: boolean
}

export interface Run {
  readonly scenario: Scenario
  readonly contender: Contender
  readonly clients: number
  /** How long calls come. */
  readonly duration: number
  /** What comes before this does not count. */
  readonly settled: number
  /** Which part of what all replicas can do is asked for. */
  readonly load: number
  readonly seed: number
}

export interface Figures {
  readonly calls: number
  readonly p50: number
  readonly p99: number
  /** The most calls that a replica got, for its speed, relative to the mean; without the calls that failed. */
  readonly spread: number
  /** How many calls were sent to a replica while it stalled or failed. */
  readonly wasted: number
}

const even = Array.from({ length: 10 }, () => 1)

export const scenarios = {
  even: { title: "ten alike", speeds: even },
  speeds: { title: "of different speed", speeds: [0.5, 0.75, 0.75, 1, 1, 1, 1, 1, 1.5, 1.5] },
  stall: { title: "one stalls for 5 s", speeds: even, stalls: { from: 15_000, to: 20_000 } },
  fails: { title: "one fails for 5 s", speeds: even, fails: { from: 15_000, to: 20_000 } },
  pair: { title: "one of two fails for 5 s", speeds: [1, 1], fails: { from: 15_000, to: 20_000 } },
  restart: { title: "one restarts", speeds: even, gone: { from: 12_000, to: 16_000 } }
} satisfies Record<string, Scenario>

export const contenders = {
  roundRobin: { make: () => Balancer.roundRobin },
  random: { make: () => Balancer.sharded },
  weighted: { make: () => Balancer.weighted, knowsSpeeds: true },
  leastPending: { make: () => Balancer.leastPending },
  peakEwma: { make: () => Balancer.peakEwma },
  consistentHash: { make: () => Balancer.consistentHash, hasKeys: true },
  zoneAware: { make: (client) => Balancer.zoneAware(client % 2 === 0 ? "a" : "b", Balancer.leastPending) },
  subset: { make: (client) => Balancer.subset(5, { client: `client ${client}` }, Balancer.leastPending) }
} satisfies Record<string, Contender>

/** Random numbers that are the same in each run (mulberry32). */
const randomFrom = (seed: number) => {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/** The virtual time. */
interface Clock {
  now: number
}

const isWithin = (now: number, span: Span | undefined): boolean =>
  span !== undefined && span.from <= now && now < span.to

class Replica {
  readonly endpoint: Endpoint.Endpoint
  readonly speed: number
  readonly stalls: Span | undefined
  readonly fails: Span | undefined
  /** When it came back. */
  backAt = -Infinity
  calls = 0
  /** When each worker is done with what it was given. */
  private readonly free = new Float64Array(workers)

  constructor(endpoint: Endpoint.Endpoint, speed: number, scenario: Partial<Scenario>) {
    this.endpoint = endpoint
    this.speed = speed
    this.stalls = scenario.stalls
    this.fails = scenario.fails
  }

  /** How warm it is, from 0 to 1. */
  warmth(now: number): number {
    return Math.min(1, (now - this.backAt) / warmup)
  }

  isStalled(now: number): boolean {
    return isWithin(now, this.stalls)
  }

  isFailing(now: number): boolean {
    return isWithin(now, this.fails)
  }

  /** When a call that arrives now is answered. */
  answeredAt(now: number, work: number): number {
    if (this.isFailing(now)) return now + failsIn
    let worker = 0
    for (let i = 1; i < workers; i++) if ((this.free[i] ?? 0) < (this.free[worker] ?? 0)) worker = i
    let start = Math.max(now, this.free[worker] ?? 0)
    const { stalls } = this
    if (stalls !== undefined && this.isStalled(start)) start = stalls.to
    const warmth = this.warmth(start)
    const speed = warmth < 1 ? this.speed * (coldSpeed + (1 - coldSpeed) * warmth) : this.speed
    let end = start + work / speed
    if (stalls !== undefined && start < stalls.from && end > stalls.from) end += stalls.to - stalls.from
    this.free[worker] = end
    return end
  }
}

class View implements Balancer.EndpointView {
  readonly endpoint: Endpoint.Endpoint
  readonly state = "Active"
  readonly failuresInARow = 0
  readonly answers = new Latency()
  readonly replica: Replica
  callsPending = 0
  private readonly clock: Clock

  constructor(replica: Replica, clock: Clock) {
    this.endpoint = replica.endpoint
    this.replica = replica
    this.clock = clock
  }

  get latency(): number | undefined {
    return this.answers.at(this.clock.now, this.callsPending > 0)
  }

  get weight(): number {
    return (this.endpoint.weight ?? 1) * Math.max(coldWeight, this.replica.warmth(this.clock.now))
  }
}

interface Call {
  readonly view: View
  readonly sentAt: number
  readonly endsAt: number
}

/** The calls that are not answered yet, the next to be answered first: a binary heap. */
class Calls {
  private readonly heap: Array<Call> = []

  get next(): Call | undefined {
    return this.heap[0]
  }

  push(call: Call): void {
    const { heap } = this
    let at = heap.length
    for (
      let up = heap[(at - 1) >> 1];
      at > 0 && up !== undefined && up.endsAt > call.endsAt;
      up = heap[(at - 1) >> 1]
    ) {
      heap[at] = up
      at = (at - 1) >> 1
    }
    heap[at] = call
  }

  shift(): void {
    const { heap } = this
    const last = heap.pop()
    if (last === undefined || heap.length === 0) return
    let at = 0
    while (true) {
      let child = 2 * at + 1
      let down = heap[child]
      const other = heap[child + 1]
      if (down !== undefined && other !== undefined && other.endsAt < down.endsAt) down = heap[++child]
      if (down === undefined || down.endsAt >= last.endsAt) break
      heap[at] = down
      at = child
    }
    heap[at] = last
  }
}

export const simulate = ({ clients, contender, duration, load, scenario, seed, settled }: Run): Figures => {
  const random = randomFrom(seed)
  // Of its own: how often a balancer draws must not change which calls there are.
  const drawn = randomFrom(seed + 1)
  const context = Context.make(Random.Random, {
    nextDoubleUnsafe: drawn,
    nextIntUnsafe: () => Math.floor(drawn() * 2 ** 53)
  })
  const clock: Clock = { now: 0 }
  const replicas = scenario.speeds.map((speed, index) =>
    new Replica(
      Endpoint.withAttributes(Endpoint.tcp(`10.0.0.${index}:7000`), {
        weight: contender.knowsSpeeds === true ? speed : 1,
        zone: index % 2 === 0 ? "a" : "b"
      }),
      speed,
      index === 0 ? scenario : {}
    )
  )
  const balancers = Array.from({ length: clients }, (_, client) => {
    const balancer = Effect.runSync(contender.make(client))
    if (!isImmediate(balancer)) throw new Error("the balancer cannot pick at once")
    return balancer
  })
  let views = balancers.map(() =>
    new Map(replicas.map((replica) => [replica.endpoint.address, new View(replica, clock)]))
  )
  const update = (listed: ReadonlyArray<Replica>) => {
    // A view is kept as long as its endpoint is listed.
    views = views.map((known) =>
      new Map(listed.map((replica) => {
        const { address } = replica.endpoint
        return [address, known.get(address) ?? new View(replica, clock)]
      }))
    )
    const endpoints = listed.map(({ endpoint }) => endpoint)
    balancers.forEach((balancer, client) => balancer.update(endpoints, [...views[client]?.values() ?? []]))
  }
  update(replicas)

  const [first] = replicas
  const changes = scenario.gone === undefined || first === undefined ? [] : [
    { at: scenario.gone.from, make: () => update(replicas.slice(1)) },
    {
      at: scenario.gone.to,
      make: () => {
        first.backAt = clock.now
        update(replicas)
      }
    }
  ]

  const capacity = scenario.speeds.reduce((sum, speed) => sum + speed, 0) * workers / meanService
  const exponential = (mean: number) => -mean * Math.log(1 - random())
  const avoid: ReadonlySet<string> = new Set()
  const pending = new Calls()
  const latencies: Array<number> = []
  let wasted = 0
  let arrival = exponential(1 / (capacity * load))
  while (true) {
    const ended = pending.next
    const change = changes[0]
    const arrives = arrival < duration ? arrival : Infinity
    clock.now = Math.min(arrives, ended?.endsAt ?? Infinity, change?.at ?? Infinity)
    if (clock.now === Infinity) break
    if (clock.now === change?.at) {
      change.make()
      changes.shift()
      continue
    }
    if (ended !== undefined && clock.now === ended.endsAt) {
      pending.shift()
      const { endsAt, sentAt, view } = ended
      view.callsPending--
      view.answers.observe(endsAt - sentAt, endsAt)
      if (sentAt >= settled && !view.replica.isFailing(sentAt)) latencies.push(endsAt - sentAt)
      continue
    }
    const client = Math.floor(random() * clients)
    const key = BigInt(Math.floor(random() * 2 ** 53))
    const work = exponential(meanService)
    arrival += exponential(1 / (capacity * load))
    const endpoint = balancers[client]?.[pickNow](
      contender.hasKeys === true ? { avoid, shardKey: key } : { avoid },
      context
    )
    const view = endpoint === undefined ? undefined : views[client]?.get(endpoint.address)
    if (view === undefined) throw new Error("nothing was picked, or something that is not listed")
    if (view.callsPending++ === 0) view.answers.begin(clock.now)
    const { replica } = view
    if (clock.now >= settled && !replica.isFailing(clock.now)) replica.calls++
    if (replica.isStalled(clock.now) || replica.isFailing(clock.now)) wasted++
    pending.push({ view, sentAt: clock.now, endsAt: replica.answeredAt(clock.now, work) })
  }

  const sorted = Float64Array.from(latencies).sort()
  const quantile = (part: number) => sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))] ?? NaN
  const shares = replicas.map(({ calls, speed }) => calls / speed)
  return {
    calls: latencies.length,
    p50: quantile(0.5),
    p99: quantile(0.99),
    spread: Math.max(...shares) / (latencies.length / scenario.speeds.reduce((sum, speed) => sum + speed, 0)),
    wasted
  }
}
