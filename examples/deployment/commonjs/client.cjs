// A client in CommonJS. It calls the address in the environment variable SERVER.
const { Effect, Schema } = require("effect")
const { Component, Connection, Endpoint, Resolver } = require("effect-call")
const { Rpc, RpcGroup } = require("effect/rpc")

const Greeter = Component.make(
  "example/Greeter",
  RpcGroup.make(
    Rpc.make("Greet", {
      payload: { name: Schema.String, millis: Schema.Finite },
      success: Schema.Struct({ text: Schema.String, process: Schema.Int })
    })
  )
)

const program = Effect.gen(function*() {
  const connection = yield* Connection.make(Resolver.constant(yield* Endpoint.parse(process.env.SERVER)))
  const { Greet } = yield* Effect.provideService(Component.client(Greeter), Connection.Connection, connection)
  const { text } = yield* Greet({ name: "Ada", millis: 0 })
  console.log(`answer: ${text}`)
})

void Effect.runPromise(Effect.scoped(program))
