/**
 * Typed methods between processes: client and server share a contract, and a call looks like a function that returns an
 * Effect.
 *
 * A component is a named `RpcGroup` of effect/rpc. It is called over a {@link Connection.Connection} and served by a
 * {@link Server.Server}.
 *
 * The contract is that of effect/rpc: `Rpc.make`, `RpcGroup.make`, `group.toLayer`, `RpcMiddleware` and
 * `RpcClient.withHeaders`. The same group still works with the clients and servers of effect/rpc, and with `RpcTest`.
 * This package carries the calls: replicas, balancing, deadlines, cancellation.
 *
 * This module does not know how values are written, nor how a call is sent.
 *
 * **Example** (A contract, its server and its client)
 *
 * ```ts
 * import { Effect, Layer, Schema } from "effect"
 * import { Component, Connection, Endpoint, Listener, Resolver, Server } from "effect-call"
 * import { Rpc, RpcGroup } from "effect/rpc"
 *
 * class DivisionByZero extends Schema.TaggedError<DivisionByZero>()("DivisionByZero", {}) {}
 *
 * const Calculator = Component.make(
 *   "example/Calculator",
 *   RpcGroup.make(
 *     Rpc.make("Divide", {
 *       payload: { dividend: Schema.Finite, divisor: Schema.Finite },
 *       success: Schema.Finite,
 *       error: DivisionByZero
 *     })
 *   )
 * )
 *
 * const CalculatorHandlers = Calculator.group.toLayer({
 *   Divide: ({ dividend, divisor }) =>
 *     divisor === 0 ? Effect.fail(new DivisionByZero()) : Effect.succeed(dividend / divisor)
 * })
 *
 * const CalculatorServer = Server.layer(
 *   Effect.flatMap(Component.handlers(Calculator, CalculatorHandlers), (handlers) => Listener.tcp(":9000", handlers))
 * )
 *
 * const program = Effect.gen(function*() {
 *   const calculator = yield* Component.client(Calculator)
 *   return yield* calculator.Divide({ dividend: 6, divisor: 3 }) // fails with DivisionByZero or a CallError
 * }).pipe(
 *   Effect.provide(Connection.layer()),
 *   Effect.provide([Resolver.layer(Resolver.constant(Endpoint.tcp("localhost:9000")))])
 * )
 * ```
 *
 * @module
 * @since 0.1.0
 */
import type * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { dual } from "effect/Function"
import type * as Headers from "effect/http/Headers"
import * as Layer from "effect/Layer"
import * as Predicate from "effect/Predicate"
import type * as Queue from "effect/Queue"
import type { Rpc, RpcClient, RpcGroup, RpcMiddleware, RpcSchema } from "effect/rpc"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import type * as Struct from "effect/Struct"
import type { CallError } from "./CallError.ts"
import * as Connection from "./Connection.ts"
import * as HandlerMap from "./HandlerMap.ts"
import { Accepts, itemsOf } from "./internal/component/accepts.ts"
import { ClientMethod } from "./internal/component/client.ts"
import { ClientStream } from "./internal/component/clientStream.ts"
import type { Middleware } from "./internal/component/incoming.ts"
import { MethodCodecs } from "./internal/component/methodCodecs.ts"
import { handlerOf, streamHandlerOf } from "./internal/component/server.ts"
import * as internal from "./internal/component/shardKey.ts"
import { unexpected } from "./internal/guard.ts"
import { flag, invalid } from "./internal/options.ts"
import { methodName } from "./internal/protocol/methodName.ts"
import * as MethodKey from "./MethodKey.ts"

const TypeId = "~effect-call/Component"

/**
 * A contract: a group of methods under a name. Client and server import the same one.
 *
 * **Details**
 *
 * On the wire, the key of a method is `MethodKey.make(name, tag)`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Component<in out Rpcs extends Rpc.Any> {
  /** Marks components. */
  readonly [TypeId]: typeof TypeId
  /** The name that clients and servers share. */
  readonly name: string
  /** The methods. `group.toLayer` makes a layer of their handlers. */
  readonly group: RpcGroup.RpcGroup<Rpcs>
  /** The keys of the methods, by tag. */
  readonly keys: ReadonlyMap<string, MethodKey.MethodKey>
}

/**
 * The client of a component: a method for each Rpc, typed as `RpcClient` types it. A method fails with its own errors,
 * those of its middleware, or a `CallError`.
 *
 * **Example** (A client as a service)
 *
 * ```ts
 * import { Context, Layer, Schema } from "effect"
 * import { Component, Connection } from "effect-call"
 * import { Rpc, RpcGroup } from "effect/rpc"
 *
 * const StockComponent = Component.make(
 *   "shop/Stock",
 *   RpcGroup.make(Rpc.make("Count", { payload: { item: Schema.String }, success: Schema.Int }))
 * )
 *
 * class Stock extends Context.Service<Stock, Component.Client<typeof StockComponent>>()("shop/Stock") {
 *   static readonly layer: Layer.Layer<Stock, never, Connection.Connection> = Layer.effect(
 *     this,
 *     Component.client(StockComponent)
 *   )
 * }
 * ```
 *
 * @category models
 * @since 0.1.0
 */
export type Client<C> = C extends Component<infer Rpcs> ? ClientOf<Rpcs> : never

type ClientOf<Rpcs extends Rpc.Any> = [Taking<Rpcs>] extends [never] ? RpcClient.RpcClient<Rpcs, CallError>
  : Struct.Simplify<
    & RpcClient.RpcClient.From<NotTaking<Rpcs>, CallError>
    & { readonly [Current in Taking<Rpcs> as Current["_tag"]]: TakingMethod<Current> }
  >

/** Those of the Rpcs that take items from their client, and the others. */
type Taking<R extends Rpc.Any> = R extends { readonly payloadSchema: Accepting<Schema.Top> } ? R : never
type NotTaking<R extends Rpc.Any> = R extends { readonly payloadSchema: Accepting<Schema.Top> } ? never : R

/** The method of an Rpc that takes items: the method of `RpcClient`, with the items after the payload. */
type TakingMethod<Current extends Rpc.Any> = Rpc.SuccessSchema<Current> extends RpcSchema.Stream<infer A, infer _E>
  ? <E = never, R = never, const AsQueue extends boolean = false>(
    input: Rpc.PayloadConstructor<Current>,
    items: Stream.Stream<ItemOf<Current>["Type"], E, R>,
    options?: TakingOptions & {
      readonly asQueue?: AsQueue | undefined
      readonly streamBufferSize?: number | undefined
    }
  ) => AsQueue extends true ? Effect.Effect<
      Queue.Dequeue<A["Type"], TakingError<Current> | E | Cause.Done>,
      never,
      TakingServices<Current> | R | Scope.Scope
    >
    : Stream.Stream<A["Type"], TakingError<Current> | E, TakingServices<Current> | R>
  : <E = never, R = never>(
    input: Rpc.PayloadConstructor<Current>,
    items: Stream.Stream<ItemOf<Current>["Type"], E, R>,
    options?: TakingOptions
  ) => Effect.Effect<Rpc.Success<Current>, TakingError<Current> | E, TakingServices<Current> | R>

interface TakingOptions {
  readonly headers?: Headers.Input | undefined
  readonly context?: Context.Context<never> | undefined
}

type ItemOf<R> = R extends { readonly payloadSchema: Accepting<infer Item> } ? Item : never

type TakingError<R> = Rpc.ErrorExit<R> | ClientErrorOf<R> | CallError

/** The errors of the client's half of its middleware. */
type ClientErrorOf<R> = R extends
  { readonly middlewares: ReadonlySet<infer Middleware extends RpcMiddleware.AnyService> } ? Middleware["~ClientError"]
  : never

type TakingServices<R> = Rpc.ServicesClient<R> | ItemOf<R>["EncodingServices"]

const AcceptsTypeId = "~effect-call/Component/Accepts"

/**
 * The mark of an Rpc that takes items from its client: it is part of the type of the payload's schema, so that it stays
 * where an Rpc gets middleware, annotations or a prefix.
 *
 * @category models
 * @since 0.1.0
 */
export interface Accepting<out Item extends Schema.Top> {
  /** The schema of the items. It exists only for the compiler. */
  readonly [AcceptsTypeId]: Item
}

/**
 * An Rpc with a mark that it takes items of this schema from its client: what {@link accepts} gives.
 *
 * @category utility types
 * @since 0.1.0
 */
export type WithItems<R, Item extends Schema.Top> = R extends Rpc.Rpc<
  infer Tag,
  infer Payload,
  infer Success,
  infer Error,
  infer Middleware,
  infer Requires
> ? Rpc.Rpc<Tag, Payload & Accepting<Item>, Success, Error, Middleware, Requires>
  : never

/**
 * The services that the handlers of a component need for the items of its clients.
 *
 * @category utility types
 * @since 0.1.0
 */
export type ItemServices<R> = ItemOf<R>["DecodingServices"]

/**
 * Options of a component's client. The options of its calls are `Connection.CallOptions`.
 *
 * @category models
 * @since 0.1.0
 */
export interface ClientOptions {
  /**
   * How arguments are written. The server answers in the same format. Default: `"binary"`.
   *
   * **When to use**
   *
   * `"binary"` is SchemaBinary in the mode that allows schemas to evolve: compact and fast. Use `"json"` to read calls
   * on the wire, or for a schema that has no binary form, such as a union whose members cannot be told apart.
   *
   * **Details**
   *
   * A value arrives unchanged, or the side that writes it refuses it. A refused payload is a defect of the caller. A
   * refused result or failure is a defect of the handler. The defect names the method, the place in the value, and what
   * was expected. If the schemas of a method cannot be written in the format, `client` dies with a defect that names
   * the method.
   *
   * | | `"binary"` | `"json"` |
   * |---|---|---|
   * | `Unknown`, `Any`, `ObjectKeyword` | what JSON carries | what JSON carries |
   * | text with a lone surrogate, also as a key (inside `Unknown` and `Any`: as in JSON) | refused | carried |
   * | `Number`: NaN, Infinity, -Infinity | carried | carried |
   * | `Number`: -0 | carried | arrives as 0 |
   * | `undefined` | carried | written as null |
   * | `DateTimeZoned`: an offset that is not of whole minutes | carried | refused |
   *
   * JSON carries null, booleans, finite numbers, text (also with lone surrogates), arrays and plain objects. It refuses
   * `undefined`, also as an element, functions, symbols, bigints, NaN, infinite numbers, instances of classes such as
   * `Map`, `Date` and `Error`, objects with a `toJSON`, and values that contain themselves. It leaves out properties
   * that are `undefined` and properties whose key is a symbol; -0 arrives as 0.
   *
   * **Gotchas**
   *
   * In `"json"` only the JSON tells the members of a union apart. If a schema allows both null and `undefined`,
   * `undefined` arrives as null. If it allows both text and bigints, the text `"1"` arrives as `1n`. `"binary"` tells
   * them apart. `Schema.Defect`, and schemas from JSON text such as `Schema.UnknownFromJsonString`, make JSON of any
   * value by themselves. A value that JSON does not carry then arrives as another value.
   */
  readonly format?: "binary" | "json" | undefined
  /**
   * Makes no client span for each call. The trace of the caller is still sent, so the spans of the server belong to the
   * span of the caller. Default: false.
   *
   * **Details**
   *
   * A client span has the name `component/method`, such as `shop/Stock/Take`, and the kind `client`. It is a child of
   * the caller's current span, and covers all attempts of a call. Its attributes are those of OpenTelemetry's
   * conventions for RPC:
   *
   * | Attribute | Value |
   * |---|---|
   * | `rpc.system.name` | `effect_call` |
   * | `rpc.service` | the name of the component |
   * | `rpc.method` | the tag of the method |
   * | `server.address`, `server.port` | the endpoint to which the call was sent last; no port for a Unix socket |
   * | `network.peer.address`, `network.peer.port` | the address that the connection has reached, if the system knows it |
   * | `error.type` | only if the call failed: the tag of its error, `canceled`, or `defect` |
   *
   * Later versions of the conventions put service and method into one attribute. Here they stay two, since the name of
   * a component can contain slashes.
   */
  readonly disableTracing?: boolean | undefined
}

/**
 * Options of a component's handlers.
 *
 * @category models
 * @since 0.1.0
 */
export interface HandlersOptions {
  /**
   * Makes no server span for each call. Spans of the handler then belong to the span of the caller. Default: false.
   *
   * **Details**
   *
   * A server span has the name `component/method` and the kind `server`. It is a child of the span that the client has
   * sent, and sampled if that one is. Without one it begins a trace. Its attributes are `rpc.system.name`
   * (`effect_call`), `rpc.service`, `rpc.method`, `network.peer.address` and `network.peer.port` (the client, if the
   * system knows its address), and, if the call failed, `error.type`: the tag of the error, `defect`, `canceled` or
   * `DeadlineExceeded`.
   *
   * A handler of bytes runs in such a span if its caller has sent one.
   */
  readonly disableTracing?: boolean | undefined
}

/**
 * Makes a component: gives a name to a group of methods.
 *
 * **Details**
 *
 * The name and the tag identify a method on the wire. Take a name that no other component of your servers has, such as
 * `"shop/Stock"`. Two components may have methods with the same tag.
 *
 * **Gotchas**
 *
 * - To rename a component or a method makes new methods: a server that does not know them answers with a `RemoteError`
 *   `isUnknownMethod`. Serve both names until all clients use the new one.
 *
 * **Example** (A contract with an error)
 *
 * ```ts
 * import { Schema } from "effect"
 * import { Component } from "effect-call"
 * import { Rpc, RpcGroup } from "effect/rpc"
 *
 * class OutOfStock extends Schema.TaggedError<OutOfStock>()("OutOfStock", { left: Schema.Int }) {}
 *
 * const Stock = Component.make(
 *   "shop/Stock",
 *   RpcGroup.make(
 *     Rpc.make("Count", { payload: { item: Schema.String }, success: Schema.Int }),
 *     Rpc.make("Take", { payload: { item: Schema.String, count: Schema.Int }, error: OutOfStock })
 *   )
 * )
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <Rpcs extends Rpc.Any>(name: string, group: RpcGroup.RpcGroup<Rpcs>): Component<Rpcs> => {
  for (const { _tag, annotations, payloadSchema } of methodsOf(group)) {
    const accepted = Context.get(annotations, Accepts)
    if (accepted !== undefined && accepted.payload !== payloadSchema) {
      throw new TypeError(`the payload of ${name}/${_tag} was set after Component.accepts: expected accepts last`)
    }
  }
  return {
    [TypeId]: TypeId,
    name,
    group,
    keys: new Map(methodsOf(group).map((rpc) => [rpc._tag, makeKey(name, rpc)]))
  }
}

/**
 * Makes a client of a component: a function for each method. It calls over the ambient `Connection`.
 *
 * **Details**
 *
 * A method fails with its own errors, those of its middleware, or a `CallError`. The options of a call, such as its
 * `timeout`, come from `Connection.withOptions` and `Deadline.within` around it: **without them a call has no time
 * limit**. To interrupt a call interrupts its handler. Several clients can share one Connection.
 *
 * With `{ discard: true }` a method succeeds as soon as its handler has started, after the middleware. The handler then
 * runs without the deadline of the caller, and goes on if the connection is lost. The server logs its failure. The
 * client's half of a middleware sees the answer: its `next` ends when the call ends. Headers take no bytes if there are
 * none.
 *
 * Client and server may have different versions of a method's contract. A binary request begins with a fingerprint of
 * the contract's encoded shape: the names and types of payload, success and error, and which fields are optional.
 * Checks, brands, annotations and the decoded types do not count. A server with another fingerprint runs nothing and
 * says so. The client then makes the calls of this method in JSON for as long as the connection lives, and logs one
 * warning for each connection and method. A call that was refused stays in JSON wherever it is made again. Each side
 * reads the JSON by its own schema: a default, an optional field, a field that the reader does not know, and a further
 * kind of error are no problem. A call that does not fit fails with an error that names the method, the path, and what
 * was expected: a `RemoteError` if the server cannot read the payload, and a `CommunicationError` `Protocol` if the
 * client cannot read the answer, or a kind of failure that it does not know. A call that JSON does not carry fails with
 * a `CommunicationError` `Protocol` which says that the contracts differ; no handler has run.
 *
 * **Gotchas**
 *
 * - A payload that its schema refuses is a defect. The defect names the place in the payload, and what was expected.
 * - A `timeout` limits the call itself. Schemas that need time, and the client's middleware, are limited only by a
 *   `Deadline`.
 * - A handler of bytes that passes typed calls on, as a proxy does, cannot pass on that contracts differ: its caller
 *   gets a `RemoteError`. Give clients behind a proxy `format: "json"`.
 *
 * **Example** (Headers and call options)
 *
 * ```ts
 * import { Effect, Schema } from "effect"
 * import { Component, Connection } from "effect-call"
 * import { Rpc, RpcClient, RpcGroup } from "effect/rpc"
 *
 * const Greeter = Component.make(
 *   "example/Greeter",
 *   RpcGroup.make(Rpc.make("Greet", { payload: { name: Schema.String }, success: Schema.String }))
 * )
 *
 * const program = Effect.gen(function*() {
 *   const greeter = yield* Component.client(Greeter)
 *   return yield* greeter.Greet({ name: "Ada" })
 * }).pipe(
 *   RpcClient.withHeaders({ authorization: "Bearer …" }),
 *   Connection.withOptions({ timeout: "1 second" })
 * )
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const client = <Rpcs extends Rpc.Any>(
  component: Component<Rpcs>,
  options?: ClientOptions
): Effect.Effect<
  Client<Component<Rpcs>>,
  never,
  Connection.Connection | Rpc.MiddlewareClient<Rpcs>
> =>
  Effect.contextWith((context: Context.Context<Connection.Connection | Rpc.MiddlewareClient<Rpcs>>) =>
    Effect.sync(() => {
      const settings = {
        connection: Context.get(context, Connection.Connection),
        format: formatOf(options?.format),
        tracing: !flag("disableTracing", options?.disableTracing, false),
        context
      }
      const methods: Record<string, unknown> = {}
      for (const rpc of methodsOf(component.group)) {
        const key = keyOf(component, rpc)
        methods[rpc._tag] = MethodCodecs.of(rpc).isStream
          ? new ClientStream(settings, key, rpc).call
          : new ClientMethod(settings, key, rpc).call
      }
      // The cast: there is one method for each Rpc, which takes and gives values of its schemas.
      return methods as unknown as Client<Component<Rpcs>>
    })
  )

/**
 * Makes the handlers of a component, to give them to a `Listener`. `layer` is the result of `component.group.toLayer`,
 * or another layer that provides the same.
 *
 * **Details**
 *
 * The layer is built for this component alone, and its services are not visible elsewhere: effect/rpc identifies
 * handlers only by their tags, and two components may have methods of the same name. A handler runs in the context that
 * its layer was built in, with the deadline, the span and the Scope of its call. That Scope closes when the call ends,
 * before the answer leaves. If the layer is first built inside a call, its handlers do not inherit the deadline, the
 * span, the headers or the Scope of that call.
 *
 * An error of the method's error schema reaches the caller as it is. A defect is logged, and answered without details:
 * the `defect` schema of an Rpc is not used.
 *
 * **Gotchas**
 *
 * It dies with a defect if `layer` has no handler for a method, or if the schemas of a method can be written neither in
 * binary nor in JSON. The defect names the method.
 *
 * **Example** (Several components on one server)
 *
 * ```ts
 * import { Effect, Schema } from "effect"
 * import { Component, HandlerMap, Listener, Server } from "effect-call"
 * import { Rpc, RpcGroup } from "effect/rpc"
 *
 * const group = RpcGroup.make(Rpc.make("Get", { success: Schema.String }))
 * const Users = Component.make("example/Users", group)
 * const Carts = Component.make("example/Carts", group)
 *
 * const BothServer = Server.layer(Effect.gen(function*() {
 *   const users = yield* Component.handlers(Users, group.toLayer({ Get: () => Effect.succeed("a user") }))
 *   const carts = yield* Component.handlers(Carts, group.toLayer({ Get: () => Effect.succeed("a cart") }))
 *   return yield* Listener.tcp(":9000", HandlerMap.merge(users, carts))
 * }))
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const handlers = Effect.fnUntraced(function*<Rpcs extends Rpc.Any, E, R>(
  component: Component<Rpcs>,
  layer: Layer.Layer<Rpc.ToHandler<Rpcs>, E, R>,
  options?: HandlersOptions
): Effect.fn.Return<
  HandlerMap.HandlerMap<never>,
  E,
  R | Rpc.Middleware<Rpcs> | Rpc.ServicesServer<Rpcs> | ItemServices<Rpcs> | Scope.Scope
> {
  const tracing = !flag("disableTracing", options?.disableTracing, false)
  const built = yield* Layer.build(layer)
  const context = yield* Effect.context<Rpc.Middleware<Rpcs>>()
  let map = HandlerMap.empty
  for (const rpc of methodsOf(component.group)) {
    const key = keyOf(component, rpc)
    // Only handlers that this layer provides count. The context may hold another component's handlers under the same
    // names.
    const handler = built.mapUnsafe.get(rpc.key) as Rpc.Handler<string> | undefined
    if (handler === undefined) {
      return yield* Effect.die(new TypeError(`the given layer has no handler for ${methodName(key)}`))
    }
    const method = {
      key,
      rpc,
      handler,
      // The cast: middleware does not look at the values that it passes on, and the context has the services that it
      // needs.
      middlewares: Array.from(
        rpc.middlewares,
        (service) => Context.getUnsafe(context, service) as unknown as Middleware
      ),
      context,
      tracing
    }
    map = MethodCodecs.of(rpc).isStream
      ? HandlerMap.setStream(map, component.name, rpc._tag, streamHandlerOf(method))
      : HandlerMap.set(map, component.name, rpc._tag, handlerOf(method))
  }
  return map
})

/**
 * The annotation that {@link shardBy} sets: a function from the payload to the shard key of a call. Default: none.
 *
 * @category annotations
 * @since 0.1.0
 */
export const ShardKey: Context.Reference<((payload: never) => bigint | string | undefined) | undefined> =
  internal.ShardKey

/**
 * Routes the calls of a method by its payload: `key` gives the shard key, for a balancer such as `Balancer.sharded`.
 *
 * **Details**
 *
 * A `bigint` from 0 to 2^64 − 1 is the key itself. A text is hashed: the key is the first 8 bytes of its SHA-256,
 * little-endian. `undefined` is no key. A shard key that is set around the call (`Connection.withOptions`) takes
 * precedence.
 *
 * **Example**
 *
 * ```ts
 * import { Schema } from "effect"
 * import { Component } from "effect-call"
 * import { Rpc } from "effect/rpc"
 *
 * const Reserve = Rpc.make("Reserve", { payload: { item: Schema.String, count: Schema.Int } }).pipe(
 *   Component.shardBy((payload) => payload.item)
 * )
 * ```
 *
 * @category annotations
 * @since 0.1.0
 */
export const shardBy: {
  <R extends Rpc.Any>(key: (payload: Rpc.Payload<R>) => bigint | string | undefined): (self: R) => R
  <R extends Rpc.Any>(self: R, key: (payload: Rpc.Payload<R>) => bigint | string | undefined): R
} = dual(
  2,
  <R extends Rpc.Any>(self: R, key: (payload: Rpc.Payload<R>) => bigint | string | undefined): R =>
    // An annotation does not change the type of an Rpc.
    withProps(self).annotate(ShardKey, key) as unknown as R
)

/**
 * The annotation that {@link idempotent} sets. Default: false.
 *
 * @category annotations
 * @since 0.1.0
 */
export const Idempotent: Context.Reference<boolean> = Context.Reference<boolean>("effect-call/Component/Idempotent", {
  defaultValue: () => false
})

/**
 * Declares a method idempotent: to run it twice has the same effect as to run it once.
 *
 * **Details**
 *
 * If a call of it is lost after its handler may have run, the call is made again, provided that a `retry` is set around
 * it (`Connection.withOptions`). Without a `retry` nothing changes.
 *
 * **Example**
 *
 * ```ts
 * import { Schedule, Schema } from "effect"
 * import { Component, Connection } from "effect-call"
 * import { Rpc } from "effect/rpc"
 *
 * const Get = Rpc.make("Get", { payload: { item: Schema.String }, success: Schema.Int }).pipe(Component.idempotent)
 *
 * const patiently = Connection.withOptions({ timeout: "1 second", retry: Schedule.exponential("20 millis") })
 * ```
 *
 * @category annotations
 * @since 0.1.0
 */
export const idempotent = <R extends Rpc.Any>(self: R): R =>
  // An annotation does not change the type of an Rpc.
  withProps(self).annotate(Idempotent, true) as unknown as R

/**
 * Declares that a method takes items from its client: a stream that goes up while the call runs.
 *
 * **When to use**
 *
 * Use it for uploads, and for talk in both directions: an Rpc of effect/rpc itself has a payload, but no stream in that
 * direction. It can be combined with `stream: true`.
 *
 * **Details**
 *
 * A client's method then takes the items after the payload: `(payload, items, options?)`. It gives an Effect of the one
 * result, or, with `stream: true`, a Stream. The `items` are any `Stream`, whose errors and services the method has,
 * too. They are run when the call is made. If they fail, the call is canceled and fails with that error. The handler
 * reads them with {@link items}, and is interrupted if the client goes away. The client is suspended while the handler
 * reads nothing.
 *
 * The answer may come before the last item. The items are then interrupted.
 *
 * **Gotchas**
 *
 * - Such a method can only be called through a Component: the clients of effect/rpc know nothing of the items, and
 *   {@link items} is a defect in their handlers.
 * - Set the payload before: `Component.make` refuses an Rpc whose payload was set after `accepts`.
 *
 * **Example** (An upload with a checksum)
 *
 * ```ts
 * import { Effect, Schema, Stream } from "effect"
 * import { Component } from "effect-call"
 * import { Rpc, RpcGroup } from "effect/rpc"
 * import { createHash } from "node:crypto"
 *
 * const Upload = Rpc.make("Upload", { payload: { name: Schema.String }, success: Schema.String }).pipe(
 *   Component.accepts(Schema.Uint8Array)
 * )
 * const Files = Component.make("example/Files", RpcGroup.make(Upload))
 *
 * const FilesHandlers = Files.group.toLayer({
 *   Upload: () =>
 *     Effect.gen(function*() {
 *       const hash = createHash("sha256")
 *       const parts = yield* Component.items(Upload)
 *       yield* Stream.runForEach(parts, (part) => Effect.sync(() => hash.update(part)))
 *       return hash.digest("hex")
 *     })
 * })
 *
 * const program = Effect.gen(function*() {
 *   const files = yield* Component.client(Files)
 *   return yield* files.Upload({ name: "a.txt" }, Stream.make(new Uint8Array([1]), new Uint8Array([2])))
 * })
 * ```
 *
 * @category annotations
 * @since 0.1.0
 */
export const accepts = <Item extends Schema.Top>(item: Item) => <R extends Rpc.Any>(self: R): WithItems<R, Item> => {
  const rpc = withProps(self)
  if (!Schema.isSchema(item)) throw unexpected(`what ${rpc._tag} accepts`, "a Schema", item)
  if (Context.get(rpc.annotations, Accepts) !== undefined) throw new TypeError(`${rpc._tag} accepts items already`)
  // The cast: the mark in the type of its payload exists only for the compiler.
  return rpc.annotate(Accepts, { schema: item, payload: rpc.payloadSchema }) as unknown as WithItems<R, Item>
}

/**
 * The items that the client of a call sends, in the handler of a method that {@link accepts} them.
 *
 * **Details**
 *
 * They come as their client gives them: chunks are kept, unless they are very large. While they are not read, their
 * client is suspended. They never fail: if the client goes away, its items fail, or the deadline passes, the handler is
 * interrupted. They may be left unread, or read in part.
 *
 * It is given the Rpc as it was made, or as it is in the group.
 *
 * **Gotchas**
 *
 * Outside of the handler of that method it is a defect, as it is in a handler that a client of effect/rpc has called.
 * To run the Stream a second time is a defect, too.
 *
 * **Example** (A running total)
 *
 * ```ts
 * import { Effect, Schema, Stream } from "effect"
 * import { Component } from "effect-call"
 * import { Rpc, RpcGroup } from "effect/rpc"
 *
 * const Sum = Rpc.make("Sum", { success: Schema.Finite, stream: true }).pipe(Component.accepts(Schema.Finite))
 * const Sums = Component.make("example/Sums", RpcGroup.make(Sum))
 *
 * const SumsHandlers = Sums.group.toLayer({
 *   Sum: () => Stream.unwrap(Component.items(Sum)).pipe(Stream.scan(0, (total, item) => total + item))
 * })
 * ```
 *
 * @category accessors
 * @since 0.1.0
 */
export const items = <Item extends Schema.Top>(
  rpc: Rpc.Any & { readonly payloadSchema: Accepting<Item> }
): Effect.Effect<Stream.Stream<Item["Type"]>> => itemsOf(rpc)

/**
 * Whether a value is a component.
 *
 * @category guards
 * @since 0.1.0
 */
export const isComponent = (u: unknown): u is Component<Rpc.Any> => Predicate.hasProperty(u, TypeId)

const formatOf = (format: ClientOptions["format"]) =>
  format === undefined || format === "binary" || format === "json"
    ? format ?? "binary"
    : invalid("format", format, "\"binary\" or \"json\"")

/** An Rpc with all its properties. */
type AnyRpc = Rpc.AnyWithProps & Pick<Rpc.Rpc<string>, "annotate">

// `Rpc.Any` hides the properties of an Rpc.
const withProps = (rpc: Rpc.Any): AnyRpc => rpc as AnyRpc

const methodsOf = <Rpcs extends Rpc.Any>(group: RpcGroup.RpcGroup<Rpcs>): ReadonlyArray<AnyRpc> =>
  Array.from(group.requests.values(), withProps)

const keyOf = <Rpcs extends Rpc.Any>(component: Component<Rpcs>, rpc: Rpc.AnyWithProps): MethodKey.MethodKey =>
  component.keys.get(rpc._tag) ?? makeKey(component.name, rpc)

const makeKey = (component: string, rpc: Rpc.AnyWithProps): MethodKey.MethodKey => {
  const key = MethodKey.make(component, rpc._tag)
  return Context.get(rpc.annotations, Idempotent) ? MethodKey.idempotent(key) : key
}
