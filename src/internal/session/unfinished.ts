/**
 * What has come in part on one connection: items in pieces and messages in parts, each put together in one buffer that
 * grows with the bytes as they come.
 *
 * It must not know streams or calls.
 */

/** How many bytes of unfinished items and messages a receiver holds beyond the largest message. */
export const unfinishedRoom = 67_108_864

/** Something that is put together of pieces. */
export class Assembly {
  readonly total: number
  have = 0
  /** When its last bytes came, in milliseconds of the clock. */
  lastAt = 0
  constructor(total: number) {
    this.total = total
  }
}

/** The unfinished items and messages of one connection. */
export class Unfinished {
  /** `maxMessageSize` in bytes; `timeoutMillis` is how long one may get nothing; `now` in milliseconds of the clock. */
  constructor(_maxMessageSize: number, _timeoutMillis: number, _now: () => number) {}

  get isEmpty(): boolean {
    throw new Error("not yet")
  }

  begin(_total: number): Assembly {
    throw new Error("not yet")
  }

  /** Adds bytes. Returns false where they do not fit into the room of the connection. */
  add(_assembly: Assembly, _bytes: Uint8Array, _start: number, _end: number): boolean {
    throw new Error("not yet")
  }

  /** It is whole: its bytes, which belong to the caller. */
  finish(_assembly: Assembly): Uint8Array {
    throw new Error("not yet")
  }

  /** It is given up. It can be repeated. */
  drop(_assembly: Assembly): void {
    throw new Error("not yet")
  }

  /** While nothing is read from the peer, no time passes for it: reading goes on now. */
  resumed(_now: number): void {
    throw new Error("not yet")
  }

  /** Those that have got nothing for too long, and when to look again, in milliseconds of the clock. */
  expire(_now: number): { readonly stalled: ReadonlyArray<Assembly>; readonly due: number } {
    throw new Error("not yet")
  }
}
