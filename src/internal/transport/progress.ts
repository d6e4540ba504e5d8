/**
 * Whether a peer takes what its socket was given.
 *
 * A socket says so only of all that it was given at once. Of a megabyte on a slow line that is long in coming, and what
 * is alive must not be taken for dead: so it is also looked at what waits in the system.
 */
import type { Capabilities } from "./capabilities.ts"
import type { Writer } from "./writer.ts"

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

  /** The next time that it is asked, something was taken: the peer has been given more to take. */
  forget(): void {
    this.drains = -1
  }

  /** Whether something was taken since this was last asked. The first time it was. */
  look(): boolean {
    const { drains, unsentBytes } = this.writer
    const queued = this.capabilities.systemQueue()
    // What has become more was given to it.
    const moved = drains !== this.drains || unsentBytes < this.unsent || queued < this.queued
    this.drains = drains
    this.unsent = unsentBytes
    this.queued = queued
    return moved
  }
}
