/**
 * Checks the options of clients and servers, and has the defaults of the options that both have. It does not know what
 * an option does.
 */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import { shown } from "./guard.ts"
import { maxMessageSize } from "./protocol/frame.ts"
import { maxCredit } from "./protocol/items.ts"
import type { KeepAliveTimes } from "./session/keepAlive.ts"
import { attempt } from "./userError.ts"

/** The defaults of the options that client and server share. */
const defaultWriteFlattenLimit = 16_384
const defaultMaxMessageSize = maxMessageSize
const defaultMaxUnsentBytes = 1_048_576
const defaultMessageTimeout = Duration.minutes(1)
const defaultKeepAlive = Duration.seconds(10)
const defaultStreamWindow = 1_048_576
const defaultStreamBudget = 16_777_216

/** The smallest window of a stream, in bytes. */
const smallestWindow = 4096

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

/** A count of things that exist at the same time: it must be finite. */
export const wholeNumber = (name: string, value: number | undefined, otherwise: number, min: number): number => {
  if (value === undefined) return otherwise
  return Number.isSafeInteger(value) && value >= min
    ? value
    : invalid(name, value, `a whole number, ${min} or more`)
}

/** A count, which may be Infinity. */
export const count = (name: string, value: number | undefined, otherwise: number, min: number): number => {
  if (value === undefined) return otherwise
  return value === Infinity || (Number.isInteger(value) && value >= min)
    ? value
    : invalid(name, value, `a whole number, ${min} or more, or Infinity`)
}

/** A boolean. */
export const flag = (name: string, value: boolean | undefined, otherwise: boolean): boolean =>
  value === undefined || typeof value === "boolean" ? value ?? otherwise : invalid(name, value, "true or false")

/**
 * Checks that an option with several fields is an object. A value without the fields would otherwise mean the defaults.
 */
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
  // Effect reads NaN as a duration of zero.
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

/** A duration of more than zero, in milliseconds. It may be Infinity. */
export const positiveMillis = (name: string, value: Duration.Input | undefined, otherwise: Duration.Input): number =>
  Duration.toMillis(positiveDuration(name, value, otherwise))

/** When a silent peer is asked whether it is still there; undefined if it is never asked. */
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

/** The options that client and server share: the limits of a connection. */
export const connectionOptions = (
  options: {
    readonly writeFlattenLimit?: number | undefined
    readonly maxMessageSize?: number | undefined
    readonly maxUnsentBytes?: number | undefined
    readonly messageTimeout?: Duration.Input | undefined
    readonly keepAlive?: Parameters<typeof keepAlive>[0]
    readonly streamWindow?: number | undefined
    readonly streamBudget?: number | undefined
  } | undefined
) => ({
  writeFlattenLimit: byteSize(
    "writeFlattenLimit",
    options?.writeFlattenLimit,
    defaultWriteFlattenLimit,
    0,
    maxMessageSize
  ),
  // A smaller message has no room for an error.
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
  // Where the option is given, it holds for every connection. The default leaves out those whose peer cannot vanish.
  probesAlways: options?.keepAlive !== undefined,
  streamWindow: byteSize("streamWindow", options?.streamWindow, defaultStreamWindow, smallestWindow, maxCredit),
  streamBudget: byteSize(
    "streamBudget",
    options?.streamBudget,
    defaultStreamBudget,
    smallestWindow,
    Number.MAX_SAFE_INTEGER
  )
})
