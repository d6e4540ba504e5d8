/**
 * The contract of a price service, and its client as a service.
 */
import { Context, Layer, Schema } from "effect"
import { Component } from "effect-call"
import { Rpc, RpcGroup } from "effect/rpc"

/** The catalogue does not have the item. */
export class NoSuchItem extends Schema.TaggedError<NoSuchItem>()("NoSuchItem", { item: Schema.String }) {}

export const PricesComponent = Component.make(
  "example/Prices",
  RpcGroup.make(
    Rpc.make("Price", { payload: { item: Schema.String }, success: Schema.Int, error: NoSuchItem }).pipe(
      Component.idempotent
    ),
    Rpc.make("SetPrice", { payload: { item: Schema.String, price: Schema.Int } })
  )
)

export class Prices extends Context.Service<Prices, Component.Client<typeof PricesComponent>>()("example/Prices") {
  static readonly layer = Layer.effect(this, Component.client(PricesComponent))
}
