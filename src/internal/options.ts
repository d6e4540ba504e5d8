/**
 * What the options of clients and servers have in common: how they are checked, and the defaults of those that both
 * have.
 */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import { shown } from "./guard.ts"
import { maxMessageSize } from "./protocol/frame.ts"
import type { KeepAliveTimes } from "./session/keepAlive.ts"
import { attempt } from "./userError.ts"

/** The defaults of the options that client and server share. */
const defaultWriteFlattenLimit = 16_384
const defaultMaxMessageSize = maxMessageSize
const defaultMaxUnsentBytes = 1_048_576
const defaultMessageTimeout = Duration.minutes(1)
const defaultKeepAlive = Duration.seconds(10)

/** Throws a RangeError that names the option; options are code, so a bad one is a bug. */
export const invalid = (name: string, value: unknown, expected: string): never => {
  throw new RangeError(`option ${name}: expected ${expected}, got ${typeof value === "string" ? value : shown(value)}`)
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

/** A count of what is there at once, which has an end. */
export const wholeNumber = (name: string, value: number | undefined, otherwise: number, min: number): number => {
  if (value === undefined) return otherwise
  return Number.isSafeInteger(value) && value >= min
    ? value
    : invalid(name, value, `a whole number from ${min} on`)
}

/** A count, which may be Infinity. */
export const count = (name: string, value: number | undefined, otherwise: number, min: number): number => {
  if (value === undefined) return otherwise
  return value === Infinity || (Number.isInteger(value) && value >= min)
    ? value
    : invalid(name, value, `a whole number from ${min} on, or Infinity`)
}

/** Yes or no. */
export const flag = (name: string, value: boolean | undefined, otherwise: boolean): boolean =>
  value === undefined || typeof value === "boolean" ? value ?? otherwise : invalid(name, value, "true or false")

/** Checks an option that has several parts: all else that has none of them would be taken for the defaults. */
export const checkParts = (name: string, value: object | false | undefined, mayBeFalse: boolean): void => {
  if (value === undefined || (mayBeFalse && value === false)) return
  if (typeof value !== "object" || value === null) {
    invalid(name, value, mayBeFalse ? "an object, or false" : "an object")
  }
}

/** A duration of zero or more. */
export const duration = (
  name: string,
  value: Duration.Input | undefined,
  otherwise: Duration.Input,
  expected = "a duration of zero or more"
): Duration.Duration => {
  const input = value ?? otherwise
  const parsed = attempt(() => Duration.fromInput(input), Option.none())
  // NaN would be taken for a duration of nothing.
  return parsed._tag === "Some" && !Number.isNaN(input) && Duration.toMillis(parsed.value) >= 0
    ? parsed.value
    : invalid(name, input, expected)
}

/** A duration of more than zero, which may be Infinity. */
export const positiveDuration = (
  name: string,
  value: Duration.Input | undefined,
  otherwise: Duration.Input
): Duration.Duration => {
  const expected = "a duration of more than zero"
  const parsed = duration(name, value, otherwise, expected)
  return Duration.isZero(parsed) ? invalid(name, value, expected) : parsed
}

/** The same, in milliseconds. */
export const positiveMillis = (name: string, value: Duration.Input | undefined, otherwise: Duration.Input): number =>
  Duration.toMillis(positiveDuration(name, value, otherwise))

/** When a silent peer is asked whether it is there; undefined where it never is. */
const keepAlive = (
  options:
    | { readonly interval?: Duration.Input | undefined; readonly timeout?: Duration.Input | undefined }
    | false
    | undefined
): KeepAliveTimes | undefined => {
  checkParts("keepAlive", options, true)
  return options === false ? undefined : {
    interval: positiveMillis("keepAlive.interval", options?.interval, defaultKeepAlive),
    timeout: positiveMillis("keepAlive.timeout", options?.timeout, defaultKeepAlive)
  }
}

/** The options that client and server share: what a connection takes. */
export const connectionOptions = (
  options: {
    readonly writeFlattenLimit?: number | undefined
    readonly maxMessageSize?: number | undefined
    readonly maxUnsentBytes?: number | undefined
    readonly messageTimeout?: Duration.Input | undefined
    readonly keepAlive?: Parameters<typeof keepAlive>[0]
  } | undefined
) => ({
  writeFlattenLimit: byteSize(
    "writeFlattenLimit",
    options?.writeFlattenLimit,
    defaultWriteFlattenLimit,
    0,
    maxMessageSize
  ),
  // Below this not even an error fits.
  maxMessageSize: byteSize("maxMessageSize", options?.maxMessageSize, defaultMaxMessageSize, 1024, maxMessageSize),
  maxUnsentBytes: byteSize(
    "maxUnsentBytes",
    options?.maxUnsentBytes,
    defaultMaxUnsentBytes,
    1,
    Number.MAX_SAFE_INTEGER
  ),
  messageTimeoutMillis: positiveMillis("messageTimeout", options?.messageTimeout, defaultMessageTimeout),
  keepAlive: keepAlive(options?.keepAlive),
  keepAliveInMemory: options?.keepAlive !== undefined
})
