/**
 * Resolvers that ask DNS, for the addresses of a name or for the SRV records of a service.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Dns from "effect/net/Dns"
import * as Host from "effect/net/Host"
import * as NetAddress from "effect/net/NetAddress"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import { isIP } from "node:net"
import * as Endpoint from "../../Endpoint.ts"
import type { DnsOptions, Resolver } from "../../Resolver.ts"
import { effectOf, unexpected } from "../guard.ts"
import { logged } from "../log.ts"
import { formatTcp, parseTcp } from "../net/address.ts"
import { invalid, positiveMillis } from "../options.ts"
import { sorted } from "./endpoints.ts"
import { InvalidResolver, joined, ResolverError } from "./model.ts"
import { type Look, polled } from "./polled.ts"
import { DnsTimeToLive, type TimeToLive } from "./timeToLive.ts"

/** For so long is good what is not known to be good for any other time. */
const unknownTimeToLive = 5000
/** So many targets of SRV records are looked up at once. */
const concurrency = 16

/** What a `Dns`, which may be of a user's own, is asked for. */
const theResolve = "the resolve of Dns"
const theLookup = "the lookup of Dns"

/** What it has answered. Whatever its type says, it may be anything. */
const listed = <A>(what: string, given: ReadonlyArray<A>): ReadonlyArray<A> => {
  if (!Array.isArray(given)) throw unexpected(what, "an array", given)
  return given
}

interface Services {
  readonly dns: Dns.Dns["Service"]
  readonly timeToLive: TimeToLive
}

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

// ---- The addresses of one name.

interface Addresses {
  readonly addresses: ReadonlyArray<string>
  readonly goodForMillis: number
  /** Why there are none, or not all. */
  readonly problem?: string
}

const none = (problem: string): Addresses => ({ addresses: [], goodForMillis: unknownTimeToLive, problem })

/** What DNS has said: Node's code, where there is one. */
const codeOf = ({ cause, reason }: Dns.DnsError): string =>
  cause instanceof Error && "code" in cause && typeof cause.code === "string" ? cause.code : reason

/** What it means that DNS knows no records of a name. */
const notFound = (name: string, records: string, error: Dns.DnsError | undefined): string => {
  if (error === undefined) return `"${name}" has no ${records} in DNS`
  const code = codeOf(error)
  // Others may mean that it is there, with other records.
  return code === "ENOTFOUND" ? `"${name}" is not in DNS (ENOTFOUND)` : `"${name}" has no ${records} in DNS (${code})`
}

const goodFor = (timeToLive: TimeToLive, name: string, type: "A" | "AAAA" | "SRV"): Effect.Effect<number> =>
  Effect.map(
    effectOf("the time to live of DNS", () => timeToLive(name, type)),
    (found) => Option.isSome(found) ? Duration.toMillis(found.value) : unknownTimeToLive
  )

const both = (some: Addresses, others: Addresses): Addresses => {
  if (some.addresses.length === 0) return others
  if (others.addresses.length === 0) return some
  return {
    addresses: [...some.addresses, ...others.addresses],
    goodForMillis: Math.min(some.goodForMillis, others.goodForMillis)
  }
}

/**
 * Finds the addresses of a name, again and again. It fails where it cannot tell; that there are none is an answer.
 *
 * A family that DNS fails to answer for keeps its last addresses while there are some of the other. Where DNS has never known an address, the
 * system is asked, which has a hosts file and search domains. Where DNS once has, it is believed when it knows none any more.
 */
const finder = ({ dns, timeToLive }: Services, name: string): Effect.Effect<Addresses, Dns.DnsError> => {
  const unknown = none(notFound(name, "addresses", undefined))
  const last = { A: unknown, AAAA: unknown }
  let isInDns = false
  let isInSystem = false

  const ask = Effect.fnUntraced(function*(type: "A" | "AAAA") {
    const records = listed(theResolve, yield* effectOf(theResolve, () => dns.resolve(name, type)))
    isInDns = true
    return {
      addresses: records.map(({ address }) => NetAddress.formatIp(address)),
      goodForMillis: yield* goodFor(timeToLive, name, type)
    }
  })
  const refreshed = (type: "A" | "AAAA") =>
    ask(type).pipe(
      Effect.catchIf(isNotFound, (error) => Effect.succeed(none(notFound(name, "addresses", error)))),
      Effect.map((found) => {
        last[type] = found
        return undefined
      }),
      Effect.catch(Effect.succeed)
    )

  const askSystem = (name: string) =>
    Effect.map(effectOf(theLookup, () => dns.lookup(name)), (found): Addresses => {
      const addresses = listed(theLookup, found).map(NetAddress.formatIp)
      isInSystem = true
      return { addresses, goodForMillis: unknownTimeToLive }
    })

  // DNS is not to be asked about it, and where it is not there, would be waited for. The hosts file has it without a dot at the end.
  if (/(^|\.)localhost\.?$/.test(name)) return askSystem(name.replace(/\.$/, ""))

  return Effect.gen(function*() {
    const [failure4, failure6] = yield* Effect.all([refreshed("A"), refreshed("AAAA")], { concurrency: 2 })
    const failure = failure4 ?? failure6
    const found = both(last.A, last.AAAA)
    const isAnswered = failure4 === undefined || failure6 === undefined
    if (isAnswered && found.addresses.length > 0) {
      const missing = failure4 !== undefined ? "A" : "AAAA"
      // Those that it has had stay.
      return failure === undefined || last[missing].addresses.length > 0
        ? found
        : { ...found, problem: `the ${missing} records of "${name}" cannot be found out: ${failure.message}` }
    }
    if (isInDns) return failure === undefined ? found : yield* failure
    const system = yield* Effect.result(askSystem(name))
    if (Result.isSuccess(system)) return system.success
    if (failure !== undefined) return yield* failure
    // A system that cannot reach its own name servers knows nothing of a name that was never there.
    return isInSystem && !isNotFound(system.failure) ? yield* system.failure : found
  })
}

const isNotFound = (error: Dns.DnsError): boolean => error.reason === "NotFound"

// ---- Resolvers.

const make = Effect.fnUntraced(function*(
  settings: Settings,
  what: string,
  look: (services: Services) => Effect.Effect<Look, Dns.DnsError>
) {
  const services = { dns: yield* Dns.Dns, timeToLive: yield* DnsTimeToLive }
  let isEmpty = false
  let hadSome = false

  const checked = look(services).pipe(
    Effect.mapError((cause) =>
      new ResolverError({ message: `the ${what} cannot be found out: ${cause.message}`, cause })
    ),
    Effect.flatMap(Effect.fnUntraced(function*({ endpoints, goodForMillis, problem }) {
      if (endpoints.length === 0 && hadSome && settings.keepsLast) {
        return yield* new ResolverError({ message: `DNS knows no ${what} any more` })
      }
      // A name with a typing error has no addresses either.
      if (endpoints.length === 0 && !isEmpty) {
        yield* logged(Effect.logWarning(`DNS knows no ${what}: there are no endpoints`))
      }
      isEmpty = endpoints.length === 0
      hadSome ||= !isEmpty
      return { endpoints, goodForMillis: clamp(settings, goodForMillis), problem }
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
  return yield* make(
    settings,
    `addresses of "${name}"`,
    (services) =>
      Effect.map(finder(services, name), ({ addresses, goodForMillis, problem }) => ({
        endpoints: sorted(addresses.map((address) => Endpoint.tcp(formatTcp(address, port)))),
        goodForMillis,
        problem
      }))
  )
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
    let targets = new Map<string, Target>()

    const find = (target: Target) =>
      target.find.pipe(
        Effect.map((found) => {
          target.last = found
          return undefined
        }),
        Effect.catch(Effect.succeed)
      )

    return Effect.gen(function*() {
      let missing: Dns.DnsError | undefined
      const asked = Effect.map(
        effectOf(theResolve, () => dns.resolve(name, "SRV")),
        (records) => listed(theResolve, records)
      )
      const records = yield* Effect.catchIf(asked, isNotFound, (error) => {
        missing = error
        return Effect.succeed([])
      })
      // The root as the only target says that the service is not offered.
      const offered = records.filter(({ target }) => target !== ".")
      targets = new Map(
        offered.map((
          { target }
        ) => [target, targets.get(target) ?? { find: finder(services, target), last: undefined }])
      )
      const failures = yield* Effect.forEach(targets.values(), find, { concurrency })
      const problems = [...targets].flatMap(([target, { last }], i) => {
        if (last !== undefined && last.addresses.length > 0) return []
        const failure = failures[i]
        return failure === undefined
          ? last?.problem ?? []
          : `the addresses of "${target}" cannot be found out: ${failure.message}`
      })
      if (records.length === 0) problems.push(notFound(name, "SRV records", missing))
      else if (offered.length === 0) problems.push(`"${name}" is not offered: the target of its SRV record is "."`)
      const failure = failures.find((failure) => failure !== undefined)
      // Those that were never found are left out, unless that leaves nothing.
      if (failure !== undefined && ![...targets.values()].some(({ last }) => last !== undefined)) return yield* failure
      return {
        endpoints: endpointsOf(offered, (target) => targets.get(target)?.last?.addresses ?? []),
        goodForMillis: [...targets.values()].reduce(
          (least, { last }) => Math.min(least, last?.goodForMillis ?? unknownTimeToLive),
          yield* goodFor(timeToLive, name, "SRV")
        ),
        problem: joined(problems)
      }
    })
  })
})

/** What a SRV record points to, and the addresses that it had last. */
interface Target {
  readonly find: Effect.Effect<Addresses, Dns.DnsError>
  last: Addresses | undefined
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
