/**
 * Typed methods: a named `RpcGroup` of effect/rpc, called over a {@link Connection.Connection} and served by a {@link Server.Server}.
 *
 * The contract is effect/rpc's: `Rpc.make`, `RpcGroup.make`, `group.toLayer`, `RpcMiddleware`, `RpcClient.withHeaders`; the same group still
 * works with its clients, servers and `RpcTest`. What carries the calls is this package: replicas, balancing, deadlines, cancellation.
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
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { dual } from "effect/Function"
import * as Layer from "effect/Layer"
import * as Predicate from "effect/Predicate"
import { type Rpc, type RpcClient, type RpcGroup, RpcSchema } from "effect/rpc"
import type * as Scope from "effect/Scope"
import type { CallError } from "./CallError.ts"
import * as Connection from "./Connection.ts"
import * as HandlerMap from "./HandlerMap.ts"
import { ClientMethod } from "./internal/component/client.ts"
import { handlerOf, type Middleware } from "./internal/component/server.ts"
import * as internal from "./internal/component/shardKey.ts"
import { flag, invalid } from "./internal/options.ts"
import { methodName } from "./internal/protocol/methodName.ts"
import * as MethodKey from "./MethodKey.ts"

const TypeId = "~effect-call/Component"

/**
 * A group of methods under a name. On the wire, a method's key is `MethodKey.make(name, tag)`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Component<in out Rpcs extends Rpc.Any> {
  readonly [TypeId]: typeof TypeId
  /** What clients and servers know it by. */
  readonly name: string
  /** The methods. `group.toLayer` makes their handlers. */
  readonly group: RpcGroup.RpcGroup<Rpcs>
  /** The methods' keys, by tag. */
  readonly keys: ReadonlyMap<string, MethodKey.MethodKey>
}

/**
 * The client of a component: a method for each Rpc, typed as `RpcClient` types it. It fails with the method's errors, those of its
 * middleware, or a `CallError`.
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
export type Client<C> = C extends Component<infer Rpcs> ? RpcClient.RpcClient<Rpcs, CallError> : never

/**
 * Options of a client.
 *
 * @category models
 * @since 0.1.0
 */
export interface ClientOptions {
  /**
   * How arguments are written; the server answers in the same way. `"binary"` is SchemaBinary in the mode that is open to evolution;
   * `"json"` can be read on the wire, and carries what has no binary form, such as a union whose members nothing tells apart. A method
   * whose schemas have no such form is a defect that says so. Default: `"binary"`.
   *
   * **Details**
   *
   * A value arrives as it was, or the side that writes it refuses it: a payload is then a defect of the caller, a
   * result or a failure one of the handler, which names the method and says what was expected, and where.
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
   * JSON carries null, booleans, finite numbers, text (with lone surrogates, too), arrays and plain objects. It refuses
   * `undefined`, also as an element, functions, symbols, bigints, NaN, infinite numbers, instances of classes such as
   * `Map`, `Date` and `Error`, whatever has a `toJSON`, and what contains itself. It leaves out properties that are
   * `undefined`, and those whose key is a symbol; -0 arrives as 0.
   *
   * **Gotchas**
   *
   * In `"json"` the members of a union are told apart by their JSON alone: where a schema allows both null and
   * `undefined`, `undefined` arrives as null, and where it allows both text and bigints, the text `"1"` arrives as
   * `1n`. `"binary"` tells them apart. `Schema.Defect`, and schemas from JSON text such as
   * `Schema.UnknownFromJsonString`, make JSON of any value by themselves, and what JSON does not carry arrives as
   * something else.
   */
  readonly format?: "binary" | "json" | undefined
  /** Makes no client span for each call; the trace of the caller still goes along. Default: false. */
  readonly disableTracing?: boolean | undefined
}

/**
 * Options of a component's handlers.
 *
 * @category models
 * @since 0.1.0
 */
export interface HandlersOptions {
  /** Makes no server span for each call; what the handler traces is then a part of the caller's span. Default: false. */
  readonly disableTracing?: boolean | undefined
}

/**
 * The component of a group. Streaming Rpcs are refused with a `TypeError` that names them: they are not there yet.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <Rpcs extends Rpc.Any>(name: string, group: RpcGroup.RpcGroup<Rpcs>): Component<Rpcs> => {
  const streams = methodsOf(group).filter(({ successSchema }) => RpcSchema.isStreamSchema(successSchema))
  if (streams.length > 0) {
    const tags = streams.map(({ _tag }) => _tag).join(", ")
    throw new TypeError(`component ${name} cannot have streaming methods, which are not supported yet: ${tags}`)
  }
  return {
    [TypeId]: TypeId,
    name,
    group,
    keys: new Map(methodsOf(group).map((rpc) => [rpc._tag, makeKey(name, rpc)]))
  }
}

/**
 * A client of a component over the ambient `Connection`.
 *
 * **Details**
 *
 * Client and server may have different versions of a method's contract. A request in binary begins with a fingerprint
 * of the contract's encoded shape: the names and types of payload, success and error, and which fields are optional.
 * Checks, brands, annotations and what values are decoded to do not count. A server whose own fingerprint differs runs
 * nothing and says so. The client then sends the method in JSON for as long as the connection lives, and logs one
 * warning for each connection and method. What the server's schema makes of the JSON counts, and the other way round. A
 * call that does not fit fails with an error that names the path and what was expected. A call that has no JSON form
 * fails with a CommunicationError `Protocol` that says that the contracts differ, and nothing has run.
 *
 * A payload that its schema refuses is a defect that says what was expected, and where. An answer that cannot be decoded fails with a
 * CommunicationError `Protocol` that says so. The options of a call, such as its `timeout`, are those of the region
 * (`Connection.withOptions`, `Deadline.within`). With `{ discard: true }` a method succeeds as soon as its handler has started; the handler
 * then runs without the caller's deadline, and whatever becomes of the connection. A client's half of middleware sees the answer: `next` ends
 * when the call does.
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
  RpcClient.RpcClient<Rpcs, CallError>,
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
      const methods: Record<string, ClientMethod["call"]> = {}
      for (const rpc of methodsOf(component.group)) {
        methods[rpc._tag] = new ClientMethod(settings, keyOf(component, rpc), rpc).call
      }
      // One method for each Rpc, which takes and gives what its schemas say.
      return methods as unknown as RpcClient.RpcClient<Rpcs, CallError>
    })
  )

/**
 * The handlers of a component, as a server takes them. `layer` is what `component.group.toLayer` gives, or anything that provides as much.
 *
 * It is built for this component alone, and what it provides goes nowhere else: effect/rpc knows handlers by their tags, and two components
 * may well have methods of the same name. A handler runs in the context that its layer was built in, under the deadline, the span and the
 * Scope of its call. What belongs to the method's error schema reaches the caller as it is; a defect is logged, and answered without
 * details. A method that has no handler in `layer`, or whose schemas can be sent neither in binary nor in JSON, is a defect that names it.
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
  R | Rpc.Middleware<Rpcs> | Rpc.ServicesServer<Rpcs> | Scope.Scope
> {
  const tracing = !flag("disableTracing", options?.disableTracing, false)
  const built = yield* Layer.build(layer)
  const context = yield* Effect.context<Rpc.Middleware<Rpcs>>()
  let map = HandlerMap.empty
  for (const rpc of methodsOf(component.group)) {
    const key = keyOf(component, rpc)
    // Only what this layer provides: another component's handlers may be in the context under the same names.
    const handler = built.mapUnsafe.get(rpc.key) as Rpc.Handler<string> | undefined
    if (handler === undefined) {
      return yield* Effect.die(new TypeError(`no handler for ${methodName(key)} in the layer it is given`))
    }
    map = HandlerMap.set(
      map,
      component.name,
      rpc._tag,
      handlerOf({
        key,
        rpc,
        handler,
        // What they are given and give is opaque to them, and what they need is in the context.
        middlewares: Array.from(
          rpc.middlewares,
          (service) => Context.getUnsafe(context, service) as unknown as Middleware
        ),
        context,
        tracing
      })
    )
  }
  return map
})

/**
 * The annotation that {@link shardBy} sets: what makes a call's shard key of its payload. The default is none.
 *
 * @category annotations
 * @since 0.1.0
 */
export const ShardKey: Context.Reference<((payload: never) => bigint | string | undefined) | undefined> =
  internal.ShardKey

/**
 * Routes a method's calls by its payload: `key` makes the shard key that a balancer such as `Balancer.sharded` goes by. A `bigint` from 0 to
 * 2^64 − 1 is taken as it is, a text is hashed (the first 8 bytes of its SHA-256, little-endian), and `undefined` is no key. Where the region
 * of a call has a shard key of its own (`Connection.withOptions`), that one counts.
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
    // An annotation changes nothing of an Rpc's type.
    withProps(self).annotate(ShardKey, key) as unknown as R
)

/**
 * The annotation that {@link idempotent} sets. The default is false.
 *
 * @category annotations
 * @since 0.1.0
 */
export const Idempotent: Context.Reference<boolean> = Context.Reference<boolean>("effect-call/Component/Idempotent", {
  defaultValue: () => false
})

/**
 * Declares a method idempotent: to run it twice does what to run it once does. A call of it that was lost, of which nobody knows whether it ran,
 * is made again where the region of the call has a `retry` (`Connection.withOptions`); without that nothing changes.
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
  // An annotation changes nothing of an Rpc's type.
  withProps(self).annotate(Idempotent, true) as unknown as R

/**
 * Whether a value is a component, of whatever methods.
 *
 * @category guards
 * @since 0.1.0
 */
export const isComponent = (u: unknown): u is Component<Rpc.Any> => Predicate.hasProperty(u, TypeId)

const formatOf = (format: ClientOptions["format"]) =>
  format === undefined || format === "binary" || format === "json"
    ? format ?? "binary"
    : invalid("format", format, "\"binary\" or \"json\"")

/** Any Rpc with everything that one has. */
type AnyRpc = Rpc.AnyWithProps & Pick<Rpc.Rpc<string>, "annotate">

// `Rpc.Any` hides what each Rpc has.
const withProps = (rpc: Rpc.Any): AnyRpc => rpc as AnyRpc

const methodsOf = <Rpcs extends Rpc.Any>(group: RpcGroup.RpcGroup<Rpcs>): ReadonlyArray<AnyRpc> =>
  Array.from(group.requests.values(), withProps)

const keyOf = <Rpcs extends Rpc.Any>(component: Component<Rpcs>, rpc: Rpc.AnyWithProps): MethodKey.MethodKey =>
  component.keys.get(rpc._tag) ?? makeKey(component.name, rpc)

const makeKey = (component: string, rpc: Rpc.AnyWithProps): MethodKey.MethodKey => {
  const key = MethodKey.make(component, rpc._tag)
  return Context.get(rpc.annotations, Idempotent) ? MethodKey.idempotent(key) : key
}
