/**
 * The metrics of Connections and servers, under the names of OpenTelemetry, in Effect's `Metric`.
 *
 * A registry has one value for each series: a second one with the same name and attributes would replace the first. So
 * all Connections that call one endpoint share its {@link EndpointStats}, and all servers at one address share its
 * {@link ServerStats}. Each Connection or server is a source of the gauges. When the last source leaves, the gauges are
 * removed. The counters stay until {@link maxUnused} others are unused, too. So the next scrape finds the calls of a
 * closed Connection, but replicas that come and go do not accumulate.
 *
 * To count means to add to a number. The numbers are read when the metrics are exported (see `series.ts`). It does not
 * know what happens in a call, nor when.
 */
import * as Context from "effect/Context"
import * as Metric from "effect/Metric"
import { type ServerAddress, serverAddress } from "./address.ts"
import { CallsByMethod } from "./calls.ts"
import { type Attributes, type Described, SeriesSet } from "./series.ts"
import { StreamsByMethod } from "./streams.ts"

/** The number of endpoints, and of servers, that are remembered without a source. */
export const maxUnused = 64

/** The bytes of a connection. Its transport counts them. */
export interface Traffic {
  received: number
  sent: number
}

/** A source of the gauges of an endpoint. */
export interface ClientSource {
  readonly callsInFlight: number
  readonly streams: number
  readonly state: "Idle" | "Dialing" | "Active" | "Draining" | "Gone"
}

/** A source of the gauges of a server. */
export interface ServerSource {
  readonly callsInFlight: number
  readonly streams: number
  readonly connections: number
}

/** A gauge. It shows the sum of its sources. */
interface Gauge<Source> extends Described {
  readonly attributes?: Attributes
  readonly of: (source: Source) => number
}

/** The metrics of a client or a server. */
interface Metrics<Source> {
  readonly duration: Described
  readonly network: Described
  readonly items: Described
  readonly itemBytes: Described
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
  items: { name: "rpc.client.stream.items", description: "Items of clients' streams" },
  itemBytes: { name: "rpc.client.stream.io", description: "Bytes of the items of clients' streams", unit: "bytes" },
  gauges: [
    {
      name: "rpc.client.active_requests",
      description: "Calls that were sent and wait for their answer",
      of: ({ callsInFlight }) => callsInFlight
    },
    {
      name: "rpc.client.active_streams",
      description: "Streams that were opened and have not ended",
      of: ({ streams }) => streams
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
  items: { name: "rpc.server.stream.items", description: "Items of servers' streams" },
  itemBytes: { name: "rpc.server.stream.io", description: "Bytes of the items of servers' streams", unit: "bytes" },
  gauges: [
    {
      name: "rpc.server.active_requests",
      description: "Calls whose handlers run or wait to run",
      of: ({ callsInFlight }) => callsInFlight
    },
    {
      name: "rpc.server.active_streams",
      description: "Streams whose handlers run",
      of: ({ streams }) => streams
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

/** The numbers of one address. All its sources share them. */
class Stats<Source> implements Traffic {
  received = 0
  sent = 0
  readonly calls: CallsByMethod
  readonly streams: StreamsByMethod
  /** The key of the address. */
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
    this.streams = new StreamsByMethod(metrics.items, metrics.itemBytes, this.series, attributes)
    const { network } = metrics
    this.series.counter(network, { ...attributes, "network.io.direction": "transmit" }, () => this.sent)
    this.series.counter(network, { ...attributes, "network.io.direction": "receive" }, () => this.received)
  }

  /** Adds a source to the gauges. */
  enter(source: Source): void {
    this.sources.add(source)
    this.gauges ??= this.showGauges()
  }

  /** Removes a source from the gauges. Returns whether it was the last one. */
  leave(source: Source): boolean {
    if (!this.sources.delete(source) || this.sources.size > 0) return false
    this.gauges?.remove()
    this.gauges = undefined
    return true
  }

  /** Removes all of its series. */
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

/** The numbers that clients count at one endpoint. */
export class EndpointStats extends Stats<ClientSource> {
  dialFailures = 0

  constructor(context: Context.Context<never>, place: string, attributes: Attributes) {
    super(ofClient, context, place, attributes)
    this.series.counter(dialFailures, attributes, () => this.dialFailures)
  }
}

/** The numbers that servers count at one address. */
export class ServerStats extends Stats<ServerSource> {
  constructor(context: Context.Context<never>, place: string, attributes: Attributes) {
    super(ofServer, context, place, attributes)
  }
}

const attributesOf = (server: ServerAddress | undefined): Attributes => ({
  ...(server === undefined ? {} : { "server.address": server.address }),
  ...(server?.port === undefined ? {} : { "server.port": String(server.port) })
})

/** The stats of all addresses. The stats of unused addresses are kept for a while. */
class StatsByAddress<Source, S extends Stats<Source>> {
  private readonly make: (place: string, attributes: Attributes) => S
  private readonly all = new Map<string, S>()
  /** The stats without a source, in the order in which they lost their last source. */
  private readonly unused = new Set<S>()

  constructor(make: (place: string, attributes: Attributes) => S) {
    this.make = make
  }

  /** Adds a source to the stats of an address, or of no address. `release` removes it. */
  acquire(address: string | undefined, source: Source): S {
    // By the attributes, not by the address: a server counts as the same with and without TLS.
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

  /** Removes a source. Its calls that end later may still be counted. */
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

/** The numbers that all Connections of a process count. */
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

/** The numbers that all servers of a process count. */
export type ServerMetrics = StatsByAddress<ServerSource, ServerStats>

const byName = ([a = ""]: ReadonlyArray<string>, [b = ""]: ReadonlyArray<string>): number => a < b ? -1 : a > b ? 1 : 0

/** Makes a value once for each registry and each set of ambient attributes: the attributes belong to a series. */
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
    // Code without types may give values that are no text.
    const key = JSON.stringify(
      Object.entries<unknown>(attributes).map(([name, value]) => [name, String(value)]).toSorted(byName)
    )
    let value = inRegistry.get(key)
    if (value === undefined) {
      // Only the needed services: the value outlives the first context that asks for it.
      const own = Context.make(Metric.MetricRegistry, registry).pipe(
        Context.add(Metric.CurrentMetricAttributes, attributes)
      )
      value = make(own)
      inRegistry.set(key, value)
    }
    return value
  }
}

/** The metrics of the clients in a context. */
export const clientMetrics: (context: Context.Context<never>) => ClientMetrics = oncePerRegistry((context) =>
  new ClientMetrics(context)
)

/** The metrics of the servers in a context. */
export const serverMetrics: (context: Context.Context<never>) => ServerMetrics = oncePerRegistry((context) =>
  new StatsByAddress((place, attributes) => new ServerStats(context, place, attributes))
)
