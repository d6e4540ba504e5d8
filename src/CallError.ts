/**
 * Why a call failed. A call fails with one of four errors, or with an error of its own contract if its method belongs
 * to a component.
 *
 * | error | what happened | has the handler run? | what to do |
 * |---|---|---|---|
 * | {@link Unreachable} | no server could be reached | no | look into `attempts`; call again later, with a `retry`, or with `waitForReady` |
 * | {@link CommunicationError} `Lost` | the connection was lost after the request had been handed to it | perhaps | call again if the method is idempotent: with a `retry` |
 * | {@link CommunicationError} `Protocol` | the answer cannot be decoded, or contracts differ and JSON does not carry the call | `maybeExecuted` says it | compare the contracts of both sides |
 * | {@link CommunicationError} `TooLarge` | the arguments, the result or the error are larger than `maxMessageSize` of either end | `maybeExecuted` says it | send less, or raise the limit on both ends |
 * | {@link CommunicationError} `Closed` | the owner of the Connection closed it | `maybeExecuted` says it | nothing: the program is shutting down |
 * | {@link DeadlineExceeded} | the time was up | perhaps | give up, or allow more time |
 * | {@link RemoteError} | the handler failed or died | yes | see `message`, `chain` and `is`; after a defect, the log of the server |
 * | {@link RemoteError} with `isOverloaded` | the server has too many calls, or too many of this connection | no | call again later: with a `retry` |
 * | {@link RemoteError} with `isUnknownMethod` | the server has no such method, or not for this client | no | compare names and versions; find out who may call it |
 * | {@link RemoteError} that names the payload | the server cannot decode the payload of a component's method | no | compare the contracts of both sides |
 *
 * The errors of a method's contract, and those of its middleware, are not in this table: they arrive as they were. An
 * interrupted call has no error.
 *
 * This module does not know how a connection finds out about a failure.
 *
 * **Example** (Handling the errors of a call)
 *
 * ```ts
 * import { Effect } from "effect"
 * import type { CallError } from "effect-call"
 *
 * const orDefault = <R>(call: Effect.Effect<number, CallError.CallError, R>) =>
 *   call.pipe(
 *     // By tag. What is not caught here goes on.
 *     Effect.catchTags({
 *       Unreachable: (error) => Effect.as(Effect.logWarning(error.message), 0),
 *       DeadlineExceeded: () => Effect.succeed(0)
 *     }),
 *     // By the reason of an error.
 *     Effect.catchReason("CommunicationError", "TooLarge", (_, error) => Effect.die(error))
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
  /**
   * What happened: `Closed`, `Lost`, `Protocol` or `TooLarge`. {@link CommunicationError} explains them.
   * `Effect.catchReason` handles one of them.
   */
  reason: Schema.Union([
    Schema.TaggedStruct("Closed", {}),
    Schema.TaggedStruct("Lost", {}),
    Schema.TaggedStruct("Protocol", {}),
    Schema.TaggedStruct("TooLarge", {})
  ]),
  /** The address of the server, such as `tcp://10.0.0.7:9000`. It is missing if no server was picked. */
  endpoint: Schema.optionalKey(Schema.String),
  /** What happened, in words: with the method, the sizes and limits, or what was expected where. */
  message: Schema.String,
  /** The error of the socket, if there is one. */
  cause: Schema.optionalKey(Schema.Defect()),
  /**
   * Whether a handler may have seen the call. `false` is a promise: no handler saw it, and to make the call again has
   * no second effect. `true`: a handler may have run, in part or completely.
   */
  maybeExecuted: Schema.Boolean
}

/**
 * The connection did not carry the call to its end. Its `reason` says why, and `maybeExecuted` whether a handler may
 * have run.
 *
 * **Details**
 *
 * - `Lost`: the connection was lost after the request had been handed to it. The server died or was cut off, or took
 *   longer to stop than its `shutdownGrace`. It may have given this client up, which its log then says. Or the client
 *   gave the server up, and `message` says why: the server was silent for the time of `keepAlive`, sent something that
 *   the protocol does not allow, or sent a message that was not complete within `messageTimeout`. `maybeExecuted` is
 *   `true`, since a request that was not sent yet goes elsewhere by itself. Call again if the method is idempotent: a
 *   `retry` does that.
 * - `Protocol`: the answer to this call cannot be decoded (`maybeExecuted` is `true`), the server broke the rules of
 *   streams (`true`), or the contracts of client and server differ and JSON does not carry the call (`false`).
 *   `message` says what was expected, and where. Deploy both sides with the same contract, or give its schemas a JSON
 *   form. (A handler of bytes that passes typed calls on, as a
 *   proxy does, cannot pass on that contracts differ: its callers get a {@link RemoteError}. Give clients behind a
 *   proxy the format `"json"`.)
 * - `TooLarge`: the arguments, the result, the error of the handler, or an item of a stream are larger than the
 *   `maxMessageSize` of either end. `message` gives the size and the limit. `maybeExecuted` is `false` if the
 *   arguments are too large (unless an earlier attempt of the same call may have run), and `true` otherwise. Send less,
 *   or raise the limit on both ends.
 * - `Closed`: the Connection was closed, by `close` or with its Scope. The program is usually shutting down.
 *
 * `Protocol` and `TooLarge` end this call only: the connection and its other calls go on.
 *
 * **Gotchas**
 *
 * If a server is only slow to answer its probes, for instance since it computes for long without a pause, its calls are
 * `Lost`, too. Give the Connection a longer `keepAlive`.
 *
 * **Example** (Reacting to a reason)
 *
 * ```ts
 * import { Effect } from "effect"
 * import type { CallError } from "effect-call"
 *
 * // It fails again with everything else.
 * const ignoreClosed = <R>(call: Effect.Effect<void, CallError.CallError, R>) =>
 *   Effect.catchReason(call, "CommunicationError", "Closed", () => Effect.void)
 * ```
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
  /**
   * Why no server could be reached: the first 20 of `attempts` and the number of the others; why the resolver has no
   * endpoints, or fewer than there should be, if it says so; and why the resolver failed, if it failed the last time.
   */
  message: Schema.String,
  /** The last failure of each endpoint that was considered. It is empty if there were no endpoints. */
  attempts: Schema.Array(Schema.Struct({
    /** The address of the endpoint. */
    endpoint: Schema.String,
    /**
     * Why it could not be called: the text of its `Endpoint.DialError`, or why its connection was lost. If a server
     * closes connections before it has said anything, the reason is in the log of the server.
     */
    message: Schema.String
  }))
}

/**
 * No server could be reached, so no handler saw the call: there were no endpoints, or each of them could not be dialed,
 * now or so recently that it is still in backoff.
 *
 * **When to use**
 *
 * Look into `attempts` to find the reason. To wait for a server instead of failing, call with `waitForReady` and a
 * `timeout`. To try a few times, call with a `retry`.
 *
 * **Details**
 *
 * - A shard key that is not a u64 gives this error, too, and `message` says so.
 * - `Connection.make` fails with it if its resolver is constant and has no endpoints.
 * - With `Balancer.sharded` there is one endpoint for a key. A call with that key fails if this endpoint cannot be
 *   dialed, or if it is ejected (`ClientOptions.outlierEjection`).
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
   * **When to use**
   *
   * Use it in a balancer of your own that has no endpoint for a call, and in tests.
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
  /** What did not end in time, or what a call that was not sent waited for. */
  message: Schema.String
}

/**
 * The time of the call was up before its answer arrived. The handler may have run, in part or completely. It is
 * interrupted at the deadline, too.
 *
 * **When to use**
 *
 * A call has no time limit unless one is set: with the `timeout` of `CallOptions`, or with `Deadline.within` around it.
 * `Deadline.within` fails with this error, too.
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
  /** The text of the outermost error. */
  message: Schema.String,
  /** The errors that the server sent, outermost first. Each error wraps the next one, which is its cause. */
  chain: Schema.Array(Schema.Struct({
    /** The text of this error. */
    message: Schema.String,
    /** An opaque text. Two errors are the same if their identities are equal. See {@link RemoteError.is}. */
    identity: Schema.String
  }))
}

/**
 * The server answered that the handler failed, or could not run.
 *
 * **Details**
 *
 * It is one of these:
 *
 * - A handler of bytes failed. `chain` has its error and the causes of that, at most 32. (The errors of a component's
 *   method arrive as they were.)
 * - The handler died of a defect. The server has logged the defect, and `message` has no details of it.
 * - The handler was interrupted on its server, or interrupted itself: `context canceled`.
 * - {@link RemoteError.isOverloaded}: the server had too many calls or streams. Nothing has run.
 * - {@link RemoteError.isLeaving}: a stream ended since its server leaves. What came before is whole.
 * - {@link RemoteError.isUnknownMethod}: the server has no such method, or not for this client. Nothing has run.
 * - The payload of a component's method cannot be decoded. `message` says what was expected, and where. Nothing has
 *   run.
 *
 * **Gotchas**
 *
 * Errors of the application belong into the contract of a component, or into the bytes of a result. There they keep
 * their types. A `RemoteError` is for what kept a handler from doing its work.
 *
 * **Example** (Looking for an error of a Go server)
 *
 * ```ts
 * import { CallError } from "effect-call"
 *
 * const noFunds = "(:&errors.errorString{s:\"no funds\"})" // what `errors.New("no funds")` is in Go
 *
 * const error = CallError.RemoteError.fromChain([
 *   { message: "cannot order", identity: "(:&errors.errorString{s:\"cannot order\"})" },
 *   { message: "no funds", identity: noFunds }
 * ])
 * console.log(error.message) // cannot order
 * console.log(error.is(noFunds)) // true
 * ```
 *
 * Source: the errors of a handler as the Go package sends them, a chain of texts and identities.
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
   * **When to use**
   *
   * Use it in tests, and in handlers of bytes that fail with an identity which a Go client looks for.
   *
   * @since 0.1.0
   */
  static fromChain(chain: ReadonlyArray<{ readonly message: string; readonly identity: string }>): RemoteError {
    return new RemoteError({ message: chain[0]?.message || "remote error without a message", chain })
  }

  /**
   * Whether an error of the chain has this identity.
   *
   * **Details**
   *
   * It is `errors.Is` of Go. An identity is the error as Go formats it. `errors.New("no funds")`, and an error of this
   * package with that text, have the identity `(:&errors.errorString{s:"no funds"})`.
   *
   * @since 0.1.0
   */
  is(identity: string): boolean {
    return this.chain.some((link) => link.identity === identity)
  }

  /**
   * Whether the called server has no handler for the method, or none for this client. No handler has run. It is false
   * if the handler itself made a call that failed for this reason.
   *
   * @since 0.1.0
   */
  get isUnknownMethod(): boolean {
    return this.chain[0]?.identity === Identities.unknownMethod.identity
  }

  /**
   * Whether the server refused the call because it had too many calls, altogether or of this connection. No handler has
   * started, so the call can be made again: a `retry` does that. It is false if the handler itself made a call that
   * failed for this reason.
   *
   * **Details**
   *
   * The limits are `maxQueuedCalls`, `maxQueuedCallsPerConnection`, `maxStreams` and `maxStreamsPerConnection` of
   * `ServerOptions`.
   *
   * @since 0.1.0
   */
  get isOverloaded(): boolean {
    return this.chain[0]?.identity === Identities.overloaded.identity
  }

  /**
   * Whether a stream ended since its server leaves. What came before is whole, and more would have come: another
   * replica may go on. It is false if the handler itself ran a stream that failed for this reason.
   *
   * **Details**
   *
   * Servers end streams like that with `Server.untilLeaving`, and those that are open at the end of their grace
   * (`ServerOptions.shutdownGrace`).
   *
   * @since 0.1.0
   */
  get isLeaving(): boolean {
    return this.chain[0]?.identity === Identities.leaving.identity
  }
}

/**
 * What a call can fail with: one of four errors, which their `_tag` tells apart.
 *
 * **When to use**
 *
 * Use it as the error type of code that makes calls. A method of a component fails with this, or with an error of its
 * contract.
 *
 * @category errors
 * @since 0.1.0
 */
export type CallError = CommunicationError | Unreachable | DeadlineExceeded | RemoteError

/**
 * The schema of {@link CallError}, to send such an error or to store it. Decoded errors are of the same classes.
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
