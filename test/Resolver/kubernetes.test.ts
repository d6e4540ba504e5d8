/**
 * `Resolver.kubernetes` with an API server on loopback.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Equal, Exit, Fiber, Scope } from "effect"
import { Connection, HandlerMap, Listener, MethodKey, Resolver, Server } from "effect-call"
import type * as http from "node:http"
import { type Answer, makeKubernetesApi, sendJson, status } from "../../examples/support/kubernetesApi.ts"
import { closed } from "../internal/net/sockets.ts"
import { makeLog } from "../support/log.ts"
import { addresses, environment, followCart, passing, ready, recorded, slice, unready } from "./kubernetesSupport.ts"

const setUp = Effect.fnUntraced(function*(options: Partial<Resolver.KubernetesOptions> = {}) {
  const api = yield* makeKubernetesApi()
  return { api, follow: followCart({ server: api.url }, {}, options) }
})

describe("a Service", () => {
  it.effect("has its pods as endpoints, with the zones of their nodes", () =>
    Effect.gen(function*() {
      const { api, follow } = yield* setUp()
      api.put(slice("cart-a", [ready("10.0.0.2", { zone: "eu-west-1b" }), ready("10.0.0.1", { zone: "eu-west-1a" })]))
      const resolver = yield* follow
      assert.isFalse(resolver.isConstant)
      assert.isUndefined(resolver.refresh)
      const resolution = yield* resolver.resolve()
      assert.deepStrictEqual(
        resolution.endpoints.map(({ address, zone }) => [address, zone]),
        [["tcp://10.0.0.1:7000", "eu-west-1a"], ["tcp://10.0.0.2:7000", "eu-west-1b"]]
      )
      assert.isTrue(Equal.equals((yield* resolver.resolve()).version, resolution.version))
    }).pipe(Effect.provide(environment())))

  it.effect("has those pods that are for the zone of the client, by the hints of the cluster", () =>
    Effect.gen(function*() {
      const { api, follow } = yield* setUp({ zone: "eu-west-1b" })
      const hinted = (address: string, zone: string) => ready(address, { zone, hints: { forZones: [{ name: zone }] } })
      api.put(slice("cart-a", [hinted("10.0.0.1", "eu-west-1a"), hinted("10.0.0.2", "eu-west-1b")]))
      const { endpoints } = yield* (yield* follow).resolve()
      assert.deepStrictEqual(endpoints.map(({ address }) => address), ["tcp://10.0.0.2:7000"])
    }).pipe(Effect.provide(environment())))

  it.effect("asks for the slices of this Service only, and by the versions and bounds of the API", () =>
    Effect.gen(function*() {
      const { api, follow } = yield* setUp()
      api.put(slice("cart-a", []))
      yield* follow
      yield* api.watched
      const [list, watch] = api.requests.map(({ query, verb }): Record<string, string> => ({
        verb,
        ...Object.fromEntries(query)
      }))
      assert.deepStrictEqual(list, { verb: "list", labelSelector: "kubernetes.io/service-name=cart", limit: "100" })
      const { timeoutSeconds, ...others } = watch ?? {}
      assert.deepStrictEqual(others, {
        verb: "watch",
        labelSelector: "kubernetes.io/service-name=cart",
        watch: "true",
        allowWatchBookmarks: "true",
        resourceVersion: "1001"
      })
      assert.isTrue(Number(timeoutSeconds) >= 300 && Number(timeoutSeconds) <= 600)
    }).pipe(Effect.provide(environment())))

  it.effect("has new endpoints as soon as a slice is there, has changed or has gone", () =>
    Effect.gen(function*() {
      const { api, follow } = yield* setUp()
      const resolver = yield* follow
      const none = yield* resolver.resolve()
      assert.deepStrictEqual(addresses(none), [])
      yield* api.watched

      const steps: ReadonlyArray<readonly [change: () => void, expected: ReadonlyArray<string>]> = [
        [() => api.put(slice("cart-a", [ready("10.0.0.1")])), ["10.0.0.1:7000"]],
        [() => api.put(slice("cart-b", [ready("10.0.0.2")])), ["10.0.0.1:7000", "10.0.0.2:7000"]],
        [() => api.put(slice("cart-a", [ready("10.0.0.3")])), ["10.0.0.2:7000", "10.0.0.3:7000"]],
        [() => api.remove("cart-b"), ["10.0.0.3:7000"]],
        [() => api.remove("cart-a"), []]
      ]
      let seen = none
      for (const [change, expected] of steps) {
        const next = yield* Effect.forkChild(resolver.resolve(seen.version), { startImmediately: true })
        change()
        seen = yield* Fiber.join(next)
        assert.deepStrictEqual(addresses(seen), expected)
      }
      assert.strictEqual(api.requests.length, 2)
    }).pipe(Effect.provide(environment())))

  it.effect("gives the same version for as long as its endpoints are the same", () =>
    Effect.gen(function*() {
      const { api, follow } = yield* setUp()
      api.put(slice("cart-a", [ready("10.0.0.1")]))
      const resolver = yield* follow
      const first = yield* resolver.resolve()
      yield* api.watched
      const next = yield* Effect.forkChild(resolver.resolve(first.version), { startImmediately: true })
      api.put(slice("cart-a", [ready("10.0.0.1")], { annotation: "other" }))
      api.bookmark()
      api.put(slice("cart-b", null, { ports: null }))
      api.put(slice("cart-c", [ready("10.0.0.2")]))
      assert.deepStrictEqual(addresses(yield* Fiber.join(next)), ["10.0.0.1:7000", "10.0.0.2:7000"])
    }).pipe(Effect.provide(environment())))

  it.effect("answers all callers that wait, and at once a caller with an older version", () =>
    Effect.gen(function*() {
      const { api, follow } = yield* setUp()
      api.put(slice("cart-a", [ready("10.0.0.1")]))
      const resolver = yield* follow
      const first = yield* resolver.resolve()
      yield* api.watched
      const waiting = yield* Effect.forEach([1, 2, 3], () =>
        Effect.forkChild(resolver.resolve(first.version), { startImmediately: true }))
      api.put(slice("cart-a", [ready("10.0.0.2")]))
      for (const fiber of waiting) {
        assert.deepStrictEqual(addresses(yield* Fiber.join(fiber)), ["10.0.0.2:7000"])
      }
      assert.deepStrictEqual(addresses(yield* resolver.resolve(first.version)), ["10.0.0.2:7000"])
      assert.deepStrictEqual(addresses(yield* resolver.resolve(Resolver.version("other"))), ["10.0.0.2:7000"])
    }).pipe(Effect.provide(environment())))

  it.effect("may not be there yet, which is warned of once", () => {
    const log = makeLog()
    return Effect.gen(function*() {
      const { api, follow } = yield* setUp()
      const resolver = yield* follow
      const none = yield* resolver.resolve()
      assert.deepStrictEqual(addresses(none), [])
      yield* api.watched
      api.put(slice("cart-a", [ready("10.0.0.1")]))
      assert.deepStrictEqual(addresses(yield* resolver.resolve(none.version)), ["10.0.0.1:7000"])
      assert.deepStrictEqual(
        log.lines.map(({ annotations, level, message }) => [level, message, annotations]),
        [["Warn", "the Service has no EndpointSlices: it may not exist yet, or have another name", {
          service: "cart",
          namespace: "shop"
        }]]
      )
    }).pipe(Effect.provide([environment(), log.layer]))
  })

  it.effect("may have more slices than fit into a page", () =>
    Effect.gen(function*() {
      const { api, follow } = yield* setUp()
      for (let i = 0; i < 205; i++) api.put(slice(`cart-${i}`, [ready(`10.0.0.${i}`)]))
      const resolver = yield* follow
      assert.strictEqual((yield* resolver.resolve()).endpoints.length, 205)
      yield* api.watched
      assert.deepStrictEqual(
        api.requests.map(({ query, verb }) => [verb, query.get("continue") ?? query.get("resourceVersion")]),
        [["list", null], ["list", "1205/100"], ["list", "1205/200"], ["watch", "1205"]]
      )
    }).pipe(Effect.provide(environment())))

  it.effect("is listed from the beginning where its next page is too old", () =>
    Effect.gen(function*() {
      const { api, follow } = yield* setUp()
      for (let i = 0; i < 101; i++) api.put(slice(`cart-${i}`, [ready(`10.0.0.${i}`)]))
      const tooOld: Answer = (_, response) => sendJson(response, 410, JSON.parse(recorded("status-410.json")))
      const firstPage: Answer = (_, response) =>
        sendJson(response, 200, { metadata: { resourceVersion: "7", continue: "more" }, items: [] })
      api.answer(firstPage, tooOld)
      const resolver = yield* follow
      assert.strictEqual((yield* resolver.resolve()).endpoints.length, 101)
      assert.deepStrictEqual(api.requests.slice(0, 3).map(({ query }) => query.get("continue")), [null, "more", null])
    }).pipe(Effect.provide(environment())))

  it.effect("is followed through a rollout, as a cluster has sent it", () =>
    Effect.gen(function*() {
      const { api, follow } = yield* setUp()
      let watch: http.ServerResponse | undefined
      api.answer(
        (_, response) => sendJson(response, 200, JSON.parse(recorded("list.json"))),
        (request, response) => {
          assert.strictEqual(request.query.get("resourceVersion"), "48120")
          response.writeHead(200).flushHeaders()
          watch = response
        }
      )
      const resolver = yield* follow
      let seen = yield* resolver.resolve()
      const [a, b, c, d] = ["10.42.1.17:7000", "10.42.2.9:7000", "10.42.3.31:7000", "10.42.1.18:7000"] as const
      assert.deepStrictEqual(addresses(seen), [a, b])
      yield* api.received(2)
      // What there is after each line, where it is something else than before.
      const expected = [undefined, [a, b, c], [b, c], undefined, undefined, undefined, [d, b, c], [d, c], undefined]
      const lines = recorded("rolling.ndjson").trimEnd().split("\n")
      for (const [index, line] of lines.entries()) {
        watch?.write(`${line}\n`)
        const set = expected[index]
        if (set === undefined) continue
        seen = yield* resolver.resolve(seen.version)
        assert.deepStrictEqual(addresses(seen), set)
      }
      // It goes on from the last bookmark.
      watch?.end()
      yield* passing(api.received(3))
      assert.strictEqual(api.requests[2]?.query.get("resourceVersion"), "48230")
    }).pipe(Effect.provide(environment())))

  it.effect("has a problem where slices of it are left out, which changes without a new version", () =>
    Effect.gen(function*() {
      const { api, follow } = yield* setUp()
      api.put(slice("cart-a", [ready("10.0.0.1")]))
      const resolver = yield* follow
      const first = yield* resolver.resolve()
      assert.isUndefined(first.problem)
      yield* api.watched
      const waiting = yield* Effect.forkChild(resolver.resolve(first.version), { startImmediately: true })
      api.put(slice("cart-b", [ready("cart.example")], { addressType: "FQDN" }))
      const second = yield* Fiber.join(waiting)
      assert.strictEqual(
        second.problem,
        "endpoints of the Service cart in the namespace shop are left out: " +
          "the EndpointSlice \"cart-b\" has addresses of the type \"FQDN\": expected IPv4 or IPv6"
      )
      assert.isTrue(Equal.equals(second.version, first.version))
      const next = yield* Effect.forkChild(resolver.resolve(second.version), { startImmediately: true })
      api.remove("cart-b")
      assert.isUndefined((yield* Fiber.join(next)).problem)
    }).pipe(Effect.provide(environment())))

  it.effect("whose port cannot be told is an error, until it can be", () => {
    const log = makeLog()
    return Effect.gen(function*() {
      const { api, follow } = yield* setUp({ port: "grpc" })
      api.put(slice("cart-a", [ready("10.0.0.1")]))
      const resolver = yield* follow
      const error = yield* Effect.flip(resolver.resolve())
      assert.strictEqual(error._tag, "ResolverError")
      assert.strictEqual(
        error.message,
        "no endpoint can be used: the EndpointSlice \"cart-a\" has no TCP port named \"grpc\": it has \"calls\" (7000)"
      )
      yield* api.watched
      api.put(slice("cart-b", [ready("10.0.0.2")], { ports: [{ name: "grpc", port: 8000 }] }))
      const resolution = yield* Effect.eventually(resolver.resolve())
      assert.deepStrictEqual(addresses(resolution), ["10.0.0.2:8000"])
      assert.deepStrictEqual(log.lines.map(({ level }) => level), ["Warn"])
    }).pipe(Effect.provide([environment(), log.layer]))
  })

  it.effect("whose port cannot be told is that error again after the API was away", () =>
    Effect.gen(function*() {
      const { api, follow } = yield* setUp({ port: "grpc" })
      api.put(slice("cart-a", [ready("10.0.0.1")]))
      const resolver = yield* follow
      const message = Effect.map(Effect.flip(resolver.resolve()), (error) => error.message)
      assert.match(yield* message, /^no endpoint can be used/)
      yield* api.watched
      api.answer((request) => request.socket.resetAndDestroy())
      api.cut()
      yield* passing(Effect.repeat(message, { until: (text) => text.startsWith("cannot watch") }))
      yield* passing(api.watched)
      yield* passing(Effect.repeat(message, { until: (text) => text.startsWith("no endpoint can be used") }))
    }).pipe(Effect.provide(environment())))
})

describe("the resolver", () => {
  it.effect("refuses invalid options, and names them", () =>
    Effect.gen(function*() {
      const defect = (options: object) =>
        Effect.sandbox(Resolver.kubernetes({ service: "cart", ...options })).pipe(
          Effect.flip,
          Effect.map((cause) => String(cause.reasons[0]))
        )
      assert.match(
        yield* defect({ service: "Cart" }),
        /RangeError: option service: expected the name of a Service, of at most 63 lower-case letters, .*, got Cart/
      )
      assert.match(yield* defect({ service: "a/../b" }), /option service/)
      assert.match(yield* defect({ namespace: "" }), /option namespace/)
      assert.match(yield* defect({ port: 0 }), /option port: .*or a number from 1 to 65535, got 0/)
      assert.match(yield* defect({ port: "a b" }), /option port/)
      assert.match(yield* defect({ zone: "" }), /option zone: expected the name of a zone/)
    }).pipe(Effect.scoped, Effect.provide(environment())))

  it.effect("closes its watch with the Scope, and says that it is closed", () =>
    Effect.gen(function*() {
      const { api, follow } = yield* setUp()
      const scope = yield* Scope.make()
      const resolver = yield* Scope.provide(follow, scope)
      const { version } = yield* resolver.resolve()
      yield* api.watched
      const waiting = yield* Effect.forkChild(Effect.flip(resolver.resolve(version)), { startImmediately: true })
      const socket = api.requests[1]!.socket
      yield* Scope.close(scope, Exit.void)
      yield* closed(socket)
      const expected = "the resolver of the Service cart in the namespace shop has been closed"
      assert.strictEqual((yield* Fiber.join(waiting)).message, expected)
      assert.strictEqual((yield* Effect.flip(resolver.resolve())).message, expected)
    }).pipe(Effect.provide(environment())))

  it.effect("drops a request without an answer with the Scope, too", () =>
    Effect.gen(function*() {
      const { api, follow } = yield* setUp()
      api.answer(() => {})
      const scope = yield* Scope.make()
      yield* Scope.provide(follow, scope)
      yield* api.received(1)
      yield* Scope.close(scope, Exit.void)
      yield* closed(api.requests[0]!.socket)
    }).pipe(Effect.provide(environment())))

  it.effect("keeps its endpoints while the API cannot be reached, and fails the calls that wait", () =>
    Effect.gen(function*() {
      const { api, follow } = yield* setUp()
      api.put(slice("cart-a", [ready("10.0.0.1")]))
      const resolver = yield* follow
      const { version } = yield* resolver.resolve()
      yield* api.watched
      const lost: Answer = (request) => request.socket.resetAndDestroy()
      api.answer(lost, lost)
      api.cut()
      const waiting = yield* Effect.forkChild(Effect.flip(resolver.resolve(version)), { startImmediately: true })
      const error = yield* passing(Fiber.join(waiting))
      assert.match(
        error.message,
        /^cannot watch the EndpointSlices of the Service cart in the namespace shop \(GET http:\/\/127\.0\.0\.1:\d+\/apis\/discovery\.k8s\.io\/v1\/namespaces\/shop\/endpointslices\): (socket hang up|read ECONNRESET)$/
      )
      assert.deepStrictEqual(addresses(yield* resolver.resolve()), ["10.0.0.1:7000"])
      // Back again: the calls that wait hear of that, without a new version.
      const again = yield* Effect.forkChild(
        Effect.retry(resolver.resolve(version), { times: 5 }),
        { startImmediately: true }
      )
      assert.isTrue(Equal.equals((yield* passing(Fiber.join(again))).version, version))
    }).pipe(Effect.provide(environment())))

  it.effect("hears of what has happened while it was cut off", () =>
    Effect.gen(function*() {
      const { api, follow } = yield* setUp()
      api.put(slice("cart-a", [ready("10.0.0.1")]))
      api.put(slice("cart-b", [ready("10.0.0.2")]))
      const resolver = yield* follow
      const { version } = yield* resolver.resolve()
      yield* api.watched
      api.cut()
      api.remove("cart-a")
      api.put(slice("cart-c", [ready("10.0.0.3")]))
      assert.deepStrictEqual(addresses(yield* passing(resolver.resolve(version))), ["10.0.0.2:7000", "10.0.0.3:7000"])
      assert.deepStrictEqual(api.requests.map(({ verb }) => verb), ["list", "watch", "watch"])
    }).pipe(Effect.provide(environment())))

  it.effect("lists again where the server has forgotten what happened meanwhile", () =>
    Effect.gen(function*() {
      const { api, follow } = yield* setUp()
      api.put(slice("cart-a", [ready("10.0.0.1")]))
      api.put(slice("cart-b", [ready("10.0.0.2")]))
      const resolver = yield* follow
      const { version } = yield* resolver.resolve()
      yield* api.watched
      api.end()
      api.remove("cart-a")
      api.compact()
      assert.deepStrictEqual(addresses(yield* passing(resolver.resolve(version))), ["10.0.0.2:7000"])
      const verbs = api.requests.map(({ verb }) => verb)
      assert.deepStrictEqual(verbs.slice(0, 4), ["list", "watch", "watch", "list"])
    }).pipe(Effect.provide(environment())))

  it.effect("waits for no answer longer than 30 seconds", () =>
    Effect.gen(function*() {
      const { api, follow } = yield* setUp()
      api.answer(() => {})
      const resolver = yield* follow
      yield* api.received(1)
      const error = yield* passing(Effect.flip(resolver.resolve()), "5 seconds")
      assert.match(error.message, /^cannot list the EndpointSlices .*: no answer within 30 seconds$/)
      yield* closed(api.requests[0]!.socket)
      // What has been tried is known to who comes later; the next attempt clears it.
      assert.strictEqual((yield* Effect.flip(resolver.resolve())).message, error.message)
      yield* passing(api.watched)
      assert.deepStrictEqual(addresses(yield* resolver.resolve()), [])
    }).pipe(Effect.provide(environment())))
})

describe("a Connection", () => {
  const name = MethodKey.make("test/Cart", "name")

  /** A server on an address of its own: on loopback all of 127.0.0.0/8 is this host. */
  const replica = Effect.fnUntraced(function*(host: string, port: number) {
    const handlers = HandlerMap.empty.pipe(
      HandlerMap.set("test/Cart", "name", () => Effect.succeed(new TextEncoder().encode(host)))
    )
    const listener = yield* Listener.tcp(`${host}:${port}`, handlers)
    yield* Effect.forkScoped(Server.serve(listener))
    return Number(listener.address.split(":").at(-1))
  })

  it.live("calls the pods that are ready, as they come and go, without a call that fails", () =>
    Effect.gen(function*() {
      const { api, follow } = yield* setUp()
      const port = yield* replica("127.0.0.2", 0)
      yield* replica("127.0.0.3", port)
      const ports = [{ name: "calls", port }]
      const cart = (...hosts: ReadonlyArray<string>) => slice("cart-a", hosts.map((host) => ready(host)), { ports })
      api.put(cart("127.0.0.2"))

      const connection = yield* Connection.make(yield* follow)
      const ask = Effect.map(
        connection.call(name, new Uint8Array(), { timeout: "5 seconds" }),
        (answer) => new TextDecoder().decode(answer)
      )
      const until = (host: string) => Effect.repeat(ask, { until: (answer) => answer === host })
      const asked = (times: number) => Effect.map(Effect.replicateEffect(ask, times), (answers) => new Set(answers))
      assert.deepStrictEqual(yield* asked(4), new Set(["127.0.0.2"]))

      yield* api.watched
      api.put(cart("127.0.0.2", "127.0.0.3"))
      yield* until("127.0.0.3")
      assert.deepStrictEqual(yield* asked(4), new Set(["127.0.0.2", "127.0.0.3"]))

      // The first one terminates: it still answers, and gets no more calls.
      api.put(slice("cart-a", [
        { addresses: ["127.0.0.2"], conditions: { ready: false, serving: true, terminating: true } },
        ready("127.0.0.3")
      ], { ports }))
      yield* Effect.repeat(connection.state, {
        until: ({ endpoints }) => endpoints.every(({ address }) => address.includes("127.0.0.3"))
      })
      assert.deepStrictEqual(yield* asked(4), new Set(["127.0.0.3"]))
    }).pipe(Effect.provide(environment())))

  it.effect("says in the errors of its calls why there are no pods, and what is wrong with the API until it is well", () =>
    Effect.gen(function*() {
      const { api, follow } = yield* setUp()
      const connection = yield* Connection.make(yield* follow)
      const message = Effect.map(Effect.flip(connection.call(name, new Uint8Array())), ({ message }) => message)
      const until = (pattern: RegExp) => passing(Effect.repeat(message, { until: (text) => pattern.test(text) }))
      const cart = "no endpoints: the Service cart in the namespace shop"
      assert.strictEqual(yield* message, `${cart} has no EndpointSlices: it may not exist, or have another name`)
      yield* api.watched
      api.put(slice("cart-a", []))
      yield* until(/ has no pods$/)
      api.put(slice("cart-a", [unready("10.0.0.1"), unready("10.0.0.2")]))
      yield* until(/ has no pod that is ready, of 2$/)

      const lost: Answer = (request) => request.socket.resetAndDestroy()
      api.answer(lost, lost)
      api.cut()
      yield* until(/ of 2; the resolver failed: cannot watch the EndpointSlices of the Service cart/)
      yield* until(/ of 2$/)
    }).pipe(Effect.provide(environment())))

  it.effect("fails to be made where the API refuses", () =>
    Effect.gen(function*() {
      const { api, follow } = yield* setUp()
      api.answer((_, response) => sendJson(response, 503, status(503, "the server is currently unable")))
      const error = yield* Effect.flip(Connection.make(yield* follow))
      assert.strictEqual(error._tag, "ResolverError")
      assert.match(error.message, /: 503 Service Unavailable: the server is currently unable$/)
    }).pipe(Effect.provide(environment())))
})
