/**
 * A client's options: defaults, and what is checked before anything is built.
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import type { CallOptions, ClientOptions } from "../../Connection.ts"
import { maxMessageSize } from "../protocol/frame.ts"

/** The call options of a region, set with `Connection.withOptions`. */
export const CurrentOptions: Context.Reference<CallOptions | undefined> = Context.Reference<CallOptions | undefined>(
  "effect-call/Connection/CurrentOptions",
  { defaultValue: () => undefined }
)

/** The defaults of the options that client and server share. */
const defaultWriteFlattenLimit = 16_384
const defaultMaxMessageSize = maxMessageSize

/** A client's options, complete and in the units that the code counts in. */
export interface ClientSettings {
  readonly optimisticSpinMillis: number
  readonly writeFlattenLimit: number
  readonly maxMessageSize: number
  readonly dialTimeout: Duration.Duration
  readonly backoff: { readonly initial: number; readonly factor: number; readonly max: number; readonly jitter: number }
}

/** Throws a RangeError that names the option; options are code, so a bad one is a bug. */
const invalid = (name: string, value: unknown, expected: string): never => {
  throw new RangeError(`option ${name}: expected ${expected}, got ${String(value)}`)
}

/** A size in bytes. */
const byteSize = (
  name: string,
  value: number | undefined,
  otherwise: number,
  min: number,
  max: number
): number => {
  if (value === undefined) return otherwise
  return Number.isInteger(value) && value >= min && value <= max
    ? value
    : invalid(name, value, `a whole number of bytes from ${min} to ${max}`)
}

/** A count, which may be Infinity. */
export const count = (name: string, value: number | undefined, otherwise: number, min: number): number => {
  if (value === undefined) return otherwise
  return value === Infinity || (Number.isInteger(value) && value >= min)
    ? value
    : invalid(name, value, `a whole number from ${min} on, or Infinity`)
}

/** A duration of zero or more. */
export const duration = (
  name: string,
  value: Duration.Input | undefined,
  otherwise: Duration.Input
): Duration.Duration => {
  const input = value ?? otherwise
  const parsed = Duration.fromInput(input)
  // NaN would be taken for a duration of nothing.
  return parsed._tag === "Some" && !Number.isNaN(input) && Duration.toMillis(parsed.value) >= 0
    ? parsed.value
    : invalid(name, typeof input === "object" ? JSON.stringify(input) : input, "a duration of zero or more")
}

/** The sizes that client and server share. */
export const sizes = (
  options: { readonly writeFlattenLimit?: number; readonly maxMessageSize?: number } | undefined
) => ({
  writeFlattenLimit: byteSize(
    "writeFlattenLimit",
    options?.writeFlattenLimit,
    defaultWriteFlattenLimit,
    0,
    maxMessageSize
  ),
  // Below this not even an error fits.
  maxMessageSize: byteSize("maxMessageSize", options?.maxMessageSize, defaultMaxMessageSize, 1024, maxMessageSize)
})

export const clientSettings = (options: ClientOptions | undefined): ClientSettings => {
  const backoff = options?.backoff
  const factor = backoff?.factor ?? 1.6
  const jitter = backoff?.jitter ?? 0.2
  return {
    ...sizes(options),
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
