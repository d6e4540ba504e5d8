import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Scope } from "effect"
import { Endpoint, Listener } from "effect-call"
import { lookup } from "node:dns/promises"
import * as net from "node:net"
import { join } from "node:path"
import { closed, hasIPv6, hasNoDelay, plainServer, read, temporaryDirectory, write } from "./internal/net/sockets.ts"
import { connect, dial, exchange, failure, handlers, named } from "./Listener/support.ts"
import { makeLog } from "./support/log.ts"

describe("a Listener, on TCP and on a Unix socket", () => {
  const kinds = [
    ["tcp", (handlers: Listener.Handlers) => Listener.tcp("127.0.0.1:0", handlers)],
    [
      "unix",
      (handlers: Listener.Handlers) =>
        Effect.flatMap(temporaryDirectory, (directory) => Listener.unix(join(directory, "server.sock"), handlers))
    ]
  ] as const

  describe.each(kinds)("%s", (kind, listen) => {
    it.effect("gives connections with their handlers, at an address that can be dialed", () =>
      Effect.gen(function*() {
        const listener = yield* listen(handlers)
        const { client, connection, handlers: served } = yield* connect(listener)
        assert.strictEqual(served, handlers)
        yield* exchange(client, connection)
      }))

    it.effect("hands connections out in the order in which they came", () =>
      Effect.gen(function*() {
        const listener = yield* listen(handlers)
        const accepting = yield* Effect.forkChild(Effect.all(Array.from({ length: 3 }, () => listener.accept)))
        for (const text of ["a", "b", "c"]) yield* write(yield* dial(listener), text)
        const accepted = yield* Fiber.join(accepting)
        const texts = yield* Effect.forEach(accepted, ({ connection }) => read(connection, 1))
        assert.deepStrictEqual(texts, ["a", "b", "c"])
      }))

    it.effect("loses nothing that a client sends before its connection is accepted and read", () =>
      Effect.gen(function*() {
        const listener = yield* listen(handlers)
        const client = yield* dial(listener)
        const sent = "x".repeat(1_000_000)
        const writing = yield* Effect.forkChild(write(client, sent), { startImmediately: true })
        // By the time that a second client is there, the first one's bytes have been waiting.
        yield* dial(listener)
        const { connection } = yield* listener.accept
        yield* listener.accept
        assert.strictEqual(yield* read(connection, sent.length), sent)
        yield* Fiber.join(writing)
      }))

    it.effect("keeps what a client has sent before it went away", () =>
      Effect.gen(function*() {
        const listener = yield* listen(handlers)
        const client = yield* dial(listener)
        client.end("goodbye")
        yield* dial(listener)
        const { connection } = yield* listener.accept
        assert.strictEqual(yield* read(connection, 7), "goodbye")
        connection.resume()
        yield* closed(connection)
      }))

    it.effect("drops a connection that dies before it is accepted", () =>
      Effect.gen(function*() {
        const listener = yield* listen(handlers)
        const other = yield* connect(listener)
        const dead = yield* dial(listener)
        dead.destroy()
        yield* closed(dead)
        // What goes back and forth on another connection takes the server through turn after turn, in which it hears of
        // the end.
        for (let i = 0; i < 10; i++) yield* exchange(other.client, other.connection)
        const { client, connection } = yield* connect(listener)
        yield* exchange(client, connection)
      }))

    it.effect("picks the handlers by who the client is, once for each connection", () =>
      Effect.gen(function*() {
        const peers: Array<Listener.Peer> = []
        const own = named("own")
        const listener = yield* listen((peer) => {
          peers.push(peer)
          return own
        })
        const { client, handlers: served } = yield* connect(listener)
        assert.strictEqual(served, own)
        assert(client instanceof net.Socket)
        const address = kind === "tcp" ? `tcp://127.0.0.1:${client.localPort}` : listener.address
        assert.deepStrictEqual(peers, [{ address }])
      }))

    it.effect("closes a connection for which picking the handlers throws, logs it, and goes on", () => {
      const log = makeLog()
      return Effect.gen(function*() {
        let calls = 0
        const listener = yield* listen(() => {
          if (calls++ === 0) throw new Error("who are you?")
          return handlers
        })
        const refused = yield* dial(listener)
        refused.resume()
        const { connection } = yield* connect(listener)
        assert.isFalse(connection.destroyed)
        yield* closed(refused)
        assert.strictEqual(log.lines.length, 1)
        assert.strictEqual(log.lines[0]?.level, "Error")
        assert.include(log.lines[0]?.cause, "who are you?")
        assert.strictEqual(log.lines[0]?.annotations.listener, listener.address)
      }).pipe(Effect.provide(log.layer))
    })

    it.effect("closes a connection for which no handlers are picked, logs it, and goes on", () => {
      const log = makeLog()
      return Effect.gen(function*() {
        // As the compiler allows, unless it is told to check what it may not find.
        const byName = {} as { readonly [name: string]: typeof handlers }
        let calls = 0
        const listener = yield* listen(() => calls++ === 0 ? byName["a stranger"]! : handlers)
        const refused = yield* dial(listener)
        refused.resume()
        const { connection } = yield* connect(listener)
        assert.isFalse(connection.destroyed)
        yield* closed(refused)
        assert.deepStrictEqual(log.lines.map(({ level }) => level), ["Error"])
        assert.include(log.lines[0]?.cause, "the handlers for a connection: expected a HandlerMap, got undefined")
      }).pipe(Effect.provide(log.layer))
    })

    it.effect("loses no connection to an accept that is interrupted", () =>
      Effect.gen(function*() {
        const listener = yield* listen(handlers)
        const first = yield* Effect.forkChild(listener.accept, { startImmediately: true })
        const second = yield* Effect.forkChild(listener.accept, { startImmediately: true })
        yield* Fiber.interrupt(first)
        const client = yield* dial(listener)
        yield* write(client, "hi")
        assert.strictEqual(yield* read((yield* Fiber.join(second)).connection, 2), "hi")
      }))

    it.effect("ends accept when it is closed, refuses clients, and can be closed again", () =>
      Effect.gen(function*() {
        const listener = yield* listen(handlers)
        const accepting = yield* Effect.forkChild(Effect.flip(listener.accept), { startImmediately: true })
        yield* listener.close
        yield* listener.close
        const error = yield* Fiber.join(accepting)
        assert.strictEqual(error._tag, "ListenerError")
        assert.strictEqual(error.message, `the listener on ${listener.address} is closed`)
        assert.strictEqual(error.address, listener.address)
        assert.deepStrictEqual(yield* Effect.flip(listener.accept), error)
        assert.match((yield* Effect.flip(dial(listener))).message, kind === "tcp" ? /ECONNREFUSED/ : /ENOENT/)
      }))

    it.effect("closes the connections that are not accepted yet, and keeps the accepted ones", () =>
      Effect.gen(function*() {
        const listener = yield* listen(handlers)
        const accepted = yield* connect(listener)
        const waiting = yield* dial(listener)
        waiting.resume()
        yield* listener.close
        yield* closed(waiting)
        yield* write(accepted.client, "still here")
        assert.strictEqual(yield* read(accepted.connection, 10), "still here")
      }))

    it.effect("closes with its Scope", () =>
      Effect.gen(function*() {
        const scope = yield* Scope.make()
        const listener = yield* Scope.provide(listen(handlers), scope)
        yield* dial(listener)
        yield* Scope.close(scope, Exit.void)
        assert.include((yield* Effect.flip(listener.accept)).message, "is closed")
        yield* Effect.flip(dial(listener))
      }))
  })
})

describe("Listener.tcp", () => {
  it.effect("picks a port for port 0, and shows it", () =>
    Effect.gen(function*() {
      const one = yield* Listener.tcp("127.0.0.1:0", handlers)
      const two = yield* Listener.tcp("localhost:0", handlers)
      assert.match(one.address, /^tcp:\/\/127\.0\.0\.1:[1-9]\d*$/)
      assert.match(two.address, /^tcp:\/\/(127\.0\.0\.1|\[::1\]):[1-9]\d*$/)
      assert.notStrictEqual(one.address, two.address)
    }))

  it.effect("listens on all addresses without a host, and can be dialed at the address that it shows", () =>
    Effect.gen(function*() {
      const peers: Array<string> = []
      const listener = yield* Listener.tcp(":0", ({ address }) => (peers.push(address), handlers))
      assert.match(listener.address, hasIPv6 ? /^tcp:\/\/\[::\]:\d+$/ : /^tcp:\/\/0\.0\.0\.0:\d+$/)
      const { client } = yield* connect(listener)
      assert(client instanceof net.Socket)
      assert.deepStrictEqual(peers, [`tcp://127.0.0.1:${client.localPort}`])
    }))

  it.effect.skipIf(!hasIPv6)("shows an IPv6 address in brackets", () =>
    Effect.gen(function*() {
      const peers: Array<string> = []
      const listener = yield* Listener.tcp("[::1]:0", ({ address }) => (peers.push(address), handlers))
      assert.match(listener.address, /^tcp:\/\/\[::1\]:\d+$/)
      const { client } = yield* connect(listener)
      assert(client instanceof net.Socket)
      assert.deepStrictEqual(peers, [`tcp://[::1]:${client.localPort}`])
    }))

  it.effect("sends small writes at once", () =>
    Effect.gen(function*() {
      const listener = yield* Listener.tcp("127.0.0.1:0", handlers)
      const { client, connection } = yield* connect(listener)
      for (const socket of [client, connection]) {
        assert(socket instanceof net.Socket)
        assert.isTrue(hasNoDelay(socket))
      }
    }))

  it.effect("says that an address is in use", () =>
    Effect.gen(function*() {
      const { address } = yield* Listener.tcp("127.0.0.1:0", handlers)
      const error = yield* Effect.flip(Listener.tcp(address.slice("tcp://".length), handlers))
      assert.strictEqual(
        error.message,
        `cannot listen on ${address}: listen EADDRINUSE: address already in use ${address.slice("tcp://".length)}`
      )
      assert.strictEqual(error.address, address)
      assert.instanceOf(error.cause, Error)
    }))

  it.effect("says what is wrong with an address", () =>
    Effect.gen(function*() {
      assert.strictEqual(
        yield* failure(Listener.tcp("localhost", handlers)),
        "cannot listen on tcp://localhost: \"localhost\" has no port: expected \"host:port\""
      )
      assert.include(yield* failure(Listener.tcp(":nonsense", handlers)), "\"nonsense\" in \":nonsense\" is not a port")
      assert.match(yield* failure(Listener.tcp("no.such.host.invalid:0", handlers)), /ENOTFOUND|EAI_AGAIN/)
      assert.match(yield* failure(Listener.tcp("192.0.2.1:0", handlers)), /EADDRNOTAVAIL/)
    }))

  it.effect("takes the name of a service as a port", () =>
    Effect.gen(function*() {
      // An ordinary user may not listen there, others may have taken it: either way the error names the number.
      const outcome = yield* Effect.result(Listener.tcp("127.0.0.1:http", handlers))
      const text = outcome._tag === "Success" ? outcome.success.address : outcome.failure.message
      assert.include(text, "127.0.0.1:80")
    }))

  it.effect("keeps the error of a connection, accepted or not, from ending the process", () =>
    Effect.gen(function*() {
      const listener = yield* Listener.tcp("127.0.0.1:0", handlers)
      const { client, connection } = yield* connect(listener)
      const waiting = yield* dial(listener)
      for (const socket of [waiting, client]) {
        assert(socket instanceof net.Socket)
        socket.resetAndDestroy()
      }
      yield* closed(connection)
      assert.match(String(connection.errored), /ECONNRESET/)
    }))

  it.effect("does not listen after all when it is interrupted while its host is looked up", () =>
    Effect.gen(function*() {
      const { port } = yield* Effect.scoped(plainServer({ port: 0, host: "127.0.0.1" }))
      const listening = yield* Effect.forkChild(Listener.tcp(`localhost:${port}`, handlers), { startImmediately: true })
      assert.isUndefined(listening.pollUnsafe())
      yield* Fiber.interrupt(listening)
      // Its lookup, which cannot be called back, is done by the time that later ones are.
      for (let i = 0; i < 5; i++) yield* Effect.promise(() => lookup("localhost"))
      assert.include((yield* Effect.flip(Endpoint.tcp(`:${port}`).dial)).message, "ECONNREFUSED")
    }))

  it.effect("frees its port when it closes", () =>
    Effect.gen(function*() {
      const first = yield* Listener.tcp("127.0.0.1:0", handlers)
      yield* first.close
      const second = yield* Listener.tcp(first.address.slice("tcp://".length), handlers)
      assert.strictEqual(second.address, first.address)
      yield* connect(second)
    }))

  it.effect.skipIf(process.platform !== "linux")("shares its port with reusePort", () =>
    Effect.gen(function*() {
      const one = yield* Listener.tcp("127.0.0.1:0", handlers, { reusePort: true })
      const two = yield* Listener.tcp(one.address.slice("tcp://".length), handlers, { reusePort: true })
      assert.strictEqual(two.address, one.address)
      yield* one.close
      yield* connect(two)
    }))
})
