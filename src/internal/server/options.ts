/**
 * A server's options: defaults, and what is checked before anything is built.
 */
import * as Duration from "effect/Duration"
import type { ServerOptions } from "../../Server.ts"
import { connectionOptions, count, duration, flag, positiveMillis } from "../options.ts"
import type { KeepAliveTimes } from "../session/keepAlive.ts"

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
