/** The bytes that both ends of a connection count: all that is sent, exactly, and nothing else. */
import { describe, it } from "@effect/vitest"
import { Effect, Fiber, Schema } from "effect"
import { Component, Connection, HandlerMap, MethodKey } from "effect-call"
import { TestNetwork } from "effect-call/testing"
import { Rpc, RpcGroup } from "effect/rpc"
import * as assert from "node:assert/strict"
import * as identities from "../../src/internal/protocol/identities.ts"
import { bytesOf, metered, meteredInMemory, type Metrics } from "../support/metrics.ts"
import { component, connect, eachNetwork, echo, handlers, hang, mtlsOverTcp, tcp, unix } from "../support/networks.ts"
import { message, rawClient, rawServer, request, version } from "../support/raw.ts"
import { fork, nothing, open, plug } from "./metricsSupport.ts"
import { elapse, settle, until } from "./support.ts"

const kibibyte = 1024

/** What a message takes besides its payload, and what a request has in that before its arguments. */
const header = 16
const requestHeader = 49

/** The version message of each side, with flags, and of one that does not know them and of who answers it. */
const ofVersion = header + 8
const ofPlainVersion = header + 4
const ofRequest = (size: number) => header + requestHeader + size
const ofAnswer = (size: number) => header + size
const sum = (numbers: ReadonlyArray<number>) => numbers.reduce((sum, number) => sum + number, 0)

/** Both ends say that the client has sent so many bytes, and the server. */
const assertBytes = (metrics: Metrics, client: number, server: number) =>
  assert.deepEqual(
    { client: bytesOf(metrics, "client"), server: bytesOf(metrics, "server") },
    { client: { sent: client, received: server }, server: { sent: server, received: client } }
  )

describe("the bytes that one end sends are the bytes that the other end receives", () => {
  eachNetwork((network) => {
    it.live(
      "with the version messages, and the large payloads that are sent from where they are",
      metered((metrics) =>
        Effect.gen(function*() {
          const { endpoint } = yield* network.serve(handlers)
          const connection = yield* connect([endpoint])
          const sizes = [0, 1, 1000, 16 * kibibyte - 1, 16 * kibibyte, 200_000, 260_000]
          // On a connection that is dialed first; one by one; and together.
          for (const size of sizes) yield* connection.call(echo, new Uint8Array(size))
          yield* Effect.forEach(sizes, (size) => connection.call(echo, new Uint8Array(size)), {
            concurrency: "unbounded"
          })
          const all = [...sizes, ...sizes]
          assertBytes(metrics, ofVersion + sum(all.map(ofRequest)), ofVersion + sum(all.map(ofAnswer)))
        })
      )
    )
  }, [tcp, unix, mtlsOverTcp])

  eachNetwork((network) => {
    it.live(
      "with the payloads that are too large, and are dropped",
      metered((metrics) =>
        Effect.gen(function*() {
          const make = MethodKey.make(component, "make")
          const { endpoint } = yield* network.serve(
            HandlerMap.set(handlers, component, "make", () => Effect.succeed(new Uint8Array(150_000))),
            { maxMessageSize: 200_000 }
          )
          const connection = yield* connect([endpoint], { maxMessageSize: 100_000 })
          const generous = yield* connect([endpoint])
          yield* Effect.flip(connection.call(make, nothing))
          // Its payload has been read when what is behind it is answered.
          yield* connection.call(echo, nothing)
          const { length } = identities.argumentsTooLarge(250_000, 199_951).message
          yield* Effect.flip(generous.call(echo, new Uint8Array(250_000)))
          yield* generous.call(echo, nothing)
          const ofRefusal = header + 8 + 4 + length + 4 + identities.argumentsTooLargeIdentity.length
          assertBytes(
            metrics,
            2 * ofVersion + 3 * ofRequest(0) + ofRequest(250_000),
            2 * ofVersion + 2 * ofAnswer(0) + ofAnswer(150_000) + ofRefusal
          )
        })
      )
    )
  }, [tcp, unix, mtlsOverTcp])

  it.live(
    "on all connections together",
    metered((metrics) =>
      Effect.gen(function*() {
        const { endpoint } = yield* tcp.serve(handlers)
        for (let i = 0; i < 3; i++) yield* (yield* connect([endpoint])).call(echo, nothing)
        assertBytes(metrics, 3 * (ofVersion + ofRequest(0)), 3 * (ofVersion + ofAnswer(0)))
      })
    )
  )

  it.live(
    "with typed methods, which have a byte of their own before arguments and results",
    metered((metrics) =>
      Effect.gen(function*() {
        const Echo = Component.make(
          "test/Typed",
          RpcGroup.make(Rpc.make("Echo", { payload: { bytes: Schema.Uint8Array }, success: Schema.Uint8Array }))
        )
        const served = yield* tcp.serve(
          yield* Component.handlers(Echo, Echo.group.toLayer({ Echo: ({ bytes }) => Effect.succeed(bytes) }))
        )
        const connection = yield* connect([served.endpoint])
        const client = yield* Effect.provideService(Component.client(Echo), Connection.Connection, connection)
        for (const size of [10, 100_000]) yield* client.Echo({ bytes: new Uint8Array(size) })
        const { received, sent } = bytesOf(metrics, "client")
        assertBytes(metrics, sent, received)
        assert.ok(sent > 100_010 && received > 100_010, `${sent}, ${received}`)
      })
    )
  )

  it.effect(
    "with cancels, and with the errors that answer them",
    meteredInMemory((metrics) =>
      Effect.gen(function*() {
        const connection = yield* open()
        const call = yield* fork(connection.call(hang, nothing))
        yield* settle
        const before = bytesOf(metrics, "client")
        yield* Fiber.interrupt(call)
        yield* settle
        const { received, sent } = bytesOf(metrics, "client")
        assert.equal(sent - before.sent, header)
        assert.ok(received > before.received + header)
        assertBytes(metrics, sent, received)
      })
    )
  )
})

describe("a request that never leaves has no bytes", () => {
  it.live(
    "where it is given up in the turn in which it was made",
    metered((metrics) =>
      Effect.gen(function*() {
        const { endpoint } = yield* tcp.serve(handlers)
        const connection = yield* connect([endpoint])
        yield* connection.call(echo, nothing)
        // Between two others, small and sent from where it is.
        for (const size of [1000, 20_000]) {
          const before = yield* fork(connection.call(echo, nothing))
          const call = yield* fork(connection.call(hang, new Uint8Array(size)))
          const after = yield* fork(connection.call(echo, nothing))
          yield* Fiber.interrupt(call)
          yield* Fiber.join(before)
          yield* Fiber.join(after)
        }
        assertBytes(metrics, ofVersion + 5 * ofRequest(0), ofVersion + 5 * ofAnswer(0))
      })
    )
  )

  it.effect(
    "where its deadline passes before it can be sent",
    meteredInMemory((metrics) =>
      Effect.gen(function*() {
        const connection = yield* open()
        yield* plug(connection)
        const calls = yield* Effect.forEach(
          [1000, 20_000],
          (size) => fork(Effect.flip(connection.call(echo, new Uint8Array(size), { timeout: "1 second" })))
        )
        for (const call of calls) yield* elapse(call, 500)
        yield* TestNetwork.heal("a")
        yield* connection.call(echo, nothing)
        assertBytes(
          metrics,
          ofVersion + 2 * ofRequest(0) + ofRequest(250 * kibibyte),
          ofVersion + 2 * ofAnswer(0)
        )
      })
    )
  )

  it.effect(
    "before the socket takes it",
    meteredInMemory((metrics) =>
      Effect.gen(function*() {
        const connection = yield* open()
        yield* plug(connection)
        const { sent } = bytesOf(metrics, "client")
        const calls = yield* Effect.forEach(
          [1000, 20_000],
          (size) => fork(connection.call(echo, new Uint8Array(size), { timeout: "1 minute" }))
        )
        yield* settle
        assert.equal(bytesOf(metrics, "client").sent, sent)
        yield* TestNetwork.heal("a")
        for (const call of calls) yield* Fiber.join(call)
        assert.equal(bytesOf(metrics, "client").sent, sent + ofRequest(1000) + ofRequest(20_000))
      })
    )
  )

  it.effect(
    "and one that is sent later has them once, on the connection that it is sent on",
    meteredInMemory((metrics) =>
      Effect.gen(function*() {
        const connection = yield* open()
        const left = yield* plug(connection)
        const { sent } = bytesOf(metrics, "client")
        const calls = yield* Effect.forEach([1000, 20_000], (size) => fork(connection.call(echo, new Uint8Array(size))))
        yield* settle
        yield* TestNetwork.fault("a", { cutAfter: { toServer: 0 }, dial: "hang" })
        yield* Fiber.join(left)
        yield* TestNetwork.heal("a")
        for (const call of calls) yield* Fiber.join(call)
        assert.equal(bytesOf(metrics, "client").sent, sent + ofVersion + ofRequest(1000) + ofRequest(20_000))
      })
    )
  )
})

describe("what a peer sends is counted as it comes", () => {
  it.live(
    "by a server, also where it is no whole message",
    metered((metrics) =>
      Effect.gen(function*() {
        const { endpoint } = yield* tcp.serve(handlers)
        const client = yield* rawClient(endpoint)
        const bytes = Buffer.concat([version, request(1, echo, new Uint8Array(10)), request(2, echo, nothing)])
        client.write(bytes.subarray(0, -1))
        const answers = yield* client.until(({ length }) => length >= ofPlainVersion + ofAnswer(10))
        assert.deepEqual(bytesOf(metrics, "server"), { sent: answers.length, received: bytes.length - 1 })
        client.write(bytes.subarray(-1))
        yield* client.until(({ length }) => length >= answers.length + ofAnswer(0))
        assert.deepEqual(bytesOf(metrics, "server"), {
          sent: client.received().length,
          received: bytes.length
        })
      })
    )
  )

  it.live(
    "by a client, also where no call waits for it",
    metered((metrics) =>
      Effect.gen(function*() {
        let received = (): Buffer => Buffer.alloc(0)
        const unasked = message(7, 2, new Uint8Array(100))
        const endpoint = yield* rawServer((raw) => {
          received = raw.received
          raw.write(Buffer.concat([version, unasked, message(1, 2)]))
        })
        const connection = yield* connect([endpoint])
        const call = yield* fork(connection.call(hang, nothing))
        yield* until(() => received().length === ofVersion + ofRequest(0))
        assert.deepEqual(bytesOf(metrics, "client"), {
          sent: ofVersion + ofRequest(0),
          received: ofPlainVersion + unasked.length + header
        })
        yield* Fiber.interrupt(call)
      })
    )
  )

  it.live(
    "up to and including what breaks the protocol",
    metered((metrics) =>
      Effect.gen(function*() {
        const { endpoint } = yield* tcp.serve(handlers)
        const client = yield* rawClient(endpoint)
        client.write(Buffer.concat([version, message(1, 9)]))
        yield* client.closed
        assert.equal(bytesOf(metrics, "server").received, ofPlainVersion + header)
      })
    )
  )
})
