/**
 * A server's options: defaults, and what is checked before anything is built.
 */
import * as Duration from "effect/Duration"
import type { ServerOptions } from "../../Server.ts"
import { count, duration, flag, sizes } from "../options.ts"

/** A server's options, complete and in the units that the code counts in. */
export interface ServerSettings {
  readonly inlineHandlerMillis: number
  readonly writeFlattenLimit: number
  readonly maxMessageSize: number
  readonly maxConcurrentCalls: number
  readonly maxQueuedCalls: number
  readonly metrics: boolean
  readonly shutdownGrace: Duration.Duration
}

export const serverSettings = (options: ServerOptions | undefined): ServerSettings => ({
  ...sizes(options),
  metrics: flag("metrics", options?.metrics, true),
  inlineHandlerMillis: Duration.toMillis(duration("inlineHandlerDuration", options?.inlineHandlerDuration, 0.5)),
  maxConcurrentCalls: count("maxConcurrentCalls", options?.maxConcurrentCalls, 10_000, 1),
  maxQueuedCalls: count("maxQueuedCalls", options?.maxQueuedCalls, 10_000, 0),
  shutdownGrace: duration("shutdownGrace", options?.shutdownGrace, Duration.seconds(2))
})
