/**
 * The program of a pod of the Deployment cart in `examples/deployment/kubernetes.yaml`. On SIGTERM it tells its clients
 * to use other pods, and exits when it has answered the last call.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Config, Effect, Layer } from "effect"
import { cartServer } from "./cart.ts"

const CartServer = Layer.unwrap(Effect.map(Config.String("POD_NAME"), (pod) => cartServer(pod, ":7000")))

NodeRuntime.runMain(Layer.launch(CartServer))
