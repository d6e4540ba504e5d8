/**
 * Peers that do as they like: the protocol's bytes written by hand, a client that sends any bytes, and a proxy that
 * cuts connections.
 */
import { Effect, type Scope } from "effect"
import type { Endpoint, MethodKey } from "effect-call"
import * as net from "node:net"
import type { Duplex } from "node:stream"
import { makePatience } from "../support/patience.ts"

export const type = { version: 0, request: 1, response: 2, responseError: 3, cancel: 4 } as const

/** A message, whatever its fields. `length` is that of the payload where nothing else is said. */
export const message = (
  id: number | bigint,
  type: number,
  payload: Uint8Array = new Uint8Array(),
  length: bigint = BigInt(payload.length)
): Buffer => {
  const header = Buffer.alloc(16)
  header.writeBigUInt64LE(BigInt(id), 0)
  header.writeBigUInt64LE(BigInt(type) | (length << 8n), 8)
  return Buffer.concat([header, payload])
}

/** A version message as the reference sends it: 20 bytes. */
export const version: Buffer = message(0, type.version, Buffer.alloc(4))

/** A request: 65 bytes and its arguments. */
export const request = (
  id: number | bigint,
  key: MethodKey.MethodKey,
  args: Uint8Array = new Uint8Array(),
  deadlineMicros: bigint = 0n
): Buffer => {
  const header = Buffer.alloc(49)
  header.set(key.bytes)
  header.writeBigInt64LE(deadlineMicros, 16)
  return message(id, type.request, Buffer.concat([header, args]))
}

/** A message that has come back. */
export interface Received {
  readonly id: bigint
  readonly type: number
  readonly payload: Buffer
}

/** The messages in `bytes`, and what is left of an unfinished one. */
const split = (bytes: Buffer): { readonly messages: ReadonlyArray<Received>; readonly rest: Buffer } => {
  const messages: Array<Received> = []
  let at = 0
  while (bytes.length - at >= 16) {
    const word = bytes.readBigUInt64LE(at + 8)
    const end = at + 16 + Number(word >> 8n)
    if (bytes.length < end) break
    messages.push({
      id: bytes.readBigUInt64LE(at),
      type: Number(word & 0xffn),
      payload: Buffer.from(bytes.subarray(at + 16, end))
    })
    at = end
  }
  return { messages, rest: bytes.subarray(at) }
}

/**
 * Waits until a condition holds, looking again at each turn of the event loop; a defect that says what was waited for
 * in vain.
 */
export const until = (what: string, holds: () => boolean): Effect.Effect<void> =>
  Effect.callback<void>((resume) => {
    const isTooLong = makePatience()
    const look = () => {
      if (holds()) resume(Effect.void)
      else if (isTooLong()) resume(Effect.die(new Error(`waited in vain: ${what}`)))
      else next = setImmediate(look)
    }
    let next = setImmediate(look)
    return Effect.sync(() => clearImmediate(next))
  })

/** As {@link until}, for a condition that takes an Effect to see. */
export const untilEffect = (what: string, holds: Effect.Effect<boolean>): Effect.Effect<void> =>
  until(what, () => Effect.runSync(holds))

/** A client that sends whatever it is told to. */
export class RawPeer {
  readonly socket: Duplex
  readonly messages: Array<Received> = []
  private chunks: Array<Buffer> = []
  private have = 0

  constructor(socket: Duplex) {
    this.socket = socket
    socket.on("error", () => {})
    socket.on("data", (chunk: Buffer) => {
      this.chunks.push(chunk)
      this.have += chunk.length
      // A large message is put together once, when it is whole.
      if (this.have < this.wanted()) return
      const { messages, rest } = split(Buffer.concat(this.chunks))
      this.messages.push(...messages)
      this.chunks = [Buffer.from(rest)]
      this.have = rest.length
    })
  }

  private wanted(): number {
    if (this.have < 16) return 16
    if (this.chunks[0]!.length < 16) this.chunks = [Buffer.concat(this.chunks)]
    return 16 + Number(this.chunks[0]!.readBigUInt64LE(8) >> 8n)
  }

  /** Sends, and goes on when the socket has taken it (or is gone). */
  send(...messages: ReadonlyArray<Uint8Array>): Effect.Effect<void> {
    return Effect.callback((resume) => {
      this.socket.write(Buffer.concat(messages), () => resume(Effect.void))
    })
  }

  /** The next message of a type for an id. */
  answer(
    id: number | bigint,
    types: ReadonlyArray<number> = [type.response, type.responseError]
  ): Effect.Effect<Received> {
    const find = () => this.messages.find((message) => message.id === BigInt(id) && types.includes(message.type))
    return Effect.map(until(`an answer to ${id}`, () => find() !== undefined), () => find()!)
  }

  /** Until the other side has closed the connection. */
  readonly closed: Effect.Effect<void> = Effect.suspend(() =>
    until("the connection to close", () => this.socket.closed)
  )

  /** Breaks the connection off: over TCP with a reset. */
  reset(): void {
    if (this.socket instanceof net.Socket && this.socket.remotePort !== undefined && !("encrypted" in this.socket)) {
      this.socket.resetAndDestroy()
    } else {
      this.socket.destroy(new Error("reset"))
    }
  }
}

/** Connects to an endpoint without speaking its protocol. */
export const rawPeer = (endpoint: Endpoint.Endpoint): Effect.Effect<RawPeer, never, Scope.Scope> =>
  Effect.map(Effect.orDie(endpoint.dial), (duplex) => new RawPeer(duplex))

/**
 * How a proxy cuts a connection: with a reset of both sides, an end in order of both, or an end of the one direction
 * only.
 */
export type Cut = "reset" | "end" | "half-close"

/** Where a connection is cut: after so many bytes in a direction. */
export interface CutPlan {
  readonly direction: "toServer" | "toClient"
  readonly after: number
  readonly how: Cut
  /** How many of the next connections are cut. */
  readonly times: number
}

/** A TCP proxy that cuts the next connections as planned, and lets those after them pass. */
export interface CuttingProxy {
  readonly port: number
  /** The plan of the next connections. */
  plan: CutPlan | undefined
  /** Connections so far. */
  readonly connections: () => number
}

const carry = (from: net.Socket, to: net.Socket, budget: number, cut: () => void) => {
  let left = budget
  from.on("data", (chunk: Buffer) => {
    if (left <= 0) return
    const piece = chunk.length > left ? chunk.subarray(0, left) : chunk
    left -= piece.length
    const accepted = to.write(piece, () => {
      if (left === 0) cut()
    })
    if (!accepted) {
      from.pause()
      to.once("drain", () => from.resume())
    }
  })
  from.on("end", () => {
    if (left > 0) to.end()
  })
  from.on("error", () => {})
  from.on("close", () => to.destroy())
  if (left === 0) setImmediate(cut)
}

/** Starts a {@link CuttingProxy} in front of a port. */
export const cuttingProxy = (port: number): Effect.Effect<CuttingProxy, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.callback<{ readonly proxy: CuttingProxy; readonly server: net.Server; readonly sockets: Set<net.Socket> }>(
      (resume) => {
        const sockets = new Set<net.Socket>()
        let connections = 0
        const server = net.createServer({ noDelay: true }, (client) => {
          connections++
          const { plan } = proxy
          proxy.plan = plan === undefined || plan.times === 1 ? undefined : { ...plan, times: plan.times - 1 }
          const upstream = net.connect({ port, host: "127.0.0.1", noDelay: true })
          for (const socket of [client, upstream]) {
            sockets.add(socket)
            socket.on("close", () => sockets.delete(socket))
          }
          const cut = () => {
            if (plan?.how === "half-close") (plan.direction === "toServer" ? upstream : client).end()
            else if (plan?.how === "end") { for (const socket of [client, upstream]) socket.end() }
            else for (const socket of [client, upstream]) socket.resetAndDestroy()
          }
          const budget = (direction: CutPlan["direction"]) => plan?.direction === direction ? plan.after : Infinity
          carry(client, upstream, budget("toServer"), cut)
          carry(upstream, client, budget("toClient"), cut)
        })
        const proxy: CuttingProxy & { port: number } = { port: 0, plan: undefined, connections: () => connections }
        server.listen(0, "127.0.0.1", () => {
          proxy.port = (server.address() as net.AddressInfo).port // a TCP server's address is no text
          resume(Effect.succeed({ proxy, server, sockets }))
        })
      }
    ),
    ({ server, sockets }) =>
      Effect.callback<void>((resume) => {
        for (const socket of sockets) socket.destroy()
        server.close(() => resume(Effect.void))
      })
  ).pipe(Effect.map(({ proxy }) => proxy))

/** The port of a TCP listener's address. */
export const portOf = (address: string): number => Number(address.slice(address.lastIndexOf(":") + 1))
