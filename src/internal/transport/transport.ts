/**
 * A connection as both ends use it: a Duplex with a decoder at its reading half and a {@link Writer} at the other.
 *
 * It says exactly once that it is over (`onOver`), whatever ended it, and from then on hands out nothing and writes nothing.
 */
import type { Duplex } from "node:stream"
import { markAsUntransferable } from "node:worker_threads"
import { unexpected } from "../guard.ts"
import { freshBytes, isBytes } from "../memory/bytes.ts"
import { noteFreshShared } from "../memory/gcPacing.ts"
import { FrameDecoder, type FrameReceiver } from "../protocol/frame.ts"
import type { Traffic } from "../telemetry/metrics.ts"
import { attempt, readable } from "../userError.ts"
import { type Capabilities, capabilitiesOf } from "./capabilities.ts"
import { Progress } from "./progress.ts"
import { Writer, type WriterOwner } from "./writer.ts"

/** How much a connection takes. */
export interface TransportSettings {
  /** In bytes, for a message that arrives. */
  readonly maxMessageSize: number
  /** In bytes: where so many wait to be sent, there is no room for more. */
  readonly maxUnsentBytes: number
}

/** Why a connection is over. */
export type Over =
  /**
   * The peer ended or lost it, or we did with `destroy`. `isBroken` says that there is a defect: its duplex has thrown,
   * or given no bytes.
   */
  | { readonly _tag: "Lost"; readonly error: Error | undefined; readonly isBroken: boolean }
  /** The peer sent what the protocol does not allow. */
  | { readonly _tag: "Refused"; readonly problem: string }

export interface TransportOwner extends FrameReceiver, WriterOwner {
  /** Bytes have arrived; their messages follow. */
  onRead(): void
  /** A part of a message has arrived, with what `onRead` has told, and not all of it. Comes once for each message. */
  onPartial(): void
  onOver(over: Over): void
}

/**
 * For so long, in milliseconds, a connection is read on end while more keeps coming; then the others have their turn. Of a socket that is
 * flooded Node reads 2 MiB in one go, which may be tens of thousands of messages.
 */
const longestBurst = 1

/** Where there was nothing to be read for so long, in milliseconds, the others have had their turn. */
const pauseBetween = 0.05

export class Transport {
  readonly capabilities: Capabilities
  readonly writer: Writer
  private readonly duplex: Duplex
  private readonly decoder: FrameDecoder
  private readonly owner: TransportOwner
  private readonly traffic: Traffic
  private readonly ownsChunks: boolean
  private over = false
  /** Whether the owner wants nothing to be read, and whether others have their turn. */
  private paused = false
  private yielding = false
  /** When what is read on end began to be, and when it was handled up to now. */
  private burstAt = 0
  private handledAt = 0
  /** How many messages had come whole when the one began that is not whole yet; -1 where there is none. */
  private partialAfter = -1

  constructor(
    duplex: Duplex,
    owner: TransportOwner,
    types: number,
    { maxMessageSize, maxUnsentBytes }: TransportSettings,
    traffic: Traffic | undefined
  ) {
    this.duplex = duplex
    this.capabilities = capabilitiesOf(duplex)
    this.ownsChunks = this.capabilities.ownsChunks
    this.owner = owner
    this.traffic = traffic ?? { received: 0, sent: 0 }
    this.decoder = new FrameDecoder(owner, types, maxMessageSize, freshBytes)
    this.writer = new Writer(duplex, this.capabilities, owner, maxUnsentBytes, this.traffic, this.onBroken)
  }

  /** Starts to read. */
  start(): void {
    const { receiver } = this.capabilities
    try {
      this.duplex.on("error", this.onError)
      if (this.over) return
      this.duplex.on("end", this.onEnd)
      this.duplex.on("close", this.onEnd)
      if (this.duplex.destroyed || this.duplex.readableEnded) return this.lose(undefined, false)
      if (receiver !== undefined) receiver.attach(this)
      else this.duplex.on("data", this.onData)
    } catch (error) {
      this.onBroken(error)
    }
  }

  /** Reads no more until `resume`; what has been read already is still handed out. */
  pause(): void {
    this.paused = true
    this.pauseDuplex()
  }

  resume(): void {
    this.paused = false
    if (!this.yielding) this.resumeDuplex()
  }

  /**
   * Lets the system find out whether a peer is there that has been silent for long, where it can: over TCP, also below
   * TLS.
   */
  keepAlive(intervalMillis: number, timeoutMillis: number): void {
    if (Number.isFinite(intervalMillis)) this.capabilities.kernelKeepAlive?.(intervalMillis, timeoutMillis)
  }

  /** Watches what the peer takes. Each watcher sees what has changed since it looked itself. */
  progress(): Progress {
    return new Progress(this.capabilities, this.writer)
  }

  /** Takes bytes that have arrived. */
  receive(bytes: Uint8Array, start: number, end: number, owned: boolean): void {
    if (this.over) return
    this.traffic.received += end - start
    const writer = this.writer
    writer.inRead = true
    writer.handedByRead = writer.handed
    this.owner.onRead()
    let problem: string | undefined
    try {
      problem = this.decoder.feed(bytes, start, end, owned)
    } catch (error) {
      // Whatever it is, it costs this connection, and not the process.
      this.onBroken(error)
    }
    writer.inRead = false
    if (problem !== undefined) return this.finish({ _tag: "Refused", problem })
    if (this.over) return
    writer.flush()
    const { completed, isPartial } = this.decoder
    if (!isPartial) {
      this.partialAfter = -1
    } else if (this.partialAfter !== completed) {
      this.partialAfter = completed
      this.owner.onPartial()
    }
  }

  /** Whether a part of a message has arrived, and not all of it. */
  get isPartial(): boolean {
    return this.decoder.isPartial
  }

  /** Refuses the peer: what it sent is not what the protocol allows. */
  refuse(problem: string): void {
    this.finish({ _tag: "Refused", problem })
  }

  /** Ends the connection at once; `onOver` is called if it was not over before. */
  destroy(): void {
    this.lose(undefined, false)
  }

  /** Gives the connection up: it is lost with this error. */
  fail(error: Error): void {
    this.lose(error, false)
  }

  /** Ends the writing half, once the socket has taken everything that waits. */
  end(): void {
    if (!this.over) this.writer.end()
  }

  get isOver(): boolean {
    return this.over
  }

  private finish(over: Over): void {
    if (this.over) return
    this.over = true
    this.decoder.stop()
    attempt(() => {
      this.duplex.off("data", this.onData)
      this.duplex.off("end", this.onEnd)
      this.duplex.off("close", this.onEnd)
    }, undefined)
    // "error" stays: a socket that is destroyed may still report one, and without a listener that would end the process.
    attempt(() => {
      if (!this.duplex.destroyed) this.duplex.destroy()
    }, undefined)
    this.owner.onOver(over)
    // After the owner has looked at what was never sent.
    this.writer.close()
  }

  private lose(error: unknown, isBroken: boolean): void {
    this.finish({ _tag: "Lost", error: error === undefined ? undefined : readable(error), isBroken })
  }

  private pauseDuplex(): void {
    try {
      this.duplex.pause()
    } catch (error) {
      this.onBroken(error)
    }
  }

  private resumeDuplex(): void {
    try {
      this.duplex.resume()
    } catch (error) {
      this.onBroken(error)
    }
  }

  private readonly onData = (chunk: Uint8Array): void => {
    if (!isBytes(chunk)) return this.onBroken(unexpected("the data of a connection", "bytes", chunk))
    // Several receivers get views of it: none may take it along to another thread, away from the others and from the decoder.
    if (this.ownsChunks) markAsUntransferable(chunk.buffer)
    noteFreshShared(chunk.length)
    const now = performance.now()
    if (now - this.handledAt > pauseBetween) this.burstAt = now
    this.receive(chunk, 0, chunk.length, this.ownsChunks)
    this.handledAt = performance.now()
    if (this.handledAt - this.burstAt > longestBurst) this.yield()
  }

  private yield(): void {
    if (this.over || this.yielding) return
    this.yielding = true
    this.pauseDuplex()
    setImmediate(() => {
      this.yielding = false
      if (!this.paused && !this.over) this.resumeDuplex()
    })
  }

  private readonly onError = (error: unknown): void => {
    this.lose(error, false)
  }

  private readonly onEnd = (): void => {
    this.lose(undefined, false)
  }

  /** The duplex, which may be a user's own, has thrown: nobody knows what has become of it. */
  private readonly onBroken = (error: unknown): void => {
    this.lose(error ?? new Error("the connection threw nothing that says why"), true)
  }
}
