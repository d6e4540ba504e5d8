/**
 * Logging that does no harm: a logger is user code, may throw, and may call back into this library.
 *
 * It must not know what is logged. A logger runs at once, in the middle of the code that logs. So plain code that
 * changes a state puts its lines into a {@link LogQueue}, and they leave when the change is over.
 */
import * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import { discard } from "./guard.ts"
import { readableCause, textOf } from "./userError.ts"

type Loggers = ReadonlySet<Logger.Logger<unknown, unknown>>

const plain = new Set([Logger.defaultLogger])

/** Writes a line to stderr, whatever loggers there are. */
const toStderr = (line: Effect.Effect<void>): Effect.Effect<void> =>
  line.pipe(
    Effect.provideService(Logger.CurrentLoggers, plain),
    Effect.provideService(Logger.LogToStderr, true)
  )

/** A logger that does not throw. If it would, its line is written to stderr, with what it threw: neither is lost. */
const guarded = (logger: Logger.Logger<unknown, unknown>): Logger.Logger<unknown, void> =>
  Logger.make((options) => {
    try {
      // Loggers read the errors that they are given: one that throws when it is read would throw at them.
      const cause = readableCause(options.cause)
      // One that is an async function gives a promise, which is not awaited.
      discard(logger.log(cause === options.cause ? options : { ...options, cause }))
    } catch (defect) {
      const { cause, fiber, logLevel, message } = options
      // No line has one of these two, which are limits.
      const level = logLevel === "All" || logLevel === "None" ? "Error" : logLevel
      const line = Effect.logWithLevel(level)(...[message].flat(), cause)
      const told = toStderr(Effect.andThen(line, Effect.logError("a logger threw", Cause.die(defect))))
      // What was logged may be what cannot be shown.
      const short = Effect.catchDefect(told, () => toStderr(Effect.logError(`a logger threw: ${textOf(defect)}`)))
      Effect.runForkWith(fiber.context)(short)
    }
  })

const guardedSets = new WeakMap<Loggers, Loggers>()

const guardedSet = (loggers: Loggers): Loggers => {
  let set = guardedSets.get(loggers)
  if (set === undefined) {
    set = new Set(Array.from(loggers, guarded))
    guardedSets.set(loggers, set)
  }
  return set
}

/** A line of the log that never fails, for fibers that are to go on. */
export const logged = (line: Effect.Effect<void>): Effect.Effect<void> =>
  Effect.catchDefect(
    Effect.updateService(line, Logger.CurrentLoggers, guardedSet),
    // The loggers are none: there is nowhere to tell it.
    () => Effect.void
  )

/** Logs a line from plain code, in a context. It never throws. */
export const logIn = (context: Context.Context<never>, line: Effect.Effect<void>): void => {
  try {
    Effect.runForkWith(context)(logged(line))
  } catch {
    // What else there is of a user's in a fiber's context has thrown.
  }
}

/**
 * The lines of the log of one connection, written after the change of state that they are about.
 *
 * They leave at the next {@link flush}, or else when the code that runs now has returned to the event loop. It costs
 * nothing where nothing is logged.
 */
export class LogQueue {
  private readonly context: Context.Context<never>
  private lines: Array<Effect.Effect<void>> = []
  private isFlushing = false

  /** `context` is what the lines are logged in: it has the loggers. */
  constructor(context: Context.Context<never>) {
    this.context = context
  }

  /** Adds a line, as of `Effect.logWarning`. It is not written before this has returned. */
  add(line: Effect.Effect<void>): void {
    this.lines.push(line)
    if (this.lines.length === 1) queueMicrotask(() => this.flush())
  }

  /** Writes the lines that wait, in their order. To be called where no state is being changed. */
  flush(): void {
    const { lines } = this
    // A logger may call back into what adds further lines, or flushes: those wait for their own turn.
    if (lines.length === 0 || this.isFlushing) return
    this.lines = []
    this.isFlushing = true
    for (const line of lines) logIn(this.context, line)
    this.isFlushing = false
  }
}
