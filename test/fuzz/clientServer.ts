/** The server's end of a connection to a client under test. */
import { inOnePiece, type Peer, type PeerOwner } from "./peer.ts"
import { versionMessage } from "./toClient.ts"
import { type Frame, message, Reader, readRequest, readVersion, type Request, serverTypes, type } from "./wire.ts"

/** A call whose request a server may get. */
export interface Expected {
  /** Whether a request is that of this call. */
  isIn(request: Request): boolean
  /** Where its request came, and with which id. */
  readonly places: Array<{ readonly server: Server; readonly id: bigint }>
}

/**
 * A server's end of a connection. It looks at what a client sends, and answers by itself only where it is to be a good
 * one.
 */
export class Server implements PeerOwner {
  peer: Peer | undefined = undefined
  closed = false
  problem: string | undefined = undefined
  private good: boolean
  private greeted = false
  private lastId = 0n
  /** The requests that were not canceled. */
  readonly open = new Set<bigint>()
  private readonly reader = new Reader(serverTypes, (frame) => this.onFrame(frame))
  private readonly calls: ReadonlyArray<Expected>
  private readonly isLossless: boolean

  /** `calls` are the calls whose requests it may get, and grow; without losses, no message may be cut. */
  constructor(calls: ReadonlyArray<Expected>, good: boolean, isLossless: boolean) {
    this.calls = calls
    this.good = good
    this.isLossless = isLossless
  }

  onBytes(bytes: Buffer): void {
    this.reader.read(bytes)
    if (this.reader.refused) this.fail("sent what a server never gets")
  }

  onClosed(): void {
    this.closed = true
    const { partial } = this.reader
    if (this.isLossless && partial > 0 && partial < inOnePiece) this.fail("broke off amid a message")
  }

  /** From now on it is a good one. */
  improve(): void {
    this.good = true
  }

  private fail(problem: string): void {
    this.problem ??= `the client ${problem}`
  }

  private onFrame(frame: Frame): void {
    if (frame.type === type.version) return this.onVersion(frame)
    if (!this.greeted) this.fail("began without a version message")
    if (frame.type === type.cancel) {
      if (!this.open.delete(frame.id) || frame.payload.length > 0) this.fail(`canceled ${frame.id}`)
      return
    }
    const request = readRequest(frame.payload)
    const made = request === undefined ? undefined : this.calls.find((made) => made.isIn(request))
    // Ids may be missing, of calls that were given up before they were sent.
    if (request === undefined || made === undefined || frame.id <= this.lastId) {
      return this.fail(`sent request ${frame.id}, which is no call's: ${frame.payload.toString("hex", 0, 100)}`)
    }
    this.lastId = frame.id
    this.open.add(frame.id)
    made.places.push({ server: this, id: frame.id })
    if (this.good) this.peer?.send(message(frame.id, type.response, request.args))
  }

  private onVersion(frame: Frame): void {
    const version = readVersion(frame)
    if (version?.version !== 0 || (frame.payload.length !== 4 && frame.payload.length !== 8)) {
      this.fail(`sent the version ${frame.payload.toString("hex")}`)
    }
    this.greeted = true
    if (this.good) this.peer?.send(versionMessage({ extra: 0, flags: 0 }))
  }
}
