/**
 * The configuration names the resolver, so the same program finds its replicas in different ways. It also knows a
 * scheme of its own, `region://`.
 *
 * Run it with `npx node examples/discovery/config.ts`.
 */
import { NodeFileSystem, NodeRuntime } from "@effect/platform-node"
import { ConfigProvider, Console, Effect, Layer } from "effect"
import { Endpoint, Resolver } from "effect-call"
import * as assert from "node:assert/strict"

// ---- The program. It reads the variable CART.

const regions = new Map([["eu", ["10.1.0.1:7000", "10.1.0.2:7000"]], ["us", ["10.2.0.1:7000"]]])

const region: Resolver.Scheme = (name) => {
  const addresses = regions.get(name)
  return addresses === undefined
    ? Effect.fail(new Resolver.InvalidResolver({ message: `"${name}" is not a region: expected eu or us`, text: name }))
    : Effect.succeed(Resolver.constant(...addresses.map((address) => Endpoint.tcp(address))))
}

const Replicas = Resolver.layer(Resolver.config("CART")).pipe(
  Layer.provide([Resolver.layerDns(), NodeFileSystem.layer, Resolver.layerSchemes({ region })])
)

// ---- The demonstration. A `ConfigProvider` stands for the environment of the process.

const addressesWith = (text: string) =>
  Effect.gen(function*() {
    const resolver = yield* Resolver.Resolver
    const { endpoints } = yield* resolver.resolve()
    return endpoints.map(({ address }) => address).join(" ")
  }).pipe(
    Effect.provide(Replicas.pipe(Layer.provide(ConfigProvider.layer(ConfigProvider.fromUnknown({ CART: text })))))
  )

const program = Effect.gen(function*() {
  for (
    const [text, expected] of [
      ["tcp://10.0.0.1:7000,10.0.0.2:7000", "tcp://10.0.0.1:7000 tcp://10.0.0.2:7000"],
      ["unix:///run/cart.sock", "unix:///run/cart.sock"],
      ["dns://127.0.0.1:7000", "tcp://127.0.0.1:7000"],
      ["region://eu", "tcp://10.1.0.1:7000 tcp://10.1.0.2:7000"]
    ] as const
  ) {
    const addresses = yield* addressesWith(text)
    yield* Console.log(`CART=${text}\n  ${addresses}`)
    assert.equal(addresses, expected)
  }

  for (const text of ["cart:7000", "tcp://cart", "consul://cart", "region://asia"]) {
    const error = yield* Effect.flip(addressesWith(text))
    yield* Console.log(`CART=${text}\n  ${error._tag}: ${error.message}`)
    assert.equal(error._tag, "InvalidResolver")
  }
})

program.pipe(Effect.timeout("20 seconds"), NodeRuntime.runMain)
