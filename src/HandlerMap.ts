/**
 * Which handler serves which method: what a server gives to its listener.
 *
 * A `HandlerMap` is an immutable value. It is built from {@link empty} with {@link set} and {@link setStream}, and maps
 * are combined with {@link merge}. A server finds a handler by the {@link MethodKey.MethodKey} that a request carries.
 * This module does not know how calls arrive, nor how a handler is run.
 *
 * @module
 * @since 0.1.0
 */
import type * as Effect from "effect/Effect"
import { dual } from "effect/Function"
import { type Pipeable, pipeArguments } from "effect/Pipeable"
import type * as Stream from "effect/Stream"
import { isMap } from "node:util/types"
import { unexpected } from "./internal/guard.ts"
import { methodName } from "./internal/protocol/methodName.ts"
import { attempt } from "./internal/userError.ts"
import * as MethodKey from "./MethodKey.ts"

const TypeId = "~effect-call/HandlerMap"

/**
 * A function that serves one method: it gets the bytes of the arguments, and its effect succeeds with the bytes of the
 * result. The handlers of typed methods are made by `Component.handlers`.
 *
 * **Details**
 *
 * An error that belongs to the application, such as "no such customer", is better put into the returned bytes. A
 * failure says that the handler could not do its work, and reaches the caller as a `RemoteError`.
 *
 * The effect runs in its own fiber and `Scope`. A cancel, the call's deadline or the loss of the connection interrupts
 * it. The handler may keep and change the bytes that it gets.
 *
 * **Gotchas**
 *
 * Do not change a large result after the handler has returned it: it may be sent without a copy. See
 * `ServerOptions.writeFlattenLimit`.
 *
 * Source: `type Handler` of the Go package.
 *
 * @category models
 * @since 0.1.0
 */
export type Handler<R = never> = (args: Uint8Array) => Effect.Effect<Uint8Array, unknown, R>

/**
 * A function that serves the streams of one method: it gets the bytes of the arguments and the items that the client
 * sends, and gives the items of the result. The handlers of typed methods are made by `Component.handlers`.
 *
 * **Details**
 *
 * The stream is run in its own fiber and `Scope`. It is pulled while the client takes its items, so that at most a
 * window of them waits. The client's stream ends when it has ended and its Scope is closed. A failure reaches the
 * client as a `RemoteError`, behind the items before it.
 *
 * `items` never fails: when the client cancels, the deadline passes, the connection is lost or the client breaks a
 * rule, the handler is interrupted. It is empty where the client sends none. Items that are not taken stop the client,
 * and nobody else. The handler may keep and change the items that it gets.
 *
 * **Gotchas**
 *
 * `items` can be run once: a second run is a defect. Do not change an item of 16 KiB or more after the stream has given
 * it: it may be sent without a copy. An item that is larger than `ServerOptions.maxMessageSize` ends the stream.
 *
 * @category models
 * @since 0.1.0
 */
export type StreamHandler<R = never> = (
  args: Uint8Array,
  items: Stream.Stream<Uint8Array>
) => Stream.Stream<Uint8Array, unknown, R>

/**
 * The handler of a method whose calls have one result, as {@link set} adds it.
 *
 * @category models
 * @since 0.1.0
 */
export interface CallEntry<out R> {
  /** The method. */
  readonly key: MethodKey.MethodKey
  /** What serves its calls. */
  readonly handler: Handler<R>
  /** It serves no streams. */
  readonly stream?: undefined
}

/**
 * The handler of a method that is a stream, as {@link setStream} adds it.
 *
 * @category models
 * @since 0.1.0
 */
export interface StreamEntry<out R> {
  /** The method. */
  readonly key: MethodKey.MethodKey
  /** What serves its streams. */
  readonly stream: StreamHandler<R>
  /** It serves no calls. */
  readonly handler?: undefined
}

/**
 * A handler in a `HandlerMap`, with the method that it serves: of calls, or of streams.
 *
 * @category models
 * @since 0.1.0
 */
export type Entry<R> = CallEntry<R> | StreamEntry<R>

/**
 * An immutable map from methods to their handlers; `R` is what the handlers need.
 *
 * Source: `type HandlerMap` of the Go package.
 *
 * @category models
 * @since 0.1.0
 */
export interface HandlerMap<out R> extends Pipeable {
  /** Marks maps of handlers. */
  readonly [TypeId]: typeof TypeId
  /** The handlers by `MethodKey.MethodKey.hex`. */
  readonly entries: ReadonlyMap<string, Entry<R>>
}

/**
 * A map that shares its entries with the maps that were made from it. Its own entries are the first `size` of them.
 * Only the latest map, which has all of them, adds an entry in place. To copy all entries for each map would take n²
 * steps for n methods.
 */
class Shared<out R> implements HandlerMap<R> {
  readonly [TypeId]: typeof TypeId = TypeId
  readonly #all: Map<string, Entry<R>>
  readonly #size: number
  #own: ReadonlyMap<string, Entry<R>> | undefined = undefined

  constructor(all: Map<string, Entry<R>>) {
    this.#all = all
    this.#size = all.size
  }

  get entries(): ReadonlyMap<string, Entry<R>> {
    return this.#own ??= new Map(this.#first())
  }

  with<R2>(entry: Entry<R2>): HandlerMap<R | R2> {
    const isLatest = this.#all.size === this.#size
    // Nothing is added in place to `empty`: `empty` is never collected, so its first entry would never be, either.
    const inPlace = isLatest && this.#size > 0 && !this.#all.has(entry.key.hex)
    const all: Map<string, Entry<R | R2>> = inPlace ? this.#all : new Map(this.#first())
    add(all, entry)
    return new Shared(all)
  }

  pipe() {
    return pipeArguments(this, arguments)
  }

  *#first(): Iterable<readonly [string, Entry<R>]> {
    let left = this.#size
    for (const entry of this.#all) {
      if (left-- === 0) return
      yield entry
    }
  }
}

/**
 * Adds an entry, or replaces the entry of the same method. It throws if a different method has the same key: component
 * `a.b` with method `c` has the same key as component `a` with method `b.c`.
 */
const add = <R>(entries: Map<string, Entry<R>>, entry: Entry<R>): void => {
  const { component, hex, method } = entry.key
  const other = entries.get(hex)?.key
  if (other !== undefined && (other.component !== component || other.method !== method)) {
    const names = `"${other.component}" with method "${other.method}" and "${component}" with "${method}"`
    throw new TypeError(`two methods have the same key, since a dot joins their names: ${names}`)
  }
  entries.set(hex, entry)
}

/**
 * The map without handlers. Others are built from it.
 *
 * **Example** (Two methods)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { HandlerMap, Listener, Server } from "effect-call"
 *
 * const handlers = HandlerMap.empty.pipe(
 *   HandlerMap.set("example/Echo", "echo", (args) => Effect.succeed(args)),
 *   HandlerMap.set("example/Echo", "size", (args) => Effect.succeed(Uint8Array.of(args.length)))
 * )
 *
 * const EchoServer = Server.layer(Listener.tcp(":9000", handlers))
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const empty: HandlerMap<never> = new Shared(new Map())

/**
 * Adds a handler for `method` of `component`, or replaces the existing one.
 *
 * **Details**
 *
 * It throws a TypeError if the handler is no function, or if a different method has the same key. A dot joins the
 * names, so component `a.b` with method `c` and component `a` with method `b.c` have the same key.
 *
 * **Example**
 *
 * ```ts
 * import { Effect } from "effect"
 * import { HandlerMap } from "effect-call"
 *
 * const handlers = HandlerMap.empty.pipe(
 *   HandlerMap.set("example/Echo", "echo", (args) => Effect.succeed(args))
 * )
 * ```
 *
 * Source: `(*HandlerMap).Set` of the Go package.
 *
 * @category combinators
 * @since 0.1.0
 */
export const set: {
  <R2>(component: string, method: string, handler: Handler<R2>): <R>(self: HandlerMap<R>) => HandlerMap<R | R2>
  <R, R2>(self: HandlerMap<R>, component: string, method: string, handler: Handler<R2>): HandlerMap<R | R2>
} = dual(
  4,
  <R, R2>(self: HandlerMap<R>, component: string, method: string, handler: Handler<R2>): HandlerMap<R | R2> => {
    const key = MethodKey.make(component, method)
    if (typeof handler !== "function") {
      throw unexpected(`the handler of ${methodName(key)}`, "a function that gives an Effect", handler)
    }
    return withEntry(self, { key, handler })
  }
)

/**
 * Adds a handler for the streams of `method` of `component`, or replaces the existing handler of that method.
 *
 * **When to use**
 *
 * Use it for results that come bit by bit, for uploads, and for both ways at once: see {@link StreamHandler}.
 *
 * **Details**
 *
 * Streams and calls share their keys: a method is one or the other. A call of a stream's method, or a stream of a
 * call's, fails with a `RemoteError` that says `unknown function`. It throws a TypeError where {@link set} does.
 *
 * **Example** (A clock, and an upload that answers with the sizes of what comes)
 *
 * ```ts
 * import { Stream } from "effect"
 * import { HandlerMap } from "effect-call"
 *
 * const handlers = HandlerMap.empty.pipe(
 *   HandlerMap.setStream("example/Clock", "watch", () =>
 *     Stream.map(Stream.tick("1 second"), () => new TextEncoder().encode(new Date().toISOString()))),
 *   HandlerMap.setStream("example/Files", "upload", (_name, items) =>
 *     Stream.map(items, (bytes) => new TextEncoder().encode(`${bytes.length}`)))
 * )
 * ```
 *
 * @category combinators
 * @since 0.1.0
 */
export const setStream: {
  <R2>(
    component: string,
    method: string,
    handler: StreamHandler<R2>
  ): <R>(self: HandlerMap<R>) => HandlerMap<R | R2>
  <R, R2>(self: HandlerMap<R>, component: string, method: string, handler: StreamHandler<R2>): HandlerMap<R | R2>
} = dual(
  4,
  <R, R2>(self: HandlerMap<R>, component: string, method: string, stream: StreamHandler<R2>): HandlerMap<R | R2> => {
    const key = MethodKey.make(component, method)
    if (typeof stream !== "function") {
      throw unexpected(`the handler of ${methodName(key)}`, "a function that gives a Stream", stream)
    }
    return withEntry(self, { key, stream })
  }
)

const withEntry = <R, R2>(self: HandlerMap<R>, entry: Entry<R2>): HandlerMap<R | R2> =>
  self instanceof Shared ? self.with(entry) : new Shared<R>(new Map(entriesOf(self))).with(entry)

/** The entries of a map, which may be a custom one. It throws a TypeError if the value is no map. */
const entriesOf = <R>(map: HandlerMap<R>): ReadonlyMap<string, Entry<R>> => {
  // Code without types may give any value.
  const entries = attempt(() => map.entries, undefined)
  if (entries === undefined || !isMap(entries)) throw unexpected("what handlers are added to", "a HandlerMap", map)
  return entries
}

/** The union of what several maps require. */
type RequirementsOf<Map> = Map extends HandlerMap<infer R> ? R : never

/**
 * Combines the handlers of several maps. If two maps serve the same method, the handler of the later map is used.
 *
 * **Details**
 *
 * Like {@link set}, it throws a TypeError if two different methods have the same key.
 *
 * **Example**
 *
 * ```ts
 * import { Effect } from "effect"
 * import { HandlerMap } from "effect-call"
 *
 * const users = HandlerMap.set(HandlerMap.empty, "example/Users", "find", (id) => Effect.succeed(id))
 * const orders = HandlerMap.set(HandlerMap.empty, "example/Orders", "find", (id) => Effect.succeed(id))
 * const handlers = HandlerMap.merge(users, orders)
 * ```
 *
 * @category combinators
 * @since 0.1.0
 */
export const merge = <const Maps extends ReadonlyArray<HandlerMap<unknown>>>(
  ...maps: Maps
): HandlerMap<RequirementsOf<Maps[number]>> => {
  const entries = new Map<string, Entry<unknown>>()
  for (const map of maps) {
    for (const entry of entriesOf(map).values()) add(entries, entry)
  }
  // The cast: the entries require the services that any of the maps requires, and the element type is `unknown`.
  return new Shared(entries) as HandlerMap<RequirementsOf<Maps[number]>>
}
