/** Rows of users' code that misbehaves, each followed by what shows that nothing else is harmed. */
import { Effect, type Scope } from "effect"
import { CallError, type Connection } from "effect-call"
import * as assert from "node:assert/strict"
import { type Line, makeLog } from "../support/log.ts"
import { bytesOf, echo, textOf } from "../support/networks.ts"

/** What a user's code may be, whatever the types say. */
export const wrong = <A = never>(value: unknown): A => value as A

export const boom = (): never => {
  throw new Error("boom")
}

/** Throws what may be no error. */
export const throwing = (value: unknown) => (): never => {
  throw value
}

/** What is an object, and throws whatever is done with it. */
export const hostile: object = new Proxy({}, {
  get: boom,
  has: boom,
  ownKeys: boom,
  getPrototypeOf: boom,
  getOwnPropertyDescriptor: boom
})

/** A promise that is rejected, as an async function that throws gives it. Its rejection is handled here. */
export const rejected = (): Promise<never> => Promise.reject(new Error("boom"))

const turn = Effect.callback<void>((resume) => {
  setImmediate(() => resume(Effect.void))
})

/**
 * Runs an effect, and fails where an exception or a rejection was left to the process meanwhile, which would have ended
 * it.
 */
export const unharmed = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.acquireUseRelease(
    Effect.sync(() => {
      const seen: Array<unknown> = []
      const note = (error: unknown) => void seen.push(error)
      process.on("uncaughtExceptionMonitor", note)
      process.on("unhandledRejection", note)
      return { seen, note }
    }),
    ({ seen }) =>
      Effect.tap(effect, () =>
        // Node speaks of rejections when the microtasks of a turn are done.
        Effect.andThen(Effect.andThen(turn, turn), Effect.sync(() => assert.deepEqual(seen, [])))),
    ({ note }) =>
      Effect.sync(() => {
        process.off("uncaughtExceptionMonitor", note)
        process.off("unhandledRejection", note)
      })
  )

/** A call that goes well, on the connection that has just been misused. */
export const works = Effect.fnUntraced(function*(connection: Connection.Connection, text = "and on it goes") {
  assert.equal(textOf(yield* connection.call(echo, bytesOf(text))), text)
})

/** The error of a server's answer, that its handler died. */
export const isDeath = (error: unknown): void => {
  assert.ok(CallError.isCallError(error) && error._tag === "RemoteError", String(error))
  assert.equal(error.message, "internal error: the handler died")
}

/** The texts of what was logged as an error, or worse. */
export const errorsIn = (lines: ReadonlyArray<Line>): ReadonlyArray<string> =>
  lines.filter(({ level }) => level === "Error").map(({ cause, message }) => `${message} ${cause}`)

/** Runs a row with a log of its own, and gives that. */
export const inLog = <A, E>(
  row: (log: ReturnType<typeof makeLog>) => Effect.Effect<A, E, Scope.Scope>
): Effect.Effect<A, E> => {
  const log = makeLog()
  return unharmed(Effect.scoped(row(log)).pipe(Effect.provide(log.layer)))
}

/** At least one line has this text, and each of them is about it. */
export const areOf = (lines: ReadonlyArray<string>, text: RegExp): void => {
  assert.ok(lines.length > 0, "nothing was logged")
  for (const line of lines) assert.match(line, text)
}
