/**
 * What every user of `node:net` sockets needs.
 */
import { attempt, clip, textOf } from "../userError.ts"

/** Keeps an `error` event from ending the process; whoever uses a socket learns of its end by its `close`. */
export const ignoreError = (): void => {}

/**
 * What an error of `node:net` or `node:tls` says, or of a user's endpoint or options. One that sums up several attempts
 * is empty itself.
 */
export const describe = (error: unknown): string => {
  const attempts = attempt(
    (): ReadonlyArray<unknown> => error instanceof AggregateError && error.message === "" ? [...error.errors] : [],
    []
  )
  return attempts.length === 0 ? textOf(error) : clip(attempts.map(textOf).join("; "))
}
