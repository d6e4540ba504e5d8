/** Admission of calls: which call gives way where time is short or the queue is full. */
import { describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as assert from "node:assert/strict"
import type { AdmissionLimits } from "../../../src/internal/server/admission.ts"
import { limited, turn, waits } from "./admissionSupport.ts"

describe("a call that is pressed for time when it is its turn", () => {
  /** One call runs; so many others wait. */
  const waiting = (count: number, limits?: Partial<AdmissionLimits>) => {
    const { admission, connect, started } = limited({ maxConcurrentCalls: 1, ...limits })
    const a = connect("a")
    admission.beginTurn()
    a.ask()
    const calls = Array.from({ length: count }, () => waits(a.ask()))
    started.length = 0
    const next = Effect.suspend(() => {
      a.end()
      return turn
    })
    return { admission, started, calls, a, next, connect }
  }

  it.effect("lets other calls of its connection pass, and has its turn when there are no others", () =>
    Effect.gen(function*() {
      const { a, calls, next, started } = waiting(4)
      for (const n of [0, 1, 3]) calls[n]!.pressed = true
      yield* next
      assert.deepEqual(started, ["a4"])
      waits(a.ask())
      for (let i = 0; i < 4; i++) yield* next
      assert.deepEqual(started, ["a4", "a6", "a2", "a3", "a5"])
    }))

  it.effect("takes its connection's turn, and no other's", () =>
    Effect.gen(function*() {
      const { calls, connect, next, started } = waiting(2)
      const b = connect("b")
      b.asks(2)
      calls[0]!.pressed = true
      calls[1]!.pressed = true
      for (let i = 0; i < 2; i++) yield* next
      assert.deepEqual(started, ["a2", "b1"])
    }))

  it.effect("still has its place, and frees it when it leaves", () =>
    Effect.gen(function*() {
      const { a, admission, calls, next, started } = waiting(3, { maxQueuedCalls: 3 })
      calls[0]!.pressed = true
      yield* next
      assert.deepEqual(started, ["a3"])
      waits(a.ask())
      assert.equal(a.ask(), "refused")
      admission.leave(calls[0]!)
      waits(a.ask())
      assert.equal(a.ask(), "refused")
      for (let i = 0; i < 4; i++) yield* next
      assert.deepEqual(started, ["a3", "a4", "a5", "a7"])
    }))
})

describe("where no more calls may wait at the server", () => {
  /** One call runs that never ends; so many others wait, of connections of their own. */
  const full = (counts: ReadonlyArray<number>, limits?: Partial<AdmissionLimits>) => {
    const total = counts.reduce((sum, count) => sum + count, 0)
    const made = limited({ maxConcurrentCalls: 1, maxQueuedCalls: total, ...limits })
    const busy = made.connect("busy")
    made.admission.beginTurn()
    busy.ask()
    const hogs = counts.map((count, i) => {
      const hog = made.connect(`hog ${i} `)
      return { ...hog, calls: Array.from({ length: count }, () => waits(hog.ask())) }
    })
    made.started.length = 0
    const next = Effect.suspend(() => {
      busy.end()
      return turn
    })
    const refused = () => hogs.map(({ calls }) => calls.filter(({ refused }) => refused).length)
    return { ...made, hogs, next, refused, asker: made.connect("asker") }
  }

  it("the connection that has the most gives up one for one that has fewer, until none has more", () => {
    const { asker, hogs, refused } = full([3, 5])
    waits(asker.ask())
    waits(asker.ask())
    assert.deepEqual(refused(), [0, 2])
    for (const { ask } of [asker, ...hogs]) assert.equal(ask(), "refused")
    assert.deepEqual(refused(), [0, 2])
  })

  it("another connection gives up a call when that has the most", () => {
    const { asker, refused } = full([4, 5])
    for (let i = 0; i < 3; i++) waits(asker.ask())
    assert.equal(asker.ask(), "refused")
    assert.deepEqual(refused(), [1, 2])
  })

  it.effect("a call that has given up its place is not started, and no place is lost or won", () =>
    Effect.gen(function*() {
      const { asker, hogs, next, started } = full([4])
      waits(asker.ask())
      assert.equal(hogs[0]!.calls[0]!.refused, true)
      for (let i = 0; i < 5; i++) yield* next
      assert.deepEqual(started, ["hog 0 2", "asker1", "hog 0 3", "hog 0 4"])
    }))

  it.effect("a call that is pressed for time is given up first, if any has let others pass", () =>
    Effect.gen(function*() {
      const { asker, connect, hogs, next, started } = full([4])
      const { calls } = hogs[0]!
      calls[0]!.pressed = true
      yield* next
      assert.deepEqual(started, ["hog 0 2"])
      waits(connect("other").ask())
      waits(asker.ask())
      assert.deepEqual(calls.map(({ refused }) => refused), [true, false, false, false])
    }))

  it("a connection with one more call than another gives none up", () => {
    const { asker, refused } = full([1])
    assert.equal(asker.ask(), "refused")
    assert.deepEqual(refused(), [0])
  })

  it("no connection gives up a call that only waits for its turn, where others wait for calls of their own to end", () => {
    // No time: seven of the hog's start, the others are put off, with a place for each.
    const { admission, connect, started } = limited(
      { maxConcurrentCalls: 100, maxQueuedCalls: 1, maxConcurrentCallsPerConnection: 20 },
      -1
    )
    const [a, hog] = [connect("a"), connect("hog")]
    for (let i = 0; i < 20; i++) {
      admission.beginTurn()
      a.ask()
    }
    waits(a.ask())
    admission.beginTurn()
    assert.deepEqual(hog.asks(15), { started: 7, waiting: 8, refused: 0 })
    const b = connect("b")
    for (let i = 0; i < 20; i++) {
      admission.beginTurn()
      b.ask()
    }
    assert.equal(b.ask(), "refused")
    assert.equal(started.length, 47)
  })

  it("a connection that is paused gives up no call: it takes no other's place", () => {
    const { admission, asker, hogs, refused } = full([5])
    const { connection } = hogs[0]!
    connection.paused = true
    admission.pause(connection)
    for (let i = 0; i < 5; i++) waits(asker.ask())
    assert.equal(asker.ask(), "refused")
    assert.deepEqual(refused(), [0])
  })

  it("another one gives up where the one that had the most is paused meanwhile", () => {
    const { admission, asker, connect, hogs, refused } = full([5, 4])
    waits(asker.ask())
    const { connection } = hogs[0]!
    connection.paused = true
    admission.pause(connection)
    for (let i = 0; i < 4; i++) waits(connect(`other ${i}`).ask())
    admission.beginTurn()
    waits(connect("last").ask())
    assert.deepEqual(refused(), [1, 1])
  })
})
