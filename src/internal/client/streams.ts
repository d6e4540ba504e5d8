/**
 * A Connection's streams: what is known of one when it is run, its items on both sides, and its end with the Scope that
 * it is run in.
 *
 * Each run is a {@link StreamRun}, with a {@link StreamCall} for each attempt. To pick, to fail over and to retry is
 * the same as for calls, and up to those who do it for calls. It must not know connections.
 */
import * as Cause from "effect/Cause"
import * as Channel from "effect/Channel"
import type * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type * as Tracer from "effect/Tracer"
import { type CallError, CommunicationError } from "../../CallError.ts"
import type { MethodKey } from "../../MethodKey.ts"
import { type CallOptions, CurrentOptions, mergeOptions } from "../ambient/callOptions.ts"
import { Current as CurrentDeadline } from "../ambient/deadline.ts"
import type { Timeouts } from "../ambient/timeout.ts"
import { unexpected } from "../guard.ts"
import { ownCopy } from "../memory/bytes.ts"
import { invalid } from "../options.ts"
import { methodName } from "../protocol/methodName.ts"
import { openHeaderSize } from "../protocol/request.ts"
import { noLead } from "../session/messages.ts"
import { ItemTooLarge, type OutgoingItems } from "../session/outgoingItems.ts"
import { tracedSpan } from "../telemetry/span.ts"
import { nowMillis } from "../time/clock.ts"
import { isInstance } from "../userError.ts"
import { type Call, misuse } from "./call.ts"
import type { Endpoints } from "./endpoints.ts"
import { faulty } from "./errorAnswer.ts"
import { closedError } from "./errors.ts"
import type { Failover } from "./failover.ts"
import { refusal } from "./refusal.ts"
import type { Retries } from "./retry.ts"
import { StreamCall, type StreamUser } from "./streamCall.ts"
import type { OpenStream, Resume, TypedStreamRequest } from "./typed.ts"

/** The items of a client, whatever they need. */
type Items = Stream.Stream<Uint8Array, unknown, unknown>

/** What a stream asks for: of bytes, or typed. */
interface StreamRequest {
  readonly key: MethodKey
  readonly lead: Uint8Array
  readonly args: Uint8Array
  readonly options: CallOptions | undefined
  readonly span: Tracer.Span | undefined
  readonly items: Items | undefined
  readonly readEnd: (bytes: Uint8Array, endpoint: string) => Effect.Effect<unknown, unknown>
  /** The same in JSON. Its items may be run when those of this one were; undefined where there is none. */
  readonly inJson: Effect.Effect<TypedStreamRequest, CallError> | undefined
}

const ofTyped = (
  { args, decodeEnd, inJson, items, lead, method: { key }, options, span }: TypedStreamRequest
): StreamRequest => ({ key, lead, args, options, span, items, readEnd: decodeEnd, inJson })

/** What the streams of a Connection need of it. */
export interface StreamsSettings {
  readonly endpoints: Endpoints
  readonly failover: Failover
  readonly retries: Retries
  readonly clock: Clock.Clock
  readonly timeouts: Timeouts
  readonly maxMessageSize: number
  readonly writeFlattenLimit: number
  readonly open: OpenNow
}

/** Opens a stream at once where that can be done, and returns it; else its failover goes on with it. */
export type OpenNow = (call: Call, args: Uint8Array, context: Context.Context<never>) => Call | undefined

/** Opens the streams of a Connection. */
export class Streams {
  private readonly settings: StreamsSettings

  constructor(settings: StreamsSettings) {
    this.settings = settings
  }

  /** A stream of bytes: each time it is run, a stream is opened. */
  bytes(
    key: MethodKey,
    args: Uint8Array,
    options: CallOptions & { readonly items?: Items | undefined } | undefined
  ): Stream.Stream<Uint8Array, unknown, unknown> {
    const items = options?.items
    const request: StreamRequest = {
      key,
      lead: noLead,
      args,
      options,
      span: undefined,
      items,
      readEnd: (bytes, endpoint) => bytes.length === 0 ? Exit.void : Exit.fail(withResult(key, bytes, endpoint)),
      inJson: undefined
    }
    return Stream.fromChannel(
      Channel.fromTransform((_upstream, scope) =>
        Effect.withFiber((fiber) => {
          let pull: OpenStream["pull"] = Effect.suspend(() => {
            // If this is interrupted, the stream is over.
            pull = Effect.interrupt
            return Effect.flatMap(this.open(request, fiber.context, scope), (opened) => pull = opened.pull)
          })
          return Effect.succeed(Effect.suspend(() => pull))
        })
      )
    )
  }

  /** Opens a typed stream; it ends with the Scope. */
  typed(request: TypedStreamRequest): Effect.Effect<OpenStream, unknown, Scope.Scope> {
    const asked = ofTyped(request)
    return Effect.flatMap(Effect.scope, (scope) => Effect.withFiber((fiber) => this.open(asked, fiber.context, scope)))
  }

  /** Opens a stream that ends with a Scope; it succeeds when the server has sent an item, or its end. */
  private open(
    request: StreamRequest,
    context: Context.Context<never>,
    scope: Scope.Scope
  ): Effect.Effect<OpenStream, unknown> {
    const { items } = request
    if (items !== undefined && !Stream.isStream(items)) {
      return Effect.die(unexpected("the items of a stream", "a Stream", items))
    }
    const run = new StreamRun(request, context)
    return Effect.andThen(
      // Before it is opened: it may be interrupted at any time.
      Scope.addFinalizer(scope, run.close),
      Effect.map(
        Effect.callback<unknown, unknown>((resume) => this.start(request, run, resume)),
        () => run.opened
      )
    )
  }

  /** Makes a stream of what is known when it is run, and submits it. Only in the register function of a callback. */
  private start(request: StreamRequest, run: StreamRun, resume: Resume): Effect.Effect<void> | void {
    const { args, key } = request
    const misused = misuse(key, args)
    if (misused !== undefined) return resume(Effect.die(misused))
    const { clock, failover, retries, timeouts, writeFlattenLimit } = this.settings
    // A callback runs inside a fiber.
    const fiber = Fiber.getCurrent() as Fiber.Fiber<unknown, unknown>
    const outer = Context.get(fiber.context, CurrentOptions)
    const options = mergeOptions(outer ?? {}, request.options ?? {})
    const now = nowMillis(clock)
    const deadlineAt = timeouts.deadlineAt(Context.get(fiber.context, CurrentDeadline), options.timeout, now)
    const trace = tracedSpan(request.span ?? fiber.cache.span)
    const call = new StreamCall(run, key, options, deadlineAt, trace, resume, failover)
    if (args.length < writeFlattenLimit) run.keep(ownCopy(args, 0, args.length))
    if (options.retry !== undefined) {
      if (!Schedule.isSchedule(options.retry)) return invalid("retry", options.retry, "a Schedule")
      retries.watch(call, options.retry, (call) => this.submit(call, run, fiber.context, nowMillis(clock)))
    }
    return this.submit(call, run, fiber.context, now)
  }

  /** Sends a stream, or fails it where that is clear from the start. */
  private submit(
    call: Call,
    { args, lead }: StreamRun,
    context: Context.Context<never>,
    now: number
  ): Call | undefined {
    const { endpoints, failover, maxMessageSize, open } = this.settings
    const size = lead.length + args.length
    const refused = endpoints.isClosed
      ? closedError(undefined, false)
      : refusal(call, size, maxMessageSize - openHeaderSize, now)
    if (refused !== undefined) {
      failover.countUnsent(call, refused._tag)
      call.resume(Effect.fail(refused))
      return undefined
    }
    return open(call, args, context)
  }
}

/** One run of a stream: its attempts, and the fiber that pulls the client's items. */
class StreamRun implements StreamUser {
  private request: StreamRequest
  private readonly context: Context.Context<never>
  /** The attempt that was sent last. */
  private call: StreamCall | undefined = undefined
  /** What pulls the items, and what reads the end where that takes its time. */
  private fibers: Array<Fiber.Fiber<void, unknown>> = []

  constructor(request: StreamRequest, context: Context.Context<never>) {
    this.request = request
    this.context = context
  }

  get args(): Uint8Array {
    return this.request.args
  }

  get lead(): Uint8Array {
    return this.request.lead
  }

  get span(): Tracer.Span | undefined {
    return this.request.span
  }

  get hasItems(): boolean {
    return this.request.items !== undefined
  }

  get hasJson(): boolean {
    return this.request.inJson !== undefined
  }

  /** These bytes are the arguments: a copy that nobody changes. */
  keep(args: Uint8Array): void {
    this.request = { ...this.request, args }
  }

  /** The attempt that its server has taken. */
  get opened(): OpenStream {
    const { endpoint, incoming } = this.call ?? {}
    if (incoming === undefined || endpoint === undefined) throw new Error("a stream was opened, and is nowhere")
    return { pull: incoming.pull, endpoint }
  }

  /** Ends everything: its user takes no more items. The server is told before the items' own finalizers run. */
  readonly close: Effect.Effect<void> = Effect.suspend(() => {
    this.call?.cancel()
    return Fiber.interruptAll(this.fibers)
  })

  inJson(): Effect.Effect<Uint8Array, CallError> {
    return Effect.suspend(() => {
      const { fibers, request: { args, inJson } } = this
      if (inJson === undefined) return Effect.succeed(args)
      return Effect.flatMap(Fiber.awaitAll(fibers), () =>
        Effect.map(inJson, (typed) => {
          this.fibers = []
          this.request = ofTyped(typed)
          return typed.args
        }))
    })
  }

  sent(call: StreamCall): void {
    this.call = call
  }

  pullItems(call: StreamCall, to: OutgoingItems): void {
    const { items, key } = this.request
    if (items === undefined) return
    // The cast: a stream's type says what its items need, and this is the context of the fiber that runs it.
    const pulling = Effect.suspend(() => Stream.runForEachArray(items, to.write)) as Effect.Effect<void, unknown>
    const fiber = Effect.runForkWith(this.context)(pulling)
    this.fibers.push(fiber)
    fiber.addObserver((exit) => call.itemsEnded(endOfItems(exit, key, call.endpoint)))
  }

  stopItems(): void {
    for (const fiber of this.fibers) fiber.interruptUnsafe()
  }

  readEnd(bytes: Uint8Array, endpoint: string): Effect.Effect<unknown, unknown> {
    return this.request.readEnd(bytes, endpoint)
  }

  later(effect: Effect.Effect<void>): void {
    this.fibers.push(Effect.runForkWith(this.context)(effect))
  }
}

/** How the items of a client have ended; an item that is too large is an error of the stream. */
const endOfItems = (
  exit: Exit.Exit<void, unknown>,
  key: MethodKey,
  endpoint: string | undefined
): Exit.Exit<void, unknown> => {
  if (Exit.isSuccess(exit)) return exit
  const error = Option.getOrUndefined(Cause.findErrorOption(exit.cause))
  if (!isInstance(error, ItemTooLarge)) return exit
  return Exit.fail(
    new CommunicationError({
      reason: { _tag: "TooLarge" },
      ...(endpoint === undefined ? {} : { endpoint }),
      message: `an item for ${methodName(key)} is ${error.size} bytes, expected at most ${error.limit}`,
      maybeExecuted: true
    })
  )
}

/** The error of a stream of bytes whose server ends it with a result. */
const withResult = (key: MethodKey, bytes: Uint8Array, endpoint: string): CommunicationError =>
  faulty(
    endpoint,
    "Protocol",
    `${methodName(key)}: ${endpoint} ended the stream with a result of ${bytes.length} bytes, expected none`,
    true
  )
