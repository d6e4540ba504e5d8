/**
 * Looks up the addresses of a host with the system's resolver, as `node:net` does. It does not connect to any of them.
 *
 * A lookup holds one of the few threads of libuv until it ends, and nothing can end it early. If name servers do not
 * answer, that takes many seconds. So each name has one lookup at a time, and all callers that ask meanwhile share its
 * answer. If a caller is interrupted, the lookup goes on. Answers are not cached.
 */
import * as Effect from "effect/Effect"
// The default export is used: its `lookup` is read at each call, since a program may replace it.
import dns, { type LookupAddress } from "node:dns"
import { closeSync, openSync } from "node:fs"
import { isIP } from "node:net"
import { devNull } from "node:os"
import process from "node:process"
import { shown } from "../guard.ts"
import { attempt } from "../userError.ts"
import { isLoopback } from "./address.ts"

/** The family of an address; 0 means either. */
export type Family = 0 | 4 | 6

type Addresses = ReadonlyArray<LookupAddress>
type Answer = Effect.Effect<Addresses, unknown>

/** The lookups under way, each with its waiting callers. */
const underWay = new Map<string, Set<(answer: Answer) => void>>()

/** The addresses of a host, at least one, in the order of the system's preference. */
export const lookup = (host: string, family: Family): Answer => {
  const literal = isIP(host)
  if (literal !== 0) return Effect.succeed([{ address: host, family: literal }])
  return Effect.callback((resume) => {
    const key = `${family} ${host}`
    const joined = underWay.get(key)
    const waiting = joined ?? new Set()
    waiting.add(resume)
    if (joined === undefined) {
      underWay.set(key, waiting)
      // It may answer before this returns.
      ask(host, family, (answer) => {
        if (underWay.get(key) === waiting) underWay.delete(key)
        for (const tell of waiting) tell(answer)
      })
    }
    return Effect.sync(() => waiting.delete(resume))
  })
}

/**
 * If a machine has no IPv6 address except `::1`, the system is not asked for IPv6 addresses (`ADDRCONFIG`), as in
 * `node:net`: some name servers do not answer such questions. But a server may listen on `::1` there. So all addresses
 * are asked for if a name belongs to this host, or has no other address.
 */
const ask = (host: string, family: Family, tell: (answer: Answer) => void): void => {
  if (process.platform === "win32" || family !== 0) return askFor(host, family, 0, tell)
  askFor(host, family, dns.ADDRCONFIG, (answer, addresses, code) => {
    const isOfThisHost = addresses === undefined
      ? code === dns.NOTFOUND
      : addresses.every(({ address }) => isLoopback(address))
    if (!isOfThisHost) return tell(answer)
    askFor(host, family, 0, (all, addresses) => tell(addresses === undefined ? answer : all))
  })
}

/**
 * Whether this process can open a file. If it cannot, the system's resolver cannot read the hosts file, and finds
 * nothing.
 */
const hasDescriptor = (): boolean => {
  try {
    closeSync(openSync(devNull, "r"))
    return true
  } catch (error) {
    return !(error instanceof Error && "code" in error && (error.code === "EMFILE" || error.code === "ENFILE"))
  }
}

const noDescriptor = (host: string): NodeJS.ErrnoException =>
  Object.assign(new Error(`getaddrinfo EMFILE ${host}`), { code: "EMFILE", syscall: "getaddrinfo", hostname: host })

/** A copy of the answer of `dns.lookup`; undefined if it is invalid: a program may have replaced `dns.lookup`. */
const addressesOf = (given: unknown): Addresses | undefined =>
  attempt(() => {
    if (!Array.isArray(given) || given.length === 0) return undefined
    const addresses = given.map(({ address }: { readonly address: unknown }) =>
      typeof address === "string" ? { address, family: isIP(address) } : { address: "", family: 0 }
    )
    return addresses.every(({ family }) => family !== 0) ? addresses : undefined
  }, undefined)

const askFor = (
  host: string,
  family: Family,
  hints: number,
  tell: (answer: Answer, addresses: Addresses | undefined, code: unknown) => void
): void => {
  const fail = (error: unknown) => {
    // It may be any value, whatever its type says, and this code runs in the event loop, where nothing catches an
    // exception.
    const code = attempt((): unknown => (error as NodeJS.ErrnoException).code, undefined)
    tell(Effect.fail(code === dns.NOTFOUND && !hasDescriptor() ? noDescriptor(host) : error), undefined, code)
  }
  try {
    dns.lookup(host, { all: true, family, hints }, (error, given) => {
      if (error) return fail(error)
      const addresses = addressesOf(given)
      if (addresses === undefined) return fail(new Error(`lookup ${host}: expected IP addresses, got ${shown(given)}`))
      tell(Effect.succeed(addresses), addresses, undefined)
    })
  } catch (error) {
    // It throws on bad names.
    fail(attempt(() => error instanceof Error, false) ? error : new Error(`lookup ${host}: ${shown(error)}`))
  }
}
