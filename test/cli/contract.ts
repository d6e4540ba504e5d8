/** What the tests of the command call with types; the command loads it as users' modules. */
import { Effect, Schema, Stream } from "effect"
import { Component } from "effect-call"
import { Rpc, RpcGroup } from "effect/rpc"

class NoSuchItem extends Schema.TaggedError<NoSuchItem>()("NoSuchItem", { item: Schema.String }) {}

export const Stock = Component.make(
  "test/Stock",
  RpcGroup.make(
    Rpc.make("Reserve", {
      payload: { item: Schema.String, until: Schema.Date, count: Schema.optionalKey(Schema.Int) },
      success: Schema.Struct({ until: Schema.Date, left: Schema.BigInt }),
      error: NoSuchItem
    }),
    Rpc.make("Close"),
    Rpc.make("Watch", { success: Schema.Int, stream: true }),
    Rpc.make("Import", { success: Schema.Int }).pipe(Component.accepts(Schema.String))
  )
)

export const OtherStock = Component.make("test/Stock", RpcGroup.make(Rpc.make("Close")))

export const StockHandlers = Stock.group.toLayer({
  Reserve: ({ count = 1, item, until }) =>
    item === "tea"
      ? Effect.succeed({ until, left: BigInt(10 - count) })
      : Effect.fail(new NoSuchItem({ item })),
  Close: () => Effect.void,
  Watch: () => Stream.make(1),
  Import: () => Effect.succeed(0)
})
