/**
 * Logging that does no harm: a logger is a user's code, and may throw.
 *
 * A logger runs at once, in the middle of whatever logs, and may call back into us. So what logs in plain code has done its work by then: it
 * logs last, or what it does after that holds also where a connection is over and a Connection is closed.
 */
import * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import { textOf } from "./userError.ts"

const plain = new Set([Logger.defaultLogger])

/** Writes a line to stderr, whatever loggers there are. */
const toStderr = (line: Effect.Effect<void>): Effect.Effect<void> =>
  line.pipe(
    Effect.provideService(Logger.CurrentLoggers, plain),
    Effect.provideService(Logger.LogToStderr, true)
  )

/**
 * A line of the log that never fails, for fibers that are to go on. Where a logger throws, the line is written to stderr, with what the logger
 * threw: neither is lost.
 */
export const logged = (line: Effect.Effect<void>): Effect.Effect<void> =>
  Effect.catchDefect(
    line,
    (defect) =>
      toStderr(Effect.andThen(line, Effect.logError("a logger threw", Cause.die(defect)))).pipe(
        // What was logged may be what cannot be shown.
        Effect.catchDefect(() => toStderr(Effect.logError(`a logger threw: ${textOf(defect)}`))),
        Effect.catchDefect(() => Effect.void)
      )
  )

/** Logs a line from plain code, in a context. It never throws. */
export const logIn = (context: Context.Context<never>, line: Effect.Effect<void>): void => {
  try {
    Effect.runForkWith(context)(logged(line))
  } catch {
    // What else there is of a user's in a fiber's context has thrown: there is nowhere to tell it.
  }
}
