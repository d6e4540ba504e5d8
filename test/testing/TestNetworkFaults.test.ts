import { describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { HandlerMap } from "effect-call"
import { TestNetwork } from "effect-call/testing"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { connect, observe, onNetwork, settle } from "./support.ts"

describe("faults of dials", () => {
  it.effect("refuse: new dials fail, connections live on", () =>
    Effect.gen(function*() {
      const { client, server } = yield* connect("orders", yield* TestNetwork.listener("orders", HandlerMap.empty))
      yield* TestNetwork.fault("orders", { dial: "refuse" })
      const error = yield* Effect.flip((yield* TestNetwork.endpoint("orders")).dial)
      assert.equal(error.message, "cannot dial memory://orders: connection refused: a fault refuses it")
      client.write("alive")
      yield* observe(server).received("alive")
    }).pipe(onNetwork))

  it.effect("hang: dials wait, and connect when the name is healed", () =>
    Effect.gen(function*() {
      yield* TestNetwork.fault("orders", { dial: "hang" })
      const endpoint = yield* TestNetwork.endpoint("orders")
      const dials = yield* Effect.forEach([1, 2, 3], () => Effect.forkChild(endpoint.dial, { startImmediately: true }))
      yield* settle
      assert.deepEqual(dials.map((fiber) => fiber.pollUnsafe()), [undefined, undefined, undefined])
      // It is the fault that they wait for, and not a listener.
      const listener = yield* TestNetwork.listener("orders", HandlerMap.empty)
      yield* TestNetwork.heal("orders")
      for (const fiber of dials) yield* Fiber.join(fiber)
      for (const _ of dials) yield* listener.accept
    }).pipe(onNetwork))

  it.effect("hang, then refuse: the dials that hang are refused", () =>
    Effect.gen(function*() {
      yield* TestNetwork.fault("orders", { dial: "hang" })
      const endpoint = yield* TestNetwork.endpoint("orders")
      const dialing = yield* Effect.forkChild(Effect.flip(endpoint.dial), { startImmediately: true })
      // Other faults do not let it go.
      yield* TestNetwork.fault("orders", { dial: "hang", blackHole: true })
      yield* settle
      assert.equal(dialing.pollUnsafe(), undefined)
      yield* TestNetwork.fault("orders", { dial: "refuse" })
      assert.match((yield* Fiber.join(dialing)).message, /a fault refuses it/)
    }).pipe(onNetwork))

  it.effect("the fault of one name is not another's", () =>
    Effect.gen(function*() {
      yield* TestNetwork.fault("orders", { dial: "refuse" })
      yield* connect("stock", yield* TestNetwork.listener("stock", HandlerMap.empty))
    }).pipe(onNetwork))
})

describe("a delay", () => {
  it.effect("holds what is sent for as long as it says, in each direction, and keeps the order", () =>
    Effect.gen(function*() {
      const { client, server } = yield* connect("orders", yield* TestNetwork.listener("orders", HandlerMap.empty))
      const [atClient, atServer] = [observe(client), observe(server)]
      yield* TestNetwork.fault("orders", { delay: "100 millis" })
      client.write("a")
      yield* TestClock.adjust("50 millis")
      client.write("b")
      server.write("x")
      yield* TestClock.adjust("49 millis")
      yield* settle
      assert.equal(atServer.state.text, "")
      yield* TestClock.adjust("1 millis")
      yield* atServer.received("a")
      yield* TestClock.adjust("49 millis")
      yield* settle
      assert.deepEqual([atServer.state.text, atClient.state.text], ["a", ""])
      yield* TestClock.adjust("1 millis")
      yield* atServer.received("ab")
      yield* atClient.received("x")
    }).pipe(onNetwork))

  it.effect("does not add up over writes that follow each other", () =>
    Effect.gen(function*() {
      const { client, server } = yield* connect("orders", yield* TestNetwork.listener("orders", HandlerMap.empty))
      const atServer = observe(server)
      yield* TestNetwork.fault("orders", { delay: "1 second" })
      for (const text of ["a", "b", "c", "d"]) {
        yield* Effect.callback<void>((resume) => {
          client.write(text, () => resume(Effect.void))
        })
      }
      yield* TestClock.adjust("1 second")
      yield* atServer.received("abcd")
    }).pipe(onNetwork))

  it.effect("holds the end of a connection as well", () =>
    Effect.gen(function*() {
      const { client, server } = yield* connect("orders", yield* TestNetwork.listener("orders", HandlerMap.empty))
      const atServer = observe(server)
      yield* TestNetwork.fault("orders", { delay: "1 second" })
      client.end("last words")
      yield* settle
      assert.deepEqual(atServer.state, { text: "", events: [] })
      yield* TestClock.adjust("1 second")
      yield* atServer.closed
      assert.deepEqual(atServer.state, { text: "last words", events: ["end", "close"] })
    }).pipe(onNetwork))

  it.effect("concerns new connections too", () =>
    Effect.gen(function*() {
      yield* TestNetwork.fault("orders", { delay: "1 second" })
      const { client, server } = yield* connect("orders", yield* TestNetwork.listener("orders", HandlerMap.empty))
      const atServer = observe(server)
      client.write("a")
      yield* settle
      assert.equal(atServer.state.text, "")
      yield* TestClock.adjust("1 second")
      yield* atServer.received("a")
    }).pipe(onNetwork))

  it.effect("that becomes shorter lets what is on its way arrive earlier, and healed at once", () =>
    Effect.gen(function*() {
      const { client, server } = yield* connect("orders", yield* TestNetwork.listener("orders", HandlerMap.empty))
      const atServer = observe(server)
      yield* TestNetwork.fault("orders", { delay: "1 hour" })
      client.write("a")
      yield* settle
      yield* TestNetwork.fault("orders", { delay: "1 second" })
      yield* TestClock.adjust("1 second")
      yield* atServer.received("a")
      client.write("b")
      yield* settle
      yield* TestNetwork.heal("orders")
      yield* atServer.received("ab")
    }).pipe(onNetwork))

  it.live("passes on the live clock as well", () =>
    Effect.gen(function*() {
      const { client, server } = yield* connect("orders", yield* TestNetwork.listener("orders", HandlerMap.empty))
      const atServer = observe(server)
      yield* TestNetwork.fault("orders", { delay: "20 millis" })
      const start = performance.now()
      client.write("a")
      yield* atServer.received("a")
      assert.ok(performance.now() - start >= 20)
    }).pipe(onNetwork))
})

describe("a black hole", () => {
  it.effect("keeps what is sent and the end of a connection, and delivers them in order when healed", () =>
    Effect.gen(function*() {
      const { client, server } = yield* connect("orders", yield* TestNetwork.listener("orders", HandlerMap.empty))
      const [atClient, atServer] = [observe(client), observe(server)]
      yield* TestNetwork.fault("orders", { blackHole: true })
      client.write("a")
      server.write("x")
      client.write("b")
      client.end()
      yield* settle
      assert.deepEqual([atServer.state, atClient.state], [{ text: "", events: [] }, { text: "", events: [] }])
      yield* TestNetwork.heal("orders")
      yield* Effect.all([atClient.closed, atServer.closed])
      assert.deepEqual([atServer.state.text, atClient.state.text], ["ab", "x"])
    }).pipe(onNetwork))

  for (const direction of ["toServer", "toClient"] as const) {
    it.effect(`${direction} does not change the other direction`, () =>
      Effect.gen(function*() {
        const { client, server } = yield* connect("orders", yield* TestNetwork.listener("orders", HandlerMap.empty))
        const [held, free] = direction === "toServer" ? [server, client] : [client, server]
        const [atHeld, atFree] = [observe(held), observe(free)]
        yield* TestNetwork.fault("orders", { blackHole: direction })
        free.write("lost")
        held.write("seen")
        yield* atFree.received("seen")
        yield* settle
        assert.equal(atHeld.state.text, "")
        yield* TestNetwork.heal("orders")
        yield* atHeld.received("lost")
      }).pipe(onNetwork))
  }

  it.effect("holds up a writer once 64 KiB are underway", () =>
    Effect.gen(function*() {
      const { client, server } = yield* connect("orders", yield* TestNetwork.listener("orders", HandlerMap.empty))
      const atServer = observe(server)
      yield* TestNetwork.fault("orders", { blackHole: true })
      let accepted = 0
      const text = "x".repeat(32 * 1024)
      for (let i = 0; i < 10; i++) client.write(text, () => accepted++)
      yield* settle
      assert.ok(accepted >= 1 && accepted < 10, `${accepted} of 10`)
      yield* TestNetwork.heal("orders")
      yield* atServer.received(text.repeat(10))
    }).pipe(onNetwork))
})

describe("a cut", () => {
  it.effect("counts on existing connections from when it is set, on new ones from their start", () =>
    Effect.gen(function*() {
      const listener = yield* TestNetwork.listener("orders", HandlerMap.empty)
      const existing = yield* connect("orders", listener)
      const atExisting = observe(existing.server)
      existing.client.write("before ")
      yield* atExisting.received("before ")
      yield* TestNetwork.fault("orders", { cutAfter: { toServer: 3 } })
      existing.client.write("abcdef")
      const fresh = yield* connect("orders", listener)
      const atFresh = observe(fresh.server)
      fresh.client.write("ghijkl")
      yield* Effect.all([atExisting.closed, atFresh.closed])
      assert.deepEqual(atExisting.state, { text: "before abc", events: ["ECONNRESET", "close"] })
      assert.deepEqual(atFresh.state, { text: "ghi", events: ["ECONNRESET", "close"] })
      assert.ok(existing.client.destroyed && fresh.client.destroyed)
    }).pipe(onNetwork))

  it.effect("toClient counts what the client gets, and the server sees the reset too", () =>
    Effect.gen(function*() {
      const { client, server } = yield* connect("orders", yield* TestNetwork.listener("orders", HandlerMap.empty))
      const [atClient, atServer] = [observe(client), observe(server)]
      yield* TestNetwork.fault("orders", { cutAfter: { toClient: 2 } })
      client.write("any number of bytes")
      yield* atServer.received("any number of bytes")
      server.write("abc")
      yield* Effect.all([atClient.closed, atServer.closed])
      assert.deepEqual(atClient.state, { text: "ab", events: ["ECONNRESET", "close"] })
      assert.deepEqual(atServer.state.events, ["ECONNRESET", "close"])
    }).pipe(onNetwork))

  it.effect("after 0 bytes breaks existing connections at once, and new ones as soon as they are made", () =>
    Effect.gen(function*() {
      const listener = yield* TestNetwork.listener("orders", HandlerMap.empty)
      const existing = observe((yield* connect("orders", listener)).client)
      yield* TestNetwork.fault("orders", { cutAfter: { toServer: 0 } })
      yield* existing.closed
      const fresh = observe(yield* (yield* TestNetwork.endpoint("orders")).dial)
      yield* fresh.closed
      assert.deepEqual([existing.state.events, fresh.state.events], [["ECONNRESET", "close"], ["ECONNRESET", "close"]])
      // A connection that is already broken is not accepted.
      yield* TestNetwork.heal("orders")
      const { client, server } = yield* connect("orders", listener)
      client.write("whole")
      yield* observe(server).received("whole")
    }).pipe(onNetwork))

  it.effect("that is healed in time does not happen", () =>
    Effect.gen(function*() {
      const { client, server } = yield* connect("orders", yield* TestNetwork.listener("orders", HandlerMap.empty))
      const atServer = observe(server)
      yield* TestNetwork.fault("orders", { cutAfter: { toServer: 4 } })
      client.write("abc")
      yield* atServer.received("abc")
      yield* TestNetwork.heal("orders")
      client.write("def")
      yield* atServer.received("abcdef")
    }).pipe(onNetwork))
})

describe("faults", () => {
  it.effect("take the place of those before", () =>
    Effect.gen(function*() {
      const listener = yield* TestNetwork.listener("orders", HandlerMap.empty)
      yield* TestNetwork.fault("orders", { dial: "refuse", blackHole: true })
      yield* TestNetwork.fault("orders", { cutAfter: { toClient: 100 } })
      const { client, server } = yield* connect("orders", listener)
      client.write("a")
      yield* observe(server).received("a")
    }).pipe(onNetwork))

  it.effect("that cannot be are refused, and leave things as they are", () =>
    Effect.gen(function*() {
      const message = (faults: unknown) =>
        Effect.map(
          Effect.flip(TestNetwork.fault("orders", faults as TestNetwork.Faults)),
          (error) => `${error._tag}: ${error.message}`
        )
      assert.equal(
        yield* message({ cutAfter: { toServer: -1 } }),
        "InvalidFaults: cutAfter.toServer is -1, expected a whole number of bytes, 0 or more"
      )
      assert.equal(
        yield* message({ cutAfter: { toClient: 1.5 } }),
        "InvalidFaults: cutAfter.toClient is 1.5, expected a whole number of bytes, 0 or more"
      )
      for (const delay of ["soon", "-1 seconds", Infinity, NaN]) {
        const shown = typeof delay === "string" ? `"${delay}"` : delay
        assert.equal(
          yield* message({ dial: "refuse", delay }),
          `InvalidFaults: delay is ${shown}, expected a finite duration, 0 or more`
        )
      }
      assert.equal(yield* message({ dial: "slow" }), "InvalidFaults: dial is \"slow\", expected \"refuse\" or \"hang\"")
      assert.equal(
        yield* message({ blackHole: "both" }),
        "InvalidFaults: blackHole is \"both\", expected true, false, \"toServer\" or \"toClient\""
      )
      yield* connect("orders", yield* TestNetwork.listener("orders", HandlerMap.empty))
    }).pipe(onNetwork))
})
