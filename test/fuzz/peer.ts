/**
 * The other end of a connection, which sends whatever bytes it is told to: in memory, where every piece arrives as it
 * was sent, or over a socket.
 */
import type * as net from "node:net"
import { Duplex } from "node:stream"

/** Who is told what happens at the other end. */
export interface PeerOwner {
  onBytes(bytes: Buffer): void
  /** The connection is closed, by either side. */
  onClosed(): void
}

export interface Peer {
  /** Sends a piece, which is the peer's from now on. */
  send(bytes: Buffer): void
  /** Ends it in order. */
  finish(): void
  /** Breaks it. */
  reset(): void
}

/** Messages larger than this may be handed over in pieces, between which a connection can break. */
export const inOnePiece = 1_000_000

const ignore = () => {}

/** A turn of the event loop. */
export const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

/**
 * A connection that is only one Duplex: what the package writes to it comes out at its owner, and what is sent is
 * pushed to the package. A slow one has taken what it is given only in a later turn, so that a writer has to wait.
 */
export class MemoryPeer implements Peer {
  /** The package's end. */
  readonly duplex: Duplex

  constructor(owner: PeerOwner, slow: boolean) {
    this.duplex = new Duplex({
      allowHalfOpen: false,
      ...(slow ? { writableHighWaterMark: 1 } : {}),
      read: ignore,
      write: (chunk: Buffer, _encoding, done) => {
        // Not copied: such a Duplex may keep what it gets.
        owner.onBytes(chunk)
        if (slow) setImmediate(done)
        else done()
      }
    })
    this.duplex.on("close", () => owner.onClosed())
    // A reset is no accident here.
    this.duplex.on("error", ignore)
  }

  send(bytes: Buffer): void {
    if (this.duplex.destroyed) return
    this.duplex.push(bytes)
    // The reader has copied what is to stay: a Duplex may pass on bytes that its writer uses again.
    if (this.duplex.readableLength === 0) bytes.fill(0xa5)
  }

  finish(): void {
    if (!this.duplex.destroyed) this.duplex.push(null)
  }

  reset(): void {
    this.duplex.destroy(new Error("the peer has broken the connection"))
  }
}

/** A socket in the same role. */
export class SocketPeer implements Peer {
  private readonly socket: net.Socket

  constructor(socket: net.Socket, owner: PeerOwner) {
    this.socket = socket
    socket.setNoDelay(true)
    socket.on("error", ignore)
    socket.on("data", (bytes: Buffer) => owner.onBytes(bytes))
    socket.on("close", () => owner.onClosed())
  }

  send(bytes: Buffer): void {
    if (!this.socket.destroyed) this.socket.write(bytes)
  }

  finish(): void {
    this.socket.end()
  }

  reset(): void {
    this.socket.resetAndDestroy()
  }
}
