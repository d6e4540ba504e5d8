/**
 * What a handler's failure becomes on the wire.
 */
import * as Cause from "effect/Cause"
import * as Option from "effect/Option"
import { CommunicationError, DeadlineExceeded, RemoteError, Unreachable } from "../../CallError.ts"
import { type ErrorChain, plainError } from "../protocol/errorChain.ts"
import * as Identities from "../protocol/identities.ts"
import { attempt, causeOf, clip, ownTextOf, unreadableText } from "../userError.ts"

/** Errors are followed no further along their causes than this: a caller wants to know why, not everything. */
const maxLinks = 32

/** What a defect is answered with: it is logged where it happened, and its details are nobody else's business. */
const died = plainError("internal error: the handler died")

/** What an error is answered with that cannot even be looked at. */
const unreadable = plainError(unreadableText)

/**
 * A call that this server refuses before it runs anything: the caller may make it again. Handlers cannot fail with it.
 */
export class Refused extends Error {
  readonly link: Identities.Link

  constructor(name: string, link: Identities.Link) {
    super(link.message)
    this.name = name
    this.link = link
  }
}

/** The error chain of a handler that did not succeed. */
export const chainOfCause = (cause: Cause.Cause<unknown>): ErrorChain => {
  const failure = Cause.findErrorOption(cause)
  if (Option.isSome(failure)) {
    const refused = attempt(() => failure.value instanceof Refused ? failure.value.link : undefined, undefined)
    return refused === undefined ? chainOf(failure.value) : [refused]
  }
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
  return refusedElsewhere(chain) ? [plainError(`the handler failed: ${ownTextOf(error)}`), ...chain] : chain
}

/**
 * What a server says of a call itself, and never a handler. (The text alone is not enough to tell: it makes the
 * identity of a plain error.)
 */
const ownRefusals: ReadonlySet<string> = new Set([
  Identities.overloaded.identity,
  Identities.unknownMethod.identity,
  Identities.contractDiffers.identity,
  Identities.argumentsTooLargeIdentity,
  Identities.answerTooLargeIdentity
])

/**
 * Whether a chain would say of this server what is true of one that its handler called: that it refused the call, or
 * that an answer was too large. A caller would take the handler for one that never ran, or its own answer for the one
 * that was too large.
 */
const refusedElsewhere = (chain: ErrorChain): boolean => chain[0] !== undefined && ownRefusals.has(chain[0].identity)

/** What one error adds, without its causes. */
const linksOf = (error: unknown): ErrorChain => {
  if (error instanceof RemoteError) return linksOfRemote(error)
  const text = ownTextOf(error)
  const wellKnown = wellKnownOf(error)
  if (wellKnown === undefined) return [plainError(text)]
  return text === wellKnown.message ? [wellKnown] : [plainError(text), wellKnown]
}

/** A RemoteError is what its server sent; a text of its own, where somebody made it with one, comes before that. */
const linksOfRemote = (error: RemoteError): ErrorChain => {
  const { message } = error
  const chain = Array.from(error.chain.slice(0, maxLinks), copyOf)
  if (chain.length > 0 && message === RemoteError.fromChain(chain).message) return chain
  return [plainError(clip(message)), ...chain]
}

/** Only texts can be sent, and a link of one's own making may be anything; each is read once. */
const copyOf = ({ identity, message }: { readonly identity: unknown; readonly message: unknown }): Identities.Link => {
  if (typeof message !== "string" || typeof identity !== "string") throw new TypeError("expected texts")
  return { message, identity }
}

/** The link that makes `errors.Is(err, call.Unreachable)` and the like true in Go. */
const wellKnownOf = (error: unknown): Identities.Link | undefined => {
  if (error instanceof CommunicationError) return Identities.communicationError
  if (error instanceof Unreachable) return Identities.unreachable
  return error instanceof DeadlineExceeded ? Identities.deadlineExceeded : undefined
}
