/**
 * The resolver of a Kubernetes Service: its options, versions and errors. It does not know how the API is asked.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as FileSystem from "effect/FileSystem"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import * as Endpoint from "../../Endpoint.ts"
import { background } from "../ambient/background.ts"
import { Latest } from "../latest.ts"
import { logged } from "../log.ts"
import { invalid } from "../options.ts"
import { type Resolution, resolution, type Resolver, ResolverError } from "../resolver/model.ts"
import { again, type Version, versions } from "../resolver/version.ts"
import { makeApi } from "./api.ts"
import { findCluster } from "./cluster.ts"
import { Failure } from "./failure.ts"
import { merge, type Slice } from "./slices.ts"
import { follow } from "./watch.ts"

/**
 * Which Kubernetes Service, and how to reach the API of its cluster.
 *
 * @category models
 * @since 0.1.0
 */
export interface KubernetesOptions {
  /** The name of the Service. */
  readonly service: string
  /** The namespace of the Service. Default: the namespace of this pod, or of the kubeconfig's context, or `default`. */
  readonly namespace?: string | undefined
  /**
   * The name of the Service's port; its number can differ from pod to pod. Or the number of the port on which the pods
   * listen. That is not the number of the Service's port. Default: the Service's only TCP port.
   */
  readonly port?: string | number | undefined
  /**
   * The zone of this client. With a zone, the endpoints are the pods that the cluster's hints (topology aware routing)
   * assign to the zone. This applies if all pods have hints and at least one hint is for this zone. Otherwise, and by
   * default, all pods are endpoints.
   */
  readonly zone?: string | undefined
  /** The path of a kubeconfig file. Default: see `Resolver.kubernetes`. */
  readonly kubeconfig?: string | undefined
  /**
   * The name of a context in the kubeconfig: that of the option `kubeconfig`, or else that of `KUBECONFIG` or
   * `~/.kube/config`, also if this process is a pod. Default: the `current-context` of the kubeconfig.
   */
  readonly context?: string | undefined
}

type Answer = Exit.Exit<Resolution, Failure>

/** The answers of the resolver: the last endpoints, and the failure while no changes are received. */
class Answers {
  private readonly latest = new Latest<Answer, never, undefined>(undefined)
  /** Why no changes are received for now. The last answer stays, and counts again afterwards. */
  private failure: Exit.Exit<never, Failure> | undefined = undefined

  /** The current endpoints, or the next ones if `seen` is the version of the current ones. */
  readonly after = (seen: Version | undefined): Effect.Effect<Resolution, Failure> =>
    Effect.suspend(() => {
      const current = this.latest.value
      if (current === undefined || Exit.isFailure(current)) return this.failure ?? current ?? this.next
      return current.value.version === seen ? this.next : current
    })

  private readonly next = Effect.flatten(this.latest.next)

  /** Sets a new answer: other endpoints, or a failure because the slices have no usable endpoint. */
  set(answer: Answer): void {
    this.failure = undefined
    this.latest.set(answer)
  }

  /** No changes are received for now. Waiters get the failure. Later callers get the last endpoints. */
  fail(failure: Failure): void {
    this.failure = Exit.fail(failure)
    this.latest.tell(Effect.succeed(this.failure))
  }

  /** Changes are received again. Callers that have got the failure get the last answer once more. */
  recovered(): void {
    const current = this.latest.value
    const { failure } = this
    this.failure = undefined
    if (failure === undefined || current === undefined) return
    if (Exit.isFailure(current) || current.value.version === undefined) {
      this.latest.tell(Effect.succeed(current))
    } else {
      this.set(Exit.succeed({ ...current.value, version: again(current.value.version) }))
    }
  }
}

/** Whether Kubernetes allows a name: it must be a DNS label. */
const isName = (text: unknown): boolean =>
  typeof text === "string" && text.length <= 63 && /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/.test(text)

const isPort = (port: number): boolean => Number.isInteger(port) && port >= 1 && port <= 65_535

const label = "of at most 63 lower-case letters, digits and \"-\""

const check = ({ namespace, port, service, zone }: KubernetesOptions): void => {
  if (!isName(service)) invalid("service", service, `the name of a Service, ${label}`)
  if (namespace !== undefined && !isName(namespace)) {
    invalid("namespace", namespace, `the name of a namespace, ${label}`)
  }
  if (zone !== undefined && (typeof zone !== "string" || zone === "")) invalid("zone", zone, "the name of a zone")
  if (port !== undefined && !(typeof port === "number" ? isPort(port) : isName(port))) {
    invalid("port", port, `the name of a port, ${label}, or a number from 1 to 65535`)
  }
}

const scheme = "k8s://"

/**
 * Reads `k8s://namespace/service:port`. The namespace may be empty, and the port, a name or a number, may be left out.
 */
export const parse = (text: string): Result.Result<KubernetesOptions, string> => {
  const match = /^k8s:\/\/([^/:]*)\/([^/:]*)(?::([^/:]*))?$/.exec(text)
  const quoted = JSON.stringify(text)
  if (match === null) {
    return Result.fail(`${quoted} is not the address of a Service: expected "${scheme}namespace/service:port"`)
  }
  const [, namespace = "", service = "", port] = match
  if (namespace !== "" && !isName(namespace)) {
    return Result.fail(`${JSON.stringify(namespace)} in ${quoted} is not a namespace: expected a name ${label}`)
  }
  if (!isName(service)) {
    return Result.fail(`${JSON.stringify(service)} in ${quoted} is not a Service: expected a name ${label}`)
  }
  const number = port !== undefined && /^\d+$/.test(port) ? Number(port) : undefined
  if (port !== undefined && !(number === undefined ? isName(port) : isPort(number))) {
    return Result.fail(
      `${JSON.stringify(port)} in ${quoted} is not a port: expected a name ${label}, or a number from 1 to 65535`
    )
  }
  return Result.succeed({
    service,
    ...(namespace === "" ? {} : { namespace }),
    ...(port === undefined ? {} : { port: number ?? port })
  })
}

const toResolverError = ({ cause, message }: Failure): ResolverError =>
  new ResolverError(cause === undefined ? { message } : { message, cause })

/**
 * Follows the Service for as long as the Scope is open. It fails if the configuration of the cluster cannot be read.
 */
export const make = Effect.fnUntraced(function*(
  options: KubernetesOptions
): Effect.fn.Return<Resolver, ResolverError, FileSystem.FileSystem | Scope.Scope> {
  check(options)
  const { port, service, zone } = options
  const cluster = yield* Effect.mapError(findCluster(options), toResolverError)
  const namespace = options.namespace ?? cluster.namespace
  const answers = new Answers()
  const nextVersion = versions("kubernetes")
  const what = `the Service ${service} in the namespace ${namespace}`
  /** The last slices as text: their endpoints and problems. */
  let known: string | undefined
  /** The last endpoints as a text, and their version. */
  let listed: string | undefined
  let version: Version | undefined
  let warned = ""

  /** Why there are no endpoints, or fewer than possible. */
  const problemOf = (slices: ReadonlyMap<string, Slice>, count: number, problem: string): string | undefined => {
    if (count > 0) return problem === "" ? undefined : `endpoints of ${what} are left out: ${problem}`
    if (slices.size === 0) return `${what} has no EndpointSlices: it may not exist, or have another name`
    const pods = [...slices.values()].reduce((sum, { endpoints }) => sum + (endpoints?.length ?? 0), 0)
    return pods === 0 ? `${what} has no pods` : `${what} has no pod that is ready, of ${pods}`
  }

  const slices = Effect.fnUntraced(function*(slices: ReadonlyMap<string, Slice>) {
    if (known === undefined && slices.size === 0) {
      yield* logged(
        Effect.logWarning("the Service has no EndpointSlices: it may not exist yet, or have another name")
      )
    }
    const { endpoints, problems } = merge(slices.values(), port, zone)
    const problem = problems.join("; ")
    if (problem !== warned && problem !== "") yield* logged(Effect.logWarning(`endpoints are left out: ${problem}`))
    warned = problem
    const said = problemOf(slices, endpoints.length, problem)
    const text = JSON.stringify([endpoints, problem, said])
    if (text === known) return
    known = text
    if (endpoints.length === 0 && problem !== "") {
      answers.set(Exit.fail(new Failure({ kind: "Garbled", message: `no endpoint can be used: ${problem}` })))
      return
    }
    const listing = JSON.stringify(endpoints)
    version = version === undefined || listing !== listed ? nextVersion() : again(version)
    listed = listing
    answers.set(Exit.succeed(resolution(
      endpoints.map(({ address, zone }) => Endpoint.withAttributes(Endpoint.tcp(address), { zone })),
      version,
      said
    )))
  })

  const following = follow(makeApi(cluster, service, namespace), {
    slices,
    failed: (failure) => Effect.sync(() => answers.fail(failure)),
    watching: Effect.sync(() => answers.recovered())
  }).pipe(
    Effect.annotateLogs({ service, namespace }),
    Effect.onError(
      Effect.fnUntraced(function*(cause) {
        const of = `the resolver of the Service ${service} in the namespace ${namespace} has`
        const isBug = Cause.hasDies(cause)
        if (isBug) yield* logged(Effect.logError(`${of} stopped: this is a bug`, cause))
        answers.set(Exit.fail(new Failure({ kind: "Unready", message: `${of} ${isBug ? "stopped" : "been closed"}` })))
      })
    )
  )
  const context = yield* background
  yield* Effect.forkScoped(Effect.updateContext<never, never, never, never>(following, () => context))
  return { isConstant: false, resolve: (seen) => Effect.mapError(answers.after(seen), toResolverError) }
})
