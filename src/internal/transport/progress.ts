/**
 * Whether a peer takes what a socket was given. This file knows no times: its users decide how long is too long.
 *
 * A socket says only that all it was given at once has been taken. For a megabyte on a slow line that comes late, and a
 * live peer must not be taken for dead. So we also look at how much waits in the system.
 */
import type { Capabilities } from "./capabilities.ts"
import type { Writer } from "./writer.ts"

/** Watches one connection, for one user: each sees what has changed since it looked itself. */
export class Progress {
  private readonly capabilities: Pick<Capabilities, "systemQueue">
  private readonly writer: Pick<Writer, "drains" | "unsentBytes">
  private drains = -1
  private unsent = -1
  private queued = -1

  constructor(capabilities: Pick<Capabilities, "systemQueue">, writer: Pick<Writer, "drains" | "unsentBytes">) {
    this.capabilities = capabilities
    this.writer = writer
  }

  /** The next `look` says that something was taken: the peer has been given more to take. */
  forget(): void {
    this.drains = -1
  }

  /** Whether something was taken since the last look. The first look says so, too. */
  look(): boolean {
    const { drains, unsentBytes } = this.writer
    const queued = this.capabilities.systemQueue()
    // Where a number has grown, the socket was given more.
    const moved = drains !== this.drains || unsentBytes < this.unsent || queued < this.queued
    this.drains = drains
    this.unsent = unsentBytes
    this.queued = queued
    return moved
  }
}
