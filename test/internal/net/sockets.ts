/** Real sockets for the tests of endpoints and listeners: a plain server, and waiting for what happens to a stream. */
import { Effect, Logger, References } from "effect"
import { subscribe, unsubscribe } from "node:diagnostics_channel"
import { mkdtemp, rm } from "node:fs/promises"
import * as net from "node:net"
import { networkInterfaces, tmpdir } from "node:os"
import { join } from "node:path"
import type { Duplex } from "node:stream"

export const hasIPv6 = Object.values(networkInterfaces()).some((addresses) =>
  addresses?.some(({ address }) => address === "::1")
)

/** A directory that is removed with the Scope. Its path is short, as the paths of sockets have to be. */
export const temporaryDirectory = Effect.acquireRelease(
  Effect.promise(() => mkdtemp(join(tmpdir(), "ec-"))),
  (directory) => Effect.promise(() => rm(directory, { recursive: true, force: true }))
)

/** A server that does nothing by itself; it is closed with the Scope, and its connections with it. */
export const plainServer = Effect.fnUntraced(function*(where: net.ListenOptions) {
  const sockets: Array<net.Socket> = []
  const waiting: Array<(socket: net.Socket) => void> = []
  const server = net.createServer((socket) => {
    socket.on("error", () => {})
    sockets.push(socket)
    waiting.shift()?.(socket)
  })
  yield* Effect.acquireRelease(
    Effect.callback<void, Error>((resume) => {
      server.once("error", (error) => resume(Effect.fail(error)))
      server.listen(where, () => resume(Effect.void))
    }),
    () =>
      Effect.callback<void>((resume) => {
        for (const socket of sockets) socket.destroy()
        server.close(() => resume(Effect.void))
      })
  )
  const address = server.address()
  return {
    sockets,
    port: typeof address === "object" && address !== null ? address.port : 0,
    /** The next connection that comes in. */
    next: Effect.callback<net.Socket>((resume) => {
      waiting.push((socket) => resume(Effect.succeed(socket)))
    })
  }
})

/** Waits until a stream is closed, in any way. */
export const closed = (stream: Duplex) =>
  Effect.callback<void>((resume) => {
    if (stream.closed) return resume(Effect.void)
    stream.once("close", () => resume(Effect.void))
  })

export const write = (stream: Duplex, text: string) =>
  Effect.callback<void, Error>((resume) => {
    stream.write(text, (error) => resume(error ? Effect.fail(error) : Effect.void))
  })

/** Reads a text of a known length. */
export const read = (stream: Duplex, length: number) =>
  Effect.callback<string, Error>((resume) => {
    let text = ""
    const onData = (chunk: Buffer) => {
      text += chunk.toString()
      if (text.length < length) return
      off()
      stream.pause()
      resume(Effect.succeed(text))
    }
    const onClose = () => {
      off()
      resume(Effect.fail(new Error(`the stream closed after ${JSON.stringify(text)}`)))
    }
    const off = () => {
      stream.off("data", onData)
      stream.off("close", onClose)
    }
    stream.on("data", onData)
    stream.on("close", onClose)
    stream.resume()
    return Effect.sync(off)
  })

/**
 * Whether a TCP socket sends small writes at once. Node keeps that under a symbol of its own; there is no other way to
 * see it in time.
 */
export const hasNoDelay = (socket: net.Socket): boolean => {
  const key = Object.getOwnPropertySymbols(socket).find(({ description }) => description === "kSetNoDelay")
  return key !== undefined && Reflect.get(socket, key) === true
}

/** Sends what it gets back. */
export const echo = (stream: Duplex) => {
  stream.on("data", (chunk: Buffer) => stream.write(chunk))
}

/**
 * What is logged while an effect runs, each line with its level and annotations, and a way to wait for the next line.
 */
export const makeLog = () => {
  const lines: Array<{ level: string; message: string; annotations: Readonly<Record<string, unknown>> }> = []
  const waiting: Array<() => void> = []
  const logger = Logger.make(({ fiber, logLevel, message }) => {
    lines.push({
      level: logLevel,
      message: (Array.isArray(message) ? message : [message]).map(String).join(" "),
      annotations: fiber.getRef(References.CurrentLogAnnotations)
    })
    for (const resume of waiting.splice(0)) resume()
  })
  return {
    lines,
    layer: Logger.layer([logger]),
    until: (count: number) => {
      const wait: Effect.Effect<void> = Effect.suspend(() =>
        lines.length >= count
          ? Effect.void
          : Effect.andThen(Effect.callback<void>((resume) => void waiting.push(() => resume(Effect.void))), wait)
      )
      return wait
    }
  }
}

/** The sockets that begin to connect from now on. */
export const dialedSockets = Effect.map(
  Effect.acquireRelease(
    Effect.sync(() => {
      const sockets: Array<net.Socket> = []
      const listener = (message: unknown) => void sockets.push((message as { readonly socket: net.Socket }).socket)
      subscribe("net.client.socket", listener)
      return { sockets, listener }
    }),
    ({ listener }) => Effect.sync(() => void unsubscribe("net.client.socket", listener))
  ),
  ({ sockets }) => sockets
)
