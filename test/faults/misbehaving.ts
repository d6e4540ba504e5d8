/**
 * How code that a user gives us may go wrong, whatever its type says. Each way ends by itself, or is told by its name
 * that it does not.
 */
import { Cause, Effect } from "effect"
import { Duplex } from "node:stream"
import { attempt } from "../../src/internal/userError.ts"
import { turn } from "../Connection/support.ts"
import { makeLog } from "../support/log.ts"

/** A way to go wrong, in place of something that gives an effect. */
export interface Way {
  readonly how: string
  /** `never`: it fits wherever an effect is wanted. */
  readonly give: () => never
}

/** A way, from what is given: its type is wrong, that is what it is about. */
export const way = (how: string, give: () => unknown): Way => ({ how, give: give as () => never })

const boom = () => new Error("boom")

/** In place of a function of any kind. */
export const throws = (): never => {
  throw boom()
}

/** An error that throws when it is read. */
export const unreadable = (): Error =>
  Object.defineProperty(new Error(), "message", {
    get: () => {
      throw new Error("a getter threw")
    }
  })

/** What dies, in place of an effect. */
export const dies: ReadonlyArray<Way> = [
  way("throws", throws),
  way("gives undefined", () => undefined),
  way("gives a number", () => 5),
  way("gives a promise that is rejected", () => Promise.reject(boom())),
  way("dies", () => Effect.die(boom())),
  way("dies later", () => Effect.andThen(turn, Effect.die(boom()))),
  way("dies of what cannot be read", () => Effect.die(unreadable())),
  way("goes on with what is no effect", () => Effect.flatMap(turn, () => undefined as never)),
  way("is interrupted", () => Effect.interrupt)
]

/** Effects that succeed with what is neither an object nor what was asked for. */
export const succeedsWrong: ReadonlyArray<Way> = [
  way("succeeds with undefined", () => Effect.undefined),
  way("succeeds with null", () => Effect.succeed(null)),
  way("succeeds with a number", () => Effect.succeed(5)),
  way("succeeds with an empty object, later", () => Effect.as(turn, {})),
  way("succeeds with a promise that is rejected", () => Effect.sync(() => Promise.reject(boom())))
]

/** Effects that fail with what is no error of ours. */
export const failsWrong: ReadonlyArray<Way> = [
  way("fails with undefined", () => Effect.fail(undefined)),
  way("fails with a text", () => Effect.fail("boom")),
  way("fails with what cannot be read", () => Effect.fail(unreadable()))
]

export const never: Way = way("is never done", () => Effect.never)

/** Goes wrong the first time that it is asked, and is good from then on. */
export const wrongAtFirst = <A>(wrong: () => A, good: () => A): () => A => {
  let isFirst = true
  return () => {
    if (!isFirst) return good()
    isFirst = false
    return wrong()
  }
}

/** A Duplex of a user's own over another, whose methods can be replaced. */
export const passing = (below: Duplex): Duplex => {
  const duplex = new Duplex({
    read: () => void below.resume(),
    write: (chunk, _encoding, done) => void below.write(chunk, done),
    final: (done) => void below.end(done),
    destroy: (error, done) => {
      below.destroy()
      done(error)
    }
  })
  below.on("data", (chunk) => {
    if (!duplex.push(chunk)) below.pause()
  })
  below.on("end", () => duplex.push(null))
  // Not by a method that was replaced.
  below.on("close", () => Duplex.prototype.destroy.call(duplex))
  below.on("error", () => {})
  return duplex
}

/** A log that also takes what cannot be read. */
export const makeReadableLog = () =>
  makeLog((cause) => attempt(() => Cause.pretty(cause), "a cause that cannot be read"))
