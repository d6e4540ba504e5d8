/**
 * The Duplexes that users' endpoints and listeners give: checked before anything is done with them, and used once.
 *
 * It knows the methods of a Duplex, and not what is read from it.
 */
import type { Duplex } from "node:stream"
import { discard, shown } from "../guard.ts"
import { attempt } from "../userError.ts"

/** What is called of a Duplex. We look for these, since a Duplex of another realm or package is no instance of ours. */
const methods = ["on", "once", "off", "write", "end", "cork", "uncork", "pause", "resume", "destroy"] as const

/** Whether something can be used as a Duplex. It need not be one of Node's. */
export const isDuplex = (given: unknown): given is Duplex =>
  typeof given === "object" && given !== null &&
  // A getter of something else may throw. The cast: `every` finds out whether it holds.
  attempt(() => methods.every((name) => name in given && typeof (given as Duplex)[name] === "function"), false)

/**
 * The Duplexes that are in use, or were. Of two readers of one connection each would get the other's messages, so a
 * connection is used once: as a client's, as a server's, or below TLS.
 */
const taken = new WeakSet<Duplex>()

/** Whether a connection is in use, or was. */
export const isTaken = (connection: Duplex): boolean => taken.has(connection)

/** Notes that a connection is in use from now on. */
export const markTaken = (connection: Duplex): void => void taken.add(connection)

/** Marks what a dial has given as in use. Returns what is wrong with it, if it is no Duplex or is in use already. */
export const take = (given: unknown): string | undefined => {
  if (!isDuplex(given)) {
    discard(given)
    return `expected a Duplex, got ${shown(given)}`
  }
  if (isTaken(given)) return "expected a Duplex of its own, got one that another dial has given, too"
  markTaken(given)
  return undefined
}
