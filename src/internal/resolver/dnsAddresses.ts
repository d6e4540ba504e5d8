/**
 * The addresses of one name, by DNS.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Dns from "effect/net/Dns"
import * as NetAddress from "effect/net/NetAddress"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import { effectOf, unexpected } from "../guard.ts"
import { textOf } from "../userError.ts"
import type { Later } from "./polled.ts"
import { Sought, waitFor } from "./sought.ts"
import type { TimeToLive } from "./timeToLive.ts"

/** The default TTL: how long an answer is good where its records do not say. */
export const unknownTimeToLive = 5000

/**
 * Once one family is answered, the other is waited for so long: the resolution delay of RFC 8305. Where the answer has
 * no addresses, or is a failure, it is worth waiting for longer.
 */
const familyWaits = { graceMillis: 50, patienceMillis: 5000 }

/**
 * Whatever Dns it is: so long it may take. Node's own is done sooner, unless there are several name servers that all
 * are silent.
 */
const longestQuery = "1 minute"

/** What a `Dns`, which may be of a user's own, is asked for. */
export const theResolve = "the resolve of Dns"
const theLookup = "the lookup of Dns"

/** What it has answered. Whatever its type says, it may be anything. */
export const listed = <A>(what: string, given: ReadonlyArray<A>): ReadonlyArray<A> => {
  if (!Array.isArray(given)) throw unexpected(what, "an array", given)
  return given
}

export interface Services {
  readonly dns: Dns.Dns["Service"]
  readonly timeToLive: TimeToLive
}

export interface Addresses {
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
export const notFound = (name: string, records: string, error: Dns.DnsError | undefined): string => {
  if (error === undefined) return `"${name}" has no ${records} in DNS`
  const code = codeOf(error)
  // Others may mean that it is there, with other records.
  return code === "ENOTFOUND" ? `"${name}" is not in DNS (ENOTFOUND)` : `"${name}" has no ${records} in DNS (${code})`
}

export const isNotFound = (error: Dns.DnsError): boolean => error.reason === "NotFound"

export const goodFor = (
  timeToLive: TimeToLive,
  name: string,
  type: "A" | "AAAA" | "SRV"
): Effect.Effect<number> =>
  Effect.map(
    effectOf("the time to live of DNS", () => timeToLive(name, type)),
    (found) => Option.isSome(found) ? Duration.toMillis(found.value) : unknownTimeToLive
  )

/** The failure of what has not been answered in time. */
const silent = (hostname: string, recordType: Dns.RecordType | undefined): Dns.DnsError =>
  new Dns.DnsError({
    reason: "Timeout",
    method: recordType === undefined ? "lookup" : "resolve",
    hostname,
    recordType
  })

export const inTime = <A>(
  effect: Effect.Effect<A, Dns.DnsError>,
  name: string,
  type?: Dns.RecordType
): Effect.Effect<A, Dns.DnsError> =>
  Effect.timeoutOrElse(effect, { duration: longestQuery, orElse: () => Effect.fail(silent(name, type)) })

const both = (some: Addresses, others: Addresses): Addresses => {
  if (some.addresses.length === 0) return others
  if (others.addresses.length === 0) return some
  return {
    addresses: [...some.addresses, ...others.addresses],
    goodForMillis: Math.min(some.goodForMillis, others.goodForMillis)
  }
}

class Family extends Sought<Addresses> {
  readonly type: "A" | "AAAA"

  constructor(type: "A" | "AAAA") {
    super()
    this.type = type
  }

  /** Whether the last query of it was answered. */
  get isAnswered(): boolean {
    return !this.isUnderWay && this.failure === undefined && this.defect === undefined
  }

  get hasAddresses(): boolean {
    return this.last !== undefined && this.last.addresses.length > 0
  }
}

/** Finds the addresses; `tell` hears of those that come when a look has ended without them. */
export type Finder = (later: Later, tell: (found: Addresses) => void) => Effect.Effect<Addresses, Dns.DnsError>

/**
 * Finds the addresses of a name, again and again. It fails where it cannot tell; that there are none is an answer.
 *
 * Both families are asked for at once. Where one is answered and the other is not, the addresses of the one do, with
 * the last ones of the other. A family that DNS fails to answer for, or has not answered yet, keeps its last addresses
 * while there are some of the other. Where DNS has never known an address, the system is asked, which has a hosts file
 * and search domains. Where DNS once has, it is believed when it knows none any more.
 */
export const finder = ({ dns, timeToLive }: Services, name: string): Finder => {
  const unknown = none(notFound(name, "addresses", undefined))
  const A = new Family("A")
  const AAAA = new Family("AAAA")
  const families = [A, AAAA]
  let isLooking = false
  let isInDns = false
  let isInSystem = false

  const query = Effect.fnUntraced(function*(type: "A" | "AAAA") {
    const records = listed(theResolve, yield* effectOf(theResolve, () => dns.resolve(name, type)))
    isInDns = true
    return {
      addresses: records.map(({ address }) => NetAddress.formatIp(address)),
      goodForMillis: yield* goodFor(timeToLive, name, type)
    }
  })
  const ask = (type: "A" | "AAAA"): Effect.Effect<Addresses, Dns.DnsError> =>
    Effect.catchIf(
      inTime(query(type), name, type),
      isNotFound,
      (error) => Effect.succeed(none(notFound(name, "addresses", error)))
    )

  const askSystem = (name: string) =>
    Effect.map(inTime(effectOf(theLookup, () => dns.lookup(name)), name), (found): Addresses => {
      const addresses = listed(theLookup, found).map(NetAddress.formatIp)
      isInSystem = true
      return { addresses, goodForMillis: unknownTimeToLive }
    })

  // DNS is not to be asked about it, and where it is not there, would be waited for. The hosts file has it without a
  // dot at the end.
  if (/(^|\.)localhost\.?$/.test(name)) return () => askSystem(name.replace(/\.$/, ""))

  const known = () => both(A.last ?? unknown, AAAA.last ?? unknown)

  /** The addresses that can be used, as far as DNS has answered. */
  const usable = (): Addresses | undefined => {
    const found = known()
    if (found.addresses.length === 0 || !families.some(({ isAnswered }) => isAnswered)) return undefined
    const missing = families.find(({ isAnswered }) => !isAnswered)
    // Those that it has had stay.
    if (missing === undefined || missing.hasAddresses) return found
    if (missing.failure !== undefined) {
      return {
        ...found,
        problem: `the ${missing.type} records of "${name}" cannot be found out: ${textOf(missing.failure)}`
      }
    }
    if (missing.last !== undefined) return found
    return { ...found, problem: `the ${missing.type} records of "${name}" are not known yet: DNS has not answered` }
  }

  return (later, tell) =>
    Effect.gen(function*() {
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
      const failure = missing && (missing.failure ?? silent(name, missing.type))
      if (isInDns) return failure === undefined ? known() : yield* failure
      const system = yield* Effect.result(askSystem(name))
      // It may have come meanwhile.
      const late = usable()
      if (late !== undefined) return late
      if (Result.isSuccess(system)) return system.success
      if (failure !== undefined) return yield* failure
      // A system that cannot reach its own name servers knows nothing of a name that was never there.
      return isInSystem && !isNotFound(system.failure) ? yield* system.failure : known()
    }).pipe(
      Effect.ensuring(Effect.sync(() => {
        isLooking = false
      }))
    )
}
