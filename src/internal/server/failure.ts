/**
 * What a handler's failure becomes on the wire.
 */
import * as Cause from "effect/Cause"
import { format } from "effect/Formatter"
import * as Option from "effect/Option"
import { CommunicationError, DeadlineExceeded, RemoteError, Unreachable } from "../../CallError.ts"
import { type ErrorChain, plainError } from "../protocol/errorChain.ts"
import * as Identities from "../protocol/identities.ts"

/** Errors are followed no further along their causes than this: a caller wants to know why, not everything. */
const maxLinks = 32

/** Longer texts are cut, so that an answer stays far below the largest message even where every character is quoted. */
const maxTextLength = 65_536

/** What a defect is answered with: it is logged where it happened, and its details are nobody else's business. */
const died = plainError("internal error: the handler died")

/** What an error is answered with that cannot even be looked at. */
const unreadable = plainError("an error whose message could not be read")

/** The error chain of a handler that did not succeed. */
export const chainOfCause = (cause: Cause.Cause<unknown>): ErrorChain => {
  const failure = Cause.findErrorOption(cause)
  if (Option.isSome(failure)) return chainOf(failure.value)
  return Cause.hasInterruptsOnly(cause) ? [Identities.canceled] : [died]
}

/** The error chain of an error: its message, then the messages of its causes. Never throws, whatever the error does. */
export const chainOf = (error: unknown): ErrorChain => {
  const chain: Array<Identities.Link> = []
  const seen = new Set<unknown>()
  let next = error
  do {
    const current = next
    seen.add(current)
    chain.push(...attempt(() => linksOf(current), [unreadable]))
    next = causeOf(current)
  } while (next !== undefined && next !== null && chain.length < maxLinks && !seen.has(next))
  if (chain.length > maxLinks) chain.length = maxLinks
  return refusedElsewhere(chain) ? [plainError(`the handler failed: ${textOf(error)}`), ...chain] : chain
}

/**
 * Whether a chain would say of this server what is true of one that its handler called: that it refused the call. A caller would take
 * the handler for one that never ran. (The text alone is not enough to tell: it makes the identity of a plain error.)
 */
const refusedElsewhere = (chain: ErrorChain): boolean => {
  const identity = chain[0]?.identity
  return identity === Identities.overloaded.identity || identity === Identities.unknownMethod.identity
}

/** What one error adds, without its causes. */
const linksOf = (error: unknown): ErrorChain => {
  if (error instanceof RemoteError) return linksOfRemote(error)
  const text = textOf(error)
  const wellKnown = wellKnownOf(error)
  if (wellKnown === undefined) return [plainError(text)]
  return text === wellKnown.message ? [wellKnown] : [plainError(text), wellKnown]
}

/** A RemoteError is what its server sent; a text of its own, where somebody made it with one, comes before that. */
const linksOfRemote = (error: RemoteError): ErrorChain => {
  const { chain, message } = error
  if (chain.length > 0 && message === RemoteError.fromChain(chain).message) return chain
  return [plainError(clip(message)), ...chain]
}

/** The link that makes `errors.Is(err, call.Unreachable)` and the like true in Go. */
const wellKnownOf = (error: unknown): Identities.Link | undefined => {
  if (error instanceof CommunicationError) return Identities.communicationError
  if (error instanceof Unreachable) return Identities.unreachable
  return error instanceof DeadlineExceeded ? Identities.deadlineExceeded : undefined
}

// Handlers fail with whatever their authors throw: getters and proxies of theirs run here, and may throw again.
const attempt = <A>(evaluate: () => A, otherwise: A): A => {
  try {
    return evaluate()
  } catch {
    return otherwise
  }
}

// The tag is for errors of another realm (a vm context), which are no instances of our `Error`.
const isError = (u: unknown): u is Error => u instanceof Error || Object.prototype.toString.call(u) === "[object Error]"

const textOf = (error: unknown): string =>
  clip(attempt(() => {
    if (typeof error === "string") return error
    return isError(error) ? messageOf(error) : format(error)
  }, unreadable.message))

/** An error class with fields and no message of its own (`Data.TaggedError`) is known by its name. */
const messageOf = (error: Error): string => {
  // Whatever the types say, anything can be assigned to both.
  const { message, name }: { readonly message: unknown; readonly name: unknown } = error
  const text = typeof message === "string" ? message : format(message)
  return text === "" && typeof name === "string" && name !== "Error" ? name : text
}

const causeOf = (error: unknown): unknown => attempt(() => isError(error) ? error.cause : undefined, undefined)

/** Cuts a text that is too long, between two characters. */
const clip = (text: string): string =>
  text.length <= maxTextLength ? text : `${text.slice(0, maxTextLength).replace(/[\ud800-\udbff]$/, "")}…`
