/**
 * How many streams a server has at once. They are not queued: a stream may last for ever, and so may what waits for it.
 *
 * It must not know streams.
 */

/** How many streams may be open. */
export interface StreamLimits {
  readonly maxStreams: number
  readonly maxStreamsPerConnection: number
}

/** The places of one server's streams. */
export class StreamPlaces {
  private readonly limits: StreamLimits
  private taken = 0

  constructor(limits: StreamLimits) {
    this.limits = limits
  }

  /** Takes a place for a stream of a connection that has `open` of them. Returns whether there was one. */
  take(open: number): boolean {
    const { maxStreams, maxStreamsPerConnection } = this.limits
    if (this.taken >= maxStreams || open >= maxStreamsPerConnection) return false
    this.taken++
    return true
  }

  /** A stream that had a place has ended. */
  free(): void {
    if (this.taken === 0) throw new Error("a stream has ended that had no place")
    this.taken--
  }
}
