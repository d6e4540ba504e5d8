/**
 * The largest messages: as large as they may be, a byte larger, and lengths that only a header claims.
 */
import { describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { type CallError, HandlerMap, MethodKey } from "effect-call"
import * as assert from "node:assert/strict"
import * as Networks from "../support/networks.ts"
import { rawServer } from "../support/raw.ts"
import { makeLog, ok } from "./hostile.ts"
import { message, rawPeer, type Received, request, type, until, version } from "./wire.ts"

const { component, connect } = Networks
const fail = MethodKey.make(component, "fail")
const echo = Networks.echo

const maxMessageSize = 5000
const mebibyte = 1_048_576

/** The largest length of a message that is skipped: 1 GiB. */
const largestSkipped = 2n ** 30n

/** Past every limit, up to the largest that the header has room for. */
const lies = [
  largestSkipped + 1n,
  2n ** 31n,
  2n ** 32n + 16n,
  2n ** 48n,
  2n ** 53n + 1n,
  2n ** 56n - 1n
]

/** Notes how large the arguments of each call are, and answers with the first four bytes of them. */
const serve = Effect.gen(function*() {
  const called: Array<number> = []
  const { endpoint } = yield* Networks.tcp.serve(
    HandlerMap.set(HandlerMap.empty, component, "echo", (args) => {
      called.push(args.length)
      return Effect.succeed(args.subarray(0, 4))
    }),
    { maxMessageSize }
  )
  return { endpoint, called }
})

describe("a server with a limit, to which a client sends", () => {
  /** The payload of a message of this type that is so large. */
  const payloads: ReadonlyArray<readonly [name: string, type: number, id: number, of: (size: number) => Uint8Array]> = [
    ["a request", type.request, 1, (size) => request(1, echo, new Uint8Array(size - 49)).subarray(16)],
    ["a version", type.version, 0, (size) => new Uint8Array(size)],
    ["a cancel", type.cancel, 1, (size) => new Uint8Array(size)]
  ]
  for (const [name, sent, id, of] of payloads) {
    it.live(`${name} as large as may be: it is taken`, () =>
      Effect.gen(function*() {
        const { called, endpoint } = yield* serve
        const peer = yield* rawPeer(endpoint)
        yield* peer.send(message(id, sent, of(maxMessageSize)), request(2, echo, ok))
        assert.deepEqual((yield* peer.answer(2)).payload, ok)
        assert.deepEqual(called, sent === type.request ? [maxMessageSize - 49, 2] : [2])
      }).pipe(Effect.scoped))

    const isSkipped = sent === type.request
    const refused = isSkipped ? lies : [BigInt(maxMessageSize) + 1n, 104_857_601n, largestSkipped, ...lies]
    it.live(`${name} that claims ${isSkipped ? "more than 1 GiB" : "more"}: it is cut off by its header`, () => {
      const log = makeLog()
      return Effect.gen(function*() {
        const { called, endpoint } = yield* serve
        for (const length of refused) {
          const peer = yield* rawPeer(endpoint)
          yield* peer.send(message(id, sent, new Uint8Array(), length))
          yield* peer.closed
          assert.deepEqual(peer.messages, [])
        }
        assert.deepEqual(called, [])
        assert.equal(log.lines.length, refused.length)
        assert.match(
          log.lines[0]!,
          new RegExp(`sent a message of ${refused[0]} bytes, which is over the limit of 5000$`)
        )
      }).pipe(Effect.scoped, Effect.provide(log.layer))
    })
  }

  /** The payload of the answer to a request that says it is so large. */
  const refusalOf = (length: bigint): Buffer => {
    const texts = [
      `the arguments are ${length - 49n} bytes, expected at most ${maxMessageSize - 49}`,
      "(effect-call:too-large)"
    ]
    const count = Buffer.alloc(8)
    count.writeBigInt64LE(1n)
    return Buffer.concat([
      count,
      ...texts.flatMap((text) => {
        const size = Buffer.alloc(4)
        size.writeUInt32LE(text.length)
        return [size, Buffer.from(text)]
      })
    ])
  }

  it.live("a request larger than may be, up to 1 GiB: it is answered at its header", () => {
    const log = makeLog()
    return Effect.gen(function*() {
      const { called, endpoint } = yield* serve
      for (const length of [BigInt(maxMessageSize) + 1n, 104_857_601n, largestSkipped]) {
        const peer = yield* rawPeer(endpoint)
        yield* peer.send(message(1, type.request, new Uint8Array(), length))
        const answer = yield* peer.answer(1)
        assert.deepEqual([answer.type, answer.payload], [type.responseError, refusalOf(length)])
        assert.ok(!peer.socket.closed)
      }
      assert.deepEqual([called, log.lines], [[], []])
    }).pipe(Effect.scoped, Effect.provide(log.layer))
  })

  it.live("a request a byte larger than may be, in pieces of any size: no handler sees it, and the next one is served", () => {
    const log = makeLog()
    return Effect.gen(function*() {
      const { called, endpoint } = yield* serve
      const bytes = Buffer.concat([
        request(1, echo, ok),
        request(2, echo, new Uint8Array(maxMessageSize - 48)),
        // For a call that does not run, as if it had never been.
        message(2, type.cancel),
        request(3, echo, ok)
      ])
      for (const size of [1, 7, 16, 65, 1000, bytes.length]) {
        const peer = yield* rawPeer(endpoint)
        called.length = 0
        for (let at = 0; at < bytes.length; at += size) peer.socket.write(bytes.subarray(at, at + size))
        assert.deepEqual((yield* peer.answer(3)).payload, ok)
        assert.deepEqual(peer.messages.map(({ id, type }) => [Number(id), type]), [
          [1, type.response],
          [2, type.responseError],
          [3, type.response]
        ])
        assert.deepEqual(peer.messages[1]!.payload, refusalOf(BigInt(maxMessageSize) + 1n))
        assert.deepEqual(called, [2, 2])
        peer.socket.destroy()
      }
      assert.deepEqual(log.lines, [])
    }).pipe(Effect.scoped, Effect.provide(log.layer))
  })

  it.live("a request that is too large with the id of one that runs: it is cut off, as any such request is", () => {
    const log = makeLog()
    return Effect.gen(function*() {
      const { endpoint } = yield* Networks.tcp.serve(
        HandlerMap.set(HandlerMap.empty, component, "echo", () => Effect.never),
        { maxMessageSize }
      )
      const peer = yield* rawPeer(endpoint)
      yield* peer.send(request(1, echo, ok), message(1, type.request, new Uint8Array(), 104_857_601n))
      yield* peer.closed
      assert.deepEqual(peer.messages, [])
      assert.match(log.lines.join(), /sent request 1 twice$/)
    }).pipe(Effect.scoped, Effect.provide(log.layer))
  })

  it.live("requests and versions of all those lengths, time and again: its memory does not grow with them", () =>
    Effect.gen(function*() {
      const { endpoint } = yield* serve
      const before = process.memoryUsage().arrayBuffers
      for (let i = 0; i < 100; i++) {
        const peer = yield* rawPeer(endpoint)
        yield* peer.send(message(i % 2, i % 2, new Uint8Array(i), lies[i % lies.length]))
        yield* peer.closed
      }
      const grown = process.memoryUsage().arrayBuffers - before
      assert.ok(grown < 16 * mebibyte, `${grown} bytes for 100 lies`)
    }).pipe(Effect.scoped, Effect.provide(makeLog().layer)))
})

describe("a server that is promised 100 MiB", () => {
  it.live("has memory for what has come of it, and not for what was promised", () =>
    Effect.gen(function*() {
      const { endpoint } = yield* Networks.tcp.serve(Networks.handlers)
      const peer = yield* rawPeer(endpoint)
      const before = process.memoryUsage().arrayBuffers
      yield* peer.send(version, message(1, type.request, Buffer.alloc(100), 104_857_600n))
      yield* peer.answer(0, [type.version])
      const first = process.memoryUsage().arrayBuffers - before
      assert.ok(first < 3 * mebibyte, `${first} bytes for 100`)
      const piece = Buffer.alloc(mebibyte)
      for (let sent = 0; sent < 8; sent++) yield* peer.send(piece)
      const grown = process.memoryUsage().arrayBuffers - before
      // Buffers that were outgrown, and chunks that were read, may not have been collected yet.
      assert.ok(grown < 60 * mebibyte, `${grown} bytes for 8 MiB`)
    }).pipe(Effect.scoped))
})

describe("a server that fails", () => {
  /** What the wire has of an error with a text of `length` letters. */
  const answerTo = Effect.fnUntraced(function*(length: number) {
    const { endpoint } = yield* Networks.tcp.serve(
      HandlerMap.set(HandlerMap.empty, component, "fail", () => Effect.fail(new Error("x".repeat(length)))),
      { maxMessageSize }
    )
    const peer = yield* rawPeer(endpoint)
    yield* peer.send(version, request(1, fail))
    return yield* peer.answer(1)
  })
  // A count, two lengths, and the text twice, the second time in its identity.
  const around = 8 + 2 * 4 + "(:&errors.errorString{s:\"\"})".length
  const longest = (maxMessageSize - around) / 2

  it.live("with an error as large as a message may be: it is sent as it is", () =>
    Effect.gen(function*() {
      const { payload } = yield* answerTo(longest)
      assert.equal(payload.length, maxMessageSize)
      assert.ok(payload.includes("x".repeat(longest)))
    }).pipe(Effect.scoped))

  it.live("with an error of a letter more: an error is sent that says so", () =>
    Effect.gen(function*() {
      const { payload } = yield* answerTo(longest + 1)
      assert.match(
        String(payload),
        /the call of test\/Echo\.fail failed, with an error of 5002 bytes, expected at most 5000/
      )
      assert.ok(payload.length < 300)
    }).pipe(Effect.scoped))
})

describe("a client with a limit, to which a server sends", () => {
  /** A server that answers each request with these bytes, after its version. */
  const answering = (bytes: (request: Received) => Uint8Array) =>
    rawServer((raw) => {
      let seen = 0
      raw.socket.on("data", () => {
        const received = raw.received()
        for (let at = 0; at + 16 <= received.length;) {
          const end = at + 16 + received.readUIntLE(at + 9, 6)
          if (end > received.length) return
          const found = {
            id: received.readBigUInt64LE(at),
            type: received[at + 8]!,
            payload: received.subarray(at, end)
          }
          if (at >= seen) raw.write(found.type === type.version ? version : bytes(found))
          at = seen = end
        }
      })
    })

  /** An error chain of one error that takes so many bytes. */
  const chain = (size: number) => {
    const payload = Buffer.alloc(size, "x")
    payload.writeBigInt64LE(1n, 0)
    payload.writeUInt32LE(size - 16, 8)
    payload.writeUInt32LE(0, size - 4)
    return payload
  }

  const payloads: ReadonlyArray<readonly [name: string, type: number, of: (size: number) => Uint8Array]> = [
    ["a response", type.response, (size) => new Uint8Array(size).fill(7)],
    ["a response error", type.responseError, chain],
    ["a version", type.version, (size) => new Uint8Array(size)]
  ]
  const call = (sent: number, payload: Uint8Array, length: bigint) =>
    Effect.gen(function*() {
      const endpoint = yield* answering(({ id }) =>
        sent === type.version
          ? Buffer.concat([message(0, sent, payload, length), message(id, type.response, ok)])
          : message(id, sent, payload, length)
      )
      const connection = yield* connect([endpoint], { maxMessageSize })
      return yield* Effect.result(connection.call(echo, ok))
    })
  const failureOf = (result: { readonly _tag: string; readonly failure?: CallError.CallError }) => {
    const { failure } = result
    assert.ok(failure?._tag === "CommunicationError", result._tag)
    assert.equal(failure.maybeExecuted, true)
    return failure
  }
  const isRefused = (result: Parameters<typeof failureOf>[0], length: bigint) => {
    const failure = failureOf(result)
    assert.equal(failure.reason._tag, "Lost")
    // From 2^53 on it is rounded.
    if (length < 2n ** 53n) assert.match(failure.message, new RegExp(`a message of ${length} bytes, .* limit of 5000$`))
    else assert.match(failure.message, /a message of \d+ bytes, .* limit of 5000$/)
  }
  const isTooLarge = (result: Parameters<typeof failureOf>[0], length: bigint) => {
    const failure = failureOf(result)
    assert.equal(failure.reason._tag, "TooLarge")
    assert.match(failure.message, new RegExp(`test/Echo.echo .* ${length} bytes, expected at most 5000$`))
  }

  for (const [name, sent, of] of payloads) {
    it.live(`${name} as large as may be: it is taken`, () =>
      Effect.gen(function*() {
        const result = yield* call(sent, of(maxMessageSize), BigInt(maxMessageSize))
        if (sent === type.responseError) {
          assert.ok(result._tag === "Failure" && result.failure._tag === "RemoteError")
          assert.equal(result.failure.message, "x".repeat(maxMessageSize - 16))
        } else {
          assert.ok(result._tag === "Success")
          assert.deepEqual(result.success, sent === type.response ? of(maxMessageSize) : new Uint8Array(ok))
        }
      }).pipe(Effect.scoped))

    const isSkipped = sent !== type.version
    it.live(`${name} a byte larger, or one that claims to be larger still: the call ends, and little is kept`, () =>
      Effect.gen(function*() {
        const ends = isSkipped ? isTooLarge : isRefused
        ends(yield* call(sent, of(maxMessageSize + 1), BigInt(maxMessageSize) + 1n), BigInt(maxMessageSize) + 1n)
        const before = process.memoryUsage().arrayBuffers
        for (const length of [104_857_601n, largestSkipped]) ends(yield* call(sent, new Uint8Array(), length), length)
        for (const length of lies) isRefused(yield* call(sent, new Uint8Array(), length), length)
        const grown = process.memoryUsage().arrayBuffers - before
        assert.ok(grown < 16 * mebibyte, `${grown} bytes for ${lies.length} lies`)
      }).pipe(Effect.scoped, Effect.provide(makeLog().layer)))
  }
})

describe("a client that is promised 100 MiB", () => {
  for (const sent of [type.response, type.responseError, type.version]) {
    it.live(`in a message of type ${sent} has memory for what has come of it, and not for what was promised`, () =>
      Effect.gen(function*() {
        const promised = { count: 0 }
        const endpoint = yield* rawServer((raw) => {
          raw.write(
            Buffer.concat([version, message(sent === type.version ? 0 : 1, sent, Buffer.alloc(100), 104_857_600n)])
          )
          promised.count++
        })
        const before = process.memoryUsage().arrayBuffers
        const connections = yield* Effect.replicateEffect(connect([endpoint]), 10)
        for (const connection of connections) {
          yield* Effect.forkScoped(Effect.exit(connection.call(echo, ok)), { startImmediately: true })
        }
        yield* until("all to be promised", () => promised.count === 10)
        yield* until(
          "the calls to be sent",
          () => connections.every((connection) => Effect.runSync(connection.state).endpoints[0]!.callsInFlight === 1)
        )
        const grown = process.memoryUsage().arrayBuffers - before
        assert.ok(grown < 30 * mebibyte, `${grown} bytes for 1000 of 10 servers`)
      }).pipe(Effect.scoped))
  }
})
