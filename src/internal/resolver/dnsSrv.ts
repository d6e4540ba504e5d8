/**
 * A resolver of the servers that the SRV records of a name point to. It does not know how their addresses are found.
 */
import * as Effect from "effect/Effect"
import type * as Dns from "effect/net/Dns"
import * as Endpoint from "../../Endpoint.ts"
import { formatTcp } from "../net/address.ts"
import { textOf } from "../userError.ts"
import { type DnsOptions, type Looks, makeResolver, parseName, settingsOf } from "./dns.ts"
import { type Addresses, type Finder, finder } from "./dnsAddresses.ts"
import { inTime, isNotFound, notFound, resolveRecords, type Services } from "./dnsService.ts"
import { sorted } from "./endpoints.ts"
import { type InvalidResolver, joined, type Resolver } from "./model.ts"
import type { Later, Look } from "./polled.ts"
import { Query, waitFor } from "./query.ts"
import { defaultTtlMillis, ttlOf } from "./ttl.ts"

/** The most targets whose addresses are looked up at the same time. */
const concurrency = 16

/** How long a look waits for the addresses of each target. After that it waits only while no target has addresses. */
const targetMillis = 1000
const targetWaits = { graceMillis: 0, patienceMillis: 5000 }

/** The weight of a record of weight 0 if others have a weight, which is at least 1: it is rarely used. */
const smallestWeight = 0.1

/** The target of a SRV record, and its last addresses. */
class Target extends Query<Addresses> {
  private readonly finder: Finder

  constructor(finder: Finder) {
    super()
    this.finder = finder
  }

  /**
   * Finds its addresses. It ends after a while, so that other targets have their turn. `told` is called for each new
   * answer.
   */
  find(later: Later, told: () => void): Effect.Effect<void> {
    const found = this.finder(later, (addresses) => {
      this.last = addresses
      told()
    })
    return Effect.andThen(
      this.begin(later, found, told),
      Effect.suspend(() => Effect.timeoutOption(this.settled, targetMillis))
    )
  }
}

/**
 * The endpoints of records. If several have the same address, the best one counts. The addresses of a target share its
 * weight.
 */
const endpointsOf = (
  records: ReadonlyArray<Dns.Srv>,
  addressesOf: (target: string) => ReadonlyArray<string>
): ReadonlyArray<Endpoint.Endpoint> => {
  const best = records.toSorted((a, b) => a.priority - b.priority || b.weight - a.weight)
  const weighted = new Set(records.filter(({ weight }) => weight > 0).map(({ priority }) => priority))
  return sorted(best.flatMap(({ port, priority, target, weight }) => {
    // An IPv4 address can also be there as an IPv6 address.
    const addresses = new Set(addressesOf(target).map((address) => formatTcp(address, port)))
    // If all records have weight 0, they are equal.
    const share = (weight || (weighted.has(priority) ? smallestWeight : 1)) / addresses.size
    return [...addresses].map((address) => Endpoint.withAttributes(Endpoint.tcp(address), { priority, weight: share }))
  }))
}

const problemsOf = (targets: ReadonlyMap<string, Target>): ReadonlyArray<string> =>
  [...targets].flatMap(([name, { failure, isUnderWay, last }]) => {
    if (last !== undefined && last.addresses.length > 0) return []
    if (failure !== undefined) return `the addresses of "${name}" cannot be looked up: ${textOf(failure)}`
    if (isUnderWay) return `the addresses of "${name}" are not known yet: DNS has not answered`
    return last?.problem ?? []
  })

/** Looks for the records, and for the addresses of their targets. */
const looksFor = (name: string) => (services: Services): Looks => {
  const { dns, timeToLive } = services
  let offered: ReadonlyArray<Dns.Srv> = []
  let targets = new Map<string, Target>()
  let recordsTtlMillis = defaultTtlMillis
  let isLooking = false

  /** The result with all answers that have arrived so far. */
  const known = (): Look => ({
    endpoints: endpointsOf(offered, (target) => targets.get(target)?.last?.addresses ?? []),
    ttlMillis: [...targets.values()].reduce(
      (least, { last }) => Math.min(least, last?.ttlMillis ?? defaultTtlMillis),
      recordsTtlMillis
    ),
    problem: joined(problemsOf(targets))
  })

  const isUsable = () => known().endpoints.length > 0

  const look = Effect.fnUntraced(function*(later: Later) {
    isLooking = true
    let missing: Dns.DnsError | undefined
    const records = yield* Effect.catchIf(
      inTime(resolveRecords(dns, name, "SRV"), name, "SRV"),
      isNotFound,
      (error) => {
        missing = error
        return Effect.succeed([])
      }
    )
    recordsTtlMillis = yield* ttlOf(timeToLive, name, "SRV")
    // The root as the only target means that the service is not offered.
    offered = records.filter(({ target }) => target !== ".")
    targets = new Map(
      offered.map(({ target }) => [target, targets.get(target) ?? new Target(finder(services, target))])
    )
    const all = [...targets.values()]
    const late = () => {
      if (!isLooking && isUsable()) later.tell(known())
    }
    const old = new Set(all.filter(({ isUnderWay }) => isUnderWay))
    yield* Effect.forEach(all.filter((target) => !old.has(target)), (target) => target.find(later, late), {
      concurrency,
      discard: true
    })
    yield* waitFor(all, old, isUsable, targetWaits)
    const defect = all.find(({ defect }) => defect !== undefined)?.defect
    if (defect !== undefined) return yield* Effect.failCause(defect)
    // Targets without addresses are left out. If no address was ever found, the look fails.
    const failed = all.find(({ failure }) => failure !== undefined)
    if (failed?.failure !== undefined && all.every(({ last }) => last === undefined)) return yield* failed.failure
    const found = known()
    if (offered.length > 0) return found
    const problem = records.length === 0
      ? notFound(name, "SRV records", missing)
      : `"${name}" is not offered: the target of its SRV record is "."`
    return { ...found, problem }
  })

  return (later) =>
    Effect.ensuring(
      look(later),
      Effect.sync(() => {
        isLooking = false
      })
    )
}

/** The servers of a service, by its SRV records. */
export const dnsSrv = Effect.fnUntraced(function*(
  service: string,
  options: DnsOptions | undefined
): Effect.fn.Return<Resolver, InvalidResolver, Dns.Dns> {
  const settings = settingsOf(options)
  const name = yield* parseName(service, service, `the name of SRV records, such as "_cart._tcp.example.internal"`)
  return yield* makeResolver(settings, `servers of "${name}"`, looksFor(name))
})
