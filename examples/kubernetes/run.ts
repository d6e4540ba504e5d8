/**
 * The Kubernetes example without a cluster. A local API server replaces that of Kubernetes, and servers on loopback
 * replace the pods.
 *
 * A client finds the pods. Then new pods replace them one by one, as in a rollout of a Deployment. The program checks
 * each claim that it prints, and exits with code 0 only if all claims were observed.
 *
 * Run it with `node examples/kubernetes/run.ts`.
 */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Clock, Effect, Exit, Fiber, FileSystem, Layer, Scope } from "effect"
import { type Connection, Server } from "effect-call"
import * as assert from "node:assert/strict"
import { makeAuthority } from "../support/certificates.ts"
import { makeKubernetesApi } from "../support/kubernetesApi.ts"
import { makeObserver } from "../support/observe.ts"
import { askPod, cartConnection, cartServer, tally } from "./cart.ts"

interface Pod {
  readonly name: string
  readonly port: number
  readonly scope: Scope.Closeable
  readonly conditions: { readonly ready: boolean; readonly serving: boolean; readonly terminating: boolean }
}

/** The part of a cluster that a client can see: pods start and stop, and EndpointSlices list them. */
const makeCluster = Effect.gen(function*() {
  const authority = yield* makeAuthority("Example cluster")
  const token = "the-token-of-the-service-account-front"
  const refuse = ({ authorization }: { readonly authorization: string | undefined }) =>
    authorization === `Bearer ${token}` ? undefined : 401
  const api = yield* makeKubernetesApi({ tls: yield* authority.server(), refuse })

  const fs = yield* FileSystem.FileSystem
  const directory = yield* fs.makeTempDirectoryScoped({ prefix: "kubernetes-" })
  yield* fs.writeFileString(`${directory}/ca.crt`, authority.ca)
  yield* fs.writeFileString(`${directory}/token`, token)
  const kubeconfig = `${directory}/config`
  yield* fs.writeFileString(
    kubeconfig,
    `
apiVersion: v1
kind: Config
current-context: front
contexts:
- name: front
  context: { cluster: loopback, user: front, namespace: shop }
clusters:
- name: loopback
  cluster: { server: "${api.url}", certificate-authority: ca.crt }
users:
- name: front
  user: { tokenFile: token }
`
  )

  const outer = yield* Effect.scope
  /** Writes the pod's EndpointSlice. Each pod has its own slice, because pods on one host need different ports. */
  const say = ({ conditions, name, port }: Pod) =>
    api.put({
      metadata: {
        name: `${name}-slice`,
        namespace: "shop",
        labels: { "kubernetes.io/service-name": "cart" }
      },
      addressType: "IPv4",
      ports: [{ name: "calls", protocol: "TCP", port }],
      endpoints: [{ addresses: ["127.0.0.1"], conditions, targetRef: { kind: "Pod", name } }]
    })

  return {
    kubeconfig,
    /** Starts a pod, and publishes its EndpointSlice when it is ready. */
    start: Effect.fnUntraced(function*(name: string) {
      const scope = yield* Scope.fork(outer)
      const context = yield* Layer.buildWithScope(cartServer(name, "127.0.0.1:0"), scope)
      const { address } = yield* Effect.provideContext(Server.Server, context)
      const conditions = { ready: true, serving: true, terminating: false }
      const pod: Pod = { name, port: Number(address.split(":").at(-1)), scope, conditions }
      say(pod)
      return pod
    }),
    /** Stops a pod as Kubernetes does when a pod is deleted: the pod and its clients are notified at the same time. */
    stop: Effect.fnUntraced(function*(pod: Pod) {
      say({ ...pod, conditions: { ready: false, serving: true, terminating: true } })
      yield* Scope.close(pod.scope, Exit.void)
      api.remove(`${pod.name}-slice`)
    })
  }
})

/** Repeats `look` until it returns a value. */
const until = <A>(look: () => A | undefined): Effect.Effect<A> =>
  Effect.suspend(() => {
    const found = look()
    return found === undefined ? Effect.delay(until(look), "5 millis") : Effect.succeed(found)
  })

/** Makes one call after the other, and records which pod answered, and when. */
const keepCalling = (answers: Array<{ readonly pod: string; readonly at: number }>) =>
  Effect.gen(function*() {
    const pod = yield* askPod
    answers.push({ pod, at: yield* Clock.currentTimeMillis })
    yield* Effect.sleep("2 millis")
  }).pipe(Effect.forever)

const main = Effect.gen(function*() {
  const { observe, verdict } = makeObserver()
  const cluster = yield* makeCluster
  const connection = yield* Layer.build(cartConnection({ kubeconfig: cluster.kubeconfig }))
  const asClient = <A, E>(effect: Effect.Effect<A, E, Connection.Connection>) =>
    Effect.provideContext(effect, connection)

  const waiting = yield* Effect.forkChild(asClient(askPod), { startImmediately: true })
  let pods: ReadonlyArray<Pod> = []
  yield* observe(
    "a call that comes before there is a pod waits for it",
    Effect.gen(function*() {
      pods = [yield* cluster.start("cart-a1")]
      assert.equal(yield* Fiber.join(waiting), "cart-a1")
      return "cart-a1 has answered"
    })
  )

  yield* observe(
    "pods that are ready get their share",
    Effect.gen(function*() {
      pods = [...pods, yield* cluster.start("cart-a2"), yield* cluster.start("cart-a3")]
      yield* Effect.repeat(asClient(askPod), { until: (pod) => pod === "cart-a3" })
      const answers = yield* asClient(Effect.replicateEffect(askPod, 30))
      assert.equal(tally(answers), "cart-a1 × 10, cart-a2 × 10, cart-a3 × 10")
      return tally(answers)
    })
  )

  yield* observe(
    "a rollout replaces them one by one, and no call fails",
    Effect.gen(function*() {
      const answers: Array<{ readonly pod: string; readonly at: number }> = []
      const calling = yield* Effect.forkChild(asClient(keepCalling(answers)))
      const latest: Array<number> = []
      for (const old of pods) {
        const name = old.name.replace("-a", "-b")
        const since = yield* Clock.currentTimeMillis
        yield* cluster.start(name)
        const first = yield* until(() => answers.find(({ pod }) => pod === name))
        latest.push(first.at - since)
        yield* cluster.stop(old)
        // Leave time for more calls, none of which may fail.
        yield* Effect.sleep("100 millis")
      }
      assert.ok(Math.max(...latest) < 2000)
      // The fiber is still running, so no call has failed.
      assert.equal(calling.pollUnsafe(), undefined)
      // Calls go only to the new pods.
      yield* until(() => answers.slice(-9).every(({ pod }) => pod.startsWith("cart-b")) || undefined)
      yield* Fiber.interrupt(calling)
      const spread = tally(answers.map(({ pod }) => pod))
      return `${answers.length} calls: ${spread}; the first to a new pod at most ${
        Math.max(...latest)
      } ms after it was ready`
    })
  )

  yield* verdict
})

main.pipe(
  Effect.timeout("30 seconds"),
  Effect.scoped,
  Effect.provide(NodeServices.layer),
  NodeRuntime.runMain
)
