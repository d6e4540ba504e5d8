/** What a user's module may be like: it throws where a schema is asked, and leaves a timer behind. */
import { Schema } from "effect"
import { Component } from "effect-call"
import { Rpc, RpcGroup } from "effect/rpc"

export { Stock } from "./contract.ts"

const throws = Schema.makeFilter((): boolean => {
  throw new Error("no such luck")
})

export const Awkward = Component.make(
  "test/Awkward",
  RpcGroup.make(Rpc.make("Throw", { payload: Schema.String.check(throws) }))
)

setInterval(() => {}, 60_000)
