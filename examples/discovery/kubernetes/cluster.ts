/**
 * The part of a Kubernetes cluster that a client can see, on loopback: an API server for EndpointSlices, with TLS and a
 * token, and servers in place of pods.
 */
import { Context, Effect, Exit, FileSystem, Layer, Scope } from "effect"
import { Endpoint, Server } from "effect-call"
import { makeAuthority } from "../../support/certificates.ts"
import { makeKubernetesApi } from "../../support/kubernetesApi.ts"
import { cartServer } from "./cart.ts"

export interface Pod {
  readonly name: string
  readonly port: number
  readonly scope: Scope.Closeable
}

/** The conditions of a pod in an EndpointSlice. */
const starting = { ready: false, serving: false, terminating: false }
const ready = { ready: true, serving: true, terminating: false }
const terminating = { ready: false, serving: true, terminating: true }

export const makeCluster = Effect.gen(function*() {
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
  const publish = ({ name, port }: Omit<Pod, "scope">, conditions: typeof ready) =>
    api.put({
      metadata: { name: `${name}-slice`, namespace: "shop", labels: { "kubernetes.io/service-name": "cart" } },
      addressType: "IPv4",
      ports: [{ name: "calls", protocol: "TCP", port }],
      endpoints: [{ addresses: ["127.0.0.1"], conditions, targetRef: { kind: "Pod", name } }]
    })

  return {
    kubeconfig,
    /** Publishes a pod that is not ready yet. */
    schedule: (name: string) => Effect.sync(() => publish({ name, port: 1 }, starting)),
    /** Starts a pod, and publishes its EndpointSlice when it is ready. */
    start: Effect.fnUntraced(function*(name: string) {
      const scope = yield* Scope.fork(outer)
      const context = yield* Layer.buildWithScope(cartServer(name, "127.0.0.1:0"), scope)
      const { addr } = yield* Endpoint.parse(Context.get(context, Server.Server).address)
      const pod: Pod = { name, port: Number(addr.slice(addr.lastIndexOf(":") + 1)), scope }
      publish(pod, ready)
      return pod
    }),
    /** Stops a pod as Kubernetes does when a pod is deleted: the pod and its clients are notified at the same time. */
    stop: Effect.fnUntraced(function*(pod: Pod) {
      publish(pod, terminating)
      yield* Scope.close(pod.scope, Exit.void)
      api.remove(`${pod.name}-slice`)
    })
  }
})
