/** Whatever happens to calls at the same time, each of them is counted once. */
import { describe, it } from "@effect/vitest"
import { Effect, Fiber, Schema } from "effect"
import { Component, Connection, MethodKey } from "effect-call"
import { TestNetwork } from "effect-call/testing"
import { Rpc, RpcGroup } from "effect/rpc"
import * as assert from "node:assert/strict"
import { bytesOf, meteredInMemory, type Metrics } from "../support/metrics.ts"
import { component, connect, echo, hang } from "../support/networks.ts"
import { cancel, rawClient, request, version } from "../support/raw.ts"
import { fork, nothing, served, sleep } from "./metricsSupport.ts"
import { turn, until } from "./support.ts"

/** Choices that are the same ones for a seed. */
const choicesOf = (seed: number) => {
  let state = seed
  const upTo = (n: number) => {
    state = (state * 1_664_525 + 1_013_904_223) % 2 ** 32
    return Math.floor(n * state / 2 ** 32)
  }
  const pick = <A>(...all: ReadonlyArray<A>): A => all[upTo(all.length)]!
  return { upTo, pick }
}

const states = ({ histograms }: Metrics, side: "client" | "server") =>
  histograms(`rpc.${side}.call.duration`).map(({ state }) => state)

const total = (metrics: Metrics, side: "client" | "server") =>
  states(metrics, side).reduce((sum, { count }) => sum + count, 0)

/** No call has taken less than nothing, or longer than any of these tests. */
const assertTimes = (metrics: Metrics, side: "client" | "server") => {
  for (const { max, min } of states(metrics, side)) assert.ok(min >= 0 && max < 15, `${min} to ${max}`)
}

const Shop = Component.make("test/Shop", RpcGroup.make(Rpc.make("Sell", { success: Schema.Int })))

const sellTo = (connection: Connection.Connection) =>
  Effect.provideService(Component.client(Shop), Connection.Connection, connection)

const faults: ReadonlyArray<TestNetwork.Faults> = [
  {},
  {},
  { dial: "refuse" },
  { dial: "hang" },
  { blackHole: true },
  { blackHole: "toServer" },
  { cutAfter: { toClient: 100 } },
  { cutAfter: { toServer: 40_000 }, dial: "refuse" }
]

const limits = { shutdownGrace: 0, maxConcurrentCalls: 20, maxQueuedCalls: 10 }

for (let seed = 1; seed <= 4; seed++) {
  describe(`chosen at random (${seed})`, () => {
    it.live(
      "calls are counted once each by their clients, while endpoints break and callers give up",
      meteredInMemory((metrics) =>
        Effect.gen(function*() {
          const { pick, upTo } = choicesOf(seed)
          const names = ["a", "b"]
          for (const name of names) yield* TestNetwork.listen(name, served, limits)
          const endpoints = yield* Effect.forEach(names, TestNetwork.endpoint)
          const options = { backoff: { initial: 1, max: 2 }, dialTimeout: 5 }
          const connections = [yield* connect(endpoints, options), yield* connect(endpoints, options)]
          const shops = yield* Effect.forEach(connections, sellTo)
          const oneCall = (): Effect.Effect<unknown, unknown> => {
            if (upTo(10) === 0) return pick(...shops).Sell()
            const args = pick(nothing, nothing, new Uint8Array(30_000), new Uint8Array(400_000))
            const timeout = pick(undefined, undefined, 0, 1, 5)
            return pick(...connections).call(pick(echo, echo, sleep, hang), args, {
              ...(timeout === undefined ? {} : { timeout }),
              waitForReady: upTo(4) === 0
            })
          }
          const calls: Array<Fiber.Fiber<unknown, unknown>> = []
          for (let i = 0; i < 400; i++) {
            calls.push(yield* fork(Effect.exit(oneCall())))
            if (upTo(3) === 0) yield* turn
            if (upTo(5) === 0) yield* Fiber.interrupt(pick(...calls))
            if (upTo(20) === 0) yield* TestNetwork.fault(pick(...names), pick(...faults))
          }
          for (const name of names) yield* TestNetwork.heal(name)
          for (let i = 0; i < 20; i++) yield* turn
          for (const connection of connections) yield* connection.close
          for (const call of calls) yield* Fiber.await(call)
          assert.equal(total(metrics, "client"), calls.length)
          assertTimes(metrics, "client")
        })
      )
    )

    it.live(
      "calls are counted once each by their server, while they are canceled, expire, and their connection is lost",
      meteredInMemory((metrics) =>
        Effect.gen(function*() {
          const { pick, upTo } = choicesOf(seed)
          yield* TestNetwork.listen("a", served, { ...limits, maxMessageSize: 100_000 })
          const client = yield* rawClient(yield* TestNetwork.endpoint("a"))
          const methods = [echo, sleep, hang, MethodKey.make(component, "error"), MethodKey.make(component, "unknown")]
          const calls = 400
          let sent = version.length
          client.write(version)
          for (let id = 1; id <= calls; id++) {
            const args = pick(nothing, new Uint8Array(2), new Uint8Array(90_000))
            const messages = [request(id, pick(...methods), args, pick(0, 0, -1, 1, 1000, 5000))]
            if (upTo(3) === 0) messages.push(cancel(1 + upTo(id)))
            const bytes = Buffer.concat(messages)
            sent += bytes.length
            client.write(bytes)
            if (upTo(3) === 0) yield* turn
          }
          yield* until(() => bytesOf(metrics, "server").received === sent)
          client.socket.destroy()
          const isZero = (gauge: string) => metrics.values(gauge)[0] === 0
          yield* until(() => isZero("rpc.server.connection.count") && isZero("rpc.server.active_requests"))
          assert.equal(total(metrics, "server"), calls)
          assertTimes(metrics, "server")
        })
      )
    )
  })
}
