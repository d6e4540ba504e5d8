/**
 * Clients that do what they should not. Each costs its own connection, and a client that behaves does not notice.
 */
import { describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { Endpoint, Server } from "effect-call"
import * as fc from "fast-check"
import * as assert from "node:assert/strict"
import * as Networks from "../support/networks.ts"
import { echo, hang, large, largeSize, makeHandlers, makeLog, ok, unknown } from "./hostile.ts"
import { message, type RawPeer, rawPeer, request, type, until, version } from "./wire.ts"

const open = Effect.fnUntraced(function*(network: Networks.Network, options?: Server.ServerOptions) {
  const { handlers, state } = makeHandlers()
  const served = yield* network.serve(handlers, options)
  const connection = yield* Networks.connect([served.endpoint])
  /** A client that behaves: its calls are answered, and on one connection, whatever the others do. */
  const behaves = Effect.gen(function*() {
    const args = new Uint8Array([1, 2, 3])
    assert.deepEqual(yield* connection.call(echo, args), args)
    assert.equal((yield* connection.state).endpoints[0]!.lastFailure, undefined)
  })
  yield* behaves
  return { ...served, state, behaves }
})

/** A peer whose connection works so far. */
const greeted = Effect.fnUntraced(function*(endpoint: Endpoint.Endpoint) {
  const peer = yield* rawPeer(endpoint)
  yield* peer.send(version, request(1, echo, ok))
  assert.deepEqual((yield* peer.answer(1)).payload, ok)
  return peer
})

const hung = (peer: RawPeer, id: number) => peer.send(request(id, hang))

describe("a server closes the connection of a client that sends", () => {
  const refused: ReadonlyArray<readonly [what: string, bytes: Uint8Array, reason: RegExp]> = [
    ["a length of 2^56 - 1", message(2, type.request, new Uint8Array(), 2n ** 56n - 1n), /over the limit of 104857600/],
    ["a length just over 1 GiB", message(2, type.request, new Uint8Array(), 2n ** 30n + 1n), /1073741825 bytes/],
    ["a version over the limit", message(0, type.version, new Uint8Array(), 104_857_601n), /104857601 bytes/],
    ["a cancel over the limit", message(9, type.cancel, new Uint8Array(), 104_857_601n), /104857601 bytes/],
    ["a request shorter than its header", message(2, type.request, new Uint8Array(48)), /a request of 48 bytes/],
    ["an empty request", message(2, type.request), /a request of 0 bytes/],
    ["a version of 3 bytes", message(0, type.version, new Uint8Array(3)), /a version message of 3 bytes/],
    ["a version with an id", message(7, type.version, new Uint8Array(4)), /a version message with id 7/],
    ["a response", message(2, type.response, ok), /type 2/],
    ["a response error", message(2, type.responseError, new Uint8Array(8)), /type 3/],
    ["an unknown type", message(2, 5), /type 5/],
    ["the largest type", message(2, 255), /type 255/],
    ["a type that is 1 in its low bits", message(2, 33, new Uint8Array(49)), /type 33/],
    ["an id of 2^53", request(2n ** 53n, echo, ok), /id of 2\^53 or more/],
    ["the largest id", request(2n ** 64n - 1n, echo, ok), /id of 2\^53 or more/]
  ]
  for (const [what, bytes, reason] of refused) {
    it.live(`${what}, says why in its log, and other clients do not notice`, () => {
      const log = makeLog()
      return Effect.gen(function*() {
        const { behaves, endpoint, state } = yield* open(Networks.tcp)
        const peer = yield* greeted(endpoint)
        yield* hung(peer, 9)
        yield* until("the handler to run", () => state.running === 1)
        yield* peer.send(bytes)
        yield* peer.closed
        yield* until("its handlers to be interrupted", () => state.running === 0)
        assert.equal(peer.messages.length, 2, "no answer but the version and that of before")
        assert.equal(log.lines.length, 1)
        assert.match(log.lines[0]!, reason)
        yield* behaves
      }).pipe(Effect.scoped, Effect.provide(log.layer))
    })
  }

  it.live("the id of a call that runs", () => {
    const log = makeLog()
    return Effect.gen(function*() {
      const { behaves, endpoint, state } = yield* open(Networks.tcp)
      const peer = yield* greeted(endpoint)
      yield* hung(peer, 2)
      yield* until("the handler to run", () => state.running === 1)
      yield* peer.send(request(2, echo, ok))
      yield* peer.closed
      yield* until("the handler to be interrupted", () => state.interrupted === 1)
      assert.match(log.lines.join(), /request 2 twice/)
      yield* behaves
    }).pipe(Effect.scoped, Effect.provide(log.layer))
  })

  it.live("the id of a call that waits for its turn, which then never starts", () => {
    const log = makeLog()
    return Effect.gen(function*() {
      const { endpoint, state } = yield* open(Networks.tcp, { maxConcurrentCalls: 1 })
      const other = yield* greeted(endpoint)
      yield* hung(other, 2)
      yield* until("the one place to be taken", () => state.running === 1)
      const peer = yield* rawPeer(endpoint)
      yield* peer.send(version, request(1, large), request(1, echo, ok))
      yield* peer.closed
      assert.match(log.lines.join(), /request 1 twice/)
      yield* other.send(message(2, type.cancel), request(3, echo, ok))
      assert.deepEqual((yield* other.answer(3)).payload, ok)
      assert.equal(state.called, 0)
    }).pipe(Effect.scoped, Effect.provide(log.layer))
  })

  it.live("lengths that are refused, or that never come, without reserving memory for them", () =>
    Effect.gen(function*() {
      const { behaves, endpoint } = yield* open(Networks.tcp)
      const before = process.memoryUsage().arrayBuffers
      for (let i = 0; i < 50; i++) {
        const peer = yield* rawPeer(endpoint)
        yield* peer.send(message(1, type.request, new Uint8Array(), 2n ** 56n - 1n - BigInt(i)))
        yield* peer.closed
      }
      // Allowed, and promised by ten clients that send a little of it and are silent then.
      for (let i = 0; i < 10; i++) {
        const peer = yield* rawPeer(endpoint)
        yield* peer.send(version, message(1, type.request, new Uint8Array(100), 104_857_600n))
        yield* peer.answer(0, [type.version])
      }
      yield* behaves
      const grown = process.memoryUsage().arrayBuffers - before
      assert.ok(grown < 20 * 1_048_576, `${grown} bytes for 10 clients that promised 100 MiB each, and 50 that lied`)
    }).pipe(Effect.scoped, Effect.provide(makeLog().layer)))
})

describe("a server goes on with a client that", () => {
  it.live("sends a request over the limit, of 1 GiB at most", () =>
    Effect.gen(function*() {
      const { behaves, endpoint, state } = yield* open(Networks.tcp)
      const peer = yield* greeted(endpoint)
      yield* hung(peer, 2)
      yield* until("the handler to run", () => state.running === 1)
      yield* peer.send(message(3, type.request, new Uint8Array(), 104_857_601n))
      assert.match(
        String((yield* peer.answer(3)).payload),
        /the arguments are 104857552 bytes, expected at most 104857551/
      )
      const piece = Buffer.alloc(1_048_576)
      for (let sent = 0; sent < 100; sent++) yield* peer.send(piece)
      yield* behaves
      assert.deepEqual([state.running, peer.messages.length], [1, 3])
      // Its last byte, and what is behind it.
      yield* peer.send(Buffer.alloc(1), message(2, type.cancel), request(4, echo, ok))
      assert.deepEqual((yield* peer.answer(4)).payload, ok)
      assert.equal(state.interrupted, 1)
    }).pipe(Effect.scoped))

  it.live("cancels what is not there, and cancels twice", () =>
    Effect.gen(function*() {
      const { endpoint, state } = yield* open(Networks.tcp)
      const peer = yield* greeted(endpoint)
      const cancel = (id: number) => message(id, type.cancel)
      yield* peer.send(cancel(0), cancel(1), cancel(77), message(78, type.cancel, new Uint8Array(5)))
      yield* hung(peer, 2)
      yield* until("the handler to run", () => state.running === 1)
      yield* peer.send(cancel(2), cancel(2), request(3, echo, ok))
      assert.deepEqual((yield* peer.answer(3)).payload, ok)
      assert.equal((yield* peer.answer(2)).type, type.responseError)
      assert.equal(state.interrupted, 1)
    }).pipe(Effect.scoped))

  it.live("uses an id again when its answer is there, or the largest one", () =>
    Effect.gen(function*() {
      const { endpoint } = yield* open(Networks.tcp)
      const peer = yield* greeted(endpoint)
      yield* peer.send(request(1, echo, Buffer.from("again")), request(2n ** 53n - 1n, echo, ok))
      assert.deepEqual((yield* peer.answer(2n ** 53n - 1n)).payload, ok)
      assert.deepEqual(peer.messages.map(({ payload }) => payload.toString()).slice(1), ["ok", "again", "ok"])
    }).pipe(Effect.scoped))

  it.live("gives a deadline that has passed: the handler is not called", () =>
    Effect.gen(function*() {
      const { endpoint, state } = yield* open(Networks.tcp)
      const peer = yield* greeted(endpoint)
      yield* peer.send(request(2, large, ok, -1n), request(3, large, ok, -(2n ** 63n)))
      for (const id of [2, 3]) {
        const { payload, type: answered } = yield* peer.answer(id)
        assert.equal(answered, type.responseError)
        assert.match(payload.toString(), /context deadline exceeded/)
      }
      assert.equal(state.called, 0)
    }).pipe(Effect.scoped))

  it.live("gives the longest deadline that there is", () =>
    Effect.gen(function*() {
      const { endpoint, state } = yield* open(Networks.tcp)
      const peer = yield* greeted(endpoint)
      yield* peer.send(request(2, hang, ok, 2n ** 63n - 1n), request(3, echo, ok, 2n ** 63n - 1n))
      yield* peer.answer(3)
      assert.equal(state.running, 1)
    }).pipe(Effect.scoped))

  it.live("calls unknown methods, and says its version never, late and often", () =>
    Effect.gen(function*() {
      const { endpoint } = yield* open(Networks.tcp)
      const peer = yield* rawPeer(endpoint)
      const longVersion = message(0, type.version, new Uint8Array(1000).fill(255))
      yield* peer.send(
        request(1, echo, ok),
        request(2, unknown, ok),
        longVersion,
        version,
        version,
        request(3, echo, ok)
      )
      yield* peer.answer(3)
      assert.deepEqual(peer.messages.map(({ type }) => type), [2, 3, 0, 0, 0, 2])
      assert.match(peer.messages[1]!.payload.toString(), /unknown function/)
    }).pipe(Effect.scoped))

  it.live("sends one byte at a time", () =>
    Effect.gen(function*() {
      const { endpoint } = yield* open(Networks.tcp)
      const peer = yield* rawPeer(endpoint)
      const bytes = Buffer.concat([
        version,
        request(1, echo, ok),
        message(9, type.cancel),
        request(2, unknown),
        request(3, echo, Buffer.from("slow")),
        version
      ])
      for (const byte of bytes) yield* peer.send(Buffer.from([byte]))
      yield* until("six answers", () => peer.messages.length === 5)
      assert.deepEqual(peer.messages.map(({ id }) => Number(id)), [0, 1, 2, 3, 0])
      assert.deepEqual(peer.messages[3]!.payload.toString(), "slow")
    }).pipe(Effect.scoped))

  it.live("splits its messages in two at every byte", () =>
    Effect.gen(function*() {
      const { endpoint } = yield* open(Networks.memory)
      const bytes = Buffer.concat([version, request(1, echo, ok), request(2, echo, Buffer.from("second"))])
      for (let at = 1; at < bytes.length; at++) {
        yield* Effect.scoped(Effect.gen(function*() {
          const peer = yield* rawPeer(endpoint)
          yield* peer.send(bytes.subarray(0, at))
          yield* peer.send(bytes.subarray(at))
          yield* peer.answer(2)
          assert.deepEqual(peer.messages.slice(1).map(({ payload }) => payload.toString()), ["ok", "second"])
        }))
      }
    }).pipe(Effect.scoped))

  it.live("sends a thousand requests in one segment", () =>
    Effect.gen(function*() {
      const { behaves, endpoint } = yield* open(Networks.tcp)
      const peer = yield* rawPeer(endpoint)
      yield* peer.send(
        version,
        ...Array.from({ length: 1000 }, (_, i) => request(i + 1, echo, Buffer.from(`${i + 1}`)))
      )
      yield* until("all answers", () => peer.messages.length === 1001)
      assert.ok(peer.messages.slice(1).every(({ id, payload }) => payload.toString() === `${id}`))
      yield* behaves
    }).pipe(Effect.scoped))
})

describe("other clients do not notice a client that", () => {
  const bytes = fc.uint8Array({ maxLength: 300 })
  const payload = fc.oneof(
    fc.uint8Array({ maxLength: 100 }),
    fc.uint8Array({ maxLength: 40 }).map((args) => request(0, echo, args).subarray(16)),
    fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }).map((deadline) => request(0, hang, ok, deadline).subarray(16))
  )
  const framed = fc.record({
    id: fc.oneof(fc.bigInt({ min: 0n, max: 3n }), fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })),
    type: fc.oneof(
      { weight: 9, arbitrary: fc.constantFrom(0, 1, 1, 1, 4) },
      { weight: 1, arbitrary: fc.integer({ min: 0, max: 255 }) }
    ),
    payload,
    lie: fc.option(fc.bigInt({ min: 0n, max: 2n ** 56n - 1n }), { freq: 8 })
  }).map(({ id, lie, payload, type }) => message(id, type, payload, lie ?? undefined))
  const session = fc.oneof(
    bytes.map((bytes) => [bytes]),
    fc.array(framed, { minLength: 1, maxLength: 8 }),
    fc.tuple(fc.array(framed, { maxLength: 4 }), bytes).map(([messages, bytes]) => [version, ...messages, bytes])
  )

  for (const network of [Networks.tcp, Networks.unix]) {
    it.live(`sends random bytes and leaves, over ${network.name}`, () => {
      const log = makeLog()
      return Effect.gen(function*() {
        const { behaves, endpoint, state } = yield* open(network)
        const seed = network === Networks.tcp ? 20_240_611 : 7
        const peers: Array<RawPeer> = []
        for (const [index, messages] of fc.sample(session, { numRuns: 300, seed }).entries()) {
          const peer = yield* rawPeer(endpoint)
          peers.push(peer)
          yield* peer.send(...messages)
          // A third ends its half, a third breaks off, and a third is silent from here on.
          if (index % 3 === 0) peer.socket.end()
          if (index % 3 === 1) peer.reset()
          if (index % 10 === 0) yield* behaves
        }
        yield* behaves
        for (const { socket } of peers) socket.destroy()
        yield* until("all handlers to have ended", () => state.running === 0)
        assert.ok(
          log.lines.every((line) => line.startsWith("a connection was closed: its peer sent")),
          log.lines.join("\n")
        )
        assert.ok(log.lines.length > 50, `only ${log.lines.length} of 300 were refused`)
        yield* behaves
      }).pipe(Effect.scoped, Effect.provide(log.layer))
    })
  }

  it.live("sends half a message and is silent, or nothing at all, or ends its half at once", () =>
    Effect.gen(function*() {
      const { behaves, endpoint } = yield* open(Networks.tcp)
      const bytes = Buffer.concat([version, request(1, echo, Buffer.alloc(100))])
      for (let at = 0; at < bytes.length; at += 9) {
        const peer = yield* rawPeer(endpoint)
        yield* peer.send(bytes.subarray(0, at))
        const ended = yield* rawPeer(endpoint)
        yield* ended.send(bytes.subarray(0, at))
        ended.socket.end()
        yield* ended.closed
        yield* behaves
        assert.ok(!peer.socket.destroyed, "silence is no fault")
      }
    }).pipe(Effect.scoped))

  for (const network of [Networks.tcp, Networks.unix, Networks.mtlsOverTcp, Networks.memory]) {
    it.live(`resets its connection while its handlers run: they are interrupted, over ${network.name}`, () =>
      Effect.gen(function*() {
        const { behaves, endpoint, state } = yield* open(network)
        const peer = yield* greeted(endpoint)
        yield* peer.send(...Array.from({ length: 100 }, (_, i) => request(i + 2, hang)))
        yield* until("all to run", () => state.running === 100)
        yield* behaves
        peer.reset()
        yield* until("all to be interrupted", () => state.interrupted === 100)
        assert.equal(state.running, 0)
        yield* behaves
      }).pipe(Effect.scoped))
  }

  it.live("resets its connection in the middle of a large answer", () =>
    Effect.gen(function*() {
      const { behaves, endpoint, state } = yield* open(Networks.tcp)
      for (let i = 0; i < 10; i++) {
        const peer = yield* greeted(endpoint)
        const calls = state.called
        peer.socket.pause()
        yield* peer.send(...Array.from({ length: 100 }, (_, i) => request(i + 2, large)))
        yield* until("a handler to be called", () => state.called > calls)
        peer.reset()
        yield* behaves
      }
    }).pipe(Effect.scoped))

  for (const network of [Networks.tcp, Networks.unix, Networks.mtlsOverTcp, Networks.memory]) {
    it.live(`never reads its answers: no more of them are made than fit, over ${network.name}`, () =>
      Effect.gen(function*() {
        const { behaves, endpoint, state } = yield* open(network)
        const peer = yield* greeted(endpoint)
        peer.socket.pause()
        // 26 KB of requests, which are read at once, for 26 MB of answers.
        const requests = Array.from({ length: 400 }, (_, i) => request(i + 2, large))
        const before = process.memoryUsage().arrayBuffers
        peer.socket.write(Buffer.concat(requests))
        yield* until("a handler to be called", () => state.called > 0)
        // It has come to a standstill when other calls see no more handlers called.
        for (let seen = -1, calls = 0; calls < 20; calls = state.called === seen ? calls + 1 : 0) {
          seen = state.called
          yield* behaves
        }
        const made = state.called * largeSize
        assert.ok(made < 16 * 1_048_576, `${made} bytes of answers`)
        const grown = process.memoryUsage().arrayBuffers - before
        assert.ok(grown < 32 * 1_048_576, `${grown} bytes held`)
        // And when it reads after all, it gets them all.
        peer.socket.resume()
        yield* until("all answers", () => peer.messages.length === 402)
      }).pipe(Effect.scoped))
  }
})
