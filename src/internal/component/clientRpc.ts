/**
 * What the methods of a component's client have in common, calls and streams: how arguments are written, how answers
 * are read, and the errors of both.
 *
 * It does not know how a call is sent.
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Headers from "effect/http/Headers"
import { type Rpc, RpcClient, RpcMessage, type RpcMiddleware } from "effect/rpc"
import type * as Tracer from "effect/Tracer"
import { type CallError, CommunicationError } from "../../CallError.ts"
import type { CallOptions, Connection } from "../../Connection.ts"
import type { MethodKey } from "../../MethodKey.ts"
import { CurrentOptions } from "../ambient/callOptions.ts"
import type { TypedRequest } from "../client/typed.ts"
import { ownCopy } from "../memory/bytes.ts"
import { methodName } from "../protocol/methodName.ts"
import { methodAttributes, spanName } from "../telemetry/span.ts"
import * as Codec from "./codec.ts"
import { MethodCodecs } from "./methodCodecs.ts"
import * as Payload from "./payload.ts"
import * as Problem from "./problem.ts"
import { hashKey, ShardKey } from "./shardKey.ts"

/** The settings that all methods of a client share. */
export interface ClientSettings {
  readonly connection: Connection
  readonly format: Payload.Format
  readonly tracing: boolean
  /** The context that holds the client's halves of middleware. */
  readonly context: Context.Context<never>
}

type ClientMiddleware = RpcMiddleware.RpcMiddlewareClient<unknown, unknown, never>

export type Decode = TypedRequest<unknown, unknown>["decode"]

let requestIds = 0

/** A method of a client. */
export abstract class ClientRpc {
  protected readonly settings: ClientSettings
  protected readonly key: MethodKey
  protected readonly rpc: Rpc.AnyWithProps
  protected readonly codecs: MethodCodecs
  protected readonly middlewares: ReadonlyArray<ClientMiddleware>
  private readonly shardKeyOf: (payload: unknown) => bigint | string | undefined
  protected readonly spanName: string
  protected readonly spanOptions: Tracer.SpanOptionsNoTrace

  constructor(settings: ClientSettings, key: MethodKey, rpc: Rpc.AnyWithProps) {
    this.settings = settings
    this.key = key
    this.rpc = rpc
    this.codecs = MethodCodecs.of(rpc)
    this.codecs.compile(key, settings.format)
    this.middlewares = clientMiddlewares(rpc, settings.context)
    // The cast: the function of the annotation takes the payloads of this method.
    this.shardKeyOf = (Context.get(rpc.annotations, ShardKey) ?? none) as (
      payload: unknown
    ) => bigint | string | undefined
    this.spanName = spanName(key)
    this.spanOptions = { kind: "client", attributes: methodAttributes(key) }
  }

  /** The headers of the running fiber and, before them, those that are given. */
  protected headersOf(given: Headers.Input | undefined): Headers.Headers {
    const ambient = Fiber.getCurrent()?.getRef(RpcClient.CurrentHeaders) ?? Headers.empty
    return given === undefined ? ambient : Headers.merge(ambient, Headers.fromInput(given))
  }

  /** What middleware gets of a call. */
  protected requestOf(
    payload: unknown,
    headers: Headers.Headers,
    span: Tracer.Span | undefined,
    discard: boolean
  ): RpcMessage.Request<Rpc.Any> {
    return {
      _tag: "Request",
      id: RpcMessage.RequestId(requestIds++),
      // The cast: the types of a particular Rpc say what these are. The type of any Rpc does not.
      tag: this.rpc._tag as never,
      payload: payload as never,
      headers,
      ...(span === undefined ? {} : { traceId: span.traceId, spanId: span.spanId, sampled: span.sampled }),
      ...(discard ? { discard: true } : {})
    }
  }

  /**
   * Rewrites the arguments of a request in JSON, from their binary bytes: the caller's values may have changed since
   * they were encoded. `format` is the first byte of the request.
   */
  protected argumentsInJson(format: number, args: Uint8Array): Effect.Effect<Uint8Array, CallError> {
    const unsendable = this.codecs.problemIn("json")
    if (unsendable !== undefined) return Effect.fail(this.notInJson(`its ${unsendable.part} ${unsendable.problem}`))
    const payloadAt = (format & Payload.hasHeaders) === 0 ? 0 : Payload.endOfHeaders(args, 0)
    return this.codecs.payloadInJson(Payload.view(args, payloadAt, args.length)).pipe(
      Effect.map((json) => payloadAt === 0 ? json : Payload.joined(args.subarray(0, payloadAt), json)),
      Effect.catchCause((cause) => Effect.fail(this.notInJson(`its payload: ${Problem.problemOfCause(cause)}`)))
    )
  }

  /** The error of a call whose contracts differ and that JSON does not carry. */
  protected notInJson(problem: string): CallError {
    return new CommunicationError({
      reason: { _tag: "Protocol" },
      message: `${differs(this.key)}, and JSON does not carry the call: ${problem}`,
      maybeExecuted: false
    })
  }

  /**
   * The options with the shard key that the method makes from its payload; undefined if a shard key is set around the
   * call.
   */
  protected optionsOf(payload: unknown): CallOptions | undefined {
    if (this.shardKeyOf === none || Fiber.getCurrent()?.getRef(CurrentOptions)?.shardKey !== undefined) return undefined
    const shardKey = this.shardKeyOf(payload)
    return shardKey === undefined
      ? undefined
      : { shardKey: typeof shardKey === "string" ? hashKey(shardKey) : shardKey }
  }

  /** Reads an answer in any format. The server has the same contract. */
  protected readonly decode: Decode = (bytes, start, end, owned, endpoint) => {
    const byte = bytes[start]
    const format = byte === undefined || start === end ? undefined : Payload.formatOf(byte, Payload.isFailure)
    if (byte === undefined || format === undefined) return Exit.fail(this.unknownFormat(byte, start, end, endpoint))
    const failed = (byte & Payload.isFailure) !== 0
    const what = failed ? "failure" : "result"
    try {
      const codec = failed ? this.codecs.error(format) : this.codecs.success(format)
      if (codec.direct !== undefined) {
        const value = codec.direct.decode(Payload.view(bytes, start + 1, end))
        if (value !== Codec.unread) return failed ? Exit.fail(value) : Exit.succeed(value)
      }
      const now = Codec.valueNow(codec.decode(Payload.view(bytes, start + 1, end)))
      if (now !== undefined) return failed ? Exit.fail(now.value) : now
      // It needs an effect, or it failed: decode again, from bytes that stay valid.
      const kept = owned ? Payload.view(bytes, start + 1, end) : ownCopy(bytes, start + 1, end)
      return Effect.matchCauseEffect(codec.decode(kept), {
        onFailure: (cause) => this.unread(what, cause, endpoint),
        onSuccess: (value) => failed ? Effect.fail(value) : Effect.succeed(value)
      })
    } catch (defect) {
      return this.unread(what, Cause.die(defect), endpoint)
    }
  }

  protected unread(what: string, cause: Cause.Cause<unknown>, endpoint: string | undefined): Exit.Exit<never, unknown> {
    const refusal = Problem.refusalOf(cause)
    return refusal === undefined
      ? Exit.failCause(cause)
      : Exit.fail(this.undecodable(what, Problem.misfit(refusal), endpoint))
  }

  /**
   * Reads an answer in JSON only. The server may have another contract, and would then send binary that means other
   * values here.
   */
  protected readonly decodeInJson: Decode = (bytes, start, end, owned, endpoint) => {
    const byte = bytes[start]
    return start < end && byte !== undefined && Payload.formatOf(byte, Payload.isFailure) === "binary"
      ? Exit.fail(this.undecodable("result", "expected JSON, got binary", endpoint))
      : this.decode(bytes, start, end, owned, endpoint)
  }

  private unknownFormat(byte: number | undefined, start: number, end: number, endpoint: string | undefined) {
    const got = start === end || byte === undefined ? "nothing" : `format 0x${byte.toString(16).padStart(2, "0")}`
    return this.undecodable("result", `expected a format this version knows, got ${got}`, endpoint)
  }

  protected undecodable(what: string, problem: string, endpoint: string | undefined): CallError {
    return new CommunicationError({
      reason: { _tag: "Protocol" },
      ...(endpoint === undefined ? {} : { endpoint }),
      message: `cannot decode ${what === "item" ? "an" : "the"} ${what} of ${methodName(this.key)}: ${problem}`,
      maybeExecuted: true
    })
  }

  /** The defect of a payload that cannot be sent. The types forbid most such payloads. */
  protected unusable(cause: unknown): Error {
    return Problem.unencodable("payload", this.key, cause)
  }
}

const none = (): undefined => undefined

export const differs = (key: MethodKey): string => `client and server have different contracts of ${methodName(key)}`

export const isEmpty = (headers: Headers.Headers): boolean => {
  for (const _ in headers) return false
  return true
}

const clientMiddlewares = (rpc: Rpc.AnyWithProps, context: Context.Context<never>): ReadonlyArray<ClientMiddleware> => {
  const found: Array<ClientMiddleware> = []
  for (const { key } of rpc.middlewares) {
    // `RpcMiddleware.layerClient` puts it there. It is optional, unless its type says that it is required.
    const middleware = context.mapUnsafe.get(`${key}/Client`) as ClientMiddleware | undefined
    if (middleware !== undefined) found.push(middleware)
  }
  return found
}

/** The format of a request in JSON that is otherwise as the one with this format. */
export const formatInJson = (format: number): number => (format & ~Payload.formatCode.binary) | Payload.formatCode.json
