/**
 * The receiving end of a socket that reads into a buffer of ours (`onread`) and emits no `"data"`.
 *
 * It knows buffers and their reader, and no frames.
 */
import type { OnReadOpts } from "node:net"

/** Takes the bytes that were read. They are valid during the call only. */
export interface Reader {
  receive(bytes: Uint8Array, start: number, end: number, owned: boolean): void
}

/** The size of the buffer that a socket reads into. */
const bufferSize = 65_536

/** The size of the first one, which is enough for a version message. */
const firstBufferSize = 512

/**
 * Owns the buffer of one dial, and keeps what is read before there is a {@link Reader}.
 *
 * A dial may have several sockets that connect for seconds: all share the small buffer. The large one is made when
 * something has been read, which only happens on the socket that has won.
 */
export class OnreadReceiver {
  private early: Array<Uint8Array> = []
  private reader: Reader | undefined = undefined
  private buffer: Uint8Array | undefined = undefined
  private readonly first = new Uint8Array(firstBufferSize)
  readonly options: OnReadOpts = {
    // Node asks for it when a socket begins to connect, and after each read.
    buffer: () => this.buffer ?? this.first,
    callback: (length, buffer) => {
      this.buffer ??= new Uint8Array(bufferSize)
      if (this.reader !== undefined) this.reader.receive(buffer, 0, length, false)
      else this.early.push(Uint8Array.prototype.slice.call(buffer, 0, length))
      return true
    }
  }

  /** From now on `reader` gets what is read, first of all what was kept for it. */
  attach(reader: Reader): void {
    this.reader = reader
    const early = this.early
    this.early = []
    for (const chunk of early) reader.receive(chunk, 0, chunk.length, false)
  }
}
