/**
 * The errors that both ends know: the errors of the reference, and the ones that this package adds. It does not know
 * when an error is sent.
 *
 * An identity is an opaque text, and two errors are the same if their identities are equal. The reference makes it with
 * Go's formatting. These are the texts that it sends and compares.
 */

/** One error of an error chain. */
export interface Link {
  readonly message: string
  readonly identity: string
}

/** The call was not carried to its end: `call.CommunicationError`. */
export const communicationError: Link = {
  message: "communication error",
  identity: "(github.com/ServiceWeaver/weaver/internal/net/call:0)"
}

/** No server could be reached: `call.Unreachable`. */
export const unreachable: Link = {
  message: "unreachable",
  identity: "(github.com/ServiceWeaver/weaver/internal/net/call:1)"
}

/** The call was canceled: `context.Canceled`. */
export const canceled: Link = {
  message: "context canceled",
  identity: "(:&errors.errorString{s:\"context canceled\"})"
}

/** The call's deadline passed: `context.DeadlineExceeded`. */
export const deadlineExceeded: Link = {
  message: "context deadline exceeded",
  identity: "(context:context.deadlineExceededError{})"
}

/** The server has no handler for the method. */
export const unknownMethod: Link = {
  message: "internal error: unknown function",
  identity: "(:&errors.errorString{s:\"internal error: unknown function\"})"
}

/** The server has another contract of the method than the client, and has run nothing. It is not in the reference. */
export const contractDiffers: Link = {
  message: "client and server have different contracts of the method",
  identity: "(effect-call:contract-differs)"
}

/** The server had too many calls, and did not start this one. It is not in the reference. */
export const overloaded: Link = {
  message: "overloaded",
  identity: "(effect-call:overloaded)"
}

/** The stream ended since the server leaves. It is not in the reference. */
export const leaving: Link = { message: "leaving", identity: "(effect-call:leaving)" }

/** The client's items broke the rules of streams. It is not in the reference. */
export const flowControlIdentity = "(effect-call:flow-control)"

/** The client's items broke the rules of streams; `message` says which one. */
export const flowControl = (message: string): Link => ({ message, identity: flowControlIdentity })

/**
 * The arguments are over the server's limit, and no handler has seen them. It is not in the reference, which treats it
 * like any other error.
 */
export const argumentsTooLarge = (size: number, limit: number): Link => ({
  message: `the arguments are ${size} bytes, expected at most ${limit}`,
  identity: argumentsTooLargeIdentity
})

/** The identity of {@link argumentsTooLarge}. */
export const argumentsTooLargeIdentity = "(effect-call:too-large)"

/**
 * The result or the error of the handler is over the server's limit. The handler has run. It is not in the reference,
 * which treats it like any other error.
 */
export const answerTooLarge = (message: string): Link => ({ message, identity: answerTooLargeIdentity })

/** The identity of {@link answerTooLarge}. */
export const answerTooLargeIdentity = "(effect-call:answer-too-large)"
