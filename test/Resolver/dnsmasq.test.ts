import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Fiber, Option, Schedule } from "effect"
import { Connection, HandlerMap, Listener, MethodKey, Resolver, Server } from "effect-call"
import { Dns } from "effect/net"
import { hasDnsmasq, startDnsmasq } from "../../examples/support/dnsmasq.ts"
import { addresses, next, until } from "../support/resolve.ts"

const interval = { min: "50 millis", max: "1 minute" } as const

const isInstalled = Effect.runSync(hasDnsmasq)
if (!isInstalled) {
  // Not by the console, which is silent here.
  const line = "!".repeat(100)
  process.stderr.write(
    `\n${line}\n!! SKIPPED: all tests of resolvers against a real DNS server.\n`
      + `!! There is no dnsmasq: apt-get install dnsmasq-base\n${line}\n\n`
  )
}

describe.skipIf(!isInstalled)("against dnsmasq", () => {
  it.live("finds the A and AAAA records of a name, sorted, for as long as they are good", () =>
    Effect.gen(function*() {
      const server = yield* startDnsmasq({
        hosts: { "cart.internal": ["127.0.0.3", "::2", "127.0.0.2", "127.0.0.10"] },
        options: ["--local-ttl=17"]
      })
      yield* Effect.gen(function*() {
        const resolver = yield* Resolver.dns("cart.internal:7000", { interval })
        assert.deepStrictEqual(addresses(yield* resolver.resolve()), [
          "tcp://127.0.0.10:7000",
          "tcp://127.0.0.2:7000",
          "tcp://127.0.0.3:7000",
          "tcp://[::2]:7000"
        ])
        const timeToLive = yield* Resolver.DnsTimeToLive
        for (const type of ["A", "AAAA"] as const) {
          assert.deepStrictEqual(yield* timeToLive("Cart.Internal.", type), Option.some(Duration.seconds(17)))
        }
        assert.deepStrictEqual(yield* timeToLive("other.internal", "A"), Option.none())
      }).pipe(Effect.provide(Resolver.layerDns(server)))
    }))

  it.live("notices what comes and goes when the records' time is over", () =>
    Effect.gen(function*() {
      const server = yield* startDnsmasq({ hosts: { "cart.internal": ["127.0.0.2"] } })
      const resolver = yield* Resolver.dns("cart.internal:7000", { interval }).pipe(
        Effect.provide(Resolver.layerDns(server))
      )
      const first = yield* resolver.resolve()
      const waiting = yield* next(resolver, first)
      yield* server.setHosts({ "cart.internal": ["127.0.0.2", "127.0.0.3"] })
      const second = yield* Fiber.join(waiting)
      assert.deepStrictEqual(addresses(second), ["tcp://127.0.0.2:7000", "tcp://127.0.0.3:7000"])
      yield* server.setHosts({})
      assert.deepStrictEqual(addresses(yield* resolver.resolve(second.version)), [])
    }))

  it.live("asks at once when it is told that an endpoint was lost", () =>
    Effect.gen(function*() {
      const server = yield* startDnsmasq({ hosts: { "cart.internal": ["127.0.0.2"] }, options: ["--local-ttl=3600"] })
      const resolver = yield* Resolver.dns("cart.internal:7000", { interval }).pipe(
        Effect.provide(Resolver.layerDns(server))
      )
      const waiting = yield* next(resolver, yield* resolver.resolve())
      yield* server.setHosts({ "cart.internal": ["127.0.0.3"] })
      yield* resolver.refresh!
      assert.deepStrictEqual(addresses(yield* Fiber.join(waiting)), ["tcp://127.0.0.3:7000"])
    }))

  it.live("keeps the last addresses while the server is gone, and goes on when it is back", () =>
    Effect.gen(function*() {
      const server = yield* startDnsmasq({ hosts: { "cart.internal": ["127.0.0.2"] } })
      const resolver = yield* Resolver.dns("cart.internal:7000", { interval: { min: "50 millis", max: "50 millis" } })
        .pipe(Effect.provide(Resolver.layerDns({ ...server, timeout: "200 millis", tries: 1 })))
      const first = yield* resolver.resolve()
      yield* server.stop
      const error = yield* Effect.flip(resolver.resolve(first.version))
      assert.include(error.message, `the addresses of "cart.internal" cannot be looked up`)
      assert.strictEqual(yield* resolver.resolve(), first)
      yield* server.start({ hosts: { "cart.internal": ["127.0.0.4"] } })
      const later = yield* Effect.retry(resolver.resolve(first.version), {
        while: ({ _tag }) => _tag === "ResolverError"
      })
      assert.deepStrictEqual(addresses(later), ["tcp://127.0.0.4:7000"])
    }))

  it.live("finds the servers of SRV records, with their priorities and weights", () =>
    Effect.gen(function*() {
      const hosts = { "a.internal": ["127.0.0.2", "127.0.0.3"], "b.internal": ["127.0.0.4"], "c.internal": ["::1"] }
      const server = yield* startDnsmasq({
        hosts,
        options: [
          "--srv-host=_rpc._tcp.cart.internal,a.internal,7001,1,60",
          "--srv-host=_rpc._tcp.cart.internal,b.internal,7002,1,0",
          "--srv-host=_rpc._tcp.cart.internal,c.internal,7003,2,0"
        ]
      })
      const resolver = yield* Resolver.dnsSrv("_rpc._tcp.cart.internal", { interval }).pipe(
        Effect.provide(Resolver.layerDns(server))
      )
      const first = yield* resolver.resolve()
      assert.deepStrictEqual(
        first.endpoints.map(({ address, priority, weight }) => ({ address, priority, weight })),
        [
          { address: "tcp://127.0.0.2:7001", priority: 1, weight: 30 },
          { address: "tcp://127.0.0.3:7001", priority: 1, weight: 30 },
          { address: "tcp://127.0.0.4:7002", priority: 1, weight: 0.1 },
          { address: "tcp://[::1]:7003", priority: 2, weight: 1 }
        ]
      )
      yield* server.stop
      yield* server.start({ hosts, options: ["--srv-host=_rpc._tcp.cart.internal,b.internal,7002,1,5"] })
      const second = yield* until(resolver, ["tcp://127.0.0.4:7002"]).pipe(
        Effect.retry({ while: ({ _tag }) => _tag === "ResolverError" })
      )
      assert.strictEqual(second.endpoints[0]?.weight, 5)
    }))

  it.live("answers only what resolvers ask", () =>
    Effect.gen(function*() {
      const server = yield* startDnsmasq({ options: ["--txt-record=cart.internal,hello"] })
      yield* Effect.gen(function*() {
        const dns = yield* Dns.Dns
        assert.strictEqual((yield* Effect.flip(dns.resolve("cart.internal", "TXT"))).reason, "Unsupported")
        assert.strictEqual((yield* Effect.flip(dns.resolve("none.internal", "A"))).reason, "NotFound")
        assert.strictEqual((yield* Effect.flip(dns.resolve("none.internal", "SRV"))).reason, "NotFound")
        assert.isNotEmpty(yield* dns.lookup("localhost"))
      }).pipe(Effect.provide(Resolver.layerDns(server)))
    }))

  it.live("says in the error of a call that a name is not in DNS, has no addresses there, or that DNS is away", () =>
    Effect.gen(function*() {
      const options = ["--local=/internal/", "--txt-record=text.internal,hello", "--local-ttl=1"]
      const server = yield* startDnsmasq({ options })
      const dns = Resolver.layerDns({ ...server, timeout: "200 millis", tries: 1 })
      const key = MethodKey.make("test/Names", "name")
      const connect = Effect.fnUntraced(function*(resolver: Effect.Effect<Resolver.Resolver, unknown, Dns.Dns>) {
        return yield* Connection.make(yield* Effect.provide(resolver, dns))
      })
      const messageOf = (connection: Connection.Connection) =>
        Effect.map(Effect.flip(connection.call(key, new Uint8Array())), ({ message }) => message)

      const interval = { min: "50 millis", max: "50 millis" } as const
      const connection = yield* connect(Resolver.dns("cart.internal:7000", { interval }))
      const absent = `no endpoints: "cart.internal" is not in DNS (ENOTFOUND)`
      assert.strictEqual(yield* messageOf(connection), absent)
      assert.strictEqual(
        yield* messageOf(yield* connect(Resolver.dns("text.internal:7000"))),
        `no endpoints: "text.internal" has no addresses in DNS (ENODATA)`
      )
      assert.strictEqual(
        yield* messageOf(yield* connect(Resolver.dnsSrv("_rpc._tcp.cart.internal"))),
        `no endpoints: "_rpc._tcp.cart.internal" is not in DNS (ENOTFOUND)`
      )

      yield* server.stop
      const failing = yield* Effect.repeat(messageOf(connection), {
        until: (message) => message !== absent,
        schedule: Schedule.spaced("5 millis")
      })
      assert.match(
        failing,
        /^no endpoints: .*; the resolver failed: the addresses of "cart.internal" cannot be looked up/
      )
      yield* server.start({ options })
      yield* Effect.repeat(messageOf(connection), {
        until: (message) => message === absent,
        schedule: Schedule.spaced("5 millis")
      })
    }))

  it.live("brings calls to new replicas, and away from replicas that have gone", () =>
    Effect.gen(function*() {
      const name = MethodKey.make("test/Names", "name")
      const serve = Effect.fnUntraced(function*(host: string, port: number) {
        const handlers = HandlerMap.set(HandlerMap.empty, "test/Names", "name", () =>
          Effect.succeed(new TextEncoder().encode(host)))
        const listener = yield* Listener.tcp(`${host}:${port}`, handlers)
        const serving = yield* Effect.forkScoped(Server.serve(listener, { shutdownGrace: 0 }), {
          startImmediately: true
        })
        return { listener, stop: Fiber.interrupt(serving) }
      })
      const one = yield* serve("127.0.0.2", 0)
      const port = Number(one.listener.address.split(":").at(-1))
      const server = yield* startDnsmasq({ hosts: { "cart.internal": ["127.0.0.2"] }, options: ["--local-ttl=1"] })
      const resolver = yield* Resolver.dns(`cart.internal:${port}`, {
        interval: { min: "50 millis", max: "100 millis" }
      })
        .pipe(Effect.provide(Resolver.layerDns(server)))
      const connection = yield* Connection.make(resolver)
      const ask = Effect.map(connection.call(name, new Uint8Array()), (answer) =>
        new TextDecoder().decode(answer))
      const askUntil = (host: string) =>
        Effect.repeat(ask, {
          until: (answer) =>
            answer === host
        })

      assert.strictEqual(yield* ask, "127.0.0.2")
      yield* serve("127.0.0.3", port)
      yield* server.setHosts({ "cart.internal": ["127.0.0.2", "127.0.0.3"] })
      yield* askUntil("127.0.0.3")

      yield* server.setHosts({ "cart.internal": ["127.0.0.3"] })
      yield* Effect.repeat(connection.state, {
        until: ({ endpoints }) =>
          endpoints.every(({ address }) => address === `tcp://127.0.0.3:${port}`),
        schedule: Schedule.spaced("5 millis")
      })
      yield* one.stop
      assert.deepStrictEqual(new Set(yield* Effect.replicateEffect(ask, 4)), new Set(["127.0.0.3"]))
    }))
})
