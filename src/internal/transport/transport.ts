/**
 * A connection as both ends use it: a Duplex with a decoder at its reading half and a {@link Writer} at the other.
 *
 * It says exactly once that it is over (`onOver`), whatever ended it, and from then on delivers and writes nothing. It
 * knows frames, and neither calls nor what the Duplex is: `capabilities.ts` does.
 */
import type { Duplex } from "node:stream"
import { markAsUntransferable } from "node:worker_threads"
import { unexpected } from "../guard.ts"
import { freshBytes, isBytes } from "../memory/bytes.ts"
import { noteFreshShared } from "../memory/gcPacing.ts"
import { FrameDecoder, type FrameReceiver } from "../protocol/frame.ts"
import type { Traffic } from "../telemetry/metrics.ts"
import { checkTransition, type Transitions } from "../transitions.ts"
import { attempt, readable } from "../userError.ts"
import { Burst } from "./burst.ts"
import { type Capabilities, capabilitiesOf } from "./capabilities.ts"
import { Progress } from "./progress.ts"
import { Writer, type WriterOwner } from "./writer.ts"

/** The limits of a connection, in bytes. */
export interface TransportSettings {
  /** The largest message that it takes. */
  readonly maxMessageSize: number
  /** When so many bytes wait to be sent, there is no room for more. */
  readonly maxUnsentBytes: number
}

/** Why a connection is over. */
export type Over =
  /**
   * The peer ended or lost it, or we did with `destroy`. `isBroken` says that there is a defect: the Duplex has thrown,
   * or delivered something other than bytes.
   */
  | { readonly _tag: "Lost"; readonly error: Error | undefined; readonly isBroken: boolean }
  /** The peer sent what the protocol does not allow. */
  | { readonly _tag: "Refused"; readonly problem: string }

/** What the owner of a transport hears. */
export interface TransportOwner extends FrameReceiver, WriterOwner {
  /** Bytes have arrived; their messages follow. */
  onRead(): void
  /** With the bytes that `onRead` has announced, a part of a message has arrived. Called once for each such message. */
  onPartial(): void
  /** The connection is over. Called once. */
  onOver(over: Over): void
}

/**
 * Whether the Duplex is read:
 *
 * ```
 *              pause
 *  ┌─────────┐ ──────▶ ┌────────┐
 *  │ Reading │         │ Paused │
 *  └─────────┘ ◀────── └────────┘
 *     │   ▲    resume    │    ▲
 *     │   │              │    │        down: a burst has lasted for long enough
 *     ▼   │              ▼    │        up: the others have had their turn
 *  ┌──────────┐ pause  ┌────────────────┐
 *  │ Yielding │ ─────▶ │ PausedYielding │
 *  └──────────┘ ◀───── └────────────────┘
 *              resume
 *
 *  from each: Over
 * ```
 *
 * The Duplex flows in `Reading` only.
 */
type ReadState = "Reading" | "Paused" | "Yielding" | "PausedYielding" | "Over"

const allowed: Transitions<ReadState> = {
  Reading: ["Paused", "Yielding", "Over"],
  Paused: ["Reading", "PausedYielding", "Over"],
  Yielding: ["Reading", "PausedYielding", "Over"],
  PausedYielding: ["Yielding", "Paused", "Over"],
  Over: []
}

/** One connection: it turns what is read into messages, and tells its owner how the connection ends. */
export class Transport {
  readonly capabilities: Capabilities
  readonly writer: Writer
  private readonly duplex: Duplex
  private readonly decoder: FrameDecoder
  private readonly owner: TransportOwner
  private readonly traffic: Traffic
  private readonly ownsChunks: boolean
  private readonly burst = new Burst()
  private state: ReadState = "Reading"
  /** How many messages were complete when the one began that is not complete yet; -1 where there is none. */
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
      if (this.isOver) return
      this.duplex.on("end", this.onEnd)
      this.duplex.on("close", this.onEnd)
      if (this.duplex.destroyed || this.duplex.readableEnded) return this.lose(undefined, false)
      if (receiver !== undefined) receiver.attach(this)
      else this.duplex.on("data", this.onData)
    } catch (error) {
      this.onBroken(error)
    }
  }

  /** Reads no more until `resume`. Messages that have been read already still come. */
  pause(): void {
    if (this.state === "Reading") this.transition("Paused")
    else if (this.state === "Yielding") this.transition("PausedYielding")
  }

  /** Reads again. */
  resume(): void {
    if (this.state === "Paused") this.transition("Reading")
    else if (this.state === "PausedYielding") this.transition("Yielding")
  }

  /** Lets the system probe a peer that is silent, where it can. Times in milliseconds. */
  keepAlive(interval: number, timeout: number): void {
    if (Number.isFinite(interval)) this.capabilities.kernelKeepAlive?.(interval, timeout)
  }

  /** Makes a watcher of what the peer takes. Each watcher sees what has changed since it looked itself. */
  progress(): Progress {
    return new Progress(this.capabilities, this.writer)
  }

  /** Takes bytes that have arrived. `owned`: no other code writes into them. */
  receive(bytes: Uint8Array, start: number, end: number, owned: boolean): void {
    if (this.isOver) return
    this.traffic.received += end - start
    const writer = this.writer
    writer.beginRead()
    this.owner.onRead()
    let problem: string | undefined
    try {
      problem = this.decoder.feed(bytes, start, end, owned)
    } catch (error) {
      // Whatever it is, it costs this connection, and not the process.
      this.onBroken(error)
    }
    writer.endRead()
    if (problem !== undefined) return this.finish({ _tag: "Refused", problem })
    if (this.isOver) return
    writer.flush()
    const { completed, isPartial } = this.decoder
    if (!isPartial) {
      this.partialAfter = -1
    } else if (this.partialAfter !== completed) {
      this.partialAfter = completed
      this.owner.onPartial()
    }
  }

  /** Takes messages of these types, too: a bit set. */
  allow(types: number): void {
    this.decoder.allow(types)
  }

  /** Whether a part of a message has arrived, and not all of it. */
  get isPartial(): boolean {
    return this.decoder.isPartial
  }

  /** Refuses the peer: it sent what the protocol does not allow. */
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
    if (!this.isOver) this.writer.end()
  }

  get isOver(): boolean {
    return this.state === "Over"
  }

  private transition(state: ReadState): void {
    const before = this.state
    checkTransition("the reading half of a transport", allowed, before, state)
    this.state = state
    if (state === "Reading") this.resumeDuplex()
    else if (before === "Reading" && state !== "Over") this.pauseDuplex()
  }

  private finish(over: Over): void {
    if (this.isOver) return
    this.transition("Over")
    this.decoder.stop()
    attempt(() => {
      this.duplex.off("data", this.onData)
      this.duplex.off("end", this.onEnd)
      this.duplex.off("close", this.onEnd)
    }, undefined)
    // "error" stays: a destroyed socket may still report one, and without a listener that would end the process.
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
    // Several receivers get views of this buffer. None may transfer it to another thread: the others, and the decoder,
    // still need it.
    if (this.ownsChunks) markAsUntransferable(chunk.buffer)
    noteFreshShared(chunk.length)
    this.burst.begin(performance.now())
    this.receive(chunk, 0, chunk.length, this.ownsChunks)
    if (this.burst.end(performance.now())) this.yield()
  }

  private yield(): void {
    if (this.state === "Reading") this.transition("Yielding")
    else if (this.state === "Paused") this.transition("PausedYielding")
    else return
    setImmediate(this.goOn)
  }

  /** The others have had their turn. */
  private readonly goOn = (): void => {
    if (this.state === "Yielding") this.transition("Reading")
    else if (this.state === "PausedYielding") this.transition("Paused")
  }

  private readonly onError = (error: unknown): void => {
    this.lose(error, false)
  }

  private readonly onEnd = (): void => {
    this.lose(undefined, false)
  }

  /** The Duplex, which may be a user's own, has thrown: its state is unknown. */
  private readonly onBroken = (error: unknown): void => {
    this.lose(error ?? new Error("the connection threw no error"), true)
  }
}
