/**
 * What a server does with the request of a method, as the connection that reads it sees it: bytes in, an effect to run, bytes out. Handlers
 * of bytes are here; those of components, with schemas, middleware and headers, bring a {@link Route} of their own.
 */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type { Entry, Handler } from "../../HandlerMap.ts"
import { isMethodKey, type MethodKey } from "../../MethodKey.ts"
import { effectOf, shown } from "../guard.ts"
import { isBytes, ownBytes } from "../memory/bytes.ts"
import { noLead } from "../session/messages.ts"

/** A method that a server serves. */
export interface Route {
  readonly key: MethodKey
  /** Which requests run in a server span: all, those that bring a trace context, or none. */
  readonly spans: "all" | "traced" | "none"
  /** What the interruption of a handler says where its caller has given up. */
  readonly canceled: Context.Context<never> | undefined
  /** What its handlers run in, where the server provides `server`; made once for each server. */
  contextIn(server: Context.Context<never>): Context.Context<never>
  /** Reads a request. The bytes may be overwritten as soon as this has returned, unless they are `owned`. It does not throw. */
  read(bytes: Uint8Array, start: number, end: number, owned: boolean): Incoming
}

/** A method as errors and logs name it. */
export const methodName = ({ key: { component, method } }: Pick<Route, "key">): string => `${component}.${method}`

/** A method's handler as errors name it. */
export const handlerName = (route: Pick<Route, "key">): string => `the handler of ${methodName(route)}`

/** A request that has been read. */
export interface Incoming {
  /** Whether it is answered as soon as its handler starts, and its result is of no interest. */
  readonly isDiscarded: boolean
  /** The bytes that go before the reply, often none. They are known when `reply` or `replyNow` has returned. */
  readonly replyLead: Uint8Array
  /** What kind of failure the reply is, where it says that the application failed. */
  readonly failure: string | undefined
  /** The work. It runs in a fiber and a Scope of its own, unless it is an `Exit` already. */
  handle(call: IncomingCall): Effect.Effect<unknown, unknown>
  /** Whether the work has ended with something that is still to come, which its reply waits for. */
  isOpen(exit: Exit.Exit<unknown, unknown>): boolean
  /** The reply to work that has succeeded, where it can be made at once and without an effect. */
  replyNow(value: unknown): Uint8Array | undefined
  /** The reply's bytes; it fails where the call is to be answered with an error. Mostly it is an `Exit`. */
  reply(exit: Exit.Exit<unknown, unknown>): Effect.Effect<Uint8Array, unknown>
}

/** A call that is being served. */
export interface IncomingCall {
  readonly id: number
  /** Stands for the connection that the call came in on. */
  readonly connection: object
  /** The handler has started: a call that is discarded is answered now. */
  acknowledge(): void
  /** The call runs beside others, whatever limit there is for those. */
  exempt(): void
  /** What cannot be interrupted has ended: the call ends so, too, and not with the interruption that its fiber ends with. */
  conclude(exit: Exit.Exit<unknown, unknown>): void
}

/** Where a handler of bytes is more than that. */
export const ownRoute: unique symbol = Symbol("effect-call/internal/ownRoute")

/** A handler with a {@link Route} of its own. */
export interface RoutedHandler extends Handler {
  readonly [ownRoute]: Route
}

const isRouted = (handler: Handler): handler is RoutedHandler => ownRoute in handler

/** The route of a handler map's entry. It throws where that is none: a map that is a user's own may hold anything. */
export const routeOf = (entry: Entry<never>): Route => {
  // Whatever its type says.
  const given: Entry<never> | undefined | null = entry
  if (!isMethodKey(given?.key) || typeof given.handler !== "function") {
    throw new TypeError(`an entry of a HandlerMap: expected a MethodKey and a function, got ${shown(entry)}`)
  }
  return isRouted(entry.handler) ? entry.handler[ownRoute] : new BytesRoute(entry)
}

/** A handler of bytes that waits for something to happen: one call of each connection does not count among those that run at once. */
export const waiting = (key: MethodKey, handler: Handler): RoutedHandler =>
  Object.assign((args: Uint8Array) => handler(args), { [ownRoute]: new WaitingRoute({ key, handler }) })

class BytesRoute implements Route {
  readonly key: MethodKey
  readonly spans = "traced"
  readonly canceled = undefined
  protected readonly handler: Handler

  constructor({ handler, key }: Entry<never>) {
    this.key = key
    this.handler = handler
  }

  contextIn(server: Context.Context<never>): Context.Context<never> {
    return server
  }

  read(bytes: Uint8Array, start: number, end: number, owned: boolean): Incoming {
    return new IncomingBytes(this.handler, ownBytes(bytes, start, end, owned))
  }
}

class IncomingBytes implements Incoming {
  readonly isDiscarded = false
  readonly replyLead = noLead
  readonly failure = undefined
  private readonly handler: Handler
  private readonly args: Uint8Array

  constructor(handler: Handler, args: Uint8Array) {
    this.handler = handler
    this.args = args
  }

  handle(_call: IncomingCall): Effect.Effect<unknown, unknown> {
    return this.handler(this.args)
  }

  isOpen(): boolean {
    return false
  }

  replyNow(value: unknown): Uint8Array | undefined {
    return isBytes(value) ? value : undefined
  }

  reply(exit: Exit.Exit<unknown, unknown>): Effect.Effect<Uint8Array, unknown> {
    // Whether the handler has kept to its type is checked where the reply is sent.
    return exit as Exit.Exit<Uint8Array, unknown>
  }
}

class WaitingRoute extends BytesRoute {
  /** The connections that have a call beside the others. */
  private readonly beside = new WeakSet<object>()

  override read(bytes: Uint8Array, start: number, end: number, owned: boolean): Incoming {
    return new IncomingWait(this.handler, ownBytes(bytes, start, end, owned), this.beside)
  }
}

class IncomingWait extends IncomingBytes {
  private readonly beside: WeakSet<object>

  constructor(handler: Handler, args: Uint8Array, beside: WeakSet<object>) {
    super(handler, args)
    this.beside = beside
  }

  override handle(call: IncomingCall): Effect.Effect<unknown, unknown> {
    const { beside } = this
    const { connection } = call
    // What has no limit at all could be asked for without end.
    if (beside.has(connection)) return super.handle(call)
    beside.add(connection)
    call.exempt()
    const what = "the handler of a method that waits"
    return Effect.ensuring(effectOf(what, () => super.handle(call)), Effect.sync(() => beside.delete(connection)))
  }
}
