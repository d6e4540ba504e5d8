/**
 * Reads the errors that user code throws or fails with: their text, their type, their causes.
 *
 * Such a value may be anything: a text, an object whose getters throw, a revoked proxy, an error whose name is a
 * number. Nothing here throws unless it says so, and all texts have a bounded length. No other module looks into a
 * user's error. It does not know what failed.
 */
import * as Cause from "effect/Cause"
import { format } from "effect/Formatter"
import { isProxy } from "node:util/types"

/** Longer texts are cut: an answer must stay far below the largest message, even if every character is quoted. */
const maxTextLength = 65_536

/** Longer types are cut and get a mark at the end: they are labels of metrics and attributes of spans. */
const maxTypeLength = 128

/** At most this many errors are followed along the causes of one error. */
const maxLinks = 32

/** The text of an error that throws when it is read. */
export const unreadableText = "an error whose message could not be read"

/** The type of an error that has neither a tag nor a name. */
const untyped = "failure"

/** Reads from a user's value: its getters and proxies run in `evaluate`, and may throw. */
export const attempt = <A>(evaluate: () => A, otherwise: A): A => {
  try {
    return evaluate()
  } catch {
    return otherwise
  }
}

/**
 * Whether it is an error, also one of another realm (a vm context), which is no instance of our `Error`. It may throw.
 */
const isError = (u: unknown): u is Error => u instanceof Error || Object.prototype.toString.call(u) === "[object Error]"

/** The message of an error, without white space at its end: messages of OpenSSL end with a line break. */
export const textOf = (error: unknown): string => ownTextOf(error).trimEnd() || "an error without a message"

/** The message of an error, or an empty text if it has none: an error chain carries an empty message, too. */
export const ownTextOf = (error: unknown): string =>
  clip(attempt(() => {
    if (typeof error === "string") return error
    return isError(error) ? messageOf(error) : format(error)
  }, unreadableText))

/** An error class with fields and no message of its own (`Data.TaggedError`) is known by its name. */
const messageOf = (error: Error): string => {
  // The types may be wrong: any value can be assigned to both fields.
  const message: unknown = error.message
  const text = typeof message === "string" ? message : format(message)
  if (text !== "") return text
  const name: unknown = error.name
  return typeof name === "string" && name !== "Error" ? name : ""
}

/** The type of an error, for `error.type`: its tag or, if it has none, its name. */
export const typeOf = (error: unknown): string => {
  if (typeof error !== "object" || error === null) return untyped
  const tag = attempt((): unknown => "_tag" in error ? error._tag : undefined, undefined)
  if (isType(tag)) return clip(tag, maxTypeLength - 1)
  const name = attempt((): unknown => isError(error) ? error.name : undefined, undefined)
  return isType(name) ? clip(name, maxTypeLength - 1) : untyped
}

const isType = (u: unknown): u is string => typeof u === "string" && u !== ""

/** The cause that an error names; undefined if it names none. */
export const causeOf = (error: unknown): unknown => attempt(() => isError(error) ? error.cause : undefined, undefined)

/** The codes that `node:net` and `node:tls` give when the peer has closed a connection without a reason. */
const resets: ReadonlySet<unknown> = new Set(["ECONNRESET", "EPIPE", "ECONNABORTED"])

/**
 * Whether an error says that the peer has reset the connection: the error itself, a cause of it, or one of its
 * attempts.
 */
export const isReset = (error: unknown): boolean =>
  attempt(() => {
    let current = error
    for (let left = maxLinks; left > 0 && isObject(current); left--) {
      const attempts: unknown = Reflect.get(current, "errors")
      const all = Array.isArray(attempts) ? [current, ...attempts.slice(0, maxLinks)] : [current]
      if (all.some((error) => isObject(error) && resets.has(Reflect.get(error, "code")))) return true
      current = Reflect.get(current, "cause")
    }
    return false
  }, false)

/** Whether an error is an instance of a class. It does not throw: the check of a proxy may. */
export const isInstance = <A>(error: unknown, of: abstract new(...args: never) => A): error is A =>
  attempt(() => error instanceof of, false)

/**
 * A cause that loggers and tracers can read. It is the same cause, unless an error in it throws when it is read: that
 * error is replaced with one that has the parts that could be read.
 */
export const readableCause = <E>(cause: Cause.Cause<E>): Cause.Cause<unknown> =>
  cause.reasons.every((reason) => Cause.isInterruptReason(reason) || isReadable(errorOf(reason)))
    ? cause
    : Cause.fromReasons(cause.reasons.map((reason) => {
      if (Cause.isInterruptReason(reason)) return reason
      const error = readableOrStandIn(errorOf(reason))
      return Cause.isDieReason(reason) ? Cause.makeDieReason(error) : Cause.makeFailReason(error)
    }))

/** The same cause. It throws if its reasons throw when they are read: a user may have made them. */
export const readReasons = <E>(cause: Cause.Cause<E>): Cause.Cause<E> => {
  for (const reason of cause.reasons) if (!Cause.isInterruptReason(reason)) errorOf(reason)
  return cause
}

const errorOf = (reason: Cause.Fail<unknown> | Cause.Die): unknown =>
  Cause.isDieReason(reason) ? reason.defect : reason.error

const readableOrStandIn = (error: unknown, links = maxLinks): unknown =>
  isReadable(error) ? error : standInFor(error, links)

const standInFor = (error: unknown, links: number): Error => {
  const cause = links === 0 ? undefined : causeOf(error)
  const standIn = new Error(textOf(error), cause === undefined ? {} : { cause: readableOrStandIn(cause, links - 1) })
  standIn.name = typeOf(error)
  const stack = attempt(() => isError(error) ? error.stack : undefined, undefined)
  // The stand-in's own stack would name this place.
  standIn.stack = typeof stack === "string" ? clip(stack) : `${standIn.name}: ${standIn.message}`
  return standIn
}

/**
 * Whether loggers and tracers can read an error. They read it as Effect does: along all its causes. Nearly all errors
 * are made by V8: their stacks are not turned into text here, since that takes longer than everything else.
 */
const isReadable = (error: unknown): boolean =>
  attempt(() => {
    const seen = new Set<unknown>()
    let isPlain = true
    let current = error
    // The causes form a circle: all of them have been read.
    while (isObject(current) && !seen.has(current)) {
      if (seen.size === maxLinks) return false
      seen.add(current)
      isPlain &&= readPlain(current)
      current = Reflect.get(current, "cause")
    }
    if (!isPlain) Cause.prettyErrors(Cause.die(error))
    return true
  }, false)

const isObject = (u: unknown): u is object => (typeof u === "object" && u !== null) || typeof u === "function"

/** Reads what Effect reads of an error of V8, and throws if that throws. It is false if the value is no such error. */
const readPlain = (error: object): boolean => {
  if (isProxy(error) || stackGetterOf(error) !== stackGetter) return false
  for (const key of Object.keys(error)) Reflect.get(error, key)
  return typeof Reflect.get(error, "message") === "string" && typeof Reflect.get(error, "name") === "string"
}

/** The getter of an error's stack; undefined if the stack is a field, and null if there is none. */
const stackGetterOf = (error: object): unknown => {
  const stack = Object.getOwnPropertyDescriptor(error, "stack")
  return stack === undefined ? null : Reflect.get(stack, "get")
}

/** How V8 reads the stack of its own errors. Before Node 24 it is a field. */
const stackGetter = stackGetterOf(new Error())

/** The error if it can be read. Otherwise an error with the parts that could be read. */
export const readable = (error: unknown): Error =>
  isInstance(error, Error) && isReadable(error) ? error : standInFor(error, maxLinks)

/** Cuts a text that is too long. It never cuts within a character. */
export const clip = (text: string, maxLength: number = maxTextLength): string =>
  text.length <= maxLength ? text : `${text.slice(0, maxLength).replace(/[\ud800-\udbff]$/, "")}…`
