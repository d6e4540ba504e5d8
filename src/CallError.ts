/**
 * Why a call failed: the four errors of `Connection.call`.
 *
 * | what happened | error | what to do |
 * |---|---|---|
 * | the owner of the connection closed it | {@link CommunicationError} `Closed` | nothing; the program is shutting down |
 * | the connection to the server broke, or was ended because the server broke the protocol | {@link CommunicationError} `Lost` | call again if the method is idempotent; requests that were not sent yet have gone elsewhere |
 * | the answer to this call cannot be decoded, or its contract does not fit the server's | {@link CommunicationError} `Protocol` | check which program runs at that address, and compare contracts |
 * | the arguments, the result or the error are larger than `maxMessageSize` of either end | {@link CommunicationError} `TooLarge` | send less, or raise the limit on both ends |
 * | no server could be reached | {@link Unreachable} | call again later, or call with `waitForReady` |
 * | the deadline passed | {@link DeadlineExceeded} | give up, or allow more time |
 * | the handler failed or could not run | {@link RemoteError} | see its chain |
 *
 * This module does not know how a connection finds out about a failure.
 *
 * **Example**
 *
 * ```ts
 * import { Effect } from "effect"
 * import { CallError } from "effect-call"
 *
 * const orEmpty = <R>(call: Effect.Effect<Uint8Array, CallError.CallError, R>) =>
 *   call.pipe(
 *     Effect.retry({ times: 2, while: (error) => error._tag === "RemoteError" && error.isOverloaded }),
 *     Effect.catchTag("Unreachable", () => Effect.succeed(new Uint8Array()))
 *   )
 * ```
 *
 * @module
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import { listFailures } from "./internal/failures.ts"
import * as Identities from "./internal/protocol/identities.ts"
import { attempt } from "./internal/userError.ts"

// These errors are made in the handlers of a socket's events, thousands at once when a connection with many calls is
// lost. A stack from there says nothing about the caller, and costs more than the rest of the error. The cause of the
// failed effect names the caller. `Reflect.set`: if intrinsics are frozen, it does nothing, but an assignment would
// throw.
const stacksOff = (): number => {
  const limit = Error.stackTraceLimit
  Reflect.set(Error, "stackTraceLimit", 0)
  return limit
}
const stacksOn = (limit: number): void => {
  Reflect.set(Error, "stackTraceLimit", limit)
}

const communicationErrorFields = {
  reason: Schema.Union([
    Schema.TaggedStruct("Closed", {}),
    Schema.TaggedStruct("Lost", {}),
    Schema.TaggedStruct("Protocol", {}),
    Schema.TaggedStruct("TooLarge", {})
  ]),
  endpoint: Schema.optionalKey(Schema.String),
  message: Schema.String,
  cause: Schema.optionalKey(Schema.Defect()),
  maybeExecuted: Schema.Boolean
}

/**
 * The connection did not carry the call to its end.
 *
 * **Details**
 *
 * - `reason._tag`: `Closed`: the owner of the connection closed it. `Lost`: the connection broke, or it was ended
 *   because the server broke the protocol. `Protocol`: the answer to this call cannot be decoded, or contracts differ
 *   and JSON does not carry the call. `TooLarge`: the arguments, the result, or the error of the handler are larger
 *   than the `maxMessageSize` of either end; `message` gives the size and the limit. `Protocol` and `TooLarge` end this
 *   call only: the connection and its other calls go on.
 * - `endpoint`: the address of the server, if one was picked.
 * - `cause`: the error of the socket, if there is one.
 * - `maybeExecuted`: `false` promises that no handler saw the call: to make it again has no second effect. `true` says
 *   that a handler may have run, in part or completely. It is `true` for `Lost`, since a request that was not sent yet
 *   goes elsewhere, and for `Protocol`, unless contracts differ and JSON does not carry the call. For `TooLarge` it is
 *   `false` if the arguments are too large (unless an earlier attempt of the same call may have run), and `true` if the
 *   answer is.
 *
 * Source: the constant `CommunicationError` of the Go package.
 *
 * @category errors
 * @since 0.1.0
 */
export class CommunicationError extends Schema.TaggedError<CommunicationError>("effect-call/CommunicationError")(
  "CommunicationError",
  communicationErrorFields
) {
  constructor(props: Schema.Struct.MakeIn<typeof communicationErrorFields>, options?: Schema.MakeOptions) {
    const limit = stacksOff()
    try {
      super(props, options)
    } finally {
      stacksOn(limit)
    }
  }
}

const unreachableFields = {
  message: Schema.String,
  attempts: Schema.Array(Schema.Struct({ endpoint: Schema.String, message: Schema.String }))
}

/**
 * No server could be reached, so no handler saw the call: there were no endpoints, or each of them could not be dialed,
 * now or so recently that it is still in backoff.
 *
 * **Details**
 *
 * - `attempts`: the last failure of each endpoint that was considered; empty if there were no endpoints.
 * - `message`: the first 20 of these failures and the number of the others; why the resolver has no endpoints, or fewer
 *   than there should be, if it says so; and why the resolver failed, if it failed the last time.
 *
 * Source: the constant `Unreachable` of the Go package.
 *
 * @category errors
 * @since 0.1.0
 */
export class Unreachable extends Schema.TaggedError<Unreachable>("effect-call/Unreachable")(
  "Unreachable",
  unreachableFields
) {
  constructor(props: Schema.Struct.MakeIn<typeof unreachableFields>, options?: Schema.MakeOptions) {
    const limit = stacksOff()
    try {
      super(props, options)
    } finally {
      stacksOn(limit)
    }
  }

  /**
   * Makes the error of these attempts. Its message names up to 20 of them, and the number of the others.
   *
   * @since 0.1.0
   */
  static fromAttempts(attempts: ReadonlyArray<{ readonly endpoint: string; readonly message: string }>): Unreachable {
    const message = attempts.length === 0
      ? "unreachable: there are no endpoints"
      : `unreachable: ${listFailures(attempts)}`
    return new Unreachable({ message, attempts })
  }
}

const deadlineExceededFields = {
  message: Schema.String
}

/**
 * The deadline of the call passed before its answer arrived. The handler may have run, in part or completely. It is
 * interrupted at the deadline, too.
 *
 * **Details**
 *
 * The server may be the first to notice. When the time of the call is up, or nearly so (two clocks may differ by 0.1
 * %), an answer whose error contains `context.DeadlineExceeded` becomes this error, even if the handler wraps it. While
 * there is time left, only Go's error itself does. A handler with less time than its caller, by a `Deadline` of its
 * own, gives a {@link RemoteError}.
 *
 * The message of a call that was not sent says what it waited for: the endpoint that was still being dialed, or whose
 * connection had no room, and the failures of others.
 *
 * Source: `context.DeadlineExceeded` of Go.
 *
 * @category errors
 * @since 0.1.0
 */
export class DeadlineExceeded extends Schema.TaggedError<DeadlineExceeded>("effect-call/DeadlineExceeded")(
  "DeadlineExceeded",
  deadlineExceededFields
) {
  constructor(props: Schema.Struct.MakeIn<typeof deadlineExceededFields>, options?: Schema.MakeOptions) {
    const limit = stacksOff()
    try {
      super(props, options)
    } finally {
      stacksOn(limit)
    }
  }
}

const remoteErrorFields = {
  message: Schema.String,
  chain: Schema.Array(Schema.Struct({ message: Schema.String, identity: Schema.String }))
}

/**
 * The server answered that the handler failed, or could not run.
 *
 * **Details**
 *
 * - `chain`: the errors that the server sent, outermost first; each error wraps the next one. An `identity` is an
 *   opaque text: two errors are the same if their identities are equal.
 * - `message`: the text of the outermost error.
 *
 * **Example**
 *
 * ```ts
 * import { CallError } from "effect-call"
 *
 * const error = CallError.RemoteError.fromChain([{ message: "no such user", identity: "(app:no-such-user)" }])
 * console.log(error.message) // no such user
 * console.log(error.is("(app:no-such-user)")) // true
 * ```
 *
 * @category errors
 * @since 0.1.0
 */
export class RemoteError extends Schema.TaggedError<RemoteError>("effect-call/RemoteError")(
  "RemoteError",
  remoteErrorFields
) {
  constructor(props: Schema.Struct.MakeIn<typeof remoteErrorFields>, options?: Schema.MakeOptions) {
    const limit = stacksOff()
    try {
      super(props, options)
    } finally {
      stacksOn(limit)
    }
  }

  /**
   * Makes the error of a chain. Its message is the text of the outermost error. If that is empty, the message is
   * "remote error without a message".
   *
   * @since 0.1.0
   */
  static fromChain(chain: ReadonlyArray<{ readonly message: string; readonly identity: string }>): RemoteError {
    return new RemoteError({ message: chain[0]?.message || "remote error without a message", chain })
  }

  /**
   * Whether an error of the chain has this identity; `errors.Is` of Go.
   *
   * @since 0.1.0
   */
  is(identity: string): boolean {
    return this.chain.some((link) => link.identity === identity)
  }

  /**
   * Whether the called server has no handler for the method. It is false if the handler itself made a call that failed
   * for this reason.
   *
   * @since 0.1.0
   */
  get isUnknownMethod(): boolean {
    return this.chain[0]?.identity === Identities.unknownMethod.identity
  }

  /**
   * Whether the server refused the call because it had too many calls. No handler has started, so the call can be made
   * again. It is false if the handler itself made a call that failed for this reason.
   *
   * @since 0.1.0
   */
  get isOverloaded(): boolean {
    return this.chain[0]?.identity === Identities.overloaded.identity
  }
}

/**
 * The errors of a call.
 *
 * @category errors
 * @since 0.1.0
 */
export type CallError = CommunicationError | Unreachable | DeadlineExceeded | RemoteError

/**
 * The schema of {@link CallError}, to send such an error or to store it.
 *
 * @category schemas
 * @since 0.1.0
 */
export const CallError = Schema.Union([CommunicationError, Unreachable, DeadlineExceeded, RemoteError])

/**
 * Whether a value is an error of a call.
 *
 * @category guards
 * @since 0.1.0
 */
export const isCallError = (u: unknown): u is CallError => attempt(() => isOne(u), false)

const isOne = Schema.is(CallError)
