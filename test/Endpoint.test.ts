import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Equal, Fiber, HashSet } from "effect"
import { Endpoint } from "effect-call"
import * as net from "node:net"
import { join } from "node:path"
import { dialOnread, isOnreadDialable } from "../src/internal/transport/onread.ts"
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
    ["tcp://host]:80", "\"host]:80\" has a misplaced bracket: expected \"host:port\" or \"[host]:port\""],
    ["tcp://::1:80", "\"::1:80\" has too many colons: an IPv6 address is written in brackets, as in \"[::1]:80\""],
    ["tcp4://[::1]:80", "\"::1\" is not an IPv4 address, which tcp4 needs"],
    ["tcp6://127.0.0.1:80", "\"127.0.0.1\" is not an IPv6 address, which tcp6 needs"],
    ["unix://", "the path of the Unix socket is empty"],
    [
      `unix:///${"x".repeat(200)}`,
      `"/${"x".repeat(200)}" is too long for a Unix socket: it has 201 bytes, expected at most ${
        process.platform === "linux" ? 107 : 103
      }`
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
    }))

  it.live("leave no socket where Node throws on an address instead of connecting", () =>
    Effect.gen(function*() {
      const sockets = () => process.getActiveResourcesInfo().filter((name) => name === "TCPSocketWrap").length
      const before = sockets()
      assert.match(yield* dialError(Endpoint.tcp("a\0b:80")), /^cannot dial tcp:\/\/a\0b:80: /)
      yield* Effect.repeat(Effect.yieldNow, { while: () => sockets() > before, times: 1000 })
      assert.strictEqual(sockets(), before)
    }))

  it.effect("say where no server listens", () =>
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
      assert(isOnreadDialable(endpoint))
      // An endpoint made from this one, with a way to dial of its own, is dialed that way.
      assert.isFalse(isOnreadDialable({ ...endpoint, dial: Endpoint.tcp("other:1").dial }))

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
