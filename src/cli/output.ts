/**
 * Writes to stdout, and logs to stderr. It does not know what is written.
 */
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as Stdio from "effect/Stdio"
import * as Stream from "effect/Stream"
import { failed, type Failure } from "./failure.ts"
import { printable } from "./text.ts"

/**
 * Handles an error of stdout. A closed pipe (`| head`) is not a failure. Other errors are, such as a full disk.
 */
export const unwritten = (error: Error): Effect.Effect<void, Failure> =>
  "code" in error && error.code === "EPIPE"
    ? Effect.void
    : Effect.fail(failed(`cannot write to stdout: ${error.message}`))

/** Writes some bytes, or a text, as it is. */
export const write = (output: string | Uint8Array): Effect.Effect<void, Failure, Stdio.Stdio> =>
  Stdio.Stdio.use((stdio) => Stream.run(Stream.succeed(output), stdio.stdout())).pipe(
    // The cause says more than this error, which only names stdout.
    Effect.catch((error) => unwritten(error.cause instanceof Error ? error.cause : error))
  )

/** Writes lines. */
export const writeLines = (...lines: ReadonlyArray<string>): Effect.Effect<void, Failure, Stdio.Stdio> =>
  write(lines.map((line) => `${line}\n`).join(""))

/**
 * Writes each log as one line to stderr. Messages and causes can contain texts from peers, so they are made printable.
 */
export const logger: Logger.Logger<unknown, void> = Logger.withConsoleError(Logger.map(Logger.formatLogFmt, printable))
