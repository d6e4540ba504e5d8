import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Fiber } from "effect"
import { Endpoint, HandlerMap, Listener } from "effect-call"
import { TestClock } from "effect/testing"
import * as net from "node:net"
import { join } from "node:path"
import { makeAuthority } from "../../examples/support/certificates.ts"
import { closed, hasIPv6, makeLog, temporaryDirectory } from "../internal/net/sockets.ts"
import { connect, dial, exchange, handlers } from "./support.ts"

/** Dials from an address of this host, which on Linux may be any that begins with 127. */
const dialFrom = (localAddress: string, listener: Listener.Listener<unknown>, host = "127.0.0.1") =>
  Effect.acquireRelease(
    Effect.callback<net.Socket>((resume) => {
      const port = Number(listener.address.split(":").at(-1))
      const socket = net.connect({ host, port, localAddress }, () => resume(Effect.succeed(socket)))
      socket.on("error", () => {})
    }),
    (socket) => Effect.sync(() => socket.destroy())
  )

const connectFrom = Effect.fnUntraced(function*(
  localAddress: string,
  listener: Listener.Listener<unknown>,
  host?: string
) {
  const client = yield* dialFrom(localAddress, listener, host)
  return { client, ...(yield* listener.accept) }
})

/** A client that is not let in: its connection is closed, and it gets nothing. */
const isRefused = Effect.fnUntraced(function*(client: net.Socket) {
  let received = 0
  client.on("data", (data: Buffer) => received += data.length)
  yield* closed(client)
  assert.strictEqual(received, 0)
})

const isLeaving = Effect.fnUntraced(function*(
  { client, connection }: { readonly client: net.Socket; readonly connection: Listener.Accepted["connection"] }
) {
  connection.resume()
  client.destroy()
  yield* closed(connection)
})

type LimitOptions = Pick<Listener.TcpOptions, "maxConnections">

describe.each([
  [
    "tcp",
    (handlers: Listener.Handlers, options: LimitOptions) => Listener.tcp("127.0.0.1:0", handlers, options)
  ],
  [
    "unix",
    (handlers: Listener.Handlers, options: LimitOptions) =>
      Effect.flatMap(
        temporaryDirectory,
        (directory) => Listener.unix(join(directory, "server.sock"), handlers, options)
      )
  ]
])("a listener's maxConnections, on %s,", (_, listen) => {
  const dialSocket = Effect.fnUntraced(function*(listener: Listener.Listener<unknown>) {
    const client = yield* dial(listener)
    assert(client instanceof net.Socket)
    return client
  })

  it.effect("may be open at the same time; the next is closed at once, until one of them has closed", () => {
    const log = makeLog()
    return Effect.gen(function*() {
      let picked = 0
      const listener = yield* listen(() => {
        picked++
        return handlers
      }, { maxConnections: 3 })
      const open = yield* Effect.replicateEffect(connect(listener), 3)
      for (const { client, connection } of open) yield* exchange(client, connection)
      yield* isRefused(yield* dialSocket(listener))
      assert.strictEqual(picked, 3)
      assert.deepStrictEqual(log.lines, [{
        level: "Warn",
        message: "A connection was refused: maxConnections is 3, and that many connections are open",
        annotations: { listener: listener.address }
      }])
      const [first] = open
      assert(first !== undefined && first.client instanceof net.Socket)
      yield* isLeaving({ client: first.client, connection: first.connection })
      const { client, connection } = yield* connect(listener)
      yield* exchange(client, connection)
      yield* isRefused(yield* dialSocket(listener))
      for (const { client, connection } of open.slice(1)) yield* exchange(client, connection)
    }).pipe(Effect.provide(log.layer))
  })

  it.effect("include connections that are not accepted yet, until these close", () =>
    Effect.gen(function*() {
      const listener = yield* listen(handlers, { maxConnections: 2 })
      const accepted = yield* connect(listener)
      const waiting = yield* dialSocket(listener)
      yield* isRefused(yield* dialSocket(listener))
      waiting.destroy()
      // What goes back and forth on another connection takes the server through turn after turn, in which it hears of
      // the end.
      for (let i = 0; i < 10; i++) yield* exchange(accepted.client, accepted.connection)
      const { client, connection } = yield* connect(listener)
      yield* exchange(client, connection)
    }).pipe(Effect.provide(makeLog().layer)))

  it.effect("are logged once a second at most, with how many were refused", () => {
    const log = makeLog()
    return Effect.gen(function*() {
      const listener = yield* listen(handlers, { maxConnections: 1 })
      yield* connect(listener)
      const refuse = (times: number) => Effect.replicateEffect(Effect.flatMap(dialSocket(listener), isRefused), times)
      yield* refuse(20)
      yield* TestClock.adjust("999 millis")
      yield* refuse(1)
      assert.strictEqual(log.lines.length, 1)
      yield* TestClock.adjust("1 millis")
      yield* refuse(5)
      assert.deepStrictEqual(log.lines.slice(1).map(({ message }) => message), [
        "A connection was refused: maxConnections is 1, and that many connections are open; 20 more were refused since the last such warning"
      ])
    }).pipe(Effect.provide(log.layer))
  })

  it.effect.each([0, -1, 1.5, NaN, "many"])("cannot be %s", (value) =>
    Effect.gen(function*() {
      // As it may come from a program without types.
      const exit = yield* Effect.exit(listen(handlers, { maxConnections: value as number }))
      const defect = Exit.isFailure(exit) ? Cause.squash(exit.cause) : undefined
      assert.instanceOf(defect, RangeError)
      assert.strictEqual(
        defect.message,
        `option maxConnections: expected a whole number, 1 or more, or Infinity, got ${value}`
      )
    }))

  it.effect("can be Infinity", () =>
    Effect.gen(function*() {
      const listener = yield* listen(handlers, { maxConnections: Infinity })
      const { client, connection } = yield* connect(listener)
      yield* exchange(client, connection)
    }))
})

// On other systems than Linux, 127.0.0.1 is the only loopback address.
describe.skipIf(process.platform !== "linux")("a listener's maxConnectionsPerPeer", () => {
  it.effect("may be open from one address; the next is closed at once, and connections of other addresses are not", () => {
    const log = makeLog()
    return Effect.gen(function*() {
      const listener = yield* Listener.tcp("127.0.0.1:0", handlers, { maxConnectionsPerPeer: 2 })
      const first = yield* connectFrom("127.0.0.2", listener)
      yield* connectFrom("127.0.0.2", listener)
      yield* isRefused(yield* dialFrom("127.0.0.2", listener))
      assert.deepStrictEqual(log.lines, [{
        level: "Warn",
        message: "A connection was refused: maxConnectionsPerPeer is 2, and 127.0.0.2 has that many connections open",
        annotations: { listener: listener.address }
      }])
      for (let i = 0; i < 2; i++) {
        const { client, connection } = yield* connectFrom("127.0.0.3", listener)
        yield* exchange(client, connection)
      }
      yield* isRefused(yield* dialFrom("127.0.0.3", listener))
      yield* isLeaving(first)
      const { client, connection } = yield* connectFrom("127.0.0.2", listener)
      yield* exchange(client, connection)
      yield* isRefused(yield* dialFrom("127.0.0.2", listener))
    }).pipe(Effect.provide(log.layer))
  })

  it.effect.skipIf(!hasIPv6)("count an IPv4 client of an IPv6 socket by its IPv4 address", () => {
    const log = makeLog()
    return Effect.gen(function*() {
      const listener = yield* Listener.tcp("[::]:0", handlers, { maxConnectionsPerPeer: 1 })
      yield* connectFrom("127.0.0.2", listener)
      yield* isRefused(yield* dialFrom("127.0.0.2", listener))
      assert.include(log.lines[0]?.message, "and 127.0.0.2 has that many connections open")
      yield* connectFrom("127.0.0.3", listener)
      yield* connectFrom("::1", listener, "::1")
      yield* isRefused(yield* dialFrom("::1", listener, "::1"))
    }).pipe(Effect.provide(log.layer))
  })

  it.effect("do not include connections that maxConnections refuses", () => {
    const log = makeLog()
    return Effect.gen(function*() {
      const listener = yield* Listener.tcp("127.0.0.1:0", handlers, { maxConnections: 2, maxConnectionsPerPeer: 2 })
      const open = [yield* connectFrom("127.0.0.2", listener), yield* connectFrom("127.0.0.3", listener)]
      for (let i = 0; i < 3; i++) yield* isRefused(yield* dialFrom("127.0.0.4", listener))
      yield* Effect.forEach(open, isLeaving)
      yield* connectFrom("127.0.0.4", listener)
      yield* connectFrom("127.0.0.4", listener)
      assert.deepStrictEqual(log.lines.map(({ message }) => message), [
        "A connection was refused: maxConnections is 2, and that many connections are open"
      ])
    }).pipe(Effect.provide(log.layer))
  })

  it.effect.each([0, -1, 1.5, NaN])("cannot be %s", (maxConnectionsPerPeer) =>
    Effect.gen(function*() {
      const exit = yield* Effect.exit(Listener.tcp("127.0.0.1:0", handlers, { maxConnectionsPerPeer }))
      const defect = Exit.isFailure(exit) ? Cause.squash(exit.cause) : undefined
      assert.instanceOf(defect, RangeError)
      assert.include(defect.message, "option maxConnectionsPerPeer: expected a whole number, 1 or more, or Infinity")
    }))
})

describe("a listener's limits, below mTLS,", () => {
  it.effect("count handshakes that are under way, which free their places when their time is up", () => {
    const log = makeLog()
    return Effect.gen(function*() {
      const authority = yield* makeAuthority()
      const { ca } = authority
      const listener = yield* Listener.mtls(
        { ca, ...yield* authority.server() },
        yield* Listener.tcp("127.0.0.1:0", handlers, { maxConnections: 2 })
      )
      const client = { ca, servername: "localhost", ...yield* authority.client({ commonName: "client" }) }
      const endpoint = Endpoint.mtls(client, yield* Endpoint.parse(listener.address))
      const stalled = yield* Effect.replicateEffect(dial(listener), 2)
      const error = yield* Effect.flip(endpoint.dial)
      assert.include(error.message, "the server closed the connection during the TLS handshake")
      yield* TestClock.adjust("10 seconds")
      yield* Effect.forEach(stalled, (socket) => closed(socket.resume()))
      for (let i = 0; i < 2; i++) {
        const dialing = yield* Effect.forkChild(endpoint.dial, { startImmediately: true })
        const { connection } = yield* listener.accept
        yield* exchange(yield* Fiber.join(dialing), connection)
      }
      yield* Effect.flip(endpoint.dial)
      assert.deepStrictEqual(log.lines.map(({ message }) => message), [
        "A connection was refused: maxConnections is 2, and that many connections are open",
        "TLS handshake failed: it took longer than 10s",
        "TLS handshake failed: it took longer than 10s",
        "A connection was refused: maxConnections is 2, and that many connections are open"
      ])
    }).pipe(Effect.provide(log.layer))
  })

  it.effect("free the place of a client whose handshake has failed, and of one that has gone", () =>
    Effect.gen(function*() {
      const authority = yield* makeAuthority()
      const { ca } = authority
      const listener = yield* Listener.mtls(
        { ca, ...yield* authority.server() },
        yield* Listener.tcp("127.0.0.1:0", HandlerMap.empty, { maxConnections: 1 })
      )
      const client = { ca, servername: "localhost", ...yield* authority.client({ commonName: "client" }) }
      const endpoint = Endpoint.mtls(client, yield* Endpoint.parse(listener.address))
      for (let i = 0; i < 3; i++) {
        const wrong = yield* dial(listener)
        wrong.write("GET / HTTP/1.1\r\n\r\n")
        yield* closed(wrong.resume())
        const dialing = yield* Effect.forkChild(endpoint.dial, { startImmediately: true })
        const { connection } = yield* listener.accept
        const secured = yield* Fiber.join(dialing)
        yield* exchange(secured, connection)
        connection.resume()
        secured.destroy()
        yield* closed(connection)
      }
    }).pipe(Effect.provide(makeLog().layer)))
})
