/**
 * The errors of sockets: how they are ignored and how they are shown. It knows no sockets.
 */
import { attempt, clip, textOf } from "../userError.ts"

/** Keeps an `error` event from ending the process. The owner of a socket notices its end by its `close` event. */
export const ignoreError = (): void => {}

/**
 * The text of an error of `node:net` or `node:tls`, or of a user's endpoint or options. An error that sums up several
 * attempts has no message of its own: its text is made from the errors of the attempts.
 */
export const describe = (error: unknown): string => {
  const attempts = attempt(
    (): ReadonlyArray<unknown> => error instanceof AggregateError && error.message === "" ? [...error.errors] : [],
    []
  )
  return attempts.length === 0 ? textOf(error) : clip(attempts.map(textOf).join("; "))
}
