/**
 * Logging that cannot break the caller: a logger is user code, may throw, and may call back into this library.
 *
 * It does not know what is logged. A logger runs at once, within the code that logs. So plain code that changes a state
 * puts its lines into a {@link LogQueue}. They are written when the change is over.
 */
import * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import { discard } from "./guard.ts"
import { readableCause, textOf } from "./userError.ts"

type Loggers = ReadonlySet<Logger.Logger<unknown, unknown>>

const plain = new Set([Logger.defaultLogger])

/** Writes a line to stderr, independent of the loggers. */
const toStderr = (line: Effect.Effect<void>): Effect.Effect<void> =>
  line.pipe(
    Effect.provideService(Logger.CurrentLoggers, plain),
    Effect.provideService(Logger.LogToStderr, true)
  )

/**
 * A logger that does not throw. If the given logger throws, its line and the thrown value are written to stderr, so
 * neither is lost.
 */
const guarded = (logger: Logger.Logger<unknown, unknown>): Logger.Logger<unknown, void> =>
  Logger.make((options) => {
    try {
      // Loggers read the errors that they are given: an error that throws when it is read would make them throw.
      const cause = readableCause(options.cause)
      // An async logger gives a promise, which is not awaited.
      discard(logger.log(cause === options.cause ? options : { ...options, cause }))
    } catch (defect) {
      const { cause, fiber, logLevel, message } = options
      // These two are limits, and not levels of a line.
      const level = logLevel === "All" || logLevel === "None" ? "Error" : logLevel
      const line = Effect.logWithLevel(level)(...[message].flat(), cause)
      const told = toStderr(Effect.andThen(line, Effect.logError("a logger threw", Cause.die(defect))))
      // The logged value itself may be unprintable.
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

/** A line of the log that never fails, for fibers that must continue. */
export const logged = (line: Effect.Effect<void>): Effect.Effect<void> =>
  Effect.catchDefect(
    Effect.updateService(line, Logger.CurrentLoggers, guardedSet),
    // `CurrentLoggers` is no set: the line cannot be written anywhere.
    () => Effect.void
  )

/** Logs a line from plain code, in a context. It never throws. */
export const logIn = (context: Context.Context<never>, line: Effect.Effect<void>): void => {
  try {
    Effect.runForkWith(context)(logged(line))
  } catch {
    // Other user code in the fiber's context has thrown.
  }
}

/**
 * The lines of one connection for the log. They are written after the change of state that they describe.
 *
 * They are written at the next {@link flush}, or else when the running code has returned to the event loop. It costs
 * nothing if nothing is logged.
 */
export class LogQueue {
  private readonly context: Context.Context<never>
  private lines: Array<Effect.Effect<void>> = []
  private isFlushing = false

  /** `context` is what the lines are logged in: it has the loggers. */
  constructor(context: Context.Context<never>) {
    this.context = context
  }

  /** Adds a line, such as an `Effect.logWarning`. It is not written before this method has returned. */
  add(line: Effect.Effect<void>): void {
    this.lines.push(line)
    if (this.lines.length === 1) queueMicrotask(() => this.flush())
  }

  /** Writes the queued lines, in order. Call it only when no state is being changed. */
  flush(): void {
    const { lines } = this
    // A logger may call back into code that adds lines or flushes: such lines wait for their own turn.
    if (lines.length === 0 || this.isFlushing) return
    this.lines = []
    this.isFlushing = true
    for (const line of lines) logIn(this.context, line)
    this.isFlushing = false
  }
}
