/**
 * A listener over a `net.Server`, through its states.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Scope } from "effect"
import { HandlerMap } from "effect-call"
import * as net from "node:net"
import { cannotListen } from "../../../src/internal/net/model.ts"
import { listenOnServer } from "../../../src/internal/net/serverListener.ts"
import { makeLog } from "../../support/log.ts"

const limits = { maxConnections: 10, maxConnectionsPerPeer: 10 }

/** Opens a server on a port of this host. */
const listening = (server: net.Server) =>
  Effect.callback<number>((resume) => {
    server.listen(0, "127.0.0.1", () => resume(Effect.sync(() => (server.address() as net.AddressInfo).port)))
  })

/** A listener, its server and its port, and how often it was cleaned up. */
const listen = Effect.fnUntraced(function*(
  peerOf: () => { readonly address: string } | undefined = () => ({ address: "peer" })
) {
  const seen = { cleanedUp: 0, port: 0 }
  const servers: Array<net.Server> = []
  const listener = yield* listenOnServer({
    address: "test://asked",
    handlers: HandlerMap.empty,
    limits,
    open: (server) =>
      Effect.map(listening(server), (port) => {
        servers.push(server)
        seen.port = port
        return { address: "test://real", cleanUp: Effect.sync(() => void seen.cleanedUp++) }
      }),
    peerOf
  })
  return { listener, seen, server: servers[0]! }
})

/** A client's socket, destroyed with the Scope. */
const dial = (port: number) =>
  Effect.acquireRelease(
    Effect.callback<net.Socket>((resume) => {
      const socket = net.connect(port, "127.0.0.1", () => resume(Effect.succeed(socket)))
      socket.on("error", () => {})
    }),
    (socket) => Effect.sync(() => socket.destroy())
  )

const closed = (socket: net.Socket) =>
  Effect.callback<void>((resume) => {
    if (socket.destroyed) return resume(Effect.void)
    socket.once("close", () => resume(Effect.void)).resume()
  })

describe("a listener over a server", () => {
  it.live("has the address that its server has been opened at, and gives its connections", () =>
    Effect.gen(function*() {
      const { listener, seen } = yield* listen()
      assert.strictEqual(listener.address, "test://real")
      const socket = yield* dial(seen.port)
      const { connection } = yield* listener.accept
      assert.ok(connection instanceof net.Socket && connection.remotePort === socket.localPort)
    }))

  it.live("closes a connection whose client has already gone", () =>
    Effect.gen(function*() {
      const { seen } = yield* listen(() => undefined)
      yield* Effect.flatMap(dial(seen.port), closed)
    }))

  it.live("is cleaned up once, however often it is closed, and no longer listens then", () =>
    Effect.gen(function*() {
      const { listener, seen, server } = yield* listen()
      const accepting = yield* Effect.forkChild(Effect.flip(listener.accept), { startImmediately: true })
      yield* listener.close
      yield* listener.close
      assert.deepStrictEqual([seen.cleanedUp, server.listening], [1, false])
      assert.match((yield* Fiber.join(accepting)).message, /test:\/\/real/)
    }))

  it.live("is closed with its Scope", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const { seen, server } = yield* Scope.provide(listen(), scope)
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual([seen.cleanedUp, server.listening], [1, false])
    }))

  it.live("fails as its server cannot be opened, and cleans up nothing then", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(listenOnServer({
        address: "test://asked",
        handlers: HandlerMap.empty,
        limits,
        open: () => cannotListen("test://asked", "it is Sunday"),
        peerOf: () => undefined
      }))
      assert.match(error.message, /it is Sunday/)
    }))

  it.live("goes on after an error of its server that still listens, and logs it", () => {
    const log = makeLog()
    return Effect.gen(function*() {
      const { listener, seen, server } = yield* listen()
      // As Node does where a process has no file descriptor left.
      server.emit("error", new Error("accept EMFILE"))
      yield* dial(seen.port)
      yield* listener.accept
      assert.deepStrictEqual(
        log.lines.map(({ annotations, level, message }) => [level, annotations["listener"], message]),
        [
          ["Warn", "test://real", "A connection could not be accepted: accept EMFILE"]
        ]
      )
    }).pipe(Effect.provide(log.layer))
  })

  it.live("fails its accepts with the error of its server that listens no longer", () =>
    Effect.gen(function*() {
      const { listener, server } = yield* listen()
      const accepting = yield* Effect.forkChild(Effect.flip(listener.accept), { startImmediately: true })
      server.close()
      server.emit("error", new Error("gone"))
      assert.match((yield* Fiber.join(accepting)).message, /gone/)
      assert.match((yield* Effect.flip(listener.accept)).message, /gone/)
    }))
})
