/**
 * Both ends against the bytes that the reference wrote: our server answers its client's bytes with its server's, and
 * our client writes what its client wrote.
 */
import { describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Option, Tracer } from "effect"
import { CallError, type Connection, HandlerMap, MethodKey } from "effect-call"
import * as assert from "node:assert/strict"
import { decodeErrorChain } from "../src/internal/protocol/errorChain.ts"
import vectors from "./data/wire-vectors.json" with { type: "json" }
import { bytesOf, component, connect, eachNetwork, tcp, textOf } from "./support/networks.ts"
import { clientVersion, message, messagesOf, rawClient, rawServer, request, version } from "./support/raw.ts"

const method = (name: string) => MethodKey.make(component, name)
const nothing = new Uint8Array()

interface Exchange {
  readonly name: string
  readonly client: Buffer
  readonly server: Buffer
}

const exchanges: ReadonlyArray<Exchange> = vectors.exchanges.map(({ clientHex, name, serverHex }) => ({
  name,
  client: Buffer.from(clientHex, "hex"),
  server: Buffer.from(serverHex, "hex")
}))

/** The error chain that the reference's server answered with. */
const chainOf = (exchange: Exchange) => {
  const decoded = decodeErrorChain(messagesOf(exchange.server)[1]!.payload)
  assert.ok(decoded.ok)
  return decoded.chain
}

/** The reference's errors by the arguments that asked for them. */
const errkinds = new Map(
  exchanges.filter(({ name }) => name.startsWith("err")).map((exchange) => [
    messagesOf(exchange.client)[1]!.payload.subarray(49).toString(),
    CallError.RemoteError.fromChain(chainOf(exchange))
  ])
)

/** The handlers of the reference's test server. */
const reference = HandlerMap.empty.pipe(
  HandlerMap.set(component, "echo", (args) => Effect.succeed(args)),
  HandlerMap.set(component, "who", () => Effect.succeed(bytesOf("gopeer"))),
  HandlerMap.set(component, "error", (args) => Effect.fail(new Error(textOf(args)))),
  HandlerMap.set(component, "cancelwait", () => Effect.never),
  HandlerMap.set(component, "trace", () =>
    Effect.map(Effect.currentSpan, ({ parent }) => {
      const { sampled, spanId, traceId } = Option.getOrThrow(parent)
      return bytesOf(`${traceId} ${spanId} 0${sampled ? 1 : 0}`)
    })),
  HandlerMap.set(component, "errkind", (args) => {
    const kind = textOf(args)
    if (kind === "empty") return Effect.fail(new Error(""))
    if (kind === "unreachable") return Effect.fail(new CallError.Unreachable({ message: "unreachable", attempts: [] }))
    // The others name types and addresses of the Go program: they are passed on, as from a server behind this one.
    return Effect.fail(errkinds.get(kind))
  })
)

describe("our server", () => {
  eachNetwork((network) => {
    for (const exchange of exchanges) {
      it.live(`answers as the reference: ${exchange.name}`, () =>
        Effect.gen(function*() {
          const { endpoint } = yield* network.serve(reference)
          const client = yield* rawClient(endpoint)
          client.write(exchange.client)
          yield* client.until(({ length }) => length >= exchange.server.length)
          // And not a byte more: the next answer follows at once.
          client.write(request(99, method("echo"), bytesOf("end")))
          const expected = Buffer.concat([exchange.server, message(99, 2, bytesOf("end"))])
          const received = yield* client.until(({ length }) => length >= expected.length)
          assert.equal(received.toString("hex"), expected.toString("hex"))
        }).pipe(Effect.scoped))
    }
  })

  it.live("takes them byte by byte as well", () =>
    Effect.gen(function*() {
      const { endpoint } = yield* tcp.serve(reference)
      yield* Effect.forEach(
        exchanges,
        Effect.fnUntraced(function*(exchange) {
          const client = yield* rawClient(endpoint)
          for (const byte of exchange.client) {
            yield* Effect.callback<void>((resume) => {
              client.socket.write(Uint8Array.of(byte), () => resume(Effect.void))
            })
          }
          const received = yield* client.until(({ length }) => length >= exchange.server.length)
          assert.equal(received.toString("hex"), exchange.server.toString("hex"), exchange.name)
        }),
        { concurrency: "unbounded", discard: true }
      )
    }).pipe(Effect.scoped))

  it.live("does not insist on a version message, and answers every one, at any time", () =>
    Effect.gen(function*() {
      const { endpoint } = yield* tcp.serve(reference)
      const client = yield* rawClient(endpoint)
      const longer = message(0, 0, Buffer.from("0700000000000000ffffffff", "hex"))
      client.write(Buffer.concat([
        request(1, method("who"), nothing),
        version,
        request(2, method("who"), nothing),
        longer,
        request(3, method("who"), nothing)
      ]))
      const received = yield* client.until((bytes) => messagesOf(bytes).length >= 5)
      assert.deepEqual(messagesOf(received).map(({ id, type }) => [id, type]), [[1, 2], [0, 0], [2, 2], [0, 0], [3, 2]])
      for (const { payload } of messagesOf(received).filter(({ type }) => type === 0)) {
        assert.equal(payload.toString("hex"), "00000000")
      }
    }).pipe(Effect.scoped))
})

describe("our client", () => {
  /** The calls of each exchange. */
  const call = (connection: Connection.Connection, name: string, args: string, options?: Connection.CallOptions) =>
    Effect.map(connection.call(method(name), bytesOf(args), options), textOf)

  /**
   * What we write where the reference's client wrote this: the same, but for flags in the version message, which it
   * does not have.
   */
  const oursFor = ({ client }: Exchange) => Buffer.concat([clientVersion, client.subarray(version.length)])

  /** A server that writes what the reference's did, as far as it has been asked, and keeps what it is sent. */
  const replay = Effect.fnUntraced(function*(exchange: Exchange) {
    const all = yield* Deferred.make<Buffer>()
    const requested = yield* Deferred.make<void>()
    const endpoint = yield* rawServer((raw) => {
      let written = 0
      const write = (end: number) => {
        raw.write(exchange.server.subarray(written, end))
        written = end
      }
      raw.socket.on("data", () => {
        const received = raw.received()
        if (written === 0 && received.length >= clientVersion.length) write(version.length)
        if (received.length > clientVersion.length) Deferred.doneUnsafe(requested, Exit.void)
        if (received.length < oursFor(exchange).length) return
        write(exchange.server.length)
        Deferred.doneUnsafe(all, Exit.succeed(received))
      })
    })
    return {
      connection: yield* connect([endpoint]),
      received: Deferred.await(all),
      requested: Deferred.await(requested)
    }
  })

  /** Where the deadline of the first request is. */
  const deadlineAt = clientVersion.length + 16 + 16

  const bytesAndResult = Effect.fnUntraced(function*<A>(
    name: string,
    use: (connection: Connection.Connection, requested: Effect.Effect<void>) => Effect.Effect<A>
  ) {
    const exchange = exchanges.find((exchange) => exchange.name === name)!
    const { connection, received, requested } = yield* replay(exchange)
    const result = yield* use(connection, requested)
    const bytes = yield* received
    const deadline = bytes.readBigInt64LE(deadlineAt)
    const expected = oursFor(exchange)
    // The time left is what was left: close to what the reference had, and not the same.
    if (expected.readBigInt64LE(deadlineAt) !== 0n) expected.writeBigInt64LE(deadline, deadlineAt)
    assert.equal(bytes.toString("hex"), expected.toString("hex"))
    return { result, deadline: Number(deadline), exchange }
  })

  it.live("writes and reads as the reference: a call", () =>
    Effect.gen(function*() {
      const hello = yield* bytesAndResult("echo-hello", (connection) => Effect.orDie(call(connection, "echo", "hello")))
      assert.equal(hello.result, "hello")
      const empty = yield* bytesAndResult("echo-empty", (connection) => Effect.orDie(call(connection, "echo", "")))
      assert.equal(empty.result, "")
    }).pipe(Effect.scoped))

  it.live("two calls at once", () =>
    Effect.gen(function*() {
      const { result } = yield* bytesAndResult("two-calls-ids-1-2", (connection) =>
        Effect.orDie(Effect.all([call(connection, "echo", "a"), call(connection, "who", "")], { concurrency: 2 })))
      assert.deepEqual(result, ["a", "gopeer"])
    }).pipe(Effect.scoped))

  it.live("a deadline, as the microseconds that are left", () =>
    Effect.gen(function*() {
      const { deadline, result } = yield* bytesAndResult("deadline-1500ms", (connection) =>
        Effect.orDie(call(connection, "echo", "hello", { timeout: "1500 millis" })))
      assert.equal(result, "hello")
      assert.ok(deadline > 500_000 && deadline <= 1_500_000, String(deadline))
    }).pipe(Effect.scoped))

  it.live("a deadline that the server saw pass", () =>
    Effect.gen(function*() {
      const { deadline, result } = yield* bytesAndResult("deadline-expires", (connection) =>
        Effect.flip(call(connection, "cancelwait", "", { timeout: "5 seconds" })).pipe(Effect.orDie))
      assert.equal(result._tag, "DeadlineExceeded")
      assert.ok(deadline > 4_000_000 && deadline <= 5_000_000, String(deadline))
    }).pipe(Effect.scoped))

  it.live("a trace context", () =>
    Effect.gen(function*() {
      const span = Tracer.externalSpan({
        traceId: "0102030405060708090a0b0c0d0e0f10",
        spanId: "1112131415161718",
        sampled: true
      })
      const traced = exchanges.find(({ name }) => name === "trace-context")!
      const ids = messagesOf(traced.client)[1]!.payload.subarray(24)
      const { result } = yield* bytesAndResult("trace-context", (connection) =>
        Effect.orDie(call(connection, "trace", "")).pipe(
          Effect.withParentSpan({
            ...span,
            traceId: ids.toString("hex", 0, 16),
            spanId: ids.toString("hex", 16, 24)
          })
        ))
      assert.equal(result, `${ids.toString("hex", 0, 16)} ${ids.toString("hex", 16, 24)} 01`)
    }).pipe(Effect.scoped))

  it.live("a cancel", () =>
    Effect.gen(function*() {
      const { result } = yield* bytesAndResult("cancel", (connection, requested) =>
        Effect.gen(function*() {
          const calling = yield* Effect.forkChild(call(connection, "cancelwait", ""))
          yield* requested
          yield* Fiber.interrupt(calling)
          return yield* Fiber.await(calling)
        }))
      assert.ok(Exit.hasInterrupts(result))
    }).pipe(Effect.scoped))

  for (const { client, name } of exchanges.filter(({ name }) => name.startsWith("err"))) {
    it.live(`the reference's errors: ${name}`, () =>
      Effect.gen(function*() {
        const method = name === "error-boom" ? "error" : name === "error-unknown-method" ? "no-such-method" : "errkind"
        const args = messagesOf(client)[1]!.payload.subarray(49).toString()
        const { exchange, result } = yield* bytesAndResult(name, (connection) =>
          Effect.orDie(Effect.flip(call(connection, method, args))))
        assert.ok(result._tag === "RemoteError")
        assert.deepEqual(result.chain, chainOf(exchange))
        assert.equal(result.isUnknownMethod, name === "error-unknown-method")
        assert.equal(
          result.is("(github.com/ServiceWeaver/weaver/internal/net/call:0)"),
          name.endsWith("communication-error") || name.endsWith("comm")
        )
      }).pipe(Effect.scoped))
  }

  it.live("sends no request before it has the server's version, and all of them then", () =>
    Effect.gen(function*() {
      const greeted = yield* Deferred.make<void>()
      let answer = () => {}
      let received = (): Buffer => Buffer.alloc(0)
      const endpoint = yield* rawServer((raw) => {
        received = raw.received
        answer = () => raw.write(version)
        let seen = 0
        raw.socket.on("data", () => {
          Deferred.doneUnsafe(greeted, Exit.void)
          for (const { id, type } of messagesOf(raw.received()).slice(seen)) {
            seen++
            if (type === 1) raw.write(message(id, 2, Uint8Array.of(id)))
          }
        })
      })
      const connection = yield* connect([endpoint])
      const calls = yield* Effect.forEach([1, 2, 3], () =>
        Effect.forkChild(connection.call(method("who"), nothing), { startImmediately: true }))
      yield* Deferred.await(greeted)
      // Time for what should not come.
      for (let turn = 0; turn < 20; turn++) {
        yield* Effect.callback<void>((resume) =>
          void setImmediate(() => resume(Effect.void))
        )
      }
      assert.equal(received().toString("hex"), clientVersion.toString("hex"))
      assert.deepEqual(
        (yield* connection.state).endpoints.map(({ state }) => state),
        ["Dialing"]
      )
      answer()
      const results = yield* Effect.forEach(calls, (calling) => Fiber.join(calling))
      assert.deepEqual(results.map(([id]) => id), [1, 2, 3])
    }).pipe(Effect.scoped))

  it.live("takes a version message at any time, and what a later version says in it", () =>
    Effect.gen(function*() {
      const endpoint = yield* rawServer((raw) => {
        let answered = 0
        const later = message(0, 0, Buffer.from("0900000000000000aabbccdd", "hex"))
        raw.socket.on("data", () => {
          for (const { id, type } of messagesOf(raw.received()).slice(answered)) {
            answered++
            raw.write(type === 0 ? later : Buffer.concat([later, message(id, 2, bytesOf("ok")), later]))
          }
        })
      })
      const connection = yield* connect([endpoint])
      assert.equal(yield* call(connection, "who", ""), "ok")
      assert.equal(yield* call(connection, "who", ""), "ok")
    }).pipe(Effect.scoped))
})
