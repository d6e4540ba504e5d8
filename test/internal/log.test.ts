import { describe, it } from "@effect/vitest"
import { Context, Effect, Logger } from "effect"
import * as assert from "node:assert/strict"
import { LogQueue } from "../../src/internal/log.ts"

/** A queue whose logger notes the lines, and calls `onLine` for each. */
const makeQueue = (onLine: (line: string) => void = () => {}) => {
  const lines: Array<string> = []
  const logger = Logger.make(({ message }) => {
    const line = String(message)
    lines.push(line)
    onLine(line)
  })
  const queue = new LogQueue(Context.make(Logger.CurrentLoggers, new Set([logger])))
  return { lines, queue }
}

const microtask = Effect.callback<void>((resume) => queueMicrotask(() => resume(Effect.void)))

describe("a queue of lines of the log", () => {
  it("writes its lines when it is flushed, in their order", () => {
    const { lines, queue } = makeQueue()
    queue.add(Effect.logInfo("one"))
    queue.add(Effect.logInfo("two"))
    assert.deepEqual(lines, [])
    queue.flush()
    assert.deepEqual(lines, ["one", "two"])
  })

  it.effect("writes its lines by itself when the code that runs has returned", () =>
    Effect.gen(function*() {
      const { lines, queue } = makeQueue()
      queue.add(Effect.logInfo("one"))
      assert.deepEqual(lines, [])
      yield* microtask
      assert.deepEqual(lines, ["one"])
      queue.add(Effect.logInfo("two"))
      yield* microtask
      assert.deepEqual(lines, ["one", "two"])
    }))

  it.effect("writes its lines in their order also where a logger flushes it", () =>
    Effect.gen(function*() {
      const { lines, queue } = makeQueue((line) => {
        if (line !== "one") return
        queue.add(Effect.logInfo("three"))
        queue.flush()
      })
      queue.add(Effect.logInfo("one"))
      queue.add(Effect.logInfo("two"))
      queue.flush()
      assert.deepEqual(lines, ["one", "two"])
      yield* microtask
      assert.deepEqual(lines, ["one", "two", "three"])
    }))

  it.effect("writes a line that a logger adds after the others", () =>
    Effect.gen(function*() {
      const { lines, queue } = makeQueue((line) => {
        if (line === "one") queue.add(Effect.logInfo("three"))
      })
      queue.add(Effect.logInfo("one"))
      queue.add(Effect.logInfo("two"))
      queue.flush()
      yield* microtask
      assert.deepEqual(lines, ["one", "two", "three"])
    }))
})
