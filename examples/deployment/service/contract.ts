/**
 * The contract of the service that the programs of this folder deploy.
 */
import { Schema } from "effect"
import { Component } from "effect-call"
import { Rpc, RpcGroup } from "effect/rpc"

export const Greeter = Component.make(
  "example/Greeter",
  RpcGroup.make(
    // The answer takes `millis` milliseconds, and says which process has made it.
    Rpc.make("Greet", {
      payload: { name: Schema.String, millis: Schema.Finite },
      success: Schema.Struct({ text: Schema.String, process: Schema.Int })
    })
  )
)
