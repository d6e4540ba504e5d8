/**
 * The errors that both ends know by name: the reference's, and those that we add.
 *
 * An identity is an opaque text, and two errors are the same where their identities are equal. The reference makes it with Go's
 * formatting; these are the texts that it sends and compares.
 */

/** One error of an error chain. */
export interface Link {
  readonly message: string
  readonly identity: string
}

/** The call could not be carried to its end: `call.CommunicationError`. */
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

/**
 * The server's contract of the method is another one than the client's. It has run nothing. Ours; the reference has no
 * such error.
 */
export const contractDiffers: Link = {
  message: "client and server have different contracts of the method",
  identity: "(effect-call:contract-differs)"
}

/** The server had too much to do and did not start the call. Ours; the reference has no such error. */
export const overloaded: Link = {
  message: "overloaded",
  identity: "(effect-call:overloaded)"
}

/** The arguments are over the server's limit, and no handler has seen them. Ours; for the reference it is any error. */
export const argumentsTooLarge = (size: number, limit: number): Link => ({
  message: `the arguments are ${size} bytes, expected at most ${limit}`,
  identity: argumentsTooLargeIdentity
})

/** How {@link argumentsTooLarge} is recognised. */
export const argumentsTooLargeIdentity = "(effect-call:too-large)"

/**
 * The handler's result or error is over the server's limit. The handler has run. Ours; for the reference it is any
 * error.
 */
export const answerTooLarge = (message: string): Link => ({ message, identity: answerTooLargeIdentity })

/** How {@link answerTooLarge} is recognised. */
export const answerTooLargeIdentity = "(effect-call:answer-too-large)"
