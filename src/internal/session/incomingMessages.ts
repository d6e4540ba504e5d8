/**
 * The messages that come in parts on one connection.
 *
 * It must not know calls: who gets a message when it is whole is up to its session.
 */
import { u32At } from "../protocol/bytes.ts"
import type { Assembly, Unfinished } from "./unfinished.ts"

/** How many messages may come in parts at once. */
export const mostInParts = 64

/** The size of the length of the whole payload, at the start of a first part. */
const totalSize = 4

/** A message that comes in parts. */
export interface IncomingMessage {
  readonly id: number
  /** The length of its payload. */
  readonly total: number
  /** When its first part came, in milliseconds of the clock. */
  readonly firstAt: number
  /** Why its bytes are dropped, if they are: it is refused when it is whole. */
  readonly dropped: "TooLarge" | "Overloaded" | "Stalled" | "GivenUp" | undefined
}

/**
 * ```
 *            they do not fit, come too late,
 *  ┌──────┐  or nobody wants them any more   ┌─────────┐
 *  │ Kept │ ───────────────────────────────▶ │ Dropped │
 *  └──────┘                                  └─────────┘
 *      └──────── the rest comes: it is forgotten ─┘
 * ```
 */
class PartialMessage implements IncomingMessage {
  readonly id: number
  readonly total: number
  readonly firstAt: number
  /** How many bytes have come, those that were dropped included. */
  have = 0
  dropped: IncomingMessage["dropped"] = undefined
  /** Undefined once its bytes are dropped. */
  assembly: Assembly | undefined

  constructor(id: number, total: number, firstAt: number, assembly: Assembly | undefined) {
    this.id = id
    this.total = total
    this.firstAt = firstAt
    this.assembly = assembly
  }
}

/** The messages in parts of one connection, in this direction. */
export class IncomingMessages {
  private readonly unfinished: Unfinished
  private readonly maxMessageSize: number
  private readonly smallestFirst: number
  private readonly messages = new Map<number, PartialMessage>()

  /** `smallestFirst` is the smallest payload of a first part. */
  constructor(unfinished: Unfinished, maxMessageSize: number, smallestFirst: number) {
    this.unfinished = unfinished
    this.maxMessageSize = maxMessageSize
    this.smallestFirst = Math.max(smallestFirst, totalSize)
  }

  get size(): number {
    return this.messages.size
  }

  get(id: number): IncomingMessage | undefined {
    return this.messages.get(id)
  }

  /** The bytes of the payload that have come so far; undefined where they are dropped. They change with each part. */
  bytesOf({ id }: IncomingMessage): Uint8Array | undefined {
    const assembly = this.messages.get(id)?.assembly
    return assembly?.buffer.subarray(0, assembly.have)
  }

  /** A part has come, the first of its message if there is none with this id. Returns why the peer must be refused. */
  part(id: number, bytes: Uint8Array, start: number, end: number): string | undefined {
    const message = this.messages.get(id)
    if (message !== undefined) return this.add(message, bytes, start, end)
    if (end - start < this.smallestFirst) {
      return `a first part of ${end - start} bytes, expected at least ${this.smallestFirst}`
    }
    if (this.messages.size >= mostInParts) return `more than ${mostInParts} messages in parts at once`
    const total = u32At(bytes, start)
    const isTooLarge = total > this.maxMessageSize
    const begun = new PartialMessage(
      id,
      total,
      this.unfinished.now(),
      isTooLarge ? undefined : this.unfinished.begin(total)
    )
    if (isTooLarge) begun.dropped = "TooLarge"
    this.messages.set(id, begun)
    return this.add(begun, bytes, start + totalSize, end)
  }

  /**
   * The message with the rest has come. Returns the whole payload, or undefined where its bytes were dropped; or why
   * the peer must be refused, as a text.
   */
  finish(message: IncomingMessage, bytes: Uint8Array, start: number, end: number): Uint8Array | string | undefined {
    const known = this.known(message)
    const problem = this.add(known, bytes, start, end)
    if (problem !== undefined) return problem
    if (known.have < known.total) {
      return `parts of ${known.have} bytes, the last one included, of a message of ${known.total}`
    }
    const { assembly } = known
    this.messages.delete(known.id)
    if (assembly === undefined) return undefined
    known.assembly = undefined
    return this.unfinished.finish(assembly)
  }

  /** Its bytes are dropped from now on; it is known until its rest comes. */
  drop(message: IncomingMessage): void {
    this.dropBytes(this.known(message), "GivenUp")
  }

  /** It is forgotten: nothing more of it will come. */
  forget(id: number): void {
    const message = this.messages.get(id)
    if (message === undefined) return
    this.messages.delete(id)
    this.dropBytes(message, "GivenUp")
  }

  /** Drops those that have got nothing for too long. Returns them. To be called when `Unfinished.expire` is due. */
  stalled(assemblies: ReadonlyArray<object>): ReadonlyArray<IncomingMessage> {
    const stalled: Array<PartialMessage> = []
    for (const message of this.messages.values()) {
      if (message.assembly === undefined || !assemblies.includes(message.assembly)) continue
      this.dropBytes(message, "Stalled")
      stalled.push(message)
    }
    return stalled
  }

  private add(message: PartialMessage, bytes: Uint8Array, start: number, end: number): string | undefined {
    const have = message.have + end - start
    if (have > message.total) return `parts of ${have} bytes of a message of ${message.total}`
    message.have = have
    const { assembly } = message
    if (assembly !== undefined && !this.unfinished.add(assembly, bytes, start, end)) {
      this.dropBytes(message, assembly.isStalled ? "Stalled" : "Overloaded")
    }
    return undefined
  }

  private dropBytes(message: PartialMessage, why: IncomingMessage["dropped"]): void {
    message.dropped ??= why
    if (message.assembly === undefined) return
    this.unfinished.drop(message.assembly)
    message.assembly = undefined
  }

  private known(message: IncomingMessage): PartialMessage {
    const known = this.messages.get(message.id)
    if (known !== message) throw new Error(`a message in parts with the id ${message.id} is not known`)
    return known
  }
}
