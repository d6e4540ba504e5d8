import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Equal, Exit, Fiber, HashSet, Scope } from "effect"
import { Endpoint } from "effect-call"
import * as net from "node:net"
import { join } from "node:path"
import { Duplex } from "node:stream"
import * as tls from "node:tls"
import { makeAuthority } from "../examples/support/certificates.ts"
import * as DuplexPair from "../src/internal/testing/duplexPair.ts"
import { dialOnread, isOnreadEndpoint } from "../src/internal/transport/onread.ts"
import {
  closed,
  echo,
  hasIPv6,
  hasNoDelay,
  plainServer,
  read,
  temporaryDirectory,
  write
} from "./internal/net/sockets.ts"

const dialError = (endpoint: Endpoint.Endpoint) => Effect.map(Effect.flip(endpoint.dial), ({ message }) => message)

describe("Endpoint.parse", () => {
  it.effect("reads the network, the address and, as its text, the whole", () =>
    Effect.gen(function*() {
      const endpoint = yield* Endpoint.parse("tcp://localhost:80")
      assert.deepStrictEqual([endpoint.network, endpoint.addr], ["tcp", "localhost:80"])
      assert.strictEqual(endpoint.address, "tcp://localhost:80")
      assert.strictEqual(String(endpoint), "tcp://localhost:80")
      const unix = yield* Endpoint.parse("unix://unix.sock")
      assert.deepStrictEqual([unix.network, unix.addr, unix.address], ["unix", "unix.sock", "unix://unix.sock"])
    }))

  it.effect.each([
    "tcp://golang.org:http",
    "tcp://192.0.2.1:http",
    "tcp://[2001:db8::1]:domain",
    "tcp://[fe80::1%lo0]:53",
    "tcp://:80",
    "tcp4://127.0.0.1:80",
    "tcp6://[::1]:80",
    "unix:///run/orders.sock",
    "unix://@orders"
  ])("takes %s", (text) =>
    Effect.gen(function*() {
      assert.strictEqual((yield* Endpoint.parse(text)).address, text)
    }))

  it.effect("reads the address of an mTLS endpoint as the endpoint below it", () =>
    Effect.gen(function*() {
      assert.strictEqual((yield* Endpoint.parse("mtls://tcp://127.0.0.1:4443")).address, "tcp://127.0.0.1:4443")
    }))

  const expected = "expected a number from 0 to 65535 or the name of a TCP service"
  const refused: ReadonlyArray<readonly [text: string, message: string]> = [
    ["udp://localhost:80", "\"udp\" is not a network: expected tcp, tcp4, tcp6 or unix"],
    ["localhost:80", "\"localhost:80\" has no network: expected \"network://address\""],
    ["", "\"\" has no network: expected \"network://address\""],
    ["mtls://localhost:80", "\"localhost:80\" has no network: expected \"network://address\""],
    ["tcp://localhost", "\"localhost\" has no port: expected \"host:port\""],
    ["tcp://", "\"\" has no port: expected \"host:port\""],
    ["tcp://localhost:", "\"localhost:\" has no port: expected \"host:port\""],
    ["tcp://[::1]", "\"[::1]\" has no port: expected \"host:port\""],
    ["tcp://localhost:65536", `"65536" in "localhost:65536" is not a port: ${expected}`],
    ["tcp://localhost:-1", `"-1" in "localhost:-1" is not a port: ${expected}`],
    ["tcp://localhost:nonsense", `"nonsense" in "localhost:nonsense" is not a port: ${expected}`],
    ["tcp://localhost:80/path", `"80/path" in "localhost:80/path" is not a port: ${expected}`],
    ["tcp://[::1:80", "\"[::1:80\" has no \"]\" for its \"[\""],
    ["tcp://[:80", "\"[:80\" has no \"]\" for its \"[\""],
    ["tcp://::1]:80", "\"::1]:80\" has too many colons: an IPv6 address is written in brackets, as in \"[::1]:80\""],
    ["tcp://host]:80", "\"host]:80\" has a bracket where none belongs: expected \"host:port\" or \"[host]:port\""],
    ["tcp://::1:80", "\"::1:80\" has too many colons: an IPv6 address is written in brackets, as in \"[::1]:80\""],
    ["tcp4://[::1]:80", "\"::1\" is not an IPv4 address, which tcp4 needs"],
    ["tcp6://127.0.0.1:80", "\"127.0.0.1\" is not an IPv6 address, which tcp6 needs"],
    ["unix://", "the path of the Unix socket is empty"],
    [
      `unix:///${"x".repeat(200)}`,
      `"/${"x".repeat(200)}" is too long for a Unix socket: it has 201 bytes, and ${
        process.platform === "linux" ? 107 : 103
      } are possible`
    ],
    ["unix:///a\0b", "\"/a\\u0000b\" is not a path: it has a NUL in it"]
  ]
  it.effect.each(refused)("refuses %j, and says why", ([text, message]) =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(Endpoint.parse(text))
      assert.deepStrictEqual(error, new Endpoint.InvalidEndpoint({ text, message }))
    }))
})

describe("Endpoint.net, tcp and unix", () => {
  it("name themselves after their network and address", () => {
    assert.strictEqual(Endpoint.tcp("golang.org:http").address, "tcp://golang.org:http")
    assert.strictEqual(Endpoint.unix("/tmp/unix.sock").address, "unix:///tmp/unix.sock")
    assert.strictEqual(Endpoint.net("tcp6", ":80").address, "tcp6://:80")
  })

  it("are equal where their addresses are", () => {
    assert.isTrue(Equal.equals(Endpoint.tcp("a:1"), Endpoint.net("tcp", "a:1")))
    assert.isFalse(Equal.equals(Endpoint.tcp("a:1"), Endpoint.net("tcp4", "a:1")))
    assert.isFalse(Equal.equals(Endpoint.tcp("a:1"), { ...Endpoint.tcp("a:1") }))
    assert.strictEqual(HashSet.size(HashSet.make(Endpoint.tcp("a:1"), Endpoint.tcp("a:1"), Endpoint.tcp("a:2"))), 2)
  })

  it.effect("do not throw on a bad address: dialing it fails and says what is wrong", () =>
    Effect.gen(function*() {
      assert.strictEqual(
        yield* dialError(Endpoint.tcp("localhost")),
        "cannot dial tcp://localhost: \"localhost\" has no port: expected \"host:port\""
      )
      assert.strictEqual(
        yield* dialError(Endpoint.unix("")),
        "cannot dial unix://: the path of the Unix socket is empty"
      )
      assert.strictEqual(
        yield* dialError(Endpoint.net("udp", "localhost:80")),
        "cannot dial udp://localhost:80: \"udp\" is not a network: expected tcp, tcp4, tcp6 or unix"
      )
      assert.match(yield* dialError(Endpoint.tcp("a\0b:80")), /^cannot dial tcp:\/\/a\0b:80: /)
    }))

  it.effect("say where nobody listens", () =>
    Effect.gen(function*() {
      const { port } = yield* Effect.scoped(plainServer({ port: 0, host: "127.0.0.1" }))
      const error = yield* Effect.flip(Endpoint.tcp(`127.0.0.1:${port}`).dial)
      assert.strictEqual(error._tag, "DialError")
      assert.strictEqual(error.endpoint, `tcp://127.0.0.1:${port}`)
      assert.strictEqual(
        error.message,
        `cannot dial tcp://127.0.0.1:${port}: connect ECONNREFUSED 127.0.0.1:${port}`
      )
      assert.instanceOf(error.cause, Error)
    }))

  it.effect("say so for each address of this host", () =>
    Effect.gen(function*() {
      const { port } = yield* Effect.scoped(plainServer({ port: 0, host: "127.0.0.1" }))
      const message = yield* dialError(Endpoint.tcp(`:${port}`))
      assert.match(
        message,
        new RegExp(`^cannot dial tcp://:${port}: connect ECONNREFUSED 127.0.0.1:${port}; connect \\w+ ::1:${port}`)
      )
    }))

  it.effect("say which file is missing", () =>
    Effect.gen(function*() {
      const path = join(yield* temporaryDirectory, "none.sock")
      assert.strictEqual(yield* dialError(Endpoint.unix(path)), `cannot dial unix://${path}: connect ENOENT ${path}`)
    }))

  it.effect("carry bytes in both directions", () =>
    Effect.gen(function*() {
      const path = join(yield* temporaryDirectory, "echo.sock")
      const tcp = yield* plainServer({ port: 0, host: "127.0.0.1" })
      const unix = yield* plainServer({ path })
      for (
        const [endpoint, server] of [[Endpoint.tcp(`127.0.0.1:${tcp.port}`), tcp], [Endpoint.unix(path), unix]] as const
      ) {
        const next = yield* Effect.forkChild(server.next, { startImmediately: true })
        const connection = yield* endpoint.dial
        echo(yield* Fiber.join(next))
        yield* write(connection, "hello")
        assert.strictEqual(yield* read(connection, 5), "hello")
      }
    }))

  it.effect.each([":", "localhost:", "0.0.0.0:", "[::]:"])(
    "reach this host as %j and a port",
    (host) =>
      Effect.gen(function*() {
        const server = yield* plainServer({ port: 0, host: "127.0.0.1" })
        const socket = yield* Endpoint.tcp(`${host}${server.port}`).dial
        assert(socket instanceof net.Socket)
        assert.isTrue(hasNoDelay(socket))
      })
  )

  it.effect.skipIf(!hasIPv6)("reach this host where only IPv6 is listened to", () =>
    Effect.gen(function*() {
      const server = yield* plainServer({ port: 0, host: "::1" })
      yield* Endpoint.tcp(`:${server.port}`).dial
      yield* Endpoint.tcp(`[::1]:${server.port}`).dial
      yield* Endpoint.net("tcp6", `:${server.port}`).dial
      assert.match(yield* dialError(Endpoint.net("tcp4", `:${server.port}`)), /ECONNREFUSED 127\.0\.0\.1/)
    }))

  it.effect.skipIf(process.platform !== "linux")(
    "reach a name in the abstract namespace",
    () =>
      Effect.gen(function*() {
        const name = `effect-call-${process.pid}-${Math.random()}`
        yield* plainServer({ path: `\0${name}` })
        yield* Endpoint.unix(`@${name}`).dial
      })
  )

  it.effect("destroy the socket when the Scope ends", () =>
    Effect.gen(function*() {
      const server = yield* plainServer({ port: 0, host: "127.0.0.1" })
      const connection = yield* Effect.scoped(Endpoint.tcp(`127.0.0.1:${server.port}`).dial)
      assert.isTrue(connection.destroyed)
      // A late error must not end the process.
      connection.emit("error", new Error("late"))
      yield* closed(connection)
    }))

  it.effect("keep an error of the connection from ending the process", () =>
    Effect.gen(function*() {
      const server = yield* plainServer({ port: 0, host: "127.0.0.1" })
      const next = yield* Effect.forkChild(server.next, { startImmediately: true })
      const connection = yield* Endpoint.tcp(`127.0.0.1:${server.port}`).dial
      ;(yield* Fiber.join(next)).resetAndDestroy()
      yield* closed(connection)
      assert.match(String(connection.errored), /ECONNRESET/)
    }))

  it.effect("read into the caller's buffer where the client asks for it", () =>
    Effect.gen(function*() {
      const server = yield* plainServer({ port: 0, host: "127.0.0.1" })
      const endpoint = Endpoint.tcp(`127.0.0.1:${server.port}`)
      assert(isOnreadEndpoint(endpoint))
      // An endpoint made from this one, with a way to dial of its own, is dialed that way.
      assert.isFalse(isOnreadEndpoint({ ...endpoint, dial: Endpoint.tcp("other:1").dial }))

      const next = yield* Effect.forkChild(server.next, { startImmediately: true })
      const buffer = new Uint8Array(16)
      const socketHasRead = yield* Deferred.make<string>()
      const socket = yield* endpoint[dialOnread]({
        buffer,
        callback: (length, into) => {
          Deferred.doneUnsafe(socketHasRead, Effect.succeed(Buffer.from(into.subarray(0, length)).toString()))
          return true
        }
      })
      yield* write(yield* Fiber.join(next), "hello")
      assert.strictEqual(yield* Deferred.await(socketHasRead), "hello")
      assert.strictEqual(Buffer.from(buffer.subarray(0, 5)).toString(), "hello")
      assert.isFalse(socket.destroyed)
    }))

  it.effect("destroy a connection whose dialing is interrupted", () =>
    Effect.gen(function*() {
      const path = join(yield* temporaryDirectory, "server.sock")
      const tcp = yield* plainServer({ port: 0, host: "127.0.0.1" })
      const unix = yield* plainServer({ path })
      for (
        const [endpoint, server] of [[Endpoint.tcp(`127.0.0.1:${tcp.port}`), tcp], [Endpoint.unix(path), unix]] as const
      ) {
        const dialing = yield* Effect.forkChild(endpoint.dial, { startImmediately: true })
        const next = yield* Effect.forkChild(server.next, { startImmediately: true })
        // The system has been asked to connect then, but Node has not heard of it yet.
        yield* Effect.promise(() => new Promise((resolve) => process.nextTick(resolve)))
        assert.isUndefined(dialing.pollUnsafe())
        yield* Fiber.interrupt(dialing)
        // The Scope of the dial is still open: nothing but the interruption has closed it.
        yield* closed(yield* Fiber.join(next))
      }
    }))
})

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
        "the server always has to prove who it is"
      )
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
          answer === undefined ? /disconnected before secure|ECONNRESET|closed during/ : /wrong version/
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

  it.effect("fails where a duplex below is closed already, also with an error that nobody listens to", () =>
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
