/** The component that the tour calls: `effect-call … --module cart/contract.ts` reads and writes its values as JSON. */
import { Effect, Schema } from "effect"
import { Component } from "effect-call"
import { Rpc, RpcGroup } from "effect/rpc"

class NoSuchCart extends Schema.TaggedError<NoSuchCart>()("NoSuchCart", { id: Schema.String }) {}

export const Cart = Component.make(
  "example/Cart",
  RpcGroup.make(
    Rpc.make("Get", {
      payload: { id: Schema.String },
      success: Schema.Struct({ items: Schema.Array(Schema.String), changedAt: Schema.Date }),
      error: NoSuchCart
    })
  )
)

export const CartHandlers = Cart.group.toLayer({
  Get: ({ id }) =>
    id === "a"
      ? Effect.succeed({ items: ["tea", "milk"], changedAt: new Date("2026-01-31T12:00:00Z") })
      : Effect.fail(new NoSuchCart({ id }))
})
