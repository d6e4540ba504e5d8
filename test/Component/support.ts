/** A component that is served and called, over any network. */
import { Effect, type Layer, type Scope } from "effect"
import { Component, Connection, type Server } from "effect-call"
import type { Rpc } from "effect/rpc"
import { connect, memory, type Network, type Served } from "../support/networks.ts"

/** A component that is served, and a client of it. */
export interface Opened<Rpcs extends Rpc.Any> extends Served {
  readonly connection: Connection.Connection
  readonly client: Component.Client<Component.Component<Rpcs>>
}

/** How {@link open} does it. */
export interface OpenOptions extends Component.ClientOptions {
  /** In memory, unless it says otherwise. */
  readonly network?: Network
  readonly handlers?: Component.HandlersOptions
  readonly connection?: Connection.ClientOptions
  readonly server?: Server.ServerOptions
}

/** A client of a component over a Connection. */
export const clientOver = <Rpcs extends Rpc.Any>(
  connection: Connection.Connection,
  component: Component.Component<Rpcs>,
  options?: Component.ClientOptions
) => Effect.provideService(Component.client(component, options), Connection.Connection, connection)

/** Serves a component and makes a client of it, both for the ambient Scope. */
export const open = Effect.fnUntraced(function*<Rpcs extends Rpc.Any, E, R>(
  component: Component.Component<Rpcs>,
  layer: Layer.Layer<Rpc.ToHandler<Rpcs>, E, R>,
  { connection: connecting, handlers, network = memory, server, ...options }: OpenOptions = {}
): Effect.fn.Return<
  Opened<Rpcs>,
  E,
  | R
  | Rpc.Middleware<Rpcs>
  | Rpc.MiddlewareClient<Rpcs>
  | Rpc.ServicesServer<Rpcs>
  | Component.ItemServices<Rpcs>
  | Scope.Scope
> {
  const map = yield* Component.handlers(component, layer, handlers)
  const served = yield* network.serve(map, server)
  const connection = yield* connect([served.endpoint], connecting)
  return { ...served, connection, client: yield* clientOver(connection, component, options) }
})

export const formats = ["binary", "json"] as const
