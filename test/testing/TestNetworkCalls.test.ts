import { describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Scope } from "effect"
import { Connection, Endpoint, HandlerMap, Listener, MethodKey, Resolver, Server } from "effect-call"
import { TestNetwork } from "effect-call/testing"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { makeAuthority } from "../../examples/support/certificates.ts"

const onNetwork = Effect.provide(TestNetwork.layer)

const echo = MethodKey.make("test/Echo", "echo")
const who = MethodKey.make("test/Echo", "who")
const server = (name: string) =>
  HandlerMap.empty.pipe(
    HandlerMap.set("test/Echo", "echo", (args) => Effect.succeed(args)),
    HandlerMap.set("test/Echo", "who", () => Effect.succeed(new TextEncoder().encode(name)))
  )

const connectTo = Effect.fnUntraced(function*(...names: ReadonlyArray<string>) {
  const endpoints = yield* Effect.forEach(names, (name) => TestNetwork.endpoint(name))
  return yield* Connection.make(Resolver.constant(...endpoints))
})

const ask = (connection: Connection.Connection, options?: Connection.CallOptions) =>
  Effect.map(connection.call(who, new Uint8Array(), options), (bytes) => new TextDecoder().decode(bytes))

/** A turn of the event loop, in which bytes can arrive. */
const turn = Effect.callback<void>((resume) => {
  setImmediate(() => resume(Effect.void))
})

/** Advances the clock millisecond by millisecond until the fiber is done, and tells how long that took. */
const elapse = Effect.fnUntraced(function*<A, E>(fiber: Fiber.Fiber<A, E>) {
  let millis = 0
  while (true) {
    // What the fiber has set going must have happened before time goes on.
    for (let i = 0; i < 20; i++) yield* turn
    if (fiber.pollUnsafe() !== undefined) return millis
    yield* TestClock.adjust("1 millis")
    millis++
  }
})

/** Lets time pass until the effect is done, for one that waits for the end of a backoff. */
const inTime = Effect.fnUntraced(function*<A, E, R>(effect: Effect.Effect<A, E, R>) {
  const fiber = yield* Effect.forkChild(effect, { startImmediately: true })
  yield* elapse(fiber)
  return yield* Fiber.join(fiber)
})

describe("calls on the in-memory network", () => {
  it.effect("are answered although the clock does not move", () =>
    Effect.gen(function*() {
      yield* TestNetwork.listen("a", server("a"))
      yield* TestNetwork.listen("b", server("b"))
      const connection = yield* connectTo("a", "b")
      assert.deepEqual([yield* ask(connection), yield* ask(connection), yield* ask(connection)], ["a", "b", "a"])
    }).pipe(onNetwork))

  it.effect("a thousand at once each get their own answer, with a mebibyte among them", () =>
    Effect.gen(function*() {
      yield* TestNetwork.listen("a", server("a"))
      const connection = yield* connectTo("a")
      const all = Array.from({ length: 1000 }, (_, i) =>
        i === 500 ? new Uint8Array(1024 * 1024).fill(7) : new Uint8Array([i, i >> 8]))
      const answers = yield* Effect.forEach(all, (args) =>
        connection.call(echo, args), { concurrency: "unbounded" })
      assert.ok(answers.every((answer, i) => Buffer.compare(answer, all[i]!) === 0))
    }).pipe(onNetwork))

  it.effect("use the services that the handlers need", () =>
    Effect.gen(function*() {
      const opened = yield* Deferred.make<string>()
      yield* TestNetwork.listen(
        "a",
        HandlerMap.empty.pipe(
          HandlerMap.set(
            "test/Echo",
            "who",
            () =>
              Effect.flatMap(
                TestNetwork.TestNetwork,
                (network) => Effect.as(Deferred.succeed(opened, network.endpoint("x").address), new Uint8Array())
              )
          )
        )
      )
      yield* ask(yield* connectTo("a"))
      assert.equal(yield* Deferred.await(opened), "memory://x")
    }).pipe(onNetwork))

  it.effect("take the delay once each way, on the clock of the test", () =>
    Effect.gen(function*() {
      yield* TestNetwork.listen("a", server("a"))
      const connection = yield* connectTo("a")
      // The first call dials, which takes the version messages there and back; the second does not.
      yield* ask(connection)
      yield* TestNetwork.fault("a", { delay: "25 millis" })
      const calling = yield* Effect.forkChild(ask(connection))
      assert.equal(yield* elapse(calling), 50)
      assert.equal(yield* Fiber.join(calling), "a")
    }).pipe(onNetwork))

  it.effect("a server whose scope closes is gone, and another can take its name", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      yield* Scope.provide(TestNetwork.listen("a", server("first")), scope)
      const connection = yield* connectTo("a")
      assert.equal(yield* ask(connection), "first")
      yield* Scope.close(scope, Exit.void)
      const error = yield* Effect.flip(ask(yield* connectTo("a")))
      assert.equal(error._tag, "Unreachable")
      assert.match(JSON.stringify(error), /no server listens on/)
      yield* TestNetwork.listen("a", server("second"))
      // The connection of before, as well as a new one.
      assert.equal(yield* inTime(ask(connection, { waitForReady: true })), "second")
      assert.equal(yield* ask(yield* connectTo("a")), "second")
    }).pipe(onNetwork))

  it.effect("a server whose scope closes ends the calls that it is serving", () =>
    Effect.gen(function*() {
      const started = yield* Deferred.make<void>()
      const handlers = HandlerMap.empty.pipe(
        HandlerMap.set("test/Echo", "who", () => Effect.andThen(Deferred.succeed(started, undefined), Effect.never))
      )
      const scope = yield* Scope.make()
      yield* Scope.provide(TestNetwork.listen("a", handlers, { shutdownGrace: 0 }), scope)
      const connection = yield* connectTo("a")
      const calling = yield* Effect.forkChild(Effect.flip(ask(connection)))
      yield* Deferred.await(started)
      yield* Scope.close(scope, Exit.void)
      const error = yield* Fiber.join(calling)
      assert.ok(error._tag === "CommunicationError" && error.reason._tag === "Lost" && error.maybeExecuted)
    }).pipe(onNetwork))

  it.effect("a second server of a name is a typed error, and the first goes on", () =>
    Effect.gen(function*() {
      yield* TestNetwork.listen("a", server("first"))
      const error = yield* Effect.flip(TestNetwork.listen("a", server("second")))
      assert.equal(error._tag, "ListenerError")
      assert.equal(yield* ask(yield* connectTo("a")), "first")
    }).pipe(onNetwork))

  it.effect("a server that refuses costs no call where there is another", () =>
    Effect.gen(function*() {
      yield* TestNetwork.listen("a", server("a"))
      yield* TestNetwork.listen("b", server("b"))
      yield* TestNetwork.fault("a", { dial: "refuse" })
      const connection = yield* connectTo("a", "b")
      for (let i = 0; i < 10; i++) assert.equal(yield* ask(connection), "b")
      yield* TestNetwork.heal("a")
      yield* TestClock.adjust("1 minute")
      const answers = new Set([yield* ask(connection), yield* ask(connection)])
      assert.deepEqual(answers, new Set(["a", "b"]))
    }).pipe(onNetwork))

  it.effect("a dial that hangs ends at the call's deadline, and connects when healed", () =>
    Effect.gen(function*() {
      yield* TestNetwork.listen("a", server("a"))
      yield* TestNetwork.fault("a", { dial: "hang" })
      const connection = yield* connectTo("a")
      const late = yield* Effect.forkChild(Effect.flip(ask(connection, { timeout: "10 millis" })))
      assert.equal(yield* elapse(late), 10)
      assert.equal((yield* Fiber.join(late))._tag, "DeadlineExceeded")
      const patient = yield* Effect.forkChild(ask(connection))
      yield* turn
      yield* TestNetwork.heal("a")
      assert.equal(yield* Fiber.join(patient), "a")
    }).pipe(onNetwork))

  it.effect("a black hole ends a call at its deadline, and after it is healed the connection goes on", () =>
    Effect.gen(function*() {
      yield* TestNetwork.listen("a", server("a"))
      const connection = yield* connectTo("a")
      yield* ask(connection)
      yield* TestNetwork.fault("a", { blackHole: true })
      const lost = yield* Effect.forkChild(Effect.flip(ask(connection, { timeout: "1 second" })), {
        startImmediately: true
      })
      yield* turn
      yield* TestClock.adjust("1 second")
      assert.equal((yield* Fiber.join(lost))._tag, "DeadlineExceeded")
      const held = yield* Effect.forkChild(ask(connection), { startImmediately: true })
      yield* turn
      yield* TestNetwork.heal("a")
      assert.equal(yield* Fiber.join(held), "a")
    }).pipe(onNetwork))

  // Two version messages of 20 or 24 bytes, the request of 65, the response of 17.
  for (const direction of ["toServer", "toClient"] as const) {
    it.effect(`cut on any byte ${direction}, a call ends in an answer or a typed error, and the next one works`, () =>
      Effect.gen(function*() {
        let runs = 0
        yield* TestNetwork.listen(
          "a",
          HandlerMap.empty.pipe(
            HandlerMap.set("test/Echo", "who", () =>
              Effect.sync(() => {
                runs++
                return new TextEncoder().encode("a")
              }))
          )
        )
        const outcomes = new Set<string>()
        for (let at = 0; at <= 100; at++) {
          yield* TestNetwork.fault("a", { cutAfter: { [direction]: at } })
          const connection = yield* connectTo("a")
          const before = runs
          const outcome = yield* Effect.match(ask(connection), {
            onSuccess: (name) => name,
            onFailure: (error) => {
              if (error._tag === "CommunicationError" && !error.maybeExecuted) assert.equal(runs, before)
              return error._tag
            }
          })
          outcomes.add(outcome)
          yield* TestNetwork.heal("a")
          assert.equal(yield* inTime(ask(connection, { waitForReady: true })), "a")
          yield* connection.close
        }
        // The version messages, then the request or its answer, then beyond.
        assert.deepEqual([...outcomes], ["Unreachable", "CommunicationError", "a"])
      }).pipe(onNetwork))
  }

  it.effect("Server.layer and mTLS run over it, and the handlers see the client's certificate", () =>
    Effect.gen(function*() {
      const authority = yield* makeAuthority()
      const { ca } = authority
      const [serverTls, clientTls] = yield* Effect.all([
        authority.server(),
        authority.client({ commonName: "billing" })
      ])
      const listener = TestNetwork.listener("a", ({ certificate }) => server(String(certificate?.subject.CN))).pipe(
        Effect.flatMap((inner) => Listener.mtls({ ...serverTls, ca }, inner))
      )
      const address = yield* Server.Server.useSync(({ address }) => address).pipe(
        Effect.tap(() =>
          Effect.gen(function*() {
            const endpoint = Endpoint.mtls(
              { ...clientTls, ca, servername: "localhost" },
              yield* TestNetwork.endpoint("a")
            )
            const connection = yield* Connection.make(Resolver.constant(endpoint))
            assert.equal(yield* ask(connection), "billing")
            const large = new Uint8Array(1024 * 1024).fill(1)
            assert.equal(Buffer.compare(yield* connection.call(echo, large), large), 0)
          }).pipe(Effect.scoped)
        ),
        Effect.provide(Server.layer(listener))
      )
      assert.equal(address, "mtls://memory://a")
    }).pipe(onNetwork))
})
