/**
 * The streams of a component's client: methods whose result is a Stream, and methods that take items.
 *
 * A stream is opened when its Stream is run, and again with each run. It does not know endpoints, connections or
 * balancers, nor how credit is granted.
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type * as Headers from "effect/http/Headers"
import * as Pull from "effect/Pull"
import * as Queue from "effect/Queue"
import type { Rpc, RpcMessage, RpcMiddleware } from "effect/rpc"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Tracer from "effect/Tracer"
import type { MethodKey } from "../../MethodKey.ts"
import { type OpenStream, openTyped, TypedMethod, type TypedStreamRequest, typedStreamsOf } from "../client/typed.ts"
import { effectOf, unexpected } from "../guard.ts"
import { wholeNumber } from "../options.ts"
import { openSpan, type StreamSpan } from "../telemetry/streamSpan.ts"
import { ClientItems } from "./clientItems.ts"
import { ClientRpc, type ClientSettings, formatInJson, isEmpty } from "./clientRpc.ts"
import { ItemReader } from "./itemReader.ts"
import type { Chunk } from "./items.ts"
import { ItemWriter } from "./itemWriter.ts"
import type { ItemCodecs } from "./methodCodecs.ts"
import * as Payload from "./payload.ts"
import * as Problem from "./problem.ts"

/** The options of a stream, as RpcClient's types have them. */
interface StreamOptions {
  readonly headers?: Headers.Input | undefined
  readonly context?: Context.Context<never> | undefined
  readonly asQueue?: boolean | undefined
  readonly streamBufferSize?: number | undefined
}

/** A run of a stream whose arguments are still values. */
interface Run {
  readonly scope: Scope.Scope
  readonly payload: unknown
  readonly headers: Headers.Headers
  readonly span: Tracer.Span | undefined
  readonly counts: StreamSpan | undefined
  readonly items: Stream.Stream<unknown, unknown, unknown> | undefined
}

/** The results of a stream. The value of its end is the one result of a method that has no stream of them. */
type Results = Pull.Pull<Chunk, unknown, unknown>

/** As effect/rpc has it. */
const defaultBufferSize = 16

/** A stream method of a client. */
export class ClientStream extends ClientRpc {
  private readonly method: TypedMethod
  private readonly methodInJson: TypedMethod

  constructor(settings: ClientSettings, key: MethodKey, rpc: Rpc.AnyWithProps) {
    super(settings, key, rpc)
    const fingerprint = settings.format === "binary" ? this.codecs.fingerprint() : undefined
    this.method = new TypedMethod(key, fingerprint, undefined)
    this.methodInJson = new TypedMethod(key, undefined, undefined)
  }

  /** The method that users call: with the items after the payload, if it takes any. */
  readonly call = (input: unknown, ...more: ReadonlyArray<unknown>): unknown => {
    const takesItems = this.codecs.accepted !== undefined
    // The casts: the types of the Rpc say so. What must be looked at is looked at where it is used.
    const options = more[takesItems ? 1 : 0] as StreamOptions | undefined
    const items = takesItems ? more[0] as Stream.Stream<unknown, unknown, unknown> : undefined
    const opened = this.open(input, items, options)
    const context = options?.context
    if (this.codecs.results === undefined) {
      const result = Effect.scoped(Effect.flatMap(opened, oneResult))
      return context === undefined ? result : Effect.provideContext(result, context)
    }
    if (options?.asQueue === true) {
      const queue = this.asQueue(opened, options.streamBufferSize)
      return context === undefined ? queue : Effect.provideContext(queue, context)
    }
    // The cast: the end of a Stream has no value.
    const stream = Stream.scoped(Stream.fromPull(opened as Effect.Effect<Pull.Pull<Chunk, unknown>>))
    return context === undefined ? stream : Stream.provideContext(stream, context)
  }

  /** A queue that is filled for as long as the Scope lasts. */
  private asQueue(
    opened: Effect.Effect<Results, unknown, Scope.Scope>,
    streamBufferSize: number | undefined
  ): Effect.Effect<Queue.Dequeue<unknown, unknown>, never, Scope.Scope> {
    return Effect.flatMap(
      Effect.suspend(() =>
        Queue.bounded<unknown, unknown>(wholeNumber("streamBufferSize", streamBufferSize, defaultBufferSize, 1))
      ),
      (queue) => {
        const filling = Effect.scoped(Effect.flatMap(opened, (results) =>
          Effect.forever(
            Effect.flatMap(results, (values) =>
              // What is left was refused: its consumer has shut the queue down.
              Effect.flatMap(
                Queue.offerAll(queue, values),
                (left) => left.length > 0 ? Effect.interrupt : Effect.void
              )),
            { disableYield: true }
          )))
        return Effect.uninterruptible(
          Effect.addFinalizer(() => Queue.shutdown(queue)).pipe(
            Effect.andThen(Effect.forkScoped(
              Effect.interruptible(Effect.onError(filling, (cause) => Queue.failCause(queue, ended(cause)))),
              { startImmediately: true }
            )),
            Effect.as(queue)
          )
        )
      }
    )
  }

  /** Opens the stream, for the Scope. */
  private open(
    input: unknown,
    items: Stream.Stream<unknown, unknown, unknown> | undefined,
    options: StreamOptions | undefined
  ): Effect.Effect<Results, unknown, Scope.Scope> {
    return Effect.contextWith((context: Context.Context<Scope.Scope>) => {
      const scope = Context.get(context, Scope.Scope)
      if (this.codecs.accepted !== undefined && !Stream.isStream(items)) {
        return Effect.die(unexpected(`the items of ${this.spanName}`, "a Stream", items))
      }
      const headers = this.headersOf(options?.headers)
      const begin = (span: Tracer.Span | undefined, counts: StreamSpan | undefined) => {
        let payload: unknown
        try {
          payload = this.rpc.payloadSchema.make(input)
        } catch (defect) {
          return Effect.die(this.unusable(defect))
        }
        return this.begin({ scope, payload, headers, span, counts, items })
      }
      return this.settings.tracing
        ? Effect.flatMap(openSpan(this.spanName, this.spanOptions, scope), ({ counts, span }) => begin(span, counts))
        : begin(undefined, undefined)
    })
  }

  private begin(run: Run): Effect.Effect<Results, unknown> {
    if (this.middlewares.length === 0) return this.send(run)
    const request = this.requestOf(run.payload, run.headers, run.span, false)
    return Effect.suspend(() => {
      const opened = Deferred.makeUnsafe<Results, unknown>()
      const wrapped = this.through(run, request, this.middlewares.length - 1, opened)
      const traced = run.span === undefined ? wrapped : Effect.provideService(wrapped, Tracer.ParentSpan, run.span)
      // As with effect/rpc, middleware is around the request, and may outlast it.
      return Effect.map(
        Effect.forkIn(
          Effect.onExit(
            traced,
            (exit) =>
              Deferred.done(opened, Exit.isFailure(exit) ? Exit.failCause(exit.cause) : Exit.die(this.notSent()))
          ),
          run.scope,
          { startImmediately: true }
        ),
        (middleware) => this.beside(middleware, opened)
      )
    })
  }

  /** The results of a stream beside its middleware, whose failure ends the stream. */
  private beside(middleware: Fiber.Fiber<unknown, unknown>, opened: Deferred.Deferred<Results, unknown>): Results {
    const failed: Results = Effect.flatMap(
      Fiber.await(middleware),
      (exit) => Exit.isFailure(exit) ? Exit.failCause(exit.cause) : Effect.never
    )
    return Effect.suspend((): Results => {
      const results = Effect.flatten(Deferred.await(opened))
      const ended = middleware.pollUnsafe()
      if (ended === undefined) return Effect.raceFirst(results, failed)
      return Exit.isFailure(ended) ? Exit.failCause(ended.cause) : results
    })
  }

  /** Runs the middleware from `index` down to 0, and then sends the request. The last one is the outermost. */
  private through(
    run: Run,
    request: RpcMessage.Request<Rpc.Any>,
    index: number,
    opened: Deferred.Deferred<Results, unknown>
  ): Effect.Effect<unknown, unknown> {
    const middleware = this.middlewares[index]
    if (middleware === undefined) {
      return Effect.suspend(() =>
        Effect.flatMap(
          this.send({ ...run, payload: request.payload, headers: request.headers }),
          (results) => Deferred.succeed(opened, results)
        )
      )
    }
    return effectOf(`the client's middleware of ${this.spanName}`, () =>
      middleware({
        rpc: this.rpc,
        request,
        // The cast: middleware does not look at the result.
        next: (request) =>
          Effect.asVoid(this.through(run, request, index - 1, opened)) as Effect.Effect<RpcMiddleware.SuccessValue>
      }))
  }

  /** Encodes the payload, opens the stream, and reads its results. */
  private send(run: Run): Effect.Effect<Results, unknown> {
    const streams = typedStreamsOf(this.settings.connection)
    if (streams === undefined) return Effect.die(this.noStreams())
    return Effect.flatMap(
      this.encoded(run.payload),
      (payload) =>
        Effect.contextWith((context: Context.Context<never>) => {
          const { counts, scope, span } = run
          const items = this.itemsOf(run, context)
          const results = this.resultsOf(counts)
          const opening = Scope.provide(streams[openTyped](this.requestFor(run, payload, items, results)), scope)
          return Effect.map(
            span === undefined ? opening : Effect.provideService(opening, Tracer.ParentSpan, span),
            (open): Results => {
              items?.noteTaken()
              return results === undefined ? this.onlyEnd(open) : results.from(open)
            }
          )
        })
    )
  }

  /** What is sent to open the stream. */
  private requestFor(
    run: Run,
    payload: Uint8Array,
    items: ClientItems | undefined,
    results: StreamResults | undefined
  ): TypedStreamRequest {
    const { format } = this.settings
    const hasHeaders = !isEmpty(run.headers)
    const code = Payload.formatCode[format] | Payload.isStream | (hasHeaders ? Payload.hasHeaders : 0)
    const args = hasHeaders ? Payload.joined(Payload.encodeHeaders(run.headers), payload) : payload
    const request: TypedStreamRequest = {
      method: this.method,
      lead: this.method.lead(code),
      args,
      options: this.optionsOf(run.payload),
      span: run.span,
      items: items?.in(format),
      decodeEnd: format === "binary" ? this.readEnd : this.readEndInJson,
      inJson: format === "json" ? undefined : Effect.suspend(() => {
        if (items?.isKept === false) return Effect.fail(this.notInJson("its items were sent already"))
        return Effect.map(this.argumentsInJson(code, args), (args): TypedStreamRequest => {
          results?.refuseBinary()
          return {
            ...request,
            method: this.methodInJson,
            lead: this.methodInJson.lead(formatInJson(code)),
            args,
            items: items?.in("json"),
            decodeEnd: this.readEndInJson,
            inJson: undefined
          }
        })
      })
    }
    return request
  }

  private encoded(payload: unknown): Effect.Effect<Uint8Array> {
    return Effect.suspend(() => {
      try {
        const codec = this.codecs.payload(this.settings.format)
        const bytes = codec.direct?.encode(payload)
        return bytes === undefined
          ? Effect.catchCause(codec.encode(payload), (cause) => Effect.die(this.unusable(cause)))
          : Exit.succeed(bytes)
      } catch (defect) {
        return Effect.die(this.unusable(defect))
      }
    })
  }

  /** The items of the caller; undefined if the method takes none. */
  private itemsOf({ counts, items, scope }: Run, context: Context.Context<never>): ClientItems | undefined {
    const { accepted } = this.codecs
    if (accepted === undefined || items === undefined) return undefined
    const onValues = counts === undefined ? undefined : (count: number) => counts.sent(count)
    const writers: Partial<Record<Payload.Format, ItemWriter>> = {}
    return new ClientItems({
      stream: items,
      context,
      scope,
      format: this.settings.format,
      writer: (format) => writers[format] ??= new ItemWriter(accepted(format), this.key, onValues),
      inJson: (item) =>
        Effect.catchCause(
          this.codecs.acceptedInJson(item),
          (cause) => Effect.fail(this.notInJson(`an item: ${Problem.problemOfCause(cause)}`))
        )
    })
  }

  /** How the results are read; undefined for a method that gives one, with the end. */
  private resultsOf(counts: StreamSpan | undefined): StreamResults | undefined {
    const { results } = this.codecs
    if (results === undefined) return undefined
    return new StreamResults(
      results,
      this.settings.format === "json",
      (problem, endpoint) => Exit.fail(this.undecodable("item", problem, endpoint)),
      counts
    )
  }

  /** The end of a stream that has no items. */
  private onlyEnd({ endpoint, pull }: OpenStream): Results {
    return Effect.flatMap(
      pull,
      () => Effect.fail(this.undecodable("result", "expected one result, got items", endpoint))
    )
  }

  private readonly readEnd: TypedStreamRequest["decodeEnd"] = (bytes, endpoint) =>
    this.isPlainEnd(bytes) ? Exit.void : this.decode(bytes, 0, bytes.length, true, endpoint)

  private readonly readEndInJson: TypedStreamRequest["decodeEnd"] = (bytes, endpoint) =>
    this.isPlainEnd(bytes) ? Exit.void : this.decodeInJson(bytes, 0, bytes.length, true, endpoint)

  /** Whether this is the end of a stream of results: a format, and nothing after it. */
  private isPlainEnd({ 0: byte, length }: Uint8Array): boolean {
    return this.codecs.results !== undefined && length === 1 && byte !== undefined &&
      Payload.formatOf(byte, 0) !== undefined
  }

  private notSent(): TypeError {
    return new TypeError(`the client's middleware of ${this.spanName} succeeded without its next`)
  }

  private noStreams(): TypeError {
    return new TypeError(
      `${this.spanName} is a stream: expected a Connection of effect-call, got one with a \`stream\` of its own`
    )
  }
}

/** The results of one stream, from the items of its server. */
class StreamResults {
  private readonly reader: ItemReader<unknown>
  private endpoint: string | undefined = undefined

  constructor(
    codecs: ItemCodecs,
    onlyJson: boolean,
    unreadable: (problem: string, endpoint: string | undefined) => Exit.Exit<never, unknown>,
    counts: StreamSpan | undefined
  ) {
    this.reader = new ItemReader(
      codecs,
      onlyJson,
      (problem) => unreadable(problem, this.endpoint),
      counts === undefined ? undefined : (count) => counts.received(count)
    )
  }

  /** The server has another contract: what it means by binary is not known. */
  refuseBinary(): void {
    this.reader.onlyJson = true
  }

  from({ endpoint, pull }: OpenStream): Results {
    this.endpoint = endpoint
    return this.reader.values(pull)
  }
}

/** The one result of a method that takes items: the value of the end. */
const oneResult = (results: Results): Effect.Effect<unknown, unknown> =>
  Pull.catchDone(Effect.forever(results, { disableYield: true }), (result) => Effect.succeed(result))

/** How a queue ends: the end of a stream has no value. */
const ended = (cause: Cause.Cause<unknown>): Cause.Cause<unknown> =>
  Pull.isDoneCause(cause) ? Cause.fail(Cause.Done()) : cause
