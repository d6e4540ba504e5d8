/**
 * What typed calls are on the wire: the bytes that clients send and servers answer with, and what either refuses.
 *
 * One side of each test is bytes written by hand.
 */
import { describe, it } from "@effect/vitest"
import { Deferred, Effect, Layer, Schema } from "effect"
import { Component, HandlerMap } from "effect-call"
import { Rpc, RpcClient, RpcGroup, RpcMiddleware } from "effect/rpc"
import * as assert from "node:assert/strict"
import { encodeErrorChain } from "../../src/internal/protocol/errorChain.ts"
import * as Identities from "../../src/internal/protocol/identities.ts"
import { bytesOf, connect, memory, textOf } from "../support/networks.ts"
import { message, messagesOf, rawClient, rawRequests, request, version } from "../support/raw.ts"
import { clientOver, formats } from "./support.ts"

class NotFound extends Schema.TaggedError<NotFound>()("NotFound", { id: Schema.Int }) {}
class Denied extends Schema.TaggedError<Denied>()("Denied", {}) {}
class Guard extends RpcMiddleware.Service<Guard>()("Guard", { error: Denied }) {}

const group = RpcGroup.make(
  Rpc.make("Get", { payload: { id: Schema.Int }, success: Schema.Struct({ name: Schema.String }), error: NotFound }),
  Rpc.make("Ping"),
  Rpc.make("Admin", { success: Schema.String }).middleware(Guard),
  Rpc.make("Die")
)
const Items = Component.make("test/Items", group)
const key = (method: string) => Items.keys.get(method)!

const handlers = group.toLayer({
  Get: ({ id }) => id < 10 ? Effect.succeed({ name: `item ${id}` }) : Effect.fail(new NotFound({ id })),
  Ping: () => Effect.void,
  Admin: () => Effect.succeed("secret"),
  Die: () => Effect.die("dead")
})
const guard = Layer.succeed(
  Guard,
  (effect, { headers }) => headers["token"] === "ok" ? effect : Effect.fail(new Denied())
)

/** `undefined` in binary, as an answer has it. */
const nothing = Uint8Array.of(0x01, 0x01, 0x20)
/** What stands for the contracts of methods. To change it is to change the wire. */
const fingerprints = {
  Get: Buffer.from("e2b3d11f031c1cd5", "hex"),
  Ping: Buffer.from("ffb84fed543d360d", "hex"),
  Admin: Buffer.from("6d83cc2eb30c80c6", "hex")
}
/** A request in binary without a payload: `undefined`. */
const asking = (method: keyof typeof fingerprints, format = 0x01) =>
  Uint8Array.of(format, ...fingerprints[method], ...nothing.subarray(1))
/** A format byte, and a text. */
const text = (format: number, text: string) => Uint8Array.of(format, ...bytesOf(text))
/** A request in JSON with these headers, which are a text, too. */
const withHeaders = (format: number, headers: string, payload: string, length = bytesOf(headers).length) => {
  const size = Buffer.alloc(4)
  size.writeUInt32LE(length)
  return Uint8Array.of(format, ...size, ...bytesOf(headers), ...bytesOf(payload))
}

/** The component, served, and a Connection to it. */
const served = Effect.gen(function*() {
  const context = yield* Layer.build(guard)
  const map = yield* Effect.provideContext(Component.handlers(Items, handlers), context)
  const { endpoint } = yield* memory.serve(map)
  return { endpoint, connection: yield* connect([endpoint]) }
})

/** A client in some format, of a server that keeps the arguments and answers with these bytes. */
const scripted = Effect.fnUntraced(function*(format: "binary" | "json" | undefined, answer: Uint8Array) {
  const requests: Array<Uint8Array> = []
  const keep = (args: Uint8Array) => Effect.sync(() => (requests.push(args), answer))
  let map: HandlerMap.HandlerMap<never> = HandlerMap.empty
  for (const { component, method } of Items.keys.values()) map = HandlerMap.set(map, component, method, keep)
  const connection = yield* connect([(yield* memory.serve(map)).endpoint])
  return { client: yield* clientOver(connection, Items, { format }), requests }
})

describe("a client's request", () => {
  it.effect("in JSON is a format byte and the payload's JSON", () =>
    Effect.gen(function*() {
      const { client, requests } = yield* scripted("json", text(0x02, "{\"name\":\"tea\"}"))
      assert.deepEqual(yield* client.Get({ id: 7 }), { name: "tea" })
      assert.deepEqual(requests, [text(0x02, "{\"id\":7}")])
    }).pipe(Effect.scoped))

  it.effect("in binary is a format byte, the contract's fingerprint and the payload in SchemaBinary, as by default", () =>
    Effect.gen(function*() {
      const { client, requests } = yield* scripted("binary", Uint8Array.of(0x01))
      yield* Effect.exit(client.Get({ id: 7 }))
      const [first] = requests
      assert.deepEqual(first!.subarray(0, 9), Uint8Array.of(0x01, ...fingerprints.Get))
      // 7 as a signed varint is 14.
      assert.equal(first!.at(-1), 14)
      const byDefault = yield* scripted(undefined, Uint8Array.of(0x01))
      yield* Effect.exit(byDefault.client.Get({ id: 7 }))
      assert.deepEqual(byDefault.requests, [first])
    }).pipe(Effect.scoped))

  it.effect("without a payload says so", () =>
    Effect.gen(function*() {
      const binary = yield* scripted("binary", nothing)
      assert.equal(yield* binary.client.Ping(), undefined)
      assert.deepEqual(binary.requests, [asking("Ping")])
      const json = yield* scripted("json", text(0x02, "null"))
      assert.equal(yield* json.client.Ping(), undefined)
      assert.deepEqual(json.requests, [text(0x02, "null")])
    }).pipe(Effect.scoped))

  it.effect("has headers only where there are any, and the same bytes otherwise", () =>
    Effect.gen(function*() {
      const { client, requests } = yield* scripted("json", text(0x02, "{\"name\":\"tea\"}"))
      yield* client.Get({ id: 7 })
      yield* client.Get({ id: 7 }, { headers: {} })
      yield* RpcClient.withHeaders(client.Get({ id: 7 }, { headers: { B: "2" } }), { a: "ü" })
      assert.deepEqual(requests, [
        text(0x02, "{\"id\":7}"),
        text(0x02, "{\"id\":7}"),
        withHeaders(0x12, "[[\"a\",\"ü\"],[\"b\",\"2\"]]", "{\"id\":7}")
      ])
    }).pipe(Effect.scoped))

  it.effect("says where its result is to be discarded", () =>
    Effect.gen(function*() {
      const json = yield* scripted("json", Uint8Array.of(0x02))
      yield* json.client.Get({ id: 7 }, { discard: true })
      yield* json.client.Get({ id: 7 }, { discard: true, headers: { a: "1" } })
      assert.deepEqual(json.requests, [
        text(0x22, "{\"id\":7}"),
        withHeaders(0x32, "[[\"a\",\"1\"]]", "{\"id\":7}")
      ])
      const binary = yield* scripted("binary", Uint8Array.of(0x01))
      yield* binary.client.Ping(undefined, { discard: true })
      assert.deepEqual(binary.requests, [asking("Ping", 0x21)])
    }).pipe(Effect.scoped))
})

describe("a server's answer", () => {
  it.effect("is in JSON where the request is, and can be read", () =>
    Effect.gen(function*() {
      const { connection } = yield* served
      const answer = yield* connection.call(key("Get"), text(0x02, "{\"id\":7}"))
      assert.equal(answer[0], 0x02)
      assert.equal(textOf(answer.subarray(1)), "{\"name\":\"item 7\"}")
      assert.deepEqual(yield* connection.call(key("Ping"), text(0x02, "null")), text(0x02, "null"))
    }).pipe(Effect.scoped))

  it.effect("is in binary where the request is", () =>
    Effect.gen(function*() {
      const { connection } = yield* served
      const { client, requests } = yield* scripted("binary", Uint8Array.of(0x01))
      yield* Effect.exit(client.Get({ id: 7 }))
      const answer = yield* connection.call(key("Get"), requests[0]!)
      assert.equal(answer[0], 0x01)
      assert.match(textOf(answer), /item 7$/)
      assert.doesNotMatch(textOf(answer), /name/)
      assert.deepEqual(yield* connection.call(key("Ping"), asking("Ping")), nothing)
    }).pipe(Effect.scoped))

  it.effect("is in each call's own format, on one connection", () =>
    Effect.gen(function*() {
      const { connection } = yield* served
      const clients = yield* Effect.forEach(formats, (format) => clientOver(connection, Items, { format }))
      const ids = [1, 2, 3, 4, 5]
      const names = yield* Effect.forEach(
        ids.flatMap((id) => clients.map((client) => client.Get({ id }))),
        (call) => Effect.map(call, ({ name }) => name),
        { concurrency: "unbounded" }
      )
      assert.deepEqual(names, ids.flatMap((id) => [`item ${id}`, `item ${id}`]))
    }).pipe(Effect.scoped))

  it.effect("says where it is a failure of the method, or of its middleware, and knows the error's class", () =>
    Effect.gen(function*() {
      const { connection } = yield* served
      assert.deepEqual(
        yield* connection.call(key("Get"), text(0x02, "{\"id\":10}")),
        text(0x12, "{\"_tag\":\"NotFound\",\"id\":10}")
      )
      assert.deepEqual(yield* connection.call(key("Admin"), text(0x02, "null")), text(0x12, "{\"_tag\":\"Denied\"}"))
      const binary = yield* connection.call(key("Admin"), asking("Admin"))
      assert.equal(binary[0], 0x11)
      for (const format of formats) {
        const client = yield* clientOver(connection, Items, { format })
        assert.ok((yield* Effect.flip(client.Get({ id: 10 }))) instanceof NotFound)
        assert.ok((yield* Effect.flip(client.Admin())) instanceof Denied)
      }
    }).pipe(Effect.scoped))

  it.effect("is a response where the method failed, and a response error where it could not run or died", () =>
    Effect.gen(function*() {
      const { endpoint } = yield* served
      const raw = yield* rawClient(endpoint)
      raw.write(Buffer.concat([
        version,
        request(1, key("Get"), text(0x02, "{\"id\":10}")),
        request(2, key("Admin"), text(0x02, "null")),
        request(3, key("Die"), text(0x02, "null")),
        request(4, key("Get"), text(0x02, "{}"))
      ]))
      const received = yield* raw.until((bytes) => messagesOf(bytes).length === 5)
      const types = new Map(messagesOf(received).map(({ id, type }) => [id, type]))
      assert.deepEqual([1, 2, 3, 4].map((id) => types.get(id)), [2, 2, 3, 3])
    }).pipe(Effect.scoped))

  it.effect("to a call that is discarded is one byte, for every result of the handler", () =>
    Effect.gen(function*() {
      const { connection } = yield* served
      const { client, requests } = yield* scripted("binary", Uint8Array.of(0x01))
      yield* client.Get({ id: 7 }, { discard: true })
      assert.deepEqual(yield* connection.call(key("Get"), text(0x22, "{\"id\":7}")), Uint8Array.of(0x02))
      assert.deepEqual(yield* connection.call(key("Get"), text(0x22, "{\"id\":10}")), Uint8Array.of(0x02))
      assert.deepEqual(yield* connection.call(key("Get"), requests[0]!), Uint8Array.of(0x01))
      // Middleware's failure, before the handler has started, is one of the call.
      assert.deepEqual(yield* connection.call(key("Admin"), text(0x22, "null")), text(0x12, "{\"_tag\":\"Denied\"}"))
    }).pipe(Effect.scoped))

  it.effect("follows the headers in the request", () =>
    Effect.gen(function*() {
      const { connection } = yield* served
      const call = (headers: string) => connection.call(key("Admin"), withHeaders(0x12, headers, "null"))
      assert.deepEqual(yield* call("[[\"token\",\"ok\"]]"), text(0x02, "\"secret\""))
      // Their names are lower case on either side.
      assert.deepEqual(yield* call("[[\"Token\",\"ok\"]]"), text(0x02, "\"secret\""))
      assert.deepEqual(yield* call("[]"), text(0x12, "{\"_tag\":\"Denied\"}"))
      assert.deepEqual(yield* call("[[\"token\",\"wrong\"]]"), text(0x12, "{\"_tag\":\"Denied\"}"))
    }).pipe(Effect.scoped))
})

describe("a server refuses", () => {
  /** What a request is answered with that cannot be read. */
  const refusal = (args: Uint8Array) =>
    Effect.gen(function*() {
      const { connection } = yield* served
      const error = yield* Effect.flip(connection.call(key("Get"), args))
      assert.equal(error._tag, "RemoteError")
      return error.message
    }).pipe(Effect.scoped)

  it.effect("a request without a format", () =>
    Effect.gen(function*() {
      assert.equal(
        yield* refusal(new Uint8Array(0)),
        "cannot decode the payload of test/Items.Get: expected a format this version knows, got nothing"
      )
    }))

  it.effect("headers that would end in the next request", () =>
    Effect.gen(function*() {
      const { endpoint } = yield* served
      const raw = yield* rawClient(endpoint)
      // Two bytes of headers, which it has not; what follows it, the next one's id, would be good ones.
      const id = Buffer.from("[]").readUInt16LE()
      raw.write(Buffer.concat([
        version,
        request(1, key("Get"), Uint8Array.of(0x12, 2, 0, 0, 0)),
        request(id, key("Get"), text(0x02, "{\"id\":7}"))
      ]))
      const received = messagesOf(yield* raw.until((bytes) => messagesOf(bytes).length === 3))
      assert.deepEqual(new Map(received.map(({ id, type }) => [id, type])), new Map([[0, 0], [1, 3], [id, 2]]))
      assert.match(
        received.find(({ id }) => id === 1)!.payload.toString(),
        /test\/Items\.Get: expected headers before the arguments/
      )
    }).pipe(Effect.scoped))

  it.effect("a request without a format, also where another one follows it", () =>
    Effect.gen(function*() {
      const { endpoint } = yield* served
      const raw = yield* rawClient(endpoint)
      const id7 = text(0x02, "{\"id\":7}")
      raw.write(
        Buffer.concat([version, request(1, key("Get"), new Uint8Array(0)), request(2, key("Get"), id7)])
      )
      const received = messagesOf(yield* raw.until((bytes) => messagesOf(bytes).length === 3))
      assert.deepEqual(new Map(received.map(({ id, type }) => [id, type])), new Map([[0, 0], [1, 3], [2, 2]]))
      assert.match(received.find(({ id }) => id === 1)!.payload.toString(), /got nothing/)
    }).pipe(Effect.scoped))

  it.effect("codecs and bits that it does not know", () =>
    Effect.gen(function*() {
      for (const format of [0x00, 0x03, 0x0f, 0x10, 0x13, 0x41, 0x42, 0x81, 0xff]) {
        assert.equal(
          yield* refusal(text(format, "{\"id\":7}")),
          "cannot decode the payload of test/Items.Get: expected a format this version knows, got format 0x" +
            format.toString(16).padStart(2, "0")
        )
      }
    }))

  it.effect("headers that are cut, too long, or not what headers are", () =>
    Effect.gen(function*() {
      for (
        const args of [
          Uint8Array.of(0x12),
          Uint8Array.of(0x12, 0, 0, 0),
          Uint8Array.of(0x11, ...fingerprints.Get, 1, 0, 0, 0),
          Uint8Array.of(0x12, 0, 0, 0, 0),
          withHeaders(0x12, "[]", "{\"id\":7}", 0xffff_ffff),
          withHeaders(0x12, "[]", "", 3),
          withHeaders(0x12, "{\"a\":\"1\"}", "{\"id\":7}"),
          withHeaders(0x12, "[[\"a\"]]", "{\"id\":7}"),
          withHeaders(0x12, "[[\"a\",1]]", "{\"id\":7}"),
          withHeaders(0x12, "[".repeat(100_000), "{\"id\":7}")
        ]
      ) {
        assert.equal(
          yield* refusal(args),
          "cannot decode the payload of test/Items.Get: expected headers before the arguments"
        )
      }
    }))
})

describe("a server with another contract", () => {
  it.effect("says so, and runs nothing", () =>
    Effect.gen(function*() {
      const { connection } = yield* served
      for (const format of [0x01, 0x11, 0x21]) {
        const other = asking("Ping", format)
        other[8]! ^= 1
        const error = yield* Effect.flip(connection.call(key("Ping"), other))
        assert.ok(error._tag === "RemoteError")
        assert.deepEqual(error.chain, [{
          message: "client and server have different contracts of the method",
          identity: "(effect-call:contract-differs)"
        }])
      }
    }).pipe(Effect.scoped))

  it.effect("is called in JSON from then on, with the same headers and flags", () =>
    Effect.gen(function*() {
      const differs = encodeErrorChain([Identities.contractDiffers])
      const requests: Array<Buffer> = []
      const endpoint = yield* rawRequests((raw, id, args) => {
        requests.push(args)
        const isBinary = (args[0]! & 0x0f) === 1
        raw.write(isBinary ? message(id, 3, differs) : message(id, 2, text(0x02, "{\"name\":\"tea\"}")))
      })
      const client = yield* clientOver(yield* connect([endpoint]), Items)
      assert.deepEqual(yield* client.Get({ id: 7 }, { headers: { a: "1" } }), { name: "tea" })
      assert.deepEqual(yield* client.Get({ id: 8 }), { name: "tea" })
      yield* client.Get({ id: 9 }, { discard: true })
      assert.equal(requests[0]![0], 0x11)
      assert.deepEqual(
        requests.slice(1).map((args) => Uint8Array.from(args)),
        [
          withHeaders(0x12, "[[\"a\",\"1\"]]", "{\"id\":7}"),
          text(0x02, "{\"id\":8}"),
          text(0x22, "{\"id\":9}")
        ]
      )
    }).pipe(Effect.scoped))

  it.effect("cannot answer in binary what it was asked in JSON", () =>
    Effect.gen(function*() {
      for (const answer of [nothing, Uint8Array.of(0x11, 1, 0x20)]) {
        const { client } = yield* scripted("json", answer)
        for (const options of [{ discard: false }, { discard: true }]) {
          const exit = yield* Effect.result(client.Get({ id: 7 }, options))
          // That a handler has started is all that an answer to a discarded call says.
          if (options.discard && answer[0] === 0x01) assert.equal(exit._tag, "Success")
          else if (exit._tag === "Success") assert.fail("it was read")
          else {assert.equal(
              exit.failure.message,
              "cannot decode the result of test/Items.Get: expected JSON, got binary"
            )}
        }
      }
    }).pipe(Effect.scoped))
})

describe("a client refuses", () => {
  it.effect("answers without a format, and formats that it does not know", () =>
    Effect.gen(function*() {
      const cases: ReadonlyArray<readonly [Uint8Array, string]> = [
        [new Uint8Array(0), "nothing"],
        ...[0x00, 0x03, 0x0f, 0x10, 0x21, 0x22, 0x41, 0x82, 0xff].map((format) =>
          [text(format, "{\"name\":\"tea\"}"), `format 0x${format.toString(16).padStart(2, "0")}`] as const
        )
      ]
      for (const format of formats) {
        for (const [answer, got] of cases) {
          const { client } = yield* scripted(format, answer)
          for (const options of [{}, { discard: true }]) {
            const error = yield* Effect.flip(client.Get({ id: 7 }, options))
            assert.ok(error._tag === "CommunicationError" && error.reason._tag === "Protocol")
            assert.equal(
              error.message,
              `cannot decode the result of test/Items.Get: expected a format this version knows, got ${got}`
            )
            assert.equal(error.endpoint, "memory://server")
            assert.equal(error.maybeExecuted, true)
          }
        }
      }
    }).pipe(Effect.scoped))

  it.effect("an answer without a format, also where another one follows it", () =>
    Effect.gen(function*() {
      const release = yield* Deferred.make<void>()
      const answers = [new Uint8Array(0), text(0x02, "{\"name\":\"tea\"}")]
      const { component, method } = key("Get")
      const map = HandlerMap.set(HandlerMap.empty, component, method, () => {
        const answer = answers.shift()!
        if (answers.length === 0) Deferred.doneUnsafe(release, Effect.void)
        // Both at once, so that they are read at once.
        return Effect.as(Deferred.await(release), answer)
      })
      const client = yield* clientOver(yield* connect([(yield* memory.serve(map)).endpoint]), Items)
      const [first, second] = yield* Effect.all(
        [Effect.flip(client.Get({ id: 1 })), client.Get({ id: 2 })],
        { concurrency: 2 }
      )
      assert.match(first.message, /got nothing/)
      assert.deepEqual(second, { name: "tea" })
    }).pipe(Effect.scoped))

  it.effect("no answer that it can read: each answer names its own format", () =>
    Effect.gen(function*() {
      const { client } = yield* scripted("binary", text(0x02, "{\"name\":\"tea\"}"))
      assert.deepEqual(yield* client.Get({ id: 7 }), { name: "tea" })
      const failing = yield* scripted("binary", text(0x12, "{\"_tag\":\"NotFound\",\"id\":3}"))
      assert.deepEqual(yield* Effect.flip(failing.client.Get({ id: 3 })), new NotFound({ id: 3 }))
    }).pipe(Effect.scoped))
})
