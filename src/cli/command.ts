/**
 * The command with its subcommands. It does not know how a process is run.
 */
import * as Command from "effect/cli/Command"
import { call } from "./call.ts"
import { resolve } from "./resolve.ts"
import { watch } from "./watch.ts"

export const command = Command.make("effect-call").pipe(
  Command.withDescription("Calls and watches servers of effect-call, and servers of the Go package call"),
  Command.withSubcommands([call, resolve, watch])
)
