/** For the tests of `Resolver.kubernetes`: slices, recorded answers, kubeconfig files, and time that passes. */
import { NodeFileSystem } from "@effect/platform-node"
import { ConfigProvider, type Duration, Effect, Fiber, FileSystem, Layer } from "effect"
import { Resolver } from "effect-call"
import { TestClock } from "effect/testing"
import { subscribe, unsubscribe } from "node:diagnostics_channel"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import type { SliceObject } from "../../examples/support/kubernetesApi.ts"

/** What a cluster has sent: as text, as it comes over the wire. */
export const recorded = (name: string): string =>
  readFileSync(new URL(`../data/kubernetes/${name}`, import.meta.url), "utf8")

export interface SliceEndpoint {
  readonly addresses: ReadonlyArray<string>
  readonly conditions?: object | null
  readonly [field: string]: unknown
}

export const ready = (address: string, more: object = {}): SliceEndpoint => ({
  addresses: [address],
  conditions: { ready: true, serving: true, terminating: false },
  ...more
})

export const unready = (address: string): SliceEndpoint => ({
  addresses: [address],
  conditions: { ready: false, serving: false, terminating: false }
})

export const terminating = (address: string, serving: boolean): SliceEndpoint => ({
  addresses: [address],
  conditions: { ready: false, serving, terminating: true }
})

/** A slice of the Service cart in the namespace shop, with the port 7000 named calls. */
export const slice = (
  name: string,
  endpoints: ReadonlyArray<SliceEndpoint> | null,
  more: object = {}
): SliceObject => ({
  metadata: { name, namespace: "shop", labels: { "kubernetes.io/service-name": "cart" } },
  addressType: "IPv4",
  ports: [{ name: "calls", protocol: "TCP", port: 7000 }],
  endpoints,
  ...more
})

export const addresses = ({ endpoints }: Resolver.Resolution): ReadonlyArray<string> =>
  endpoints.map(({ address }) => address.replace("tcp://", ""))

/** A directory of the test's own, and writing a file into it. */
export const directory = Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  const path = yield* fs.makeTempDirectoryScoped({ prefix: "k8s-" })
  return {
    path,
    write: Effect.fnUntraced(function*(name: string, text: string) {
      yield* fs.writeFileString(join(path, name), text)
      return join(path, name)
    })
  }
})

/** Kubeconfig of one context, `test`, in JSON, which is YAML. */
export const kubeconfig = (cluster: object, user: object = {}, namespace: string | undefined = "shop"): string =>
  JSON.stringify({
    apiVersion: "v1",
    kind: "Config",
    "current-context": "test",
    contexts: [{ name: "test", context: { cluster: "there", user: "me", namespace } }],
    clusters: [{ name: "there", cluster }],
    users: [{ name: "me", user }]
  })

/** An environment of its own, so that what is configured on the machine does not matter. */
export const environment = (variables: Readonly<Record<string, string>> = {}) =>
  Layer.merge(
    NodeFileSystem.layer,
    ConfigProvider.layer(ConfigProvider.fromEnvRecord({ HOME: "/nonexistent", ...variables }))
  )

/** Counts the answers that clients of this process have begun to get, by HTTP, and waits until so many have. */
export const answersBegun = Effect.gen(function*() {
  let count = 0
  const waiting = new Set<() => void>()
  const begun = () => {
    count++
    // The client itself hears of it after this.
    setImmediate(() => {
      for (const look of [...waiting]) look()
    })
  }
  yield* Effect.acquireRelease(
    Effect.sync(() => subscribe("http.client.response.finish", begun)),
    () => Effect.sync(() => unsubscribe("http.client.response.finish", begun))
  )
  return (wanted: number) =>
    Effect.callback<void>((resume) => {
      const look = () => {
        if (count < wanted) return
        waiting.delete(look)
        resume(Effect.void)
      }
      waiting.add(look)
      look()
    })
})

const turn = Effect.callback<void>((resume) => {
  const timer = setTimeout(() => resume(Effect.void), 1)
  return Effect.sync(() => clearTimeout(timer))
})

/** Lets the time of the test pass, in steps between which sockets and files get their turn, until an effect is done. */
export const passing = Effect.fnUntraced(function*<A, E, R>(
  effect: Effect.Effect<A, E, R>,
  step: Duration.Input = "50 millis"
) {
  const fiber = yield* Effect.forkChild(effect, { startImmediately: true })
  while (fiber.pollUnsafe() === undefined) {
    yield* TestClock.adjust(step)
    yield* turn
  }
  return yield* Fiber.join(fiber)
})

/** A resolver of the Service cart, by a kubeconfig that names the server. It is followed until the Scope closes. */
export const followCart = Effect.fnUntraced(function*(
  cluster: object,
  user: object = {},
  options: Partial<Resolver.KubernetesOptions> = {}
) {
  const { write } = yield* directory
  const path = yield* write("config", kubeconfig(cluster, user))
  return yield* Resolver.kubernetes({ service: "cart", port: "calls", kubeconfig: path, ...options })
})
