/**
 * The endpoints of a Kubernetes Service, each set of them with a version.
 */
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as FileSystem from "effect/FileSystem"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import * as Endpoint from "../../Endpoint.ts"
import type { KubernetesOptions, Resolution, Resolver, Version } from "../../Resolver.ts"
import { background } from "../ambient/background.ts"
import { logged } from "../log.ts"
import { invalid } from "../options.ts"
import { again, resolution, ResolverError, versions } from "../resolver/model.ts"
import { makeApi } from "./api.ts"
import { findCluster } from "./cluster.ts"
import { Failure } from "./failure.ts"
import { merge, type Slice } from "./slices.ts"
import { follow } from "./watch.ts"

/** The latest set of endpoints, and those who wait for what comes next. */
class Latest {
  private current: Exit.Exit<Resolution, Failure> | undefined = undefined
  /** Why nothing is heard of for now. Apart from `current`, which may be an error of its own that is there again afterwards. */
  private failure: Exit.Exit<never, Failure> | undefined = undefined
  private next = Deferred.makeUnsafe<Resolution, Failure>()

  /** The current set, or, where that has been seen, the next one. */
  readonly after = (seen: Version | undefined): Effect.Effect<Resolution, Failure> =>
    Effect.suspend(() => {
      const { current } = this
      if (current === undefined || Exit.isFailure(current)) return this.failure ?? current ?? Deferred.await(this.next)
      return current.value.version === seen ? Deferred.await(this.next) : current
    })

  /** Tells those who wait, and those who come later. */
  set(current: Exit.Exit<Resolution, Failure>): void {
    this.current = current
    this.failure = undefined
    this.tell(current)
  }

  /** Tells those who wait; who comes later gets the last endpoints, as long as there are any. */
  fail(failure: Failure): void {
    this.failure = Exit.fail(failure)
    this.tell(this.failure)
  }

  /** Tells those who wait, and those who come later, that what failed is well again: there is nothing new. */
  recovered(): void {
    const { current, failure } = this
    this.failure = undefined
    if (failure === undefined || current === undefined) return
    if (Exit.isFailure(current) || current.value.version === undefined) return this.tell(current)
    this.set(Exit.succeed({ ...current.value, version: again(current.value.version) }))
  }

  private tell(exit: Exit.Exit<Resolution, Failure>): void {
    const waiting = this.next
    this.next = Deferred.makeUnsafe()
    Deferred.doneUnsafe(waiting, exit)
  }
}

/** What Kubernetes lets a name be: a DNS label. */
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

/** Reads `k8s://namespace/service:port`. The namespace may be empty, and the port, a name or a number, may be left out. */
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

/** Follows the Service for as long as the Scope is open. Fails where the configuration of the cluster cannot be read. */
export const make = Effect.fnUntraced(function*(
  options: KubernetesOptions
): Effect.fn.Return<Resolver, ResolverError, FileSystem.FileSystem | Scope.Scope> {
  check(options)
  const { port, service, zone } = options
  const cluster = yield* Effect.mapError(findCluster(options), toResolverError)
  const namespace = options.namespace ?? cluster.namespace
  const latest = new Latest()
  const nextVersion = versions("kubernetes")
  const what = `the Service ${service} in the namespace ${namespace}`
  let known: string | undefined
  /** The last endpoints that there were, and their version. */
  let listed: string | undefined
  let version: Version | undefined
  let warned = ""

  /** Why there are no endpoints, or fewer than there could be. */
  const problemOf = (slices: ReadonlyMap<string, Slice>, left: number, problem: string): string | undefined => {
    if (left > 0) return problem === "" ? undefined : `endpoints of ${what} are left out: ${problem}`
    if (slices.size === 0) return `${what} has no EndpointSlices: it may not exist, or by another name`
    const pods = [...slices.values()].reduce((sum, { endpoints }) => sum + (endpoints?.length ?? 0), 0)
    return pods === 0 ? `${what} has no pods` : `${what} has no pod that is ready, of ${pods}`
  }

  const slices = Effect.fnUntraced(function*(slices: ReadonlyMap<string, Slice>) {
    if (known === undefined && slices.size === 0) {
      yield* logged(
        Effect.logWarning("the Service has no EndpointSlices: it may not exist yet, or by another name")
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
      latest.set(Exit.fail(new Failure({ kind: "Garbled", message: `no endpoint can be used: ${problem}` })))
      return
    }
    const listing = JSON.stringify(endpoints)
    version = version === undefined || listing !== listed ? nextVersion() : again(version)
    listed = listing
    latest.set(Exit.succeed(resolution(
      endpoints.map(({ address, zone }) => Endpoint.withAttributes(Endpoint.tcp(address), { zone })),
      version,
      said
    )))
  })

  const following = follow(makeApi(cluster, service, namespace), {
    slices,
    failed: (failure) => Effect.sync(() => latest.fail(failure)),
    watching: Effect.sync(() => latest.recovered())
  }).pipe(
    Effect.annotateLogs({ service, namespace }),
    Effect.onError(
      Effect.fnUntraced(function*(cause) {
        const of = `the resolver of the Service ${service} in the namespace ${namespace} has`
        const isBug = Cause.hasDies(cause)
        if (isBug) yield* logged(Effect.logError(`${of} stopped: this is a bug`, cause))
        latest.set(Exit.fail(new Failure({ kind: "Unready", message: `${of} ${isBug ? "stopped" : "been closed"}` })))
      })
    )
  )
  const context = yield* background
  yield* Effect.forkScoped(Effect.updateContext<never, never, never, never>(following, () => context))
  return { isConstant: false, resolve: (seen) => Effect.mapError(latest.after(seen), toResolverError) }
})
