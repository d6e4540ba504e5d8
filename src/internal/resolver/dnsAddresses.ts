/**
 * The addresses of one name, by DNS or by the system. It knows no ports and no endpoints.
 */
import * as Effect from "effect/Effect"
import type * as Dns from "effect/net/Dns"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import { textOf } from "../userError.ts"
import { inTime, isNotFound, lookupAddresses, notFound, resolveRecords, type Services, timedOut } from "./dnsService.ts"
import type { Later } from "./polled.ts"
import { Query, waitFor } from "./query.ts"
import { defaultTtlMillis, ttlOf } from "./ttl.ts"

/**
 * How long a look waits for one family once the other is answered: the resolution delay of RFC 8305, or longer if the
 * answer is a failure or has no addresses.
 */
const familyWaits = { graceMillis: 50, patienceMillis: 5000 }

export interface Addresses {
  readonly addresses: ReadonlyArray<string>
  readonly ttlMillis: number
  /** Why there are no addresses, or not all of them. */
  readonly problem?: string
}

const none = (problem: string): Addresses => ({ addresses: [], ttlMillis: defaultTtlMillis, problem })

const both = (some: Addresses, others: Addresses): Addresses => {
  if (some.addresses.length === 0) return others
  if (others.addresses.length === 0) return some
  return {
    addresses: [...some.addresses, ...others.addresses],
    ttlMillis: Math.min(some.ttlMillis, others.ttlMillis)
  }
}

/** The addresses of one family, IPv4 or IPv6. */
class Family extends Query<Addresses> {
  readonly type: "A" | "AAAA"

  constructor(type: "A" | "AAAA") {
    super()
    this.type = type
  }

  /** Whether its last query was answered. */
  get isAnswered(): boolean {
    return !this.isUnderWay && this.failure === undefined && this.defect === undefined
  }

  get hasAddresses(): boolean {
    return this.last !== undefined && this.last.addresses.length > 0
  }
}

/** Finds the addresses. `tell` gets the answers that come after the end of the look. */
export type Finder = (later: Later, tell: (found: Addresses) => void) => Effect.Effect<Addresses, Dns.DnsError>

/**
 * The source that has ever known addresses of the name. If both have, it is the name servers.
 *
 *     none ──▶ system ──▶ nameServers
 *       └────────────────────▲
 */
type KnownBy = "none" | "system" | "nameServers"

/**
 * Finds the addresses of a name, each time that it is run. It fails if they cannot be looked up. That a name has no
 * addresses is an answer, not a failure.
 *
 * Both families are asked for at once. If only one is answered, its addresses and the last ones of the other family are
 * the result. The system, which has a hosts file and search domains, is asked only until the name servers have known
 * addresses once. After that, their answer without addresses is believed.
 */
export const finder = ({ dns, timeToLive }: Services, name: string): Finder => {
  const unknown = none(notFound(name, "addresses", undefined))
  const A = new Family("A")
  const AAAA = new Family("AAAA")
  const families = [A, AAAA]
  let isLooking = false
  let knownBy: KnownBy = "none"

  const query = Effect.fnUntraced(function*(type: "A" | "AAAA") {
    const records = yield* resolveRecords(dns, name, type)
    knownBy = "nameServers"
    return {
      addresses: records.map(({ address }) => NetAddress.formatIp(address)),
      ttlMillis: yield* ttlOf(timeToLive, name, type)
    }
  })

  const ask = (type: "A" | "AAAA"): Effect.Effect<Addresses, Dns.DnsError> =>
    Effect.catchIf(
      inTime(query(type), name, type),
      isNotFound,
      (error) => Effect.succeed(none(notFound(name, "addresses", error)))
    )

  const askSystem = (name: string) =>
    Effect.map(lookupAddresses(dns, name), (addresses): Addresses => {
      if (knownBy === "none") knownBy = "system"
      return { addresses, ttlMillis: defaultTtlMillis }
    })

  // Name servers are not asked for it: silent ones would delay the answer. The hosts file has the name without a dot at
  // the end.
  if (/(^|\.)localhost\.?$/.test(name)) return () => askSystem(name.replace(/\.$/, ""))

  const known = () => both(A.last ?? unknown, AAAA.last ?? unknown)

  /** The addresses that can be used, as far as the name servers have answered. */
  const usable = (): Addresses | undefined => {
    const found = known()
    if (found.addresses.length === 0 || !families.some(({ isAnswered }) => isAnswered)) return undefined
    const missing = families.find(({ isAnswered }) => !isAnswered)
    // The family that is missing keeps its last addresses.
    if (missing === undefined || missing.hasAddresses) return found
    if (missing.failure !== undefined) {
      return {
        ...found,
        problem: `the ${missing.type} records of "${name}" cannot be looked up: ${textOf(missing.failure)}`
      }
    }
    if (missing.last !== undefined) return found
    return { ...found, problem: `the ${missing.type} records of "${name}" are not known yet: DNS has not answered` }
  }

  const look = Effect.fnUntraced(function*(later: Later, tell: (found: Addresses) => void) {
    isLooking = true
    const old = new Set(families.filter(({ isUnderWay }) => isUnderWay))
    for (const family of families) {
      if (old.has(family)) continue
      yield* family.begin(later, ask(family.type), () => {
        const found = isLooking ? undefined : usable()
        if (found !== undefined) tell(found)
      })
    }
    yield* waitFor(families, old, () => usable() !== undefined, familyWaits)
    const defect = A.defect ?? AAAA.defect
    if (defect !== undefined) return yield* Effect.failCause(defect)
    const found = usable()
    if (found !== undefined) return found
    const missing = families.find(({ isAnswered }) => !isAnswered)
    const failure = missing && (missing.failure ?? timedOut(name, missing.type))
    if (knownBy === "nameServers") return failure === undefined ? known() : yield* failure
    const system = yield* Effect.result(askSystem(name))
    // An answer may have arrived meanwhile.
    const late = usable()
    if (late !== undefined) return late
    if (Result.isSuccess(system)) return system.success
    if (failure !== undefined) return yield* failure
    // If the system cannot reach its name servers, it has no answer about a name that it never knew.
    return knownBy !== "none" && !isNotFound(system.failure) ? yield* system.failure : known()
  })

  return (later, tell) =>
    Effect.ensuring(
      look(later, tell),
      Effect.sync(() => {
        isLooking = false
      })
    )
}
