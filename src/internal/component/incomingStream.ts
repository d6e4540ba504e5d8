/**
 * An open of a component's stream that was read: it runs the middleware and the handler, sends the handler's items and
 * gives it those of the client.
 *
 * The contract is that of effect/rpc: a handler of a stream gives a Stream, or a queue in the Scope of its call. It
 * does not know connections, nor how credit is granted.
 */
import type * as Cause from "effect/Cause"
import * as Channel from "effect/Channel"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Pull from "effect/Pull"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import { unexpected } from "../guard.ts"
import { methodName } from "../protocol/methodName.ts"
import type { IncomingCall, StreamSides } from "../server/route.ts"
import { StreamSpan } from "../telemetry/streamSpan.ts"
import { attempt } from "../userError.ts"
import { CurrentItems } from "./accepts.ts"
import { IncomingRpc, Undecodable } from "./incoming.ts"
import { ItemReader } from "./itemReader.ts"
import type { Chunk } from "./items.ts"
import { ItemWriter } from "./itemWriter.ts"
import type { ItemCodecs } from "./methodCodecs.ts"

const noBytes = new Uint8Array(0)

/** An open that was read. */
export class IncomingStream extends IncomingRpc {
  /** What is wrong with an item of the client: the answer, whatever the handler does. */
  private unreadable: Undecodable | undefined = undefined
  /** What is wrong with an item of the handler. Middleware cannot change that. */
  private unwritable: Cause.Cause<never> | undefined = undefined
  /** The items in the span of the stream, if it has one. */
  private counts: StreamSpan | undefined = undefined

  override handle(call: IncomingCall): Effect.Effect<unknown, unknown> {
    const { stream } = call
    if (stream === undefined) return Effect.die(new Error(`${this.route.handlerName} was called without a stream`))
    return Effect.suspend(() => {
      const fiber = Fiber.getCurrent()
      const span = this.route.spans === "all" ? fiber?.cache.span : undefined
      if (span?._tag === "Span") this.counts = new StreamSpan(span)
      const handled = Effect.flatMap(
        Effect.exit(super.handle(call)),
        (exit) => this.unwritable === undefined ? exit : Exit.failCause(this.unwritable)
      )
      const { accepted } = this.route
      const served = accepted === undefined || this.route.codecs.accepted === undefined
        ? handled
        : Effect.provideService(handled, CurrentItems, {
          accepted,
          items: this.itemsOf(call, stream, this.route.codecs.accepted, fiber)
        })
      return Effect.onExitPrimitive(served, () => {
        this.counts?.end()
        this.concludeUnreadable(call)
        return undefined
      })
    })
  }

  /** Sends what the handler gives: a Stream, or an effect with a queue. */
  protected override run(given: unknown, call: IncomingCall): Effect.Effect<unknown, unknown> {
    const { results } = this.route.codecs
    const { stream } = call
    if (results === undefined || stream === undefined) return super.run(given, call)
    const write = this.writing(results, stream)
    // A proxy may throw.
    if (attempt(() => Stream.isStream(given), false)) {
      // The casts: that it is a Stream was looked at, and its services are in the context.
      return Stream.runForEachArray(given as Stream.Stream<unknown, unknown>, write)
    }
    if (!attempt(() => Effect.isEffect(given), false)) {
      return Effect.die(unexpected(this.route.handlerName, "a Stream, or an Effect of a Dequeue", given))
    }
    return Effect.scoped(
      Effect.flatMap(
        given as Effect.Effect<unknown, unknown>,
        (queue) =>
          attempt(() => Queue.isDequeue<unknown, unknown>(queue), false)
            ? drained(queue as Queue.Dequeue<unknown, unknown>, write)
            : Effect.die(unexpected(this.route.handlerName, "a Dequeue", queue))
      )
    )
  }

  override replyNow(value: unknown): Uint8Array | undefined {
    return this.route.codecs.results === undefined ? super.replyNow(value) : undefined
  }

  override isOpen(exit: Exit.Exit<unknown, unknown>): boolean {
    return this.route.codecs.results === undefined && super.isOpen(exit)
  }

  override reply(exit: Exit.Exit<unknown, unknown>): Effect.Effect<Uint8Array, unknown> {
    return Exit.isSuccess(exit) && this.route.codecs.results !== undefined ? Exit.succeed(noBytes) : super.reply(exit)
  }

  protected override isOwn(failure: unknown): boolean {
    return failure === this.unreadable || super.isOwn(failure)
  }

  /** Sends chunks of the handler. */
  private writing(results: ItemCodecs, stream: StreamSides): (values: Chunk) => Effect.Effect<void> {
    const { counts } = this
    const onValues = counts === undefined ? undefined : (count: number) => counts.sent(count)
    const writer = new ItemWriter(results(this.format), this.route.key, onValues, (cause) => {
      this.unwritable = cause
    })
    return (values) => writer.write(values, stream.write)
  }

  /** The items of the client, as the handler gets them. */
  private itemsOf(
    call: IncomingCall,
    { items }: StreamSides,
    codecs: ItemCodecs,
    fiber: Fiber.Fiber<unknown, unknown> | undefined
  ): Stream.Stream<unknown> {
    const unreadable = (problem: string): Exit.Exit<never> => {
      this.unreadable ??= new Undecodable(`cannot decode an item of ${methodName(this.route.key)}: ${problem}`)
      this.concludeUnreadable(call)
      // The items may be read by another fiber than the handler's.
      fiber?.interruptUnsafe()
      return Exit.interrupt()
    }
    const { counts } = this
    const onValues = counts === undefined ? undefined : (count: number) => counts.received(count)
    const run = Channel.toTransform(Stream.toChannel(items))
    return Stream.fromChannel(Channel.fromTransform((upstream: Pull.Pull<unknown, unknown, unknown>, scope) => {
      const reader = new ItemReader<never>(codecs, this.format === "json", unreadable, onValues)
      return Effect.map(run(upstream, scope), (pull) => reader.values(pull))
    }))
  }

  private concludeUnreadable(call: IncomingCall): void {
    if (this.unreadable !== undefined) call.conclude(Exit.fail(this.unreadable))
  }
}

/** Sends what is taken from a queue, until it ends. A queue that nobody takes from any more is shut down. */
const drained = (
  queue: Queue.Dequeue<unknown, unknown>,
  write: (values: Chunk) => Effect.Effect<void>
): Effect.Effect<void, unknown> =>
  Effect.forever(Effect.flatMap(Queue.takeAll(queue), write), { disableYield: true }).pipe(
    Pull.catchDone(() => Effect.void),
    Effect.ensuring(Effect.suspend(() =>
      // The cast: each Dequeue is a Queue.
      Queue.shutdown(queue as Queue.Queue<unknown, unknown>)
    ))
  )
