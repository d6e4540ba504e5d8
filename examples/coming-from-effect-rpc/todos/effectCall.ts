/** The same application with effect-call: the same group, with a name. */
import { Context, Effect, Layer } from "effect"
import { Balancer, Component, Connection, Endpoint, Listener, Resolver, Server } from "effect-call"
import { TodosGroup, TodosHandlers } from "./contract.ts"

const TodosComponent = Component.make("example/Todos", TodosGroup)

export const TodosServer = Server.layer(
  Effect.flatMap(
    Component.handlers(TodosComponent, TodosHandlers),
    (handlers) => Listener.tcp("127.0.0.1:0", handlers)
  )
)

export class Todos extends Context.Service<Todos, Component.Client<typeof TodosComponent>>()(
  "example/effectCall/Todos"
) {
  static readonly layer = (port: number) =>
    Layer.effect(this, Component.client(TodosComponent)).pipe(
      Layer.provide(Connection.layer()),
      Layer.provide(Resolver.layer(Resolver.constant(Endpoint.tcp(`127.0.0.1:${port}`)))),
      Layer.provide(Balancer.layer(Balancer.roundRobin))
    )
}
