/**
 * Adapts a custom Duplex for Node's TLS. This file knows nothing of TLS.
 *
 * Node calls the Duplex below TLS from the event loop: an exception of its methods would end the process. Here it
 * becomes an error of the stream. So does data that is no bytes.
 */
import { Duplex } from "node:stream"
import { shown } from "../guard.ts"
import { isBytes } from "../memory/bytes.ts"
import { capabilitiesOf } from "../transport/capabilities.ts"
import { readable } from "../userError.ts"

/** The stream that TLS gets for a Duplex. It is the Duplex itself only if TLS reads and writes its handle directly. */
export const belowTls = (raw: Duplex): Duplex => capabilitiesOf(raw).hasHandle ? raw : new Bridge(raw)

/** A stream that reads from and writes to another Duplex, which may throw. */
class Bridge extends Duplex {
  private readonly below: Duplex
  /** Asks for the next bytes to write. Undefined unless the Duplex below has yet to drain. */
  private written: ((error?: Error) => void) | undefined = undefined
  private ended = false

  constructor(below: Duplex) {
    super()
    this.below = below
    below.on("error", (error: unknown) => this.destroy(readable(error)))
    below.on("end", () => this.endReading())
    below.on("close", () => {
      this.endReading()
      // Bytes that have arrived are read first.
      if (this.readableLength === 0) this.destroy()
      else this.once("end", () => this.destroy())
    })
    below.on("drain", () => this.goOn())
    below.on("data", (chunk: unknown) => {
      if (this.ended) return
      if (!isBytes(chunk)) this.destroy(new TypeError(`expected bytes from the Duplex, got ${shown(chunk)}`))
      else if (!this.push(chunk)) this.try(() => below.pause())
    })
  }

  override _read(): void {
    this.try(() => this.below.resume())
  }

  override _write(chunk: Uint8Array, _encoding: string, callback: (error?: Error) => void): void {
    this.written = callback
    this.try(() => {
      if (this.below.write(chunk)) this.goOn()
    })
  }

  override _final(callback: () => void): void {
    this.try(() => this.below.end())
    callback()
  }

  override _destroy(error: Error | null, callback: (error: Error | null) => void): void {
    this.ended = true
    try {
      this.below.destroy()
      callback(error)
    } catch (thrown) {
      callback(error ?? readable(thrown))
    }
  }

  private try(use: () => void): void {
    try {
      use()
    } catch (error) {
      this.destroy(readable(error))
    }
  }

  private goOn(): void {
    const { written } = this
    this.written = undefined
    written?.()
  }

  private endReading(): void {
    if (this.ended) return
    this.ended = true
    this.push(null)
  }
}
