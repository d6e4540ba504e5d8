/**
 * The failures of requests to the API of Kubernetes. Internal: users get a `ResolverError` with the same message.
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
  /** How long the server wants no further request. */
  readonly retryAfterMillis?: number | undefined
}> {
  /** The same failure. Its message begins with `what` was done. */
  under(what: string): Failure {
    const { cause, kind, message, retryAfterMillis, status } = this
    return new Failure({ kind, message: `${what}: ${message}`, cause, status, retryAfterMillis })
  }
}
