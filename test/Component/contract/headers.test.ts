/** Where a call's headers come from, and who sees them. */
import { it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { Headers } from "effect/http"
import { Rpc, RpcClient, RpcGroup, RpcMiddleware } from "effect/rpc"
import * as assert from "node:assert/strict"
import { eachHarness } from "./harnesses.ts"

class Seen extends RpcMiddleware.Service<Seen>()("Seen") {}
const group = RpcGroup.make(Rpc.make("Do")).middleware(Seen)

eachHarness((harness) => {
  /** A client, and the headers that its calls' handlers and middleware have seen. */
  const seeing = Effect.gen(function*() {
    const seen: Array<unknown> = []
    const see = (who: string, headers: Headers.Headers) => void seen.push([who, { ...headers }])
    const middleware = Layer.succeed(Seen, (effect, { headers }) => {
      see("middleware", headers)
      return effect
    })
    const handlers = group.toLayer({ Do: (_, { headers }) => Effect.sync(() => see("handler", headers)) })
    const context = yield* Layer.build(middleware)
    const client = yield* Effect.provideContext(harness.client(group, handlers), context)
    /** Both of them saw these headers, and no others. */
    const saw = (expected: Readonly<Record<string, string>>) => {
      assert.deepEqual(seen.splice(0), [["middleware", expected], ["handler", expected]])
    }
    return { client, saw }
  })

  it.effect("a call without headers has none", () =>
    Effect.gen(function*() {
      const { client, saw } = yield* seeing
      yield* client.Do()
      saw({})
      yield* client.Do(undefined, { headers: {} })
      saw({})
    }).pipe(Effect.scoped))

  it.effect("headers of a region are sent with every call in it, and those of an inner region come first", () =>
    Effect.gen(function*() {
      const { client, saw } = yield* seeing
      yield* client.Do().pipe(RpcClient.withHeaders({ a: "1" }))
      saw({ a: "1" })
      yield* client.Do().pipe(
        RpcClient.withHeaders({ a: "inner", b: "2" }),
        RpcClient.withHeaders({ a: "outer", c: "3" })
      )
      saw({ a: "inner", b: "2", c: "3" })
      yield* client.Do()
      saw({})
    }).pipe(Effect.scoped))

  it.effect("headers of the call itself come before the region's", () =>
    Effect.gen(function*() {
      const { client, saw } = yield* seeing
      yield* client.Do(undefined, { headers: { a: "call" } }).pipe(RpcClient.withHeaders({ a: "region", b: "2" }))
      saw({ a: "call", b: "2" })
    }).pipe(Effect.scoped))

  it.effect("their names are lower case, and their values any text", () =>
    Effect.gen(function*() {
      const { client, saw } = yield* seeing
      yield* client.Do(undefined, { headers: [["Authorization", "Bearer ü\n\"…\""], ["X-Empty", ""]] })
      saw({ authorization: "Bearer ü\n\"…\"", "x-empty": "" })
    }).pipe(Effect.scoped))

  it.effect("client middleware sees them, and may change them", () =>
    Effect.gen(function*() {
      const seen: Array<unknown> = []
      const client = Layer.mergeAll(
        RpcMiddleware.layerClient(Seen, ({ next, request }) => {
          seen.push({ ...request.headers })
          return next({ ...request, headers: Headers.set(request.headers, "A", "middleware") })
        })
      )
      const context = yield* Layer.build(client)
      const { client: called, saw } = yield* Effect.provideContext(seeing, context)
      yield* called.Do(undefined, { headers: { a: "call", b: "2" } })
      assert.deepEqual(seen, [{ a: "call", b: "2" }])
      saw({ a: "middleware", b: "2" })
      yield* called.Do()
      saw({ a: "middleware" })
    }).pipe(Effect.scoped))
})
