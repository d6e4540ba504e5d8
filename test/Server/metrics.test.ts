/**
 * What a server counts of its calls: each once, however it ends. metricsOfServers.test.ts is for what else it counts.
 */
import { describe, it } from "@effect/vitest"
import { Clock, Effect, Exit, Fiber, Schema, Scope } from "effect"
import { HandlerMap, MethodKey, type Server } from "effect-call"
import { TestNetwork } from "effect-call/testing"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { elapse, settle } from "../Connection/support.ts"
import { clockThat } from "../support/clock.ts"
import { assertTook, callsOf, durationsOf, metered, meteredInMemory } from "../support/metrics.ts"
import { component, connect, echo, handlers, hang, memory, tcp } from "../support/networks.ts"
import { cancel, messagesOf, rawClient, request, version } from "../support/raw.ts"

const method = (name: string) => MethodKey.make(component, name)
const nothing = new Uint8Array()
const sleep = method("sleep")
const stubborn = method("stubborn")

const fork = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.forkChild(effect, { startImmediately: true })

class SoldOut extends Schema.TaggedError<SoldOut>()("SoldOut", {}) {}

/**
 * "sleep" sleeps for as many milliseconds as its arguments are long, and so does "stubborn", which cannot be
 * interrupted.
 */
const served = handlers.pipe(
  HandlerMap.set(component, "sleep", (args) => Effect.as(Effect.sleep(args.length), nothing)),
  HandlerMap.set(
    component,
    "stubborn",
    (args) => Effect.uninterruptible(Effect.as(Effect.sleep(args.length), nothing))
  ),
  HandlerMap.set(component, "sold out", () => Effect.fail(new SoldOut())),
  HandlerMap.set(component, "die", () => Effect.die(new Error("dead"))),
  HandlerMap.set(component, "throw", (): Effect.Effect<Uint8Array> => {
    throw new Error("thrown")
  }),
  // As JavaScript may have it.
  HandlerMap.set(component, "text", () => Effect.succeed("no bytes" as unknown as Uint8Array)),
  HandlerMap.set(component, "interrupt", () => Effect.interrupt),
  HandlerMap.set(component, "large", () => Effect.succeed(new Uint8Array(2000)))
)

/** A Connection to a server that serves all of the above. */
const open = (options?: Server.ServerOptions) =>
  Effect.flatMap(memory.serve(served, options), ({ endpoint }) => connect([endpoint]))

describe("a call that succeeds", () => {
  it.live(
    "is counted once, under its method, and its server's host and port",
    metered(({ histograms }) =>
      Effect.gen(function*() {
        const { endpoint } = yield* tcp.serve(handlers)
        yield* (yield* connect([endpoint])).call(echo, nothing)
        const [calls, ...others] = histograms("rpc.server.call.duration")
        assert.deepEqual(calls!.attributes, {
          "rpc.system.name": "effect_call",
          "rpc.service": "test/Echo",
          "rpc.method": "echo",
          "server.address": "127.0.0.1",
          "server.port": endpoint.address.slice("tcp://127.0.0.1:".length),
          unit: "seconds"
        })
        assert.equal(calls!.state.count, 1)
        assert.deepEqual(others, [])
      })
    )
  )

  it.effect(
    "has taken as long as the server's Clock says",
    metered((metrics) =>
      Effect.gen(function*() {
        const call = yield* fork((yield* open()).call(sleep, new Uint8Array(3000)))
        yield* elapse(call, 1000)
        assertTook(durationsOf(metrics, "server"), 3)
      })
    )
  )

  it.effect("has a duration that includes what its handler computes without yielding", () => {
    let now = 0
    const computing = HandlerMap.set(HandlerMap.empty, component, "compute", () => {
      now += 3000
      return Effect.succeed(nothing)
    })
    return metered((metrics) =>
      Effect.gen(function*() {
        const { endpoint } = yield* memory.serve(computing)
        yield* (yield* connect([endpoint])).call(method("compute"), nothing)
        assertTook(durationsOf(metrics, "server"), 3)
      }).pipe(Effect.provideService(Clock.Clock, clockThat(() => now)))
    )()
  })

  it.effect(
    "is timed by itself, however many are under way with it",
    metered((metrics) =>
      Effect.gen(function*() {
        const connection = yield* open()
        const calls = yield* Effect.forEach(
          Array.from({ length: 20 }, (_, i) => 1000 * (i + 1)),
          (millis) => fork(connection.call(sleep, new Uint8Array(millis)))
        )
        yield* elapse(calls.at(-1)!, 1000)
        const { count, max, min, sum } = durationsOf(metrics, "server")
        assert.deepEqual({ count, max, min, sum }, { count: 20, max: 20, min: 1, sum: 210 })
      })
    )
  )

  it.effect(
    "has taken the wait for its turn as well",
    metered((metrics) =>
      Effect.gen(function*() {
        const connection = yield* open({ maxConcurrentCalls: 1 })
        const calls = yield* Effect.replicateEffect(fork(connection.call(sleep, new Uint8Array(3000))), 3)
        yield* elapse(calls.at(-1)!, 1000)
        const { count, max, min, sum } = durationsOf(metrics, "server")
        assert.deepEqual({ count, max, min, sum }, { count: 3, max: 9, min: 3, sum: 18 })
      })
    )
  )

  it.effect(
    "is counted, also as one of thousands in a batch",
    metered((metrics) =>
      Effect.gen(function*() {
        const connection = yield* open()
        yield* Effect.replicateEffect(connection.call(echo, nothing), 1000, { concurrency: "unbounded", discard: true })
        assert.deepEqual(callsOf(metrics, "server"), ["1000 echo at memory://server: ok"])
      })
    )
  )
})

describe("a call that fails is counted once", () => {
  for (
    const [what, name, errorType] of [
      ["an error", "error", "Error"],
      ["an error with a tag, by the tag", "sold out", "SoldOut"],
      ["a defect", "die", "defect"],
      ["a handler that throws", "throw", "defect"],
      ["a handler that interrupts itself", "interrupt", "canceled"],
      ["a result that is no bytes", "text", "defect"],
      ["a result that is too large", "large", "too_large"]
    ] as const
  ) {
    it.effect(
      `with ${what}`,
      metered((metrics) =>
        Effect.gen(function*() {
          const connection = yield* open({ maxMessageSize: 1024 })
          yield* Effect.flip(connection.call(method(name), nothing))
          assert.deepEqual(callsOf(metrics, "server"), [`1 ${name} at memory://server: ${errorType}`])
        })
      )
    )
  }

  it.effect(
    "with an unknown method, and not under the name that the caller has for it",
    metered(({ histograms }) =>
      Effect.gen(function*() {
        const connection = yield* open()
        yield* Effect.flip(connection.call(MethodKey.make("made", "up"), nothing))
        yield* Effect.flip(connection.call(MethodKey.make("made", "up, too"), nothing))
        assert.deepEqual(
          histograms("rpc.server.call.duration").map(({ attributes, state }) => [attributes, state.count]),
          [[
            {
              "rpc.system.name": "effect_call",
              "rpc.method": "_OTHER",
              "server.address": "memory://server",
              "error.type": "unknown_method",
              unit: "seconds"
            },
            2
          ]]
        )
      })
    )
  )

  it.effect(
    "where the server is overloaded",
    metered((metrics) =>
      Effect.gen(function*() {
        const connection = yield* open({ maxConcurrentCalls: 1, maxQueuedCalls: 1 })
        const calls = yield* Effect.replicateEffect(fork(connection.call(sleep, new Uint8Array(1000))), 2)
        yield* settle
        yield* Effect.flip(connection.call(echo, nothing))
        yield* elapse(calls.at(-1)!, 1000)
        assert.deepEqual(callsOf(metrics, "server"), [
          "1 echo at memory://server: overloaded",
          "2 sleep at memory://server: ok"
        ])
      })
    )
  )
})

describe("a call that its caller gives up is counted once, as canceled", () => {
  it.effect(
    "while its handler runs",
    metered((metrics) =>
      Effect.gen(function*() {
        const call = yield* fork((yield* open()).call(hang, nothing))
        yield* settle
        yield* TestClock.adjust("3 seconds")
        yield* Fiber.interrupt(call)
        yield* settle
        assert.deepEqual(callsOf(metrics, "server"), ["1 hang at memory://server: canceled"])
        assertTook(durationsOf(metrics, "server"), 3)
      })
    )
  )

  it.effect(
    "while it waits for its turn",
    metered((metrics) =>
      Effect.gen(function*() {
        const connection = yield* open({ maxConcurrentCalls: 1 })
        yield* fork(Effect.exit(connection.call(hang, nothing)))
        const call = yield* fork(connection.call(echo, nothing))
        yield* settle
        yield* TestClock.adjust("3 seconds")
        yield* Fiber.interrupt(call)
        yield* settle
        assert.deepEqual(callsOf(metrics, "server"), ["1 echo at memory://server: canceled"])
        assertTook(durationsOf(metrics, "server"), 3)
      })
    )
  )

  it.effect(
    "in the same bytes that it came with",
    metered((metrics) =>
      Effect.gen(function*() {
        const { endpoint } = yield* memory.serve(served)
        const client = yield* rawClient(endpoint)
        client.write(Buffer.concat([version, request(1, hang, nothing), cancel(1), cancel(1)]))
        yield* client.until((bytes) => messagesOf(bytes).length >= 2)
        assert.deepEqual(callsOf(metrics, "server"), ["1 hang at memory://server: canceled"])
      })
    )
  )

  it.effect(
    "when its handler has ended, where that could not be interrupted",
    metered((metrics) =>
      Effect.gen(function*() {
        const call = yield* fork((yield* open()).call(stubborn, new Uint8Array(3000)))
        yield* settle
        yield* Fiber.interrupt(call)
        yield* TestClock.adjust("3 seconds")
        yield* settle
        assert.deepEqual(callsOf(metrics, "server"), ["1 stubborn at memory://server: canceled"])
        assertTook(durationsOf(metrics, "server"), 3)
      })
    )
  )
})

describe("a call whose connection is lost is counted once", () => {
  /** A server, a plain connection to it with these calls, and its loss 3 seconds later. */
  const lose = Effect.fnUntraced(function*(requests: ReadonlyArray<Buffer>, options?: Server.ServerOptions) {
    const { endpoint } = yield* memory.serve(served, options)
    const scope = yield* Scope.make()
    const client = yield* Scope.provide(rawClient(endpoint), scope)
    client.write(Buffer.concat([version, ...requests]))
    yield* settle
    yield* TestClock.adjust("3 seconds")
    yield* Scope.close(scope, Exit.void)
    yield* settle
  })

  it.effect(
    "as canceled, where its handler was running",
    metered((metrics) =>
      Effect.gen(function*() {
        yield* lose([request(1, hang, nothing), request(2, hang, nothing)])
        assert.deepEqual(callsOf(metrics, "server"), ["2 hang at memory://server: canceled"])
        assertTook(durationsOf(metrics, "server"), 3, 2)
      })
    )
  )

  it.effect(
    "as canceled, where it waited for its turn",
    metered((metrics) =>
      Effect.gen(function*() {
        yield* lose([request(1, hang, nothing), request(2, echo, nothing)], { maxConcurrentCalls: 1 })
        assert.deepEqual(callsOf(metrics, "server"), [
          "1 echo at memory://server: canceled",
          "1 hang at memory://server: canceled"
        ])
      })
    )
  )

  it.effect(
    "where its handler had ended, and its answer had yet to leave",
    meteredInMemory((metrics) =>
      Effect.gen(function*() {
        yield* TestNetwork.listen("a", served)
        const client = yield* rawClient(yield* TestNetwork.endpoint("a"))
        yield* TestNetwork.fault("a", { blackHole: "toClient" })
        // The network takes no more after the answer to the first of them.
        client.write(Buffer.concat([version, request(1, echo, new Uint8Array(200_000))]))
        client.write(Buffer.concat([1000, 2000, 3000].map((size, i) => request(2 + i, sleep, new Uint8Array(size)))))
        for (let second = 0; second < 3; second++) {
          yield* settle
          yield* TestClock.adjust("1 second")
        }
        yield* settle
        client.socket.destroy()
        yield* settle
        assert.deepEqual(callsOf(metrics, "server"), ["1 echo at memory://a: ok", "3 sleep at memory://a: ok"])
      })
    )
  )

  it.effect(
    "when its handler has ended, where that could not be interrupted",
    metered((metrics) =>
      Effect.gen(function*() {
        yield* lose([5000, 7000, 9000].map((millis, i) => request(i + 1, stubborn, new Uint8Array(millis))))
        assert.deepEqual(callsOf(metrics, "server"), [])
        for (let second = 3; second < 9; second++) {
          yield* TestClock.adjust("1 second")
          yield* settle
        }
        const { count, max, min, sum } = durationsOf(metrics, "server")
        assert.deepEqual({ count, max, min, sum }, { count: 3, max: 9, min: 5, sum: 21 })
      })
    )
  )
})

describe("a call at its deadline is counted once", () => {
  it.effect(
    "while its handler runs",
    metered((metrics) =>
      Effect.gen(function*() {
        const call = yield* fork(Effect.flip((yield* open()).call(hang, nothing, { timeout: "3 seconds" })))
        yield* elapse(call, 1000)
        yield* settle
        assert.deepEqual(callsOf(metrics, "server"), ["1 hang at memory://server: DeadlineExceeded"])
        assertTook(durationsOf(metrics, "server"), 3)
      })
    )
  )

  it.effect(
    "while it waits for its turn",
    metered((metrics) =>
      Effect.gen(function*() {
        const connection = yield* open({ maxConcurrentCalls: 1 })
        yield* fork(Effect.exit(connection.call(hang, nothing)))
        const call = yield* fork(Effect.flip(connection.call(echo, nothing, { timeout: "3 seconds" })))
        yield* elapse(call, 1000)
        yield* settle
        assert.deepEqual(callsOf(metrics, "server"), ["1 echo at memory://server: DeadlineExceeded"])
        assertTook(durationsOf(metrics, "server"), 3)
      })
    )
  )

  it.effect(
    "where no time was left when it came",
    metered((metrics) =>
      Effect.gen(function*() {
        const { endpoint } = yield* memory.serve(served)
        const client = yield* rawClient(endpoint)
        client.write(Buffer.concat([version, request(1, echo, nothing, -1)]))
        yield* client.until((bytes) => messagesOf(bytes).length >= 2)
        assert.deepEqual(callsOf(metrics, "server"), ["1 echo at memory://server: DeadlineExceeded"])
        assertTook(durationsOf(metrics, "server"), 0)
      })
    )
  )
})
