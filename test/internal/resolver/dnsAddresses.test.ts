/**
 * `Resolver.dns` and `dnsSrv` where some of what they ask is answered late or never.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Equal, Fiber } from "effect"
import { Connection, Resolver } from "effect-call"
import { TestClock } from "effect/testing"
import { makeDns, record, silence, srv, started, startedSrv } from "../../Resolver/dnsSupport.ts"
import { type Answers, startNameServer } from "../../support/nameServer.ts"
import { addresses, next, until, waits } from "../../support/resolve.ts"

const four = [record("10.0.0.1")]
const six = [record("2001:db8::1")]
const asFour = "tcp://10.0.0.1:7000"
const asSix = "tcp://[2001:db8::1]:7000"

/** Begins to ask, and gives what has come of it by now. */
const begin = Effect.fnUntraced(function*(dns: ReturnType<typeof makeDns>) {
  const resolver = yield* Effect.provide(Resolver.dns("cart:7000"), dns.layer)
  return { resolver, first: yield* Effect.forkScoped(resolver.resolve(), { startImmediately: true }) }
})

describe("a family of addresses", () => {
  it.effect("that is not answered is waited for no longer than 50 ms where there are addresses of the other", () =>
    Effect.gen(function*() {
      for (const [answered, other, found] of [["A", "AAAA", asFour], ["AAAA", "A", asSix]] as const) {
        const dns = makeDns()
        dns.records[`${answered} cart`] = answered === "A" ? four : six
        dns.records[`${other} cart`] = silence
        const { first } = yield* begin(dns)
        yield* TestClock.adjust(49)
        assert.isTrue(waits(first))
        yield* TestClock.adjust(1)
        const resolution = yield* Fiber.join(first)
        assert.deepStrictEqual(addresses(resolution), [found])
        assert.strictEqual(
          resolution.problem,
          `the ${other} records of "cart" are not known yet: DNS has not answered`
        )
      }
    }))

  it.effect("that comes within 50 ms is there at first", () =>
    Effect.gen(function*() {
      const dns = makeDns()
      dns.records["A cart"] = { after: 100, answer: four }
      dns.records["AAAA cart"] = { after: 149, answer: six }
      const { first } = yield* begin(dns)
      yield* TestClock.adjust(149)
      const resolution = yield* Fiber.join(first)
      assert.deepStrictEqual(addresses(resolution), [asFour, asSix])
      assert.isUndefined(resolution.problem)
    }))

  it.effect("that comes later is added then, with a new version and without a problem", () =>
    Effect.gen(function*() {
      const dns = makeDns()
      dns.records["A cart"] = four
      const { first, resolver } = yield* started(dns)
      const watching = yield* next(resolver, first)
      dns.records["AAAA cart"] = { after: 3000, answer: six }
      yield* TestClock.adjust("5 seconds")
      yield* TestClock.adjust(2999)
      assert.isTrue(waits(watching))
      yield* TestClock.adjust(1)
      const both = yield* Fiber.join(watching)
      assert.deepStrictEqual(addresses(both), [asFour, asSix])
      assert.isFalse(Equal.equals(both.version, first.version))
      assert.isUndefined(both.problem)
    }))

  it.effect("is no problem while it is late, where DNS has said before that it has no records", () =>
    Effect.gen(function*() {
      const dns = makeDns()
      dns.records["A cart"] = four
      const { first, resolver } = yield* started(dns)
      const watching = yield* next(resolver, first)
      dns.records["AAAA cart"] = silence
      yield* TestClock.adjust("20 seconds")
      assert.isTrue(waits(watching))
    }))

  it.effect("that fails in the end is a problem, and the other family is kept", () =>
    Effect.gen(function*() {
      const dns = makeDns()
      dns.records["A cart"] = four
      dns.records["AAAA cart"] = { after: 3000, answer: "Timeout" }
      const { first: waiting, resolver } = yield* begin(dns)
      yield* TestClock.adjust(50)
      const first = yield* Fiber.join(waiting)
      const watching = yield* next(resolver, first)
      // It is asked for again after a second, since no caller waited for it any more.
      yield* TestClock.adjust("4 seconds")
      const second = yield* Fiber.join(watching)
      assert.isTrue(Equal.equals(second.version, first.version))
      assert.strictEqual(second.endpoints, first.endpoints)
      assert.strictEqual(
        second.problem,
        `the AAAA records of "cart" cannot be looked up: Timeout: Dns.resolve (cart)`
      )
    }))

  it.effect("that never comes does not hold up the changes of the other, and is asked for once", () =>
    Effect.gen(function*() {
      const dns = makeDns()
      dns.records["A cart"] = four
      dns.records["AAAA cart"] = six
      dns.timesToLive["A cart"] = "1 second"
      const { first, resolver } = yield* started(dns)
      dns.records["AAAA cart"] = silence
      let seen = first
      for (let change = 2; change < 6; change++) {
        const watching = yield* next(resolver, seen)
        yield* TestClock.adjust("3500 millis")
        assert.isTrue(waits(watching))
        assert.strictEqual(dns.asked.filter((question) => question === "AAAA cart").length, 1)
        assert.isAtLeast(dns.asked.length, 4)
        dns.records["A cart"] = [record(`10.0.0.${change}`)]
        yield* TestClock.adjust("1 second")
        seen = yield* Fiber.join(watching)
        // Its last addresses stay.
        assert.deepStrictEqual(addresses(seen), [`tcp://10.0.0.${change}:7000`, asSix])
        assert.isUndefined(seen.problem)
        // What was under way has ended with the waiting.
        assert.strictEqual(dns.givenUp.length, change - 1)
        dns.asked.length = 0
      }
    }))

  it.effect("that never comes is given up after a minute, and asked for again", () =>
    Effect.gen(function*() {
      const dns = makeDns()
      dns.records["A cart"] = four
      const { first, resolver } = yield* started(dns)
      dns.records["AAAA cart"] = silence
      const watching = yield* next(resolver, first)
      yield* TestClock.adjust("64 seconds")
      assert.deepStrictEqual(dns.givenUp, [])
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(dns.givenUp, ["AAAA cart"])
      const second = yield* Fiber.join(watching)
      assert.match(second.problem ?? "", /^the AAAA records of "cart" cannot be looked up: Timeout/)
      dns.records["AAAA cart"] = six
      const again = yield* next(resolver, second)
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(addresses(yield* Fiber.join(again)), [asFour, asSix])
    }))

  it.effect("is waited for where the other has no addresses: there is no set without any in between", () =>
    Effect.gen(function*() {
      const dns = makeDns()
      dns.records["AAAA cart"] = { after: 4000, answer: six }
      const { first } = yield* begin(dns)
      yield* TestClock.adjust("4 seconds")
      assert.deepStrictEqual(addresses(yield* Fiber.join(first)), [asSix])
      assert.deepStrictEqual(dns.asked, ["A cart", "AAAA cart"])
    }))

  it.effect("is waited for no longer than 5 seconds where the other has none: then the system is asked", () =>
    Effect.gen(function*() {
      const dns = makeDns()
      dns.records["AAAA cart"] = silence
      dns.system["cart"] = ["10.0.0.9"]
      const { first } = yield* begin(dns)
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(addresses(yield* Fiber.join(first)), ["tcp://10.0.0.9:7000"])
    }))

  it.effect("that never comes fails a look that finds nothing else, and the next one comes 5 seconds later", () =>
    Effect.gen(function*() {
      const dns = makeDns()
      dns.records["A cart"] = four
      const { first, resolver } = yield* started(dns)
      const watching = yield* next(resolver, first)
      dns.records["A cart"] = []
      dns.records["AAAA cart"] = silence
      yield* TestClock.adjust("10 seconds")
      assert.include((yield* Effect.flip(Fiber.join(watching))).message, "cannot be looked up: Timeout")
      assert.strictEqual(yield* resolver.resolve(), first)
      const again = yield* next(resolver, first)
      dns.records["A cart"] = [record("10.0.0.2")]
      yield* TestClock.adjust("5050 millis")
      assert.deepStrictEqual(addresses(yield* Fiber.join(again)), ["tcp://10.0.0.2:7000"])
    }))

  it.effect("is asked for no longer than a caller waits, and again after a second where a caller does", () =>
    Effect.gen(function*() {
      const dns = makeDns()
      dns.records["A cart"] = four
      dns.timesToLive["A cart"] = "20 seconds"
      dns.records["AAAA cart"] = silence
      const { first: waiting, resolver } = yield* begin(dns)
      yield* TestClock.adjust(50)
      const first = yield* Fiber.join(waiting)
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual([dns.asked, dns.givenUp], [["A cart", "AAAA cart"], ["AAAA cart"]])
      dns.records["AAAA cart"] = six
      assert.deepStrictEqual(addresses(yield* resolver.resolve(first.version)), [asFour, asSix])
    }))

  it.effect("is found out by the Connection that began without it", () =>
    Effect.gen(function*() {
      const dns = makeDns()
      dns.records["A cart"] = four
      dns.records["AAAA cart"] = { after: 500, answer: six }
      const resolver = yield* Effect.provide(Resolver.dns("cart:7000"), dns.layer)
      const making = yield* Effect.forkScoped(Connection.make(resolver), { startImmediately: true })
      yield* TestClock.adjust(50)
      const connection = yield* Fiber.join(making)
      const listed = Effect.map(connection.state, ({ endpoints }) => endpoints.map(({ address }) => address))
      assert.deepStrictEqual(yield* listed, [asFour])
      yield* TestClock.adjust("2 seconds")
      assert.deepStrictEqual(yield* listed, [asFour, asSix])
    }))
})

describe("a target of SRV records", () => {
  const name = "_rpc._tcp.cart"
  const targets = (...names: ReadonlyArray<string>) => names.map((target) => srv(`${target}.`, 7000, 0, 0))

  it.effect("without an answer holds up the others for a second, and is added when it comes", () =>
    Effect.gen(function*() {
      const dns = makeDns()
      dns.records[`SRV ${name}`] = targets("a", "b")
      dns.records["A a"] = four
      dns.records["A b"] = { after: 4000, answer: [record("10.0.0.2")] }
      dns.records["AAAA b"] = silence
      const waiting = yield* Effect.forkScoped(startedSrv(dns, name), { startImmediately: true })
      yield* TestClock.adjust("1 second")
      const { first, resolver } = yield* Fiber.join(waiting)
      assert.deepStrictEqual(addresses(first), [asFour])
      assert.strictEqual(first.problem, `the addresses of "b." are not known yet: DNS has not answered`)
      const watching = yield* next(resolver, first)
      // The next look is at once, since no caller waited for it any more.
      yield* TestClock.adjust("4 seconds")
      assert.isTrue(waits(watching))
      yield* TestClock.adjust(50)
      const both = yield* Fiber.join(watching)
      assert.deepStrictEqual([addresses(both), both.problem], [[asFour, "tcp://10.0.0.2:7000"], undefined])
    }))

  it.effect("keeps its last addresses while it is silent, and the others their changes", () =>
    Effect.gen(function*() {
      const dns = makeDns()
      dns.records[`SRV ${name}`] = targets("a", "b")
      dns.records["A a"] = four
      dns.records["A b"] = [record("10.0.0.2")]
      const { first, resolver } = yield* startedSrv(dns, name)
      const watching = yield* next(resolver, first)
      dns.records["A b"] = silence
      dns.records["AAAA b"] = silence
      yield* TestClock.adjust("7 seconds")
      assert.isTrue(waits(watching))
      dns.asked.length = 0
      dns.records["A a"] = [record("10.0.0.3")]
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(addresses(yield* Fiber.join(watching)), ["tcp://10.0.0.2:7000", "tcp://10.0.0.3:7000"])
      // It is under way.
      assert.deepStrictEqual(dns.asked.filter((question) => question.endsWith(" b")), [])
    }))

  it.effect("that is there is found behind many that are silent", () =>
    Effect.gen(function*() {
      const dns = makeDns()
      const silent = Array.from({ length: 40 }, (_, i) => `silent-${i}`)
      dns.records[`SRV ${name}`] = targets(...silent, "z")
      for (const target of silent) dns.records[`A ${target}`] = dns.records[`AAAA ${target}`] = silence
      dns.records["A z"] = four
      const waiting = yield* Effect.forkScoped(startedSrv(dns, name), { startImmediately: true })
      yield* TestClock.adjust("3 seconds")
      assert.deepStrictEqual(addresses((yield* Fiber.join(waiting)).first), [asFour])
    }))
})

describe("a name server that answers some questions only", () => {
  const setUp = Effect.fnUntraced(function*(answers: Answers) {
    const server = yield* startNameServer(answers)
    // A caller that waits for what it does not answer waits for longer than a test may take.
    const resolver = yield* Resolver.dns("cart.internal:7000", { interval: { min: "1 millis", max: "100 millis" } })
      .pipe(Effect.provide(Resolver.layerDns({ nameServers: [server.address], timeout: "10 minutes" })))
    return { resolver, server }
  })

  it.live("delays nothing: what it answers is used at once and kept up to date, and it is asked no more than it answers", () =>
    Effect.gen(function*() {
      const found: Record<string, ReadonlyArray<string>> = { "A cart.internal": ["10.0.0.1"] }
      const { resolver, server } = yield* setUp((question) => found[question])
      const first = yield* resolver.resolve()
      assert.deepStrictEqual(addresses(first), [asFour])
      const asked = (type: string) => server.asked.filter((question) => question.startsWith(`${type} `)).length
      let seen = first
      for (let change = 2; change < 6; change++) {
        found["A cart.internal"] = [`10.0.0.${change}`]
        while (addresses(seen)[0] !== `tcp://10.0.0.${change}:7000`) seen = yield* resolver.resolve(seen.version)
      }
      assert.isAtLeast(asked("A"), 5)
      // All of them have waited for one answer.
      assert.strictEqual(asked("AAAA"), 1)
      found["AAAA cart.internal"] = ["2001:db8::1"]
      server.answerHeld()
      yield* until(resolver, ["tcp://10.0.0.5:7000", asSix])
    }))

  it.live("is asked once for many callers, also when they have given up", () =>
    Effect.gen(function*() {
      const found: Record<string, ReadonlyArray<string>> = {}
      const { resolver, server } = yield* setUp((question) => found[question])
      const turn = Effect.callback<void>((resume) => void setImmediate(() => resume(Effect.void)))
      for (let i = 0; i < 200; i++) {
        const asking = yield* Effect.forkChild(resolver.resolve(), { startImmediately: true })
        yield* turn
        yield* Fiber.interrupt(asking)
      }
      const asking = yield* Effect.forkChild(resolver.resolve(), { startImmediately: true })
      yield* Effect.repeat(turn, { until: () => server.asked.length >= 2 })
      Object.assign(found, { "A cart.internal": ["10.0.0.1"], "AAAA cart.internal": ["2001:db8::1"] })
      server.answerHeld()
      assert.deepStrictEqual(addresses(yield* Fiber.join(asking)), [asFour, asSix])
      assert.deepStrictEqual(server.asked.toSorted(), ["A cart.internal", "AAAA cart.internal"])
    }))
})
