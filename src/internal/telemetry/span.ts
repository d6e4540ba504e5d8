/**
 * Spans of calls, by OpenTelemetry's conventions for RPC: a client span and a server span for each call, named
 * `component/method`. It does not know how a call is sent or served.
 *
 * `rpc.service` and `rpc.method` are two attributes, as before the release candidate of the conventions, which joins
 * them: the name of a component can contain slashes itself.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as References from "effect/References"
import * as Tracer from "effect/Tracer"
import type { MethodKey } from "../../MethodKey.ts"
import { readableCause, typeOf } from "../userError.ts"
import { serverAddress } from "./address.ts"

/** The attributes of a span. */
export type Attributes = Readonly<Record<string, string | number>>

/** `rpc.system.name` of spans and metrics. */
export const systemName = "effect_call"

/** The name of the spans of a method. */
export const spanName = ({ component, method }: MethodKey): string => `${component}/${method}`

/** The attributes that are known before a call is sent or served. */
export const methodAttributes = ({ component, method }: MethodKey): Attributes => ({
  "rpc.system.name": systemName,
  "rpc.service": component,
  "rpc.method": method
})

/** The attributes of the address of an endpoint. */
export const serverAttributes = (endpoint: string): Attributes => {
  const { address, port } = serverAddress(endpoint)
  return { "server.address": address, ...(port === undefined ? {} : { "server.port": port }) }
}

/** The attributes of the peer of a connection, if the system knows its address. */
export const peerAttributes = (
  remote: { readonly address: string; readonly port: number } | undefined
): Attributes =>
  remote === undefined ? {} : { "network.peer.address": remote.address, "network.peer.port": remote.port }

/**
 * Sets an attribute of a span during a call. The span may be a custom one. If it throws, the call must not fail.
 */
export const annotate = (span: Tracer.Span | undefined, name: string, value: unknown): void => {
  try {
    span?.attribute(name, value)
  } catch {
    // It could only be reported to the tracer, and the tracer has thrown.
  }
}

/** `error.type` of a call that ended with this cause: a short word for the kind of failure. */
export const errorType = (cause: Cause.Cause<unknown>): string => {
  const failure = Cause.findErrorOption(cause)
  if (Option.isSome(failure)) return typeOf(failure.value)
  return Cause.hasInterruptsOnly(cause) ? "canceled" : "defect"
}

/**
 * Tells a span the kind of failure with which an effect ends, including interruption, in a form that its tracer can
 * read.
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
 * Ends a span if its tracer could not read the failure. The code that has opened a span ends it otherwise. It then ends
 * this one, too, which changes nothing: Effect ends a span once.
 */
const endReadably = (span: Tracer.Span, cause: Cause.Cause<unknown>): void => {
  const readable = readableCause(cause)
  const fiber = Fiber.getCurrent()
  if (readable === cause || fiber === undefined) return
  const isTimed = fiber.getRef(References.TracerTimingEnabled)
  span.end(isTimed ? fiber.getRef(Clock.Clock).currentTimeNanosUnsafe() : 0n, Exit.failCause(readable))
}

/** The span that a call is part of. It is never one whose propagation is off, as Effect has it for parents of spans. */
export const tracedSpan = (current: Tracer.AnySpan | undefined): Tracer.AnySpan | undefined => {
  let span = current
  while (span !== undefined && Context.get(span.annotations, Tracer.DisablePropagation)) {
    span = span._tag === "Span" ? Option.getOrUndefined(span.parent) : undefined
  }
  return span
}
