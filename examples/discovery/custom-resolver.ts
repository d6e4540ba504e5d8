/**
 * A custom resolver. Its endpoints come from a registry, an HTTP server that answers with a list of addresses.
 *
 * A Connection asks the resolver for the endpoints, and then repeatedly for newer ones.
 *
 * Run it with `npx node examples/discovery/custom-resolver.ts`.
 */
import { NodeHttpServer, NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Equal, Layer, Ref, Schedule, Schema, Stream } from "effect"
import { Connection, Endpoint, Resolver } from "effect-call"
import { HttpClient, HttpClientResponse, HttpRouter, HttpServerResponse } from "effect/http"
import * as assert from "node:assert/strict"
import { askOver, namesHandlers, serve } from "../support/names.ts"

/** Makes the resolver of a service that is listed in the registry. */
const registered = Effect.fnUntraced(function*(service: string) {
  const http = yield* HttpClient.HttpClient

  // The version identifies a set of endpoints. It can be any text that changes when the endpoints change.
  const current = http.get(`/services/${service}`).pipe(
    Effect.flatMap(HttpClientResponse.schemaBodyJson(Schema.Array(Schema.String))),
    Effect.flatMap(Effect.forEach((address) => Endpoint.parse(address))),
    Effect.map((endpoints): Resolver.Resolution => ({
      endpoints,
      version: Resolver.version(endpoints.map(({ address }) => address).join())
    })),
    // When the registry does not answer, the Connection keeps its endpoints, and asks again.
    Effect.mapError((cause) => new Resolver.ResolverError({ message: "the registry does not answer", cause }))
  )

  const resolver: Resolver.Resolver = {
    isConstant: false,
    // Without a version, return the current endpoints. With a version, wait until the current version is another one.
    resolve: (seen) =>
      seen === undefined ? current : Effect.repeat(current, {
        until: ({ version }) => !Equal.equals(version, seen),
        schedule: Schedule.spaced("20 millis")
      })
  }
  return resolver
})

// ---- The registry, and a client that uses it.

const program = Effect.gen(function*() {
  const members = yield* Ref.make<ReadonlyArray<string>>([])
  const Registry = HttpRouter.serve(
    HttpRouter.add("GET", "/services/names", Effect.flatMap(Ref.get(members), (list) => HttpServerResponse.json(list))),
    { disableListenLog: true, disableLogger: true }
  ).pipe(Layer.provideMerge(NodeHttpServer.layerTest))

  yield* Effect.gen(function*() {
    const connection = yield* Connection.make(yield* registered("names"))
    const join = Effect.fnUntraced(function*(name: string) {
      const address = yield* serve("127.0.0.1:0", yield* namesHandlers(name))
      yield* Ref.update(members, (list) => [...list, address])
    })

    yield* join("one")
    const first = yield* Connection.withOptions(askOver(connection, 1), { waitForReady: true, timeout: "5 seconds" })
    yield* Console.log(`one server is listed: ${first.join(", ")}`)
    assert.deepEqual(first, ["one"])

    yield* join("two")
    yield* connection.changes.pipe(Stream.filter(({ endpoints }) => endpoints.length === 2), Stream.runHead)
    const both = yield* askOver(connection, 4)
    yield* Console.log(`two are listed:       ${both.toSorted().join(", ")}`)
    assert.deepEqual(both.toSorted(), ["one", "one", "two", "two"])
    // The servers and the Connection stop before the registry.
  }).pipe(Effect.scoped, Effect.provide(Registry))
})

program.pipe(Effect.timeout("20 seconds"), NodeRuntime.runMain)
