import { NodeFileSystem } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { ConfigProvider, Context, Effect, Exit, Layer, type PlatformError } from "effect"
import { Endpoint, Resolver } from "effect-call"
import { Dns, Host, NetAddress } from "effect/net"
import { mkdirSync, writeFileSync } from "node:fs"
import { createServer } from "node:net"
import { join } from "node:path"
import { temporaryDirectory } from "../support/networks.ts"
import { addresses } from "../support/resolve.ts"

const zone = Dns.layerStatic({
  hosts: { "host.internal": ["10.0.0.9"] },
  records: {
    "cart.internal": [
      Dns.makeRecordUnsafe("A", { address: NetAddress.ipFromStringUnsafe("10.0.0.1") as NetAddress.Ipv4Address })
    ],
    "_rpc._tcp.cart.internal": [
      Dns.makeRecordUnsafe("SRV", {
        target: Host.domainNameFromStringUnsafe("host.internal."),
        port: 7001,
        priority: 3,
        weight: 5
      })
    ]
  }
})

const services = Layer.merge(zone, NodeFileSystem.layer)

const parsed = (text: string) => Effect.flatMap(Resolver.parse(text), (resolver) => resolver.resolve())

describe("parse", () => {
  it.effect("reads lists of addresses", () =>
    Effect.gen(function*() {
      const expected: ReadonlyArray<readonly [string, ReadonlyArray<string>]> = [
        ["tcp://a:1", ["tcp://a:1"]],
        ["tcp://a:1,b:2, [::1]:http", ["tcp://a:1", "tcp://b:2", "tcp://[::1]:http"]],
        ["tcp4://127.0.0.1:1", ["tcp4://127.0.0.1:1"]],
        ["tcp6://[::1]:1", ["tcp6://[::1]:1"]],
        ["unix:///run/a.sock,/run/b.sock,tcp://c:1", ["unix:///run/a.sock", "unix:///run/b.sock", "tcp://c:1"]]
      ]
      for (const [text, found] of expected) {
        const resolver = yield* Resolver.parse(text)
        assert.isTrue(resolver.isConstant)
        assert.deepStrictEqual(addresses(yield* resolver.resolve()), found)
      }
    }).pipe(Effect.provide(services)))

  it.effect("reads names in DNS and services in DNS", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(addresses(yield* parsed("dns://cart.internal:7000")), ["tcp://10.0.0.1:7000"])
      const { endpoints } = yield* parsed("dns+srv://_rpc._tcp.cart.internal")
      assert.deepStrictEqual(endpoints.map(({ address, priority, weight }) => [address, priority, weight]), [
        ["tcp://10.0.0.9:7001", 3, 5]
      ])
    }).pipe(Effect.provide(services)))

  it.effect("reads files and directories", () =>
    Effect.gen(function*() {
      const path = yield* temporaryDirectory
      const ready = join(path, "ready")
      const text = `file://${ready}?unix:///run/a.sock,tcp://b:1`
      assert.deepStrictEqual(addresses(yield* parsed(text)), [])
      writeFileSync(ready, "")
      assert.deepStrictEqual(addresses(yield* parsed(text)), ["unix:///run/a.sock", "tcp://b:1"])

      const sockets = join(path, "sockets")
      mkdirSync(sockets)
      yield* Effect.acquireRelease(
        Effect.callback<ReturnType<typeof createServer>>((resume) => {
          const server = createServer().listen(join(sockets, "a"), () => resume(Effect.succeed(server)))
        }),
        (server) => Effect.callback<void>((resume) => void server.close(() => resume(Effect.void)))
      )
      assert.deepStrictEqual(addresses(yield* parsed(`unixdir://${sockets}`)), [`unix://${join(sockets, "a")}`])
    }).pipe(Effect.provide(services)))

  it.effect("says what is wrong with a text", () =>
    Effect.gen(function*() {
      const expected: ReadonlyArray<readonly [string, string]> = [
        ["cart:7000", `"cart:7000" has no scheme: expected "scheme://address"`],
        [
          "nats://cart",
          `"nats" in "nats://cart" is not the scheme of a resolver: expected one of tcp, tcp4, tcp6, unix, dns, dns+srv, file, unixdir`
        ],
        ["tcp://a:1,b", `"b" has no port: expected "host:port"`],
        ["tcp://", `"" has no port: expected "host:port"`],
        ["unix://", "the path of the Unix socket is empty"],
        ["tcp://a:1,http://b:1", `"http" is not a network: expected tcp, tcp4, tcp6 or unix`],
        ["dns:///cart:7000", `"/cart" in "/cart:7000" is not a name (invalid domain name): expected "host:port"`],
        ["dns+srv://", `"" in "" is not a name`],
        ["k8s://cart", `"k8s://cart" is not the address of a Service: expected "k8s://namespace/service:port"`],
        ["k8s://shop/cart:0", `"0" in "k8s://shop/cart:0" is not a port`],
        ["unixdir://", "the path of the directory is empty"],
        ["file:///run/ready", `"/run/ready" does not name a file and endpoints: expected "path?network://address"`],
        ["file:///run/ready?", `"" has no port`]
      ]
      for (const [text, message] of expected) {
        const error = yield* Effect.flip(Resolver.parse(text))
        assert(error._tag === "InvalidResolver")
        assert.strictEqual(error.text, text)
        assert.include(error.message, message)
      }
    }).pipe(Effect.provide(services)))

  it.effect("makes a layer of a text", () =>
    Effect.gen(function*() {
      const resolver = yield* Resolver.Resolver
      assert.deepStrictEqual(addresses(yield* resolver.resolve()), ["tcp://10.0.0.1:7000"])
    }).pipe(
      Effect.provide(Resolver.layer(Resolver.parse("dns://cart.internal:7000")).pipe(Layer.provide(services)))
    ))
})

describe("layerSchemes", () => {
  class Registry extends Context.Service<Registry, { readonly addressOf: (name: string) => string }>()("Registry") {}

  const registry: Resolver.Scheme<Registry> = (name) =>
    Effect.map(Registry, ({ addressOf }) => Resolver.constant(Endpoint.tcp(addressOf(name))))

  it.effect("adds schemes, which have the services of the layer and the Scope of the caller", () =>
    Effect.gen(function*() {
      const log: Array<string> = []
      const scoped: Resolver.Scheme = (address) =>
        Effect.acquireRelease(
          Effect.as(Effect.sync(() => log.push("acquired")), Resolver.constant(Endpoint.tcp(address))),
          () => Effect.sync(() => log.push("released"))
        )
      const schemes = Resolver.layerSchemes({ registry, scoped }).pipe(
        Layer.provide(Layer.succeed(Registry, { addressOf: (name) => `${name}.internal:7000` }))
      )
      yield* Effect.gen(function*() {
        assert.deepStrictEqual(addresses(yield* parsed("registry://cart")), ["tcp://cart.internal:7000"])
        assert.deepStrictEqual(addresses(yield* parsed("tcp://a:1")), ["tcp://a:1"])
        yield* Effect.scoped(parsed("scoped://a:1"))
        assert.deepStrictEqual(log, ["acquired", "released"])
      }).pipe(Effect.provide(schemes))
      assert.include((yield* Effect.flip(Resolver.parse("registry://cart"))).message, "is not the scheme")
    }).pipe(Effect.provide(services)))

  it.effect("adds to the schemes of an outer layer, and replaces one that is there", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(addresses(yield* parsed("one://x")), ["tcp://one:1"])
      assert.deepStrictEqual(addresses(yield* parsed("dns://x")), ["tcp://other:1"])
    }).pipe(
      Effect.provide(
        Resolver.layerSchemes({ dns: () => Effect.succeed(Resolver.constant(Endpoint.tcp("other:1"))) }).pipe(
          Layer.provideMerge(
            Resolver.layerSchemes({ one: () => Effect.succeed(Resolver.constant(Endpoint.tcp("one:1"))) })
          )
        )
      ),
      Effect.provide(services)
    ))

  it.effect("names the text in the errors of a scheme, and refuses what is no scheme", () =>
    Effect.gen(function*() {
      const failing: Resolver.Scheme = (text) => Effect.fail(new Resolver.InvalidResolver({ message: "no", text }))
      const error = yield* Effect.flip(Resolver.parse("failing://x")).pipe(
        Effect.provide(Resolver.layerSchemes({ failing }))
      )
      assert(error._tag === "InvalidResolver")
      assert.deepStrictEqual([error.message, error.text], ["no", "failing://x"])
      const exit = yield* Effect.exit(Effect.provide(Effect.void, Resolver.layerSchemes({ "A b": failing })))
      assert.isTrue(Exit.isFailure(exit))
    }).pipe(Effect.provide(services)))
})

describe("a resolver that cannot be made though nothing is wrong with its text", () => {
  it.effect("is a ResolverError with its cause, and no InvalidResolver", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const cause = new Error("the line is cut")
      const away: Resolver.Scheme = () => Effect.fail(new Resolver.ResolverError({ message: "away", cause }))
      const failed = yield* Effect.flip(Effect.provide(Resolver.parse("away://x"), Resolver.layerSchemes({ away })))
      assert(failed._tag === "ResolverError")
      assert.deepStrictEqual([failed.message, failed.cause], ["away", cause])

      const open = (path: string) =>
        Effect.flip(Resolver.parse("k8s://shop/cart")).pipe(
          Effect.provide(ConfigProvider.layer(ConfigProvider.fromEnvRecord({ HOME: "/nonexistent", KUBECONFIG: path })))
        )
      const missing = yield* open(join(directory, "none"))
      assert.strictEqual(missing._tag, "ResolverError")
      assert.strictEqual(missing.message, `there is no kubeconfig file ${join(directory, "none")}`)
      const unreadable = yield* open(directory)
      assert(unreadable._tag === "ResolverError")
      assert.include(unreadable.message, `cannot read ${directory}: `)
      assert.strictEqual((unreadable.cause as PlatformError.PlatformError)._tag, "PlatformError")
    }).pipe(Effect.provide(services)))
})

describe("config", () => {
  it.effect("reads the text from the configuration", () =>
    Effect.gen(function*() {
      const provider = ConfigProvider.layer(ConfigProvider.fromUnknown({ CART: "tcp://a:1,b:2", BAD: "a:1" }))
      yield* Effect.gen(function*() {
        const resolver = yield* Resolver.config("CART")
        assert.deepStrictEqual(addresses(yield* resolver.resolve()), ["tcp://a:1", "tcp://b:2"])
        assert.strictEqual((yield* Effect.flip(Resolver.config("BAD")))._tag, "InvalidResolver")
        assert.strictEqual((yield* Effect.flip(Resolver.config("NONE")))._tag, "ConfigError")
      }).pipe(Effect.provide(provider))
    }).pipe(Effect.provide(services)))
})
