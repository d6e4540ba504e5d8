/**
 * Turns a handler's failure into the error chain that its caller gets.
 *
 * It must not know the call: the same failure always gives the same chain.
 */
import * as Cause from "effect/Cause"
import * as Option from "effect/Option"
import { CommunicationError, DeadlineExceeded, RemoteError, Unreachable } from "../../CallError.ts"
import { isLeft } from "../ambient/leaving.ts"
import { type ErrorChain, plainError } from "../protocol/errorChain.ts"
import * as Identities from "../protocol/identities.ts"
import { errorType } from "../telemetry/span.ts"
import { attempt, causeOf, clip, ownTextOf, unreadableText } from "../userError.ts"

/** How far errors are followed along their causes. A caller wants to know why, not everything. */
const maxLinks = 32

/** The answer to a defect. Its details are logged here, and do not leave the process. */
const died = plainError("internal error: the handler died")

/** The answer to an error that throws when it is read. */
const unreadable = plainError(unreadableText)

/**
 * The failure of a call that this server refuses before it runs anything: the caller may make it again. Handlers cannot
 * fail with it.
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
  if (hasLeft(cause)) return [Identities.leaving]
  return Cause.hasInterruptsOnly(cause) ? [Identities.canceled] : [died]
}

/** Whether a handler has ended since the server leaves, by `Server.untilLeaving`: that is no bug. */
export const hasLeft = (cause: Cause.Cause<unknown>): boolean =>
  cause.reasons.some((reason) => Cause.isDieReason(reason) && isLeft(reason.defect))

/** The kind of a handler's failure, for spans and metrics. */
export const kindOfFailure = (cause: Cause.Cause<unknown>): string =>
  hasLeft(cause) && Option.isNone(Cause.findErrorOption(cause)) ? Identities.leaving.message : errorType(cause)

/** The error chain of an error: its message, then the messages of its causes. It never throws. */
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
 * The identities that only a server gives, and never a handler. The texts alone would not tell them apart: any error
 * may have the same text.
 */
const ownRefusals: ReadonlySet<string> = new Set([
  Identities.overloaded.identity,
  Identities.unknownMethod.identity,
  Identities.contractDiffers.identity,
  Identities.leaving.identity,
  Identities.flowControlIdentity,
  Identities.argumentsTooLargeIdentity,
  Identities.answerTooLargeIdentity
])

/**
 * Whether a chain begins with the refusal of another server that the handler has called. The caller must not take it
 * for this server's: it would think that the handler never ran, or that its own answer was too large.
 */
const refusedElsewhere = (chain: ErrorChain): boolean => chain[0] !== undefined && ownRefusals.has(chain[0].identity)

/** The links of one error, without its causes. */
const linksOf = (error: unknown): ErrorChain => {
  if (error instanceof RemoteError) return linksOfRemote(error)
  const text = ownTextOf(error)
  const wellKnown = wellKnownOf(error)
  if (wellKnown === undefined) return [plainError(text)]
  return text === wellKnown.message ? [wellKnown] : [plainError(text), wellKnown]
}

/** A RemoteError is the chain that its server sent. Where it was made with another text, that text comes first. */
const linksOfRemote = (error: RemoteError): ErrorChain => {
  const { message } = error
  const chain = Array.from(error.chain.slice(0, maxLinks), copyOf)
  if (chain.length > 0 && message === RemoteError.fromChain(chain).message) return chain
  return [plainError(clip(message)), ...chain]
}

/** A link that was not made here may hold anything, and only texts can be sent. Each is read only once. */
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
