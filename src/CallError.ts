/**
 * Why a call failed: the four errors of `Connection.call`.
 *
 * | what happened | error | what to do |
 * |---|---|---|
 * | the connection was closed by its owner | {@link CommunicationError} `Closed` | nothing; the program is shutting down |
 * | the connection to the server broke, or was ended because the server broke the protocol | {@link CommunicationError} `Lost` | call again where the method is idempotent: what had not been sent yet has gone elsewhere |
 * | the answer to this call cannot be decoded, or its contract does not fit the server's | {@link CommunicationError} `Protocol` | look at what runs at that address, and compare contracts |
 * | the arguments, the result or the error are larger than `maxMessageSize` of either end | {@link CommunicationError} `TooLarge` | send less, or raise the limit on both ends |
 * | no server could be reached | {@link Unreachable} | call again later, or call with `waitForReady` |
 * | the deadline passed | {@link DeadlineExceeded} | give up, or allow more time |
 * | the handler failed or could not run | {@link RemoteError} | as the chain says |
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
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import { listFailures } from "./internal/failures.ts"
import * as Identities from "./internal/protocol/identities.ts"
import { attempt } from "./internal/userError.ts"

// These errors are made where a socket reported something, thousands at once when a connection with many calls is lost. A stack of
// that place says nothing about the caller (the cause of the failed effect does) and costs more than all the rest of the error.
// `Reflect.set`: where intrinsics are frozen it does nothing, and an assignment would throw.
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
 * The call was not carried to its end by the connection it went over.
 *
 * - `reason._tag`: `Closed`, the connection's owner closed it. `Lost`, it broke, or was ended because the server sent
 *   what the protocol does not allow. `Protocol`, the answer to this call cannot be decoded, or contracts differ and
 *   the call does not go in JSON. `TooLarge`, the arguments,
 *   the result, or the error that the handler failed with, are larger than the `maxMessageSize` of either end;
 *   `message` says how large, and what the limit is. `Protocol` and `TooLarge` end this call only: the connection and
 *   the calls beside it go on.
 * - `endpoint`: the address of the server, where one had been picked.
 * - `cause`: the error of the socket, where there is one.
 * - `maybeExecuted`: `false` promises that no handler saw the call, so that it can be made again without a second
 *   effect. `true` says that a handler may have run, in part or to its end. So it is for `Lost`, since a request that
 *   was not sent yet goes elsewhere, and for `Protocol`, unless contracts differ and the call does not go in JSON. For
 *   `TooLarge` it is `false` where the arguments are too large (unless an earlier try of the same call may have run),
 *   and `true` where the answer is.
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
 * No server could be reached, so no handler saw the call: there were no endpoints, or dialing each of them failed, just now or so
 * recently that it is not tried again yet.
 *
 * - `attempts`: the last failure of each endpoint that was considered; empty where there were none.
 * - `message`: the first 20 of them and how many more there are, why the resolver has no endpoints or fewer than there
 *   should be, where it says so, and why it failed, if it did the last time.
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
   * The error of these attempts, with a message that names each of them, up to 20, and how many more there are.
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
 * The call's deadline passed before its answer came. The handler may have run, in part or to its end; it is interrupted at the deadline
 * too.
 *
 * The server may be the first to say so. When the call's time is up, or as good as up (two clocks may be 0.1 % apart),
 * an answer whose error contains `context.DeadlineExceeded` is this error, also where the handler wraps it. While there
 * is time left, only Go's error alone is. A handler that had less time than its caller, by a `Deadline` of its own,
 * gives a {@link RemoteError}.
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
 * - `chain`: the errors that the server sent, outermost first, each next one what the one before it wraps. An `identity` is an opaque
 *   text: two errors are the same where their identities are equal.
 * - `message`: the text of the outermost one.
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
   * The error of a chain: its message is the text of the outermost error, or says that there is none.
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
   * Whether the server that was called has no handler for the method. False where its handler called on and met that.
   *
   * @since 0.1.0
   */
  get isUnknownMethod(): boolean {
    return this.chain[0]?.identity === Identities.unknownMethod.identity
  }

  /**
   * Whether the server refused the call because it had too many, without starting it: it can be made again. False where its handler
   * called on and met that.
   *
   * @since 0.1.0
   */
  get isOverloaded(): boolean {
    return this.chain[0]?.identity === Identities.overloaded.identity
  }
}

/**
 * Why a call failed.
 *
 * @category errors
 * @since 0.1.0
 */
export type CallError = CommunicationError | Unreachable | DeadlineExceeded | RemoteError

/**
 * The schema of {@link CallError}: to send such an error on, or to keep it.
 *
 * @category schemas
 * @since 0.1.0
 */
export const CallError = Schema.Union([CommunicationError, Unreachable, DeadlineExceeded, RemoteError])

/**
 * Whether a value is one of the errors of a call.
 *
 * @category guards
 * @since 0.1.0
 */
export const isCallError = (u: unknown): u is CallError => attempt(() => isOne(u), false)

const isOne = Schema.is(CallError)
