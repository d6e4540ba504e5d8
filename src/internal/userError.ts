/**
 * What can be said of an error that a user's code threw or failed with.
 *
 * Such a value may be anything: a text, an object whose getters throw, a revoked proxy, an error whose name is a number. Everything here is
 * total, and its texts are of bounded length. No other module looks into a user's error.
 */
import { format } from "effect/Formatter"

/** Longer texts are cut, so that an answer stays far below the largest message even where every character is quoted. */
const maxTextLength = 65_536

/** Longer types are cut: they are labels of metrics and attributes of spans. */
const maxTypeLength = 128

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

/** Whether it is an error, also one of another realm (a vm context), which is no instance of our `Error`. It may throw. */
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
  const { message, name }: { readonly message: unknown; readonly name: unknown } = error
  const text = typeof message === "string" ? message : format(message)
  return text === "" && typeof name === "string" && name !== "Error" ? name : text
}

/** The kind of an error, for `error.type`: its tag or, where it has none, its name. */
export const typeOf = (error: unknown): string => {
  if (typeof error !== "object" || error === null) return untyped
  const tag = attempt((): unknown => "_tag" in error ? error._tag : undefined, undefined)
  if (isType(tag)) return clip(tag, maxTypeLength)
  const name = attempt((): unknown => isError(error) ? error.name : undefined, undefined)
  return isType(name) ? clip(name, maxTypeLength) : untyped
}

const isType = (u: unknown): u is string => typeof u === "string" && u !== ""

/** What an error says is its cause; undefined where there is none. */
export const causeOf = (error: unknown): unknown => attempt(() => isError(error) ? error.cause : undefined, undefined)

/** The error, where it is one whose message can be read, or one that says the same. */
export const readable = (error: unknown): Error =>
  attempt(() => error instanceof Error && typeof error.message === "string" ? error : undefined, undefined) ??
    new Error(textOf(error), { cause: error })

/** Cuts a text that is too long, between two characters. */
export const clip = (text: string, maxLength: number = maxTextLength): string =>
  text.length <= maxLength ? text : `${text.slice(0, maxLength).replace(/[\ud800-\udbff]$/, "")}…`
