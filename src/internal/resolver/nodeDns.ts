/**
 * Effect's `Dns` by `node:dns`, which also tells the time to live of addresses. It knows no resolver of this package.
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
import { positiveMillis, wholeNumber } from "../options.ts"
import { nowMillis } from "../time/clock.ts"
import { attempt } from "../userError.ts"
import { DnsTimeToLive, type TimeToLive } from "./ttl.ts"

/**
 * Which name servers `Resolver.layerDns` asks, and how long it waits for them.
 *
 * **Details**
 *
 * All of them are optional. An invalid option is a defect that names the option. An invalid name server is a
 * `NetAddressError` of the layer.
 *
 * @category models
 * @since 0.1.0
 */
export interface DnsServerOptions {
  /**
   * The IP addresses of the name servers, with a port if it is not 53: `10.0.0.53`, `[2001:db8::53]:5353`. Default: the
   * current name servers of the system.
   *
   * **Details**
   *
   * When the name servers of the system change, for example with another network, the new ones are asked within a
   * second, also the questions that the old ones have not answered. `dns.setServers` has no effect.
   */
  readonly nameServers?: ReadonlyArray<string> | undefined
  /**
   * How long the first try waits for an answer. Each further try waits longer. Default: the value of the system's
   * configuration, or 2 seconds.
   */
  readonly timeout?: Duration.Input | undefined
  /**
   * How often each server is asked. Default: 4. With the defaults, a server that does not answer takes 24 seconds in
   * all.
   */
  readonly tries?: number | undefined
}

/** The reasons that belong to the codes of Node and c-ares. */
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

/** The shortest time between two looks at the name servers of the system. A look takes 60 microseconds. */
const serversMillis = 100

/**
 * How often there is such a look while a question waits for its answer: name servers that are gone may never answer.
 */
const whileWaiting = "1 second"

/** The name server that c-ares asks if it finds none: this host. */
const noServers = "127.0.0.1"

/** At most this many times to live are kept: many more than a program has resolvers. */
const maxTtls = 4096

const withoutDot = (name: string): string => name.endsWith(".") ? name.slice(0, -1) : name

/** A name in its one normal form. */
const normalized = (name: string): string => withoutDot(Result.getOrElse(Host.domainNameFromString(name), () => name))

/**
 * Addresses without their zones, which Effect's addresses do not have. Addresses that Effect cannot read are left out.
 */
const parseIps = (addresses: ReadonlyArray<string>): ReadonlyArray<NetAddress.IpAddress> =>
  addresses.flatMap((address) => {
    const parsed = NetAddress.ipFromString(address.replace(/%.*/, ""))
    return Result.isSuccess(parsed) ? [parsed.success] : []
  })

/** One question at a time for each key: all callers that ask meanwhile get its answer. */
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
  // A resolver of Node keeps its name servers, and knows which of them answer. So it is replaced only if the system has
  // other name servers.
  let resolver: dns.promises.Resolver = yield* Effect.acquireRelease(
    Effect.sync(makeResolver),
    () => Effect.sync(() => resolver.cancel())
  )
  const serversOf = (made: dns.promises.Resolver) => made.getServers().join()
  let lookedAt = nowMillis(clock)
  /** Whether the last look has found no name servers: while the system's file is replaced, it has none for a moment. */
  let hadNone = false

  /** The resolver with the name servers that the system has now. Questions to the others are cancelled. */
  const current = (): dns.promises.Resolver => {
    const now = nowMillis(clock)
    if (isFixed || now - lookedAt < serversMillis) return resolver
    lookedAt = now
    // If they cannot be read, the known ones stay.
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

  /** Asks, and asks again if the name servers have changed meanwhile. */
  const ask = <A>(query: (of: dns.promises.Resolver) => Promise<A>): Promise<A> => {
    const of = current()
    return query(of).catch((error: unknown) => {
      if (of !== resolver && isCancelled(error)) return ask(query)
      throw error
    })
  }

  const lookups = makeShared<ReadonlyArray<dns.LookupAddress>>()
  const resolves = makeShared<ReadonlyArray<Dns.DnsRecord>>()

  /** Runs while a question waits for its answer. */
  const following = Effect.forever(Effect.andThen(Effect.sleep(whileWaiting), Effect.sync(current)))

  /** Times to live in seconds, by type and name. The oldest come first. */
  const ttls = new Map<string, number>()
  const keyOf = (name: string, type: Dns.RecordType) => `${type} ${normalized(name)}`
  const keepTtl = (key: string, found: ReadonlyArray<number>) => {
    ttls.delete(key)
    if (found.length > 0) ttls.set(key, Math.min(...found))
    for (const oldest of ttls.keys()) {
      if (ttls.size <= maxTtls) break
      ttls.delete(oldest)
    }
  }

  const queries: Partial<Record<Dns.RecordType, (name: string) => Promise<ReadonlyArray<Dns.DnsRecord>>>> = {
    A: (name) =>
      ask((resolver) => resolver.resolve4(name, { ttl: true })).then((found) => {
        keepTtl(keyOf(name, "A"), found.map(({ ttl }) => ttl))
        return parseIps(found.map(({ address }) => address)).filter(NetAddress.isIpv4Address).map((address) =>
          Dns.makeRecordUnsafe("A", { address })
        )
      }),
    AAAA: (name) =>
      ask((resolver) => resolver.resolve6(name, { ttl: true })).then((found) => {
        keepTtl(keyOf(name, "AAAA"), found.map(({ ttl }) => ttl))
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
          // First, because the pending question may wait for name servers that are gone.
          current()
          return resolves(keyOf(name, type), () => query(name))
        },
        catch: failed("resolve", name, type)
      })
      return isFixed ? asked : Effect.raceFirst(asked, following)
    }
  })

  const timeToLive: TimeToLive = (name, type) =>
    Effect.sync(() => Option.map(Option.fromUndefinedOr(ttls.get(keyOf(name, type))), Duration.seconds))

  return Context.add(Context.make(Dns.Dns, service), DnsTimeToLive, timeToLive)
})
