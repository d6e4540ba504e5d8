/**
 * The context of fibers that belong to nobody's call: dials, the resolver's watch, timers, a server's handlers before they get their own.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as References from "effect/References"
import { CurrentHeaders } from "effect/rpc/RpcClient"
import * as Scope from "effect/Scope"
import * as Tracer from "effect/Tracer"
import { CurrentOptions } from "./callOptions.ts"
import { Current as CurrentDeadline } from "./deadline.ts"

/**
 * `context` without what belongs to the call or request that happens to be running: its deadline, span, call options, headers, Scope, and what it
 * says in logs. A Connection that is first built inside a handler must not end with that handler's deadline.
 */
export const withoutCaller = <R>(context: Context.Context<R>): Context.Context<R> =>
  // What is left out is never part of `R`: these have defaults, or are given to each call anew.
  Context.omit(
    CurrentDeadline,
    CurrentOptions,
    CurrentHeaders,
    Tracer.ParentSpan,
    Scope.Scope,
    References.CurrentLogAnnotations,
    References.CurrentLogSpans
  )(context) as Context.Context<R>

/** The running fiber's context, {@link withoutCaller}. */
export const background: Effect.Effect<Context.Context<never>> = Effect.map(Effect.context<never>(), withoutCaller)
