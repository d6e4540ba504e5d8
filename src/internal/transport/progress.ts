/**
 * Whether a peer takes what its socket was given.
 *
 * A socket says so only of all that it was given at once. Of a megabyte on a slow line that is long in coming, and what is alive must not be
 * taken for dead: so it is also looked at what waits in the system.
 */
import type { Duplex } from "node:stream"
import { attempt } from "../userError.ts"
import type { Writer } from "./writer.ts"

export class Progress {
  private readonly duplex: Duplex
  private readonly writer: Writer
  private drains = -1
  private unsent = -1
  private queued = -1

  constructor(duplex: Duplex, writer: Writer) {
    this.duplex = duplex
    this.writer = writer
  }

  /** The next time that it is asked, something was taken: the peer has been given more to take. */
  forget(): void {
    this.drains = -1
  }

  /** Whether something was taken since this was last asked. The first time it was. */
  look(): boolean {
    const { drains, unsentBytes } = this.writer
    const queued = attempt(() => queuedBelow(this.duplex), 0)
    // What has become more was given to it.
    const moved = drains !== this.drains || unsentBytes < this.unsent || queued < this.queued
    this.drains = drains
    this.unsent = unsentBytes
    this.queued = queued
    return moved
  }
}

/**
 * How many bytes the system has yet to take. Node's own timeout of a socket looks at the same number, and it has no public name: where it is
 * missing there is nothing to be seen. A secure socket has its own above that of the socket below.
 */
const queuedBelow = (duplex: Duplex): number => {
  let queued = 0
  let handle: unknown = Reflect.get(duplex, "_handle")
  for (let depth = 0; depth < 4 && typeof handle === "object" && handle !== null; depth++) {
    const size: unknown = Reflect.get(handle, "writeQueueSize")
    if (typeof size === "number") queued += size
    handle = Reflect.get(handle, "_parent")
  }
  return queued
}
