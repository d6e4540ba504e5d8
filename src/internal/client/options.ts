/**
 * A client's options: defaults, and what is checked before anything is built.
 */
import * as Duration from "effect/Duration"
import type { ClientOptions } from "../../Connection.ts"
import { duration, flag, invalid, sizes, wholeNumber } from "../options.ts"

/** A client's options, complete and in the units that the code counts in. */
export interface ClientSettings {
  readonly optimisticSpinMillis: number
  readonly writeFlattenLimit: number
  readonly maxMessageSize: number
  readonly metrics: boolean
  readonly connectionsPerEndpoint: number
  readonly dialTimeout: Duration.Duration
  readonly backoff: { readonly initial: number; readonly factor: number; readonly max: number; readonly jitter: number }
}

export const clientSettings = (options: ClientOptions | undefined): ClientSettings => {
  const backoff = options?.backoff
  const factor = backoff?.factor ?? 1.6
  const jitter = backoff?.jitter ?? 0.2
  return {
    ...sizes(options),
    metrics: flag("metrics", options?.metrics, true),
    connectionsPerEndpoint: wholeNumber("connectionsPerEndpoint", options?.connectionsPerEndpoint, 1, 1),
    optimisticSpinMillis: Duration.toMillis(duration("optimisticSpinDuration", options?.optimisticSpinDuration, 0)),
    dialTimeout: duration("dialTimeout", options?.dialTimeout, Duration.seconds(5)),
    backoff: {
      initial: Duration.toMillis(duration("backoff.initial", backoff?.initial, 50)),
      max: Duration.toMillis(duration("backoff.max", backoff?.max, Duration.seconds(5))),
      factor: factor >= 1 ? factor : invalid("backoff.factor", factor, "a number of 1 or more"),
      jitter: jitter >= 0 && jitter < 1 ? jitter : invalid("backoff.jitter", jitter, "a number from 0 to less than 1")
    }
  }
}
