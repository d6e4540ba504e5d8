/**
 * Connections and servers whose addresses come from the configuration.
 *
 * {@link Network} says how to listen at an address. It is a service, so that the same application runs over sockets,
 * and in tests over a network in memory.
 */
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import { Config, Context, Effect, Layer, Schema, type Scope } from "effect"
import { Balancer, Component, Connection, Endpoint, type HandlerMap, Listener, Resolver, Server } from "effect-call"
import type { Rpc } from "effect/rpc"

export class Network extends Context.Service<Network, {
  readonly listen: (
    address: string,
    handlers: HandlerMap.HandlerMap<never>
  ) => Effect.Effect<Listener.Listener, Endpoint.InvalidEndpoint | Listener.ListenerError, Scope.Scope>
}>()("shop/Network") {
  /**
   * Listens on sockets, at addresses such as `tcp://:4001` and `unix:///run/stock.sock`. It also provides what
   * `Resolver.config` needs for texts such as `dns://stock.internal:4001` and `unixdir:///run/stock`.
   */
  static readonly sockets = Layer.succeed(this, {
    listen: (address, handlers) =>
      Effect.flatMap(
        Endpoint.parse(address),
        ({ addr, network }) => network === "unix" ? Listener.unix(addr, handlers) : Listener.tcp(addr, handlers)
      )
  }).pipe(Layer.merge(Resolver.layerDns()), Layer.merge(NodeFileSystem.layer))
}

/** A setting has a value that cannot be used. */
class InvalidSetting extends Schema.TaggedError<InvalidSetting>()("InvalidSetting", { message: Schema.String }) {}

const inSetting = (setting: string) => ({ message }: { readonly message: string }) =>
  new InvalidSetting({ message: `${setting}: ${message}` })

/** A Connection to the replicas that a setting names. */
export const connectionTo = (setting: string, balancer: Effect.Effect<Balancer.Balancer>) => {
  const replicas = Effect.catchTag(
    Resolver.config(setting),
    "InvalidResolver",
    (error) => Effect.fail(inSetting(setting)(error))
  )
  return Connection.layer().pipe(Layer.provide([Resolver.layer(replicas), Balancer.layer(balancer)]))
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
