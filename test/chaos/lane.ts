/**
 * One direction of a proxied connection: bytes are passed on in their order, whatever happens to them on the way.
 */
import type * as net from "node:net"
import type { Random } from "./random.ts"

/** What is done to the bytes of a lane. */
export interface Weather {
  /** How long each piece takes, in ms. */
  delay: number
  /** How large the pieces are at most that a chunk begins with; undefined where it is left whole. */
  pieces: number | undefined
  /** Nothing arrives any more. */
  held: boolean
  /** After so many bytes the lane is cut; undefined where it is not. */
  budget: number | undefined
}

/** Bytes, or undefined for the end of them, and when they are to arrive. */
interface Item {
  readonly bytes: Uint8Array | undefined
  readonly due: number
}

/** How many pieces a chunk is split into. */
const mostPieces = 16

/** How many bytes are on their way at most. */
const capacity = 256 * 1024

export class Lane {
  private readonly from: net.Socket
  private readonly to: net.Socket
  private readonly weather: Weather
  private readonly random: Random
  /** Its budget is spent. */
  private readonly onCut: () => void
  private queue: Array<Item> = []
  private waiting = 0
  private blocked = false
  private lost = false
  private cut = false
  private timer: NodeJS.Timeout | undefined = undefined
  private turn: NodeJS.Immediate | undefined = undefined

  constructor(from: net.Socket, to: net.Socket, weather: Weather, random: Random, onCut: () => void) {
    this.from = from
    this.to = to
    this.weather = weather
    this.random = random
    this.onCut = onCut
    from.on("data", (chunk: Uint8Array) => {
      for (const piece of this.split(chunk)) this.add(piece)
      this.pump()
    })
    from.on("end", () => {
      this.add(undefined)
      this.pump()
    })
    from.on("close", () => {
      // What was lost with a connection that broke is lost behind it, too; one that has ended in order may still have
      // bytes on their way.
      this.lost = !from.readableEnded
      this.pump()
    })
    to.on("drain", () => {
      this.blocked = false
      this.pump()
    })
    to.on("close", () => this.stop())
  }

  /** Passes on what is due. To be called when the weather has changed. */
  pump(): void {
    if (this.weather.held || this.cut) return this.breathe()
    if (this.lost) return this.breakOff()
    const now = performance.now()
    while (!this.blocked) {
      const item = this.queue[0]
      if (item === undefined) break
      if (item.due > now) {
        this.timer ??= setTimeout(() => {
          this.timer = undefined
          this.pump()
        }, item.due - now)
        break
      }
      this.queue.shift()
      if (item.bytes === undefined) this.to.end()
      else this.pass(item.bytes)
      if (this.cut) return
      if (this.weather.pieces !== undefined && this.queue.length > 0) {
        // In a turn of its own, so that the pieces do not leave together after all.
        this.turn ??= setImmediate(() => {
          this.turn = undefined
          this.pump()
        })
        break
      }
    }
    this.breathe()
  }

  /** Nothing is passed on any more. */
  stop(): void {
    this.cut = true
    this.queue = []
    this.waiting = 0
    clearTimeout(this.timer)
    clearImmediate(this.turn)
    // What still comes is dropped, but its sender must be able to end.
    this.from.resume()
  }

  private add(bytes: Uint8Array | undefined): void {
    if (this.cut) return
    // Later pieces do not overtake earlier ones when the delay gets shorter.
    const due = Math.max(performance.now() + this.weather.delay, this.queue.at(-1)?.due ?? 0)
    this.queue.push({ bytes, due })
    this.waiting += bytes?.length ?? 0
  }

  private split(chunk: Uint8Array): ReadonlyArray<Uint8Array> {
    const { pieces } = this.weather
    if (pieces === undefined) return [chunk]
    const split: Array<Uint8Array> = []
    let at = 0
    while (split.length < mostPieces - 1 && at < chunk.length) {
      const end = at + this.random.whole(1, pieces)
      split.push(chunk.subarray(at, end))
      at = end
    }
    if (at < chunk.length) split.push(chunk.subarray(at))
    return split
  }

  private pass(bytes: Uint8Array): void {
    this.waiting -= bytes.length
    const { budget } = this.weather
    const passed = budget === undefined ? bytes : bytes.subarray(0, budget)
    if (budget !== undefined) this.weather.budget = budget - passed.length
    const spent = this.weather.budget === 0
    this.blocked = !this.to.write(passed, () => {
      if (spent) this.onCut()
    })
    if (spent) this.stop()
  }

  private breakOff(): void {
    this.stop()
    reset(this.to)
  }

  private breathe(): void {
    if (this.cut || (this.waiting < capacity && !this.weather.held)) this.from.resume()
    else this.from.pause()
  }
}

/** Breaks a connection off: over TCP with a reset. */
export const reset = (socket: net.Socket): void => {
  if (socket.remoteAddress === undefined) socket.destroy()
  else socket.resetAndDestroy()
}
