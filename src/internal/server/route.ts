/**
 * What a server does with the requests of one method: bytes in, an effect to run, bytes out.
 *
 * The routes of handlers of bytes are here. A component's handlers bring a {@link Route} of their own, with schemas,
 * middleware and headers. A route must not know connections or messages.
 */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Stream from "effect/Stream"
import type { CallEntry, Entry, Handler, StreamEntry, StreamHandler } from "../../HandlerMap.ts"
import { isMethodKey, type MethodKey } from "../../MethodKey.ts"
import { effectOf, shown, unexpected } from "../guard.ts"
import { isBytes, ownBytes } from "../memory/bytes.ts"
import { methodName } from "../protocol/methodName.ts"
import { noLead } from "../session/messages.ts"
import { attempt } from "../userError.ts"

/** A method that a server serves. */
export interface Route {
  readonly key: MethodKey
  /** Whether its requests are streams: they come in an open, and a request of it is unknown. */
  readonly isStream: boolean
  /** Whether one stream of each connection takes none of the places that there are for streams. */
  readonly isExempt: boolean
  /** Which requests run in a server span: all, those with a trace context, or none. */
  readonly spans: "all" | "traced" | "none"
  /** The annotations of a handler's interruption when its caller has canceled the call. */
  readonly canceled: Context.Context<never> | undefined
  /** The context that its handlers run in, where the server's own is `server`. It is made once for each server. */
  contextIn(server: Context.Context<never>): Context.Context<never>
  /**
   * Reads a request from `start` to `end`. The bytes may be overwritten when this has returned, unless they are
   * `owned`. It does not throw.
   */
  read(bytes: Uint8Array, start: number, end: number, owned: boolean): Incoming
}

/** The name of a method's handler, for errors. */
export const handlerName = (route: Pick<Route, "key">): string => `the handler of ${methodName(route.key)}`

/** A request that has been read. */
export interface Incoming {
  /** Whether it is answered as soon as its handler starts, and its result is dropped. */
  readonly isDiscarded: boolean
  /** The bytes that go before the reply, often none. They are known when `reply` or `replyNow` has returned. */
  readonly replyLead: Uint8Array
  /** The kind of failure that the reply carries, where the application has failed. */
  readonly failure: string | undefined
  /** Calls the handler. What it gives runs in a fiber and a Scope of its own, unless it is an `Exit` already. */
  handle(call: IncomingCall): Effect.Effect<unknown, unknown>
  /** Whether the handler has ended with a result that is still open, as a Deferred, so that the reply waits for it. */
  isOpen(exit: Exit.Exit<unknown, unknown>): boolean
  /** The reply to a success, where it can be made at once and without an effect. */
  replyNow(value: unknown): Uint8Array | undefined
  /** The bytes of the reply. It fails where the call is answered with an error. Mostly it is an `Exit`. */
  reply(exit: Exit.Exit<unknown, unknown>): Effect.Effect<Uint8Array, unknown>
}

/** The items of a stream that is being served. */
export interface StreamSides {
  /**
   * The client's items. They never fail: where something is wrong, the handler is interrupted. A second run is a
   * defect.
   */
  readonly items: Stream.Stream<Uint8Array>
  /**
   * Sends items to the client, each with the byte `lead` before it, if there is one. It ends when all of them have
   * left. One write at a time.
   */
  readonly write: (items: ReadonlyArray<Uint8Array>, lead?: number) => Effect.Effect<void>
}

/** A call that is being served. */
export interface IncomingCall {
  /** Its items, if it is a stream. */
  readonly stream: StreamSides | undefined
  readonly id: number
  /** An object that stands for the connection that the call has come on. */
  readonly connection: object
  /** The handler has started: a discarded call is answered now. */
  acknowledge(): void
  /** From now on the call does not count as one of those that run at once. */
  exempt(): void
  /** What cannot be interrupted has ended: the call ends like that, and not with the interruption of its fiber. */
  conclude(exit: Exit.Exit<unknown, unknown>): void
}

/** The key of a handler's own route. */
export const ownRoute: unique symbol = Symbol("effect-call/internal/ownRoute")

/** A handler with a {@link Route} of its own. */
export interface RoutedHandler extends Handler {
  readonly [ownRoute]: Route
}

/** A handler of streams with a {@link Route} of its own. */
export interface RoutedStreamHandler extends StreamHandler {
  readonly [ownRoute]: Route
}

const isRouted = (handler: object): handler is { readonly [ownRoute]: Route } => ownRoute in handler

/** The route of a handler map's entry. It throws a TypeError where that is none: a user's own map may hold anything. */
export const routeOf = (entry: Entry<never>): Route => {
  // Whatever its type says, it may be anything.
  const given: Entry<never> | undefined | null = entry
  if (isMethodKey(given?.key)) {
    if (typeof given.handler === "function") {
      return isRouted(given.handler) ? given.handler[ownRoute] : new BytesRoute(given)
    }
    if (typeof given.stream === "function") {
      return isRouted(given.stream) ? given.stream[ownRoute] : new BytesStreamRoute(given)
    }
  }
  throw new TypeError(`an entry of a HandlerMap: expected a MethodKey and a function, got ${shown(entry)}`)
}

/**
 * A handler of bytes that waits for something to happen. One call of each connection does not count as one of those
 * that run at once.
 */
export const waiting = (key: MethodKey, handler: Handler): RoutedHandler =>
  Object.assign((args: Uint8Array) => handler(args), { [ownRoute]: new WaitingRoute({ key, handler }) })

/** A handler of streams of bytes that gives news as they come. One stream of each connection takes no place. */
export const watching = (key: MethodKey, stream: StreamHandler): RoutedStreamHandler =>
  Object.assign((args: Uint8Array, items: Stream.Stream<Uint8Array>) => stream(args, items), {
    [ownRoute]: new BytesStreamRoute({ key, stream }, true)
  })

/** A method whose handler takes and gives bytes. */
class BytesRoute implements Route {
  readonly key: MethodKey
  readonly isStream = false
  readonly isExempt = false
  readonly spans = "traced"
  readonly canceled = undefined
  protected readonly handler: Handler

  constructor({ handler, key }: CallEntry<never>) {
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

/** A request of such a method. */
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
    // The cast: whether these are bytes is checked where the reply is sent.
    return exit as Exit.Exit<Uint8Array, unknown>
  }
}

/** A method of bytes whose handler waits for an event. One call of each connection is exempt from the limit. */
class WaitingRoute extends BytesRoute {
  /** The connections that have a call that does not count. */
  private readonly exempted = new WeakSet<object>()

  override read(bytes: Uint8Array, start: number, end: number, owned: boolean): Incoming {
    return new IncomingWait(this.handler, ownBytes(bytes, start, end, owned), this.exempted)
  }
}

/** A request of such a waiting method. */
class IncomingWait extends IncomingBytes {
  private readonly exempted: WeakSet<object>

  constructor(handler: Handler, args: Uint8Array, exempted: WeakSet<object>) {
    super(handler, args)
    this.exempted = exempted
  }

  override handle(call: IncomingCall): Effect.Effect<unknown, unknown> {
    const { exempted } = this
    const { connection } = call
    // Only one: without any limit, a client could start any number.
    if (exempted.has(connection)) return super.handle(call)
    exempted.add(connection)
    call.exempt()
    const what = "the handler of a method that waits"
    return Effect.ensuring(effectOf(what, () => super.handle(call)), Effect.sync(() => exempted.delete(connection)))
  }
}

/** A method whose handler takes and gives items of bytes. */
class BytesStreamRoute implements Route {
  readonly key: MethodKey
  readonly isStream = true
  readonly isExempt: boolean
  readonly spans = "traced"
  readonly canceled = undefined
  readonly handler: StreamHandler

  constructor({ key, stream }: StreamEntry<never>, isExempt = false) {
    this.key = key
    this.handler = stream
    this.isExempt = isExempt
  }

  contextIn(server: Context.Context<never>): Context.Context<never> {
    return server
  }

  read(bytes: Uint8Array, start: number, end: number, owned: boolean): Incoming {
    return new IncomingStream(this, ownBytes(bytes, start, end, owned))
  }
}

/** An open of such a method. The response to it is empty. */
class IncomingStream implements Incoming {
  readonly isDiscarded = false
  readonly replyLead = noLead
  readonly failure = undefined
  private readonly route: BytesStreamRoute
  private readonly args: Uint8Array

  constructor(route: BytesStreamRoute, args: Uint8Array) {
    this.route = route
    this.args = args
  }

  handle({ stream }: IncomingCall): Effect.Effect<unknown, unknown> {
    if (stream === undefined) return Effect.die(new Error(`${handlerName(this.route)} was called without a stream`))
    // Code without types may give any value, and a proxy may throw.
    const given: Stream.Stream<Uint8Array, unknown> = this.route.handler(this.args, stream.items)
    return attempt(() => Stream.isStream(given), false)
      ? Stream.runForEachArray(given, stream.write)
      : Effect.die(unexpected(handlerName(this.route), "a Stream", given))
  }

  isOpen(): boolean {
    return false
  }

  replyNow(): Uint8Array | undefined {
    return undefined
  }

  reply(exit: Exit.Exit<unknown, unknown>): Effect.Effect<Uint8Array, unknown> {
    return Exit.isSuccess(exit) ? Exit.succeed(nothing) : Exit.failCause(exit.cause)
  }
}

const nothing = new Uint8Array(0)
