/**
 * What the example's server and client share: a contract with one method, how it is served, and how it is called.
 */
import { Console, Effect, Layer, Schema } from "effect"
import { Balancer, Component, Connection, Listener, Resolver, Server } from "effect-call"
import { Rpc, RpcGroup } from "effect/rpc"

const Cart = Component.make("example/Cart", RpcGroup.make(Rpc.make("Pod", { success: Schema.String })))

/** A pod that answers with its name. */
export const cartServer = (pod: string, address: string) =>
  Server.layer(
    Effect.flatMap(
      Component.handlers(Cart, Cart.group.toLayer({ Pod: () => Effect.succeed(pod) })),
      (handlers) => Listener.tcp(address, handlers)
    )
  )

/** A Connection to the pods of the Service cart, as the API of the cluster says. */
export const cartConnection = (options: Partial<Resolver.KubernetesOptions> = {}) =>
  Connection.layer().pipe(
    Layer.provide([
      Resolver.layer(Resolver.kubernetes({ service: "cart", port: "calls", ...options })),
      Balancer.layer(Balancer.roundRobin)
    ])
  )

/** Which pod answers a call. One that comes while no pod is ready waits for one. */
export const askPod = Effect.flatMap(
  Component.client(Cart),
  (cart) => Connection.withOptions(cart.Pod(), { waitForReady: true, timeout: "10 seconds" })
)

/** How often each has answered: `cart-1 × 5, cart-2 × 4`. */
export const tally = (pods: ReadonlyArray<string>): string => {
  const counts = new Map<string, number>()
  for (const pod of pods) counts.set(pod, (counts.get(pod) ?? 0) + 1)
  return [...counts].toSorted(([a], [b]) => a < b ? -1 : 1).map(([pod, count]) => `${pod} × ${count}`).join(", ")
}

/** Calls ten times a second, and prints who has answered. */
export const reportPods = askPod.pipe(
  Effect.catchTag(["Unreachable", "DeadlineExceeded"], ({ message }) => Effect.succeed(`nobody (${message})`)),
  Effect.delay("100 millis"),
  Effect.replicateEffect(10),
  Effect.flatMap((pods) => Console.log(tally(pods))),
  Effect.forever
)
