/** Functions, options, Health and listeners that a server is given and that are not what their types say. */
import { describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Layer, type Scope, Stream } from "effect"
import { Connection, HandlerMap, Health, Listener, MethodKey, Server } from "effect-call"
import { CallTest, TestNetwork } from "effect-call/testing"
import * as assert from "node:assert/strict"
import { Duplex } from "node:stream"
import { connect, echo, handlers, tcp } from "../support/networks.ts"
import { areOf, boom, errorsIn, hostile, inLog, rejected, works, wrong } from "./usersCode.ts"

describe("handlers that are a function of the peer, which", () => {
  const fine = handlers
  const functions: Readonly<Record<string, (peer: Listener.Peer) => unknown>> = {
    "throws": boom,
    "gives undefined": () => undefined,
    "gives a text": () => "handlers",
    "is async": () => Promise.resolve(fine),
    "is async, and throws": rejected,
    "gives an Effect": () => Effect.succeed(fine),
    "gives what is hostile": () => hostile,
    "gives an object with entries that are none": () => ({ entries: [1, 2] }),
    "gives entries that are undefined": () => ({ entries: new Map([["a", undefined]]) }),
    "gives entries without a handler": () => ({ entries: new Map([["a", { key: echo }]]) }),
    "gives entries without a key": () => ({ entries: new Map([["a", { handler: () => Effect.void }]]) })
  }
  for (const [name, handlersOf] of Object.entries(functions)) {
    it.live(`${name}: that connection is closed, and the next one is served`, () =>
      inLog((log) =>
        Effect.gen(function*() {
          let first = true
          const { endpoint } = yield* tcp.serve((peer) => {
            if (!first) return fine
            first = false
            return wrong<HandlerMap.HandlerMap<never>>(handlersOf(peer))
          })
          // The first connection is closed before its version message: a dial that is made once more.
          const connection = yield* connect([endpoint])
          yield* connection.call(echo, new Uint8Array())
          yield* works(connection)
          areOf(errorsIn(log.lines), /No handlers for a connection|an accepted connection cannot be served/)
        })
      ))
  }
})

/** What is thrown, or what an effect dies with. */
const defectOf = (evaluate: () => unknown): Effect.Effect<string> =>
  Effect.suspend(() => wrong<Effect.Effect<unknown, unknown>>(evaluate())).pipe(
    Effect.exit,
    Effect.map((exit) => Exit.isFailure(exit) ? String(Cause.squash(exit.cause)) : "nothing")
  )

describe("what is made with wrong inputs is refused with an error that names them:", () => {
  const inputs: Readonly<Record<string, readonly [run: () => unknown, says: RegExp]>> = {
    "a handler that is undefined": [
      () => HandlerMap.set(HandlerMap.empty, "a", "b", wrong<HandlerMap.Handler>(undefined)),
      /the handler of a\.b: expected a function/
    ],
    "a handler that is an Effect": [
      () => HandlerMap.set(HandlerMap.empty, "a", "b", wrong<HandlerMap.Handler>(Effect.void)),
      /the handler of a\.b/
    ],
    "a component that is no text": [
      () => HandlerMap.set(HandlerMap.empty, wrong(Symbol("a")), "b", boom),
      /the component of a method: expected a text, got Symbol\(a\)/
    ],
    "a method that is no text": [
      () => HandlerMap.set(HandlerMap.empty, "a", wrong(undefined), boom),
      /the method of a: expected a text, got undefined/
    ],
    "what is merged": [
      () => HandlerMap.merge(handlers, wrong<HandlerMap.HandlerMap<never>>(undefined)),
      /what handlers are added to: expected a HandlerMap, got undefined/
    ],
    "a key of nothing": [() => MethodKey.make(wrong(undefined), "b"), /the component of a method/],
    "a status": [
      () => Health.make(wrong("serving")),
      /the status of a server: expected "Serving" or "NotServing", got "serving"/
    ],
    "a status that is set": [
      () => Effect.flatMap(Health.make(), (health) => health.set(wrong(true))),
      /the status of a server/
    ],
    "call options that are undefined": [
      () => Connection.withOptions(Effect.void, wrong(undefined)),
      /the options of calls: expected an object/
    ],
    "call options that are a text": [
      () => Connection.withOptions(Effect.void, wrong("1 second")),
      /the options of calls/
    ],
    "handlers of a TCP listener": [
      () => Effect.scoped(Listener.tcp("127.0.0.1:0", wrong<HandlerMap.HandlerMap<never>>(undefined))),
      /the handlers of a listener/
    ],
    "handlers of a Unix listener": [
      () => Effect.scoped(Listener.unix("@effect-call-none", wrong<HandlerMap.HandlerMap<never>>(rejected()))),
      /the handlers of a listener/
    ],
    "handlers of a test": [
      () => Effect.scoped(Layer.build(CallTest.layer(wrong<HandlerMap.HandlerMap<never>>(undefined)))),
      /the handlers of a listener/
    ],
    "handlers of serveOn": [
      () => Effect.suspend(() => Server.serveOn(new Duplex(), wrong<HandlerMap.HandlerMap<never>>(undefined))),
      /the handlers of a connection: expected a HandlerMap, got undefined/
    ],
    "a connection of serveOn": [
      () => Server.serveOn(wrong({ writable: true }), handlers),
      /the connection to serve: expected a Duplex/
    ],
    "the name of a test's endpoint": [
      () => Effect.scoped(Effect.map(TestNetwork.make, (network) => network.endpoint(wrong(7)))),
      /the name of a host: expected a text, got 7/
    ],
    "faults": [
      () => Effect.scoped(Effect.flatMap(TestNetwork.make, (network) => network.fault("a", wrong(null)))),
      /a fault is null/
    ],
    "faults that are hostile": [
      () => Effect.scoped(Effect.flatMap(TestNetwork.make, (network) => network.fault("a", wrong(hostile)))),
      /boom/
    ],
    "a cut": [
      () => Effect.scoped(Effect.flatMap(TestNetwork.make, (network) => network.fault("a", wrong({ cutAfter: 7 })))),
      /cutAfter is 7/
    ],
    "a delay": [
      () =>
        Effect.scoped(
          Effect.flatMap(TestNetwork.make, (network) => network.fault("a", wrong({ delay: hostile })))
        ),
      /delay is/
    ],
    "a black hole": [
      () =>
        Effect.scoped(
          Effect.flatMap(TestNetwork.make, (network) => network.fault("a", wrong({ blackHole: Symbol("x") })))
        ),
      /blackHole is Symbol/
    ]
  }
  for (const [name, [run, says]] of Object.entries(inputs)) {
    it.live(name, () => inLog(() => Effect.map(defectOf(run), (defect) => assert.match(defect, says))))
  }

  const options = [
    "inlineHandlerDuration",
    "writeFlattenLimit",
    "maxMessageSize",
    "maxUnsentBytes",
    "maxConcurrentCalls",
    "maxQueuedCalls",
    "maxConcurrentCallsPerConnection",
    "maxQueuedCallsPerConnection",
    "firstMessageTimeout",
    "messageTimeout",
    "idleTimeout",
    "metrics",
    "shutdownGrace"
  ]
  const values: ReadonlyArray<unknown> = [NaN, -1, "nonsense", hostile, Symbol("x"), boom]
  for (const option of options) {
    it.live(`the option ${option} of a server`, () =>
      inLog(() =>
        Effect.gen(function*() {
          for (const value of values) {
            const { listener } = yield* tcp.listen(handlers)
            const defect = yield* defectOf(() => Server.serve(listener, wrong({ [option]: value })))
            assert.match(defect, new RegExp(`option ${option}: expected`))
            const ofLayer = yield* defectOf(() =>
              Effect.scoped(Layer.build(Server.layer(Effect.succeed(listener), wrong({ [option]: value }))))
            )
            assert.match(ofLayer, new RegExp(`option ${option}: expected`))
            yield* listener.close
          }
        })
      ))
  }
})

describe("a Health of one's own, whose changes", () => {
  const changes: Readonly<Record<string, () => unknown>> = {
    "throw": boom,
    "are undefined": () => undefined,
    "are a rejected promise": rejected,
    "die": () => Stream.die(new Error("boom")),
    "end": () => Stream.empty,
    "never come": () => Stream.never,
    "are no statuses": () => Stream.make("nonsense")
  }
  for (const [name, give] of Object.entries(changes)) {
    it.live(`${name}: calls are served, with any number of clients`, () =>
      inLog(() =>
        Effect.gen(function*() {
          const health: Health.Health = {
            set: () => Effect.void,
            status: () => Effect.succeed("Serving"),
            changes: wrong(give)
          }
          const asked = yield* Effect.provideService(Health.handlers, Health.Health, health)
          // One of each connection does not count: where it did, there would be no place for a call.
          const { endpoint } = yield* tcp.serve(HandlerMap.merge(handlers, asked), { maxConcurrentCalls: 1 })
          const connection = yield* connect([endpoint], { health: "" })
          yield* works(connection)
          const watch = MethodKey.make("effect-call/Health", "watch")
          const ask = (known: number) =>
            Effect.exit(connection.call(watch, Uint8Array.of(known), { timeout: "20 millis" }))
          yield* ask(1)
          yield* ask(255)
          yield* works(connection)
        })
      ))
  }
})

describe("a server's layer whose listener", () => {
  const listeners: Readonly<Record<string, Effect.Effect<unknown, unknown, Scope.Scope>>> = {
    "throws": Effect.sync(boom),
    "fails": Effect.fail(new Listener.ListenerError({ message: "boom" })),
    "is undefined": Effect.void,
    "is a text": Effect.succeed("listener"),
    "is hostile": Effect.succeed(hostile)
  }
  for (const [name, listener] of Object.entries(listeners)) {
    it.live(`${name} cannot be built`, () =>
      inLog(() =>
        Effect.gen(function*() {
          const exit = yield* Effect.exit(
            Effect.scoped(Layer.build(Server.layer(wrong<Effect.Effect<Listener.Listener>>(listener))))
          )
          assert.ok(Exit.isFailure(exit))
        })
      ))
  }
})
