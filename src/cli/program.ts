/**
 * Runs the command on Node: its layers, its exit code, its end. It does not know what a subcommand does.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Cause from "effect/Cause"
import * as CliError from "effect/cli/CliError"
import * as CliOutput from "effect/cli/CliOutput"
import * as Command from "effect/cli/Command"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { constVoid } from "effect/Function"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Runtime from "effect/Runtime"
import { createRequire } from "node:module"
import { attempt, readableCause } from "../internal/userError.ts"
import * as Resolver from "../Resolver.ts"
import { command } from "./command.ts"
import { exitCodes } from "./exitCodes.ts"
import type { Failure } from "./failure.ts"
import { logger, unwritten } from "./output.ts"
import { printable } from "./text.ts"

const version = (): string => {
  // Of this package: `dist/cli` and `src/cli` are both two levels below it.
  const { version }: { readonly version: string } = createRequire(import.meta.url)("../../package.json")
  return version
}

/**
 * Only answers go to stdout. If a command is invoked wrongly, its help goes to stderr together with the error.
 */
const presenter = CliOutput.layerPresenter({
  present: (event) =>
    event._tag === "InvalidInvocation"
      ? Effect.gen(function*() {
        const formatter = yield* CliOutput.Formatter
        yield* Console.error(formatter.formatHelpDoc(event.helpDoc))
        yield* Console.error(formatter.formatErrors(event.errors))
      })
      : CliOutput.defaultPresenter.present(event)
})

const services = Layer.mergeAll(
  NodeServices.layer,
  Layer.orDie(Resolver.layerDns()),
  presenter,
  Logger.layer([logger])
)

/** Ends when stdout can no longer be written to. */
const unread = Effect.callback<void, Failure>((resume) => {
  const onError = (error: Error) => resume(unwritten(error))
  process.stdout.on("error", onError)
  return Effect.sync(() => process.stdout.off("error", onError))
})

/** A failure that was not shown yet is a bug. It is shown from here, since `runMain` logs to stdout. */
const report = (cause: Cause.Cause<unknown>) =>
  Cause.hasInterruptsOnly(cause) || !attempt(() => Runtime.getErrorReported(Cause.squash(cause)), true)
    ? Effect.void
    : Console.error(Cause.pretty(readableCause(cause)).split("\n").map(printable).join("\n"))

const isWrongInvocation = (error: unknown): boolean =>
  attempt(() => CliError.isCliError(error) && error._tag === "ShowHelp" && error.errors.length > 0, false)

/**
 * Ends the process when all output is written. Otherwise a resource that user code left open would keep it alive.
 */
const end = (): void => {
  process.stdout.on("error", constVoid).write("", () => process.exit())
}

export const run = (): void =>
  Command.run(command, { version: version() }).pipe(
    Effect.raceFirst(unread),
    Effect.tapErrorTag("Failure", ({ message }) => Console.error(printable(message))),
    Effect.tapCause(report),
    Effect.provide(services),
    NodeRuntime.runMain({
      disableErrorReporting: true,
      teardown: (exit, onExit) => {
        if (Exit.isSuccess(exit)) return end()
        return isWrongInvocation(Cause.squash(exit.cause))
          ? onExit(exitCodes.usage)
          : Runtime.defaultTeardown(exit, onExit)
      }
    })
  )
