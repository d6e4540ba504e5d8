/**
 * Pods of a Kubernetes Service, without a cluster: `kubernetes/cluster.ts` stands for the cluster's API and its pods.
 * The client and the server are those of real pods, `kubernetes/cart.ts`.
 *
 * A client finds the pods. Then new pods replace them one by one, as in a rollout of a Deployment.
 *
 * Run it with `npx node examples/discovery/kubernetes.ts`.
 */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Clock, Console, Effect, Fiber, Layer } from "effect"
import type { Connection } from "effect-call"
import * as assert from "node:assert/strict"
import "../support/closedOutput.ts"
import { askPod, cartConnection, tally } from "./kubernetes/cart.ts"
import { makeCluster } from "./kubernetes/cluster.ts"

interface Answer {
  readonly pod: string
  readonly at: number
}

/** Makes one call after the other, and records which pod answered, and when. */
const keepCalling = (answers: Array<Answer>) =>
  Effect.gen(function*() {
    const pod = yield* askPod
    answers.push({ pod, at: yield* Clock.currentTimeMillis })
    yield* Effect.sleep("2 millis")
  }).pipe(Effect.forever)

/** Repeats `look` until it returns a value. */
const until = <A>(look: () => A | undefined): Effect.Effect<A> =>
  Effect.suspend(() => {
    const found = look()
    return found === undefined ? Effect.delay(until(look), "5 millis") : Effect.succeed(found)
  })

const program = Effect.gen(function*() {
  const cluster = yield* makeCluster
  yield* cluster.schedule("cart-a1")
  const connection = yield* Layer.build(cartConnection({ kubeconfig: cluster.kubeconfig }))
  const asClient = <A, E>(effect: Effect.Effect<A, E, Connection.Connection>) =>
    Effect.provideContext(effect, connection)

  // This call comes before any pod is ready. It waits for one.
  const waiting = yield* Effect.forkChild(asClient(askPod), { startImmediately: true })
  const a1 = yield* cluster.start("cart-a1")
  yield* Console.log(`the first pod that is ready: ${yield* Fiber.join(waiting)}`)

  const a2 = yield* cluster.start("cart-a2")
  const a3 = yield* cluster.start("cart-a3")
  yield* Effect.repeat(asClient(askPod), { until: (pod) => pod === "cart-a3" })
  const shares = tally(yield* asClient(Effect.replicateEffect(askPod, 30)))
  yield* Console.log(`three pods: ${shares}`)
  assert.equal(shares, "cart-a1 × 10, cart-a2 × 10, cart-a3 × 10")

  const answers: Array<Answer> = []
  const calling = yield* Effect.forkChild(asClient(keepCalling(answers)))
  const latest: Array<number> = []
  for (const old of [a1, a2, a3]) {
    const name = old.name.replace("-a", "-b")
    const since = yield* Clock.currentTimeMillis
    yield* cluster.start(name)
    const first = yield* until(() => answers.find(({ pod }) => pod === name))
    latest.push(first.at - since)
    const before = answers.length
    yield* cluster.stop(old)
    yield* until(() => answers.length > before + 20 || undefined)
  }
  // Calls go only to the new pods.
  yield* until(() => answers.slice(-9).every(({ pod }) => pod.startsWith("cart-b")) || undefined)
  // The fiber is still running, so no call has failed.
  assert.equal(calling.pollUnsafe(), undefined)
  yield* Fiber.interrupt(calling)
  yield* Console.log(`a rollout: ${tally(answers.map(({ pod }) => pod))}`)
  yield* Console.log(`${answers.length} calls, 0 failed; a new pod got its first call after ${latest.join(", ")} ms`)
  assert.ok(Math.max(...latest) < 2000)
})

program.pipe(Effect.timeout("30 seconds"), Effect.scoped, Effect.provide(NodeServices.layer), NodeRuntime.runMain)
