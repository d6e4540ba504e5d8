/**
 * DNS by Node's `node:dns`, which tells how long the addresses of a name are good.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Dns from "effect/net/Dns"
import * as Host from "effect/net/Host"
import * as NetAddress from "effect/net/NetAddress"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as dns from "node:dns"
import type { DnsServerOptions } from "../../Resolver.ts"
import { positiveMillis, wholeNumber } from "../options.ts"
import { nowMillis } from "../time/clock.ts"
import { attempt } from "../userError.ts"
import { DnsTimeToLive, type TimeToLive } from "./timeToLive.ts"

/** What the codes of Node and c-ares mean. */
const reasons: ReadonlyMap<string, Dns.DnsErrorReason> = new Map([
  ["ENOTFOUND", "NotFound"],
  ["ENODATA", "NotFound"],
  ["ETIMEOUT", "Timeout"],
  ["EAI_AGAIN", "Temporary"],
  ["EAI_FAIL", "Refused"],
  ["ESERVFAIL", "ServerFailure"],
  ["EREFUSED", "Refused"],
  ["ECONNREFUSED", "Refused"],
  ["EBADNAME", "BadName"],
  ["EBADRESP", "InvalidResponse"],
  ["EFORMERR", "InvalidResponse"]
])

const failed = (method: Dns.DnsError["method"], hostname: string, recordType?: Dns.RecordType) => (cause: unknown) => {
  const code = cause instanceof Error && "code" in cause ? String(cause.code) : ""
  return new Dns.DnsError({ reason: reasons.get(code) ?? "Unknown", method, hostname, recordType, cause })
}

/** So often at most it is looked whether the system has other name servers by now: it takes 60 microseconds. */
const serversMillis = 100

/** So often it is looked while an answer is waited for: name servers that have gone may never give one. */
const whileWaiting = "1 second"

/** What c-ares asks where it finds no name server: this host. */
const noServers = "127.0.0.1"

/** So many answers' times to live are remembered: many more than a program has resolvers. */
const remembered = 4096

const withoutDot = (name: string): string => name.endsWith(".") ? name.slice(0, -1) : name

/** A name as it is asked for, whatever way it is written. */
const normalized = (name: string): string => withoutDot(Result.getOrElse(Host.domainNameFromString(name), () => name))

/** Addresses without the zone, which Effect's do not have. Those that it cannot read are left out. */
const parseIps = (addresses: ReadonlyArray<string>): ReadonlyArray<NetAddress.IpAddress> =>
  addresses.flatMap((address) => {
    const parsed = NetAddress.ipFromString(address.replace(/%.*/, ""))
    return Result.isSuccess(parsed) ? [parsed.success] : []
  })

/** Whoever asks for what is being asked for gets that answer: what is silent is not asked again and again. */
const makeShared = <A>() => {
  const underWay = new Map<string, Promise<A>>()
  return (key: string, ask: () => Promise<A>): Promise<A> => {
    const known = underWay.get(key)
    if (known !== undefined) return known
    const asked = ask().finally(() => underWay.delete(key))
    underWay.set(key, asked)
    return asked
  }
}

export const nodeDns = Effect.fnUntraced(function*(options: DnsServerOptions | undefined) {
  const nameServers = yield* Effect.forEach(
    options?.nameServers ?? [],
    (server) => Effect.fromResult(Dns.nameServerFromInput(server))
  )
  const isFixed = nameServers.length > 0
  const timeout = options?.timeout
  const tries = options?.tries
  const makeResolver = () => {
    const made = new dns.promises.Resolver({
      ...(timeout !== undefined && { timeout: Math.ceil(positiveMillis("timeout", timeout, timeout)) }),
      ...(tries !== undefined && { tries: wholeNumber("tries", tries, 1, 1) })
    })
    if (isFixed) made.setServers(nameServers.map(NetAddress.formatInet))
    return made
  }
  const clock = yield* Clock.Clock
  // It keeps the name servers that it began with, and knows which of them answer: another one takes its place only
  // where the system has others.
  let resolver: dns.promises.Resolver = yield* Effect.acquireRelease(
    Effect.sync(makeResolver),
    () => Effect.sync(() => resolver.cancel())
  )
  const serversOf = (made: dns.promises.Resolver) => made.getServers().join()
  let lookedAt = nowMillis(clock)
  /** Whether there were none at the last look: a file that is being replaced has none for a moment. */
  let hadNone = false

  /** The resolver with the name servers of now. What was asked of others is asked again. */
  const current = (): dns.promises.Resolver => {
    const now = nowMillis(clock)
    if (isFixed || now - lookedAt < serversMillis) return resolver
    lookedAt = now
    // Where it cannot be found out, those that are known do.
    const fresh = attempt(makeResolver, resolver)
    const found = serversOf(fresh)
    const hasNone = found === noServers
    const isDoubtful = hasNone && !hadNone
    hadNone = hasNone
    if (isDoubtful || found === serversOf(resolver)) return resolver
    const old = resolver
    resolver = fresh
    old.cancel()
    return fresh
  }

  const isCancelled = (error: unknown) => error instanceof Error && "code" in error && error.code === "ECANCELLED"

  const ask = <A>(query: (of: dns.promises.Resolver) => Promise<A>): Promise<A> => {
    const of = current()
    return query(of).catch((error: unknown) => {
      if (of !== resolver && isCancelled(error)) return ask(query)
      throw error
    })
  }

  const lookups = makeShared<ReadonlyArray<dns.LookupAddress>>()
  const resolves = makeShared<ReadonlyArray<Dns.DnsRecord>>()

  /** Goes on as long as an answer is waited for. */
  const following = Effect.forever(Effect.andThen(Effect.sleep(whileWaiting), Effect.sync(current)))

  // By type and name, in the order in which they were learned.
  const seconds = new Map<string, number>()
  const keyOf = (name: string, type: Dns.RecordType) => `${type} ${normalized(name)}`
  const remember = (key: string, ttls: ReadonlyArray<number>) => {
    seconds.delete(key)
    if (ttls.length > 0) seconds.set(key, Math.min(...ttls))
    for (const oldest of seconds.keys()) {
      if (seconds.size <= remembered) break
      seconds.delete(oldest)
    }
  }

  const queries: Partial<Record<Dns.RecordType, (name: string) => Promise<ReadonlyArray<Dns.DnsRecord>>>> = {
    A: (name) =>
      ask((resolver) => resolver.resolve4(name, { ttl: true })).then((found) => {
        remember(keyOf(name, "A"), found.map(({ ttl }) => ttl))
        return parseIps(found.map(({ address }) => address)).filter(NetAddress.isIpv4Address).map((address) =>
          Dns.makeRecordUnsafe("A", { address })
        )
      }),
    AAAA: (name) =>
      ask((resolver) => resolver.resolve6(name, { ttl: true })).then((found) => {
        remember(keyOf(name, "AAAA"), found.map(({ ttl }) => ttl))
        return parseIps(found.map(({ address }) => address)).filter(NetAddress.isIpv6Address).map((address) =>
          Dns.makeRecordUnsafe("AAAA", { address })
        )
      }),
    SRV: (name) =>
      ask((resolver) => resolver.resolveSrv(name)).then((found) =>
        found.flatMap(({ name, port, priority, weight }) => {
          const target = Host.domainNameFromString(`${withoutDot(name)}.`)
          return Result.isSuccess(target)
            ? [Dns.makeRecordUnsafe("SRV", { target: target.success, port, priority, weight })]
            : []
        })
      )
  }

  const service = Dns.make({
    lookup: (host, family) =>
      Effect.tryPromise({
        try: () =>
          lookups(`${family ?? "any"} ${host}`, () =>
            dns.promises.lookup(host, {
              all: true,
              family: family === undefined ? 0 : family === "IPv4" ? 4 : 6,
              order: "verbatim"
            })),
        catch: failed("lookup", host)
      }).pipe(Effect.map((found) => parseIps(found.map(({ address }) => address)))),
    resolve: (name, type) => {
      const query = queries[type]
      if (query === undefined) {
        return Effect.fail(
          new Dns.DnsError({ reason: "Unsupported", method: "resolve", hostname: name, recordType: type })
        )
      }
      const asked = Effect.tryPromise({
        try: () => {
          // First: what is under way may be of name servers that have gone.
          current()
          return resolves(keyOf(name, type), () => query(name))
        },
        catch: failed("resolve", name, type)
      })
      return isFixed ? asked : Effect.raceFirst(asked, following)
    }
  })

  const timeToLive: TimeToLive = (name, type) =>
    Effect.sync(() => Option.map(Option.fromUndefinedOr(seconds.get(keyOf(name, type))), Duration.seconds))

  return Context.add(Context.make(Dns.Dns, service), DnsTimeToLive, timeToLive)
})
