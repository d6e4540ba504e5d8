/** What is counted of streams, by both ends. */
import { describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Stream } from "effect"
import { HandlerMap, MethodKey } from "effect-call"
import { TestNetwork } from "effect-call/testing"
import * as assert from "node:assert/strict"
import { callsOf, meteredInMemory, type Metrics } from "../support/metrics.ts"
import { bytesOf, component, connect } from "../support/networks.ts"
import { settle, until } from "./support.ts"

const mirror = MethodKey.make(component, "mirror")
const slow = MethodKey.make(component, "slow")
const nothing = new Uint8Array()

/** Of one method, by the direction in which they went. */
const sumsOf = ({ series }: Metrics, side: "client" | "server", name: string) =>
  Object.fromEntries(
    series(`rpc.${side}.stream.${name}`).map(({ attributes, value }) => [
      `${attributes["rpc.method"]} ${attributes["network.io.direction"]}`,
      value
    ])
  )

const items = (...texts: ReadonlyArray<string>) => Stream.fromIterable(texts.map(bytesOf))

describe("the metrics of streams", () => {
  it.effect(
    "count items and their bytes, by method and direction, on both ends",
    meteredInMemory((metrics) =>
      Effect.gen(function*() {
        yield* TestNetwork.listen("a", HandlerMap.setStream(HandlerMap.empty, component, "mirror", (_, items) => items))
        const connection = yield* connect([yield* TestNetwork.endpoint("a")])
        yield* Stream.runDrain(connection.stream(mirror, nothing, { items: items("a", "bc", "") }))
        yield* Stream.runDrain(connection.stream(mirror, nothing, { items: items("def") }))
        yield* settle
        // With the 4 bytes before each of them.
        for (const side of ["client", "server"] as const) {
          assert.deepEqual(sumsOf(metrics, side, "items"), { "mirror transmit": 4, "mirror receive": 4 })
          assert.deepEqual(sumsOf(metrics, side, "io"), { "mirror transmit": 22, "mirror receive": 22 })
          assert.deepEqual(metrics.values(`rpc.${side}.active_streams`), [0])
          assert.deepEqual(callsOf(metrics, side), ["2 mirror at memory://a: ok"])
        }
      })
    )
  )

  it.effect(
    "count while a stream is open, and keep its numbers when it has ended",
    meteredInMemory((metrics) =>
      Effect.gen(function*() {
        const gate = yield* Deferred.make<void>()
        yield* TestNetwork.listen(
          "a",
          HandlerMap.setStream(
            HandlerMap.empty,
            component,
            "slow",
            () => Stream.concat(items("one", "two"), Stream.drain(Stream.fromEffect(Deferred.await(gate))))
          )
        )
        const connection = yield* connect([yield* TestNetwork.endpoint("a")])
        const running = yield* Effect.forkChild(Stream.runDrain(connection.stream(slow, nothing)))
        yield* until(() => sumsOf(metrics, "client", "items")["slow receive"] === 2)
        for (const side of ["client", "server"] as const) {
          assert.deepEqual(metrics.values(`rpc.${side}.active_streams`), [1])
          assert.deepEqual(metrics.values(`rpc.${side}.active_requests`), [0])
        }
        assert.equal(sumsOf(metrics, "server", "items")["slow transmit"], 2)
        yield* Deferred.succeed(gate, undefined)
        yield* Fiber.join(running)
        yield* settle
        assert.equal(sumsOf(metrics, "server", "items")["slow transmit"], 2)
        assert.equal(sumsOf(metrics, "client", "items")["slow receive"], 2)
        assert.deepEqual(metrics.values("rpc.client.active_streams"), [0])
      })
    )
  )

  it.effect(
    "count a stream that is given up as canceled",
    meteredInMemory((metrics) =>
      Effect.gen(function*() {
        yield* TestNetwork.listen("a", HandlerMap.setStream(HandlerMap.empty, component, "slow", () => Stream.never))
        const connection = yield* connect([yield* TestNetwork.endpoint("a")])
        const running = yield* Effect.forkChild(Stream.runDrain(connection.stream(slow, nothing)))
        yield* until(() => metrics.values("rpc.server.active_streams")[0] === 1)
        yield* Fiber.interrupt(running)
        yield* until(() => metrics.values("rpc.server.active_streams")[0] === 0)
        yield* settle
        for (const side of ["client", "server"] as const) {
          assert.deepEqual(callsOf(metrics, side), ["1 slow at memory://a: canceled"])
        }
      })
    )
  )
})
