/**
 * The context of fibers that do not belong to a single call: dials, the resolver's watch, timers, and a server's
 * handlers before they get their own.
 *
 * It knows what a call leaves in a context, and must not know what uses the rest.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as References from "effect/References"
import { CurrentHeaders } from "effect/rpc/RpcClient"
import * as Scope from "effect/Scope"
import * as Tracer from "effect/Tracer"
import { CurrentOptions } from "./callOptions.ts"
import { Current as CurrentDeadline } from "./deadline.ts"
import { Leaving } from "./leaving.ts"

/**
 * `context` without what belongs to the call or request that is running: its deadline, span, call options, headers,
 * Scope, the server that it runs in, and its annotations and spans of logs. A Connection that is first built inside a
 * handler must not end with the deadline of that handler.
 */
export const withoutCaller = <R>(context: Context.Context<R>): Context.Context<R> =>
  // What is left out is never part of `R`: these have defaults, or are given to each call anew.
  Context.omit(
    CurrentDeadline,
    Leaving,
    CurrentOptions,
    CurrentHeaders,
    Tracer.ParentSpan,
    Scope.Scope,
    References.CurrentLogAnnotations,
    References.CurrentLogSpans
  )(context) as Context.Context<R>

/** The running fiber's context, {@link withoutCaller}. */
export const background: Effect.Effect<Context.Context<never>> = Effect.map(Effect.context<never>(), withoutCaller)
