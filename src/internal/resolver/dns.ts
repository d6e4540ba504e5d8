/**
 * A resolver of the addresses of a name, and the parts that it shares with the resolver of SRV records: options,
 * polling, and how an empty answer is handled. It does not know how DNS is asked.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Dns from "effect/net/Dns"
import * as Host from "effect/net/Host"
import * as Result from "effect/Result"
import { isIP } from "node:net"
import * as Endpoint from "../../Endpoint.ts"
import { logged } from "../log.ts"
import { formatTcp, parseTcp } from "../net/address.ts"
import { invalid, positiveMillis } from "../options.ts"
import { type Addresses, finder } from "./dnsAddresses.ts"
import type { Services } from "./dnsService.ts"
import { sorted } from "./endpoints.ts"
import { constant, InvalidResolver, type Resolver, ResolverError } from "./model.ts"
import { type Later, type Look, polled } from "./polled.ts"
import { defaultTtlMillis, DnsTimeToLive } from "./ttl.ts"

/**
 * How often `Resolver.dns` and `Resolver.dnsSrv` ask DNS, and what an empty answer means.
 *
 * **Details**
 *
 * All of them are optional. An invalid option is a defect that names the option.
 *
 * @category models
 * @since 0.1.0
 */
export interface DnsOptions {
  /**
   * The time from an answer to the next question. It is the time to live of the answer (5 seconds if that is not known,
   * see `Resolver.layerDns`), but at least `min` and at most `max`.
   */
  readonly interval?: {
    /**
     * The shortest time between two questions. It also limits how often DNS is asked because an endpoint was lost.
     * Default: 1 second.
     */
    readonly min?: Duration.Input | undefined
    /** The longest time between two questions. Default: 30 seconds, or `min` if that is longer. */
    readonly max?: Duration.Input | undefined
  } | undefined
  /**
   * What it means if DNS answers that a name has no addresses. `"accept"`: there are no endpoints any more. `"keep"`:
   * the last endpoints stay, as they always do when DNS fails. Default: `"accept"`.
   */
  readonly onEmpty?: "accept" | "keep" | undefined
}

export interface Settings {
  readonly minMillis: number
  readonly maxMillis: number
  readonly keepsLast: boolean
}

export const settingsOf = (options: DnsOptions | undefined): Settings => {
  const minMillis = positiveMillis("interval.min", options?.interval?.min, "1 second")
  const maxMillis = positiveMillis("interval.max", options?.interval?.max, Math.max(minMillis, 30_000))
  if (maxMillis < minMillis) invalid("interval.max", `${maxMillis} ms`, `no less than interval.min, ${minMillis} ms`)
  const onEmpty = options?.onEmpty ?? "accept"
  if (onEmpty !== "accept" && onEmpty !== "keep") invalid("onEmpty", onEmpty, `"accept" or "keep"`)
  return { minMillis, maxMillis, keepsLast: onEmpty === "keep" }
}

const clamp = ({ maxMillis, minMillis }: Settings, millis: number): number =>
  Math.min(Math.max(millis, minMillis), maxMillis)

/** One look at DNS. Answers that come after its end go to `later`. */
export type Looks = (later: Later) => Effect.Effect<Look, Dns.DnsError>

/**
 * The kinds of answers that DNS has given so far:
 *
 *     unasked ──▶ empty ──▶ some ◀──▶ emptied
 *        └───────────────────▲
 */
type Answered = "unasked" | "empty" | "some" | "emptied"

/** The resolver of the endpoints that `looks` finds. `what` names them in errors and logs. */
export const makeResolver = Effect.fnUntraced(
  function*(settings: Settings, what: string, looks: (services: Services) => Looks) {
    const look = looks({ dns: yield* Dns.Dns, timeToLive: yield* DnsTimeToLive })
    let answered: Answered = "unasked"

    const accept = (found: Look): Look => {
      const isFirst = answered === "unasked" || answered === "empty"
      answered = found.endpoints.length > 0 ? "some" : isFirst ? "empty" : "emptied"
      return { ...found, ttlMillis: clamp(settings, found.ttlMillis) }
    }

    const check = Effect.fnUntraced(function*(found: Look) {
      if (found.endpoints.length > 0) return accept(found)
      const hadSome = answered === "some" || answered === "emptied"
      if (hadSome && settings.keepsLast) {
        return yield* new ResolverError({ message: `DNS knows no ${what} any more` })
      }
      // Not a failure, but worth a warning: a misspelled name has no addresses either.
      if (answered === "unasked" || answered === "some") {
        yield* logged(Effect.logWarning(`DNS knows no ${what}: there are no endpoints`))
      }
      return accept(found)
    })

    const { resolver } = yield* polled({
      kind: "dns",
      look: (later) =>
        look({ ...later, tell: (found) => later.tell(accept(found)) }).pipe(
          Effect.mapError((cause) =>
            new ResolverError({ message: `the ${what} cannot be looked up: ${cause.message}`, cause })
          ),
          Effect.flatMap(check)
        ),
      leastMillis: settings.minMillis,
      retryMillis: clamp(settings, defaultTtlMillis)
    })
    return resolver
  }
)

/** Reads a domain name that is a part of `text`. */
export const parseName = (host: string, text: string, expected: string): Effect.Effect<string, InvalidResolver> =>
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

/** The addresses of one name, with a port. */
export const dns = Effect.fnUntraced(function*(
  target: string,
  options: DnsOptions | undefined
): Effect.fn.Return<Resolver, InvalidResolver, Dns.Dns> {
  const settings = settingsOf(options)
  const parsed = parseTcp("tcp", target)
  if (Result.isFailure(parsed)) return yield* new InvalidResolver({ message: parsed.failure, text: target })
  const { host, port } = parsed.success
  if (isIP(host) !== 0) return constant([Endpoint.tcp(formatTcp(host, port))])
  const name = yield* parseName(host, target, `"host:port"`)
  const lookOf = ({ addresses, problem, ttlMillis }: Addresses): Look => ({
    endpoints: sorted(addresses.map((address) => Endpoint.tcp(formatTcp(address, port)))),
    ttlMillis,
    problem
  })
  return yield* makeResolver(settings, `addresses of "${name}"`, (services) => {
    const find = finder(services, name)
    return (later) => Effect.map(find(later, (found) => later.tell(lookOf(found))), lookOf)
  })
})
