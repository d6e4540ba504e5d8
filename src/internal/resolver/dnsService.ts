/**
 * Questions to Effect's `Dns`: with a time limit, checked answers, and texts for their failures.
 *
 * It knows no resolver.
 */
import * as Effect from "effect/Effect"
import * as Dns from "effect/net/Dns"
import * as NetAddress from "effect/net/NetAddress"
import { effectOf, unexpected } from "../guard.ts"
import type { RecordType, TimeToLive } from "./ttl.ts"

export interface Services {
  readonly dns: Dns.Dns["Service"]
  readonly timeToLive: TimeToLive
}

/**
 * The time limit of one question, for any `Dns`. Node's `Dns` takes less, unless there are several name servers and
 * none of them answers.
 */
const longestQuery = "1 minute"

/** The names of the methods of `Dns` in errors. A `Dns` can be user code. */
const theResolve = "the resolve of Dns"
const theLookup = "the lookup of Dns"

/** Checks an answer: the types promise more than user code may keep. */
const listed = <A>(what: string, given: ReadonlyArray<A>): ReadonlyArray<A> => {
  if (!Array.isArray(given)) throw unexpected(what, "an array", given)
  return given
}

/** The failure of a question that was not answered in time. */
export const timedOut = (hostname: string, recordType?: Dns.RecordType): Dns.DnsError =>
  new Dns.DnsError({
    reason: "Timeout",
    method: recordType === undefined ? "lookup" : "resolve",
    hostname,
    recordType
  })

/** Fails a question that takes longer than {@link longestQuery}. */
export const inTime = <A>(
  effect: Effect.Effect<A, Dns.DnsError>,
  name: string,
  type?: Dns.RecordType
): Effect.Effect<A, Dns.DnsError> =>
  Effect.timeoutOrElse(effect, { duration: longestQuery, orElse: () => Effect.fail(timedOut(name, type)) })

/** Asks the name servers for the records of a name. The caller limits the time: see {@link inTime}. */
export const resolveRecords = <T extends RecordType>(
  dns: Services["dns"],
  name: string,
  type: T
): Effect.Effect<ReadonlyArray<Dns.RecordFor<T>>, Dns.DnsError> =>
  Effect.map(effectOf(theResolve, () => dns.resolve(name, type)), (records) => listed(theResolve, records))

/** Asks the system for the addresses of a name. It also knows its hosts file and its search domains. */
export const lookupAddresses = (
  dns: Services["dns"],
  name: string
): Effect.Effect<ReadonlyArray<string>, Dns.DnsError> =>
  inTime(
    Effect.map(
      effectOf(theLookup, () => dns.lookup(name)),
      (found) => listed(theLookup, found).map(NetAddress.formatIp)
    ),
    name
  )

/** The code of an error of DNS: Node's code, if there is one. */
const codeOf = ({ cause, reason }: Dns.DnsError): string =>
  cause instanceof Error && "code" in cause && typeof cause.code === "string" ? cause.code : reason

/** Says that DNS knows no records of a name. */
export const notFound = (name: string, records: string, error: Dns.DnsError | undefined): string => {
  if (error === undefined) return `"${name}" has no ${records} in DNS`
  const code = codeOf(error)
  // Other codes can mean that the name has records of another type.
  return code === "ENOTFOUND" ? `"${name}" is not in DNS (ENOTFOUND)` : `"${name}" has no ${records} in DNS (${code})`
}

export const isNotFound = (error: Dns.DnsError): boolean => error.reason === "NotFound"
