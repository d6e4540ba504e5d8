/**
 * Reads an answer that is an error: a chain of errors, some of which the server says itself.
 *
 * It is pure: what such an answer means for a call depends on the call, and is not decided here.
 */
import { CommunicationError, RemoteError } from "../../CallError.ts"
import type { MethodKey } from "../../MethodKey.ts"
import { decodeErrorChain } from "../protocol/errorChain.ts"
import * as Identities from "../protocol/identities.ts"
import { methodName } from "../protocol/methodName.ts"

/** What a server has answered. */
export type ErrorAnswer =
  /** What is wrong is with this request or its answer, or it is the handler's. */
  | { readonly _tag: "Failed"; readonly error: CommunicationError | RemoteError }
  /** The handler's time was up. `isOwn`: the server itself says so, and not another one that the handler has called. */
  | { readonly _tag: "TimeUp"; readonly isOwn: boolean; readonly error: RemoteError }
  /** Its contract of the method is another one, and it has run nothing. */
  | { readonly _tag: "ContractDiffers"; readonly error: RemoteError }

/** The error of a call if there is something wrong with its own request or answer, and with nothing else. */
export const faulty = (
  endpoint: string,
  reason: "Protocol" | "TooLarge",
  message: string,
  maybeExecuted: boolean
): CommunicationError => new CommunicationError({ reason: { _tag: reason }, endpoint, message, maybeExecuted })

/**
 * Reads the payload of a response error, to a call of a method on an endpoint. `hasRun` says that its handler may have
 * run in any case.
 */
export const readErrorAnswer = (
  payload: Uint8Array,
  key: MethodKey,
  endpoint: string,
  hasRun = false
): ErrorAnswer => {
  const method = methodName(key)
  const decoded = decodeErrorChain(payload)
  if (!decoded.ok) {
    const problem = `cannot decode the error of ${method}: ${decoded.reason}`
    return { _tag: "Failed", error: faulty(endpoint, "Protocol", problem, true) }
  }
  const { chain } = decoded
  // What a server says itself is a single error. If a handler has met that elsewhere, its chain is longer.
  const only = chain.length === 1 ? chain[0] : undefined
  // However its handler words that: a Go handler wraps its context's error.
  if (chain.some(({ identity }) => identity === Identities.deadlineExceeded.identity)) {
    return { _tag: "TimeUp", isOwn: only !== undefined, error: RemoteError.fromChain(chain) }
  }
  if (only === undefined) return { _tag: "Failed", error: RemoteError.fromChain(chain) }
  switch (only.identity) {
    case Identities.contractDiffers.identity:
      return { _tag: "ContractDiffers", error: RemoteError.fromChain(chain) }
    case Identities.argumentsTooLargeIdentity: {
      const problem = `${endpoint} refused a call of ${method}: ${only.message}`
      return { _tag: "Failed", error: faulty(endpoint, "TooLarge", problem, hasRun) }
    }
    case Identities.answerTooLargeIdentity:
      return { _tag: "Failed", error: faulty(endpoint, "TooLarge", only.message, true) }
    default:
      return { _tag: "Failed", error: RemoteError.fromChain(chain) }
  }
}
