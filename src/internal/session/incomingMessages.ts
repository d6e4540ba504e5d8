/**
 * The messages that come in parts on one connection.
 *
 * It must not know calls: who gets a message when it is whole is up to its session.
 */
import type { Unfinished } from "./unfinished.ts"

/** How many messages may come in parts at once. */
export const mostInParts = 64

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

/** The messages in parts of one connection, in this direction. */
export class IncomingMessages {
  /** `smallestFirst` is the smallest payload of a first part. */
  constructor(_unfinished: Unfinished, _maxMessageSize: number, _smallestFirst: number) {}

  get size(): number {
    throw new Error("not yet")
  }

  get(_id: number): IncomingMessage | undefined {
    throw new Error("not yet")
  }

  /** The bytes of the payload that have come so far; undefined where they are dropped. They change with each part. */
  bytesOf(_message: IncomingMessage): Uint8Array | undefined {
    throw new Error("not yet")
  }

  /** A part has come, the first of its message if there is none with this id. Returns why the peer must be refused. */
  part(_id: number, _bytes: Uint8Array, _start: number, _end: number): string | undefined {
    throw new Error("not yet")
  }

  /**
   * The message with the rest has come. Returns the whole payload, or undefined where its bytes were dropped; or why
   * the peer must be refused, as a text.
   */
  finish(_message: IncomingMessage, _bytes: Uint8Array, _start: number, _end: number): Uint8Array | string | undefined {
    throw new Error("not yet")
  }

  /** Its bytes are dropped from now on; it is known until its rest comes. */
  drop(_message: IncomingMessage): void {
    throw new Error("not yet")
  }

  /** It is forgotten: nothing more of it will come. */
  forget(_id: number): void {
    throw new Error("not yet")
  }

  /** Drops those that have got nothing for too long. Returns them. To be called when `Unfinished.expire` is due. */
  stalled(_assemblies: ReadonlyArray<object>): ReadonlyArray<IncomingMessage> {
    throw new Error("not yet")
  }
}
