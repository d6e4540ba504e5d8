/**
 * Finds the cluster: by the configuration of a pod, or by a kubeconfig file. It sends no requests.
 */
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import { isIPv6 } from "node:net"
import { homedir } from "node:os"
import { delimiter, join } from "node:path"
import { effectOf } from "../guard.ts"
import { type Cluster, readFile, readToken } from "./credentials.ts"
import { Failure } from "./failure.ts"
import { readKubeconfig } from "./kubeconfig.ts"

/** The directory where Kubernetes puts the credentials of a pod's service account. */
const mount = "/var/run/secrets/kubernetes.io/serviceaccount"

const inCluster = Effect.fnUntraced(function*(host: string, port: string): Effect.fn.Return<
  Cluster,
  Failure,
  FileSystem.FileSystem
> {
  const fs = yield* FileSystem.FileSystem
  const server = `https://${isIPv6(host) ? `[${host}]` : host}:${port}`
  if (!URL.canParse(server)) {
    return yield* new Failure({
      kind: "Unready",
      message: `KUBERNETES_SERVICE_HOST is ${JSON.stringify(host)} and KUBERNETES_SERVICE_PORT is ` +
        `${JSON.stringify(port)}: expected a host and a port`
    })
  }
  const namespace = yield* readFile(fs, `${mount}/namespace`)
  return {
    server,
    namespace: namespace.trim(),
    identity: `the service account of this pod (its token is in ${mount}/token)`,
    credentials: Effect.gen(function*() {
      const ca = yield* readFile(fs, `${mount}/ca.crt`)
      return { tls: { ca }, authorization: yield* readToken(fs, `${mount}/token`) }
    })
  }
})

/** An environment variable. An empty one counts as not set, as with kubectl. */
const variable = (name: string): Effect.Effect<string | undefined, Failure> =>
  Effect.mapBoth(Config.option(Config.String(name)), {
    onSuccess: (value) => Option.getOrUndefined(value) || undefined,
    onFailure: (cause) => new Failure({ kind: "Unready", message: `cannot read ${name}: ${cause.message}`, cause })
  })

/**
 * The cluster: the cluster of a kubeconfig file, if an option or `KUBECONFIG` names one. Otherwise the cluster in which
 * this process is a pod. Otherwise the cluster of `~/.kube/config`.
 */
export const findCluster = Effect.fnUntraced(function*(options: {
  readonly kubeconfig?: string | undefined
  readonly context?: string | undefined
}): Effect.fn.Return<Cluster, Failure, FileSystem.FileSystem> {
  const fs = yield* FileSystem.FileSystem
  const own = join((yield* variable("HOME")) ?? homedir(), ".kube", "config")
  if (options.kubeconfig !== undefined) return yield* readKubeconfig([options.kubeconfig], options.context)
  const listed = (yield* variable("KUBECONFIG"))?.split(delimiter).filter((path) => path !== "") ?? []
  if (listed.length > 0) return yield* readKubeconfig(listed, options.context)
  if (options.context !== undefined) return yield* readKubeconfig([own], options.context)
  const host = yield* variable("KUBERNETES_SERVICE_HOST")
  const port = yield* variable("KUBERNETES_SERVICE_PORT")
  if (host !== undefined && port !== undefined) return yield* inCluster(host, port)
  // If the check fails, reading the file fails with the reason.
  if (yield* Effect.orElseSucceed(effectOf("the exists of FileSystem", () => fs.exists(own)), () => true)) {
    return yield* readKubeconfig([own], undefined)
  }
  return yield* new Failure({
    kind: "Unready",
    message: "no Kubernetes cluster is known: this is not a pod (KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT " +
      `are not set), KUBECONFIG is not set, and there is no ${own}`
  })
})
