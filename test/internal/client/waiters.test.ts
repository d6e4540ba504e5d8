import { describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import * as assert from "node:assert/strict"
import { RoomWaiters, Waiters } from "../../../src/internal/client/waiters.ts"

describe("calls that wait for a connection", () => {
  it.effect("are all woken, except those that have left", () =>
    Effect.gen(function*() {
      const waiters = new Waiters<string>()
      const told: Array<string> = []
      waiters.add((value) => told.push(`a ${value}`))
      const leave = waiters.add((value) => told.push(`b ${value}`))
      waiters.add((value) => told.push(`c ${value}`))
      yield* leave
      assert.equal(waiters.size, 2)
      waiters.tellAll("open")
      assert.deepEqual([told, waiters.size], [["a open", "c open"], 0])
    }))

  it("are not woken with what woke those that waited before them", () => {
    const waiters = new Waiters<string>()
    const told: Array<string> = []
    waiters.add((value) => {
      told.push(value)
      waiters.add((value) => told.push(value))
    })
    waiters.tellAll("one")
    assert.deepEqual([told, waiters.size], [["one"], 1])
    waiters.tellAll("two")
    assert.deepEqual(told, ["one", "two"])
  })
})

/** Connections with room for so many calls, each of which takes one place as it goes on. */
const makeRoom = () => {
  const source = { isOpen: true, places: 0, hasRoom: () => source.places > 0 }
  const room = new RoomWaiters(source)
  const gone: Array<number> = []
  const waiting = Effect.forEach([0, 1, 2, 3], (n) =>
    Effect.forkChild(
      Effect.map(room.whenRoom(), () => {
        source.places--
        gone.push(n)
      }),
      { startImmediately: true }
    ))
  return { gone, room, source, waiting }
}

describe("calls that wait for room", () => {
  it.effect("go on in their order, and no more of them than there is room for", () =>
    Effect.gen(function*() {
      const { gone, room, source, waiting } = makeRoom()
      const [, second] = yield* waiting
      yield* Fiber.interrupt(second!)
      source.places = 2
      room.wake()
      assert.deepEqual([gone, room.size], [[0, 2], 1])
    }))

  it.effect("go on where no connection is open", () =>
    Effect.gen(function*() {
      const { gone, room, source, waiting } = makeRoom()
      yield* waiting
      source.isOpen = false
      room.wake()
      assert.deepEqual(gone, [0, 1, 2, 3])
      yield* room.whenRoom()
    }))

  it.effect("all continue when they need not wait any longer", () =>
    Effect.gen(function*() {
      const { gone, room, waiting } = makeRoom()
      yield* waiting
      room.wakeAll()
      assert.deepEqual([gone, room.size], [[0, 1, 2, 3], 0])
    }))
})
