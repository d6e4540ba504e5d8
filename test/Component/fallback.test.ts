/**
 * What becomes of calls whose contract the server does not share: they go in JSON, on that connection, and nothing else
 * changes.
 */
import { describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Logger, Schedule, Schema, SchemaGetter, Stream } from "effect"
import { Component, Connection } from "effect-call"
import { Rpc, RpcClient, RpcGroup, RpcMiddleware } from "effect/rpc"
import * as assert from "node:assert/strict"
import { encodeErrorChain } from "../../src/internal/protocol/errorChain.ts"
import * as Identities from "../../src/internal/protocol/identities.ts"
import { makeLog } from "../support/log.ts"
import { connect, tcp } from "../support/networks.ts"
import { message, rawRequests } from "../support/raw.ts"
import { clientOver, open } from "./support.ts"

class Refused extends Schema.TaggedError<Refused>()("Refused", { why: Schema.String }) {}

/** What servers have. */
const Old = Component.make(
  "test/Shop",
  RpcGroup.make(
    Rpc.make("Buy", { payload: { item: Schema.String }, success: Schema.Int, error: Refused }),
    Rpc.make("Ping")
  )
)
/** What clients have: a field that may be missing. */
const New = Component.make(
  "test/Shop",
  RpcGroup.make(
    Rpc.make("Buy", {
      payload: { item: Schema.String, note: Schema.optionalKey(Schema.String) },
      success: Schema.Int,
      error: Refused
    }),
    Rpc.make("Ping")
  )
)

const refused = encodeErrorChain([Identities.contractDiffers])
/** The result 3, in JSON. */
const three = Buffer.from("\u00023")
const differ = "client and server have different contracts of test/Shop.Buy"

const buying = (buy: (item: string) => Effect.Effect<number, Refused>) =>
  Old.group.toLayer({ Buy: ({ item }) => buy(item), Ping: () => Effect.void })

/** Counts the handler's and the middleware's calls. */
class Counting extends RpcMiddleware.Service<Counting>()("Counting") {}

describe("a call whose contract the server does not share", () => {
  it.effect("runs once, with its middleware, and is answered", () =>
    Effect.gen(function*() {
      const ran = { handler: 0, middleware: 0 }
      const group = RpcGroup.make(Rpc.make("Buy", { payload: { item: Schema.String }, success: Schema.Int }))
        .middleware(
          Counting
        )
      const component = Component.make("test/Shop", group)
      const { connection } = yield* open(
        component,
        group.toLayer({ Buy: () => Effect.sync(() => ++ran.handler) })
      ).pipe(Effect.provideService(Counting, (effect) => Effect.suspend(() => (ran.middleware++, effect))))
      const client = yield* clientOver(connection, New)
      assert.equal(yield* client.Buy({ item: "tea" }), 1)
      assert.deepEqual(ran, { handler: 1, middleware: 1 })
    }).pipe(Effect.scoped))

  it.effect("is logged in one line for its connection and method, with any number of concurrent calls", () =>
    Effect.gen(function*() {
      const log = makeLog()
      const started = yield* Deferred.make<void>()
      yield* Effect.gen(function*() {
        const { connection } = yield* open(Old, buying((item) => Effect.as(Deferred.await(started), item.length)))
        const client = yield* clientOver(connection, New)
        const calls = yield* Effect.forkChild(
          Effect.forEach(Array.from({ length: 50 }), () => client.Buy({ item: "tea" }), { concurrency: "unbounded" })
        )
        yield* client.Ping()
        yield* Deferred.succeed(started, undefined)
        assert.deepEqual(yield* Fiber.join(calls), Array.from({ length: 50 }, () => 3))
        yield* client.Buy({ item: "milk" })
      }).pipe(Effect.provide(log.layer))
      assert.deepEqual(log.lines.map(({ annotations, level, message }) => ({ level, message, ...annotations })), [{
        level: "Warn",
        message: differ,
        endpoint: "memory://server",
        reason: "calls of the method go in JSON on this connection"
      }])
    }).pipe(Effect.scoped))

  it.effect("has the same headers, failures, and discards as any other", () =>
    Effect.gen(function*() {
      const bought = yield* Deferred.make<string>()
      const seen: Array<string | undefined> = []
      const layer = Old.group.toLayer({
        Buy: ({ item }, { headers }) => {
          seen.push(headers["who"])
          if (item === "gold") return Effect.fail(new Refused({ why: "no gold" }))
          return Effect.as(Deferred.succeed(bought, item), 1)
        },
        Ping: () => Effect.void
      })
      const { connection } = yield* open(Old, layer)
      const client = yield* clientOver(connection, New)
      const failure = yield* Effect.flip(RpcClient.withHeaders(client.Buy({ item: "gold" }), { who: "Ada" }))
      assert.deepEqual(failure, new Refused({ why: "no gold" }))
      const other = yield* open(Old, layer)
      const discarding = yield* clientOver(other.connection, New)
      yield* discarding.Buy({ item: "tea" }, { discard: true, headers: { who: "Bob" } })
      assert.equal(yield* Deferred.await(bought), "tea")
      assert.deepEqual(seen, ["Ada", "Bob"])
    }).pipe(Effect.scoped))

  it.effect("goes on with its retries, its deadline and its interruption", () =>
    Effect.gen(function*() {
      let calls = 0
      const interrupted = yield* Deferred.make<void>()
      const waiting = yield* Deferred.make<void>()
      const { connection } = yield* open(
        Old,
        buying((item) =>
          item === "slow"
            ? Deferred.succeed(waiting, undefined).pipe(
              Effect.andThen(Effect.never),
              Effect.onInterrupt(() => Deferred.succeed(interrupted, undefined))
            )
            : Effect.sync(() => ++calls)
        ),
        { server: { maxConcurrentCalls: 1, maxQueuedCalls: 0 } }
      )
      const client = yield* clientOver(connection, New)
      const slow = yield* Effect.forkChild(client.Buy({ item: "slow" }))
      yield* Deferred.await(waiting)
      // Refused, since the server has too much to do, and made again: in JSON, both times.
      const tried = yield* Effect.forkChild(
        Connection.withOptions(client.Buy({ item: "tea" }), { retry: Schedule.forever })
      )
      yield* Fiber.interrupt(slow)
      yield* Deferred.await(interrupted)
      assert.equal(yield* Fiber.join(tried), 1)
    }).pipe(Effect.scoped))

  /**
   * A server by hand, with this contract or another one: it says of each request in what it came, and ends after an
   * answer in JSON.
   */
  const scripted = (shares: boolean, formats: Array<string>) =>
    rawRequests((raw, id, args) => {
      const isBinary = args[0] === 1
      formats.push(isBinary ? "binary" : "json")
      raw.write(isBinary && !shares ? message(id, 3, refused) : message(id, 2, three))
      if (!isBinary) raw.socket.end()
    })

  it.live("goes in binary again on a new connection", () =>
    Effect.gen(function*() {
      const formats: Array<string> = []
      const connection = yield* connect([yield* scripted(false, formats)])
      const client = yield* clientOver(connection, New)
      const isClosed = Stream.takeUntil(connection.changes, ({ endpoints }) => endpoints[0]?.state === "Idle")
      for (let i = 0; i < 3; i++) {
        assert.equal(yield* client.Buy({ item: "tea" }), 3)
        yield* Stream.runDrain(isClosed)
      }
      assert.deepEqual(formats, ["binary", "json", "binary", "json", "binary", "json"])
    }).pipe(Effect.scoped))

  it.live("goes in binary to the servers that share its contract, and in JSON to the others", () =>
    Effect.gen(function*() {
      const shared = yield* open(New, New.group.toLayer({ Buy: () => Effect.succeed(1), Ping: () => Effect.void }))
      const other = yield* open(Old, buying(() => Effect.succeed(2)), { network: tcp })
      const log = makeLog()
      const connection = yield* Effect.provide(connect([shared.endpoint, other.endpoint]), log.layer)
      const client = yield* clientOver(connection, New)
      const answers = yield* Effect.forEach(Array.from({ length: 20 }), () => client.Buy({ item: "tea" }))
      // Both are called, and none of the calls fails.
      assert.deepEqual(new Set(answers), new Set([1, 2]))
      assert.deepEqual(log.lines.map(({ message }) => message), [differ])
    }).pipe(Effect.scoped))

  it.effect("has the payload that it was made with, even if its caller changes that later", () =>
    Effect.gen(function*() {
      const contract = <Success extends Schema.Codec<number>>(success: Success) =>
        Component.make(
          "test/Bytes",
          RpcGroup.make(Rpc.make("Sum", { payload: Schema.Struct({ bytes: Schema.Uint8Array }), success }))
        )
      const server = contract(Schema.Int)
      const { connection } = yield* open(
        server,
        server.group.toLayer({ Sum: ({ bytes }) => Effect.succeed(bytes.reduce((sum, byte) => sum + byte, 0)) })
      )
      const client = yield* clientOver(connection, contract(Schema.Finite))
      const bytes = Uint8Array.of(1, 2, 3)
      const summing = yield* Effect.forkChild(client.Sum({ bytes }), { startImmediately: true })
      bytes.fill(100)
      assert.equal(yield* Fiber.join(summing), 6)
    }).pipe(Effect.scoped))

  it.effect("has in JSON what it had in binary, and its payload is not read on this side", () =>
    Effect.gen(function*() {
      // What is read is not what was written: a server keeps no passwords.
      const Hashed = Schema.String.pipe(
        Schema.decodeTo(Schema.String, {
          decode: SchemaGetter.transform((password: string) => `hash of ${password}`),
          encode: SchemaGetter.passthrough<string>()
        })
      )
      const contract = <Success extends Schema.Codec<string>>(success: Success) =>
        Component.make("test/Users", RpcGroup.make(Rpc.make("Add", { payload: { password: Hashed }, success })))
      const server = contract(Schema.String)
      const { connection } = yield* open(
        server,
        server.group.toLayer({ Add: ({ password }) => Effect.succeed(password) })
      )
      const client = yield* clientOver(connection, contract(Schema.Literal("hash of secret")))
      assert.equal(yield* client.Add({ password: "secret" }), "hash of secret")
    }).pipe(Effect.scoped))

  it.live("goes in JSON from then on, also where other servers would refuse it", () =>
    Effect.gen(function*() {
      const formats: Array<string> = []
      // Each refuses what is in binary, and is gone; and comes back.
      const leaving = rawRequests((raw, id, args) => {
        const isBinary = args[0] === 1
        formats.push(isBinary ? "binary" : "json")
        raw.write(isBinary ? message(id, 3, refused) : message(id, 2, three))
        if (isBinary) raw.socket.end()
      })
      const connection = yield* connect([yield* leaving, yield* leaving])
      const client = yield* clientOver(connection, New)
      assert.equal(yield* client.Buy({ item: "tea" }), 3)
      assert.deepEqual(formats, ["binary", "json"])
    }).pipe(Effect.scoped))

  it.effect("is refused where it is too large in JSON", () =>
    Effect.gen(function*() {
      const { connection } = yield* open(Old, buying(() => Effect.succeed(1)), { connection: { maxMessageSize: 1500 } })
      const client = yield* clientOver(connection, New)
      // Each is a byte in binary, and six in JSON.
      const error = yield* Effect.flip(client.Buy({ item: "\u0001".repeat(1000) }))
      assert.ok(error._tag === "CommunicationError" && error.reason._tag === "TooLarge")
      assert.match(error.message, /^the arguments of test\/Shop\.Buy are 60\d\d bytes, expected at most 1451$/)
      assert.equal(error.maybeExecuted, false)
    }).pipe(Effect.scoped))

  it.effect("fails, and says that contracts differ, where it has no JSON", () =>
    Effect.gen(function*() {
      const forbidden = SchemaGetter.forbidden<never, unknown>(() => "no JSON of these")
      const inJson = Schema.link<Uint8Array>()(Schema.Unknown, { decode: forbidden, encode: forbidden })
      const contracts = [
        // It cannot be compiled.
        [
          Schema.Uint8Array.annotate({
            toCodecJson: (): never => {
              throw new Error("no JSON of these")
            }
          }),
          "its payload cannot be sent in json: no JSON of these"
        ],
        // It cannot be encoded.
        [
          Schema.Uint8Array.annotate({
            toCodecJson: () => inJson
          }),
          "its payload: no JSON of these"
        ]
      ] as const
      for (const [Bytes, problem] of contracts) {
        const contract = <Success extends Schema.Codec<number>>(success: Success) =>
          Component.make("test/Bytes", RpcGroup.make(Rpc.make("Put", { payload: Bytes, success })))
        const server = contract(Schema.Int)
        let ran = false
        const { connection } = yield* open(
          server,
          server.group.toLayer({ Put: () => Effect.sync(() => (ran = true, 1)) })
        )
        const client = yield* clientOver(connection, contract(Schema.Finite))
        const error = yield* Effect.flip(client.Put(Uint8Array.of(1)))
        assert.ok(error._tag === "CommunicationError" && error.reason._tag === "Protocol", String(error))
        assert.equal(
          error.message,
          `client and server have different contracts of test/Bytes.Put, and JSON does not carry the call: ${problem}`
        )
        assert.equal(error.maybeExecuted, false)
        assert.equal(ran, false)
      }
    }).pipe(Effect.scoped))

  it.effect("goes in JSON through a user's own Connection, too, which is logged once", () =>
    Effect.gen(function*() {
      const log = makeLog()
      let calls = 0
      const { connection } = yield* open(Old, buying((item) => Effect.succeed(item.length)))
      const own: Connection.Connection = {
        ...connection,
        call: (key, args, options) => Effect.suspend(() => (calls++, connection.call(key, args, options)))
      }
      const client = yield* clientOver(own, New)
      yield* Effect.gen(function*() {
        assert.equal(yield* client.Buy({ item: "tea" }), 3)
        assert.equal(yield* client.Buy({ item: "milk" }), 4)
      }).pipe(Effect.provide(log.layer))
      assert.equal(calls, 4)
      assert.deepEqual(log.lines.map(({ message }) => message), [`${differ}: such calls are made again in JSON`])
    }).pipe(Effect.scoped))

  it.effect("continues through such a Connection where a logger throws", () =>
    Effect.gen(function*() {
      const { connection } = yield* open(Old, buying((item) => Effect.succeed(item.length)))
      const own: Connection.Connection = { ...connection, call: (...args) => connection.call(...args) }
      const client = yield* clientOver(own, New)
      const logger = Logger.make(() => {
        throw new Error("boom")
      })
      const bought = Effect.provideService(client.Buy({ item: "tea" }), Logger.CurrentLoggers, new Set([logger]))
      assert.equal(yield* bought, 3)
    }).pipe(Effect.scoped))
})
