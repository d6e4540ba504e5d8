/**
 * The methods of a component's client: they encode a value, send the call, and decode its answer.
 *
 * It does not know endpoints, connections or balancers.
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Headers from "effect/http/Headers"
import { type Rpc, RpcClient, RpcMessage, type RpcMiddleware } from "effect/rpc"
import * as Tracer from "effect/Tracer"
import { type CallError, CommunicationError, RemoteError } from "../../CallError.ts"
import type { CallOptions, Connection } from "../../Connection.ts"
import type { MethodKey } from "../../MethodKey.ts"
import { CurrentOptions } from "../ambient/callOptions.ts"
import {
  isTypedConnection,
  type Resume,
  startTyped,
  TypedMethod,
  type TypedRequest,
  withLead
} from "../client/typed.ts"
import { effectOf, unexpected } from "../guard.ts"
import { logged } from "../log.ts"
import { isBytes, ownCopy } from "../memory/bytes.ts"
import * as Identities from "../protocol/identities.ts"
import { methodName } from "../protocol/methodName.ts"
import { methodAttributes, recordFailure, spanName } from "../telemetry/span.ts"
import { isInstance } from "../userError.ts"
import * as Codec from "./codec.ts"
import { MethodCodecs } from "./methodCodecs.ts"
import * as Payload from "./payload.ts"
import * as Problem from "./problem.ts"
import { hashKey, ShardKey } from "./shardKey.ts"

/** The options of a method, as RpcClient's types have them. */
interface MethodOptions {
  readonly headers?: Headers.Input | undefined
  readonly context?: Context.Context<never> | undefined
  readonly discard?: boolean | undefined
}

/** The settings that all methods of a client share. */
export interface ClientSettings {
  readonly connection: Connection
  readonly format: Payload.Format
  readonly tracing: boolean
  /** The context that holds the client's halves of middleware. */
  readonly context: Context.Context<never>
}

type ClientMiddleware = RpcMiddleware.RpcMiddlewareClient<unknown, unknown, never>

/** A call whose arguments are still values. */
interface Arguments {
  readonly payload: unknown
  readonly headers: Headers.Headers
  readonly discard: boolean
  readonly span: Tracer.Span | undefined
}

type Decode = TypedRequest<unknown, unknown>["decode"]

/** How answers are read. The answer to a discarded call only says that its handler has started. */
interface Decoders {
  readonly awaited: Decode
  readonly discarded: Decode
}

let requestIds = 0

/** A method of a client: it makes a call from a value, and a value from the answer. */
export class ClientMethod {
  private readonly settings: ClientSettings
  private readonly key: MethodKey
  private readonly rpc: Rpc.AnyWithProps
  private readonly codecs: MethodCodecs
  private readonly middlewares: ReadonlyArray<ClientMiddleware>
  /**
   * Encodes the caller's value without the constructor of the schema, if the constructor would change nothing. A value
   * that the constructor refuses cannot be encoded here either.
   */
  private readonly direct: Codec.Direct | undefined
  private readonly shardKeyOf: (payload: unknown) => bigint | string | undefined
  private readonly spanName: string
  private readonly spanOptions: Tracer.SpanOptionsNoTrace
  private readonly method: TypedMethod
  private readonly methodInJson: TypedMethod
  private readonly decoders: Decoders
  private warned = false

  constructor(settings: ClientSettings, key: MethodKey, rpc: Rpc.AnyWithProps) {
    this.settings = settings
    this.key = key
    this.rpc = rpc
    this.codecs = MethodCodecs.of(rpc)
    this.codecs.compile(key, settings.format)
    const isBinary = settings.format === "binary"
    this.decoders = isBinary ? this.inAny : this.inJson
    this.method = isBinary
      ? new TypedMethod(key, this.codecs.fingerprint(), (request) => this.requestInJson(request))
      : new TypedMethod(key, undefined, undefined)
    this.methodInJson = isBinary ? new TypedMethod(key, undefined, undefined) : this.method
    this.middlewares = clientMiddlewares(rpc, settings.context)
    this.direct = this.middlewares.length > 0 || !Codec.isSentAsGiven(rpc.payloadSchema)
      ? undefined
      : this.codecs.payload(settings.format).direct
    // The cast: the function of the annotation takes the payloads of this method.
    this.shardKeyOf = (Context.get(rpc.annotations, ShardKey) ?? none) as (
      payload: unknown
    ) => bigint | string | undefined
    this.spanName = spanName(key)
    this.spanOptions = { kind: "client", attributes: methodAttributes(key) }
  }

  /** The method that users call. */
  readonly call = (input: unknown, options?: MethodOptions): Effect.Effect<unknown, unknown> => {
    const called = this.settings.tracing
      ? Effect.useSpan(this.spanName, this.spanOptions, (span) => this.run(input, options, span))
      : this.run(input, options, undefined)
    return options?.context === undefined ? called : Effect.provideContext(called, options.context)
  }

  private run(
    input: unknown,
    options: MethodOptions | undefined,
    span: Tracer.Span | undefined
  ): Effect.Effect<unknown, unknown> {
    return Effect.callback<unknown, unknown>((resume) => {
      const done = span === undefined ? resume : recording(span, resume)
      const fiber = Fiber.getCurrent()
      const ambient = fiber?.getRef(RpcClient.CurrentHeaders) ?? Headers.empty
      const headers = options?.headers === undefined
        ? ambient
        : Headers.merge(ambient, Headers.fromInput(options.headers))
      const discard = options?.discard === true
      const bytes = this.direct?.encode(input)
      if (bytes !== undefined) return this.send({ payload: input, headers, discard, span }, bytes, done)
      let payload: unknown
      try {
        payload = this.rpc.payloadSchema.make(input)
      } catch (defect) {
        return done(Effect.die(this.unusable(defect)))
      }
      const args = { payload, headers, discard, span }
      if (this.middlewares.length === 0) return this.start(args, done)
      const request: RpcMessage.Request<Rpc.Any> = {
        _tag: "Request",
        id: RpcMessage.RequestId(requestIds++),
        // The cast: the types of a particular Rpc say what these are. The type of any Rpc does not.
        tag: this.rpc._tag as never,
        payload: payload as never,
        headers,
        ...(span === undefined ? {} : { traceId: span.traceId, spanId: span.spanId, sampled: span.sampled }),
        ...(args.discard ? { discard: true } : {})
      }
      const wrapped = this.through(args, request, this.middlewares.length - 1)
      done(span === undefined ? wrapped : Effect.provideService(wrapped, Tracer.ParentSpan, span))
    })
  }

  /** Runs the middleware from `index` down to 0, and then the call. The last one is the outermost. */
  private through(
    args: Arguments,
    request: RpcMessage.Request<Rpc.Any>,
    index: number
  ): Effect.Effect<unknown, unknown> {
    const middleware = this.middlewares[index]
    if (middleware === undefined) {
      return Effect.callback<unknown, unknown>((resume) =>
        this.start({ ...args, payload: request.payload, headers: request.headers }, resume)
      )
    }
    return effectOf(`the client's middleware of ${this.spanName}`, () =>
      middleware({
        rpc: this.rpc,
        request,
        // The cast: middleware does not look at the result.
        next: (request) => this.through(args, request, index - 1) as Effect.Effect<RpcMiddleware.SuccessValue>
      }))
  }

  /** Encodes a call and sends it, in plain code if the schema allows it. */
  private start(args: Arguments, resume: Resume): Effect.Effect<void> | void {
    const codec = this.codecs.payload(this.settings.format)
    const bytes = codec.direct?.encode(args.payload)
    if (bytes !== undefined) return this.send(args, bytes, resume)
    let encoded: Effect.Effect<Uint8Array, unknown>
    try {
      encoded = codec.encode(args.payload)
    } catch (defect) {
      return resume(Effect.die(this.unusable(defect)))
    }
    const now = Codec.valueNow(encoded)
    if (now !== undefined) return this.send(args, now.value, resume)
    resume(Effect.matchCauseEffect(encoded, {
      onFailure: (cause) => Effect.die(this.unusable(cause)),
      onSuccess: (bytes) => Effect.callback<unknown, unknown>((resume) => this.send(args, bytes, resume))
    }))
  }

  private send(args: Arguments, payload: Uint8Array, resume: Resume): Effect.Effect<void> | void {
    const { connection, format } = this.settings
    let code = Payload.formatCode[format]
    let body = payload
    if (args.discard) code |= Payload.isDiscarded
    if (!isEmpty(args.headers)) {
      code |= Payload.hasHeaders
      body = Payload.joined(Payload.encodeHeaders(args.headers), payload)
    }
    let options: CallOptions | undefined
    try {
      options = this.optionsOf(args.payload)
    } catch (defect) {
      return resume(Effect.die(defect))
    }
    const request: TypedRequest<unknown, unknown> = {
      method: this.method,
      lead: this.method.lead(code),
      args: body,
      options,
      span: args.span,
      decode: args.discard ? this.decoders.discarded : this.decoders.awaited
    }
    if (isTypedConnection(connection)) return connection.call[startTyped](request, resume)
    const called = this.callThrough(connection, request)
    resume(args.span === undefined ? called : Effect.provideService(called, Tracer.ParentSpan, args.span))
  }

  /** Calls through a Connection that is not of this package. */
  private callThrough(
    connection: Connection,
    request: TypedRequest<unknown, unknown>
  ): Effect.Effect<unknown, unknown> {
    const call = Effect.suspend(() =>
      effectOf("the call of the Connection", () => connection.call(this.key, withLead(request), request.options))
    )
    return call.pipe(
      Effect.matchEffect({
        onSuccess: (answer) =>
          isBytes(answer)
            ? request.decode(answer, 0, answer.length, true, undefined)
            : Effect.die(unexpected("the answer of the Connection", "bytes", answer)),
        onFailure: (error) => {
          const { inJson } = request.method
          if (inJson === undefined || !isContractRefused(error)) return Effect.fail(error)
          return Effect.andThen(
            this.warn,
            Effect.flatMap(inJson(request), (request) => this.callThrough(connection, request))
          )
        }
      })
    )
  }

  /**
   * Logs once that the contracts differ. A Connection of this package logs that itself, for each link.
   */
  private readonly warn = Effect.suspend(() => {
    if (this.warned) return Effect.void
    this.warned = true
    return logged(
      Effect.logWarning(
        `${differs(this.key)}: such calls are made again in JSON`
      )
    )
  })

  /**
   * Rewrites a request in JSON, from its binary bytes: the caller's values may have changed since they were encoded.
   */
  private requestInJson(
    request: TypedRequest<unknown, unknown>
  ): Effect.Effect<TypedRequest<unknown, unknown>, CallError> {
    return Effect.suspend(() => {
      const unsendable = this.codecs.problemIn("json")
      if (unsendable !== undefined) return Effect.fail(this.notInJson(`its ${unsendable.part} ${unsendable.problem}`))
      const { args, lead } = request
      const format = lead[0] ?? 0
      const jsonFormat = (format & ~Payload.formatCode.binary) | Payload.formatCode.json
      const payloadAt = (format & Payload.hasHeaders) === 0 ? 0 : Payload.endOfHeaders(args, 0)
      return this.codecs.payloadInJson(Payload.view(args, payloadAt, args.length)).pipe(
        Effect.map((json): TypedRequest<unknown, unknown> => ({
          ...request,
          method: this.methodInJson,
          lead: this.methodInJson.lead(jsonFormat),
          args: payloadAt === 0 ? json : Payload.joined(args.subarray(0, payloadAt), json),
          decode: (format & Payload.isDiscarded) === 0 ? this.inJson.awaited : this.inJson.discarded
        })),
        Effect.catchCause((cause) => Effect.fail(this.notInJson(`its payload: ${Problem.problemOfCause(cause)}`)))
      )
    })
  }

  /** The error of a call whose contracts differ and that JSON does not carry. */
  private notInJson(problem: string): CallError {
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
  private optionsOf(payload: unknown): CallOptions | undefined {
    if (this.shardKeyOf === none || Fiber.getCurrent()?.getRef(CurrentOptions)?.shardKey !== undefined) return undefined
    const shardKey = this.shardKeyOf(payload)
    return shardKey === undefined
      ? undefined
      : { shardKey: typeof shardKey === "string" ? hashKey(shardKey) : shardKey }
  }

  /** Reads an answer in any format. The server has the same contract. */
  private readonly decode: Decode = (bytes, start, end, owned, endpoint) => {
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

  private unread(what: string, cause: Cause.Cause<unknown>, endpoint: string | undefined): Exit.Exit<never, unknown> {
    const refusal = Problem.refusalOf(cause)
    return refusal === undefined
      ? Exit.failCause(cause)
      : Exit.fail(this.undecodable(what, Problem.misfit(refusal), endpoint))
  }

  /**
   * Reads an answer in JSON only. The server may have another contract, and would then send binary that means other
   * values here.
   */
  private readonly decodeInJson: Decode = (bytes, start, end, owned, endpoint) => {
    const byte = bytes[start]
    return start < end && byte !== undefined && Payload.formatOf(byte, Payload.isFailure) === "binary"
      ? Exit.fail(this.undecodable("result", "expected JSON, got binary", endpoint))
      : this.decode(bytes, start, end, owned, endpoint)
  }

  private readonly inAny: Decoders = decoders(this.decode)
  private readonly inJson: Decoders = decoders(this.decodeInJson)

  private unknownFormat(byte: number | undefined, start: number, end: number, endpoint: string | undefined) {
    const got = start === end || byte === undefined ? "nothing" : `format 0x${byte.toString(16).padStart(2, "0")}`
    return this.undecodable("result", `expected a format this version knows, got ${got}`, endpoint)
  }

  private undecodable(what: string, problem: string, endpoint: string | undefined): CallError {
    return new CommunicationError({
      reason: { _tag: "Protocol" },
      ...(endpoint === undefined ? {} : { endpoint }),
      message: `cannot decode the ${what} of ${methodName(this.key)}: ${problem}`,
      maybeExecuted: true
    })
  }

  /** The defect of a payload that cannot be sent. The types forbid most such payloads. */
  private unusable(cause: unknown): Error {
    return Problem.unencodable("payload", this.key, cause)
  }
}

const none = (): undefined => undefined

const differs = (key: MethodKey): string => `client and server have different contracts of ${methodName(key)}`

const decoders = (awaited: Decode): Decoders => ({
  awaited,
  discarded: (bytes, start, end, owned, endpoint) => {
    const byte = bytes[start]
    const started = start < end && byte !== undefined && Payload.formatOf(byte, 0) !== undefined
    return started ? Exit.void : awaited(bytes, start, end, owned, endpoint)
  }
})

/** Whether the server has another contract of the method, and has run nothing. */
const isContractRefused = (error: unknown): boolean =>
  isInstance(error, RemoteError) && error.chain.length === 1 &&
  error.chain[0]?.identity === Identities.contractDiffers.identity

const isEmpty = (headers: Headers.Headers): boolean => {
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

/**
 * Resumes the caller, and tells the span the kind of a failure. The interruption of a call that waits for its answer is
 * recorded by the code that cancels it: a frame on the fiber's stack would cost every call that succeeds.
 */
const recording = (span: Tracer.Span, resume: Resume): Resume => (result) =>
  resume(Exit.isExit(result) && Exit.isSuccess(result) ? result : recordFailure(span, result))

/** The method of an Rpc that users call. */
export const clientMethod = (settings: ClientSettings, key: MethodKey, rpc: Rpc.AnyWithProps): ClientMethod["call"] =>
  new ClientMethod(settings, key, rpc).call
