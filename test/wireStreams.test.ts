/**
 * Both ends against the bytes of streams that were made by hand from the page of the wire, and what peers see of
 * streams that do not understand them.
 */
import { describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Scope, Stream } from "effect"
import { HandlerMap, MethodKey } from "effect-call"
import * as assert from "node:assert/strict"
import vectors from "./data/wire-vectors.json" with { type: "json" }
import { until } from "./faults/wire.ts"
import { bytesOf, component, connect, eachNetwork, memory, mtlsOverTcp, tcp, textOf } from "./support/networks.ts"
import { message, type Raw, rawClient, rawServer, receives } from "./support/raw.ts"
import { stoppable } from "./support/stoppable.ts"
import { streamAccepted, streamClient, streamServer } from "./support/streamPeer.ts"
import * as Wire from "./support/streamWire.ts"
import { flag, identity, type } from "./support/streamWire.ts"

const method = (name: string) => MethodKey.make(component, name)
const feed = method("feed")
const mirror = method("mirror")
const echo = method("echo")
const silent = method("silent")
const failing = method("failing")

/** A message of the vectors. */
const vector = (name: string): Buffer => {
  const found = vectors.streams.messages.find((each) => each.name === name)
  assert.ok(found, name)
  return Buffer.from(found.hex, "hex")
}

/** The items of the vectors, one chunk after the other. */
const chunks = [["a", "", "bc"].map(bytesOf), [bytesOf("0123456789"), bytesOf("z")]] as const

const handlers = [
  [feed, () => Stream.fromArray(chunks[0])] as const,
  [mirror, (_: Uint8Array, items: Stream.Stream<Uint8Array>) => items] as const,
  [silent, () => Stream.never] as const,
  [failing, () => Stream.fail(new Error("no more"))] as const
].reduce(
  (map, [key, handler]) => HandlerMap.setStream(map, key.component, key.method, handler),
  HandlerMap.empty.pipe(
    HandlerMap.set(component, "echo", (args) => Effect.succeed(args)),
    HandlerMap.set(component, "large", (args) => Effect.succeed(new Uint8Array(Number(textOf(args))).fill(9)))
  )
)

const fork = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.forkChild(effect, { startImmediately: true })

/** The bytes that a window of 64 KiB has beyond what a client may send at first. */
const firstGrant = Wire.credit(1, 65_536 - Wire.firstCredit)

describe("our server", () => {
  eachNetwork((network) => {
    it.live("writes the vectors of a stream: its version, items, and the end", () =>
      Effect.gen(function*() {
        const { endpoint } = yield* network.serve(handlers)
        const raw = yield* rawClient(endpoint)
        raw.write(vector("version-client"))
        yield* receives(raw, vector("version-server"))
        raw.write(vector("open"))
        yield* receives(raw, vector("version-server"), firstGrant, vector("items"), vector("stream-done"))
      }).pipe(Effect.scoped))

    it.live("reads the vectors of items, pieces, credit and the end", () =>
      Effect.gen(function*() {
        const { endpoint } = yield* network.serve(handlers)
        const peer = yield* streamClient(endpoint)
        peer.open(1, mirror, 0)
        peer.write(vector("items"), vector("item-first-piece"))
        peer.write(vector("credit"))
        peer.rules.sentCredit(1, 32_768)
        peer.write(vector("item-last-piece"), vector("end"))
        const got: Array<string> = []
        for (let index = 0; index < 5; index++) got.push((yield* peer.item(1)).toString())
        assert.deepEqual(got, ["a", "", "bc", "0123456789", "z"])
        assert.equal((yield* peer.answer(1)).type, type.response)
      }).pipe(Effect.scoped))

    it.live("reads the vectors of a request in parts", () =>
      Effect.gen(function*() {
        const { endpoint } = yield* network.serve(handlers)
        const peer = yield* streamClient(endpoint)
        peer.rules.sentRequest(3)
        peer.write(vector("request-first-part"))
        peer.request(4, echo, bytesOf("between"))
        assert.equal(textOf((yield* peer.answer(4)).payload), "between")
        peer.write(vector("request-last"))
        assert.equal(textOf((yield* peer.answer(3)).payload), "0123456789")
      }).pipe(Effect.scoped))

    it.live("takes all of it byte by byte", () =>
      Effect.gen(function*() {
        const { endpoint } = yield* network.serve(handlers)
        const peer = yield* streamClient(endpoint)
        peer.rules.sentOpen(1, 65_536)
        peer.rules.sentRequest(3)
        const bytes = Buffer.concat([
          Wire.open(1, mirror, 65_536),
          ...["items", "item-first-piece", "request-first-part", "item-last-piece", "end", "request-last"].map(vector)
        ])
        for (const byte of bytes) yield* peer.send(Uint8Array.of(byte))
        for (const text of ["a", "", "bc", "0123456789", "z"]) assert.equal((yield* peer.item(1)).toString(), text)
        assert.equal(textOf((yield* peer.answer(3)).payload), "0123456789")
        yield* peer.answer(1)
      }).pipe(Effect.scoped))
  }, [tcp, mtlsOverTcp, memory])

  it.live("says with the vector's bytes that it goes away", () =>
    Effect.gen(function*() {
      const server = yield* stoppable({ shutdownGrace: "1 minute" }, (handlers) => tcp.listen(handlers))
      const raw = yield* rawClient(server.endpoint)
      raw.write(vector("version-client"))
      yield* receives(raw, vector("version-server"))
      yield* fork(server.stop)
      yield* receives(raw, vector("version-server"), vector("version-leaving"))
    }).pipe(Effect.scoped))

  it.live("keeps to what a client has said once: a version without the flag takes it not back", () =>
    Effect.gen(function*() {
      const { endpoint } = yield* tcp.serve(handlers)
      const peer = yield* streamClient(endpoint)
      peer.write(Wire.version(flag.understood))
      peer.write(Wire.version())
      for (let index = 0; index < 2; index++) {
        assert.equal((yield* peer.next({ type: type.version })).payload.readUInt32LE(4), Wire.streamsFlags)
      }
      peer.open(1, feed, 65_536)
      assert.equal((yield* peer.item(1)).toString(), "a")
    }).pipe(Effect.scoped))

  it.live("takes streams from a client that says only later that it understands them", () =>
    Effect.gen(function*() {
      const { endpoint } = yield* tcp.serve(handlers)
      const peer = yield* streamClient(endpoint, { flags: "none" })
      peer.hello(flag.understood)
      assert.equal((yield* peer.next({ type: type.version })).payload.readUInt32LE(4), flag.understood)
      peer.hello(Wire.streamsFlags)
      assert.equal((yield* peer.next({ type: type.version })).payload.readUInt32LE(4), Wire.streamsFlags)
      peer.open(1, feed, 65_536)
      assert.equal((yield* peer.item(1)).toString(), "a")
    }).pipe(Effect.scoped))

  for (const flags of ["none", flag.understood] as const) {
    it.live(`sends a client that says ${flags === "none" ? "no flags" : "flags 1"} large answers whole, and its version as before`, () =>
      Effect.gen(function*() {
        const { endpoint } = yield* tcp.serve(handlers)
        const peer = yield* streamClient(endpoint, { flags })
        for (const [index, size] of [262_145, 3_000_000].entries()) {
          peer.request(index + 1, method("large"), bytesOf(String(size)))
          assert.equal((yield* peer.answer(index + 1)).payload.length, size)
        }
        assert.deepEqual([...peer.rules.seen.keys()], [type.version, type.response])
        const { payload } = peer.messages[0]!
        assert.equal(payload.toString("hex"), flags === "none" ? "00000000" : "0000000001000000")
      }).pipe(Effect.scoped))
  }

  it.live("answers `unknown function` to a call of a stream's key, and to an open of a call's and of none", () =>
    Effect.gen(function*() {
      const { endpoint } = yield* tcp.serve(handlers)
      const peer = yield* streamClient(endpoint)
      peer.request(1, feed)
      peer.open(2, echo, 1000)
      peer.open(3, method("no such method"), 1000)
      for (const id of [1, 2, 3]) {
        const { message } = yield* peer.error(id)
        assert.equal(message, "internal error: unknown function")
      }
    }).pipe(Effect.scoped))

  it.live("says in an error what a handler has failed with", () =>
    Effect.gen(function*() {
      const { endpoint } = yield* tcp.serve(handlers)
      const peer = yield* streamClient(endpoint)
      peer.open(1, failing, 1000)
      assert.equal((yield* peer.error(1)).message, "no more")
    }).pipe(Effect.scoped))
})

describe("our client", () => {
  /** A server that writes what it is told to, and what it got. */
  const served = Effect.gen(function*() {
    const peers: Array<Raw> = []
    const endpoint = yield* rawServer((raw) => {
      peers.push(raw)
      raw.write(vector("version-server"))
    })
    return { endpoint, raw: Effect.map(until("a connection", () => peers.length > 0), () => peers[0]!) }
  })

  it.live("writes the vectors of its version, an open and its end, and reads those of items and of the end", () =>
    Effect.gen(function*() {
      const { endpoint, raw } = yield* served
      const connection = yield* connect([endpoint])
      const calling = yield* fork(Stream.runCollect(Stream.chunks(connection.stream(feed, bytesOf("hello")))))
      const peer = yield* raw
      // It has no items to send.
      yield* receives(peer, vector("version-client"), vector("open"), vector("end"))
      peer.write(Buffer.concat(["items", "item-first-piece", "item-last-piece", "stream-done"].map(vector)))
      const got = yield* Fiber.join(calling)
      assert.deepEqual(got.flat().map(textOf), ["a", "", "bc", "0123456789", "z"])
    }).pipe(Effect.scoped))

  it.live("gives one chunk for each message where nothing waited", () =>
    Effect.gen(function*() {
      const server = yield* streamServer()
      const connection = yield* connect([server.endpoint])
      const got: Array<ReadonlyArray<string>> = []
      const calling = yield* fork(
        Stream.runForEachArray(connection.stream(feed, bytesOf("")), (chunk) =>
          Effect.sync(() => void got.push(chunk.map(textOf))))
      )
      const peer = yield* server.accepted
      yield* peer.next({ type: type.open })
      peer.write(vector("items"))
      while (got.length < 1) {
        yield* Effect.yieldNow
      }
      peer.items(1, bytesOf("x"), bytesOf("y"))
      peer.respond(1)
      yield* Fiber.join(calling)
      assert.deepEqual(got, [["a", "", "bc"], ["x", "y"]])
    }).pipe(Effect.scoped))

  it.live("reads the vectors of a response in parts, and takes others between them", () =>
    Effect.gen(function*() {
      const server = yield* streamServer()
      const connection = yield* connect([server.endpoint])
      const first = yield* fork(connection.call(echo, bytesOf("1")))
      const second = yield* fork(connection.call(echo, bytesOf("2")))
      const peer = yield* server.accepted
      yield* peer.next({ id: 2, type: type.request })
      peer.write(vector("part-first"))
      peer.respond(1, bytesOf("between"))
      assert.equal(textOf(yield* Fiber.join(first)), "between")
      peer.write(Buffer.concat([vector("part-next"), vector("part-last")]))
      assert.equal(textOf(yield* Fiber.join(second)), "abcdefgh")
    }).pipe(Effect.scoped))

  const errors: ReadonlyArray<readonly [name: string, identity: string]> = [
    ["flow-control", identity.flowControl],
    ["leaving", identity.leaving]
  ]
  for (const [name, expected] of errors) {
    it.live(`reads the vector of the error ${name}`, () =>
      Effect.gen(function*() {
        const server = yield* streamServer()
        const connection = yield* connect([server.endpoint])
        const calling = yield* fork(Effect.flip(Stream.runDrain(connection.stream(feed, bytesOf("")))))
        const peer = yield* server.accepted
        yield* peer.next({ type: type.open })
        peer.write(vector(name))
        const error = yield* Fiber.join(calling)
        assert.ok(error._tag === "RemoteError", error._tag)
        assert.equal(error.chain[0]?.identity, expected)
      }).pipe(Effect.scoped))
  }

  for (const asked of [flag.understood, Wire.streamsFlags] as const) {
    it.live(`answers flags ${asked | 16} with 25, once the server has understood streams`, () =>
      Effect.gen(function*() {
        const server = yield* streamServer()
        const connection = yield* connect([server.endpoint])
        yield* fork(Effect.exit(connection.call(echo, bytesOf(""))))
        const peer = yield* server.accepted
        yield* peer.next({ type: type.version })
        yield* peer.next({ type: type.request })
        peer.write(Wire.version(asked | flag.areYouThere))
        assert.equal((yield* peer.next({ type: type.version })).payload.readUInt32LE(4), 25)
      }).pipe(Effect.scoped))
  }

  it.live("answers flags 17 with the vector, where the server has not understood streams", () =>
    Effect.gen(function*() {
      const server = yield* streamServer({ flags: flag.understood })
      const connection = yield* connect([server.endpoint])
      yield* fork(Effect.exit(connection.call(echo, bytesOf(""))))
      const peer = yield* server.accepted
      assert.equal((yield* peer.next({ type: type.version })).payload.readUInt32LE(4), 9)
      yield* peer.next({ type: type.request })
      peer.write(vector("are-you-there"))
      const { payload } = yield* peer.next({ type: type.version })
      assert.equal(message(0, 0, payload).toString("hex"), vector("i-am").toString("hex"))
    }).pipe(Effect.scoped))

  it.live("keeps to what a server has said once: a version without the flag takes it not back", () =>
    Effect.gen(function*() {
      const server = yield* streamServer()
      const connection = yield* connect([server.endpoint])
      const call = yield* fork(Effect.exit(connection.call(echo, bytesOf(""))))
      const peer = yield* server.accepted
      yield* peer.next({ type: type.request })
      peer.write(Wire.version(flag.understood), Wire.version(), Wire.response(1))
      yield* Fiber.join(call)
      const calling = yield* fork(Stream.runCollect(connection.stream(feed, bytesOf(""))))
      yield* peer.next({ type: type.open, id: 2 })
      peer.write(Wire.items(2, bytesOf("a")), Wire.response(2))
      assert.deepEqual((yield* Fiber.join(calling)).map(textOf), ["a"])
    }).pipe(Effect.scoped))

  const old: ReadonlyArray<readonly [says: string, flags: number | "none"]> = [
    ["no flags", "none"],
    ["flags 1", flag.understood],
    ["flags 8, without that it understands flags", flag.streams]
  ]
  for (const [says, flags] of old) {
    it.live(`sends a server that says ${says}, and that closes on unknown types, large calls whole and no stream`, () =>
      Effect.gen(function*() {
        const server = yield* streamServer({
          flags,
          serve: (peer) =>
            peer.socket.on("data", () => {
              // As the reference does.
              if (peer.messages.some(({ type: each }) => each > type.cancel)) peer.socket.destroy()
            })
        })
        const connection = yield* connect([server.endpoint])
        for (const [index, size] of [262_145, 3_000_000].entries()) {
          const args = new Uint8Array(size).fill(index)
          const calling = yield* fork(connection.call(echo, args))
          const peer = index === 0 ? yield* server.accepted : server.peers[0]!
          const { payload } = yield* peer.next({ type: type.request })
          assert.equal(payload.length, 49 + size)
          peer.respond(index + 1, payload.subarray(49))
          assert.ok(Buffer.from(yield* Fiber.join(calling)).equals(new Uint8Array(size).fill(index)))
        }
        const error = yield* Effect.flip(Stream.runDrain(connection.stream(feed, bytesOf(""))))
        assert.ok(error._tag === "Unreachable", error._tag)
        assert.match(error.message, /streams/)
        assert.equal(server.peers.length, 1)
        assert.deepEqual([...server.peers[0]!.rules.seen.keys()], [type.version, type.request])
      }).pipe(Effect.scoped))
  }

  it.live("opens streams on the replica that understands them", () =>
    Effect.gen(function*() {
      const old = yield* streamServer({ flags: "none" })
      const { endpoint } = yield* tcp.serve(handlers)
      const connection = yield* connect([old.endpoint, endpoint])
      for (let index = 0; index < 5; index++) {
        const got = yield* Stream.runCollect(connection.stream(feed, bytesOf("")))
        assert.deepEqual(got.map(textOf), ["a", "", "bc"])
      }
    }).pipe(Effect.scoped))

  it.live("sends nothing of streams before it has the server's version", () =>
    Effect.gen(function*() {
      const { listener, endpoint } = yield* memory.listen(handlers)
      const connection = yield* connect([endpoint])
      const calling = yield* fork(Stream.runCollect(connection.stream(feed, bytesOf(""))))
      const scope = yield* Scope.make()
      const peer = yield* Scope.provide(streamAccepted(listener, { answers: false }), scope)
      yield* peer.next({ type: type.version })
      for (let turn = 0; turn < 20; turn++) {
        yield* Effect.callback<void>((resume) => void setImmediate(() => resume(Effect.void)))
      }
      assert.equal(peer.messages.length, 1)
      peer.hello()
      yield* peer.next({ type: type.open })
      peer.respond(1)
      assert.deepEqual(yield* Fiber.join(calling), [])
      yield* Scope.close(scope, Exit.void)
    }).pipe(Effect.scoped))
})
