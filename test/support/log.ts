/** What is logged while an effect runs. */
import { Cause, Effect, Logger, type LogLevel, References } from "effect"

export interface Line {
  readonly level: LogLevel.LogLevel
  readonly message: string
  /** The cause, where one was logged, as text. */
  readonly cause: string
  readonly annotations: Readonly<Record<string, unknown>>
}

/**
 * A log of its own: provide `layer` to whatever is to be written to it in place of the console. It throws where `show`
 * does.
 */
export const makeLog = (show: (cause: Cause.Cause<unknown>) => string = Cause.pretty) => {
  const lines: Array<Line> = []
  const waiting: Array<() => void> = []
  const logger = Logger.make(({ cause, fiber, logLevel, message }) => {
    lines.push({
      level: logLevel,
      message: (Array.isArray(message) ? message : [message]).map(String).join(" "),
      cause: cause.reasons.length === 0 ? "" : show(cause),
      annotations: fiber.getRef(References.CurrentLogAnnotations)
    })
    for (const resume of waiting.splice(0)) resume()
  })
  /** Waits until so many lines have been logged. */
  const until = (count: number): Effect.Effect<void> =>
    Effect.callback<void>((resume) => {
      const look = () => {
        if (lines.length >= count) resume(Effect.void)
        else waiting.push(look)
      }
      look()
    })
  return { lines, layer: Logger.layer([logger]), until }
}
