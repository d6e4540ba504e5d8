/**
 * What a client is given and what it shows of itself: the options of a Connection and its state.
 *
 * The public module `Connection` re-exports these types. There is no code here: they must not know how a client works.
 */
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type { Balancer } from "../../Balancer.ts"

/**
 * Options of a Connection: how it dials, finds servers that do not answer, repeats calls, and limits what it sends.
 *
 * **When to use**
 *
 * Give them to `Connection.make` or `Connection.layer`. The defaults suit most programs. The most important time limit
 * is not here: a call has none unless it is given a `timeout` or a `Deadline`.
 *
 * **Details**
 *
 * All of them are optional. Durations are Effect's: a number of milliseconds, a text such as `"2 seconds"`, or a
 * `Duration`. Sizes are in bytes. An option that makes no sense is a defect of `Connection.make`, a `RangeError` that
 * names the option and what was expected.
 *
 * Not options: TCP sockets send small writes at once (`noDelay`), logs go to Effect's logger, and spans to Effect's
 * tracer.
 *
 * **Example** (Finding dead servers sooner)
 *
 * ```ts
 * import { Connection, Endpoint, Resolver } from "effect-call"
 *
 * const connection = Connection.make(Resolver.constant(Endpoint.tcp("orders.internal:7000")), {
 *   dialTimeout: "1 second",
 *   keepAlive: { interval: "2 seconds", timeout: "3 seconds" }
 * })
 * ```
 *
 * Source: `type ClientOptions` of the Go package, `balancer`, `optimisticSpinDuration` and `writeFlattenLimit`; the
 * others are ours.
 *
 * @category models
 * @since 0.1.0
 */
export interface ClientOptions {
  /**
   * Makes the balancer, which decides where each call goes. It is an effect, so that each Connection has its own
   * balancer. Default: `Balancer.roundRobin`; for `Connection.layer`, the ambient `Balancer.Factory`.
   */
  readonly balancer?: Effect.Effect<Balancer> | undefined
  /**
   * How long the event loop does not sleep after a call was sent, so that its answer is read without a wake-up.
   * Default: 0, the event loop sleeps as usual.
   *
   * **When to use**
   *
   * Only for a client with few callers on a machine with an idle core. There a single caller made twice as many calls
   * with 50 µs. With 20 µs it made no more than without. `test/benchmark/README.md` has the measurements.
   *
   * **Gotchas**
   *
   * Other work goes on in that time, but the process uses a whole core. Where cores are scarce, it takes them from the
   * servers.
   *
   * Source: the option of the Go package, where the goroutine of a call spins before it blocks.
   */
  readonly optimisticSpinDuration?: Duration.Input | undefined
  /**
   * The size from which arguments are sent without a copy. In bytes. Default: 16384.
   *
   * **Details**
   *
   * Smaller arguments are copied into the buffer that is written once in each turn of the event loop. Larger ones are
   * written from where they are. From 64 KiB on, copying is the slower way. Between 16 and 64 KiB there is hardly a
   * difference. `test/benchmark/README.md` has the measurements.
   *
   * **Gotchas**
   *
   * Smaller arguments are copied before the call suspends, and may be changed after that. Larger ones belong to the
   * Connection as soon as the call is made, and must not be changed any more.
   *
   * Source: the option of the Go package, where smaller writes are put into one buffer.
   */
  readonly writeFlattenLimit?: number | undefined
  /**
   * The size of the largest message to send or to take, without its headers except a request's 49 bytes. So arguments
   * may have 49 bytes less. In bytes, from 1024 to the default. Default: 104857600 (100 MiB).
   *
   * **Details**
   *
   * A call whose arguments or answer are larger fails with CommunicationError `TooLarge`; other calls on its connection
   * go on. The bytes of an answer that is too large are dropped as they arrive. An answer of more than 1 GiB ends the
   * connection.
   */
  readonly maxMessageSize?: number | undefined
  /**
   * How many bytes of requests may wait on a connection whose server is slow to read them. Further calls on it wait, in
   * their order, until their deadlines. In bytes. Default: 1048576 (1 MiB).
   *
   * **Details**
   *
   * Requests of more than 256 KiB, and the items of streams, do not count where the server understands streams: they
   * leave in parts, only as the server reads them, and other calls pass them.
   */
  readonly maxUnsentBytes?: number | undefined
  /**
   * How long it may take until a message that has begun to arrive is complete. Where it takes longer, the connection is
   * closed, and the calls in flight fail with CommunicationError `Lost`. Default: 1 minute.
   */
  readonly messageTimeout?: Duration.Input | undefined
  /**
   * How to find servers that are dead but have not closed their connections, for instance after a power cut. Default:
   * `interval` 10 seconds, `timeout` 10 seconds. `false` turns it off. It is off for the in-memory network of
   * `effect-call/testing`, unless it is given.
   *
   * **When to use**
   *
   * By default the calls of a dead server fail 20 seconds after its last word. Make the times shorter to know sooner,
   * but longer than a living server may stand still.
   *
   * **Details**
   *
   * A server that has sent nothing for `interval` is asked whether it is there. If it sends nothing for `timeout` after
   * that, the connection is closed, and the calls in flight fail with CommunicationError `Lost`. Any byte counts as a
   * sign of life, also a byte that the server reads of a large message. Time in which this process does not run is not
   * held against a server.
   *
   * **Gotchas**
   *
   * It does not find a server that lives and does not answer. A `timeout` of the call and `outlierEjection` are for
   * that.
   */
  readonly keepAlive?:
    | {
      /** How long a server may say nothing before it is asked whether it is there. Default: 10 seconds. */
      readonly interval?: Duration.Input | undefined
      /** How long a server that was asked may say nothing before its connection is closed. Default: 10 seconds. */
      readonly timeout?: Duration.Input | undefined
    }
    | false
    | undefined
  /**
   * How many bytes a server may send on a stream before the stream's consumer has taken them. In bytes, from 4096 to
   * 2147483647. Default: 1048576 (1 MiB).
   *
   * **When to use**
   *
   * Make it larger for streams over long distances: a stream carries at most a window in each round trip. Make it
   * smaller where consumers are slow and should not be ahead of the producers' state by much.
   *
   * **Details**
   *
   * It is the largest window. A stream begins with 64 KiB, or with this if it is less, and its window grows while its
   * consumer keeps up. A server may be ahead of it by one item: an item may begin while any of the window is left.
   */
  readonly streamWindow?: number | undefined
  /**
   * How large the windows of all streams of one connection should be together. While they are larger, each shrinks, to
   * 4 KiB at least. In bytes, 4096 or more. Default: 16777216 (16 MiB).
   *
   * **Details**
   *
   * The items that wait for slow consumers use at most about this much memory for each connection, if there are fewer
   * than 4096 streams on it.
   */
  readonly streamBudget?: number | undefined
  /**
   * How many retries the calls of the Connection may make together, so that they do not multiply the load of overloaded
   * servers. Default: `ratio` 0.1, `burst` 100.
   *
   * **Details**
   *
   * The budget begins at `burst`, which is also its maximum. Each call with a `retry` adds `ratio` to it, and each
   * retry takes 1 from it. When less than 1 is left, calls fail with their last error instead of being made again. So
   * when servers fail under their load, retries add a tenth to it, and not a multiple.
   */
  readonly retryBudget?: {
    /** How many retries each call with a `retry` adds to the budget, a number of 0 or more. Default: 0.1. */
    readonly ratio?: number | undefined
    /** How many retries there may be at first, and at most, a number of 0 or more. Default: 100. */
    readonly burst?: number | undefined
  } | undefined
  /**
   * When an endpoint is ejected, that is, gets no calls for a while: after `failures` failures in a row, for
   * `duration`. Default: `failures` 5, `duration` 5 seconds, `maxDuration` 30 seconds. `false` turns it off.
   *
   * **When to use**
   *
   * It finds servers that are there but do not answer in time, so that later calls go elsewhere. For it to work, give
   * calls a `timeout`.
   *
   * **Details**
   *
   * A failure is a call whose deadline has passed after it was sent, or while it waited for the connection or for room
   * on it; or a connection that was lost while calls were in flight.
   *
   * After `duration` the endpoint is dialed if it has no connection, and gets single calls, some time apart, until one
   * is answered. Each of these calls that fails doubles the time, up to `maxDuration`. At most half of the endpoints
   * are ejected at a time. A call that could go elsewhere does not wait for an ejected endpoint. A warning in the log
   * and `EndpointState.isEjected` tell of it.
   *
   * It is off for balancers with `stickiness`, such as `Balancer.sharded`, since a key has no other endpoint there. If
   * it is given, calls to an ejected endpoint fail with `Unreachable` at once.
   *
   * **Gotchas**
   *
   * A call that its caller interrupts does not count, and `Effect.timeout` interrupts it: give calls a `timeout` of
   * `CallOptions`, or a `Deadline`.
   */
  readonly outlierEjection?:
    | {
      /** How many failures in a row eject an endpoint, a whole number of 1 or more. Default: 5. */
      readonly failures?: number | undefined
      /** For how long it is ejected at first. Default: 5 seconds. */
      readonly duration?: Duration.Input | undefined
      /** For how long it is ejected at most, when trials have failed. Default: 30 seconds. */
      readonly maxDuration?: Duration.Input | undefined
    }
    | false
    | undefined
  /**
   * Whether calls, connections and bytes are counted in Effect's `Metric`. Default: true.
   *
   * **Details**
   *
   * | Metric | Kind, unit | Attributes |
   * |---|---|---|
   * | `rpc.client.call.duration` | histogram, seconds | `rpc.system.name`, `rpc.service`, `rpc.method`, `server.address`, `server.port`, `error.type` |
   * | `rpc.client.active_requests` | gauge | `server.address`, `server.port` |
   * | `rpc.client.connection.count` | gauge | `rpc.connection.state`, `server.address`, `server.port` |
   * | `rpc.client.network.io` | counter, bytes | `network.io.direction`, `server.address`, `server.port` |
   * | `rpc.client.active_streams` | gauge | `server.address`, `server.port` |
   * | `rpc.client.stream.items` | counter | `network.io.direction`, `rpc.system.name`, `rpc.service`, `rpc.method`, `server.address`, `server.port` |
   * | `rpc.client.stream.io` | counter, bytes | as those of `rpc.client.stream.items` |
   * | `rpc.client.dial.failures` | counter | `server.address`, `server.port` |
   * | `rpc.client.resolver.updates` | counter | |
   * | `rpc.client.resolver.failures` | counter | |
   *
   * The names are those of OpenTelemetry's conventions for RPC, where these have one.
   *
   * - The numbers of calls by outcome are the counts of the histogram by `error.type`, which is absent if the call
   *   succeeded. It is the tag of the method's own error (its name if it has no tag, `failure` if it has neither), the
   *   tag of a `CallError` (`CommunicationError`, `Unreachable`, `DeadlineExceeded`, `RemoteError`), or `canceled`.
   *   It has at most 128 characters.
   * - Each attempt of a `retry` counts as a call. A call that no endpoint could take has no `server.address`.
   * - Active requests are calls that were sent and wait for their answer. Calls that wait for an endpoint do not count.
   * - A stream counts in `rpc.client.call.duration` as a call does, when it ends. Its items, and their bytes, are
   *   counted while it runs. An item of a typed stream is a chunk of values. The conventions have no metrics for
   *   streams: those that they had were removed.
   * - `rpc.connection.state` is `idle`, `dialing`, `active` or `draining`. `network.io.direction` is `transmit` or
   *   `receive`.
   * - `server.address` is a host or the path of a Unix socket, which has no `server.port`. An endpoint counts as the
   *   same with and without TLS.
   *
   * All Connections of a process to one endpoint count together, in the same series. The series begin with the first
   * dial. When the last Connection leaves the endpoint, its gauges end. Its counters and histograms are kept for the
   * last 64 such endpoints, so that the next scrape finds them. At most 1000 methods for each endpoint and 32 kinds of
   * errors for each method have series of their own. The others count as `_OTHER`.
   *
   * What is counted goes to the `Metric.MetricRegistry` of the context in which the Connection is made, with the
   * attributes of that context. Effect's exporters read it from there.
   */
  readonly metrics?: boolean | undefined
  /**
   * How many connections there are to each endpoint, a whole number from 1 on. Default: 1.
   *
   * **When to use**
   *
   * Use it where an endpoint is several processes or worker threads that listen on one port (`Listener.tcp` with
   * `reusePort`). One thread serves a connection, so a connection uses one core of the server. The system spreads
   * connections over the threads by a hash, so there should be several for each thread.
   *
   * **Details**
   *
   * A call goes over the connection with the fewest calls in flight, in turn among equals. Calls that are made one
   * after the other may go over different connections, and arrive in another order. The first call dials the first
   * connection. Later calls dial the others, and do not wait for them. A lost connection is dialed again in the same
   * way. An endpoint is in backoff only while none of its connections is open.
   *
   * **Gotchas**
   *
   * With a single server process more connections only cost CPU time: fewer messages are sent and answered together.
   * With few connections, a process may get none: with four connections for each of eight processes, that happens to
   * one of them about once in nine times.
   *
   * A client is one thread, too. If it only calls, it may need all of its core before the servers need theirs.
   */
  readonly connectionsPerEndpoint?: number | undefined
  /**
   * Whether connections are opened before a call needs them. Default: false, the first call to an endpoint dials.
   *
   * **Details**
   *
   * Each endpoint is dialed as soon as it is listed, and again as soon as its connection is lost or its `backoff` is
   * over. An endpoint whose connections are lost again and again is dialed once a second. Calls go to connected
   * endpoints as long as there are any, so no call waits for a dial. It costs a socket for each endpoint, used or not.
   */
  readonly eager?: boolean | undefined
  /**
   * How long an endpoint that has just been connected gets fewer calls than its weight says: a tenth at first, and then
   * gradually more. Default: 0, that is, its full share at once.
   *
   * **When to use**
   *
   * Use it where servers are slow after their start, until their code is compiled and their caches are filled.
   *
   * **Details**
   *
   * It works with balancers that use weights: `Balancer.leastPending`, `peakEwma`, `weighted`.
   */
  readonly slowStart?: Duration.Input | undefined
  /**
   * The component whose health the Connection asks servers for (see `Health`), or `""` for the health of whole servers.
   * Default: none, no server is asked.
   *
   * **Details**
   *
   * Servers that say that they are not serving get no calls, unless fewer than half of the endpoints would be left. A
   * server without a `Health` counts as serving. A server that has not answered yet does not. It makes no difference to
   * calls with a key where the balancer has `stickiness`, such as `Balancer.sharded`: there is no other endpoint.
   */
  readonly health?: string | undefined
  /**
   * How long a dial may take: the lookup of the name, the connections to all of its addresses side by side, the TLS
   * handshake and the version message of the server together. Default: 5 seconds.
   *
   * **Details**
   *
   * Calls to one endpoint share a dial. When the calls that wait for it are interrupted or have run out of time, the
   * dial goes on for later calls.
   */
  readonly dialTimeout?: Duration.Input | undefined
  /**
   * How long an endpoint is in backoff after a failed dial. It is not dialed for that time, and calls go elsewhere.
   * Default: `initial` 50 ms, `factor` 1.6, `max` 5 seconds, `jitter` 0.2.
   *
   * **Details**
   *
   * It is `initial`, multiplied by `factor` for each further failure up to `max`, and changed at random by up to
   * `jitter` of itself.
   */
  readonly backoff?: {
    /** How long it is after the first failed dial. Default: 50 ms. */
    readonly initial?: Duration.Input | undefined
    /** What that is multiplied by for each further failure, a number of 1 or more. Default: 1.6. */
    readonly factor?: number | undefined
    /** The longest time, before the change at random. Default: 5 seconds. */
    readonly max?: Duration.Input | undefined
    /** By what part of itself it is changed at random, up or down: from 0 to less than 1. Default: 0.2. */
    readonly jitter?: number | undefined
  } | undefined
}

/**
 * The state of one endpoint of a Connection: whether it is connected, how many calls it has, and why it was lost.
 *
 * **When to use**
 *
 * Use it to see where calls go and why an endpoint gets none: `Connection.state`, `Connection.changes`, and the command
 * `effect-call watch` show it.
 *
 * **Details**
 *
 * - `Idle`: there is no connection. The next call to it dials, or the Connection dials by itself where it is `eager`.
 * - `Dialing`: a connection is being opened. Calls wait for it. It is opened for later calls where these are given up.
 * - `Active`: calls are sent.
 * - `Draining`: it is no longer listed, or its server goes away. The calls in flight finish, and then the connection is
 *   closed. Where it is still listed, the next call to it dials again, or the Connection at once where it is `eager`.
 * - `Gone`: it is closed for good.
 *
 * An endpoint with several connections (`connectionsPerEndpoint`) is `Active` when any of them is. Its `callsInFlight`
 * and `streams` are those of all, and it is not in backoff while one is open. `lastFailure` may then be the failure of
 * one connection while the others are open.
 *
 * @category models
 * @since 0.1.0
 */
export interface EndpointState {
  /** The address of the endpoint, such as `tcp://10.0.0.7:9000`. */
  readonly address: string
  /** What the endpoint is doing; see above. */
  readonly state: "Idle" | "Dialing" | "Active" | "Draining" | "Gone"
  /** How many calls have been sent to it and are not answered yet. Streams are not among them. */
  readonly callsInFlight: number
  /**
   * How many streams have been opened on it and have not ended yet. A connection that drains stays open for them, as
   * for calls.
   */
  readonly streams: number
  /** Whether it is not dialed for now, since a dial has failed (`ClientOptions.backoff`). */
  readonly inBackoff: boolean
  /** Whether it is ejected: it gets no calls for now, since they kept failing (`ClientOptions.outlierEjection`). */
  readonly isEjected: boolean
  /**
   * Whether one of its connected servers says that it is serving. True where none is connected, or none is asked
   * (`ClientOptions.health`).
   */
  readonly isServing: boolean
  /** How long its answers take on average, in milliseconds, as balancers see it; undefined before the first one. */
  readonly latency: number | undefined
  /** Why the last dial failed, or the last connection was lost. Undefined if it was connected since. */
  readonly lastFailure: string | undefined
}

/**
 * A snapshot of a Connection: the endpoints that are listed, and those still draining.
 *
 * **Example** (How many replicas are connected)
 *
 * ```ts
 * import { Effect } from "effect"
 * import type { Connection } from "effect-call"
 *
 * const connected = (connection: Connection.Connection) =>
 *   Effect.map(connection.state, ({ endpoints }) => endpoints.filter(({ state }) => state === "Active").length)
 * ```
 *
 * @category models
 * @since 0.1.0
 */
export interface ConnectionState {
  /** Whether the Connection was closed: by `close`, or with its Scope. */
  readonly closed: boolean
  /** The listed endpoints, and the endpoints that still drain. */
  readonly endpoints: ReadonlyArray<EndpointState>
}
