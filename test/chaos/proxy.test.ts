import { describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as assert from "node:assert/strict"
import { randomBytes } from "node:crypto"
import * as net from "node:net"
import { join } from "node:path"
import { settle } from "../Connection/support.ts"
import { until } from "../faults/wire.ts"
import { temporaryDirectory } from "../support/networks.ts"
import { localhost, type Place } from "./place.ts"
import { type Fault, Proxy } from "./proxy.ts"
import { Random } from "./random.ts"

/** One end of a connection, with what has become of it. */
class End {
  readonly socket: net.Socket
  private readonly chunks: Array<Buffer> = []
  /** When each chunk came. */
  readonly times: Array<number> = []
  ended = false
  error: string | undefined

  constructor(socket: net.Socket) {
    this.socket = socket
    socket.on("data", (chunk: Buffer) => {
      this.chunks.push(chunk)
      this.times.push(performance.now())
    })
    socket.on("end", () => this.ended = true)
    socket.on("error", (error: NodeJS.ErrnoException) => this.error = error.code)
  }

  get received(): Buffer {
    return Buffer.concat(this.chunks)
  }

  got(bytes: number): Effect.Effect<void> {
    return until(`${bytes} bytes`, () => this.received.length >= bytes)
  }

  get closed(): Effect.Effect<void> {
    return until("a close", () => this.socket.closed)
  }

  get over(): Effect.Effect<void> {
    return until("an end", () => this.ended)
  }
}

/** A proxy in front of a server, and a way to connect through it. */
const setUp = Effect.fnUntraced(function*(transport: "tcp" | "unix" = "tcp") {
  const directory = yield* temporaryDirectory
  const place = (name: string): Place => transport === "tcp" ? { port: 0 } : { path: join(directory, name) }
  const accepted: Array<End> = []
  const server = net.createServer({ allowHalfOpen: true }, (socket) => accepted.push(new End(socket)))
  const target = place("server")
  yield* Effect.promise(() => new Promise<void>((resolve) => server.listen(listenOn(target), resolve)))
  const address = server.address()
  const proxy = new Proxy(
    typeof address === "object" && address !== null ? { port: address.port } : target,
    new Random(1, "proxy")
  )
  const door = yield* Effect.promise(() => proxy.listen(place("proxy")))
  const clients: Array<End> = []
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      proxy.close()
      for (const { socket } of [...clients, ...accepted]) socket.destroy()
      server.close()
    })
  )
  const dial = () => {
    const client = new End(net.connect({ ...listenOn(door), allowHalfOpen: true }))
    clients.push(client)
    return client
  }
  const connect = Effect.gen(function*() {
    const count = accepted.length
    const client = dial()
    yield* until("a connection", () => accepted.length > count)
    return { client, server: accepted[count]! }
  })
  return { proxy, connect, dial }
})

const listenOn = (place: Place) => "path" in place ? place : { ...place, host: localhost }

const bytes = randomBytes(300_000)

const sendBoth = ({ client, server }: { readonly client: End; readonly server: End }) => {
  client.socket.write(bytes)
  server.socket.write(bytes)
}

const arrivedBoth = Effect.fnUntraced(function*({ client, server }: { readonly client: End; readonly server: End }) {
  yield* client.got(bytes.length)
  yield* server.got(bytes.length)
  assert.ok(client.received.equals(bytes) && server.received.equals(bytes))
})

describe("a proxy", () => {
  for (const transport of ["tcp", "unix"] as const) {
    it.live(`passes everything on over ${transport}, and ends`, () =>
      Effect.gen(function*() {
        const { connect, proxy } = yield* setUp(transport)
        const ends = yield* connect
        sendBoth(ends)
        yield* arrivedBoth(ends)
        assert.equal(proxy.connections, 1)
        ends.client.socket.end()
        yield* ends.server.over
        ends.server.socket.write("still")
        yield* ends.client.got(bytes.length + 5)
        ends.server.socket.end()
        yield* ends.client.closed
        yield* until("the connection to be forgotten", () => proxy.connections === 0)
      }).pipe(Effect.scoped))
  }

  it.live("tells either side of a reset of the other, and of a server that is not there", () =>
    Effect.gen(function*() {
      const { connect, dial, proxy } = yield* setUp()
      const first = yield* connect
      first.client.socket.resetAndDestroy()
      yield* first.server.closed
      assert.equal(first.server.error, "ECONNRESET")
      const second = yield* connect
      second.server.socket.resetAndDestroy()
      yield* second.client.closed
      assert.equal(second.client.error, "ECONNRESET")
      proxy.aim({ path: "/nobody/listens/here" })
      yield* dial().closed
    }).pipe(Effect.scoped))

  for (const how of ["reset", "end"] as const) {
    it.live(`cuts connections, new ones too, after so many bytes: by ${how}`, () =>
      Effect.gen(function*() {
        const { connect, proxy } = yield* setUp()
        const old = yield* connect
        proxy.apply({ _tag: "Cut", direction: "toServer", after: 1000, how })
        for (const { client, server } of [old, yield* connect]) {
          client.socket.write(bytes)
          if (how === "end") {
            yield* server.over
            yield* client.over
            assert.ok(server.received.equals(bytes.subarray(0, 1000)))
          } else {
            yield* server.closed
            yield* client.closed
            assert.equal(client.error, "ECONNRESET")
          }
        }
        proxy.heal()
        const ends = yield* connect
        sendBoth(ends)
        yield* arrivedBoth(ends)
      }).pipe(Effect.scoped))
  }

  it.live("half-closes: one direction ends, the other goes on", () =>
    Effect.gen(function*() {
      const { connect, proxy } = yield* setUp()
      const { client, server } = yield* connect
      proxy.apply({ _tag: "Cut", direction: "toServer", after: 3, how: "half-close" })
      client.socket.write("abcdef")
      yield* server.over
      assert.equal(server.received.toString(), "abc")
      server.socket.write(bytes)
      yield* client.got(bytes.length)
      assert.equal(client.ended, false)
    }).pipe(Effect.scoped))

  it.live("delays, and keeps the order when the delay is over", () =>
    Effect.gen(function*() {
      const { connect, proxy } = yield* setUp()
      const { client, server } = yield* connect
      proxy.apply({ _tag: "Delay", millis: 100 })
      const start = performance.now()
      client.socket.write("first, ")
      yield* Effect.sleep(20)
      proxy.heal()
      client.socket.end("second")
      yield* server.over
      assert.equal(server.received.toString(), "first, second")
      assert.ok(server.times[0]! - start >= 98, `${server.times[0]! - start} ms`)
    }).pipe(Effect.scoped))

  it.live("splits into small pieces that are the same bytes", () =>
    Effect.gen(function*() {
      const { connect, proxy } = yield* setUp()
      const { client, server } = yield* connect
      proxy.apply({ _tag: "Split", largest: 3 })
      client.socket.write("0123456789")
      yield* server.got(10)
      assert.equal(server.received.toString(), "0123456789")
      assert.ok(server.times.length > 1, `${server.times.length} pieces`)
      server.socket.write(bytes)
      yield* client.got(bytes.length)
      assert.ok(client.received.equals(bytes))
    }).pipe(Effect.scoped))

  const blackHole = (healedBy: "release" | "reset"): Fault => ({
    _tag: "BlackHole",
    directions: ["toServer", "toClient"],
    healedBy
  })

  it.live("holds back what is sent into a black hole, and its end, until that is released", () =>
    Effect.gen(function*() {
      const { connect, proxy } = yield* setUp()
      const ends = yield* connect
      proxy.apply(blackHole("release"))
      sendBoth(ends)
      ends.client.socket.end()
      yield* settle
      assert.deepEqual([ends.client.received.length, ends.server.received.length], [0, 0])
      proxy.heal()
      yield* arrivedBoth(ends)
      yield* ends.server.over
    }).pipe(Effect.scoped))

  it.live("passes on no reset in a black hole until that is healed", () =>
    Effect.gen(function*() {
      const { connect, proxy } = yield* setUp()
      const { client, server } = yield* connect
      proxy.apply(blackHole("release"))
      server.socket.resetAndDestroy()
      yield* settle
      assert.equal(client.socket.closed, false)
      proxy.heal()
      yield* client.closed
    }).pipe(Effect.scoped))

  it.live("may hold back one direction only, and reset the connection in the end", () =>
    Effect.gen(function*() {
      const { connect, proxy } = yield* setUp()
      const { client, server } = yield* connect
      proxy.apply({ _tag: "BlackHole", directions: ["toServer"], healedBy: "reset" })
      server.socket.write("down")
      client.socket.write("up")
      yield* client.got(4)
      assert.equal(server.received.length, 0)
      proxy.heal()
      yield* client.closed
      yield* server.closed
      assert.equal(server.received.length, 0)
    }).pipe(Effect.scoped))

  it.live("lets connections vanish for good, and those after them pass", () =>
    Effect.gen(function*() {
      const { connect, proxy } = yield* setUp()
      const gone = yield* connect
      proxy.apply({ _tag: "Vanish" })
      proxy.heal()
      const ends = yield* connect
      sendBoth(gone)
      sendBoth(ends)
      yield* arrivedBoth(ends)
      proxy.apply({ _tag: "Delay", millis: 1 })
      proxy.heal()
      yield* settle
      assert.deepEqual([gone.client.received.length, gone.client.socket.closed], [0, false])
    }).pipe(Effect.scoped))

  it.live("refuses connections, and keeps the connections that are open", () =>
    Effect.gen(function*() {
      const { connect, dial, proxy } = yield* setUp()
      const ends = yield* connect
      proxy.apply({ _tag: "Refuse" })
      yield* dial().closed
      sendBoth(ends)
      yield* arrivedBoth(ends)
      proxy.heal()
      yield* connect
    }).pipe(Effect.scoped))
})
