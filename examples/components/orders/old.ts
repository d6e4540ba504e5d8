/** The contract as it was released first. */
import { Effect, Schema } from "effect"
import { Component } from "effect-call"
import { Rpc, RpcGroup } from "effect/rpc"

export class NotFound extends Schema.TaggedError<NotFound>()("NotFound", { item: Schema.String }) {}

export const Orders = Component.make(
  "example/Orders",
  RpcGroup.make(
    Rpc.make("Order", {
      payload: { item: Schema.String },
      success: Schema.Struct({ id: Schema.Int, state: Schema.Literals(["new", "sent"]) }),
      error: NotFound
    }),
    Rpc.make("Track", { payload: { id: Schema.Int }, success: Schema.String })
  )
)

export const OrdersHandlers = Orders.group.toLayer({
  Order: ({ item }) => item === "coal" ? Effect.fail(new NotFound({ item })) : Effect.succeed({ id: 1, state: "sent" }),
  Track: () => Effect.succeed("on its way")
})
