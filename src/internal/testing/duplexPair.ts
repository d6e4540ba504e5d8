/**
 * Two connected in-memory Duplexes that behave as the two ends of a TCP connection between `net.Socket`s. It knows no
 * networks and no names.
 *
 * - Bytes are copied when they are written, and arrive in order in a later turn. A writer waits for its reader.
 * - An end arrives after the bytes before it, and is answered with an end (`allowHalfOpen: false`).
 * - A socket that is destroyed with an error, or gets bytes after it has closed, resets its peer.
 * - An `"error"` without a listener is dropped: a test that breaks connections also breaks connections that it does not
 *   watch.
 */
import { Duplex } from "node:stream"
import { connectionReset } from "./connectionReset.ts"
import { type Conditions, windowSize, Wire } from "./wire.ts"

/** A connection: its two ends, and the faults that it can have. */
export interface DuplexPair {
  readonly client: Duplex
  readonly server: Duplex
  /** Puts both directions under new conditions. */
  readonly impair: (conditions: { readonly toServer: Conditions; readonly toClient: Conditions }) => void
  /** Both ends see a reset, and nothing more is delivered. */
  readonly cut: () => void
  /** Closes both ends. */
  readonly close: () => void
}

const ignore = () => {}

/** One end. */
class MemorySocket extends Duplex {
  readonly #incoming: Wire
  readonly #outgoing: Wire
  readonly #onDestroy: () => void

  constructor(incoming: Wire, outgoing: Wire, onDestroy: () => void) {
    super({ allowHalfOpen: false, readableHighWaterMark: windowSize, writableHighWaterMark: windowSize })
    this.#incoming = incoming
    this.#outgoing = outgoing
    this.#onDestroy = onDestroy
    this.on("error", ignore)
  }

  override _read(): void {
    this.#incoming.ask()
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: (error?: Error | null) => void): void {
    this.#outgoing.send(copy([chunk]), callback)
  }

  override _writev(
    chunks: Array<{ chunk: Buffer; encoding: BufferEncoding }>,
    callback: (error?: Error | null) => void
  ): void {
    this.#outgoing.send(copy(chunks.map(({ chunk }) => chunk)), callback)
  }

  override _final(callback: (error?: Error | null) => void): void {
    this.#outgoing.end()
    callback()
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.#outgoing.abandonWrite(error)
    if (error === null) this.#outgoing.end()
    else this.#outgoing.reset()
    this.#incoming.receiverClosed()
    this.#onDestroy()
    callback(error)
  }
}

/** A copy in its own memory, not in Node's pool: the receiver must not share it. */
const copy = (chunks: ReadonlyArray<Buffer>): Buffer => {
  const bytes = Buffer.allocUnsafeSlow(chunks.reduce((size, chunk) => size + chunk.length, 0))
  let offset = 0
  for (const chunk of chunks) offset += chunk.copy(bytes, offset)
  return bytes
}

/** Connects two new sockets; `onClose` is called once both are closed. */
export const make = (onClose: () => void = ignore): DuplexPair => {
  const toServer = new Wire()
  const toClient = new Wire()
  const sever = () => {
    toServer.sever()
    toClient.sever()
  }
  let open = 2
  const onDestroy = () => {
    if (--open > 0) return
    sever()
    onClose()
  }
  const client = new MemorySocket(toClient, toServer, onDestroy)
  const server = new MemorySocket(toServer, toClient, onDestroy)
  const cut = () => {
    sever()
    client.destroy(connectionReset())
    server.destroy(connectionReset())
  }
  // In a later turn: the readers have handled the last bytes by then.
  const exhausted = () => {
    sever()
    setImmediate(cut)
  }
  toServer.connect({ receiver: server, bounce: () => toClient.reset(), exhausted })
  toClient.connect({ receiver: client, bounce: () => toServer.reset(), exhausted })
  return {
    client,
    server,
    impair: (conditions) => {
      toServer.impair(conditions.toServer)
      toClient.impair(conditions.toClient)
    },
    cut,
    close: () => {
      client.destroy()
      server.destroy()
    }
  }
}
