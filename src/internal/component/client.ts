/**
 * The methods of a component's client: they encode a value, send the call, and decode its answer.
 *
 * It does not know endpoints, connections or balancers.
 */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Headers from "effect/http/Headers"
import type { Rpc, RpcMessage, RpcMiddleware } from "effect/rpc"
import * as Tracer from "effect/Tracer"
import { type CallError, RemoteError } from "../../CallError.ts"
import type { CallOptions, Connection } from "../../Connection.ts"
import type { MethodKey } from "../../MethodKey.ts"
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
import { isBytes } from "../memory/bytes.ts"
import * as Identities from "../protocol/identities.ts"
import { recordFailure } from "../telemetry/span.ts"
import { isInstance } from "../userError.ts"
import { ClientRpc, type ClientSettings, type Decode, differs, formatInJson, isEmpty } from "./clientRpc.ts"
import * as Codec from "./codec.ts"
import * as Payload from "./payload.ts"

/** The options of a method, as RpcClient's types have them. */
interface MethodOptions {
  readonly headers?: Headers.Input | undefined
  readonly context?: Context.Context<never> | undefined
  readonly discard?: boolean | undefined
}

/** A call whose arguments are still values. */
interface Arguments {
  readonly payload: unknown
  readonly headers: Headers.Headers
  readonly discard: boolean
  readonly span: Tracer.Span | undefined
}

/** How answers are read. The answer to a discarded call only says that its handler has started. */
interface Decoders {
  readonly awaited: Decode
  readonly discarded: Decode
}

/** A method of a client: it makes a call from a value, and a value from the answer. */
export class ClientMethod extends ClientRpc {
  /**
   * Encodes the caller's value without the constructor of the schema, if the constructor would change nothing. A value
   * that the constructor refuses cannot be encoded here either.
   */
  private readonly direct: Codec.Direct | undefined
  private readonly method: TypedMethod
  private readonly methodInJson: TypedMethod
  private readonly decoders: Decoders
  private warned = false

  constructor(settings: ClientSettings, key: MethodKey, rpc: Rpc.AnyWithProps) {
    super(settings, key, rpc)
    const isBinary = settings.format === "binary"
    this.decoders = isBinary ? this.inAny : this.inJson
    this.method = isBinary
      ? new TypedMethod(key, this.codecs.fingerprint(), (request) => this.requestInJson(request))
      : new TypedMethod(key, undefined, undefined)
    this.methodInJson = isBinary ? new TypedMethod(key, undefined, undefined) : this.method
    this.direct = this.middlewares.length > 0 || !Codec.isSentAsGiven(rpc.payloadSchema)
      ? undefined
      : this.codecs.payload(settings.format).direct
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
      const headers = this.headersOf(options?.headers)
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
      const request = this.requestOf(payload, headers, span, discard)
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
      const { args, lead } = request
      const format = lead[0] ?? 0
      return Effect.map(this.argumentsInJson(format, args), (args): TypedRequest<unknown, unknown> => ({
        ...request,
        method: this.methodInJson,
        lead: this.methodInJson.lead(formatInJson(format)),
        args,
        decode: (format & Payload.isDiscarded) === 0 ? this.inJson.awaited : this.inJson.discarded
      }))
    })
  }

  private readonly inAny: Decoders = decoders(this.decode)
  private readonly inJson: Decoders = decoders(this.decodeInJson)
}

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

/**
 * Resumes the caller, and tells the span the kind of a failure. The interruption of a call that waits for its answer is
 * recorded by the code that cancels it: a frame on the fiber's stack would cost every call that succeeds.
 */
const recording = (span: Tracer.Span, resume: Resume): Resume => (result) =>
  resume(Exit.isExit(result) && Exit.isSuccess(result) ? result : recordFailure(span, result))
