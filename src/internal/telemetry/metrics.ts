/**
 * The metrics of Connections and servers, under OpenTelemetry's names, in Effect's `Metric`.
 *
 * A series has one value in a registry, and a second one registered under the same name and attributes would take its place. So all who
 * call one endpoint share its {@link EndpointStats}, however many Connections there are, and all who serve at one address its
 * {@link ServerStats}; each of them is a source of what its gauges show. When the last source leaves, the gauges go; what was counted
 * stays until {@link maxUnused} others have been left after it, so that the next scrape still finds the calls of a Connection that was
 * closed, and replicas that come and go do not pile up.
 *
 * What is counted is shown when it is read (see `series.ts`): counting costs an addition to a number.
 */
import * as Context from "effect/Context"
import * as Metric from "effect/Metric"
import { type ServerAddress, serverAddress } from "./address.ts"
import { CallsByMethod } from "./calls.ts"
import { type Attributes, type Described, SeriesSet } from "./series.ts"

/** How many endpoints, and how many servers, that nobody has any more are remembered. */
export const maxUnused = 64

/** The bytes of a connection, which its transport counts. */
export interface Traffic {
  received: number
  sent: number
}

/** What the gauges of an endpoint are read from: a peer. */
export interface ClientSource {
  readonly callsInFlight: number
  readonly state: "Idle" | "Dialing" | "Active" | "Draining" | "Gone"
}

/** What the gauges of a server are read from. */
export interface ServerSource {
  readonly callsInFlight: number
  readonly connections: number
}

/** Shows the sum of what the sources say. */
interface Gauge<Source> extends Described {
  readonly attributes?: Attributes
  readonly of: (source: Source) => number
}

/** What the metrics of a client or a server are. */
interface Metrics<Source> {
  readonly duration: Described
  readonly network: Described
  readonly gauges: ReadonlyArray<Gauge<Source>>
}

const inState = (state: Exclude<ClientSource["state"], "Gone">): Gauge<ClientSource> => ({
  name: "rpc.client.connection.count",
  description: "Connections of clients, by their state",
  attributes: { "rpc.connection.state": state.toLowerCase() },
  of: (source) => source.state === state ? 1 : 0
})

const clientDuration: Described = {
  name: "rpc.client.call.duration",
  description: "How long calls took, until their caller had the outcome",
  unit: "seconds"
}

const ofClient: Metrics<ClientSource> = {
  duration: clientDuration,
  network: { name: "rpc.client.network.io", description: "Bytes on clients' connections", unit: "bytes" },
  gauges: [
    {
      name: "rpc.client.active_requests",
      description: "Calls that were sent and wait for their answer",
      of: ({ callsInFlight }) => callsInFlight
    },
    inState("Idle"),
    inState("Dialing"),
    inState("Active"),
    inState("Draining")
  ]
}

const ofServer: Metrics<ServerSource> = {
  duration: {
    name: "rpc.server.call.duration",
    description: "How long calls took, from their arrival to their answer",
    unit: "seconds"
  },
  network: { name: "rpc.server.network.io", description: "Bytes on servers' connections", unit: "bytes" },
  gauges: [
    {
      name: "rpc.server.active_requests",
      description: "Calls whose handlers run or wait to run",
      of: ({ callsInFlight }) => callsInFlight
    },
    {
      name: "rpc.server.connection.count",
      description: "Open connections of servers",
      of: ({ connections }) => connections
    }
  ]
}

const dialFailures: Described = { name: "rpc.client.dial.failures", description: "Dials that failed" }

const resolverUpdates: Described = {
  name: "rpc.client.resolver.updates",
  description: "Sets of endpoints that were taken over from a resolver"
}

const resolverFailures: Described = {
  name: "rpc.client.resolver.failures",
  description: "Times that a resolver failed"
}

/** What is counted at one address, for all who are there. */
class Stats<Source> implements Traffic {
  received = 0
  sent = 0
  readonly calls: CallsByMethod
  /** What tells it from the others. */
  readonly place: string
  protected readonly series: SeriesSet
  protected readonly attributes: Attributes
  private readonly metrics: Metrics<Source>
  private readonly context: Context.Context<never>
  private readonly sources = new Set<Source>()
  private gauges: SeriesSet | undefined = undefined

  constructor(metrics: Metrics<Source>, context: Context.Context<never>, place: string, attributes: Attributes) {
    this.metrics = metrics
    this.context = context
    this.place = place
    this.attributes = attributes
    this.series = new SeriesSet(context)
    this.calls = new CallsByMethod(metrics.duration, this.series, attributes)
    const { network } = metrics
    this.series.counter(network, { ...attributes, "network.io.direction": "transmit" }, () => this.sent)
    this.series.counter(network, { ...attributes, "network.io.direction": "receive" }, () => this.received)
  }

  /** The gauges show this source, too. */
  enter(source: Source): void {
    this.sources.add(source)
    this.gauges ??= this.showGauges()
  }

  /** The gauges no longer show this source; true where it was the last. */
  leave(source: Source): boolean {
    if (!this.sources.delete(source) || this.sources.size > 0) return false
    this.gauges?.remove()
    this.gauges = undefined
    return true
  }

  /** Nothing of it is shown any more. */
  forget(): void {
    this.series.remove()
  }

  private showGauges(): SeriesSet {
    const series = new SeriesSet(this.context)
    for (const gauge of this.metrics.gauges) {
      series.gauge(gauge, { ...this.attributes, ...gauge.attributes }, () => {
        let sum = 0
        for (const source of this.sources) sum += gauge.of(source)
        return sum
      })
    }
    return series
  }
}

/** What clients count at one endpoint. */
export class EndpointStats extends Stats<ClientSource> {
  dialFailures = 0

  constructor(context: Context.Context<never>, place: string, attributes: Attributes) {
    super(ofClient, context, place, attributes)
    this.series.counter(dialFailures, attributes, () => this.dialFailures)
  }
}

/** What servers count at one address. */
export class ServerStats extends Stats<ServerSource> {
  constructor(context: Context.Context<never>, place: string, attributes: Attributes) {
    super(ofServer, context, place, attributes)
  }
}

const attributesOf = (server: ServerAddress | undefined): Attributes => ({
  ...(server === undefined ? {} : { "server.address": server.address }),
  ...(server?.port === undefined ? {} : { "server.port": String(server.port) })
})

/** The stats of all addresses. */
class StatsByAddress<Source, S extends Stats<Source>> {
  private readonly make: (place: string, attributes: Attributes) => S
  private readonly all = new Map<string, S>()
  /** Those that nobody has, in the order in which they were left. */
  private readonly unused = new Set<S>()

  constructor(make: (place: string, attributes: Attributes) => S) {
    this.make = make
  }

  /** Those of an address, or of no address, with one more source; `release` them when it is none any more. */
  acquire(address: string | undefined, source: Source): S {
    // By what is shown, and not by the address: a server is the same one with TLS and without.
    const attributes = attributesOf(address === undefined ? undefined : serverAddress(address))
    const place = JSON.stringify(attributes)
    let stats = this.all.get(place)
    if (stats === undefined) {
      stats = this.make(place, attributes)
      this.all.set(place, stats)
    }
    this.unused.delete(stats)
    stats.enter(source)
    return stats
  }

  /** A source is none any more. Calls of it that end later may still be counted. */
  release(stats: S, source: Source): void {
    if (!stats.leave(source)) return
    this.unused.add(stats)
    if (this.unused.size <= maxUnused) return
    for (const oldest of this.unused) {
      this.unused.delete(oldest)
      this.all.delete(oldest.place)
      return oldest.forget()
    }
  }
}

/** What all Connections of a process count. */
export class ClientMetrics {
  readonly endpoints: StatsByAddress<ClientSource, EndpointStats>
  /** The calls that ended without an endpoint. */
  readonly unreachable: CallsByMethod
  resolverUpdates = 0
  resolverFailures = 0

  constructor(context: Context.Context<never>) {
    this.endpoints = new StatsByAddress((place, attributes) => new EndpointStats(context, place, attributes))
    const series = new SeriesSet(context)
    this.unreachable = new CallsByMethod(clientDuration, series, {})
    series.counter(resolverUpdates, {}, () => this.resolverUpdates)
    series.counter(resolverFailures, {}, () => this.resolverFailures)
  }
}

/** What all servers of a process count. */
export type ServerMetrics = StatsByAddress<ServerSource, ServerStats>

const byName = ([a = ""]: ReadonlyArray<string>, [b = ""]: ReadonlyArray<string>): number => a < b ? -1 : a > b ? 1 : 0

/** What there is once for each registry, and in it for each set of ambient attributes, since those are part of what a series is. */
const oncePerRegistry = <A>(make: (context: Context.Context<never>) => A) => {
  const made = new WeakMap<Metric.MetricRegistry, Map<string, A>>()
  return (context: Context.Context<never>): A => {
    const registry = Context.get(context, Metric.MetricRegistry)
    const attributes = Context.get(context, Metric.CurrentMetricAttributes)
    let inRegistry = made.get(registry)
    if (inRegistry === undefined) {
      inRegistry = new Map()
      made.set(registry, inRegistry)
    }
    // Whatever their types say, they may be no texts.
    const key = JSON.stringify(
      Object.entries<unknown>(attributes).map(([name, value]) => [name, String(value)]).toSorted(byName)
    )
    let value = inRegistry.get(key)
    if (value === undefined) {
      // Only what is needed: it outlives whoever is the first to ask.
      const own = Context.make(Metric.MetricRegistry, registry).pipe(
        Context.add(Metric.CurrentMetricAttributes, attributes)
      )
      value = make(own)
      inRegistry.set(key, value)
    }
    return value
  }
}

/** The metrics of clients whose context this is. */
export const clientMetrics: (context: Context.Context<never>) => ClientMetrics = oncePerRegistry((context) =>
  new ClientMetrics(context)
)

/** The metrics of servers whose context this is. */
export const serverMetrics: (context: Context.Context<never>) => ServerMetrics = oncePerRegistry((context) =>
  new StatsByAddress((place, attributes) => new ServerStats(context, place, attributes))
)
