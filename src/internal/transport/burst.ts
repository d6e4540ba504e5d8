/**
 * How long a connection is read without a pause. It knows times in milliseconds, and nothing of the connection.
 *
 * Of a socket that is flooded Node reads 2 MiB in one go, which may be tens of thousands of messages: meanwhile all
 * other connections and timers wait.
 */

/** In milliseconds: while more keeps coming, a connection is read for this long. Then the others have their turn. */
const longest = 1

/** In milliseconds: where nothing could be read for this long, the others have had their turn. */
const pauseBetween = 0.05

/** Decides when a connection has been read for long enough. */
export class Burst {
  private startedAt = 0
  private handledAt = -Infinity

  /** Bytes have come at `now`, and are handled from now on. */
  begin(now: number): void {
    if (now - this.handledAt > pauseBetween) this.startedAt = now
  }

  /** They were handled at `now`. Returns whether the others are to have their turn. */
  end(now: number): boolean {
    this.handledAt = now
    return now - this.startedAt > longest
  }
}
