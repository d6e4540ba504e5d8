/**
 * How much the peer may send on the streams of one connection before what it sent was taken.
 *
 * It must not know streams. All sizes are in bytes.
 */

/** A client may send so much before the server's first credit. */
export const firstCredit = 16_384

/** The windows of one connection. */
export class Windows {
  /** The window of a new stream. */
  readonly first: number

  /** `largest` is the largest window of one stream, `budget` how large all of them should be together. */
  constructor(largest: number, _budget: number) {
    this.first = Math.min(largest, 65_536)
  }

  add(): Window {
    throw new Error("not yet")
  }
}

/** The window of one stream. */
export interface Window {
  readonly size: number
  /**
   * So many bytes were taken since the last grant. `isEmpty` says that nothing waits any more. Returns how many to
   * grant now, 0 for none yet.
   */
  taken(bytes: number, isEmpty: boolean): number
  /** Its stream is over. It can be repeated. */
  remove(): void
}
