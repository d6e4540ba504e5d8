/** The contract of the greeter. Its server and its clients import this file. */
import { Schema } from "effect"
import { Component } from "effect-call"
import { Rpc, RpcGroup } from "effect/rpc"

export const Greeter = Component.make(
  "example/Greeter",
  RpcGroup.make(Rpc.make("Greet", { payload: { name: Schema.String }, success: Schema.String }))
)
