/**
 * Two connected in-memory duplexes that behave as the two ends of a TCP connection between `net.Socket`s do.
 *
 * Bytes are copied when they are written and arrive in order in a later turn; a writer waits for its reader; an end
 * arrives after the bytes before it, and is answered with one's own (`allowHalfOpen: false`); a socket that is
 * destroyed with an error, or that gets bytes after it has closed, resets its peer. An `"error"` that nobody listens to
 * is dropped, since a test that breaks connections breaks the ones that nobody looks at as well.
 */
import { Duplex } from "node:stream"
import { connectionReset } from "./connectionReset.ts"
import { type Conditions, windowSize, Wire } from "./wire.ts"

/** A connection: its two ends, and what can be done to it from outside. */
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

/** Into memory of its own, not node's pool, so that who receives it shares it with nobody. */
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
  // In a later turn, so that the readers have handled the last bytes.
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
