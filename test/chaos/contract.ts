/**
 * What the replicas of the soak serve: methods of bytes, and the same ones typed.
 *
 * All take a payload (see `payload.ts`). `echo` answers at once and `slow` after a while; `never` waits until it is
 * interrupted; `fail` fails with its call's id, and `die` dies. `note` is for calls that are discarded.
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
  die: MethodKey.make(component, "die")
}

/** What the handler of call `id` says when it fails. */
export const failureOf = (id: number): string => `call ${id} was to fail`

/** As that, of a typed method. */
export class Refused extends Schema.TaggedError<Refused>()("Refused", { id: Schema.Int }) {}

const payload = { bytes: Schema.Uint8Array }

export const Typed = Component.make(
  "soak/Typed",
  RpcGroup.make(
    Rpc.make("echo", { payload, success: Schema.Uint8Array }),
    Rpc.make("slow", { payload, success: Schema.Uint8Array }),
    Rpc.make("never", { payload, success: Schema.Uint8Array }),
    Rpc.make("fail", { payload, success: Schema.Uint8Array, error: Refused }),
    Rpc.make("die", { payload, success: Schema.Uint8Array }),
    Rpc.make("note", { payload })
  )
)
