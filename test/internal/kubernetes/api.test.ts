/**
 * `Resolver.kubernetes` and what can happen to the bytes of an answer.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Layer, References } from "effect"
import type { Resolver } from "effect-call"
import { TestClock } from "effect/testing"
import { Buffer } from "node:buffer"
import type * as http from "node:http"
import {
  type Answer,
  makeKubernetesApi,
  sendJson,
  sliceTypes,
  status
} from "../../../examples/support/kubernetesApi.ts"
import {
  addresses,
  answersBegun,
  environment,
  followCart,
  passing,
  ready,
  recorded,
  slice
} from "../../Resolver/kubernetesSupport.ts"
import { makeLog } from "../../support/log.ts"
import { next, waits } from "../../support/resolve.ts"
import { closed } from "../net/sockets.ts"

const object = (name: string, version: number, addresses: ReadonlyArray<string>, more: object = {}) => {
  const { metadata, ...fields } = slice(name, addresses.map((address) => ready(address, more)))
  return { ...sliceTypes, ...fields, metadata: { ...metadata, resourceVersion: String(version) } }
}

const event = (type: string, object: unknown) => `${JSON.stringify({ type, object })}\n`

/** A resolver that has listed one endpoint, and whose watch is in the test's hand. */
const watching = Effect.gen(function*() {
  const api = yield* makeKubernetesApi()
  api.put(slice("cart-a", [ready("10.0.0.1")]))
  const list: Answer = (_, response) =>
    sendJson(response, 200, { metadata: { resourceVersion: "1001" }, items: [object("cart-a", 1001, ["10.0.0.1"])] })
  const responses: Array<http.ServerResponse> = []
  const byHand: Answer = (_, response) => {
    response.writeHead(200).flushHeaders()
    responses.push(response)
  }
  api.answer(list, byHand)
  const resolver = yield* followCart({ server: api.url })
  const first = yield* resolver.resolve()
  yield* api.received(2)
  const write = (bytes: string | Uint8Array) =>
    Effect.callback<void>((resume) => {
      responses.at(-1)!.write(bytes, () => resume(Effect.void))
    })
  return { api, byHand, first, resolver, response: responses[0]!, responses, write }
})

/** The versions that were watched from, or that it was listed. */
const asked = (api: { readonly requests: ReadonlyArray<{ readonly verb: string; readonly query: URLSearchParams }> }) =>
  api.requests.map(({ query, verb }) => verb === "list" ? verb : `watch ${query.get("resourceVersion")}`)

const failed = (resolver: Resolver.Resolver, version: Resolver.Version | undefined) =>
  Effect.map(Effect.flip(resolver.resolve(version)), ({ message }) => message)

describe("a watch", () => {
  it.effect("understands events in any pieces, also cut within a character", () =>
    Effect.gen(function*() {
      const { first, resolver, write } = yield* watching
      const zones = ["zürich-1", "東京-1", "🏔️-1"]
      const lines = zones.map((zone, i) => event("MODIFIED", object("cart-a", 1002 + i, [`10.0.0.${i + 2}`], { zone })))
      let seen = first
      for (const [i, line] of lines.entries()) {
        for (const byte of Buffer.from(line)) yield* write(Uint8Array.of(byte))
        seen = yield* resolver.resolve(seen.version)
        assert.deepStrictEqual(seen.endpoints.map(({ zone }) => zone), [zones[i]])
      }
    }).pipe(Effect.provide(environment())))

  it.effect("treats several events in one segment as one change, and ignores blank lines", () =>
    Effect.gen(function*() {
      const { first, resolver, write } = yield* watching
      yield* write([
        "\n",
        event("ADDED", object("cart-b", 1002, ["10.0.0.2"])),
        "\r\n",
        event("ADDED", object("cart-c", 1003, ["10.0.0.3"])),
        event("DELETED", object("cart-a", 1004, ["10.0.0.1"]))
      ].join(""))
      assert.deepStrictEqual(addresses(yield* resolver.resolve(first.version)), ["10.0.0.2:7000", "10.0.0.3:7000"])
    }).pipe(Effect.provide(environment())))

  it.effect("continues after a connection that was cut in the middle of an event", () =>
    Effect.gen(function*() {
      for (const cut of ["end", "reset"] as const) {
        const { api, byHand, first, resolver, response, write } = yield* watching
        yield* write(event("ADDED", object("cart-b", 1002, ["10.0.0.2"])))
        const seen = yield* resolver.resolve(first.version)
        const lost = event("ADDED", object("cart-c", 1003, ["10.0.0.3"]))
        yield* write(lost.slice(0, 200))
        api.answer(byHand)
        if (cut === "end") response.end()
        else response.socket?.resetAndDestroy()
        yield* passing(api.received(3))
        assert.deepStrictEqual(asked(api), ["list", "watch 1001", "watch 1002"])
        yield* write(lost)
        assert.deepStrictEqual(addresses(yield* resolver.resolve(seen.version)), [
          "10.0.0.1:7000",
          "10.0.0.2:7000",
          "10.0.0.3:7000"
        ])
      }
    }).pipe(Effect.provide(environment())))

  it.effect("goes on from a bookmark", () =>
    Effect.gen(function*() {
      const { api, response, write } = yield* watching
      yield* write(event("BOOKMARK", { ...sliceTypes, metadata: { resourceVersion: "5000" }, endpoints: null }))
      response.end()
      yield* passing(api.received(3))
      assert.deepStrictEqual(asked(api), ["list", "watch 1001", "watch 5000"])
    }).pipe(Effect.provide(environment())))

  it.effect("that was there for a second is followed by another at once, each time and in any way it ends", () => {
    const log = makeLog()
    return Effect.gen(function*() {
      const begun = yield* answersBegun
      const { api, byHand, first, resolver, responses } = yield* watching
      const waiting = yield* next(resolver, first)
      for (let watches = 1; watches <= 12; watches++) {
        // The list was the first.
        yield* begun(1 + watches)
        yield* TestClock.adjust("1 second")
        api.answer(byHand)
        const response = responses.at(-1)!
        if (watches % 3 === 0) response.end()
        else if (watches % 3 === 1) response.socket?.resetAndDestroy()
        else response.socket?.end("ff\r\n{\"type\":")
        // Time stands still: nothing here waits for it to pass.
        yield* api.received(2 + watches)
      }
      assert.deepStrictEqual(new Set(asked(api).slice(1)), new Set(["watch 1001"]))
      // This is no failure: no call hears of it, and nothing is logged as a warning.
      assert.isTrue(waits(waiting))
      assert.deepStrictEqual(new Set(log.lines.map(({ level }) => level)), new Set(["Debug"]))
      assert.match(
        log.lines[0]?.message ?? "",
        /^a watch has ended after 1000 ms: another one begins .*the connection was lost/
      )
    }).pipe(Effect.provide([environment(), log.layer, Layer.succeed(References.MinimumLogLevel, "Debug")]))
  })

  it.effect("that ends at once and without an event is followed by another after longer and longer", () =>
    Effect.gen(function*() {
      const { api, byHand, response } = yield* watching
      const atOnce: Answer = (_, response) => response.writeHead(200).end("\n")
      api.answer(...Array.from({ length: 30 }, () => atOnce), byHand)
      response.end()
      yield* passing(Effect.sleep("20 seconds"))
      // After 0.25 to 0.5 s, then twice as long each time: 6 or 7 by now, and the first one.
      assert.isAtMost(api.requests.length, 9)
      assert.isAtLeast(api.requests.length, 5)
    }).pipe(Effect.provide(environment())))

  it.effect("is not asked for all the time where each ends right after an event", () =>
    Effect.gen(function*() {
      const { api, response } = yield* watching
      let version = 2000
      const bookmark: Answer = (_, response) =>
        response.writeHead(200).end(event("BOOKMARK", { metadata: { resourceVersion: String(version++) } }))
      api.answer(...Array.from({ length: 500 }, () => bookmark))
      response.end()
      yield* passing(Effect.sleep("5 seconds"), "25 millis")
      // At most two in 250 ms.
      assert.isAtMost(api.requests.length, 42)
      const later = asked(api).slice(3)
      assert.deepStrictEqual(later, later.map((_, i) => `watch ${2000 + i}`))
    }).pipe(Effect.provide(environment())))

  it.effect("may take long to be opened again: until then the endpoints stay", () =>
    Effect.gen(function*() {
      const { api, byHand, first, resolver, response, write } = yield* watching
      let begin = () => {}
      api.answer((request, response) => {
        begin = () => byHand(request, response)
      })
      response.socket?.resetAndDestroy()
      yield* passing(api.received(3))
      yield* passing(Effect.sleep("20 seconds"), "1 second")
      assert.deepStrictEqual(yield* resolver.resolve(), first)
      begin()
      yield* write(event("ADDED", object("cart-b", 1002, ["10.0.0.2"])))
      assert.deepStrictEqual(addresses(yield* resolver.resolve(first.version)), ["10.0.0.1:7000", "10.0.0.2:7000"])
      assert.deepStrictEqual(asked(api), ["list", "watch 1001", "watch 1001"])
    }).pipe(Effect.provide(environment())))

  it.effect("passes over events of types that it does not know", () =>
    Effect.gen(function*() {
      const { api, first, resolver, write } = yield* watching
      yield* write(event("SYNCED", { anything: true }) + event("ADDED", object("cart-b", 1002, ["10.0.0.2"])))
      assert.deepStrictEqual(addresses(yield* resolver.resolve(first.version)), ["10.0.0.1:7000", "10.0.0.2:7000"])
      assert.strictEqual(api.requests.length, 2)
    }).pipe(Effect.provide(environment())))

  it.effect("lists again after an event that says that its version is too old", () =>
    Effect.gen(function*() {
      const { api, first, resolver, write } = yield* watching
      yield* write(event("ADDED", object("cart-b", 1002, ["10.0.0.2"])) + recorded("error-410.ndjson"))
      const seen = yield* resolver.resolve(first.version)
      assert.deepStrictEqual(addresses(seen), ["10.0.0.1:7000", "10.0.0.2:7000"])
      // What is listed now comes from the server.
      assert.deepStrictEqual(addresses(yield* passing(resolver.resolve(seen.version))), ["10.0.0.1:7000"])
      assert.deepStrictEqual(asked(api).slice(0, 3), ["list", "watch 1001", "list"])
    }).pipe(Effect.provide(environment())))

  it.effect("lists again after an event of another error, and says which", () =>
    Effect.gen(function*() {
      const { api, first, resolver, write } = yield* watching
      yield* write(recorded("error-500.ndjson"))
      assert.match(
        yield* failed(resolver, first.version),
        /^cannot watch the EndpointSlices .*: the watch ended with an error: 500 etcd event received with PrevKv=nil/
      )
      yield* passing(api.received(3))
      assert.deepStrictEqual(asked(api).slice(0, 3), ["list", "watch 1001", "list"])
    }).pipe(Effect.provide(environment())))

  it.effect("lists again after what it cannot read, and says what", () =>
    Effect.gen(function*() {
      const cases: ReadonlyArray<readonly [sent: string | Uint8Array, expected: RegExp]> = [
        ["<html>\n", /: an event of the watch is not JSON$/],
        [Uint8Array.of(0x22, 0xff, 0x22, 0x0a), /: an event of the watch is not UTF-8$/],
        ["[]\n", /an event of the watch cannot be read: /],
        [
          event("MODIFIED", { ...object("cart-a", 1002, []), endpoints: [{ addresses: "10.0.0.1" }] }),
          /the object of an event MODIFIED cannot be read: [^]*\["endpoints"\]\[0\]\["addresses"\]/
        ],
        [event("BOOKMARK", {}), /the object of an event BOOKMARK cannot be read: /]
      ]
      for (const [sent, expected] of cases) {
        const { api, first, resolver, write } = yield* watching
        yield* write(sent)
        assert.match(yield* failed(resolver, first.version), expected)
        yield* passing(api.received(3))
        assert.deepStrictEqual(asked(api).slice(0, 3), ["list", "watch 1001", "list"])
        assert.deepStrictEqual(addresses(yield* resolver.resolve()), ["10.0.0.1:7000"])
      }
    }).pipe(Effect.provide(environment())))

  it.effect("accepts a slice of a megabyte, and no event of more than eight", () =>
    Effect.gen(function*() {
      const { api, first, resolver, write } = yield* watching
      const hosts = Array.from({ length: 1000 }, (_, i) => `10.0.${Math.floor(i / 250)}.${i % 250}`)
      const large = object("cart-a", 1002, hosts, { deprecatedTopology: { padding: "x".repeat(1000) } })
      const line = event("MODIFIED", large)
      assert.isAbove(line.length, 1024 * 1024)
      yield* write(line)
      assert.strictEqual((yield* resolver.resolve(first.version)).endpoints.length, 1000)

      const { version } = yield* resolver.resolve()
      const failing = yield* Effect.forkChild(failed(resolver, version), { startImmediately: true })
      const mebibyte = "x".repeat(1024 * 1024)
      for (let i = 0; i < 8; i++) yield* write(mebibyte)
      yield* Effect.forkChild(write("xx"))
      assert.match(yield* Fiber.join(failing), /an event of the watch has more than 8388608 bytes$/)
      yield* closed(api.requests[1]!.socket)
    }).pipe(Effect.provide(environment())))

  it.effect("from which nothing comes for 150 seconds is given up, and not one with bookmarks", () =>
    Effect.gen(function*() {
      const { api, byHand, resolver, write } = yield* watching
      for (let minute = 1; minute <= 5; minute++) {
        yield* write(event("BOOKMARK", { metadata: { resourceVersion: String(1001 + minute) } }))
        // It has been seen when what comes after it has: a slice that changes nothing else.
        const { version } = yield* resolver.resolve()
        yield* write(event("MODIFIED", object("cart-b", 1001 + minute, [`10.0.0.${10 + minute}`])))
        yield* resolver.resolve(version)
        yield* passing(Effect.sleep("60 seconds"), "10 seconds")
      }
      assert.strictEqual(api.requests.length, 2)
      api.answer(byHand)
      yield* passing(api.received(3), "1 second")
      assert.deepStrictEqual(asked(api), ["list", "watch 1001", "watch 1006"])
      yield* closed(api.requests[1]!.socket)
    }).pipe(Effect.provide(environment())))
})

describe("a list", () => {
  const listing = Effect.fnUntraced(function*(...answers: ReadonlyArray<Answer>) {
    const api = yield* makeKubernetesApi()
    api.put(slice("cart-a", [ready("10.0.0.1")]))
    api.answer(...answers)
    return { api, resolver: yield* followCart({ server: api.url }) }
  })

  const sending = (code: number, body: string): Answer => (_, response) => response.writeHead(code).end(body)

  it.effect("that cannot be read is an error that says what, and is asked for again", () =>
    Effect.gen(function*() {
      const cases: ReadonlyArray<readonly [answer: Answer, expected: RegExp]> = [
        [sending(200, "<html>"), /: the list cannot be read: /],
        [sending(200, "{\"items\":[]}"), /: the list cannot be read: [^]*\["metadata"\]/],
        [sending(502, "  upstream has gone  "), /: 502 Bad Gateway: upstream has gone$/],
        [sending(302, ""), /: 302 Found$/],
        [
          sending(404, "404 page not found"),
          /: 404 Not Found: 404 page not found; discovery.k8s.io\/v1 exists since/
        ],
        [(_, response) => sendJson(response, 500, status(500, "etcd is gone")), /: 500 .*: etcd is gone$/],
        [
          (_, response) => {
            response.writeHead(200, { "content-length": "100" }).write("{\"items\":")
            setImmediate(() => response.destroy())
          },
          /: the connection was lost: aborted$/
        ],
        [(request) => request.socket.destroy(), /: socket hang up$/]
      ]
      for (const [answer, expected] of cases) {
        const { api, resolver } = yield* listing(answer)
        const error = yield* Effect.flip(resolver.resolve())
        assert.match(
          error.message,
          /^cannot list the EndpointSlices of the Service cart in the namespace shop \(GET http:/
        )
        assert.match(error.message, expected)
        yield* passing(api.watched)
        assert.deepStrictEqual(addresses(yield* resolver.resolve()), ["10.0.0.1:7000"])
      }
    }).pipe(Effect.provide(environment())))

  it.effect("is asked for no sooner than a server that is busy says", () =>
    Effect.gen(function*() {
      const busy: Answer = (_, response) =>
        response.writeHead(429, { "retry-after": "4" }).end(recorded("status-429.json"))
      const { api, resolver } = yield* listing(busy)
      const error = yield* Effect.flip(resolver.resolve())
      assert.match(error.message, /: 429 Too Many Requests: too many requests, please try again later$/)
      yield* passing(Effect.sleep("3 seconds"))
      assert.strictEqual(api.requests.length, 1)
      yield* passing(api.received(2))
    }).pipe(Effect.provide(environment())))
})
