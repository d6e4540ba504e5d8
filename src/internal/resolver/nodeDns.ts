/**
 * DNS by Node's `node:dns`, which tells how long the addresses of a name are good.
 */
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

export const nodeDns = Effect.fnUntraced(function*(options: DnsServerOptions | undefined) {
  const nameServers = yield* Effect.forEach(
    options?.nameServers ?? [],
    (server) => Effect.fromResult(Dns.nameServerFromInput(server))
  )
  const timeout = options?.timeout
  const tries = options?.tries
  const resolver = yield* Effect.acquireRelease(
    Effect.sync(() => {
      const made = new dns.promises.Resolver({
        ...(timeout !== undefined && { timeout: Math.ceil(positiveMillis("timeout", timeout, timeout)) }),
        ...(tries !== undefined && { tries: wholeNumber("tries", tries, 1, 1) })
      })
      if (nameServers.length > 0) made.setServers(nameServers.map(NetAddress.formatInet))
      return made
    }),
    (made) => Effect.sync(() => made.cancel())
  )

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
      resolver.resolve4(name, { ttl: true }).then((found) => {
        remember(keyOf(name, "A"), found.map(({ ttl }) => ttl))
        return parseIps(found.map(({ address }) => address)).filter(NetAddress.isIpv4Address).map((address) =>
          Dns.makeRecordUnsafe("A", { address })
        )
      }),
    AAAA: (name) =>
      resolver.resolve6(name, { ttl: true }).then((found) => {
        remember(keyOf(name, "AAAA"), found.map(({ ttl }) => ttl))
        return parseIps(found.map(({ address }) => address)).filter(NetAddress.isIpv6Address).map((address) =>
          Dns.makeRecordUnsafe("AAAA", { address })
        )
      }),
    SRV: (name) =>
      resolver.resolveSrv(name).then((found) =>
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
          dns.promises.lookup(host, {
            all: true,
            family: family === undefined ? 0 : family === "IPv4" ? 4 : 6,
            order: "verbatim"
          }),
        catch: failed("lookup", host)
      }).pipe(Effect.map((found) => parseIps(found.map(({ address }) => address)))),
    resolve: (name, type) => {
      const query = queries[type]
      return query === undefined
        ? Effect.fail(new Dns.DnsError({ reason: "Unsupported", method: "resolve", hostname: name, recordType: type }))
        : Effect.tryPromise({ try: () => query(name), catch: failed("resolve", name, type) })
    }
  })

  const timeToLive: TimeToLive = (name, type) =>
    Effect.sync(() => Option.map(Option.fromUndefinedOr(seconds.get(keyOf(name, type))), Duration.seconds))

  return Context.add(Context.make(Dns.Dns, service), DnsTimeToLive, timeToLive)
})
