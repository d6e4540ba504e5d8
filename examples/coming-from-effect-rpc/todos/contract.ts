/** A group of effect/rpc and its handlers. Both libraries use them as they are. */
import { Effect, Schema } from "effect"
import { Rpc, RpcGroup } from "effect/rpc"

export class NotFound extends Schema.TaggedError<NotFound>()("NotFound", { id: Schema.Int }) {}

export const TodosGroup = RpcGroup.make(
  Rpc.make("Get", { payload: { id: Schema.Int }, success: Schema.String, error: NotFound }),
  Rpc.make("WhoAmI", { success: Schema.String }),
  Rpc.make("Break")
)

export const TodosHandlers = TodosGroup.toLayer({
  Get: ({ id }) => id === 1 ? Effect.succeed("buy tea") : Effect.fail(new NotFound({ id })),
  WhoAmI: (_, { headers }) => Effect.succeed(headers["user"] ?? "a stranger"),
  Break: () => Effect.die(new Error("a bug with a secret"))
})
