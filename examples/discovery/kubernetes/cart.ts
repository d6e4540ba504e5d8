/**
 * The code that the example's server and client share: a contract with one method, its server, and its client.
 */
import { Console, Effect, Layer, Schema } from "effect"
import { Balancer, Component, Connection, Listener, Resolver, Server } from "effect-call"
import { Rpc, RpcGroup } from "effect/rpc"

const Cart = Component.make("example/Cart", RpcGroup.make(Rpc.make("Pod", { success: Schema.String })))

/** The server of a pod. It answers with the pod's name. */
export const cartServer = (pod: string, address: string) =>
  Server.layer(
    Effect.flatMap(
      Component.handlers(Cart, Cart.group.toLayer({ Pod: () => Effect.succeed(pod) })),
      (handlers) => Listener.tcp(address, handlers)
    )
  )

/** A Connection to the pods of the Service cart. It finds them through the cluster's API. */
export const cartConnection = (options: Partial<Resolver.KubernetesOptions> = {}) =>
  Connection.layer().pipe(
    Layer.provide([
      Resolver.layer(Resolver.kubernetes({ service: "cart", port: "calls", ...options })),
      Balancer.layer(Balancer.roundRobin)
    ])
  )

/** Makes a call, and returns the name of the pod that answers. While no pod is ready, the call waits. */
export const askPod = Effect.flatMap(
  Component.client(Cart),
  (cart) => Connection.withOptions(cart.Pod(), { waitForReady: true, timeout: "10 seconds" })
)

/** Formats how many calls each pod answered: `cart-1 × 5, cart-2 × 4`. */
export const tally = (pods: ReadonlyArray<string>): string => {
  const counts = new Map<string, number>()
  for (const pod of pods) counts.set(pod, (counts.get(pod) ?? 0) + 1)
  return [...counts].toSorted(([a], [b]) => a < b ? -1 : 1).map(([pod, count]) => `${pod} × ${count}`).join(", ")
}

/** Makes ten calls a second, and prints how many each pod answered. */
export const reportPods = askPod.pipe(
  Effect.catchTag(["Unreachable", "DeadlineExceeded"], ({ message }) => Effect.succeed(`no pod (${message})`)),
  Effect.delay("100 millis"),
  Effect.replicateEffect(10),
  Effect.flatMap((pods) => Console.log(tally(pods))),
  Effect.forever
)
