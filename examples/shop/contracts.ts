/**
 * What the services of the shop promise each other: values, errors and methods. A client and a server of a service
 * share this, and nothing else.
 */
import { Effect, Schema } from "effect"
import { CallError, Component } from "effect-call"
import { Rpc, RpcGroup } from "effect/rpc"

/** So many of an item. */
export class Line extends Schema.Class<Line>("shop/Line")({
  item: Schema.NonEmptyString,
  count: Schema.Int.check(Schema.isGreaterThan(0))
}) {}

/** A line that was taken from a warehouse. */
export class Taken extends Schema.Class<Taken>("shop/Taken")({ ...Line.fields, warehouse: Schema.String }) {}

/** What a customer wants. */
class Basket extends Schema.Class<Basket>("shop/Basket")({
  customer: Schema.NonEmptyString,
  lines: Schema.NonEmptyArray(Line)
}) {}

/** What a customer gets. */
export class Order extends Schema.Class<Order>("shop/Order")({
  number: Schema.Int,
  customer: Schema.String,
  taken: Schema.Array(Taken)
}) {}

/** Fewer are left of an item than are wanted. */
export class OutOfStock extends Schema.TaggedError<OutOfStock>()("OutOfStock", {
  item: Schema.String,
  left: Schema.Int
}) {
  override get message(): string {
    return `only ${this.left} left of ${this.item}`
  }
}

/** A service that is needed for the answer did not give its own. */
export class Unavailable extends Schema.TaggedError<Unavailable>()("Unavailable", {
  service: Schema.String,
  message: Schema.String
}) {}

/** Makes an {@link Unavailable} of what may go wrong with any call, for those who call in order to answer a call. */
export const orUnavailable = (service: string) => <A, E, R>(self: Effect.Effect<A, E | CallError.CallError, R>) =>
  Effect.mapError(
    self,
    (error) => CallError.isCallError(error) ? new Unavailable({ service, message: error.message }) : error
  )

/** Where the items are. It has several replicas, each with the items that lead to it. */
export const StockComponent = Component.make(
  "shop/Stock",
  RpcGroup.make(
    Rpc.make("Put", { payload: Line }).pipe(Component.shardBy(({ item }) => item)),
    Rpc.make("Take", { payload: Line, success: Taken, error: OutOfStock }).pipe(Component.shardBy(({ item }) => item))
  )
)

/** Where orders are placed: all lines of a basket, or none. */
export const OrdersComponent = Component.make(
  "shop/Orders",
  RpcGroup.make(
    Rpc.make("Place", { payload: Basket, success: Order, error: Schema.Union([OutOfStock, Unavailable]) })
  )
)

/** What customers come to. */
export const FrontComponent = Component.make(
  "shop/Front",
  RpcGroup.make(
    Rpc.make("Buy", { payload: Basket, success: Order, error: Schema.Union([OutOfStock, Unavailable]) })
  )
)
