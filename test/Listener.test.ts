import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, References, Scope } from "effect"
import { Endpoint, HandlerMap, Listener } from "effect-call"
import { TestClock } from "effect/testing"
import { lookup } from "node:dns/promises"
import * as fs from "node:fs"
import * as net from "node:net"
import { join } from "node:path"
import { Duplex } from "node:stream"
import * as tls from "node:tls"
import { makeAuthority } from "../examples/support/certificates.ts"
import * as DuplexPair from "../src/internal/testing/duplexPair.ts"
import {
  closed,
  hasIPv6,
  hasNoDelay,
  makeLog,
  plainServer,
  read,
  temporaryDirectory,
  write
} from "./internal/net/sockets.ts"

const named = (name: string) => HandlerMap.set(HandlerMap.empty, name, "get", () => Effect.succeed(new Uint8Array()))
const handlers = named("everybody")

/** Dials the address of a listener as it stands there. */
const dial = (listener: Listener.Listener<unknown>) =>
  Effect.flatMap(Endpoint.parse(listener.address), (endpoint) => endpoint.dial)

const failure = (listening: Effect.Effect<unknown, Listener.ListenerError, Scope.Scope>) =>
  Effect.map(Effect.flip(listening), (error) => error.message)

/** Accepts what has just been dialed. */
const connect = Effect.fnUntraced(function*<R>(listener: Listener.Listener<R>) {
  const client = yield* dial(listener)
  return { client, ...(yield* listener.accept) }
})

/** Sends something in both directions. */
const exchange = Effect.fnUntraced(function*(client: Duplex, connection: Duplex) {
  yield* write(client, "ping")
  assert.strictEqual(yield* read(connection, 4), "ping")
  yield* write(connection, "pong")
  assert.strictEqual(yield* read(client, 4), "pong")
})

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
        // What goes back and forth on another connection takes the server through turn after turn, in which it hears of the end.
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
        assert.include(log.lines[0]?.message, "who are you?")
        assert.strictEqual(log.lines[0]?.annotations.listener, listener.address)
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

    it.effect("closes what nobody has accepted, and leaves alone what somebody has", () =>
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

describe("Listener.unix", () => {
  const socketPath = Effect.map(temporaryDirectory, (directory) => join(directory, "server.sock"))

  it.effect("has unix:// and the path as its address, makes the file, and removes it when it closes", () =>
    Effect.gen(function*() {
      const path = yield* socketPath
      const listener = yield* Listener.unix(path, handlers)
      assert.strictEqual(listener.address, `unix://${path}`)
      assert.isTrue(fs.lstatSync(path).isSocket())
      assert.deepStrictEqual(fs.readdirSync(join(path, "..")), ["server.sock"])
      yield* listener.close
      assert.deepStrictEqual(fs.readdirSync(join(path, "..")), [])
    }))

  it.effect.each([0o600, 0o660, 0o777])("gives the file its mode: %o", (mode) =>
    Effect.gen(function*() {
      const path = yield* socketPath
      yield* Listener.unix(path, handlers, { mode })
      assert.strictEqual(fs.lstatSync(path).mode & 0o777, mode)
    }))

  it.effect("leaves the mode to the umask otherwise", () =>
    Effect.gen(function*() {
      const path = yield* socketPath
      yield* Listener.unix(path, handlers)
      yield* plainServer({ path: `${path}.plain` })
      assert.strictEqual(fs.lstatSync(path).mode, fs.lstatSync(`${path}.plain`).mode)
    }))

  /** The socket file of a server that has died without removing it. */
  const leaveStale = Effect.fnUntraced(function*(path: string) {
    yield* Effect.scoped(Effect.gen(function*() {
      yield* plainServer({ path: `${path}.1` })
      fs.linkSync(`${path}.1`, path)
    }))
    assert.isTrue(fs.lstatSync(path).isSocket())
    assert.include((yield* Effect.flip(Endpoint.unix(path).dial)).message, "ECONNREFUSED")
  })

  it.effect("replaces the file that a dead server has left", () =>
    Effect.gen(function*() {
      const path = yield* socketPath
      yield* leaveStale(path)
      const listener = yield* Listener.unix(path, handlers)
      yield* connect(listener)
    }))

  it.effect("does not replace the file of a live server", () =>
    Effect.gen(function*() {
      const path = yield* socketPath
      const live = yield* Listener.unix(path, handlers)
      assert.strictEqual(
        yield* failure(Listener.unix(path, handlers)),
        `cannot listen on unix://${path}: another server listens on ${path}`
      )
      // The one connection that asked whether somebody is there is gone.
      const { client, connection } = yield* connect(live)
      yield* write(client, "hi")
      assert.strictEqual(yield* read(connection, 2), "hi")
      assert.deepStrictEqual(fs.readdirSync(join(path, "..")), ["server.sock"])
    }))

  it.effect("does not touch a file that is no socket", () =>
    Effect.gen(function*() {
      const path = yield* socketPath
      fs.writeFileSync(path, "precious")
      assert.strictEqual(
        yield* failure(Listener.unix(path, handlers)),
        `cannot listen on unix://${path}: ${path} exists and is not a socket`
      )
      assert.strictEqual(fs.readFileSync(path, "utf8"), "precious")
      assert.deepStrictEqual(fs.readdirSync(join(path, "..")), ["server.sock"])
    }))

  it.effect("lets only one of many that start at once on a stale file have it", () =>
    Effect.gen(function*() {
      const path = yield* socketPath
      yield* leaveStale(path)
      const outcomes = yield* Effect.all(
        Array.from({ length: 10 }, () => Effect.result(Listener.unix(path, handlers))),
        { concurrency: "unbounded" }
      )
      const winners = outcomes.filter((outcome) => outcome._tag === "Success")
      assert.strictEqual(winners.length, 1)
      for (const outcome of outcomes) {
        if (outcome._tag === "Failure") assert.include(outcome.failure.message, "another server listens")
      }
      yield* connect(winners[0]!.success)
    }))

  it.effect("does not remove the file of a server that has taken its place", () =>
    Effect.gen(function*() {
      const path = yield* socketPath
      const first = yield* Listener.unix(path, handlers)
      fs.unlinkSync(path)
      const second = yield* Listener.unix(path, handlers)
      yield* first.close
      yield* connect(second)
      yield* second.close
      assert.isFalse(fs.existsSync(path))
      // The number of its file may have been given to the next one by now.
      const third = yield* Listener.unix(path, handlers)
      yield* first.close
      yield* second.close
      yield* connect(third)
    }))

  it.effect("says what is wrong with a path", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      assert.strictEqual(
        yield* failure(Listener.unix("", handlers)),
        "cannot listen on unix://: the path of the Unix socket is empty"
      )
      const missing = join(directory, "missing", "server.sock")
      assert.strictEqual(
        yield* failure(Listener.unix(missing, handlers)),
        `cannot listen on unix://${missing}: there is no directory ${join(directory, "missing")}`
      )
      const long = join(directory, "x".repeat(120))
      assert.match(
        yield* failure(Listener.unix(long, handlers)),
        /is too long for a Unix socket: it has \d+ bytes, and 10[37] are possible/
      )
      assert.deepStrictEqual(fs.readdirSync(directory), [])
    }))

  it.effect.skipIf(process.platform !== "linux")(
    "listens in the abstract namespace, without a file",
    () =>
      Effect.gen(function*() {
        const name = `@effect-call-${process.pid}-${Math.random()}`
        const listener = yield* Listener.unix(name, handlers)
        assert.strictEqual(listener.address, `unix://${name}`)
        yield* connect(listener)
        assert.match(yield* failure(Listener.unix(name, handlers)), /EADDRINUSE/)
      })
  )
})

describe("Listener.mtls", () => {
  const setUp = Effect.gen(function*() {
    const authority = yield* makeAuthority()
    return {
      authority,
      server: { ca: authority.ca, ...yield* authority.server() },
      client: { ca: authority.ca, servername: "localhost", ...yield* authority.client({ commonName: "orders" }) }
    }
  })

  const secure = Effect.fnUntraced(function*<R>(listener: Listener.Listener<R>, client: tls.ConnectionOptions) {
    const dialing = yield* Effect.forkChild(
      Effect.flatMap(Endpoint.parse(listener.address), (endpoint) => Endpoint.mtls(client, endpoint).dial),
      { startImmediately: true }
    )
    const accepted = yield* listener.accept
    return { client: yield* Fiber.join(dialing), ...accepted }
  })

  const overTcp = (server: tls.TlsOptions, handlers: Listener.Handlers) =>
    Effect.flatMap(Listener.tcp("127.0.0.1:0", handlers), (listener) => Listener.mtls(server, listener))

  it.effect("proves who both sides are, over TCP and over a Unix socket", () =>
    Effect.gen(function*() {
      const { client, server } = yield* setUp
      const path = join(yield* temporaryDirectory, "tls.sock")
      for (const inner of [yield* Listener.tcp("127.0.0.1:0", handlers), yield* Listener.unix(path, handlers)]) {
        const listener = yield* Listener.mtls(server, inner)
        assert.strictEqual(listener.address, `mtls://${inner.address}`)
        const accepted = yield* secure(listener, client)
        assert.strictEqual(accepted.handlers, handlers)
        assert(accepted.connection instanceof tls.TLSSocket)
        assert.isTrue(accepted.connection.authorized)
        yield* exchange(accepted.client, accepted.connection)
      }
    }))

  it.effect("picks the handlers by what the client has proved, once for each connection", () =>
    Effect.gen(function*() {
      const { authority, client, server } = yield* setUp
      const admin = {
        ...client,
        ...yield* authority.client({ commonName: "root", names: [{ type: "url", value: "spiffe://example/admin" }] })
      }
      const [forAdmins, forOrders] = [named("admins"), named("orders")]
      const peers: Array<Listener.Peer> = []
      const listener = yield* overTcp(server, (peer) => {
        peers.push(peer)
        if (peer.certificate?.subjectaltname === "URI:spiffe://example/admin") return forAdmins
        return peer.certificate?.subject.CN === "orders" ? forOrders : HandlerMap.empty
      })
      assert.strictEqual((yield* secure(listener, client)).handlers, forOrders)
      assert.strictEqual((yield* secure(listener, admin)).handlers, forAdmins)
      assert.strictEqual((yield* secure(listener, client)).handlers, forOrders)
      assert.deepStrictEqual(peers.map(({ certificate }) => certificate?.subject.CN), ["orders", "root", "orders"])
      for (const { address } of peers) assert.match(address, /^tcp:\/\/127\.0\.0\.1:\d+$/)
    }))

  it.effect("keeps each connection with its own certificate when many come at once", () =>
    Effect.gen(function*() {
      const { authority, client, server } = yield* setUp
      const listener = yield* overTcp(server, ({ certificate }) => named(String(certificate?.subject.CN)))
      const endpoint = yield* Endpoint.parse(listener.address)
      const names = Array.from({ length: 20 }, (_, index) => `client-${index}`)
      yield* Effect.forEach(names, (commonName) =>
        Effect.gen(function*() {
          const identity = yield* authority.client({ commonName })
          const connection = yield* Endpoint.mtls({ ...client, ...identity }, endpoint).dial
          yield* write(connection, commonName.padEnd(10))
        }), { concurrency: "unbounded" })
      const seen = yield* Effect.forEach(names, () =>
        Effect.gen(function*() {
          const { connection, handlers } = yield* listener.accept
          const text = (yield* read(connection, 10)).trimEnd()
          assert.strictEqual([...handlers.entries.keys()][0], [...named(text).entries.keys()][0])
          return text
        }))
      assert.deepStrictEqual(seen.toSorted(), names.toSorted())
    }))

  it.effect("goes over a listener of one's own, whose handlers it takes as they are", () =>
    Effect.gen(function*() {
      const { client, server } = yield* setUp
      const pair = DuplexPair.make()
      const waiting = [Effect.succeed({ connection: pair.server, handlers }), Effect.never]
      const inner: Listener.Listener = {
        address: "memory://orders",
        accept: Effect.suspend(() => waiting.shift() ?? Effect.never),
        close: Effect.void
      }
      const listener = yield* Listener.mtls(server, inner)
      const endpoint = Endpoint.mtls(client, { address: inner.address, dial: Effect.succeed(pair.client) })
      const connection = yield* endpoint.dial
      const accepted = yield* listener.accept
      assert.strictEqual(accepted.handlers, handlers)
      yield* exchange(connection, accepted.connection)
      accepted.connection.destroy()
      yield* closed(pair.server)
      yield* closed(connection)
    }))

  it.effect("drops a connection that was closed before its handshake, and the error that it closed with", () => {
    const log = makeLog()
    return Effect.gen(function*() {
      const { server } = yield* setUp
      const waiting = [
        Effect.sync(() => ({ connection: new Duplex({ read() {} }).destroy(new Error("unplugged")), handlers }))
      ]
      const inner: Listener.Listener = {
        address: "memory://orders",
        accept: Effect.suspend(() => waiting.shift() ?? Effect.never),
        close: Effect.void
      }
      yield* Listener.mtls(server, inner)
      yield* log.until(1)
      assert.strictEqual(log.lines[0]?.message, "TLS handshake failed: the connection was already closed")
      assert.strictEqual(log.lines[0]?.annotations.peer, "memory://orders")
    }).pipe(Effect.provide(log.layer), Effect.provideService(References.MinimumLogLevel, "Debug"))
  })

  it.effect("needs a certificate, its key and an authority, and certificates that can be read", () =>
    Effect.gen(function*() {
      const { server: { ca, cert, key } } = yield* setUp
      const inner = yield* Listener.tcp("127.0.0.1:0", handlers)
      const message = (options: tls.TlsOptions) => failure(Listener.mtls(options, inner))
      assert.include(yield* message({ cert, key }), `cannot listen on mtls://${inner.address}: there is no ca`)
      assert.include(yield* message({ ca, key }), "the server has no certificate: mtls needs cert and key, or pfx")
      assert.include(yield* message({ ca, cert }), "the server's certificate has no private key")
      assert.include(yield* message({ ca, cert: "nonsense", key }), `cannot listen on mtls://${inner.address}: error:`)
      assert.include(yield* message({ ca, cert, key, requestCert: false }), "every client has to prove who it is")
      assert.include(
        yield* message({ ca, cert, key, rejectUnauthorized: false }),
        "every client has to prove who it is"
      )
    }))

  it.effect("takes its options from an Effect, and fails as it does", () =>
    Effect.gen(function*() {
      const { client, server } = yield* setUp
      const inner = yield* Listener.tcp("127.0.0.1:0", handlers)
      const error = new Listener.ListenerError({ message: "no certificate today" })
      assert.strictEqual(yield* Effect.flip(Listener.mtls(Effect.fail(error), inner)), error)
      yield* secure(yield* Listener.mtls(Effect.succeed(server), inner), client)
    }))

  /** A client that does something else than a proper handshake costs its own connection, and is logged. */
  const refuses = (
    title: string,
    level: string,
    reason: RegExp,
    attempt: (
      port: number,
      set: Effect.Success<typeof setUp>
    ) => Effect.Effect<Duplex, Endpoint.DialError | Error, Scope.Scope>
  ) =>
    it.effect(title, () => {
      const log = makeLog()
      return Effect.gen(function*() {
        const set = yield* setUp
        const listener = yield* overTcp(set.server, handlers)
        const port = Number(listener.address.split(":").at(-1))
        const refused = yield* attempt(port, set)
        refused.resume()
        yield* closed(refused)
        yield* log.until(1)
        const [line] = log.lines
        assert.strictEqual(line?.level, level)
        assert.match(line?.message ?? "", /^TLS handshake failed: /)
        assert.match(line?.message ?? "", reason)
        assert.strictEqual(line?.annotations.listener, listener.address)
        assert.match(String(line?.annotations.peer), /^tcp:\/\/127\.0\.0\.1:\d+$/)
        const { client, connection } = yield* secure(listener, set.client)
        yield* exchange(client, connection)
        assert.strictEqual(log.lines.length, 1)
      }).pipe(Effect.provide(log.layer), Effect.provideService(References.MinimumLogLevel, "Debug"))
    })

  const withoutCheck = (port: number, options: tls.ConnectionOptions) =>
    Effect.sync(() => {
      const socket = tls.connect({ port, host: "127.0.0.1", ...options })
      socket.on("error", () => {})
      return socket
    })
  const plain = (port: number) => Endpoint.tcp(`127.0.0.1:${port}`).dial

  refuses(
    "refuses a client without a certificate",
    "Warn",
    /certificate/,
    (port, { client: { ca } }) => withoutCheck(port, { ca })
  )

  refuses(
    "refuses a client with another authority's certificate",
    "Warn",
    /certificate was refused: .*SELF_SIGNED|UNABLE|unable|self/,
    (port, { client }) =>
      Effect.gen(function*() {
        const foreign = yield* makeAuthority()
        const identity = yield* foreign.client({ commonName: "orders" })
        return yield* withoutCheck(port, { ...client, ...identity })
      })
  )

  refuses(
    "refuses a client that does not speak TLS",
    "Warn",
    /http request|wrong version|unexpected/i,
    (port) => Effect.tap(plain(port), (socket) => write(socket, "GET / HTTP/1.1\r\n\r\n"))
  )

  refuses(
    "does not mind a client that goes away without a word",
    "Debug",
    /./,
    (port) => Effect.tap(plain(port), (socket) => Effect.sync(() => socket.destroy()))
  )

  refuses(
    "does not mind a client that goes away in the middle of its handshake",
    "Debug",
    /./,
    (port) =>
      Effect.tap(
        plain(port),
        (socket) => Effect.andThen(write(socket, "\x16\x03\x01\x02\x00\x01"), Effect.sync(() => socket.destroy()))
      )
  )

  it.effect("gives a handshake ten seconds, which delay nobody else", () => {
    const log = makeLog()
    return Effect.gen(function*() {
      const { client, server } = yield* setUp
      const listener = yield* overTcp(server, handlers)
      const stalled = yield* plain(Number(listener.address.split(":").at(-1)))
      stalled.resume()
      for (let i = 0; i < 3; i++) yield* secure(listener, client)
      yield* TestClock.adjust("9 seconds")
      assert.isFalse(stalled.destroyed)
      yield* secure(listener, client)
      yield* TestClock.adjust("1 seconds")
      yield* closed(stalled)
      yield* log.until(1)
      assert.deepStrictEqual(log.lines.map(({ level, message }) => [level, message]), [
        ["Warn", "TLS handshake failed: it was not done after 10 seconds"]
      ])
    }).pipe(Effect.provide(log.layer))
  })

  it.effect("closes the listener below, the handshakes under way and what nobody has accepted", () =>
    Effect.gen(function*() {
      const { client, server } = yield* setUp
      const inner = yield* Listener.tcp("127.0.0.1:0", handlers)
      const listener = yield* Listener.mtls(server, inner)
      const taken = yield* secure(listener, client)
      const stalled = yield* plain(Number(listener.address.split(":").at(-1)))
      stalled.resume()
      const waiting = yield* Effect.flatMap(
        Endpoint.parse(listener.address),
        (endpoint) => Endpoint.mtls(client, endpoint).dial
      )
      waiting.resume()
      const accepting = yield* Effect.forkChild(Effect.flip(Effect.forever(listener.accept)))
      yield* listener.close
      yield* listener.close
      yield* closed(stalled)
      yield* closed(waiting)
      assert.strictEqual((yield* Fiber.join(accepting)).message, `the listener on ${listener.address} is closed`)
      assert.include((yield* Effect.flip(inner.accept)).message, "is closed")
      assert.match((yield* Effect.flip(dial(inner))).message, /ECONNREFUSED/)
      yield* exchange(taken.client, taken.connection)
    }))

  it.effect("ends when the listener below does", () =>
    Effect.gen(function*() {
      const { server } = yield* setUp
      const inner = yield* Listener.tcp("127.0.0.1:0", handlers)
      const listener = yield* Listener.mtls(server, inner)
      const accepting = yield* Effect.forkChild(Effect.flip(listener.accept), { startImmediately: true })
      yield* inner.close
      assert.strictEqual((yield* Fiber.join(accepting)).message, `the listener on ${inner.address} is closed`)
    }))
})
