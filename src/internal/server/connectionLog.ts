/**
 * The lines that one connection of a server logs, about itself and its calls. They are written when the change of state
 * that is under way is over.
 *
 * It must not know when something happens.
 */
import * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { LogQueue } from "../log.ts"
import type { Remote } from "../transport/capabilities.ts"
import type { Over } from "../transport/transport.ts"
import { textOf } from "../userError.ts"
import type { Warnings } from "../warnings.ts"

/** The log of one connection. */
export class ConnectionLog {
  private readonly queue: LogQueue
  private readonly warnings: Warnings
  /** The client. */
  private readonly peer: string

  constructor(context: Context.Context<never>, warnings: Warnings, remote: Remote | undefined) {
    this.queue = new LogQueue(context)
    this.warnings = warnings
    this.peer = remote === undefined ? "a local peer" : `${remote.address}:${remote.port}`
  }

  add(line: Effect.Effect<void>): void {
    this.queue.add(line)
  }

  accepted(): void {
    this.about(Effect.logDebug("a connection was accepted"))
  }

  /** We close the connection, since its client `why`. */
  closed(why: string, reason = why): void {
    const others = this.warnings.next()
    if (others === undefined) return
    this.about(Effect.logWarning(`a connection was closed: ${why}${others}`), reason)
  }

  over(over: Over): void {
    if (over._tag === "Refused") return this.closed(`its peer sent ${over.problem}`, over.problem)
    if (over.isBroken) {
      return this.about(Effect.logError("a connection was lost: it is broken", Cause.die(over.error)))
    }
    const reason = over.error === undefined ? undefined : textOf(over.error)
    this.about(Effect.logDebug("a connection has ended"), reason)
  }

  /** Writes all lines now. */
  flush(): void {
    this.queue.flush()
  }

  private about(line: Effect.Effect<void>, reason?: string): void {
    this.add(Effect.annotateLogs(line, { peer: this.peer, ...(reason === undefined ? {} : { reason }) }))
  }
}
