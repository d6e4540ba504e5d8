/**
 * The errors of a dial that say "not now": they tell of this moment, and not of the peer. What meets one is tried
 * again, for as long as the dial has time.
 *
 * Every other error says "no", and ends the attempt at once, so that a call goes to another endpoint: nobody listens
 * (ECONNREFUSED, ENOENT), it is not ours to use (EACCES, EPERM), there is no way there (ENETUNREACH, EHOSTUNREACH), the
 * system has already asked for as long as it does (ETIMEDOUT), there is no such name (ENOTFOUND). EINTR is no case of
 * its own: libuv repeats what a signal has interrupted.
 */
import * as Effect from "effect/Effect"
import { isIPv6 } from "node:net"
import { networkInterfaces } from "node:os"
import { attempt } from "../userError.ts"

const codes: ReadonlySet<unknown> = new Set([
  // The queue of a Unix socket is full, on Linux: its server is there, and has yet to accept. (Of a full queue macOS
  // says ECONNREFUSED, as where nobody listens. TCP has no such error: the system sends its SYN again by itself.)
  "EAGAIN",
  // This process, or the machine, has no file descriptor left: one is closed at any time.
  "EMFILE",
  "ENFILE",
  // The system has no memory for one more socket. Windows says the first when it has no free port, too.
  "ENOBUFS",
  "ENOMEM",
  // The local port that the system has picked was taken meanwhile: the next one is another.
  "EADDRINUSE",
  // The name servers could not be asked, or did not know for now: as its name says. What it costs to ask again is one
  // lookup a name. A silent name server takes the system's resolver about 10 s for this answer.
  "EAI_AGAIN",
  "EAI_MEMORY"
])

/**
 * No port of this machine is free for one more connection to that address: old ones become free as their time is over.
 */
const noLocalPort = "EADDRNOTAVAIL"

/** Linux says the same of an IPv6 address where the machine has none of its own: that is a "no". */
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

/** In milliseconds: how long is waited before the second try, and at most. In between it doubles. */
const firstWait = 10
const longestWait = 500

/** Runs an effect until it does not fail with "not now". Each failure is told, that one and the last. */
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
