/**
 * Spans of calls, by OpenTelemetry's conventions for RPC: a client span and a server span for each, named
 * `component/method`.
 *
 * `rpc.service` and `rpc.method` are two attributes, as they were before the conventions' release candidate joined
 * them: a component's name contains slashes itself.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as References from "effect/References"
import type * as Tracer from "effect/Tracer"
import type { MethodKey } from "../../MethodKey.ts"
import { readableCause, typeOf } from "../userError.ts"
import { serverAddress } from "./address.ts"

/** Attributes of a span. */
export type Attributes = Readonly<Record<string, string | number>>

/** `rpc.system.name` of spans and metrics. */
export const systemName = "effect_call"

/** How a method's spans are called. */
export const spanName = ({ component, method }: MethodKey): string => `${component}/${method}`

/** What is known of a span before its call is sent, or served. */
export const methodAttributes = ({ component, method }: MethodKey): Attributes => ({
  "rpc.system.name": systemName,
  "rpc.service": component,
  "rpc.method": method
})

/** The address of an endpoint. */
export const serverAttributes = (endpoint: string): Attributes => {
  const { address, port } = serverAddress(endpoint)
  return { "server.address": address, ...(port === undefined ? {} : { "server.port": port }) }
}

/** The other end of a connection, where the system knows it. */
export const peerAttributes = (
  remote: { readonly address: string; readonly port: number } | undefined
): Attributes =>
  remote === undefined ? {} : { "network.peer.address": remote.address, "network.peer.port": remote.port }

/**
 * Tells a span something while a call is under way. A span is a user's code, and what it throws is no matter of the
 * call's.
 */
export const annotate = (span: Tracer.Span | undefined, name: string, value: unknown): void => {
  try {
    span?.attribute(name, value)
  } catch {
    // Only the tracer could hear of it.
  }
}

/** `error.type` of a call that ended with this cause: a short word for the kind of failure. */
export const errorType = (cause: Cause.Cause<unknown>): string => {
  const failure = Cause.findErrorOption(cause)
  if (Option.isSome(failure)) return typeOf(failure.value)
  return Cause.hasInterruptsOnly(cause) ? "canceled" : "defect"
}

/**
 * Tells a span what kind of failure an effect ends with, also where it is interrupted. Its tracer can read that
 * failure.
 */
export const recordFailure = <A, E, R>(
  span: Tracer.Span,
  effect: Effect.Effect<A, E, R>,
  kindOf: (cause: Cause.Cause<E>) => string = errorType
): Effect.Effect<A, E, R> =>
  Effect.onExitPrimitive(effect, (exit) => {
    if (Exit.isFailure(exit)) {
      annotate(span, "error.type", kindOf(exit.cause))
      endReadably(span, exit.cause)
    }
    return undefined
  })

/**
 * Ends a span whose failure its tracer could not read. Any other is ended by who has opened it. So is this one, to no
 * effect: Effect ends no span twice.
 */
const endReadably = (span: Tracer.Span, cause: Cause.Cause<unknown>): void => {
  const readable = readableCause(cause)
  const fiber = Fiber.getCurrent()
  if (readable === cause || fiber === undefined) return
  const isTimed = fiber.getRef(References.TracerTimingEnabled)
  span.end(isTimed ? fiber.getRef(Clock.Clock).currentTimeNanosUnsafe() : 0n, Exit.failCause(readable))
}
