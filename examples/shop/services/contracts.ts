/**
 * The contracts between the services of the shop: values, errors and methods. The client and the server of a service
 * share its contract, and nothing else.
 */
import { Effect, Schema } from "effect"
import { CallError, Component } from "effect-call"
import { Rpc, RpcGroup } from "effect/rpc"

/** An item and its count. */
export class Line extends Schema.Class<Line>("shop/Line")({
  item: Schema.NonEmptyString,
  count: Schema.Int.check(Schema.isGreaterThan(0))
}) {}

/** A line that was taken from a warehouse. */
export class Taken extends Schema.Class<Taken>("shop/Taken")({ ...Line.fields, warehouse: Schema.String }) {}

/** The items that a customer orders. */
class Basket extends Schema.Class<Basket>("shop/Basket")({
  customer: Schema.NonEmptyString,
  lines: Schema.NonEmptyArray(Line)
}) {}

/** A completed order. */
export class Order extends Schema.Class<Order>("shop/Order")({
  number: Schema.Int,
  customer: Schema.String,
  taken: Schema.Array(Taken)
}) {}

/** The stock has fewer of an item than a customer orders. */
export class OutOfStock extends Schema.TaggedError<OutOfStock>()("OutOfStock", {
  item: Schema.String,
  left: Schema.Int
}) {
  override get message(): string {
    return `only ${this.left} left of ${this.item}`
  }
}

/** A service could not answer because a service that it depends on did not answer. */
export class Unavailable extends Schema.TaggedError<Unavailable>()("Unavailable", {
  service: Schema.String,
  message: Schema.String
}) {}

/** Converts a CallError into {@link Unavailable}, for handlers that call another service. */
export const orUnavailable = (service: string) => <A, E, R>(self: Effect.Effect<A, E | CallError.CallError, R>) =>
  Effect.mapError(
    self,
    (error) => CallError.isCallError(error) ? new Unavailable({ service, message: error.message }) : error
  )

/** The stock of items. It has several replicas. Each replica holds the items whose shard keys select it. */
export const StockComponent = Component.make(
  "shop/Stock",
  RpcGroup.make(
    Rpc.make("Put", { payload: Line }).pipe(Component.shardBy(({ item }) => item)),
    Rpc.make("Take", { payload: Line, success: Taken, error: OutOfStock }).pipe(Component.shardBy(({ item }) => item))
  )
)

/** Places orders. An order takes all lines of a basket, or none. */
export const OrdersComponent = Component.make(
  "shop/Orders",
  RpcGroup.make(
    Rpc.make("Place", { payload: Basket, success: Order, error: Schema.Union([OutOfStock, Unavailable]) })
  )
)

/** The service that customers call. */
export const FrontComponent = Component.make(
  "shop/Front",
  RpcGroup.make(
    Rpc.make("Buy", { payload: Basket, success: Order, error: Schema.Union([OutOfStock, Unavailable]) })
  )
)
