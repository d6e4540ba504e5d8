/**
 * What the span of a stream says of its items: how many went in each direction, and when the first one and the end
 * came. It does not know how items are sent.
 */
import * as Clock from "effect/Clock"
import * as Fiber from "effect/Fiber"
import * as References from "effect/References"
import type * as Tracer from "effect/Tracer"
import { annotate } from "./span.ts"

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
