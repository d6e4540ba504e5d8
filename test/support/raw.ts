/**
 * The other end of the wire, written by hand: plain sockets and hand-made messages, for what no peer of ours would
 * send.
 */
import { Effect, type Scope } from "effect"
import { Endpoint, type Listener, type MethodKey } from "effect-call"
import * as assert from "node:assert/strict"
import * as net from "node:net"
import type { Duplex } from "node:stream"

/** A message: its 16-byte header and its payload. */
export const message = (id: number, type: number, payload: Uint8Array = new Uint8Array()): Buffer => {
  const header = Buffer.alloc(16)
  header.writeBigUInt64LE(BigInt(id), 0)
  header[8] = type
  header.writeUIntLE(payload.length, 9, 6)
  return Buffer.concat([header, payload])
}

/** The version message of both sides, as the reference sends it. */
export const version = message(0, 0, Buffer.alloc(4))

/** A version message that says, besides, that its sender understands flags, and what else these bits mean. */
export const versionWith = (flags: number): Buffer => message(0, 0, Buffer.from([0, 0, 0, 0, flags | 1, 0, 0, 0]))

/** The first message of our clients. */
export const clientVersion = versionWith(8)

/**
 * A request with the header that follows from its key, without a deadline unless one is given, and without a trace
 * context.
 */
export const request = (id: number, key: MethodKey.MethodKey, args: Uint8Array, deadlineMicros = 0): Buffer => {
  const header = Buffer.alloc(49)
  header.set(key.bytes)
  header.writeBigInt64LE(BigInt(deadlineMicros), 16)
  return message(id, 1, Buffer.concat([header, args]))
}

export const cancel = (id: number): Buffer => message(id, 4)

/** A message as it was read. */
export interface Message {
  readonly id: number
  readonly type: number
  readonly payload: Buffer
}

/** The messages that `bytes` consists of; the last may be cut short, and is left out then. */
export const messagesOf = (bytes: Buffer): Array<Message> => {
  const messages: Array<Message> = []
  let offset = 0
  while (bytes.length - offset >= 16) {
    const end = offset + 16 + bytes.readUIntLE(offset + 9, 6)
    if (end > bytes.length) break
    messages.push({
      id: Number(bytes.readBigUInt64LE(offset)),
      type: bytes[offset + 8]!,
      payload: bytes.subarray(offset + 16, end)
    })
    offset = end
  }
  return messages
}

/** A socket, with all that it has received so far. */
export interface Raw {
  readonly socket: Duplex
  readonly received: () => Buffer
  readonly write: (bytes: Uint8Array) => void
  /** Waits until what was received is enough for `done`, and gives it; it fails where the socket closes before that. */
  readonly until: (done: (received: Buffer) => boolean) => Effect.Effect<Buffer>
  /** Waits until the socket has closed. */
  readonly closed: Effect.Effect<void>
}

/** A socket, from now on read by this only. */
export const rawOf = (socket: Duplex): Raw => {
  // It grows by doubling: to join all pieces at each look would take most of the time of tests with large messages.
  let buffer = Buffer.alloc(1024)
  let length = 0
  const watchers = new Set<() => void>()
  const look = () => {
    for (const watcher of watchers) watcher()
  }
  const received = () => buffer.subarray(0, length)
  socket.on("data", (chunk: Buffer) => {
    if (length + chunk.length > buffer.length) {
      const larger = Buffer.alloc(2 * (length + chunk.length))
      buffer.copy(larger, 0, 0, length)
      buffer = larger
    }
    length += chunk.copy(buffer, length)
    look()
  })
  socket.on("error", () => {})
  socket.on("close", look)
  const watch = <A>(ask: () => Effect.Effect<A> | undefined) =>
    Effect.callback<A>((resume) => {
      const watcher = () => {
        const answer = ask()
        if (answer === undefined) return
        watchers.delete(watcher)
        resume(answer)
      }
      watchers.add(watcher)
      watcher()
      return Effect.sync(() => watchers.delete(watcher))
    })
  return {
    socket,
    received,
    write: (bytes) => void socket.write(bytes),
    until: (done) =>
      watch(() => {
        const bytes = received()
        if (done(bytes)) return Effect.succeed(bytes)
        return socket.closed ? Effect.die(new Error(`closed after ${bytes.toString("hex")}`)) : undefined
      }),
    closed: watch(() => socket.closed ? Effect.void : undefined)
  }
}

/** The next connection to a listener, which no server serves. */
export const rawAccepted = <R>(listener: Listener.Listener<R>): Effect.Effect<Raw> =>
  Effect.map(Effect.orDie(listener.accept), ({ connection }) => rawOf(connection))

/** A plain connection to the server at an endpoint, closed with the Scope. */
export const rawClient = (endpoint: Endpoint.Endpoint): Effect.Effect<Raw, never, Scope.Scope> =>
  Effect.map(Effect.orDie(endpoint.dial), rawOf)

/** A plain TCP server: `serve` is given each connection. Closed with the Scope, and its connections with it. */
export const rawServer = (serve: (raw: Raw) => void): Effect.Effect<Endpoint.Endpoint, never, Scope.Scope> =>
  Effect.gen(function*() {
    const sockets = new Set<net.Socket>()
    const server = net.createServer((socket) => {
      sockets.add(socket)
      serve(rawOf(socket))
    })
    yield* Effect.acquireRelease(
      Effect.callback<void>((resume) => {
        server.listen(0, "127.0.0.1", () => resume(Effect.void))
      }),
      () =>
        Effect.callback<void>((resume) => {
          for (const socket of sockets) socket.destroy()
          server.close(() => resume(Effect.void))
        })
    )
    const address = server.address()
    return Endpoint.tcp(`127.0.0.1:${typeof address === "object" && address !== null ? address.port : 0}`)
  })

/** Waits until a peer has been sent exactly these bytes, and says which came where they are others. */
export const receives = (raw: Raw, ...messages: ReadonlyArray<Uint8Array>): Effect.Effect<void> => {
  const expected = Buffer.concat(messages)
  return Effect.map(
    raw.until(({ length }) => length >= expected.length),
    (received) => assert.equal(received.toString("hex"), expected.toString("hex"))
  )
}

/**
 * A plain TCP server that answers version messages with its own, as the reference does; `serve` is given each request.
 */
export const rawRequests = (
  serve: (raw: Raw, id: number, args: Buffer) => void
): Effect.Effect<Endpoint.Endpoint, never, Scope.Scope> =>
  rawServer((raw) => {
    let read = 0
    raw.socket.on("data", () => {
      const messages = messagesOf(raw.received())
      for (const { id, payload, type } of messages.slice(read)) {
        if (type === 0) raw.write(version)
        if (type === 1) serve(raw, id, payload.subarray(49))
      }
      read = messages.length
    })
  })
