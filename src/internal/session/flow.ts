/**
 * The messages of items and parts of one connection: when they leave, and how many bytes of them are in flight.
 *
 * It knows turns and bytes. What a message says is up to each {@link Cut}.
 */
import type { Writer } from "../transport/writer.ts"
import type { Messages } from "./messages.ts"

/** Something that leaves in pieces, each in its turn: the items of a stream, or a large message in parts. */
export interface Cut {
  /** Queues about `quantum` bytes at most. Returns whether it has more that could leave now. */
  cut(quantum: number): boolean
}

/** The items and parts of one connection. */
export class Flow {
  constructor(_messages: Messages, _writer: Writer) {}

  /** Whether both peers know streams. Before that, nothing is queued here. */
  get isOn(): boolean {
    throw new Error("not yet")
  }

  /** Both peers know streams. It can be repeated. */
  start(): void {
    throw new Error("not yet")
  }

  /** A piece gets its turns until it has nothing more to leave. */
  add(_cut: Cut): void {
    throw new Error("not yet")
  }

  /** It has no turn any more. */
  remove(_cut: Cut): void {
    throw new Error("not yet")
  }

  /** The turn is over: queues what may leave now. To be called in `onFlush`. */
  turn(): void {
    throw new Error("not yet")
  }

  /** The peer has read so many bytes of items and parts (credit for id 0). Returns what is wrong with that. */
  landed(_bytes: number): string | undefined {
    throw new Error("not yet")
  }

  /** The payload of a message of items or of a part was read, whatever becomes of it: the peer is told at times. */
  read(_bytes: number): void {
    throw new Error("not yet")
  }

  /** Lets the peer send so many bytes more on stream `id`. */
  grant(_id: number, _bytes: number): void {
    throw new Error("not yet")
  }

  /** The connection is over: nothing leaves any more. */
  close(): void {
    throw new Error("not yet")
  }
}
