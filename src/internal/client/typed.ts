/**
 * How typed clients use a Connection: a request with the bytes of its contract, and a decoder for its answer.
 *
 * It must not know schemas or codecs. What a request asks of the Connection is bytes; what it does with the answer is
 * its own.
 */
import type * as Arr from "effect/Array"
import type * as Effect from "effect/Effect"
import type * as Pull from "effect/Pull"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import type * as Tracer from "effect/Tracer"
import type { CallError } from "../../CallError.ts"
import type { MethodKey } from "../../MethodKey.ts"
import type { CallOptions } from "../ambient/callOptions.ts"
import { dataView } from "../memory/bytes.ts"
import { type Fingerprint, fingerprintSize, writeFingerprint } from "../protocol/fingerprint.ts"

/** Ends a call: the waiting fiber goes on with this effect. */
export type Resume<A = unknown, E = unknown> = (result: Effect.Effect<A, E>) => void

/** Puts a request into JSON. */
export type ToJson = (
  request: TypedRequest<unknown, unknown>
) => Effect.Effect<TypedRequest<unknown, unknown>, CallError>

/** What all requests of a typed method have in common that are written by one contract, or in JSON. */
export class TypedMethod {
  readonly key: MethodKey
  /**
   * Puts a request into JSON, for a server whose contract is another one; undefined if its requests are in JSON
   * already.
   */
  readonly inJson: ToJson | undefined
  /** Stands for the contract that the arguments are written by. Undefined in JSON, which names what it writes. */
  private readonly fingerprint: Fingerprint | undefined
  /** By their first byte. */
  private readonly leads: Array<Uint8Array | undefined> = []

  constructor(key: MethodKey, fingerprint: Fingerprint | undefined, inJson: ToJson | undefined) {
    this.key = key
    this.fingerprint = fingerprint
    this.inJson = inJson
  }

  /**
   * What goes before the arguments of a request: the byte of its format, and the fingerprint if there is one. It is
   * made once for each format.
   */
  lead(format: number): Uint8Array {
    return this.leads[format] ??= this.makeLead(format)
  }

  private makeLead(format: number): Uint8Array {
    const { fingerprint } = this
    const lead = new Uint8Array(fingerprint === undefined ? 1 : 1 + fingerprintSize)
    lead[0] = format
    if (fingerprint !== undefined) writeFingerprint(dataView(lead), 1, fingerprint)
    return lead
  }
}

/** What a typed call asks for. */
export interface TypedRequest<A, E> {
  readonly method: TypedMethod
  /** What goes before the arguments: its first byte is the format. */
  readonly lead: Uint8Array
  readonly args: Uint8Array
  readonly options: CallOptions | undefined
  /** The client span, if there is one. */
  readonly span: Tracer.Span | undefined
  /**
   * Reads the answer where it lies: the bytes may be overwritten when it has returned, unless they are `owned`. It does
   * not throw.
   */
  readonly decode: (
    bytes: Uint8Array,
    start: number,
    end: number,
    owned: boolean,
    endpoint: string | undefined
  ) => Effect.Effect<A, E>
}

/** The arguments of a typed call with what goes before them. */
export const withLead = ({ args, lead }: TypedRequest<unknown, unknown>): Uint8Array => {
  const bytes = new Uint8Array(lead.length + args.length)
  bytes.set(lead)
  bytes.set(args, lead.length)
  return bytes
}

/** What a typed stream asks for. */
export interface TypedStreamRequest {
  readonly method: TypedMethod
  /** What goes before the arguments: its first byte is the format, with the bit for streams. */
  readonly lead: Uint8Array
  readonly args: Uint8Array
  readonly options: CallOptions | undefined
  /** The client span, if there is one. */
  readonly span: Tracer.Span | undefined
  /** The client's items, in the bytes of the format; undefined where the method takes none. */
  readonly items: Stream.Stream<Uint8Array, unknown, unknown> | undefined
  /**
   * Reads the response that ends the stream: it succeeds with the result of a method that takes items and gives one
   * result, and fails with a failure of the method. It does not throw. The bytes are owned.
   */
  readonly decodeEnd: (bytes: Uint8Array, endpoint: string | undefined) => Effect.Effect<unknown, unknown>
  /**
   * The same request in JSON, for a server whose contract is another one; undefined if it is in JSON already. It may
   * take the place of this one although items were pulled: its own `items` begin with them. By then the run of this
   * one's `items` must have ended.
   */
  readonly inJson: Effect.Effect<TypedStreamRequest, CallError> | undefined
}

/** A typed stream that a server has taken. It belongs to the Scope that it was opened in. */
export interface OpenStream {
  /** The next items in bytes. The value of its `Done` is what `decodeEnd` has given. */
  readonly pull: Pull.Pull<Arr.NonEmptyReadonlyArray<Uint8Array>, unknown, unknown>
  readonly endpoint: string
}

/** The key of a Connection's way to open typed streams: a property of its `stream`. */
export const openTyped: unique symbol = Symbol("effect-call/internal/openTyped")

/** A `stream` that opens typed streams, too. */
export interface TypedStreams {
  [openTyped](request: TypedStreamRequest): Effect.Effect<OpenStream, unknown, Scope.Scope>
}

/** What opens the typed streams of a Connection; undefined if it is not of this package. */
export const typedStreamsOf = (connection: { readonly stream?: unknown }): TypedStreams | undefined => {
  const { stream } = connection
  // The cast: only this package has the key.
  return typeof stream === "function" && openTyped in stream ? stream as unknown as TypedStreams : undefined
}

/** Starts a typed call, inside the register function of an `Effect.callback`; returns what cancels it. */
export const startTyped: unique symbol = Symbol("effect-call/internal/startTyped")

/** A `call` that takes typed calls, too, without a copy and an effect more. */
interface TypedCall {
  (key: MethodKey, args: Uint8Array, options?: CallOptions): Effect.Effect<Uint8Array, CallError>
  [startTyped]<A, E>(request: TypedRequest<A, E>, resume: Resume<A, E | CallError>): Effect.Effect<void> | void
}

/**
 * A Connection of this package. That it takes typed calls is its `call`'s own: an object that is made of it, with
 * another `call` in place of this one, means that for typed calls, too.
 */
export interface TypedConnection {
  readonly call: TypedCall
}

export const isTypedConnection = <C extends { readonly call: object }>(
  connection: C
): connection is C & TypedConnection =>
  // Looked at, not called.
  startTyped in connection.call
