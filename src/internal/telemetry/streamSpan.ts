/**
 * What the span of a stream says of its items: how many went in each direction, and when the first one and the end
 * came. It does not know how items are sent.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as References from "effect/References"
import * as Scope from "effect/Scope"
import type * as Tracer from "effect/Tracer"
import { annotate, recordFailure } from "./span.ts"

/** The items of one stream in its span. */
export class StreamSpan {
  private readonly span: Tracer.Span
  private sentItems = 0
  private receivedItems = 0

  constructor(span: Tracer.Span) {
    this.span = span
  }

  /** This many items were handed over to be sent. */
  sent(items: number): void {
    if (this.sentItems === 0) this.event("rpc.message", { "rpc.message.type": "SENT", "rpc.message.id": 1 })
    this.sentItems += items
  }

  /** This many items have come. */
  received(items: number): void {
    if (this.receivedItems === 0) this.event("rpc.message", { "rpc.message.type": "RECEIVED", "rpc.message.id": 1 })
    this.receivedItems += items
  }

  /** No more items go in either direction. */
  end(): void {
    annotate(this.span, "rpc.effect_call.items_sent", this.sentItems)
    annotate(this.span, "rpc.effect_call.items_received", this.receivedItems)
    this.event("rpc.stream.end", {})
  }

  private event(name: string, attributes: Record<string, unknown>): void {
    const fiber = Fiber.getCurrent()
    const isTimed = fiber !== undefined && fiber.getRef(References.TracerTimingEnabled)
    const now = isTimed ? fiber.getRef(Clock.Clock).currentTimeNanosUnsafe() : 0n
    try {
      this.span.event(name, now, attributes)
    } catch {
      // It could only be reported to the tracer, and the tracer has thrown.
    }
  }
}

/** Opens the client span of a stream, which ends with the Scope. */
export const openSpan = (
  name: string,
  options: Tracer.SpanOptionsNoTrace,
  scope: Scope.Scope
): Effect.Effect<{ readonly span: Tracer.Span; readonly counts: StreamSpan }> =>
  Effect.uninterruptible(Effect.flatMap(Effect.makeSpan(name, options), (span) => {
    const counts = new StreamSpan(span)
    const close = (exit: Exit.Exit<unknown, unknown>) => {
      const ended = Effect.suspend(() => {
        counts.end()
        return exit
      })
      return Effect.asVoid(Effect.exit(withSpanEnd(span, recordFailure(span, ended))))
    }
    return Effect.as(Scope.addFinalizerExit(scope, close), { span, counts })
  }))

const withSpanEnd = <A, E>(span: Tracer.Span, effect: Effect.Effect<A, E>): Effect.Effect<A, E> =>
  Effect.onExit(effect, (exit) =>
    Effect.withFiber((fiber) => {
      if (span.status._tag === "Started") {
        const isTimed = fiber.getRef(References.TracerTimingEnabled)
        span.end(isTimed ? fiber.getRef(Clock.Clock).currentTimeNanosUnsafe() : 0n, exit)
      }
      return Effect.void
    }))
