/**
 * A client's options: their defaults and their checks, before anything is built.
 *
 * It must not know what the options are used for.
 */
import * as Duration from "effect/Duration"
import { checkParts, connectionOptions, duration, flag, invalid, positiveMillis, wholeNumber } from "../options.ts"
import type { KeepAliveTimes } from "../session/keepAlive.ts"
import type { ClientOptions } from "./model.ts"
import type { OutlierEjection } from "./outliers.ts"
import type { RetryBudget } from "./retry.ts"

/** A client's options, complete and in the units that the code counts in. */
export interface ClientSettings {
  readonly optimisticSpinMillis: number
  readonly writeFlattenLimit: number
  readonly maxMessageSize: number
  readonly maxUnsentBytes: number
  readonly messageTimeoutMillis: number
  readonly metrics: boolean
  readonly connectionsPerEndpoint: number
  readonly eager: boolean
  readonly slowStartMillis: number
  /** The component whose health servers are asked for; undefined where no server is asked. */
  readonly health: string | undefined
  readonly dialTimeout: Duration.Duration
  readonly keepAlive: KeepAliveTimes | undefined
  /** Whether servers are probed also on connections whose peer cannot vanish without a word. */
  readonly probesAlways: boolean
  readonly streamWindow: number
  readonly streamBudget: number
  readonly retryBudget: RetryBudget
  readonly outlierEjection: OutlierEjection | undefined
  readonly backoff: { readonly initial: number; readonly factor: number; readonly max: number; readonly jitter: number }
}

export const clientSettings = (options: ClientOptions | undefined): ClientSettings => {
  const backoff = options?.backoff
  checkParts("backoff", backoff, false)
  checkParts("retryBudget", options?.retryBudget, false)
  const factor = backoff?.factor ?? 1.6
  const jitter = backoff?.jitter ?? 0.2
  return {
    ...connectionOptions(options),
    retryBudget: {
      ratio: amount("retryBudget.ratio", options?.retryBudget?.ratio, 0.1),
      burst: amount("retryBudget.burst", options?.retryBudget?.burst, 100)
    },
    outlierEjection: outlierEjection(options?.outlierEjection),
    metrics: flag("metrics", options?.metrics, true),
    connectionsPerEndpoint: wholeNumber("connectionsPerEndpoint", options?.connectionsPerEndpoint, 1, 1),
    eager: flag("eager", options?.eager, false),
    slowStartMillis: slowStart(options?.slowStart),
    health: options?.health === undefined || typeof options.health === "string"
      ? options?.health
      : invalid("health", options.health, "the name of a component"),
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

const slowStart = (value: ClientOptions["slowStart"]): number => {
  const parsed = duration("slowStart", value, 0)
  // The share of an endpoint grows until the end of its slow start, so there must be an end.
  return Duration.isFinite(parsed) ? Duration.toMillis(parsed) : invalid("slowStart", value, "a duration that ends")
}

const outlierEjection = (options: ClientOptions["outlierEjection"]): OutlierEjection | undefined => {
  checkParts("outlierEjection", options, true)
  return options === false ? undefined : {
    failures: wholeNumber("outlierEjection.failures", options?.failures, 5, 1),
    duration: positiveMillis("outlierEjection.duration", options?.duration, Duration.seconds(5)),
    maxDuration: positiveMillis("outlierEjection.maxDuration", options?.maxDuration, Duration.seconds(30)),
    ejectsShards: options !== undefined
  }
}

const amount = (name: string, value: number | undefined, otherwise: number): number => {
  if (value === undefined) return otherwise
  return Number.isFinite(value) && value >= 0 ? value : invalid(name, value, "a number of 0 or more")
}
