/**
 * What a client may call by who it has proved to be, where clients try for more.
 */
import { describe, it } from "@effect/vitest"
import { Effect, Logger } from "effect"
import { Connection, Endpoint, HandlerMap, Listener, MethodKey, Resolver, Server } from "effect-call"
import * as assert from "node:assert/strict"
import { type IdentityOptions, makeAuthority } from "../../examples/support/certificates.ts"
import { bytesOf, textOf } from "../support/networks.ts"

const quiet = Effect.provide(Logger.layer([]))
const setUp = Effect.runSync(Effect.cached(Effect.all({
  authority: makeAuthority(),
  foreign: makeAuthority("Foreign CA")
})))

const serve = Effect.fnUntraced(function*(handlers: Listener.Handlers) {
  const { authority } = yield* setUp
  const listener = yield* Listener.mtls(
    { ca: authority.ca, ...yield* authority.server() },
    yield* Listener.tcp("127.0.0.1:0", handlers)
  )
  yield* Effect.forkScoped(Server.serve(listener, { shutdownGrace: 0 }))
  return yield* Endpoint.parse(listener.address)
})

const connectAs = Effect.fnUntraced(function*(
  identity: IdentityOptions,
  endpoint: Endpoint.Endpoint,
  of: "authority" | "foreign" = "authority"
) {
  const { authority, [of]: signs } = yield* setUp
  const tls = { ca: authority.ca, servername: "localhost", ...yield* signs.client(identity) }
  return yield* Connection.make(Resolver.constant(Endpoint.mtls(tls, endpoint)))
})

const orders = MethodKey.make("shop/Orders", "list")
const stop = MethodKey.make("shop/Admin", "stop")

describe("a client that has proved who it is", () => {
  /** The admin may stop, others may list orders. */
  const shop = Effect.gen(function*() {
    const executed = { list: 0, stop: 0 }
    const count = (name: keyof typeof executed) => () =>
      Effect.sync(() => {
        executed[name]++
        return new Uint8Array()
      })
    const forAll = HandlerMap.set(HandlerMap.empty, "shop/Orders", "list", count("list"))
    const forAdmin = HandlerMap.set(forAll, "shop/Admin", "stop", count("stop"))
    const endpoint = yield* serve(({ certificate }) => certificate?.subject.CN === "admin" ? forAdmin : forAll)
    return { endpoint, executed }
  })

  it.live("may call one component, and another is an unknown method to it, of which nothing is executed", () =>
    Effect.gen(function*() {
      const { endpoint, executed } = yield* shop
      const clerk = yield* connectAs({ commonName: "clerk" }, endpoint)
      for (let i = 0; i < 10; i++) {
        const error = yield* Effect.flip(clerk.call(stop, new Uint8Array()))
        assert.ok(error._tag === "RemoteError" && error.isUnknownMethod, error.message)
        yield* clerk.call(orders, new Uint8Array())
      }
      assert.deepEqual(executed, { list: 10, stop: 0 })
      // The method is there, for whom it is meant.
      const admin = yield* connectAs({ commonName: "admin" }, endpoint)
      yield* admin.call(stop, new Uint8Array())
      assert.deepEqual(executed, { list: 10, stop: 1 })
    }).pipe(Effect.scoped, quiet))

  it.live.each<IdentityOptions>([
    { commonName: "Admin" },
    { commonName: "admin " },
    { commonName: " admin" },
    { commonName: "admin\0" },
    { commonName: "admin\0.example" },
    { commonName: "admin\n" },
    { commonName: "CN=admin" },
    { commonName: "clerk\nCN=admin" },
    { commonName: "clerk, CN=admin" },
    { commonName: "\u0430dmin" },
    { commonName: "ad\u200Bmin" },
    { commonName: ["clerk", "admin"] },
    { commonName: ["admin", "clerk"] },
    { commonName: ["admin", "admin"] },
    { commonName: "clerk", names: [{ type: "dns", value: "admin" }] }
  ])("is not the admin with a name that only looks like it: %j", (identity) =>
    Effect.gen(function*() {
      const { endpoint, executed } = yield* shop
      const clerk = yield* connectAs(identity, endpoint)
      const error = yield* Effect.flip(clerk.call(stop, new Uint8Array()))
      assert.ok(error._tag === "RemoteError" && error.isUnknownMethod, error.message)
      yield* clerk.call(orders, new Uint8Array())
      assert.deepEqual(executed, { list: 1, stop: 0 })
    }).pipe(Effect.scoped, quiet))

  it.live("is not let in with the admin's name from another authority", () =>
    Effect.gen(function*() {
      const { endpoint, executed } = yield* shop
      const stranger = yield* connectAs({ commonName: "admin" }, endpoint, "foreign")
      const error = yield* Effect.flip(stranger.call(stop, new Uint8Array()))
      assert.equal(error._tag, "Unreachable")
      assert.deepEqual(executed, { list: 0, stop: 0 })
    }).pipe(Effect.scoped, quiet))

  it.live("is served under its own name, and no other, while many others are served", () =>
    Effect.gen(function*() {
      const names = Array.from({ length: 8 }, (_, i) => `client-${i}`)
      const component = (name: string) => `test/Of-${name}`
      // Each has a component of its own, which tells whose it is and what it was asked.
      const maps = new Map(names.map((name) => [
        name,
        HandlerMap.set(
          HandlerMap.empty,
          component(name),
          "get",
          (args) => Effect.as(Effect.yieldNow, bytesOf(`${name} ${textOf(args)}`))
        )
      ]))
      const endpoint = yield* serve(({ certificate }) =>
        maps.get(String(certificate?.subject.CN)) ?? assert.fail("no other client has a certificate")
      )
      yield* Effect.forEach(names, (name, i) =>
        Effect.gen(function*() {
          const connection = yield* connectAs({ commonName: name }, endpoint)
          const own = MethodKey.make(component(name), "get")
          const other = MethodKey.make(component(names[(i + 1) % names.length]!), "get")
          yield* Effect.forEach(Array.from({ length: 50 }, (_, call) => call), (call) =>
            Effect.gen(function*() {
              const answer = yield* connection.call(own, bytesOf(String(call)))
              assert.equal(textOf(answer), `${name} ${call}`)
              const error = yield* Effect.flip(connection.call(other, bytesOf(String(call))))
              assert.ok(error._tag === "RemoteError" && error.isUnknownMethod, error.message)
            }), { concurrency: 10, discard: true })
        }), { concurrency: "unbounded", discard: true })
    }).pipe(Effect.scoped, quiet))
})
