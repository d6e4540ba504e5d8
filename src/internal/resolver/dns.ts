/**
 * Resolvers that ask DNS, for the addresses of a name or for the SRV records of a service.
 */
import * as Effect from "effect/Effect"
import * as Dns from "effect/net/Dns"
import * as Host from "effect/net/Host"
import * as Result from "effect/Result"
import { isIP } from "node:net"
import * as Endpoint from "../../Endpoint.ts"
import type { DnsOptions, Resolver } from "../../Resolver.ts"
import { effectOf } from "../guard.ts"
import { logged } from "../log.ts"
import { formatTcp, parseTcp } from "../net/address.ts"
import { invalid, positiveMillis } from "../options.ts"
import { textOf } from "../userError.ts"
import {
  type Addresses,
  type Finder,
  finder,
  goodFor,
  inTime,
  isNotFound,
  listed,
  notFound,
  type Services,
  theResolve,
  unknownTimeToLive
} from "./dnsAddresses.ts"
import { sorted } from "./endpoints.ts"
import { InvalidResolver, joined, ResolverError } from "./model.ts"
import { type Later, type Look, polled } from "./polled.ts"
import { Sought, waitFor } from "./sought.ts"
import { DnsTimeToLive } from "./timeToLive.ts"

/** So many targets of SRV records are looked up at once. */
const concurrency = 16

/** So long a look waits for the addresses of each target. After that it only waits where no target has any. */
const targetMillis = 1000
const targetWaits = { graceMillis: 0, patienceMillis: 5000 }

interface Settings {
  readonly minMillis: number
  readonly maxMillis: number
  readonly keepsLast: boolean
}

const settingsOf = (options: DnsOptions | undefined): Settings => {
  const minMillis = positiveMillis("interval.min", options?.interval?.min, "1 second")
  const maxMillis = positiveMillis("interval.max", options?.interval?.max, Math.max(minMillis, 30_000))
  if (maxMillis < minMillis) invalid("interval.max", `${maxMillis} ms`, `no less than interval.min, ${minMillis} ms`)
  const onEmpty = options?.onEmpty ?? "accept"
  if (onEmpty !== "accept" && onEmpty !== "keep") invalid("onEmpty", onEmpty, `"accept" or "keep"`)
  return { minMillis, maxMillis, keepsLast: onEmpty === "keep" }
}

const clamp = ({ maxMillis, minMillis }: Settings, millis: number): number =>
  Math.min(Math.max(millis, minMillis), maxMillis)

// ---- Resolvers.

/** Looks once; what comes later is told. */
type Looks = (later: Later) => Effect.Effect<Look, Dns.DnsError>

const make = Effect.fnUntraced(function*(settings: Settings, what: string, looks: (services: Services) => Looks) {
  const look = looks({ dns: yield* Dns.Dns, timeToLive: yield* DnsTimeToLive })
  let isEmpty = false
  let hadSome = false

  const taken = (found: Look): Look => {
    isEmpty = found.endpoints.length === 0
    hadSome ||= !isEmpty
    return { ...found, goodForMillis: clamp(settings, found.goodForMillis) }
  }

  const checked = (later: Later) =>
    look({ ...later, tell: (found) => later.tell(taken(found)) }).pipe(
      Effect.mapError((cause) =>
        new ResolverError({ message: `the ${what} cannot be found out: ${cause.message}`, cause })
      ),
      Effect.flatMap(Effect.fnUntraced(function*(found) {
        if (found.endpoints.length === 0 && hadSome && settings.keepsLast) {
          return yield* new ResolverError({ message: `DNS knows no ${what} any more` })
        }
        // A name with a typing error has no addresses either.
        if (found.endpoints.length === 0 && !isEmpty) {
          yield* logged(Effect.logWarning(`DNS knows no ${what}: there are no endpoints`))
        }
        return taken(found)
      }))
    )
  const { resolver } = yield* polled({
    kind: "dns",
    look: checked,
    leastMillis: settings.minMillis,
    retryMillis: clamp(settings, unknownTimeToLive)
  })
  return resolver
})

/** Addresses of one name, with a port. */
export const addresses = Effect.fnUntraced(function*(
  target: string,
  options: DnsOptions | undefined
): Effect.fn.Return<Resolver, InvalidResolver, Dns.Dns> {
  const settings = settingsOf(options)
  const parsed = parseTcp("tcp", target)
  if (Result.isFailure(parsed)) return yield* new InvalidResolver({ message: parsed.failure, text: target })
  const { host, port } = parsed.success
  if (isIP(host) !== 0) return constant(Endpoint.tcp(formatTcp(host, port)))
  const name = yield* parseName(host, target, `"host:port"`)
  const lookOf = ({ addresses, goodForMillis, problem }: Addresses): Look => ({
    endpoints: sorted(addresses.map((address) => Endpoint.tcp(formatTcp(address, port)))),
    goodForMillis,
    problem
  })
  return yield* make(settings, `addresses of "${name}"`, (services) => {
    const find = finder(services, name)
    return (later) => Effect.map(find(later, (found) => later.tell(lookOf(found))), lookOf)
  })
})

/** Reads a name. */
const parseName = (host: string, text: string, expected: string): Effect.Effect<string, InvalidResolver> =>
  Result.match(Host.domainNameFromString(host), {
    onSuccess: Effect.succeed,
    onFailure: ({ message }) =>
      Effect.fail(
        new InvalidResolver({
          message: `${JSON.stringify(host)} in ${
            JSON.stringify(text)
          } is not a name (${message}): expected ${expected}`,
          text
        })
      )
  })

const constant = (endpoint: Endpoint.Endpoint): Resolver => ({
  isConstant: true,
  resolve: () => Effect.succeed({ endpoints: [endpoint] })
})

/** A record of weight 0 is to be used hardly ever beside others that have one, of which the smallest is 1. */
const smallestWeight = 0.1

/** The servers of a service, by its SRV records. */
export const services = Effect.fnUntraced(function*(
  service: string,
  options: DnsOptions | undefined
): Effect.fn.Return<Resolver, InvalidResolver, Dns.Dns> {
  const settings = settingsOf(options)
  const name = yield* parseName(service, service, `the name of SRV records, such as "_cart._tcp.example.internal"`)
  return yield* make(settings, `servers of "${name}"`, (services) => {
    const { dns, timeToLive } = services
    let offered: ReadonlyArray<Dns.Srv> = []
    let targets = new Map<string, Target>()
    let goodForMillis = unknownTimeToLive
    let isLooking = false

    /** What is known by now. */
    const known = (): Look => {
      const problems = [...targets].flatMap(([target, { failure, isUnderWay, last }]) => {
        if (last !== undefined && last.addresses.length > 0) return []
        if (failure !== undefined) return `the addresses of "${target}" cannot be found out: ${textOf(failure)}`
        if (isUnderWay) return `the addresses of "${target}" are not known yet: DNS has not answered`
        return last?.problem ?? []
      })
      return {
        endpoints: endpointsOf(offered, (target) => targets.get(target)?.last?.addresses ?? []),
        goodForMillis: [...targets.values()].reduce(
          (least, { last }) => Math.min(least, last?.goodForMillis ?? unknownTimeToLive),
          goodForMillis
        ),
        problem: joined(problems)
      }
    }
    const isUsable = () => known().endpoints.length > 0

    const look = Effect.fnUntraced(function*(later: Later) {
      isLooking = true
      let missing: Dns.DnsError | undefined
      const asked = Effect.map(
        effectOf(theResolve, () => dns.resolve(name, "SRV")),
        (records) => listed(theResolve, records)
      )
      const records = yield* Effect.catchIf(inTime(asked, name, "SRV"), isNotFound, (error) => {
        missing = error
        return Effect.succeed([])
      })
      goodForMillis = yield* goodFor(timeToLive, name, "SRV")
      // The root as the only target says that the service is not offered.
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
      // Those that were never found are left out, unless that leaves nothing.
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
  })
})

/** What a SRV record points to, and the addresses that it had last. */
class Target extends Sought<Addresses> {
  private readonly finder: Finder

  constructor(finder: Finder) {
    super()
    this.finder = finder
  }

  /**
   * Finds its addresses, or gives others their turn after a while. `told` is called for whatever there is to know of
   * it.
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

/** The endpoints of records: the best of several with one address counts. The addresses of a target share its weight. */
const endpointsOf = (
  records: ReadonlyArray<Dns.Srv>,
  addressesOf: (target: string) => ReadonlyArray<string>
): ReadonlyArray<Endpoint.Endpoint> => {
  const best = records.toSorted((a, b) => a.priority - b.priority || b.weight - a.weight)
  const weighted = new Set(records.filter(({ weight }) => weight > 0).map(({ priority }) => priority))
  return sorted(best.flatMap(({ port, priority, target, weight }) => {
    // An IPv4 address may also be there as an IPv6 one.
    const addresses = new Set(addressesOf(target).map((address) => formatTcp(address, port)))
    // Where all have weight 0 there is nothing to choose by.
    const share = (weight || (weighted.has(priority) ? smallestWeight : 1)) / addresses.size
    return [...addresses].map((address) => Endpoint.withAttributes(Endpoint.tcp(address), { priority, weight: share }))
  }))
}
