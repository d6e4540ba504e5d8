/**
 * Servers that do what they should not: the calls on that connection end, the Connection goes on with the others.
 */
import { describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Endpoint, MethodKey } from "effect-call"
import * as fc from "fast-check"
import * as assert from "node:assert/strict"
import * as net from "node:net"
import * as Networks from "../support/networks.ts"
import { message, RawPeer, type, until, version } from "./wire.ts"

const key = MethodKey.make("test/Echo", "echo")

/** A server that says its version and, to each request, the next of these bytes; when there are no more, nothing. */
const hostileServer = Effect.fnUntraced(function*(answers: ReadonlyArray<Uint8Array>, greeting: Uint8Array = version) {
  const left = [...answers]
  const state = { connections: 0, requests: 0, port: 0 }
  const sockets: Array<net.Socket> = []
  const server = net.createServer({ noDelay: true }, (socket) => {
    state.connections++
    sockets.push(socket)
    const peer = new RawPeer(socket)
    let seen = 0
    socket.on("data", () => {
      for (; seen < peer.messages.length; seen++) {
        if (peer.messages[seen]!.type === type.version) socket.write(greeting)
        if (peer.messages[seen]!.type !== type.request) continue
        state.requests++
        const answer = left.shift()
        if (answer !== undefined) socket.write(answer)
      }
    })
  })
  yield* Effect.acquireRelease(
    Effect.callback<void>((resume) => {
      server.listen(0, "127.0.0.1", () => resume(Effect.void))
    }),
    () =>
      Effect.sync(() => {
        for (const socket of sockets) socket.destroy()
        server.close()
      })
  )
  const { port } = server.address() as net.AddressInfo // a TCP server's address is no text
  return { state, endpoint: Endpoint.tcp(`127.0.0.1:${port}`) }
})

const ok = Buffer.from("ok")
const answer = (id: number) => message(id, type.response, ok)

/** An error chain that says that there are so many errors, and has these bytes of them. */
const chain = (count: bigint, ...errors: ReadonlyArray<Uint8Array>) => {
  const head = Buffer.alloc(8)
  head.writeBigInt64LE(count)
  return message(1, type.responseError, Buffer.concat([head, ...errors]))
}

describe("a call to a server that sends", () => {
  const refused: ReadonlyArray<readonly [what: string, bytes: Uint8Array, reason: RegExp]> = [
    ["a request", message(1, type.request, Buffer.alloc(49)), /a message of type 1/],
    ["a cancel", message(1, type.cancel), /a message of type 4/],
    ["an unknown type", message(1, 200), /a message of type 200/],
    ["a length of 2^56 - 1", message(1, type.response, new Uint8Array(), 2n ** 56n - 1n), /over the limit/],
    ["an id of 2^53", message(2n ** 53n, type.response, ok), /id of 2\^53/],
    ["a short version", message(0, type.version, Buffer.alloc(3)), /a version message of 3 bytes/],
    ["a version with an id", message(1, type.version, Buffer.alloc(4)), /a version message with id 1/]
  ]
  for (const [what, bytes, reason] of refused) {
    it.live(`${what} ends in CommunicationError Lost, maybe executed, and the next one has a new connection`, () =>
      Effect.gen(function*() {
        const { endpoint, state } = yield* hostileServer([bytes, answer(1)])
        const connection = yield* Networks.connect([endpoint])
        const error = yield* Effect.flip(connection.call(key, ok))
        assert.ok(error._tag === "CommunicationError", error.message)
        assert.equal(error.reason._tag, "Lost")
        assert.equal(error.maybeExecuted, true)
        assert.match(error.message, reason)
        assert.deepEqual(yield* connection.call(key, ok), new Uint8Array(ok))
        assert.equal(state.connections, 2)
      }).pipe(Effect.scoped))
  }

  const unreadable: ReadonlyArray<readonly [what: string, bytes: Uint8Array]> = [
    ["an error chain of -1 errors", chain(-1n)],
    ["an error chain of 2^62 errors", chain(2n ** 62n)],
    ["an error chain that ends early", chain(1n, Buffer.from([255, 255, 255, 255]))],
    ["an empty error chain message", message(1, type.responseError)]
  ]
  for (const [what, bytes] of unreadable) {
    it.live(`${what} ends in CommunicationError Protocol, maybe executed, and the connection lives`, () =>
      Effect.gen(function*() {
        const { endpoint, state } = yield* hostileServer([bytes, answer(2)])
        const connection = yield* Networks.connect([endpoint])
        const error = yield* Effect.flip(connection.call(key, ok))
        assert.ok(error._tag === "CommunicationError", error.message)
        assert.deepEqual([error.reason._tag, error.maybeExecuted], ["Protocol", true])
        assert.match(error.message, /^cannot decode the error of test\/Echo\.echo: error chain: /)
        assert.deepEqual(yield* connection.call(key, ok), new Uint8Array(ok))
        assert.equal(state.connections, 1)
      }).pipe(Effect.scoped))
  }

  it.live("an error chain without errors ends in a RemoteError, and never in a success", () =>
    Effect.gen(function*() {
      const { endpoint } = yield* hostileServer([chain(0n)])
      const error = yield* Effect.flip((yield* Networks.connect([endpoint])).call(key, ok))
      assert.ok(error._tag === "RemoteError")
      assert.deepEqual(error.chain, [])
    }).pipe(Effect.scoped))

  it.live("answers to unknown calls, second answers and versions in between is answered", () =>
    Effect.gen(function*() {
      const { endpoint, state } = yield* hostileServer([
        Buffer.concat([answer(0), answer(99), message(2 ** 52, type.responseError, ok), version, answer(1), answer(1)]),
        Buffer.concat([answer(1), message(0, type.version, Buffer.alloc(500, 255)), answer(2)])
      ])
      const connection = yield* Networks.connect([endpoint])
      for (let i = 0; i < 2; i++) assert.deepEqual(yield* connection.call(key, ok), new Uint8Array(ok))
      assert.equal(state.connections, 1)
    }).pipe(Effect.scoped))

  it.live("garbage in place of its version is Unreachable, with the reason, and has seen no request", () =>
    Effect.gen(function*() {
      for (
        const greeting of [
          Buffer.from("HTTP/1.1 400 Bad Request\r\n\r\n"),
          message(0, 9),
          message(3, type.version, Buffer.alloc(4))
        ]
      ) {
        const { endpoint, state } = yield* hostileServer([], greeting)
        const error = yield* Effect.flip((yield* Networks.connect([endpoint])).call(key, ok))
        assert.ok(error._tag === "Unreachable", error.message)
        assert.match(error.message, / sent a (message|version)/)
        assert.equal(state.requests, 0)
      }
    }).pipe(Effect.scoped))

  it.live("random bytes ends, with an error that says so or with an answer, and calls to others do not notice", () =>
    Effect.gen(function*() {
      const framed = fc.record({
        id: fc.bigInt({ min: 0n, max: 4n }),
        type: fc.constantFrom(0, 2, 2, 3, 3, 7),
        payload: fc.uint8Array({ maxLength: 60 })
      }).map(({ id, payload, type }) => message(id, type, payload))
      const bytes = fc.oneof(
        fc.uint8Array({ minLength: 16, maxLength: 200 }),
        fc.array(framed, { minLength: 1, maxLength: 6 }).map((messages) => Buffer.concat(messages))
      )
      // After the random bytes it ends the call, if they have not: with what a client never gets.
      const answers = fc.sample(bytes, { numRuns: 200, seed: 99 }).map((bytes) => Buffer.concat([bytes, message(0, 1)]))
      const { endpoint, state } = yield* hostileServer(answers)
      const good = yield* Networks.tcp.serve(Networks.handlers)
      const connection = yield* Networks.connect([endpoint], { backoff: { initial: 0 } })
      const other = yield* Networks.connect([good.endpoint])
      const seen = new Map<string, number>()
      for (let i = 0; i < answers.length; i++) {
        // A message that promises more than follows keeps the call waiting.
        const outcome = yield* Effect.match(connection.call(key, ok, { timeout: 20, waitForReady: true }), {
          onSuccess: () => "answer",
          onFailure: (error) => error._tag === "CommunicationError" ? error.reason._tag : error._tag
        })
        seen.set(outcome, (seen.get(outcome) ?? 0) + 1)
        if (i % 20 === 0) yield* other.call(Networks.echo, ok)
      }
      assert.ok(
        [...seen.keys()].every((outcome) =>
          ["answer", "Protocol", "RemoteError", "DeadlineExceeded", "Lost"].includes(outcome)
        ),
        JSON.stringify([...seen])
      )
      assert.ok(seen.get("Lost")! > 20 && seen.get("answer")! > 5, JSON.stringify([...seen]))
      yield* until("no call to be in flight", () => Effect.runSync(connection.state).endpoints[0]!.callsInFlight === 0)
      assert.ok(state.connections > 20)
    }).pipe(Effect.scoped))
})
