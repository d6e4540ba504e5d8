import { describe, it } from "@effect/vitest"
import { Context, Effect, Fiber, Metric } from "effect"
import * as assert from "node:assert/strict"
import * as net from "node:net"
import { until } from "../faults/wire.ts"
import { activeResources, added, FiberCount } from "./leftovers.ts"

describe("what is left", () => {
  it("is each resource that was not there before, as often as it was added", () => {
    assert.deepEqual(added(["a", "b"], ["b", "a"]), [])
    assert.deepEqual(added(["a", "b"], ["b"]), [])
    assert.deepEqual(added(["a"], ["a", "a", "b"]), ["a", "b"])
  })

  it.live("are servers and timers that were forgotten", () =>
    Effect.gen(function*() {
      const before = activeResources()
      const server = net.createServer()
      yield* Effect.callback<void>((resume) => void server.listen(0, "127.0.0.1", () => resume(Effect.void)))
      const timer = setTimeout(() => {}, 60_000)
      assert.deepEqual(added(before, activeResources()).toSorted(), ["TCPServerWrap", "Timeout"])
      clearTimeout(timer)
      server.close()
      yield* until("nothing to be left", () => added(before, activeResources()).length === 0)
    }))

  it("are fibers, even fibers that nothing awaits", async () => {
    const fibers = new FiberCount()
    const program = Effect.gen(function*() {
      yield* Effect.forkDetach(Effect.never)
      const child = yield* Effect.forkChild(Effect.never)
      yield* Fiber.interrupt(child)
      return fibers.active
    })
    const context = Context.make(Metric.FiberRuntimeMetrics, fibers)
    assert.equal(await Effect.runPromiseWith(context)(program), 2)
    assert.deepEqual([fibers.active, fibers.started], [1, 3])
  })
})
