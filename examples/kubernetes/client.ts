/**
 * A pod of the Deployment front in `deployment.yaml`: calls the pods of the Service cart, and prints which of them
 * answer.
 *
 * It runs outside of a cluster too, with a kubeconfig: `node examples/kubernetes/client.ts` asks the cluster of
 * `KUBECONFIG` or `~/.kube/config`. It can call the pods only from where they can be reached. Without a cluster, see
 * `run.ts`.
 */
import { NodeFileSystem, NodeRuntime } from "@effect/platform-node"
import { Effect, Layer } from "effect"
import { cartConnection, reportPods } from "./cart.ts"

reportPods.pipe(
  Effect.provide(cartConnection().pipe(Layer.provide(NodeFileSystem.layer))),
  NodeRuntime.runMain
)
