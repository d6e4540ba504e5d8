/**
 * A server's options: their type, their defaults, and the checks before anything is built.
 *
 * It must not know who uses them.
 */
import * as Duration from "effect/Duration"
import { connectionOptions, count, duration, flag, positiveMillis } from "../options.ts"
import type { KeepAliveTimes } from "../session/keepAlive.ts"

/**
 * Options of a server: how many calls and bytes it takes, how long it waits for its clients, and how it stops.
 *
 * **When to use**
 *
 * Give them to `Server.serve`, `Server.serveOn` or `Server.layer`. The defaults suit a server that trusts its clients,
 * and whose handlers mostly wait for something. For other clients, choose a smaller `maxMessageSize`.
 *
 * **Details**
 *
 * All of them are optional. Durations are Effect's: a number of milliseconds, a text such as `"2 seconds"`, or a
 * `Duration`. Sizes are in bytes. An option that makes no sense is a defect of the server, a `RangeError` that names
 * the option and what was expected.
 *
 * Source: `type ServerOptions` of the Go package, `inlineHandlerDuration` and `writeFlattenLimit` (its Logger and
 * Tracer are Effect's own); the others are ours.
 *
 * @category models
 * @since 0.1.0
 */
export interface ServerOptions {
  /**
   * How long handlers are started in the read loop itself, each time bytes have been read. Default: 0.5 ms.
   *
   * **Details**
   *
   * The other calls are started in later turns of the event loop, connection by connection, so that a large batch of
   * one client does not hold up the others, nor the timers of the process. It does not limit how long a handler runs.
   *
   * Measured: one client floods the server with calls that take 20 µs each. With 0.5 ms, a call of another client took
   * 0.7 ms. With 5 ms it took 4.4 ms. The flood was 5 % slower with 0.5 ms than with 5 ms.
   *
   * Source: in the Go package, a call runs on the goroutine that reads, and gets one of its own when it takes longer.
   */
  readonly inlineHandlerDuration?: Duration.Input | undefined
  /**
   * The size from which a result is sent without a copy. In bytes. Default: 16384 (16 KiB).
   *
   * **Details**
   *
   * Smaller results are copied into the buffer that is written once in each turn of the event loop. From 64 KiB on,
   * copying is slower. Between 16 and 64 KiB there is hardly a difference.
   *
   * **Gotchas**
   *
   * Larger results belong to the server when the handler returns them: they must not be changed after that.
   */
  readonly writeFlattenLimit?: number | undefined
  /**
   * The largest message to take or to send. Its headers are not counted, except a request's 49 bytes. In bytes, from
   * 1024 to the default. Default: 104857600 (100 MiB).
   *
   * **Details**
   *
   * A call whose arguments, result or error are larger fails for its caller with CommunicationError `TooLarge`. Other
   * calls on its connection go on. Arguments that are too large are dropped while they arrive, and no handler gets
   * them. A request of more than 1 GiB ends the connection.
   */
  readonly maxMessageSize?: number | undefined
  /**
   * How many bytes of answers may wait for a client that is slow to read them. When more wait, nothing more is read
   * from the client, and none of its calls is started, until it has taken some. In bytes. Default: 1048576 (1 MiB).
   *
   * **Details**
   *
   * Handlers that run already still make their answers. When more than 16 times as much waits, the largest answer not
   * counted, the client has to take them. Its connection is closed, and its handlers are interrupted, when it takes
   * nothing for 2 seconds, takes nothing while as much again comes, or has not come below that within `unsentTimeout`.
   *
   * **Gotchas**
   *
   * Where many calls with large answers end in one turn of the event loop, let this be a 32nd of all of them or more.
   */
  readonly maxUnsentBytes?: number | undefined
  /**
   * How long a client may take nothing of the answers that wait for it. After that its connection is closed, and its
   * handlers are interrupted. Default: 30 seconds. `Infinity`: no limit.
   *
   * **Details**
   *
   * A client that is slow, and goes on, is not cut off.
   *
   * **Gotchas**
   *
   * What the operating system accepts counts as taken. It accepts up to a megabyte in one step, so that a limit far
   * below the default suits fast networks only.
   */
  readonly unsentTimeout?: Duration.Input | undefined
  /**
   * How many calls run at once, over all connections. A whole number, 1 or more, or `Infinity`. Default: 10000.
   *
   * **Details**
   *
   * Calls whose handlers opt out (`Rpc.fork`) are not counted. Neither is one request for the server's health
   * (`Health.handlers`) of each connection.
   */
  readonly maxConcurrentCalls?: number | undefined
  /**
   * How many further calls wait for their turn. A whole number, 0 or more, or `Infinity`. Default: 10000.
   *
   * **Details**
   *
   * Calls past the limit are refused at once with a `RemoteError` that `isOverloaded`, and never executed. Where
   * another connection has more calls waiting, one of those is refused instead.
   */
  readonly maxQueuedCalls?: number | undefined
  /**
   * How many calls of one connection run at once; its further calls wait. A whole number, 1 or more, or `Infinity`.
   * Default: 5000.
   *
   * **When to use**
   *
   * Below `maxConcurrentCalls` it keeps one client from using the whole server.
   */
  readonly maxConcurrentCallsPerConnection?: number | undefined
  /**
   * How many further calls of one connection wait. Calls past the limit are refused as overloaded. A whole number, 0 or
   * more, or `Infinity`. Default: 5000.
   */
  readonly maxQueuedCallsPerConnection?: number | undefined
  /**
   * How many streams are open at once, over all connections. A whole number, 0 or more, or `Infinity`. Default: 10000.
   *
   * **Details**
   *
   * Streams past the limit are refused at once with a `RemoteError` that `isOverloaded`, and never executed. They do
   * not wait, since a stream may last for ever. Streams take no places of calls. A stream keeps its place until its
   * handler and `Scope` have ended.
   */
  readonly maxStreams?: number | undefined
  /**
   * How many streams of one connection are open at once. Streams past the limit are refused as overloaded. A whole
   * number, 0 or more, or `Infinity`. Default: 1000.
   */
  readonly maxStreamsPerConnection?: number | undefined
  /**
   * How many bytes a client may send on a stream before the handler has taken them. In bytes, from 4096 to 2147483647.
   * Default: 1048576 (1 MiB).
   *
   * **When to use**
   *
   * Make it larger for uploads over long distances: a stream carries at most a window in each round trip. Make it
   * smaller where handlers are slow and much need not wait.
   *
   * **Details**
   *
   * It is the largest window. A stream begins with 64 KiB, or with this if it is less, and its window grows while its
   * handler keeps up. A client may be ahead of it by one item: an item may begin while any of the window is left.
   *
   * **Gotchas**
   *
   * A client may send 16 KiB on a stream before the server has said anything, also where this is less.
   */
  readonly streamWindow?: number | undefined
  /**
   * How large the windows of all streams of one connection should be together. While they are larger, each shrinks, to
   * 4 KiB at least. In bytes, 4096 or more. Default: 16777216 (16 MiB).
   *
   * **Details**
   *
   * The items that wait for slow handlers use at most about this much memory for each connection, if there are fewer
   * than 4096 streams on it.
   */
  readonly streamBudget?: number | undefined
  /** How long a client may take to send its first message before its connection is closed. Default: 10 seconds. */
  readonly firstMessageTimeout?: Duration.Input | undefined
  /**
   * How long a message may take from its first byte to its last. A client that takes longer has its connection closed.
   * Default: 1 minute.
   */
  readonly messageTimeout?: Duration.Input | undefined
  /**
   * How long a connection may have no calls before it is closed. Default: no limit.
   *
   * **Details**
   *
   * A client of this package is told first, loses no call, and dials again when it needs to. A client that watches the
   * server's health (`ClientOptions.health`) always has a call.
   */
  readonly idleTimeout?: Duration.Input | undefined
  /**
   * How to find clients that have vanished without closing their connections. Default: `interval` 10 seconds, `timeout`
   * 10 seconds. `false` turns it off. It is off for the in-memory network of `effect-call/testing`, unless it is given.
   *
   * **Details**
   *
   * A client that has sent nothing for `interval` is asked whether it is there. If it sends nothing for `timeout` after
   * that, its connection is closed: its handlers are interrupted, and its places in the limits are free again. Any byte
   * counts, also a byte that it takes of a large answer, which it may do for `messageTimeout`. Time in which this
   * process does not run is not held against a client.
   *
   * The callers of a client that only stood still for longer than that find their calls `Lost`. The next call dials
   * again.
   *
   * **Gotchas**
   *
   * A client of the Go package cannot be asked, and is not found like that. Over TCP, with TLS or without, the
   * operating system probes the client's system instead: after `interval`, in whole seconds, and ten times within
   * `timeout` (within 10 seconds, where Node is older than 24.19). That finds hosts that are gone. It does not find a
   * client that hangs while its system answers, or a client behind a proxy that is there. Where answers are on their
   * way to a client that has vanished, the system first retransmits them, for a quarter of an hour by default.
   */
  readonly keepAlive?:
    | {
      /** How long a client may send nothing before it is asked. More than zero. Default: 10 seconds. */
      readonly interval?: Duration.Input | undefined
      /** How long a client that was asked may take to send something. More than zero. Default: 10 seconds. */
      readonly timeout?: Duration.Input | undefined
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
   * | `rpc.server.call.duration` | histogram, seconds | `rpc.system.name`, `rpc.service`, `rpc.method`, `server.address`, `server.port`, `error.type` |
   * | `rpc.server.active_requests` | gauge | `server.address`, `server.port` |
   * | `rpc.server.connection.count` | gauge | `server.address`, `server.port` |
   * | `rpc.server.network.io` | counter, bytes | `network.io.direction`, `server.address`, `server.port` |
   * | `rpc.server.active_streams` | gauge | `server.address`, `server.port` |
   * | `rpc.server.stream.items` | counter | `network.io.direction`, `rpc.system.name`, `rpc.service`, `rpc.method`, `server.address`, `server.port` |
   * | `rpc.server.stream.io` | counter, bytes | as those of `rpc.server.stream.items` |
   *
   * The numbers of calls by outcome are the counts of the histogram by `error.type`, which is absent if the call
   * succeeded. Its values:
   *
   * | `error.type` | The call |
   * |---|---|
   * | the tag of an error (its name if it has no tag, `failure` if it has neither) | failed with this error |
   * | `defect` | died |
   * | `DeadlineExceeded` | did not end within its deadline |
   * | `canceled` | was given up by its caller, or interrupted with its connection or the server |
   * | `overloaded` | was refused, as too many calls ran or waited, or too many streams were open |
   * | `leaving` | was a stream that ended since the server leaves |
   * | `flow_control` | was a stream that ended since its client broke a rule of streams |
   * | `unknown_method` | is of a method that the server does not have; its `rpc.method` is `_OTHER` |
   * | `too_large` | had an answer or an item over `maxMessageSize`, or arguments over it: `rpc.method` is then `_OTHER` |
   * | `Undecodable` | had arguments that the method's schemas do not read |
   * | `ContractDiffers` | was refused, as client and server have different contracts of the method |
   *
   * A stream counts in `rpc.server.call.duration` as a call does, when it ends. Its items, and their bytes, are counted
   * while it runs. An item of a typed stream is a chunk of values.
   *
   * Active requests are calls whose handlers run or wait to run. `network.io.direction` is `transmit` or `receive`.
   * `server.address` and `server.port` are those of the listener.
   *
   * At most 1000 methods, and 32 kinds of errors for each method, have series of their own. The others count as
   * `_OTHER`. When a server ends, its gauges end. What was counted is kept for the last 64 such servers. It goes to the
   * `Metric.MetricRegistry` of the context in which the server is started.
   */
  readonly metrics?: boolean | undefined
  /**
   * How long a server that is being stopped waits for calls in flight before it interrupts them. Default: 2 seconds.
   *
   * **Details**
   *
   * The server first tells its clients that it is going away, and serves what they had sent before they heard of it, so
   * that no call is lost. It ends as soon as its clients have said that nothing follows and their calls have ended: in
   * some 50 ms where calls are short. A client that does not understand that, such as one of the Go package, has its
   * connection ended when it has sent no request for 100 ms. A call that it sends in that very moment is lost.
   *
   * Such a client may never be quiet for so long. It is served until a second before the end of the grace, or for half
   * of a grace that is shorter than two seconds. From then on its answers are held, so that its callers, which wait for
   * them, send no more. Requests that come in the next 100 ms are the last that are served. When they have ended, all
   * answers are sent, and the end of the connection after them. Requests that come later are never executed.
   *
   * **Gotchas**
   *
   * Let it be longer than calls take, and let the time that your platform gives a process to stop be longer than this.
   *
   * A stream that never ends lasts until the end of the grace, and keeps the server for so long. It then fails for its
   * client with a `RemoteError` that `isLeaving`. `Server.untilLeaving` ends it at once, and `Server.leaving` tells its
   * handler. Where streams have an end, such as uploads, let the grace be longer than most of them take: a client sends
   * no further ones meanwhile. The default is for calls: two seconds are short for streams.
   *
   * Calls that are interrupted get no answer: for their callers the connection is lost. A client that does not close
   * its end, or has yet to take answers, has half a second more, in which its requests are dropped. The stop takes so
   * much longer.
   */
  readonly shutdownGrace?: Duration.Input | undefined
}

/** A server's options, all of them, in the units that the code uses. */
export interface ServerSettings {
  readonly inlineHandlerMillis: number
  readonly writeFlattenLimit: number
  readonly maxMessageSize: number
  readonly maxUnsentBytes: number
  readonly unsentMillis: number
  readonly messageTimeoutMillis: number
  readonly keepAlive: KeepAliveTimes | undefined
  /** Whether clients are probed also on connections whose peer cannot vanish without a word. */
  readonly probesAlways: boolean
  readonly firstMessageMillis: number
  readonly idleMillis: number
  readonly maxConcurrentCalls: number
  readonly maxQueuedCalls: number
  readonly maxConcurrentCallsPerConnection: number
  readonly maxQueuedCallsPerConnection: number
  readonly maxStreams: number
  readonly maxStreamsPerConnection: number
  readonly streamWindow: number
  readonly streamBudget: number
  readonly metrics: boolean
  readonly shutdownGraceMillis: number
}

/** Checks options and fills in the defaults. It throws a RangeError that names the option. */
export const serverSettings = (options: ServerOptions | undefined): ServerSettings => ({
  ...connectionOptions(options),
  metrics: flag("metrics", options?.metrics, true),
  inlineHandlerMillis: Duration.toMillis(duration("inlineHandlerDuration", options?.inlineHandlerDuration, 0.5)),
  maxConcurrentCalls: count("maxConcurrentCalls", options?.maxConcurrentCalls, 10_000, 1),
  maxQueuedCalls: count("maxQueuedCalls", options?.maxQueuedCalls, 10_000, 0),
  maxConcurrentCallsPerConnection: count(
    "maxConcurrentCallsPerConnection",
    options?.maxConcurrentCallsPerConnection,
    5000,
    1
  ),
  maxQueuedCallsPerConnection: count("maxQueuedCallsPerConnection", options?.maxQueuedCallsPerConnection, 5000, 0),
  maxStreams: count("maxStreams", options?.maxStreams, 10_000, 0),
  maxStreamsPerConnection: count("maxStreamsPerConnection", options?.maxStreamsPerConnection, 1000, 0),
  unsentMillis: positiveMillis("unsentTimeout", options?.unsentTimeout, Duration.seconds(30)),
  firstMessageMillis: positiveMillis("firstMessageTimeout", options?.firstMessageTimeout, Duration.seconds(10)),
  idleMillis: positiveMillis("idleTimeout", options?.idleTimeout, Infinity),
  shutdownGraceMillis: Duration.toMillis(duration("shutdownGrace", options?.shutdownGrace, Duration.seconds(2)))
})
