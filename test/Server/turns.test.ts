/**
 * `inlineHandlerDuration`: how many handlers of one batch a turn of the event loop starts; and deadlines that pass
 * within a turn.
 */
import { describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { HandlerMap, MethodKey, type Server } from "effect-call"
import * as assert from "node:assert/strict"
import { bytesOf, component, connect, echo, memory, tcp } from "../support/networks.ts"
import { messagesOf, rawClient, request } from "../support/raw.ts"

const nothing = new Uint8Array()

/** Keeps the event loop busy. */
const work = (millis: number) => {
  const end = performance.now() + millis
  while (performance.now() < end);
}

describe("a batch of calls", () => {
  const calls = 100

  /** How many handlers each turn of the event loop has started, for one batch of calls. */
  const startedPerTurn = Effect.fnUntraced(function*(options: Server.ServerOptions) {
    const turns: Array<number> = []
    let started = 0
    const handlers = HandlerMap.set(HandlerMap.empty, component, "count", (args) => {
      if (started++ === 0) {
        setImmediate(() => {
          turns.push(started)
          started = 0
        })
      }
      return Effect.succeed(args)
    })
    const { endpoint } = yield* memory.serve(HandlerMap.set(handlers, component, "echo", Effect.succeed), options)
    const connection = yield* connect([endpoint])
    // So that the connection is open, and the calls leave together.
    yield* connection.call(echo, nothing)
    const count = connection.call(MethodKey.make(component, "count"), nothing)
    yield* Effect.replicateEffect(count, calls, { concurrency: "unbounded", discard: true })
    // The last of them has still to be noted.
    yield* Effect.callback<void>((resume) => void setImmediate(() => resume(Effect.void)))
    assert.equal(turns.reduce((sum, n) => sum + n, 0), calls)
    return turns
  }, Effect.scoped)

  it.live("starts in one turn while inlineHandlerDuration lasts", () =>
    Effect.gen(function*() {
      assert.deepEqual(yield* startedPerTurn({ inlineHandlerDuration: "1 minute" }), [calls])
    }))

  it.live("is spread over many turns where inlineHandlerDuration is over at once", () =>
    Effect.gen(function*() {
      const turns = yield* startedPerTurn({ inlineHandlerDuration: 0 })
      assert.ok(Math.max(...turns) <= 8, turns.join(" "))
    }))
})

describe("a handler that fails past its deadline", () => {
  it.live("is answered with the deadline also where no timer could fire in between", () =>
    Effect.gen(function*() {
      const handlers = HandlerMap.set(HandlerMap.empty, component, "work", () =>
        Effect.suspend(() => {
          work(10)
          return Effect.fail(new Error("late"))
        }))
      const { endpoint } = yield* tcp.serve(handlers)
      const client = yield* rawClient(endpoint)
      client.write(request(1, MethodKey.make(component, "work"), bytesOf("?"), 5000))
      const [answer] = messagesOf(yield* client.until((received) => messagesOf(received).length === 1))
      assert.equal(answer?.type, 3)
      assert.match(String(answer?.payload), /context deadline exceeded/)
    }).pipe(Effect.scoped))
})
