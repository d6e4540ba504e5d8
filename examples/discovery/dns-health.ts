/**
 * A client that finds its replicas by DNS, and calls only the replicas that say that they are ready.
 *
 * The contract, the server and the client are written as for production. Below them, the program starts two replicas,
 * and a DNS server for them: dnsmasq (`apt-get install dnsmasq-base`), or a table if that is not installed. The
 * replicas listen on 127.0.0.2 and 127.0.0.3. On macOS these addresses have to be configured first.
 *
 * Run it with `npx node examples/discovery/dns-health.ts`.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Console, Context, Effect, Layer, Schema, Stream } from "effect"
import { Balancer, Component, Connection, HandlerMap, Health, Listener, Resolver, Server } from "effect-call"
import { Dns } from "effect/net"
import { Rpc, RpcGroup } from "effect/rpc"
import * as assert from "node:assert/strict"
import { hasDnsmasq, startDnsmasq } from "../support/dnsmasq.ts"

// ---- The contract.

const CartComponent = Component.make("shop/Cart", RpcGroup.make(Rpc.make("Replica", { success: Schema.String })))

// ---- The server. `Health.handlers` answer the clients that ask whether it is ready.

const cartServer = (address: string) =>
  Server.layer(Effect.gen(function*() {
    const cart = yield* Component.handlers(
      CartComponent,
      CartComponent.group.toLayer({ Replica: () => Effect.succeed(address) })
    )
    return yield* Listener.tcp(address, HandlerMap.merge(cart, yield* Health.handlers))
  }))

// ---- The client. It connects to each address of the name, and asks each server whether shop/Cart is ready.

class Cart extends Context.Service<Cart, Component.Client<typeof CartComponent>>()("shop/Cart") {
  static readonly layer = Layer.effect(this, Component.client(CartComponent))
}

const connectionTo = (target: string) =>
  Connection.layer({ eager: true, health: "shop/Cart" }).pipe(
    Layer.provide([Resolver.layer(Resolver.dns(target)), Balancer.layer(Balancer.roundRobin)])
  )

// ---- The demonstration.

/** Provides the DNS of this machine's replicas. A real client has `Resolver.layerDns()` here. */
const layerDns = Effect.gen(function*() {
  const hosts = { "cart.internal": ["127.0.0.2", "127.0.0.3"] }
  if (yield* hasDnsmasq) return Resolver.layerDns({ nameServers: (yield* startDnsmasq({ hosts })).nameServers })
  yield* Console.log("NOT SHOWN: a real DNS server, because dnsmasq is not installed; the addresses come from memory")
  return Dns.layerStatic({ hosts })
})

const program = Effect.gen(function*() {
  const warm = yield* Layer.build(cartServer("127.0.0.2:0").pipe(Layer.provide(Health.layer("Serving"))))
  const { address } = Context.get(warm, Server.Server)
  const port = address.slice(address.lastIndexOf(":") + 1)
  // The second replica is not ready yet. In a real server, its own code sets its Health, as below.
  const cold = yield* Layer.build(cartServer(`127.0.0.3:${port}`).pipe(Layer.provideMerge(Health.layer("NotServing"))))

  const client = yield* Layer.build(
    Cart.layer.pipe(
      Layer.provideMerge(connectionTo(`cart.internal:${port}`)),
      Layer.provide(Layer.unwrap(layerDns))
    )
  )
  const { changes } = Context.get(client, Connection.Connection)
  /** Makes six calls once this many replicas are connected and ready, and returns the hosts that answered. */
  const askWhenReady = Effect.fnUntraced(function*(ready: number) {
    yield* changes.pipe(
      Stream.filter(({ endpoints }) =>
        endpoints.filter(({ isServing, state }) => state === "Active" && isServing).length === ready
      ),
      Stream.runHead
    )
    const answers = yield* Effect.replicateEffect(Context.get(client, Cart).Replica(), 6)
    return [...new Set(answers.map((answer) => answer.slice(0, answer.indexOf(":"))))].toSorted()
  })

  const early = yield* askWhenReady(1)
  yield* Console.log(`one replica is ready: ${early.join(", ")} answers`)
  assert.deepEqual(early, ["127.0.0.2"])

  // The replica has filled its cache, for example.
  yield* Effect.provideContext(Health.set("Serving"), cold)
  const late = yield* askWhenReady(2)
  yield* Console.log(`both are ready: ${late.join(", ")} answer`)
  assert.deepEqual(late, ["127.0.0.2", "127.0.0.3"])
})

program.pipe(Effect.scoped, Effect.timeout("20 seconds"), NodeRuntime.runMain)
