#!/usr/bin/env node
/**
 * The command `effect-call`. All its other files need `@effect/platform-node`. That is an optional peer dependency,
 * because libraries and servers do not need it. So this file loads the others, and names the package if it is missing.
 */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import { exitCodes } from "./exitCodes.ts"

const isMissing = (error: unknown): boolean =>
  error instanceof Error && "code" in error && error.code === "ERR_MODULE_NOT_FOUND" &&
  error.message.includes("'@effect/platform-node'")

const message =
  "effect-call: the package @effect/platform-node is missing, which the command needs beside effect. Install it with `npm install @effect/platform-node`, "
  + "or run the command with `npx -p effect-call -p @effect/platform-node effect-call`."

// Any other error is a bug: an unhandled rejection is shown with its stack, and ends the process with 1.
void Effect.runPromise(
  Effect.tryPromise({ try: () => import("./program.ts"), catch: (error) => error }).pipe(
    Effect.map(({ run }) => run()),
    Effect.catch((error) =>
      isMissing(error)
        ? Effect.andThen(
          Console.error(message),
          Effect.sync(() => {
            process.exitCode = exitCodes.usage
          })
        )
        : Effect.die(error)
    )
  )
)
