import { assert, describe, it } from "@effect/vitest"
import { Cause, type Duration, Effect, Equal, Exit, Fiber, Option } from "effect"
import { Resolver } from "effect-call"
import { Dns } from "effect/net"
import { TestClock } from "effect/testing"
import { createSocket, type Socket } from "node:dgram"
import { makeDns, record, srv, started, startedSrv } from "../../Resolver/dnsSupport.ts"
import { makeLog } from "../../support/log.ts"
import { addresses, next, waits } from "../../support/resolve.ts"

describe("dns", () => {
  it.effect("answers from Dns's static layer: each address once, sorted, IPv6 in brackets", () =>
    Effect.gen(function*() {
      const resolver = yield* Resolver.dns("cart.internal:7000")
      assert.isFalse(resolver.isConstant)
      assert.deepStrictEqual(addresses(yield* resolver.resolve()), [
        "tcp://10.0.0.1:7000",
        "tcp://10.0.0.2:7000",
        "tcp://[2001:db8::1]:7000"
      ])
    }).pipe(Effect.provide(Dns.layerStatic({
      records: { "cart.internal": [record("10.0.0.2"), record("2001:db8::1"), record("10.0.0.1"), record("10.0.0.2")] }
    }))))

  it.effect("accepts the name of a service as a port, and makes a constant resolver of an IP address", () =>
    Effect.gen(function*() {
      const named = yield* Resolver.dns("cart.internal:http")
      assert.deepStrictEqual(addresses(yield* named.resolve()), ["tcp://10.0.0.1:80"])
      for (const target of ["10.0.0.1:7000", "[::1]:7000"]) {
        const constant = yield* Resolver.dns(target)
        assert.isTrue(constant.isConstant)
        assert.deepStrictEqual(addresses(yield* constant.resolve()), [`tcp://${target}`])
      }
    }).pipe(Effect.provide(Dns.layerStatic({ records: { "cart.internal": [record("10.0.0.1")] } }))))

  it.effect("says what is wrong with a target", () =>
    Effect.gen(function*() {
      const messageOf = (target: string) =>
        Effect.map(Effect.flip(Resolver.dns(target)), (error) => {
          assert.strictEqual(error._tag, "InvalidResolver")
          assert.strictEqual(error.text, target)
          return error.message
        })
      assert.include(yield* messageOf("cart"), `"cart" has no port`)
      assert.include(yield* messageOf(":80"), `"" in ":80" is not a name`)
      assert.include(yield* messageOf("/cart:80"), `"/cart" in "/cart:80" is not a name`)
      assert.include(yield* messageOf("cart:99999"), "is not a port")
    }).pipe(Effect.provide(makeDns().layer)))

  it.effect("refuses bad options", () =>
    Effect.gen(function*() {
      const bad: ReadonlyArray<readonly [unknown, string]> = [
        [{ interval: { min: 0 } }, "interval.min"],
        [{ interval: { max: "soon" } }, "interval.max"],
        [{ interval: { min: 10_000, max: 5000 } }, "no less than interval.min"],
        [{ onEmpty: "drop" }, "onEmpty"]
      ]
      for (const [options, message] of bad) {
        const exit = yield* Effect.exit(Resolver.dns("cart:1", options as Resolver.DnsOptions))
        assert.isTrue(Exit.isFailure(exit))
        assert.include(String(Cause.squash((exit as Exit.Failure<unknown, unknown>).cause)), message)
      }
    }).pipe(Effect.provide(makeDns().layer)))

  it.effect("asks again when the TTL of the records is over, within bounds, and after 5 seconds where the TTL is unknown", () =>
    Effect.gen(function*() {
      const after: ReadonlyArray<readonly [Duration.Input | undefined, Resolver.DnsOptions | undefined, number]> = [
        [undefined, undefined, 5000],
        ["12 seconds", undefined, 12_000],
        [0, undefined, 1000],
        ["1 day", undefined, 30_000],
        ["1 day", { interval: { max: "1 hour" } }, 3_600_000],
        ["3 seconds", { interval: { min: "40 seconds" } }, 40_000]
      ]
      for (const [timeToLive, options, millis] of after) {
        const dns = makeDns()
        dns.records["A cart"] = [record("10.0.0.1")]
        dns.records["AAAA cart"] = [record("::1")]
        if (timeToLive !== undefined) {
          dns.timesToLive["A cart"] = timeToLive
          dns.timesToLive["AAAA cart"] = "10 days"
        }
        const { first, resolver } = yield* started(dns, options)
        const waiting = yield* next(resolver, first)
        yield* TestClock.adjust(millis - 1)
        assert.deepStrictEqual(dns.asked, [])
        yield* TestClock.adjust(1)
        assert.deepStrictEqual(dns.asked, ["A cart", "AAAA cart"])
        yield* Fiber.interrupt(waiting)
      }
    }))

  it.effect("does not treat another order as a change", () =>
    Effect.gen(function*() {
      const dns = makeDns()
      dns.records["A cart"] = [record("10.0.0.1"), record("10.0.0.2")]
      const { first, resolver } = yield* started(dns)
      const waiting = yield* next(resolver, first)
      dns.records["A cart"] = [record("10.0.0.2"), record("10.0.0.1")]
      yield* TestClock.adjust("1 minute")
      assert.isTrue(waits(waiting))
      dns.records["A cart"] = [record("10.0.0.2")]
      yield* TestClock.adjust("5 seconds")
      assert.isFalse(Equal.equals((yield* Fiber.join(waiting)).version, first.version))
    }))

  it.effect("asks once for all who share it", () =>
    Effect.gen(function*() {
      const dns = makeDns()
      dns.records["A cart"] = [record("10.0.0.1")]
      const { first, resolver } = yield* started(dns)
      const waiting = yield* Effect.replicateEffect(next(resolver, first), 5)
      dns.records["A cart"] = [record("10.0.0.2")]
      yield* TestClock.adjust("5 seconds")
      for (const fiber of waiting) yield* Fiber.join(fiber)
      assert.deepStrictEqual(dns.asked, ["A cart", "AAAA cart"])
    }))

  it.effect("asks at once when an endpoint was lost, once in the shortest interval", () =>
    Effect.gen(function*() {
      const dns = makeDns()
      dns.records["A cart"] = [record("10.0.0.1")]
      const { first, resolver } = yield* started(dns, { interval: { min: "2 seconds" } })
      yield* next(resolver, first)
      for (let i = 0; i < 10; i++) {
        yield* resolver.refresh!
        yield* TestClock.adjust(200)
      }
      assert.deepStrictEqual(dns.asked, ["A cart", "AAAA cart"])
    }))

  it.effect("asks the system for names that DNS does not have, and only the system for localhost", () =>
    Effect.gen(function*() {
      const dns = makeDns()
      dns.system["cart"] = ["10.0.0.9"]
      dns.system["localhost"] = ["127.0.0.1"]
      const { first, resolver } = yield* started(dns)
      assert.deepStrictEqual(addresses(first), ["tcp://10.0.0.9:7000"])
      const local = yield* Effect.provide(Resolver.dns("localhost:7000"), dns.layer)
      assert.deepStrictEqual(addresses(yield* local.resolve()), ["tcp://127.0.0.1:7000"])
      assert.deepStrictEqual(dns.asked, ["system localhost"])

      // A system that cannot tell any more.
      dns.system["cart"] = "Temporary"
      const waiting = yield* next(resolver, first)
      yield* TestClock.adjust("5 seconds")
      assert.include((yield* Effect.flip(Fiber.join(waiting))).message, "Temporary")
    }))

  it.effect("asks the system where there is no DNS", () =>
    Effect.gen(function*() {
      const dns = makeDns()
      dns.records["A cart"] = "Refused"
      dns.records["AAAA cart"] = "Refused"
      dns.system["cart"] = ["10.0.0.9"]
      const { first } = yield* started(dns)
      assert.deepStrictEqual(addresses(first), ["tcp://10.0.0.9:7000"])
    }))

  it.effect("believes DNS when it no longer has addresses, and says so", () => {
    const log = makeLog()
    return Effect.gen(function*() {
      const dns = makeDns()
      dns.records["A cart"] = [record("10.0.0.1")]
      dns.system["cart"] = ["10.0.0.9"]
      const { first, resolver } = yield* started(dns)
      const waiting = yield* next(resolver, first)
      delete dns.records["A cart"]
      yield* TestClock.adjust("5 seconds")
      const empty = yield* Fiber.join(waiting)
      assert.deepStrictEqual(addresses(empty), [])
      yield* next(resolver, empty)
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(log.lines.map(({ message }) => message), [
        `DNS knows no addresses of "cart": there are no endpoints`
      ])
    }).pipe(Effect.provide(log.layer))
  })

  it.effect("keeps the last addresses when DNS has none any more, where the options ask for it", () =>
    Effect.gen(function*() {
      const dns = makeDns()
      const { first: empty, resolver } = yield* started(dns, { onEmpty: "keep" })
      assert.deepStrictEqual(addresses(empty), [])
      dns.records["A cart"] = [record("10.0.0.1")]
      yield* TestClock.adjust("5 seconds")
      const first = yield* resolver.resolve()
      const waiting = yield* next(resolver, first)
      delete dns.records["A cart"]
      yield* TestClock.adjust("5 seconds")
      assert.strictEqual(
        (yield* Effect.flip(Fiber.join(waiting))).message,
        `DNS knows no addresses of "cart" any more`
      )
      assert.strictEqual(yield* resolver.resolve(), first)
    }))

  it.effect("keeps the last addresses when DNS fails, and asks again after 5 seconds", () =>
    Effect.gen(function*() {
      const dns = makeDns()
      dns.records["A cart"] = [record("10.0.0.1")]
      dns.timesToLive["A cart"] = "20 seconds"
      const { first, resolver } = yield* started(dns)
      const waiting = yield* next(resolver, first)
      dns.records["A cart"] = "Timeout"
      dns.records["AAAA cart"] = "Timeout"
      yield* TestClock.adjust("20 seconds")
      const error = yield* Effect.flip(Fiber.join(waiting))
      assert.include(error.message, `the addresses of "cart" cannot be looked up: Timeout`)
      assert.strictEqual((error.cause as Dns.DnsError).reason, "Timeout")
      assert.strictEqual(yield* resolver.resolve(), first)

      const again = yield* next(resolver, first)
      dns.records["A cart"] = [record("10.0.0.2")]
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(addresses(yield* Fiber.join(again)), ["tcp://10.0.0.2:7000"])
    }))

  it.effect("fails where DNS has never answered and the system does not know the name", () =>
    Effect.gen(function*() {
      const dns = makeDns()
      dns.records["A cart"] = "ServerFailure"
      const resolver = yield* Effect.provide(Resolver.dns("cart:7000"), dns.layer)
      assert.include((yield* Effect.flip(resolver.resolve())).message, "ServerFailure")
    }))

  it.effect("keeps the addresses of the family that DNS fails to answer for", () =>
    Effect.gen(function*() {
      const dns = makeDns()
      dns.records["A cart"] = [record("10.0.0.1")]
      dns.records["AAAA cart"] = "ServerFailure"
      const { first, resolver } = yield* started(dns)
      assert.deepStrictEqual(addresses(first), ["tcp://10.0.0.1:7000"])
      dns.records["A cart"] = "ServerFailure"
      dns.records["AAAA cart"] = [record("::1")]
      const waiting = yield* next(resolver, first)
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(addresses(yield* Fiber.join(waiting)), ["tcp://10.0.0.1:7000", "tcp://[::1]:7000"])
    }))
})

describe("the problem of a name", () => {
  it.effect("is that it has no addresses in DNS", () =>
    Effect.gen(function*() {
      const dns = makeDns()
      assert.strictEqual((yield* started(dns)).first.problem, `"cart" has no addresses in DNS (NotFound)`)
      dns.records["A cart"] = [record("10.0.0.1")]
      assert.isFalse("problem" in (yield* started(dns)).first)
    }))

  it.effect("is that one of its families cannot be looked up, while nothing was ever known of it", () =>
    Effect.gen(function*() {
      const dns = makeDns()
      dns.records["A cart"] = [record("10.0.0.1")]
      dns.records["AAAA cart"] = "ServerFailure"
      const { first, resolver } = yield* started(dns)
      assert.strictEqual(
        first.problem,
        `the AAAA records of "cart" cannot be looked up: ServerFailure: Dns.resolve (cart)`
      )
      let waiting = yield* next(resolver, first)
      dns.records["AAAA cart"] = [record("::1")]
      yield* TestClock.adjust("5 seconds")
      const both = yield* Fiber.join(waiting)
      assert.isFalse("problem" in both)
      waiting = yield* next(resolver, both)
      dns.records["AAAA cart"] = "Timeout"
      yield* TestClock.adjust("1 minute")
      assert.isTrue(waits(waiting))
    }))
})

describe("dnsSrv", () => {
  const name = "_rpc._tcp.cart"

  const shown = ({ endpoints }: Resolver.Resolution) =>
    endpoints.map(({ address, priority, weight }) => `${address} ${priority} ${weight}`)

  it.effect("makes an endpoint of each address of each target, of several with one address the best", () =>
    Effect.gen(function*() {
      const dns = makeDns()
      dns.records[`SRV ${name}`] = [srv("a.", 1, 10, 5), srv("b.", 1, 20, 0), srv("b.", 2, 20, 0), srv("c.", 1, 20, 7)]
      dns.records["A a"] = [record("10.0.0.1")]
      dns.records["A b"] = [record("10.0.0.1"), record("10.0.0.2")]
      dns.system["c"] = ["::1"]
      const { first } = yield* startedSrv(dns, name)
      assert.deepStrictEqual(shown(first), [
        "tcp://10.0.0.1:1 10 5",
        "tcp://10.0.0.1:2 20 0.05",
        "tcp://10.0.0.2:1 20 0.05",
        "tcp://10.0.0.2:2 20 0.05",
        "tcp://[::1]:1 20 7"
      ])
    }))

  it.effect("shares a target's weight among its addresses, each of which counts once", () =>
    Effect.gen(function*() {
      const dns = makeDns()
      dns.records[`SRV ${name}`] = [srv("a.", 1, 10, 6)]
      dns.records["A a"] = [record("10.0.0.1"), record("10.0.0.2")]
      dns.records["AAAA a"] = [record("::ffff:10.0.0.1")]
      const { first } = yield* startedSrv(dns, name)
      assert.deepStrictEqual(shown(first), ["tcp://10.0.0.1:1 10 3", "tcp://10.0.0.2:1 10 3"])
    }))

  it.effect("treats another weight or priority as a change", () =>
    Effect.gen(function*() {
      const dns = makeDns()
      dns.records["A a"] = [record("10.0.0.1")]
      dns.records[`SRV ${name}`] = [srv("a.", 1, 1, 1)]
      const { first, resolver } = yield* startedSrv(dns, name)
      const waiting = yield* next(resolver, first)
      dns.records[`SRV ${name}`] = [srv("a.", 1, 1, 2)]
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(shown(yield* Fiber.join(waiting)), ["tcp://10.0.0.1:1 1 2"])
    }))

  it.effect("has no endpoints where the service is not offered", () =>
    Effect.gen(function*() {
      const dns = makeDns()
      const none = (yield* startedSrv(dns, name)).first
      assert.deepStrictEqual([shown(none), none.problem], [[], `"${name}" has no SRV records in DNS (NotFound)`])
      dns.records[`SRV ${name}`] = [srv(".", 0, 0, 0)]
      const { first } = yield* startedSrv(dns, name)
      assert.deepStrictEqual(
        [shown(first), first.problem],
        [[], `"${name}" is not offered: the target of its SRV record is "."`]
      )
    }))

  it.effect("says which targets have no addresses, or cannot be looked up", () =>
    Effect.gen(function*() {
      const dns = makeDns()
      dns.records[`SRV ${name}`] = [srv("a.", 1, 0, 0), srv("b.", 1, 0, 0), srv("c.", 1, 0, 0)]
      dns.records["A a"] = "ServerFailure"
      dns.records["A c"] = [record("10.0.0.3")]
      const { first } = yield* startedSrv(dns, name)
      assert.deepStrictEqual(shown(first), ["tcp://10.0.0.3:1 0 1"])
      assert.strictEqual(
        first.problem,
        `the addresses of "a." cannot be looked up: ServerFailure: Dns.resolve (a.); "b." has no addresses in DNS (NotFound)`
      )
    }))

  it.effect("keeps the last addresses of a target that cannot be found, and leaves out one that never was", () =>
    Effect.gen(function*() {
      const dns = makeDns()
      dns.records[`SRV ${name}`] = [srv("a.", 1, 0, 0), srv("b.", 1, 0, 0)]
      dns.records["A a"] = [record("10.0.0.1")]
      dns.records["A b"] = "ServerFailure"
      const { first, resolver } = yield* startedSrv(dns, name)
      assert.deepStrictEqual(shown(first), ["tcp://10.0.0.1:1 0 1"])
      dns.records["A a"] = "Timeout"
      dns.records["AAAA a"] = "Timeout"
      dns.records["A b"] = [record("10.0.0.2")]
      const waiting = yield* next(resolver, first)
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(shown(yield* Fiber.join(waiting)), ["tcp://10.0.0.1:1 0 1", "tcp://10.0.0.2:1 0 1"])
    }))

  it.effect("fails where the records, or none of the targets, can be found", () =>
    Effect.gen(function*() {
      const dns = makeDns()
      dns.records[`SRV ${name}`] = "Timeout"
      assert.include(
        (yield* Effect.flip(startedSrv(dns, name))).message,
        `the servers of "${name}" cannot be looked up`
      )
      dns.records[`SRV ${name}`] = [srv("a.", 1, 0, 0)]
      dns.records["A a"] = "Timeout"
      assert.include((yield* Effect.flip(startedSrv(dns, name))).message, "Timeout")
    }))

  it.effect("is valid as long as the addresses of its targets, and for 5 seconds at most where that is unknown", () =>
    Effect.gen(function*() {
      const dns = makeDns()
      dns.records[`SRV ${name}`] = [srv("a.", 1, 0, 0)]
      dns.records["A a"] = [record("10.0.0.1")]
      dns.timesToLive["A a"] = "2 seconds"
      const { first, resolver } = yield* startedSrv(dns, name)
      const waiting = yield* next(resolver, first)
      dns.records["A a"] = [record("10.0.0.2")]
      yield* TestClock.adjust(1999)
      assert.isTrue(waits(waiting))
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(addresses(yield* Fiber.join(waiting)), ["tcp://10.0.0.2:1"])
    }))

  it.effect("says what is wrong with a name", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(Resolver.dnsSrv("cart internal"))
      assert.strictEqual(error._tag, "InvalidResolver")
      assert.include(error.message, `expected the name of SRV records`)
    }).pipe(Effect.provide(makeDns().layer)))
})

describe("layerDns", () => {
  it.effect("names the name server that is invalid", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(Effect.provide(Dns.Dns, Resolver.layerDns({ nameServers: ["dns.internal"] })))
      assert.strictEqual(error._tag, "NetAddressError")
    }))

  it.live("finds localhost, also with the dot at its end that the targets of SRV records have", () =>
    Effect.gen(function*() {
      for (const target of ["localhost:7000", "localhost.:7000"]) {
        const resolver = yield* Resolver.dns(target)
        assert.include(addresses(yield* resolver.resolve()), "tcp://127.0.0.1:7000")
      }
    }).pipe(Effect.provide(Resolver.layerDns())))

  it.live("asks the system for one name once at a time, for any number of callers", () =>
    Effect.gen(function*() {
      const underWay = () => process.getActiveResourcesInfo().filter((resource) => /getaddrinfo/i.test(resource)).length
      const before = underWay()
      const dns = yield* Dns.Dns
      const asking = yield* Effect.forEach(
        Array.from({ length: 5 }),
        () => Effect.forkScoped(dns.lookup("localhost"), { startImmediately: true })
      )
      assert.strictEqual(underWay() - before, 1)
      for (const fiber of asking) assert.isNotEmpty(yield* Fiber.join(fiber))
      assert.isNotEmpty(yield* dns.lookup("localhost"))
    }).pipe(Effect.provide(Resolver.layerDns())))

  it.live("waits for a silent name server for its configured time, or until it is interrupted", () =>
    Effect.gen(function*() {
      const silent = yield* Effect.acquireRelease(
        Effect.callback<Socket>((resume) => {
          const socket = createSocket("udp4")
          socket.bind(0, "127.0.0.1", () => resume(Effect.succeed(socket)))
        }),
        (socket) => Effect.sync(() => socket.close())
      )
      const nameServers = [`127.0.0.1:${silent.address().port}`]
      const ask = (options: Resolver.DnsServerOptions) =>
        Effect.flatMap(Dns.Dns, (dns) => dns.resolve("cart.internal", "A")).pipe(
          Effect.provide(Resolver.layerDns({ nameServers, ...options }))
        )
      const error = yield* Effect.flip(ask({ timeout: "50 millis", tries: 1 }))
      assert.isTrue(error._tag === "DnsError" && error.reason === "Timeout")
      assert.isTrue(Option.isNone(yield* Effect.timeoutOption(ask({ timeout: "1 hour" }), "10 millis")))
    }))

  it.effect("refuses bad options", () =>
    Effect.gen(function*() {
      for (const options of [{ timeout: 0 }, { tries: 0 }]) {
        const exit = yield* Effect.exit(Effect.provide(Dns.Dns, Resolver.layerDns(options)))
        assert.isTrue(Exit.isFailure(exit) && Cause.hasDies(exit.cause))
      }
    }))
})
