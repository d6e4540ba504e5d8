/**
 * The server spans of one connection's calls. It must not know how a call is run or answered.
 */
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Tracer from "effect/Tracer"
import { type Attributes, methodAttributes, peerAttributes, recordFailure, spanName } from "../telemetry/span.ts"
import type { Remote } from "../transport/capabilities.ts"
import type { Route } from "./route.ts"

/** Opens server spans, and keeps what they say of each method and of the client. */
export class Spans {
  private readonly remote: Remote | undefined
  private readonly attributes = new Map<Route, Attributes>()

  /** `remote` is the client, where the system knows it. */
  constructor(remote: Remote | undefined) {
    this.remote = remote
  }

  /**
   * Runs a handler in a server span, a root where the caller has sent no trace context. `kindOf` names the kind of a
   * failure.
   */
  within(
    route: Route,
    parent: Tracer.ExternalSpan | undefined,
    handler: Effect.Effect<unknown, unknown>,
    kindOf: (cause: Cause.Cause<unknown>) => string
  ): Effect.Effect<unknown, unknown> {
    const attributes = this.attributesOf(route)
    return Effect.useSpan(
      spanName(route.key),
      parent === undefined ? { kind: "server", attributes } : { kind: "server", attributes, parent },
      (span) => Effect.provideService(recordFailure(span, handler, kindOf), Tracer.ParentSpan, span)
    )
  }

  private attributesOf(route: Route): Attributes {
    let attributes = this.attributes.get(route)
    if (attributes === undefined) {
      attributes = { ...methodAttributes(route.key), ...peerAttributes(this.remote) }
      this.attributes.set(route, attributes)
    }
    return attributes
  }
}
