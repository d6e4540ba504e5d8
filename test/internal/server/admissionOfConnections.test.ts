/** Admission of calls: the limits of each connection, and connections that are paused. */
import { describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as assert from "node:assert/strict"
import type { Admission } from "../../../src/internal/server/admission.ts"
import { limited, turn, waits } from "./admissionSupport.ts"

describe("a connection's own limits", () => {
  it("let that many of its calls run, that many more wait, and refuse others, whatever room the server has", () => {
    const { admission, connect } = limited({ maxConcurrentCallsPerConnection: 3, maxQueuedCallsPerConnection: 2 })
    const [a, b] = [connect("a"), connect("b")]
    admission.beginTurn()
    assert.deepEqual(a.asks(6), { started: 3, waiting: 2, refused: 1 })
    assert.deepEqual(b.asks(6), { started: 3, waiting: 2, refused: 1 })
  })

  it.effect("hold what is past them until a call of its own ends: another's end is of no use to it", () =>
    Effect.gen(function*() {
      const { admission, connect, started } = limited({ maxConcurrentCalls: 4, maxConcurrentCallsPerConnection: 2 })
      const [a, b] = [connect("a"), connect("b")]
      admission.beginTurn()
      a.asks(4)
      b.asks(2)
      assert.deepEqual(started, ["a1", "a2", "b1", "b2"])
      b.end()
      yield* turn
      assert.deepEqual(started.slice(4), [])
      a.end()
      yield* turn
      assert.deepEqual(started.slice(4), ["a3"])
      a.end()
      a.end()
      yield* turn
      assert.deepEqual(started.slice(4), ["a3", "a4"])
    }))

  it.effect("let others start while it is held, and go on with it in its turn", () =>
    Effect.gen(function*() {
      const { admission, connect, started } = limited({ maxConcurrentCalls: 3, maxConcurrentCallsPerConnection: 2 })
      const [a, b, c] = [connect("a"), connect("b"), connect("c")]
      admission.beginTurn()
      a.asks(5)
      assert.deepEqual(b.asks(3), { started: 1, waiting: 2, refused: 0 })
      c.asks(1)
      assert.deepEqual(started, ["a1", "a2", "b1"])
      // Its place goes to a call that has waited for one; it is behind that now.
      a.end()
      yield* turn
      assert.deepEqual(started.slice(3), ["b2"])
      a.end()
      b.end()
      b.end()
      yield* turn
      assert.deepEqual(started.slice(3), ["b2", "c1", "a3", "b3"])
    }))

  it.effect("keep the order of its calls where it runs as many as it may and the server runs as many as it may", () =>
    Effect.gen(function*() {
      const { admission, connect, started } = limited({ maxConcurrentCalls: 4, maxConcurrentCallsPerConnection: 2 })
      const [a, b] = [connect("a"), connect("b")]
      admission.beginTurn()
      a.asks(4)
      b.asks(2)
      a.end()
      yield* turn
      assert.deepEqual(started, ["a1", "a2", "b1", "b2", "a3"])
      waits(a.ask())
      for (let i = 0; i < 2; i++) {
        a.end()
        yield* turn
      }
      assert.deepEqual(started.slice(5), ["a4", "a5"])
    }))

  it("forget a connection whose calls have left while they waited", () => {
    const { admission, connect } = limited({ maxConcurrentCalls: 2, maxConcurrentCallsPerConnection: 1 })
    const [a, b, c] = [connect("a"), connect("b"), connect("c")]
    admission.beginTurn()
    a.ask()
    b.ask()
    for (const connection of [a, c]) {
      for (const call of [waits(connection.ask()), waits(connection.ask())]) admission.leave(call)
    }
    // This cannot be seen from outside: connections that are gone would be kept.
    assert.deepEqual([admission["held"].size, admission["waiting"].size], [0, 0])
  })

  it.effect("free the place of a call that leaves while it is held", () =>
    Effect.gen(function*() {
      const { admission, connect, started } = limited({
        maxConcurrentCallsPerConnection: 1,
        maxQueuedCallsPerConnection: 2
      })
      const a = connect("a")
      admission.beginTurn()
      a.ask()
      const [second, third] = [waits(a.ask()), waits(a.ask())]
      assert.equal(a.ask(), "refused")
      admission.leave(second)
      // Once: what is not there any more has no place.
      admission.leave(second)
      waits(a.ask())
      assert.equal(a.ask(), "refused")
      admission.leave(third)
      a.end()
      yield* turn
      assert.deepEqual(started, ["a1", "a5"])
    }))

  it("count what is held among the calls that wait at the server", () => {
    const { admission, connect } = limited({
      maxConcurrentCalls: 10,
      maxQueuedCalls: 3,
      maxConcurrentCallsPerConnection: 2
    })
    const [a, b] = [connect("a"), connect("b")]
    admission.beginTurn()
    assert.deepEqual(a.asks(8), { started: 2, waiting: 3, refused: 3 })
    // One in the place of one of the other's, of which there are more.
    assert.deepEqual(b.asks(4), { started: 2, waiting: 1, refused: 1 })
  })

  it("count what waits for the server's other calls to end among the calls that wait of it", () => {
    const { admission, connect } = limited({
      maxConcurrentCalls: 1,
      maxConcurrentCallsPerConnection: 50,
      maxQueuedCallsPerConnection: 10
    })
    const [a, b] = [connect("a"), connect("b")]
    admission.beginTurn()
    assert.deepEqual(a.asks(20), { started: 1, waiting: 10, refused: 9 })
    assert.deepEqual(b.asks(20), { started: 0, waiting: 10, refused: 10 })
  })

  it.effect("cost no other connection a call that only has to wait for the next turn, however much is held", () =>
    Effect.gen(function*() {
      // No time at all: seven calls are started in a turn.
      const { admission, connect, started } = limited(
        { maxConcurrentCalls: 100, maxQueuedCalls: 20, maxConcurrentCallsPerConnection: 5 },
        -1
      )
      const others = Array.from({ length: 19 }, (_, i) => connect(`other ${i} `))
      const a = connect("a")
      admission.beginTurn()
      assert.deepEqual(a.asks(26), { started: 5, waiting: 20, refused: 1 })
      for (const other of others) assert.deepEqual(other.asks(5).refused, 0)
      while (started.length < 100) yield* turn
      assert.equal(a.ask(), "refused")
    }))

  it("leave others their places in the turn in which what was held may go on", () => {
    const { admission, connect } = limited({
      maxConcurrentCalls: 10,
      maxQueuedCalls: 8,
      maxConcurrentCallsPerConnection: 2
    })
    const [a, b, c] = [connect("a"), connect("b"), connect("c")]
    admission.beginTurn()
    assert.deepEqual(a.asks(10), { started: 2, waiting: 8, refused: 0 })
    // One of its eight has a place now, and not all of them.
    a.end()
    assert.deepEqual([b.ask(), b.ask(), c.ask(), c.ask()], ["started", "started", "started", "started"])
  })
})

describe("a connection that is paused", () => {
  const pause = (admission: Admission, connection: { paused: boolean; running: number }) => {
    connection.paused = true
    admission.pause(connection)
  }
  const resume = (admission: Admission, connection: { paused: boolean; running: number }) => {
    connection.paused = false
    admission.resume(connection)
  }

  it.effect("has none of its calls started, new or queued, until it goes on", () =>
    Effect.gen(function*() {
      const { admission, connect, started } = limited({ maxConcurrentCalls: 2 })
      const a = connect("a")
      admission.beginTurn()
      a.asks(4)
      pause(admission, a.connection)
      a.end()
      a.end()
      waits(a.ask())
      yield* turn
      assert.deepEqual(started, ["a1", "a2"])
      resume(admission, a.connection)
      yield* turn
      assert.deepEqual(started, ["a1", "a2", "a3", "a4"])
      a.end()
      yield* turn
      assert.deepEqual(started, ["a1", "a2", "a3", "a4", "a5"])
    }))

  it.effect("may be paused by the start of one of its calls, and the next is not started", () =>
    Effect.gen(function*() {
      const { admission, connect, started } = limited({ maxConcurrentCalls: 1 })
      const [a, b] = [connect("a"), connect("b")]
      admission.beginTurn()
      a.ask()
      const pausing = {
        connection: a.connection,
        isPressed: () => false,
        refuse: () => {},
        start: () => {
          started.push("pausing")
          pause(admission, a.connection)
          admission.ended(a.connection)
        }
      }
      assert.ok(admission.tryQueue(pausing))
      waits(a.ask())
      waits(b.ask())
      a.end()
      yield* turn
      yield* turn
      assert.deepEqual(started, ["a1", "pausing", "b1"])
      b.end()
      resume(admission, a.connection)
      yield* turn
      assert.deepEqual(started, ["a1", "pausing", "b1", "a2"])
    }))

  it("does not take the places of others with what it has waiting", () => {
    const { admission, connect } = limited({ maxConcurrentCalls: 4, maxQueuedCalls: 2 })
    const [a, b] = [connect("a"), connect("b")]
    admission.beginTurn()
    assert.deepEqual(a.asks(7), { started: 4, waiting: 2, refused: 1 })
    pause(admission, a.connection)
    for (let i = 0; i < 4; i++) a.end()
    assert.deepEqual(b.asks(7), { started: 4, waiting: 2, refused: 1 })
  })

  it("is refused no call for that, but those past its own limits", () => {
    const { admission, connect } = limited({
      maxQueuedCalls: 0,
      maxConcurrentCallsPerConnection: 3,
      maxQueuedCallsPerConnection: 2
    })
    const a = connect("a")
    admission.beginTurn()
    a.ask()
    pause(admission, a.connection)
    assert.deepEqual(a.asks(6), { started: 0, waiting: 4, refused: 2 })
  })

  it.effect("goes on within the limits, where its calls have ended meanwhile, were given up, or wait for others'", () =>
    Effect.gen(function*() {
      const { admission, connect, started } = limited({ maxConcurrentCalls: 3, maxConcurrentCallsPerConnection: 2 })
      const [a, b] = [connect("a"), connect("b")]
      admission.beginTurn()
      a.asks(2)
      const [third] = [waits(a.ask()), a.ask(), a.ask()]
      pause(admission, a.connection)
      admission.leave(third)
      resume(admission, a.connection)
      yield* turn
      assert.deepEqual(started, ["a1", "a2"])
      pause(admission, a.connection)
      a.end()
      a.end()
      b.asks(2)
      resume(admission, a.connection)
      yield* turn
      assert.deepEqual(started, ["a1", "a2", "b1", "b2", "a4"])
      b.end()
      yield* turn
      assert.deepEqual(started, ["a1", "a2", "b1", "b2", "a4", "a5"])
    }))
})
