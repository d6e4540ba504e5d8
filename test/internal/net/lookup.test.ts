import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { Endpoint } from "effect-call"
import { TestClock } from "effect/testing"
import dns from "node:dns"
import { isLoopback } from "../../../src/internal/net/address.ts"
import { lookup } from "../../../src/internal/net/lookup.ts"
import { until } from "../../Connection/support.ts"
import { dialedSockets, plainServer } from "./sockets.ts"

/** How many lookups the system does for this process. */
const lookups = () => process.getActiveResourcesInfo().filter((name) => name === "GetAddrInfoReqWrap").length
/** Waits for those of other tests. */
const noLookups = until(() => lookups() === 0)
const start = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.forkChild(effect, { startImmediately: true })

describe("lookup", () => {
  it.effect("asks the system once for all callers that want the same name, and again for later callers", () =>
    Effect.gen(function*() {
      yield* noLookups
      const sockets = yield* dialedSockets
      const { port } = yield* Effect.scoped(plainServer({ port: 0, host: "127.0.0.1" }))
      const many = yield* Effect.forEach(
        Array.from({ length: 50 }),
        () => start(Effect.flip(Endpoint.tcp(`localhost:${port}`).dial))
      )
      assert.strictEqual(lookups(), 1)
      // None has a socket before it has an address.
      assert.isEmpty(sockets)
      yield* start(Effect.flip(Endpoint.net("tcp4", `localhost:${port}`).dial))
      assert.strictEqual(lookups(), 2)
      for (const fiber of many) assert.match((yield* Fiber.join(fiber)).message, /ECONNREFUSED 127\.0\.0\.1/)
      yield* noLookups
      const later = yield* start(lookup("localhost", 0))
      assert.strictEqual(lookups(), 1)
      assert.isNotEmpty(yield* Fiber.join(later))
    }))

  it.effect("goes on for the callers that still wait, and is joined also when no caller waited for a while", () =>
    Effect.gen(function*() {
      yield* noLookups
      const first = yield* start(lookup("localhost", 0))
      const second = yield* start(lookup("localhost", 0))
      yield* Fiber.interrupt(first)
      assert.isUndefined(second.pollUnsafe())
      yield* Fiber.interrupt(second)
      const third = yield* start(lookup("localhost", 0))
      assert.strictEqual(lookups(), 1)
      assert.isTrue((yield* Fiber.join(third)).some(({ address }) => isLoopback(address)))
    }))

  it.effect("says that a name is not known, and the reason of one that cannot be", () =>
    Effect.gen(function*() {
      assert.match(String(yield* Effect.flip(lookup("no.such.host.invalid", 4))), /ENOTFOUND|EAI_AGAIN/)
      assert.match(String(yield* Effect.flip(lookup("a\0b", 0))), /a\\?\0?.*b/)
    }))

  /** What a program may put in the place of `dns.lookup`. */
  const replaced = (answer: (callback: (error: Error | null, addresses?: unknown) => void) => void) =>
    Effect.acquireRelease(
      Effect.sync(() => {
        const original = dns.lookup
        const replacement = (_host: string, _options: unknown, callback: Parameters<typeof answer>[0]) =>
          answer(callback)
        dns.lookup = replacement as unknown as typeof dns.lookup
        return original
      }),
      (original) => Effect.sync(() => void (dns.lookup = original))
    )

  it.effect("is done by what a program has put in the place of dns.lookup, at once or later", () =>
    Effect.gen(function*() {
      const { port } = yield* plainServer({ port: 0, host: "127.0.0.1" })
      const addresses = [{ address: "127.0.0.1", family: 4 }]
      yield* Effect.scoped(Effect.andThen(
        replaced((callback) => callback(null, addresses)),
        Endpoint.tcp(`cart.internal:${port}`).dial
      ))
      yield* Effect.scoped(Effect.andThen(
        replaced((callback) => setImmediate(callback, null, addresses)),
        Endpoint.tcp(`cart.internal:${port}`).dial
      ))
    }))

  it.effect.each<readonly [what: string, given: unknown, why: string]>([
    ["gives nothing", undefined, "expected IP addresses, got undefined"],
    ["gives no address", [], "expected IP addresses, got []"],
    [
      "gives a name",
      [{ address: "example.com", family: 4 }],
      "expected IP addresses, got [{\"address\":\"example.com\",\"family\":4}]"
    ],
    ["gives null", [null], "expected IP addresses, got [null]"]
  ])("fails where that %s", ([, given, why]) =>
    Effect.gen(function*() {
      yield* replaced((callback) => callback(null, given))
      const { message } = yield* Effect.flip(Endpoint.tcp("cart.internal:80").dial)
      assert.strictEqual(message, `cannot dial tcp://cart.internal:80: lookup cart.internal: ${why}`)
    }))

  it.effect.each<readonly [what: string, answer: (callback: (error: Error | null, given?: unknown) => void) => void]>([
    [
      "gives an error that throws when it is read",
      (callback) =>
        callback(Object.defineProperty(new Error("no"), "code", {
          get: () => {
            throw new Error("not to be read")
          }
        }))
    ],
    ["gives an error that cannot be looked at", (callback) => {
      const { proxy, revoke } = Proxy.revocable(new Error("no"), {})
      revoke()
      callback(proxy)
    }],
    ["gives an address that is another one each time it is read", (callback) => {
      let reads = 0
      const address = () => ++reads === 1 ? "127.0.0.1" : reads
      callback(null, [Object.defineProperty({}, "address", { get: address, enumerable: true })])
    }]
  ])("fails, and throws nothing out of the event loop, where that %s", ([, answer]) =>
    Effect.gen(function*() {
      const { port } = yield* Effect.scoped(plainServer({ port: 0, host: "127.0.0.1" }))
      yield* replaced((callback) => void setImmediate(answer, callback))
      const { _tag } = yield* Effect.flip(Endpoint.tcp(`cart.internal:${port}`).dial)
      assert.strictEqual(_tag, "DialError")
    }))

  it.effect("fails where that throws", () =>
    Effect.gen(function*() {
      yield* replaced(() => {
        throw new Error("no names today")
      })
      const { message } = yield* Effect.flip(Endpoint.tcp("cart.internal:80").dial)
      assert.strictEqual(message, "cannot dial tcp://cart.internal:80: no names today")
    }))

  it.effect("asks again where the name servers could not be asked", () =>
    Effect.gen(function*() {
      const { port } = yield* plainServer({ port: 0, host: "127.0.0.1" })
      let times = 0
      yield* replaced((callback) => {
        if (++times < 3) {
          callback(Object.assign(new Error("getaddrinfo EAI_AGAIN cart.internal"), { code: "EAI_AGAIN" }))
        } else callback(null, [{ address: "127.0.0.1", family: 4 }])
      })
      const dialing = yield* start(Endpoint.net("tcp4", `cart.internal:${port}`).dial)
      yield* TestClock.adjust(10)
      assert.strictEqual(times, 2)
      yield* TestClock.adjust(20)
      assert.strictEqual(times, 3)
      yield* Fiber.join(dialing)
    }))
})
