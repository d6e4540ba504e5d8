/**
 * What goes wrong between us and the API of Kubernetes.
 */
import * as Data from "effect/Data"

/**
 * - `Unready`: nothing was asked, since a file with credentials cannot be read.
 * - `Unreachable`: no answer came.
 * - `Refused`: the answer is that of an error, `status`.
 * - `Expired`: what we have seen is too old for the server to tell what has changed since.
 * - `Cut`: an answer ended before its end.
 * - `Garbled`: an answer cannot be understood.
 */
type Kind = "Unready" | "Unreachable" | "Refused" | "Expired" | "Cut" | "Garbled"

/** Becomes a `ResolverError`; `message` is meant for users. */
export class Failure extends Data.TaggedError("KubernetesFailure")<{
  readonly kind: Kind
  readonly message: string
  readonly cause?: unknown
  readonly status?: number | undefined
  /** For how long the server wants to be left alone. */
  readonly retryAfterMillis?: number | undefined
}> {
  /** The same, after what it happened to. */
  under(what: string): Failure {
    const { cause, kind, message, retryAfterMillis, status } = this
    return new Failure({ kind, message: `${what}: ${message}`, cause, status, retryAfterMillis })
  }
}
