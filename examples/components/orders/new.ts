/** The contract as it is now. Servers and clients of the old one are still running. */
import { Effect, Schema } from "effect"
import { Component } from "effect-call"
import { Rpc, RpcGroup } from "effect/rpc"

export class NotFound extends Schema.TaggedError<NotFound>()("NotFound", { item: Schema.String }) {}
export class SoldOut extends Schema.TaggedError<SoldOut>()("SoldOut", { item: Schema.String }) {}

export const Orders = Component.make(
  "example/Orders",
  RpcGroup.make(
    Rpc.make("Order", {
      payload: {
        item: Schema.String,
        count: Schema.Int.pipe(Schema.withDecodingDefaultKey(Effect.succeed(1))), // old clients do not send it
        note: Schema.optionalKey(Schema.String) // may be missing
      },
      success: Schema.Struct({
        id: Schema.Int,
        state: Schema.Literals(["new", "sent", "lost"]), // one more value
        // Old servers do not send it.
        seller: Schema.String.pipe(Schema.withDecodingDefaultKey(Effect.succeed("unknown")))
      }),
      error: Schema.Union([NotFound, SoldOut]) // one more error
    }),
    Rpc.make("Track", { payload: { id: Schema.String }, success: Schema.String }), // another type
    Rpc.make("Cancel", { payload: { id: Schema.Int } }) // one more method
  )
)

export const OrdersHandlers = Orders.group.toLayer({
  Order: ({ count, item }) => {
    if (item === "coal") return Effect.fail(new NotFound({ item }))
    if (item === "cake") return Effect.fail(new SoldOut({ item }))
    return Effect.succeed({ id: 2, state: item === "ice" ? "lost" : "sent", seller: `Ada, who packs ${count}` })
  },
  Track: ({ id }) => Effect.succeed(`${id} is on its way`),
  Cancel: () => Effect.void
})
