/**
 * Errors of calls that several places of a client make.
 */
import { CommunicationError } from "../../CallError.ts"

/** The error of calls on a Connection that was closed. */
export const closedError = (endpoint: string | undefined, maybeExecuted: boolean): CommunicationError =>
  new CommunicationError({
    reason: { _tag: "Closed" },
    ...(endpoint === undefined ? {} : { endpoint }),
    message: "the Connection was closed",
    maybeExecuted
  })
