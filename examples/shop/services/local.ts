/**
 * Runs a component inside this process, for the first steps of the tutorial.
 */
import { Effect, Layer } from "effect"
import { Balancer, Component, Connection, Endpoint, Listener, Resolver, Server } from "effect-call"
import type { Rpc } from "effect/rpc"

/** A server of the component on a free TCP port of this machine, and a Connection to it. */
export const localServer = <Rpcs extends Rpc.Any, E, R>(
  component: Component.Component<Rpcs>,
  handlers: Layer.Layer<Rpc.ToHandler<Rpcs>, E, R>
) => {
  const server = Server.layer(
    Effect.flatMap(Component.handlers(component, handlers), (map) => Listener.tcp("127.0.0.1:0", map))
  )
  const replicas = Server.Server.use(({ address }) => Endpoint.parse(address)).pipe(
    Effect.map((endpoint) => Resolver.constant(endpoint))
  )
  return Connection.layer().pipe(
    Layer.provide([Resolver.layer(replicas), Balancer.layer(Balancer.roundRobin)]),
    Layer.provide(server)
  )
}
