/**
 * A server's options: defaults, and what is checked before anything is built.
 */
import * as Duration from "effect/Duration"
import { connectionOptions, count, duration, flag, positiveMillis } from "../options.ts"
import type { KeepAliveTimes } from "../session/keepAlive.ts"

/**
 * Options of a server.
 *
 * Source: `type ServerOptions` of the Go package, `inlineHandlerDuration` and `writeFlattenLimit` (its Logger and
 * Tracer are Effect's own); the others are ours.
 *
 * @category models
 * @since 0.1.0
 */
export interface ServerOptions {
  /**
   * For how long, each time bytes have been read, handlers are started right in the read loop. The calls that are left
   * are started in later turns of the event loop, connection by connection, so that one's large batch does not hold up
   * the others. Default: 0.5 ms.
   */
  readonly inlineHandlerDuration?: Duration.Input | undefined
  /**
   * From how many bytes on results are sent from where they are. Smaller ones are copied; larger ones belong to the
   * server from the handler's return on, and must not be changed again. In bytes. Default: 16384.
   */
  readonly writeFlattenLimit?: number | undefined
  /**
   * The largest message to take or to send, its headers not counted but for a request's 49 bytes. A call whose
   * arguments, result or error are larger fails for its caller with CommunicationError `TooLarge`; others on its
   * connection go on. The bytes of arguments that are too large are dropped as they arrive, and no handler sees them. A
   * request of more than 1 GiB ends the connection. In bytes. Default: 104857600 (100 MiB).
   */
  readonly maxMessageSize?: number | undefined
  /**
   * How many bytes of answers may wait for a client that is slow to read them. Past that nothing more is read from it,
   * and none of its calls is started, until it has taken some. In bytes. Default: 1048576 (1 MiB).
   *
   * The answers of handlers that run already come on top of that. Where more than 16 times as much waits, the largest
   * answer not counted, the client has to take them: its connection is closed, and its handlers are interrupted, when
   * it takes nothing for 2 seconds, takes nothing while as much again comes, or has not come below that within
   * `unsentTimeout`. Where many calls with large answers end in one turn of the event loop, let this be a 32nd of all
   * of them or more.
   */
  readonly maxUnsentBytes?: number | undefined
  /**
   * How long a client may take nothing of the answers that wait for it. Then its connection is closed, and its handlers
   * are interrupted. A client that is slow, and goes on, is not cut off. What the operating system accepts counts as
   * taken; it does so in steps of up to a megabyte, so that a limit far below this suits fast networks only. Default:
   * 30 seconds. `Infinity`: for ever.
   */
  readonly unsentTimeout?: Duration.Input | undefined
  /**
   * How many calls run at once, over all connections. Those whose handlers ask to run beside the others (`Rpc.fork`)
   * are not counted, nor is one question for its health (`Health.handlers`) of each connection. Default: 10000.
   */
  readonly maxConcurrentCalls?: number | undefined
  /**
   * How many further calls wait for their turn. Those past them are refused at once with a RemoteError that
   * `isOverloaded`, and never executed; where another connection has more calls waiting than theirs, one of those is
   * refused in their place. Default: 10000.
   */
  readonly maxQueuedCalls?: number | undefined
  /**
   * How many of one connection's calls run at once; its further ones wait. Below `maxConcurrentCalls` it keeps one
   * client from taking the whole server. Default: 5000.
   */
  readonly maxConcurrentCallsPerConnection?: number | undefined
  /** How many further calls of one connection wait. Those past them are refused as overloaded. Default: 5000. */
  readonly maxQueuedCallsPerConnection?: number | undefined
  /** How long a client may take to send its first message before its connection is closed. Default: 10 seconds. */
  readonly firstMessageTimeout?: Duration.Input | undefined
  /**
   * How long a message that has begun to arrive may take to be whole. A client that takes longer has its connection
   * closed. Default: 1 minute.
   */
  readonly messageTimeout?: Duration.Input | undefined
  /**
   * How long a connection may have no calls before it is closed. A client of this package is told so first, loses no
   * call, and dials again when it needs to. One that asks for the server's health (`ClientOptions.health`) always has a
   * call. Default: none, it may be idle for ever.
   */
  readonly idleTimeout?: Duration.Input | undefined
  /**
   * How clients are found that have vanished without a word: a client that has said nothing for `interval` is asked
   * whether it is there, and its connection is closed when it has said nothing for `timeout` after that: its handlers
   * are interrupted, and its places in the limits are free again. Any byte counts, also one that it takes of a large
   * answer, which it may do for `messageTimeout`; and it does not count against it when this process stands still.
   * Default: 10 seconds, 10 seconds; `false` turns it off. It is off for the in-memory network of
   * `effect-call/testing`, unless it is given.
   *
   * A client that cannot be asked, such as one of the Go package, sees none of that. Over TCP, with TLS or without, the
   * system asks its system instead: after `interval`, in whole seconds, and ten times within `timeout`, where Node is
   * 24.19 or newer, or else within 10 seconds. That finds hosts that are gone. It does not find a client that hangs
   * while its system answers, or one behind a proxy that is there. Where answers are on their way to a client that has
   * vanished, the system sends them again and again first, for a quarter of an hour by default.
   */
  readonly keepAlive?:
    | {
      readonly interval?: Duration.Input | undefined
      readonly timeout?: Duration.Input | undefined
    }
    | false
    | undefined
  /** Whether calls, connections and bytes are counted in Effect's `Metric`. Default: true. */
  readonly metrics?: boolean | undefined
  /**
   * How long a server that is being stopped waits for calls in flight before it interrupts them. Default: 2 seconds.
   *
   * It tells its clients first that it is going away, and serves what they had sent before they heard of it, so that no
   * call is lost. A client that does not understand that, such as one of the Go package, has its connection ended when
   * it has asked for nothing for 100 ms.
   *
   * One that is never quiet for so long is served until a second before the end of the grace, or for half of a grace
   * that is shorter than two seconds. From then on its answers are kept back, so that its callers, who wait for them,
   * send no more. What has come 100 ms later is the last that is served; when it has ended, all answers are sent, and
   * the end of the connection after them. What is sent after that is never executed.
   *
   * Calls that are interrupted get no answer: for their callers the connection is lost. A client that does not close
   * its end, or has yet to take answers, has half a second more for it, in which what it sends is dropped: the stop
   * takes so much longer.
   */
  readonly shutdownGrace?: Duration.Input | undefined
}

/** A server's options, complete and in the units that the code counts in. */
export interface ServerSettings {
  readonly inlineHandlerMillis: number
  readonly writeFlattenLimit: number
  readonly maxMessageSize: number
  readonly maxUnsentBytes: number
  readonly unsentMillis: number
  readonly messageTimeoutMillis: number
  readonly keepAlive: KeepAliveTimes | undefined
  /** Whether clients of the in-memory network are asked, too. */
  readonly keepAliveInMemory: boolean
  readonly firstMessageMillis: number
  readonly idleMillis: number
  readonly maxConcurrentCalls: number
  readonly maxQueuedCalls: number
  readonly maxConcurrentCallsPerConnection: number
  readonly maxQueuedCallsPerConnection: number
  readonly metrics: boolean
  readonly shutdownGraceMillis: number
}

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
  unsentMillis: positiveMillis("unsentTimeout", options?.unsentTimeout, Duration.seconds(30)),
  firstMessageMillis: positiveMillis("firstMessageTimeout", options?.firstMessageTimeout, Duration.seconds(10)),
  idleMillis: positiveMillis("idleTimeout", options?.idleTimeout, Infinity),
  shutdownGraceMillis: Duration.toMillis(duration("shutdownGrace", options?.shutdownGrace, Duration.seconds(2)))
})
