/**
 * The failures of requests to the API of Kubernetes. They are internal: users get a `ResolverError` with the same
 * message. It does not know how a request is made.
 */
import * as Data from "effect/Data"

/**
 * - `Unready`: nothing was asked, because the configuration or the credentials cannot be read.
 * - `Unreachable`: no answer came.
 * - `Refused`: the answer is an error with this `status`.
 * - `Expired`: the version is too old: the server does not know all changes since then.
 * - `Cut`: an answer ended too early.
 * - `Garbled`: an answer cannot be read.
 */
type Kind = "Unready" | "Unreachable" | "Refused" | "Expired" | "Cut" | "Garbled"

/** A failed request. `message` is for users. */
export class Failure extends Data.TaggedError("KubernetesFailure")<{
  readonly kind: Kind
  readonly message: string
  readonly cause?: unknown
  readonly status?: number | undefined
  /** How long the server asks clients to wait before the next request. */
  readonly retryAfterMillis?: number | undefined
}> {
  /** The same failure, with a message that begins with `what`. */
  under(what: string): Failure {
    const { cause, kind, message, retryAfterMillis, status } = this
    return new Failure({ kind, message: `${what}: ${message}`, cause, status, retryAfterMillis })
  }
}
