/**
 * Connections and servers for the addresses in the settings. The {@link Network} converts addresses into endpoints and
 * listeners.
 *
 * The network is a service, so that the shop can run over a different one. The tests use a network in memory.
 */
import { Config, Context, Effect, Layer, Schema, type Scope } from "effect"
import { Balancer, Component, Connection, Endpoint, type HandlerMap, Listener, Resolver, Server } from "effect-call"
import type { Rpc } from "effect/rpc"

export class Network extends Context.Service<Network, {
  readonly endpoint: (address: string) => Effect.Effect<Endpoint.Endpoint, Endpoint.InvalidEndpoint>
  readonly listen: (
    address: string,
    handlers: HandlerMap.HandlerMap<never>
  ) => Effect.Effect<Listener.Listener, Endpoint.InvalidEndpoint | Listener.ListenerError, Scope.Scope>
}>()("shop/Network") {
  /** A network of sockets, with addresses such as `tcp://10.0.0.1:4001` and `unix:///run/stock.sock`. */
  static readonly sockets = Layer.succeed(this, {
    endpoint: Endpoint.parse,
    listen: (address, handlers) =>
      Effect.flatMap(
        Endpoint.parse(address),
        ({ addr, network }) => network === "unix" ? Listener.unix(addr, handlers) : Listener.tcp(addr, handlers)
      )
  })
}

/** A setting contains an invalid address. */
class InvalidSetting extends Schema.TaggedError<InvalidSetting>()("InvalidSetting", { message: Schema.String }) {}

const inSetting = (setting: string) => ({ message }: { readonly message: string }) =>
  new InvalidSetting({ message: `${setting}: ${message}` })

/** A Connection to the addresses in a setting. Commas separate the addresses. */
export const connectionTo = (setting: string, balancer: Effect.Effect<Balancer.Balancer>) => {
  const resolver = Effect.gen(function*() {
    const network = yield* Network
    const addresses = yield* Config.Array(Schema.String, setting)
    const endpoints = yield* Effect.mapError(Effect.forEach(addresses, network.endpoint), inSetting(setting))
    return Resolver.constant(...endpoints)
  })
  return Connection.layer().pipe(Layer.provide([Balancer.layer(balancer), Resolver.layer(resolver)]))
}

/** A server of a component at the address in a setting. When it stops, it first completes the calls in flight. */
export const serverAt = <Rpcs extends Rpc.Any, E, R>(
  setting: string,
  component: Component.Component<Rpcs>,
  handlers: Layer.Layer<Rpc.ToHandler<Rpcs>, E, R>
) => {
  const listener = Effect.gen(function*() {
    const network = yield* Network
    const address = yield* Config.NonEmptyString(setting)
    const map = yield* Component.handlers(component, handlers)
    return yield* Effect.mapError(network.listen(address, map), inSetting(setting))
  })
  return Server.layer(listener, { shutdownGrace: "5 seconds" }).pipe(
    Layer.tap((context) => Effect.log(`${component.name} listens on ${Context.get(context, Server.Server).address}`))
  )
}
