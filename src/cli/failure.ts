/**
 * Failures of the command: one line for people, and an exit code for scripts. It does not write them.
 */
import * as Runtime from "effect/Runtime"
import * as Schema from "effect/Schema"
import type { CallError } from "../CallError.ts"
import type { ResolverError } from "../Resolver.ts"
import { exitCodes } from "./exitCodes.ts"

/** `message` goes to stderr, as one line. */
export class Failure extends Schema.TaggedError<Failure>("effect-call/cli/Failure")("Failure", {
  message: Schema.String,
  exitCode: Schema.Literals([exitCodes.failed, exitCodes.usage])
}) {
  override readonly [Runtime.errorExitCode] = this.exitCode
  override readonly [Runtime.errorReported] = false
}

/** The command's input is wrong. */
export const unusable = (message: string): Failure => new Failure({ message, exitCode: exitCodes.usage })

/** The command ran, and failed. */
export const failed = (message: string): Failure => new Failure({ message, exitCode: exitCodes.failed })

/** An error in one line: its tag, its message, and its other fields. */
export const describe = (error: CallError | ResolverError): string => {
  switch (error._tag) {
    case "CommunicationError": {
      const at = error.endpoint === undefined ? "" : `${error.endpoint}; `
      const executed = error.maybeExecuted ? "the handler may have run" : "the handler has not run"
      return `CommunicationError ${error.reason._tag}: ${error.message} (${at}${executed})`
    }
    case "RemoteError": {
      const [outermost, ...causes] = error.chain
      const identity = outermost === undefined ? "" : ` ${identityOf(outermost)}`
      return [
        `RemoteError: ${error.message}${identity}`,
        ...causes.map((cause) => `${cause.message} ${identityOf(cause)}`)
      ].join(", caused by: ")
    }
    case "DeadlineExceeded":
    case "ResolverError":
    case "Unreachable":
      return `${error._tag}: ${error.message}`
  }
}

const identityOf = ({ identity }: { readonly identity: string }): string => `[${identity}]`
