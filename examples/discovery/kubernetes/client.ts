/**
 * The program of a pod of the Deployment front in `examples/deployment/kubernetes.yaml`. It calls the pods of the
 * Service cart, and prints which pods answer.
 *
 * It also runs outside a cluster: `npx node examples/discovery/kubernetes/client.ts` uses the kubeconfig in
 * `KUBECONFIG` or `~/.kube/config`. The machine must be able to reach the pods. `../kubernetes.ts` runs without any
 * cluster.
 */
import { NodeFileSystem, NodeRuntime } from "@effect/platform-node"
import { Effect, Layer } from "effect"
import { cartConnection, reportPods } from "./cart.ts"

reportPods.pipe(
  Effect.provide(cartConnection().pipe(Layer.provide(NodeFileSystem.layer))),
  NodeRuntime.runMain
)
