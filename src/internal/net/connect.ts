/**
 * The errors of sockets: ignored where their end is noticed otherwise, and as texts. It knows no sockets.
 */
import { attempt, clip, textOf } from "../userError.ts"

/** Keeps an `error` event from ending the process. Users of a socket learn of its end by its `close`. */
export const ignoreError = (): void => {}

/**
 * The text of an error of `node:net` or `node:tls`, or of a user's endpoint or options. If it sums up several attempts,
 * it has no message of its own: the text is that of the attempts.
 */
export const describe = (error: unknown): string => {
  const attempts = attempt(
    (): ReadonlyArray<unknown> => error instanceof AggregateError && error.message === "" ? [...error.errors] : [],
    []
  )
  return attempts.length === 0 ? textOf(error) : clip(attempts.map(textOf).join("; "))
}
