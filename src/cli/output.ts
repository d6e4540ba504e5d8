/**
 * What the command writes to stdout.
 */
import type * as Effect from "effect/Effect"
import type { PlatformError } from "effect/PlatformError"
import * as Stdio from "effect/Stdio"
import * as Stream from "effect/Stream"

/** Writes some bytes, or a text, as it is. */
export const write = (output: string | Uint8Array): Effect.Effect<void, PlatformError, Stdio.Stdio> =>
  Stdio.Stdio.use((stdio) => Stream.run(Stream.succeed(output), stdio.stdout()))

/** Writes lines. */
export const writeLines = (...lines: ReadonlyArray<string>): Effect.Effect<void, PlatformError, Stdio.Stdio> =>
  write(lines.map((line) => `${line}\n`).join(""))
