/**
 * The typed methods, for effect-call and for effect/rpc.
 */
import { Effect, Schema } from "effect"
import { Rpc, RpcGroup } from "effect/rpc"
import { itemOf } from "../system.ts"
import { feedStream } from "./effects.ts"

export const group = RpcGroup.make(
  Rpc.make("Items", {
    payload: { itemBytes: Schema.Int, chunk: Schema.Int, chunks: Schema.Number, counted: Schema.Boolean },
    success: Schema.Uint8Array,
    stream: true
  }),
  Rpc.make("Answer", { payload: { bytes: Schema.Int }, success: Schema.Uint8Array })
)

export const groupLayer = group.toLayer({
  Items: feedStream,
  Answer: ({ bytes }) => Effect.succeed(itemOf(bytes))
})
