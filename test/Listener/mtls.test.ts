import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, References, type Scope } from "effect"
import { Endpoint, HandlerMap, Listener } from "effect-call"
import { TestClock } from "effect/testing"
import { join } from "node:path"
import { Duplex } from "node:stream"
import * as tls from "node:tls"
import { makeAuthority } from "../../examples/support/certificates.ts"
import * as DuplexPair from "../../src/internal/testing/duplexPair.ts"
import { closed, makeLog, read, temporaryDirectory, write } from "../internal/net/sockets.ts"
import { dial, exchange, failure, handlers, named } from "./support.ts"

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

  it.effect("runs over a user's own listener, whose handlers it uses unchanged", () =>
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
      assert.include(
        yield* message({ ca, cert, key, requestCert: false }),
        "expected true, since mtls always checks the clients' certificates"
      )
      assert.include(
        yield* message({ ca, cert, key, rejectUnauthorized: false }),
        "expected true, since mtls always checks the clients' certificates"
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
    /certificate was refused: UNABLE_TO_VERIFY_LEAF_SIGNATURE$/,
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

  /** A client that says hello without end, one byte after the other. */
  const trickle = function*() {
    yield* Buffer.from([0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03])
    while (true) yield 0
  }

  it.effect.each(
    [
      ["ten seconds", undefined, 10],
      ["as long as it is told", { handshakeTimeout: "3 seconds" }, 3]
    ] as const
  )("gives a handshake %s, and others are not delayed", ([, options, seconds]) => {
    const log = makeLog()
    return Effect.gen(function*() {
      const { client, server } = yield* setUp
      const listener = yield* Listener.mtls(server, yield* Listener.tcp("127.0.0.1:0", handlers), options)
      const silent = yield* plain(Number(listener.address.split(":").at(-1)))
      silent.resume()
      for (let i = 0; i < 3; i++) yield* secure(listener, client)
      yield* TestClock.adjust(seconds * 1000 - 1)
      yield* secure(listener, client)
      assert.isFalse(silent.destroyed)
      yield* TestClock.adjust(1)
      yield* closed(silent)
      yield* log.until(1)
      assert.deepStrictEqual(log.lines.map(({ level, message }) => [level, message]), [
        ["Warn", `TLS handshake failed: it took longer than ${seconds}s`]
      ])
    }).pipe(Effect.provide(log.layer))
  })

  it.effect("gives a handshake unlimited time with Infinity", () =>
    Effect.gen(function*() {
      const { client, server } = yield* setUp
      const listener = yield* Listener.mtls(server, yield* Listener.tcp("127.0.0.1:0", handlers), {
        handshakeTimeout: Infinity
      })
      const silent = yield* plain(Number(listener.address.split(":").at(-1)))
      yield* TestClock.adjust("1 day")
      yield* secure(listener, client)
      assert.isFalse(silent.destroyed)
    }))

  it.effect("gives no more time to a client that sends a byte of its handshake now and then", () => {
    const log = makeLog()
    return Effect.gen(function*() {
      const { client, server } = yield* setUp
      const listener = yield* overTcp(server, handlers)
      const slow = yield* plain(Number(listener.address.split(":").at(-1)))
      slow.resume()
      const bytes = trickle()
      for (let i = 0; i < 40; i++) {
        slow.write(Buffer.from([bytes.next().value]))
        // By the time that another client is in, the byte is there, too.
        if (i % 10 === 0) yield* secure(listener, client)
        assert.isFalse(slow.destroyed)
        yield* TestClock.adjust("250 millis")
      }
      yield* closed(slow)
      assert.deepStrictEqual(log.lines.map(({ message }) => message), [
        "TLS handshake failed: it took longer than 10s"
      ])
    }).pipe(Effect.provide(log.layer))
  })

  it.effect("closes the listener below, the handshakes in progress and the connections that are not accepted yet", () =>
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

  it.effect("ends when the listener below dies of a defect", () =>
    Effect.gen(function*() {
      const { server } = yield* setUp
      const inner = yield* Listener.tcp("127.0.0.1:0", handlers)
      const listener = yield* Listener.mtls(server, { ...inner, accept: Effect.die(new Error("a bug")) })
      assert.strictEqual(yield* failure(listener.accept), `the listener on ${listener.address} broke: a bug`)
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
