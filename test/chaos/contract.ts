/**
 * What the replicas of the soak serve: methods of bytes, and the same ones typed.
 *
 * All take a payload (see `payload.ts`). `echo` answers at once and `slow` after a while; `never` waits until it is
 * interrupted; `fail` fails with its call's id, and `die` dies. `note` is for calls that are discarded.
 *
 * Streams take an order (see `order.ts`): `feed` and `queue` send items, `upload` takes items and says how many there
 * were, and `chat` sends its client's items back.
 */
import { Schema } from "effect"
import { Component, MethodKey } from "effect-call"
import { Rpc, RpcGroup } from "effect/rpc"

export const component = "soak/Bytes"

export const keys = {
  echo: MethodKey.make(component, "echo"),
  slow: MethodKey.make(component, "slow"),
  never: MethodKey.make(component, "never"),
  fail: MethodKey.make(component, "fail"),
  die: MethodKey.make(component, "die"),
  feed: MethodKey.make(component, "feed"),
  upload: MethodKey.make(component, "upload"),
  chat: MethodKey.make(component, "chat")
}

/** What the handler of call `id` says when it fails. */
export const failureOf = (id: number): string => `call ${id} was to fail`

/** As that, of a typed method. */
export class Refused extends Schema.TaggedError<Refused>()("Refused", { id: Schema.Int }) {}

/** What a client's items of stream `id` fail with. */
export class ItemsFailed extends Schema.TaggedError<ItemsFailed>()("ItemsFailed", { id: Schema.Int }) {}

const payload = { bytes: Schema.Uint8Array }

const items = { payload, success: Schema.Uint8Array, error: Refused }

export const Upload = Rpc.make("upload", items).pipe(Component.accepts(Schema.Uint8Array))
export const Chat = Rpc.make("chat", { ...items, stream: true }).pipe(Component.accepts(Schema.Uint8Array))

export const Typed = Component.make(
  "soak/Typed",
  RpcGroup.make(
    Rpc.make("echo", { payload, success: Schema.Uint8Array }),
    Rpc.make("slow", { payload, success: Schema.Uint8Array }),
    Rpc.make("never", { payload, success: Schema.Uint8Array }),
    Rpc.make("fail", { payload, success: Schema.Uint8Array, error: Refused }),
    Rpc.make("die", { payload, success: Schema.Uint8Array }),
    Rpc.make("note", { payload }),
    Rpc.make("feed", { ...items, stream: true }),
    Rpc.make("queue", { ...items, stream: true }),
    Upload,
    Chat
  )
)
