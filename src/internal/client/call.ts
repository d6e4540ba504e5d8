/**
 * One call on its way: what the pending table holds, and what is needed to send it again elsewhere while it is still ours.
 */
import type * as Effect from "effect/Effect"
import * as Effectable from "effect/Effectable"
import * as Exit from "effect/Exit"
import type * as Tracer from "effect/Tracer"
import type { CallError } from "../../CallError.ts"
import { isMethodKey, type MethodKey } from "../../MethodKey.ts"
import type { CallOptions } from "../ambient/callOptions.ts"
import { dataView, isBytes } from "../memory/bytes.ts"
import { type Fingerprint, fingerprintSize, writeFingerprint } from "../protocol/fingerprint.ts"
import type { TraceContext } from "../protocol/request.ts"

/** Ends a call: the waiting fiber goes on with this effect. */
export type Resume<A = unknown, E = unknown> = (result: Effect.Effect<A, E>) => void

/** What all requests of a typed method in one format have in common. */
export interface TypedMethod {
  readonly key: MethodKey
  /** How many bytes go before the arguments: the format, and the fingerprint if there is one. */
  readonly leadSize: number
  /** Stands for the contract that the arguments are written by. Undefined in JSON, which names what it writes. */
  readonly fingerprint: Fingerprint | undefined
  /** Puts a request into JSON, for a server whose contract is another one; undefined where they are in JSON already. */
  readonly inJson:
    | ((request: TypedRequest<unknown, unknown>) => Effect.Effect<TypedRequest<unknown, unknown>, CallError>)
    | undefined
}

/** What a call asks for, beyond the method and the arguments: how typed clients use a Connection. */
export interface TypedRequest<A, E> {
  readonly method: TypedMethod
  /** The byte that goes before the arguments, and before the fingerprint. */
  readonly format: number
  readonly args: Uint8Array
  readonly options: CallOptions | undefined
  /** The client span, where there is one. */
  readonly span: Tracer.Span | undefined
  /** Reads the answer where it lies: the bytes may be overwritten when it has returned, unless they are `owned`. It does not throw. */
  readonly decode: (
    bytes: Uint8Array,
    start: number,
    end: number,
    owned: boolean,
    endpoint: string | undefined
  ) => Effect.Effect<A, E>
}

/** A method whose requests begin with a fingerprint, or with none. */
export const typedMethod = (
  key: MethodKey,
  fingerprint: Fingerprint | undefined,
  inJson: TypedMethod["inJson"]
): TypedMethod => ({ key, leadSize: fingerprint === undefined ? 1 : 1 + fingerprintSize, fingerprint, inJson })

/** Writes what goes before the arguments of a typed call. */
export const writeLead = (
  { format, method: { fingerprint } }: TypedRequest<unknown, unknown>,
  bytes: Uint8Array,
  view: DataView,
  offset: number
): void => {
  bytes[offset] = format
  if (fingerprint !== undefined) writeFingerprint(view, offset + 1, fingerprint)
}

/** The arguments of a typed call with what goes before them. */
export const withLead = (request: TypedRequest<unknown, unknown>): Uint8Array => {
  const lead = request.method.leadSize
  const bytes = new Uint8Array(lead + request.args.length)
  writeLead(request, bytes, dataView(bytes), 0)
  bytes.set(request.args, lead)
  return bytes
}

/** Starts a typed call, inside the register function of an `Effect.callback`; returns what cancels it. */
export const startTyped: unique symbol = Symbol("effect-call/internal/startTyped")

/** A `call` that takes typed calls, too, without a copy and an effect more. */
interface TypedCall {
  (key: MethodKey, args: Uint8Array, options?: CallOptions): Effect.Effect<Uint8Array, CallError>
  [startTyped]<A, E>(request: TypedRequest<A, E>, resume: Resume<A, E | CallError>): Effect.Effect<void> | void
}

/**
 * A Connection of this package. That it takes typed calls is its `call`'s own: an object that is made of it, with another `call` in place
 * of this one, means that for typed calls, too.
 */
export interface TypedConnection {
  readonly call: TypedCall
}

export const isTypedConnection = <C extends { readonly call: object }>(
  connection: C
): connection is C & TypedConnection =>
  // Looked at, not called.
  startTyped in connection.call

/** What a call is sent on. */
interface Canceler {
  cancel(call: Call): void
}

/** A call. As an effect it is its own cancellation: one object for each call instead of three. */
export class Call extends Effectable.Class<void> {
  /** The id on the connection it was sent on; 0 before. */
  id = 0
  readonly key: MethodKey
  readonly options: CallOptions | undefined
  /** When its time is up, in milliseconds of the Connection's clock; Infinity for never. */
  readonly deadlineAt: number
  /** The caller's span. */
  readonly trace: TraceContext | undefined
  /** What is only there for a typed call. It may come to be in another format. */
  typed: TypedRequest<unknown, unknown> | undefined
  resume: Resume
  /** Where it was sent; undefined before. */
  sentOn: Canceler | undefined = undefined
  /** The number of the last failed dial before it began. */
  since = 0
  /** When it was made, in ticks of the Connection's clock; -1 where nobody has noted it. */
  startedAt = -1
  /** When it was sent, in the same ticks. */
  sentAt = -1
  /** Whether its end has been counted. */
  counted = false
  /** Whether its answer is here, though it may still be being decoded. */
  isAnswered = false
  /** Takes the arguments back where the connection was lost before the request left; set on the slow path. */
  onUnsent: ((args: Uint8Array) => void) | undefined = undefined
  /** The same where its server has refused it, since its contract differs. */
  onRefused: ((args: Uint8Array) => void) | undefined = undefined

  constructor(
    key: MethodKey,
    options: CallOptions | undefined,
    deadlineAt: number,
    trace: TraceContext | undefined,
    typed: TypedRequest<unknown, unknown> | undefined,
    resume: Resume
  ) {
    super()
    this.key = key
    this.options = options
    this.deadlineAt = deadlineAt
    this.trace = trace
    this.typed = typed
    this.resume = resume
  }

  /** Gives it up. */
  override asEffect(): Effect.Effect<void> {
    this.sentOn?.cancel(this)
    return Exit.void
  }

  /** The same call, to be made once more. */
  again(): Call {
    return new Call(this.key, this.options, this.deadlineAt, this.trace, this.typed, this.resume)
  }

  get method(): string {
    return `${this.key.component}.${this.key.method}`
  }
}

/**
 * What is wrong with what a call was given, where the types were got round. It has to be found before anything is queued: a text would be
 * sent as zeros, and what throws half-way leaves a message in the batch that nobody has written.
 */
export const misuse = (key: unknown, args: unknown): TypeError | undefined => {
  if (!isMethodKey(key)) return new TypeError(`the key of a call is a MethodKey, got ${typeof key}`)
  if (!isBytes(args)) {
    return new TypeError(`the arguments of ${key.component}.${key.method} are a Uint8Array, got ${typeof args}`)
  }
  return undefined
}
