/**
 * What a client logs of one endpoint, in no caller's context.
 *
 * It must not know what has happened. Its lines leave when the code that adds them has returned: a logger is a user's,
 * and may call, change the endpoints or close the Connection.
 */
import * as Effect from "effect/Effect"
import type { LogQueue } from "../log.ts"
import type { Warnings } from "../warnings.ts"

/** Writes the log lines of one endpoint. */
export class EndpointLog {
  private readonly address: string
  private readonly logs: LogQueue
  private readonly warnings: Warnings

  /** `warnings` bounds what servers can cause. */
  constructor(address: string, logs: LogQueue, warnings: Warnings) {
    this.address = address
    this.logs = logs
    this.warnings = warnings
  }

  debug(message: string, reason?: string): void {
    this.add(Effect.logDebug(message), reason)
  }

  warn(message: string, reason?: string): void {
    const others = this.warnings.next()
    this.add(others === undefined ? Effect.logDebug(message) : Effect.logWarning(`${message}${others}`), reason)
  }

  private add(line: Effect.Effect<void>, reason: string | undefined): void {
    const annotations = reason === undefined ? { endpoint: this.address } : { endpoint: this.address, reason }
    this.logs.add(Effect.annotateLogs(line, annotations))
  }
}
