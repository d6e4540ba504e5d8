import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Scope } from "effect"
import { Endpoint } from "effect-call"
import type * as net from "node:net"
import { join } from "node:path"
import { Duplex } from "node:stream"
import * as tls from "node:tls"
import { makeAuthority } from "../../../examples/support/certificates.ts"
import * as DuplexPair from "../../../src/internal/testing/duplexPair.ts"
import { closed, hasIPv6, plainServer, read, temporaryDirectory } from "./sockets.ts"

const dialError = (endpoint: Endpoint.Endpoint) => Effect.map(Effect.flip(endpoint.dial), ({ message }) => message)

describe("Endpoint.mtls", () => {
  const setUp = Effect.gen(function*() {
    const authority = yield* makeAuthority()
    return {
      authority,
      server: { ca: authority.ca, ...yield* authority.server() },
      client: { ca: authority.ca, ...yield* authority.client({ commonName: "orders" }) }
    }
  })

  /** A TLS server that wants certificates, and sends each client the name in its own. */
  const greeter = (options: tls.TlsOptions) => {
    const server = tls.createServer({ ...options, requestCert: true, rejectUnauthorized: true }, (socket) => {
      socket.on("error", () => {})
      socket.write(String(socket.getPeerCertificate().subject.CN))
    })
    server.on("tlsClientError", () => {})
    return server
  }

  const greet = Effect.fnUntraced(function*(options: tls.TlsOptions, where: net.ListenOptions) {
    const server = greeter(options)
    yield* Effect.acquireRelease(
      Effect.callback<void>((resume) => void server.listen(where, () => resume(Effect.void))),
      () => Effect.sync(() => server.close())
    )
    const address = server.address()
    return typeof address === "object" && address !== null ? address.port : 0
  })

  it("has mtls:// and the address below as its address", () => {
    assert.strictEqual(Endpoint.mtls({}, Endpoint.tcp("127.0.0.1:4443")).address, "mtls://tcp://127.0.0.1:4443")
  })

  it.effect("proves who both sides are, over TCP by host name and by IP address", () =>
    Effect.gen(function*() {
      const { client, server } = yield* setUp
      const port = yield* greet(server, { port: 0 })
      for (const host of ["localhost", "127.0.0.1", ""]) {
        const connection = yield* Endpoint.mtls(client, Endpoint.tcp(`${host}:${port}`)).dial
        assert.strictEqual(yield* read(connection, 6), "orders")
        assert(connection instanceof tls.TLSSocket)
        assert.isTrue(connection.authorized)
        assert.strictEqual(connection.getProtocol(), "TLSv1.3")
      }
    }))

  it.effect.skipIf(!hasIPv6)("proves an IPv6 address", () =>
    Effect.gen(function*() {
      const { authority, client, server } = yield* setUp
      const port = yield* greet(server, { port: 0, host: "::1" })
      yield* Endpoint.mtls(client, Endpoint.tcp(`[::1]:${port}`)).dial
      const named = yield* authority.server({ commonName: "localhost", names: [{ type: "dns", value: "localhost" }] })
      const other = yield* greet({ ca: authority.ca, ...named }, { port: 0, host: "::1" })
      assert.match(
        yield* dialError(Endpoint.mtls(client, Endpoint.tcp(`[::1]:${other}`))),
        /IP: ::1 is not in the cert's list/
      )
    }))

  it.effect("proves who both sides are over a Unix socket, with a servername", () =>
    Effect.gen(function*() {
      const { client, server } = yield* setUp
      const path = join(yield* temporaryDirectory, "tls.sock")
      yield* greet(server, { path })
      const connection = yield* Endpoint.mtls({ ...client, servername: "localhost" }, Endpoint.unix(path)).dial
      assert.strictEqual(yield* read(connection, 6), "orders")
    }))

  it.effect("asks a server for the name of the host, and names no address", () =>
    Effect.gen(function*() {
      const { client, server } = yield* setUp
      const asked: Array<string> = []
      const port = yield* greet({
        ...server,
        SNICallback: (name, done) => {
          asked.push(name)
          done(null)
        }
      }, { port: 0, host: "127.0.0.1" })
      yield* Endpoint.mtls(client, Endpoint.tcp(`localhost:${port}`)).dial
      yield* Endpoint.mtls(client, Endpoint.tcp(`127.0.0.1:${port}`)).dial
      yield* Endpoint.mtls({ ...client, servername: "127.0.0.1" }, Endpoint.tcp(`localhost:${port}`)).dial
      assert.deepStrictEqual(asked, ["localhost"])
      // The options know better. A dot at the end is for name servers, and not part of the name in a certificate.
      yield* Endpoint.mtls({ ...client, host: "localhost" }, Endpoint.tcp(`127.0.0.1:${port}`)).dial
      yield* Endpoint.mtls({ ...client, host: "other", servername: "localhost." }, Endpoint.tcp(`127.0.0.1:${port}`))
        .dial
      assert.deepStrictEqual(asked, ["localhost", "localhost", "localhost"])
    }))

  it.effect("goes over any duplex", () =>
    Effect.gen(function*() {
      const { client, server } = yield* setUp
      const pair = DuplexPair.make()
      const inner = { address: "memory://orders", dial: Effect.succeed(pair.client) }
      greeter(server).emit("connection", pair.server)
      const scope = yield* Scope.make()
      const connection = yield* Endpoint.mtls({ ...client, servername: "localhost" }, inner).dial.pipe(
        Scope.provide(scope)
      )
      assert.strictEqual(yield* read(connection, 6), "orders")
      yield* Scope.close(scope, Exit.void)
      yield* closed(connection)
    }))

  it.effect("needs a servername where the endpoint below has no host", () =>
    Effect.gen(function*() {
      const { client } = yield* setUp
      const inner = { address: "memory://orders", dial: Effect.die("dialed without a name to check") }
      for (const endpoint of [Endpoint.unix("/nowhere.sock"), inner]) {
        const error = yield* Effect.flip(Endpoint.mtls(client, endpoint).dial)
        assert.strictEqual(
          error.message,
          `cannot dial mtls://${endpoint.address}: there is no name to check the server's certificate against: the endpoint has no host, ` +
            "so servername is needed"
        )
      }
    }))

  it.effect("needs a certificate, its key, and certificates that can be read", () =>
    Effect.gen(function*() {
      const { client, server } = yield* setUp
      const port = yield* greet(server, { port: 0, host: "127.0.0.1" })
      const failure = (options: tls.ConnectionOptions) =>
        dialError(Endpoint.mtls(options, Endpoint.tcp(`127.0.0.1:${port}`)))
      const { ca, cert, key } = client
      assert.include(
        yield* failure({ ca }),
        "the client has no certificate: mtls needs cert and key, pfx, or a secureContext"
      )
      assert.include(yield* failure({ ca, cert }), "the client's certificate has no private key")
      assert.include(
        yield* failure({ ca, cert: "nonsense", key }),
        `cannot dial mtls://tcp://127.0.0.1:${port}: error:`
      )
      assert.include(
        yield* failure({ ...client, rejectUnauthorized: false }),
        "rejectUnauthorized is false: expected true, since mtls always checks the server's certificate"
      )
      // Node would take an empty text for no option at all: for every public authority, and for an empty revocation
      // list.
      assert.include(yield* failure({ ...client, ca: "" }), ": ca is empty")
      assert.include(yield* failure({ ...client, ca: [ca, Buffer.alloc(0)] }), ": ca is empty")
      assert.include(yield* failure({ ...client, crl: "" }), ": crl is empty")
      assert.include(yield* failure({ ...client, key: "" }), ": key is empty")
      yield* Endpoint.mtls({ secureContext: tls.createSecureContext(client) }, Endpoint.tcp(`127.0.0.1:${port}`)).dial
    }))

  it.effect("fails where the server's certificate is for another name, and destroys the connection", () =>
    Effect.gen(function*() {
      const { authority, client, server } = yield* setUp
      const port = yield* greet(server, { port: 0, host: "127.0.0.1" })
      const raw: Array<Duplex> = []
      const inner = { ...Endpoint.tcp(`127.0.0.1:${port}`) }
      const watched = { ...inner, dial: Effect.tap(inner.dial, (duplex) => Effect.sync(() => raw.push(duplex))) }
      const error = yield* Effect.flip(Endpoint.mtls({ ...client, servername: "payments.example" }, watched).dial)
      assert.include(error.message, "Host: payments.example. is not in the cert's altnames: DNS:localhost")
      assert.strictEqual(raw.length, 1)
      yield* closed(raw[0]!)

      const named = yield* authority.server({ commonName: "127.0.0.1", names: [{ type: "dns", value: "localhost" }] })
      const other = yield* greet({ ca: authority.ca, ...named }, { port: 0, host: "127.0.0.1" })
      assert.match(
        yield* dialError(Endpoint.mtls(client, Endpoint.tcp(`127.0.0.1:${other}`))),
        /IP: 127\.0\.0\.1 is not in the cert's list/
      )
      yield* Endpoint.mtls(client, Endpoint.tcp(`localhost:${other}`)).dial
    }))

  it.effect("fails where another authority has signed the server's certificate", () =>
    Effect.gen(function*() {
      const { client, server } = yield* setUp
      const foreign = yield* makeAuthority()
      const port = yield* greet(server, { port: 0, host: "127.0.0.1" })
      const message = yield* dialError(Endpoint.mtls({ ...client, ca: foreign.ca }, Endpoint.tcp(`127.0.0.1:${port}`)))
      assert.match(message, /^cannot dial mtls:\/\/tcp:.*: (unable to|certificate|self.signed)/)
      yield* Endpoint.mtls({ ...client, ca: [foreign.ca, client.ca] }, Endpoint.tcp(`127.0.0.1:${port}`)).dial
    }))

  it.effect("asks for its options at each dial, and fails as they do", () =>
    Effect.gen(function*() {
      const { client, server } = yield* setUp
      const port = yield* greet(server, { port: 0, host: "127.0.0.1" })
      const expired = new Endpoint.DialError({ message: "no certificate today" })
      const answers = [Effect.succeed(client), Effect.fail(expired), Effect.succeed(client)]
      const endpoint = Endpoint.mtls(Effect.suspend(() => answers.shift()!), Endpoint.tcp(`127.0.0.1:${port}`))
      yield* endpoint.dial
      assert.strictEqual(yield* Effect.flip(endpoint.dial), expired)
      yield* endpoint.dial
    }))

  it.effect("fails where the server does not speak TLS, or goes away during the handshake", () =>
    Effect.gen(function*() {
      const { client } = yield* setUp
      const server = yield* plainServer({ port: 0, host: "127.0.0.1" })
      const endpoint = Endpoint.mtls(client, Endpoint.tcp(`127.0.0.1:${server.port}`))
      for (const answer of ["HTTP/1.1 400 Bad Request\r\n\r\n", undefined]) {
        const next = yield* Effect.forkChild(server.next, { startImmediately: true })
        const dialing = yield* Effect.forkChild(Effect.flip(endpoint.dial), { startImmediately: true })
        const socket = yield* Fiber.join(next)
        socket.resume()
        if (answer === undefined) socket.destroy()
        else socket.write(answer)
        const error = yield* Fiber.join(dialing)
        assert.match(
          error.message,
          answer === undefined ? /closed.* during the TLS handshake/ : /wrong version/
        )
        yield* closed(socket)
      }
    }))

  it.effect("fails where a duplex below closes during the handshake", () =>
    Effect.gen(function*() {
      const { client } = yield* setUp
      const raw = new Duplex({ read() {}, write: (_chunk, _encoding, done) => done() })
      const inner = { address: "memory://orders", dial: Effect.succeed(raw) }
      const dialing = yield* Effect.forkChild(
        Effect.flip(Endpoint.mtls({ ...client, servername: "localhost" }, inner).dial),
        { startImmediately: true }
      )
      raw.destroy()
      assert.strictEqual(
        (yield* Fiber.join(dialing)).message,
        "cannot dial mtls://memory://orders: the connection was closed during the TLS handshake"
      )
    }))

  it.effect("fails where a duplex below is closed already, even with an error that has no listener", () =>
    Effect.gen(function*() {
      const { client } = yield* setUp
      const inner = {
        address: "memory://orders",
        dial: Effect.sync(() => new Duplex({ read() {} }).destroy(new Error("unplugged")))
      }
      assert.strictEqual(
        yield* dialError(Endpoint.mtls({ ...client, servername: "localhost" }, inner)),
        "cannot dial mtls://memory://orders: the connection was closed during the TLS handshake"
      )
    }))

  it.effect("destroys the connection when a handshake that stalls is interrupted", () =>
    Effect.gen(function*() {
      const { client } = yield* setUp
      const server = yield* plainServer({ port: 0, host: "127.0.0.1" })
      const next = yield* Effect.forkChild(server.next, { startImmediately: true })
      const dialing = yield* Effect.forkChild(Endpoint.mtls(client, Endpoint.tcp(`127.0.0.1:${server.port}`)).dial, {
        startImmediately: true
      })
      const socket = yield* Fiber.join(next)
      // The handshake has begun, and the answer will never come.
      yield* Effect.callback<void>((resume) => void socket.once("data", () => resume(Effect.void)))
      assert.isUndefined(dialing.pollUnsafe())
      yield* Fiber.interrupt(dialing)
      yield* closed(socket)
    }))

  it.effect("destroys both sockets when the Scope ends", () =>
    Effect.gen(function*() {
      const { client, server } = yield* setUp
      const port = yield* greet(server, { port: 0, host: "127.0.0.1" })
      const raw: Array<Duplex> = []
      const inner = Endpoint.tcp(`127.0.0.1:${port}`)
      const watched = { ...inner, dial: Effect.tap(inner.dial, (duplex) => Effect.sync(() => raw.push(duplex))) }
      const connection = yield* Effect.scoped(
        Endpoint.mtls({ ...client, servername: "localhost" }, watched).dial
      )
      assert.deepStrictEqual([connection.destroyed, raw[0]!.destroyed], [true, true])
      connection.emit("error", new Error("late"))
      yield* closed(connection)
    }))
})
