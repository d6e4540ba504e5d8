/**
 * What has come in part on one connection: items in pieces and messages in parts, each put together in one buffer that
 * grows with the bytes as they come.
 *
 * It must not know streams or calls.
 *
 * The room of a connection counts the buffers and not the bytes in them: a length alone must not make us hold more. No
 * buffer is larger than its total, so a peer that keeps to the limit of a sender always has room.
 */
import { freshBytes } from "../memory/bytes.ts"

/** How many bytes of unfinished items and messages a receiver holds beyond the largest message. */
export const unfinishedRoom = 67_108_864

/** At most this much is allocated at first, whatever the total is. */
const firstAllocation = 1_048_576

const nothing = new Uint8Array(0)

/** Something that is put together of pieces. Only its {@link Unfinished} changes it. */
export class Assembly {
  readonly total: number
  have = 0
  /** When its last bytes came, in milliseconds of the clock. */
  lastAt: number
  /** Whether it was given up since it got nothing for too long. */
  isStalled = false
  /** Its first `have` bytes are those that have come. */
  buffer: Uint8Array = nothing

  constructor(total: number, now: number) {
    this.total = total
    this.lastAt = now
  }
}

/** The unfinished items and messages of one connection. */
export class Unfinished {
  private readonly room: number
  private readonly timeoutMillis: number
  /** The time, in milliseconds of the clock. */
  readonly now: () => number
  private readonly assemblies = new Set<Assembly>()
  private heldBytes = 0
  /** When reading went on for the last time. */
  private resumedAt = -Infinity

  /** `maxMessageSize` in bytes; `timeoutMillis` is how long one may get nothing; `now` in milliseconds of the clock. */
  constructor(maxMessageSize: number, timeoutMillis: number, now: () => number) {
    this.room = maxMessageSize + unfinishedRoom
    this.timeoutMillis = timeoutMillis
    this.now = now
  }

  get isEmpty(): boolean {
    return this.assemblies.size === 0
  }

  /** How large their buffers are together, in bytes. */
  get held(): number {
    return this.heldBytes
  }

  begin(total: number): Assembly {
    const assembly = new Assembly(total, this.now())
    this.assemblies.add(assembly)
    return assembly
  }

  /**
   * Adds bytes. Returns false where they do not fit into the room of the connection, or it was given up. The caller has
   * checked that they fit into the total.
   */
  add(assembly: Assembly, bytes: Uint8Array, start: number, end: number): boolean {
    if (!this.assemblies.has(assembly)) return false
    const have = assembly.have + end - start
    if (have > assembly.total) throw new Error(`${have} bytes of something unfinished with ${assembly.total} in all`)
    const { buffer } = assembly
    if (have > buffer.length) {
      const size = Math.min(assembly.total, Math.max(have, buffer.length * 2, firstAllocation))
      if (this.heldBytes - buffer.length + size > this.room) return false
      this.heldBytes += size - buffer.length
      assembly.buffer = freshBytes(size)
      assembly.buffer.set(buffer.subarray(0, assembly.have))
    }
    assembly.buffer.set(bytes.subarray(start, end), assembly.have)
    assembly.have = have
    assembly.lastAt = this.now()
    return true
  }

  /** It is whole: its bytes, which belong to the caller. */
  finish(assembly: Assembly): Uint8Array {
    const { buffer, have, total } = assembly
    if (have !== total || !this.assemblies.has(assembly)) {
      throw new Error(`something unfinished is taken with ${have} of ${total} bytes`)
    }
    this.drop(assembly)
    return buffer
  }

  /** It is given up. It can be repeated. */
  drop(assembly: Assembly): void {
    if (!this.assemblies.delete(assembly)) return
    this.heldBytes -= assembly.buffer.length
    assembly.buffer = nothing
  }

  /** While nothing is read from the peer, no time passes for it: reading goes on now. */
  resumed(now: number): void {
    this.resumedAt = now
  }

  /** Whether it has got nothing for too long. */
  isStalled(assembly: Assembly, now: number): boolean {
    return assembly.isStalled || now >= this.until(assembly)
  }

  /**
   * Those that have got nothing for too long, and when to look again, in milliseconds of the clock; Infinity for never.
   * They are given up, and so are returned only once.
   */
  expire(now: number): { readonly stalled: ReadonlyArray<Assembly>; readonly due: number } {
    const stalled: Array<Assembly> = []
    let due = Infinity
    for (const assembly of this.assemblies) {
      const until = this.until(assembly)
      if (now >= until) stalled.push(assembly)
      else due = Math.min(due, until)
    }
    for (const assembly of stalled) {
      assembly.isStalled = true
      this.drop(assembly)
    }
    return { stalled, due }
  }

  private until(assembly: Assembly): number {
    return Math.max(assembly.lastAt, this.resumedAt) + this.timeoutMillis
  }
}
