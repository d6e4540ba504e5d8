/**
 * What can be said of an error that a user's code threw or failed with.
 *
 * Such a value may be anything: a text, an object whose getters throw, a revoked proxy, an error whose name is a
 * number. Everything here is total, and its texts are of bounded length. No other module looks into a user's error.
 */
import * as Cause from "effect/Cause"
import { format } from "effect/Formatter"
import { isProxy } from "node:util/types"

/** Longer texts are cut, so that an answer stays far below the largest message even where every character is quoted. */
const maxTextLength = 65_536

/** Longer types are cut, with a mark at the end: they are labels of metrics and attributes of spans. */
const maxTypeLength = 128

/** No more errors than this are followed along the causes of one. */
const maxLinks = 32

/** The text of an error that throws when it is read. */
export const unreadableText = "an error whose message could not be read"

/** The type of an error that has neither a tag nor a name. */
const untyped = "failure"

/** Reads something of a user's value: getters and proxies of theirs run in `evaluate`, and may throw. */
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

/** What an error says. */
export const textOf = (error: unknown): string => ownTextOf(error) || "an error without a message"

/** What an error says, or an empty text where it says nothing: an error chain tells a peer that, too. */
export const ownTextOf = (error: unknown): string =>
  clip(attempt(() => {
    if (typeof error === "string") return error
    return isError(error) ? messageOf(error) : format(error)
  }, unreadableText))

/** An error class with fields and no message of its own (`Data.TaggedError`) is known by its name. */
const messageOf = (error: Error): string => {
  // Whatever the types say, anything can be assigned to both.
  const message: unknown = error.message
  const text = typeof message === "string" ? message : format(message)
  if (text !== "") return text
  const name: unknown = error.name
  return typeof name === "string" && name !== "Error" ? name : ""
}

/** The kind of an error, for `error.type`: its tag or, where it has none, its name. */
export const typeOf = (error: unknown): string => {
  if (typeof error !== "object" || error === null) return untyped
  const tag = attempt((): unknown => "_tag" in error ? error._tag : undefined, undefined)
  if (isType(tag)) return clip(tag, maxTypeLength - 1)
  const name = attempt((): unknown => isError(error) ? error.name : undefined, undefined)
  return isType(name) ? clip(name, maxTypeLength - 1) : untyped
}

const isType = (u: unknown): u is string => typeof u === "string" && u !== ""

/** What an error says is its cause; undefined where there is none. */
export const causeOf = (error: unknown): unknown => attempt(() => isError(error) ? error.cause : undefined, undefined)

/** What `node:net` and `node:tls` say where the peer has ended a connection without a word. */
const resets: ReadonlySet<unknown> = new Set(["ECONNRESET", "EPIPE", "ECONNABORTED"])

/**
 * Whether an error says that the peer has reset the connection: it itself, what caused it, or one of several attempts.
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

/** Whether an error is one of a class. Of a proxy, the check itself may throw. */
export const isInstance = <A>(error: unknown, of: abstract new(...args: never) => A): error is A =>
  attempt(() => error instanceof of, false)

/**
 * A cause that loggers and tracers can read: the same one, unless an error in it throws when it is read. Such an error
 * is replaced with one that says what is known of it.
 */
export const readableCause = <E>(cause: Cause.Cause<E>): Cause.Cause<unknown> =>
  cause.reasons.every((reason) => Cause.isInterruptReason(reason) || isReadable(errorOf(reason)))
    ? cause
    : Cause.fromReasons(cause.reasons.map((reason) => {
      if (Cause.isInterruptReason(reason)) return reason
      const error = readableOrStandIn(errorOf(reason))
      return Cause.isDieReason(reason) ? Cause.makeDieReason(error) : Cause.makeFailReason(error)
    }))

/** The same cause. It throws where its reasons do when they are read: those of a user's own may. */
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
  // Its own would be that of this place.
  standIn.stack = typeof stack === "string" ? clip(stack) : `${standIn.name}: ${standIn.message}`
  return standIn
}

/**
 * Whether loggers and tracers can read an error. All of them read it as Effect does: along all its causes. Nearly all
 * errors are as V8 makes them. Their stacks are not made texts for that: it takes longer than all the rest.
 */
const isReadable = (error: unknown): boolean =>
  attempt(() => {
    const seen = new Set<unknown>()
    let isPlain = true
    let current = error
    // A circle ends where it began.
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

/** Reads what Effect reads of an error of V8, which throws where that would. False where it is another value. */
const readPlain = (error: object): boolean => {
  if (isProxy(error) || stackGetterOf(error) !== stackGetter) return false
  for (const key of Object.keys(error)) Reflect.get(error, key)
  return typeof Reflect.get(error, "message") === "string" && typeof Reflect.get(error, "name") === "string"
}

/** How the stack of an error is read; undefined where it is a field, and null where there is none. */
const stackGetterOf = (error: object): unknown => {
  const stack = Object.getOwnPropertyDescriptor(error, "stack")
  return stack === undefined ? null : Reflect.get(stack, "get")
}

/** How V8 reads the stack of its own errors. Before Node 24 it is a field. */
const stackGetter = stackGetterOf(new Error())

/** The error, where it is one that can be read, or one that says what is known of it. */
export const readable = (error: unknown): Error =>
  isInstance(error, Error) && isReadable(error) ? error : standInFor(error, maxLinks)

/** Cuts a text that is too long, between two characters. */
export const clip = (text: string, maxLength: number = maxTextLength): string =>
  text.length <= maxLength ? text : `${text.slice(0, maxLength).replace(/[\ud800-\udbff]$/, "")}…`
