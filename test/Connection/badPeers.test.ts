import { describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { type CallError, Connection, type Endpoint, Resolver } from "effect-call"
import * as assert from "node:assert/strict"
import { message, messagesOf, type Raw, rawServer, version } from "../support/raw.ts"
import { ask } from "./support.ts"

const connectTo = (endpoints: ReadonlyArray<Endpoint.Endpoint>, options?: Connection.ClientOptions) =>
  Connection.make(Resolver.constant(...endpoints), options)

/** A server that says its version, and then does what it is told to. */
const misbehaving = (behave: (raw: Raw, connection: number) => void) => {
  let connections = 0
  return Effect.map(
    rawServer((raw) => behave(raw, ++connections)),
    (endpoint) => ({
      endpoint,
      get connections() {
        return connections
      }
    })
  )
}

/** Calls `then` with each chunk that comes after the client's version message. */
const afterVersion = (raw: Raw, then: () => void) => {
  raw.write(version)
  raw.socket.on("data", () => {
    if (raw.received().length > 24) then()
  })
}

/**
 * What is said of a peer that says nothing, after the time that only its case cuts short: the others need theirs on a
 * busy machine.
 */
const silence = /no connection and version message within 200ms/

describe("a peer that does not speak the protocol", () => {
  // One that goes away closes what is just dialed: that dial is repeated, once.
  const cases: ReadonlyArray<readonly [string, (raw: Raw) => void, RegExp, dials?: number]> = [
    ["accepts and closes", (raw) => void raw.socket.end(), /closed the connection before its version message/, 2],
    ["accepts and resets", (raw) => void raw.socket.destroy(), /closed the connection|ECONNRESET|EPIPE/, 2],
    ["never says its version", () => {}, silence],
    [
      "writes garbage first",
      (raw) => raw.write(Buffer.from("HTTP/1.1 400 Bad Request\r\n\r\n")),
      /a message of type 32/
    ],
    [
      "says its version with an id",
      (raw) => raw.write(message(1, 0, Buffer.alloc(4))),
      /version message with id 1/
    ],
    [
      "says its version in 3 bytes",
      (raw) => raw.write(message(0, 0, Buffer.alloc(3))),
      /version message of 3 bytes/
    ],
    ["sends a request", (raw) => raw.write(message(1, 1, Buffer.alloc(49))), /a message of type 1/],
    [
      "begins with an answer that is too large",
      (raw) => raw.write(Buffer.concat([Buffer.alloc(8), Buffer.from([2, 0, 0, 0, 32, 0, 0, 0])])),
      /an answer of 536870912 bytes before its version message/
    ],
    [
      "announces 2^48 bytes",
      (raw) => raw.write(Buffer.concat([Buffer.alloc(8), Buffer.from([0, 0, 0, 0, 0, 0, 0, 1])])),
      /over the limit/
    ]
  ]
  for (const [what, behave, expected, dials = 1] of cases) {
    it.live(`which ${what}, is Unreachable, and then in backoff`, () =>
      Effect.gen(function*() {
        const closed: Array<Effect.Effect<void>> = []
        const peer = yield* misbehaving((raw) => {
          closed.push(raw.closed)
          behave(raw)
        })
        const connection = yield* connectTo([peer.endpoint], {
          dialTimeout: expected === silence ? "200 millis" : "5 seconds",
          backoff: { initial: "1 minute", max: "1 minute" }
        })
        for (let i = 0; i < 2; i++) {
          const error = yield* Effect.flip(ask(connection))
          assert.ok(error._tag === "Unreachable", error._tag)
          assert.equal(error.attempts.length, 1)
          assert.equal(error.attempts[0]!.endpoint, peer.endpoint.address)
          assert.match(error.attempts[0]!.message, expected)
        }
        assert.equal(peer.connections, dials)
        yield* Effect.all(closed)
      }))
  }
})

describe("a peer that breaks the protocol later", () => {
  const cases: ReadonlyArray<readonly [string, (id: number) => Uint8Array, RegExp]> = [
    ["writes garbage", () => Buffer.from("no such thing as a message"), /a message of type/],
    ["sends a request of its own", () => message(7, 1, Buffer.alloc(49)), /a message of type 1/],
    ["sends a cancel", (id) => message(id, 4), /a message of type 4/],
    ["announces more than any message may have", (id) => {
      const header = message(id, 2)
      header.writeUIntLE(2 ** 30 + 1, 9, 6)
      return header
    }, /1073741825 bytes/],
    ["says its version with an id", () => message(3, 0, Buffer.alloc(4)), /version message with id 3/]
  ]
  for (const [what, bytes, expected] of cases) {
    it.live(`which ${what}, loses its calls, and the next call dials anew`, () =>
      Effect.gen(function*() {
        const peer = yield* misbehaving((raw, connection) =>
          afterVersion(raw, () => raw.write(connection === 1 ? bytes(1) : message(1, 2, Buffer.from("fine"))))
        )
        const connection = yield* connectTo([peer.endpoint])
        const error = yield* Effect.flip(ask(connection))
        assert.ok(error._tag === "CommunicationError", error._tag)
        assert.deepEqual([error.reason._tag, error.maybeExecuted], ["Lost", true])
        assert.equal(error.endpoint, peer.endpoint.address)
        assert.match(error.message, expected)
        assert.equal(yield* ask(connection), "fine")
        assert.equal(peer.connections, 2)
      }))
  }

  const onlyItsOwn: ReadonlyArray<
    readonly [string, Uint8Array, CallError.CommunicationError["reason"]["_tag"], RegExp]
  > = [
    [
      "an error chain that cannot be read",
      message(1, 3, Buffer.alloc(5)),
      "Protocol",
      /^cannot decode the error of .*: error chain: expected at least 8 bytes, got 5$/
    ],
    [
      "a result that is too large",
      message(1, 2, Buffer.alloc(2001)),
      "TooLarge",
      /^the result of .* is 2001 bytes, expected at most 2000$/
    ],
    [
      "an error chain that is too large",
      message(1, 3, Buffer.alloc(2001)),
      "TooLarge",
      /^the call of .* failed, with an error of 2001 bytes, expected at most 2000$/
    ]
  ]
  for (const [what, answer, reason, expected] of onlyItsOwn) {
    it.live(`which answers one call with ${what}, fails that call, and concurrent calls go on`, () =>
      Effect.gen(function*() {
        const answered = { first: false }
        const peer = yield* misbehaving((raw) => {
          raw.write(version)
          raw.socket.on("data", () => {
            const requests = messagesOf(raw.received()).filter(({ type }) => type === 1)
            if (requests.length < 3 || answered.first) return
            answered.first = true
            raw.write(answer)
            raw.write(Buffer.concat([message(2, 2, Buffer.from("two")), message(3, 2, Buffer.from("three"))]))
          })
        })
        const connection = yield* connectTo([peer.endpoint], { maxMessageSize: 2000 })
        const [first, second, third] = yield* Effect.all(
          [Effect.flip(ask(connection)), ask(connection), ask(connection)],
          { concurrency: 3 }
        )
        assert.ok(first._tag === "CommunicationError", first._tag)
        assert.deepEqual([first.reason._tag, first.maybeExecuted], [reason, true])
        assert.equal(first.endpoint, peer.endpoint.address)
        assert.match(first.message, expected)
        assert.deepEqual([second, third], ["two", "three"])
        assert.equal(peer.connections, 1)
      }))
  }

  it.live("an answer to a call that was never made is ignored, and so is another version message", () =>
    Effect.gen(function*() {
      const peer = yield* misbehaving((raw) =>
        afterVersion(raw, () => {
          raw.write(message(99, 2, Buffer.from("who?")))
          raw.write(message(98, 3, Buffer.alloc(3)))
          raw.write(message(97, 2, Buffer.alloc(2001)))
          raw.write(message(96, 3, Buffer.alloc(2001)))
          raw.write(message(0, 2, Buffer.from("who?")))
          raw.write(version)
          raw.write(message(1, 2, Buffer.from("fine")))
        })
      )
      const connection = yield* connectTo([peer.endpoint], { maxMessageSize: 2000 })
      assert.equal(yield* ask(connection), "fine")
      assert.equal((yield* connection.state).endpoints[0]!.state, "Active")
    }))

  it.live("which breaks it in one segment with its version, before a request could leave, is dialed once more, and not again and again", () =>
    Effect.gen(function*() {
      const peer = yield* misbehaving((raw) => {
        // In one segment: the connection is ready and broken before anything else can happen.
        raw.write(Buffer.concat([version, message(1, 9)]))
      })
      const connection = yield* connectTo([peer.endpoint])
      const error = yield* Effect.flip(ask(connection))
      assert.ok(error._tag === "Unreachable", error._tag)
      assert.match(error.message, /lost before the request was sent: .* a message of type 9/)
      assert.equal(peer.connections, 2)
    }))
})
