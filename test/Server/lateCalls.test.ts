/**
 * Calls whose time is up before they have been started.
 */
import { describe, it } from "@effect/vitest"
import { Clock, Deferred, Effect, Latch } from "effect"
import { HandlerMap, MethodKey } from "effect-call"
import * as assert from "node:assert/strict"
import { turn } from "../Connection/support.ts"
import { clockThat } from "../support/clock.ts"
import { bytesOf, component, memory } from "../support/networks.ts"
import { messagesOf, rawClient, request } from "../support/raw.ts"

const wait = MethodKey.make(component, "wait")
const count = MethodKey.make(component, "count")
const nothing = new Uint8Array()

describe("a call that has waited until its time was up", () => {
  it.live("is not started also where no timer has fired by then, and the next one is", () => {
    // On this clock no sleeper ever wakes: all that is known of the time is what it says.
    let now = 0
    return Effect.gen(function*() {
      const started = yield* Deferred.make<void>()
      const gate = yield* Latch.make(false)
      const counted: Array<string> = []
      const { endpoint } = yield* memory.serve(
        HandlerMap.empty.pipe(
          HandlerMap.set(
            component,
            "wait",
            (args) => Deferred.succeed(started, undefined).pipe(Effect.andThen(gate.await), Effect.as(args))
          ),
          HandlerMap.set(component, "count", (args) => {
            counted.push(Buffer.from(args).toString())
            return Effect.succeed(args)
          })
        ),
        { maxConcurrentCalls: 1 }
      )
      const client = yield* rawClient(endpoint)
      const ask = (id: number, deadlineMicros: number) => request(id, count, bytesOf(String(id)), deadlineMicros)
      client.write(Buffer.concat([request(1, wait, nothing), ask(2, 1000), ask(3, 5000), ask(4, 1000), ask(5, 0)]))
      yield* Deferred.await(started)
      // The others have come in the same bytes.
      yield* turn
      now = 1
      yield* gate.open
      const answers = messagesOf(yield* client.until((bytes) => messagesOf(bytes).length === 5))
      assert.deepEqual(counted, ["3", "5"])
      assert.deepEqual(answers.map(({ id, type }) => [id, type]).sort(([a], [b]) => a! - b!), [
        [1, 2],
        [2, 3],
        [3, 2],
        [4, 3],
        [5, 2]
      ])
      for (const { payload } of answers.filter(({ type }) => type === 3)) {
        assert.match(String(payload), /context deadline exceeded/)
      }
    }).pipe(Effect.scoped, Effect.provideService(Clock.Clock, clockThat(() => now)))
  })
})
