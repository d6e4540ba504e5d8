/**
 * The errors of a dial that say "not now": they are temporary, and not caused by the peer. The attempt is repeated as
 * long as the dial has time. This file knows errors. It does not know what is attempted.
 *
 * Every other error ends the attempt at once, so that a call goes to another endpoint: there is no listener
 * (ECONNREFUSED, ENOENT), no permission (EACCES, EPERM), no route (ENETUNREACH, EHOSTUNREACH), no such name
 * (ENOTFOUND), or the system has tried for as long as it does (ETIMEDOUT). EINTR does not occur: libuv repeats what a
 * signal has interrupted.
 */
import * as Effect from "effect/Effect"
import { isIPv6 } from "node:net"
import { networkInterfaces } from "node:os"
import { attempt } from "../userError.ts"

const codes: ReadonlySet<unknown> = new Set([
  // The queue of a Unix socket is full, on Linux: there is a server, but it has not accepted yet. (macOS says
  // ECONNREFUSED then, as without a server. TCP has no such error: the system sends its SYN again by itself.)
  "EAGAIN",
  // This process, or the machine, has no file descriptor left. One may be closed at any time.
  "EMFILE",
  "ENFILE",
  // The system has no memory for one more socket. Windows also says ENOBUFS when it has no free port.
  "ENOBUFS",
  "ENOMEM",
  // The local port that the system has picked was taken meanwhile. The system picks another one the next time.
  "EADDRINUSE",
  // The name servers could not be asked, or had no answer for now. To ask again costs one lookup for each name. With a
  // silent name server, the system's resolver takes about 10 s for this answer.
  "EAI_AGAIN",
  "EAI_MEMORY"
])

/** No local port is free for one more connection to that address. Ports become free as old connections expire. */
const noLocalPort = "EADDRNOTAVAIL"

/** Linux gives the same error for an IPv6 address if the machine itself has no IPv6 address: that error is final. */
const hasIPv6 = (): boolean =>
  Object.values(networkInterfaces()).some((addresses) => addresses?.some(({ family }) => family === "IPv6"))

/** Whether an error of connecting, or of a lookup, says "not now". */
const isNotNow = (error: unknown): boolean =>
  attempt(() => {
    if (!(error instanceof Error)) return false
    const { address, code }: NodeJS.ErrnoException & { readonly address?: unknown } = error
    if (code !== noLocalPort) return codes.has(code)
    return typeof address !== "string" || !isIPv6(address) || hasIPv6()
  }, false)

/** In milliseconds: the wait before the second attempt, and the longest one. It doubles each time. */
const firstWait = 10
const longestWait = 500

/**
 * Runs an effect again as long as it fails with "not now". `onFailure` is called with each failure, including the last
 * one.
 */
export const untilNotNow = <A, R>(
  effect: Effect.Effect<A, unknown, R>,
  onFailure: (error: unknown) => void
): Effect.Effect<A, unknown, R> => {
  const tryAfter = (wait: number): Effect.Effect<A, unknown, R> =>
    Effect.catch(effect, (error) => {
      onFailure(error)
      if (!isNotNow(error)) return Effect.fail(error)
      return Effect.andThen(Effect.sleep(wait), tryAfter(Math.min(2 * wait, longestWait)))
    })
  return tryAfter(firstWait)
}
