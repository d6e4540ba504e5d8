/**
 * The Duplexes that users' endpoints and listeners give, checked before anything is done with them.
 */
import type { Duplex } from "node:stream"
import { discard, shown } from "../guard.ts"
import { attempt } from "../userError.ts"

/**
 * What is called of a Duplex. By these it is known, since one of another realm or package is no instance of our
 * `Duplex`.
 */
const methods = ["on", "once", "off", "write", "end", "cork", "uncork", "pause", "resume", "destroy"] as const

/** Whether something can be used as a Duplex: it need not be one of Node's. */
export const isDuplex = (given: unknown): given is Duplex =>
  typeof given === "object" && given !== null &&
  // Its getters, where it is something else, may throw. What it is, is found out here.
  attempt(() => methods.every((name) => name in given && typeof (given as Duplex)[name] === "function"), false)

/** Those that are in use, or were. */
const taken = new WeakSet<object>()

/** Takes a Duplex for a connection of its own. Says what is wrong where it is none, or is another connection's. */
export const take = (given: unknown): string | undefined => {
  if (!isDuplex(given)) {
    discard(given)
    return `expected a Duplex, got ${shown(given)}`
  }
  // Two that read from it would each hear the other's answers.
  if (taken.has(given)) return "expected a Duplex of its own, got one that another dial has given, too"
  taken.add(given)
  return undefined
}
