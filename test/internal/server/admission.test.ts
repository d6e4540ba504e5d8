import { describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as assert from "node:assert/strict"
import {
  Admission,
  type AdmissionLimits,
  type AdmittedConnection,
  type Startable
} from "../../../src/internal/server/admission.ts"

const turn = Effect.callback<void>((resume) => {
  setImmediate(() => resume(Effect.void))
})

/** The connections that calls come in on. */
const one = { running: 0, paused: false }
const other = { running: 0, paused: false }

/** Calls that note when they are started; `busy` is how long each keeps the event loop, in milliseconds. */
const makeCalls = (busy = 0, connection: AdmittedConnection = one) => {
  const started: Array<number> = []
  const call = (n: number) => ({
    connection,
    isPressed: () => false,
    refuse: () => {},
    start: () => {
      const until = performance.now() + busy
      while (performance.now() < until) {
        // busy
      }
      started.push(n)
    }
  })
  return { started, call }
}

/** Without limits for a connection. */
const admissionOf = (maxConcurrentCalls: number, maxQueuedCalls: number, turnMillis: number) =>
  new Admission({
    maxConcurrentCalls,
    maxQueuedCalls,
    maxConcurrentCallsPerConnection: Infinity,
    maxQueuedCallsPerConnection: Infinity
  }, turnMillis)

/** More time than any turn takes. */
const forever = 1_000_000

/** A call that waits, and is pressed for time from when it is told so. */
class Waiting implements Startable {
  readonly connection: AdmittedConnection
  readonly start: () => void
  pressed = false
  refused = false

  constructor(connection: AdmittedConnection, start: () => void) {
    this.connection = connection
    this.start = start
  }

  isPressed(): boolean {
    return this.pressed
  }

  refuse(): void {
    assert.ok(!this.refused)
    this.refused = true
  }
}

/** Connections of their own, with limits, and one way to ask for a call and to note it when it starts. */
const limited = (limits: Partial<AdmissionLimits>, turnMillis = forever) => {
  const admission = new Admission({
    maxConcurrentCalls: Infinity,
    maxQueuedCalls: Infinity,
    maxConcurrentCallsPerConnection: Infinity,
    maxQueuedCallsPerConnection: Infinity,
    ...limits
  }, turnMillis)
  const started: Array<string> = []
  const connect = (name: string) => {
    const connection = { running: 0, paused: false }
    let made = 0
    /** Asks for a call, as a batch that has just been read; gives it where it waits. */
    const ask = () => {
      const text = `${name}${++made}`
      if (admission.tryStart(connection)) {
        started.push(text)
        return "started"
      }
      const call = new Waiting(connection, () => started.push(text))
      return admission.tryQueue(call) ? call : "refused"
    }
    /** What becomes of so many calls. */
    const asks = (count: number) => {
      const became = { started: 0, waiting: 0, refused: 0 }
      for (let i = 0; i < count; i++) {
        const outcome = ask()
        became[typeof outcome === "string" ? outcome : "waiting"]++
      }
      return became
    }
    const end = () => admission.ended(connection)
    return { connection, ask, asks, end }
  }
  return { admission, started, connect }
}

/** A call that waits. */
const waits = <A>(outcome: A): Exclude<A, string> => {
  assert.notEqual(typeof outcome, "string", String(outcome))
  return outcome as Exclude<A, string>
}

describe("admission", () => {
  it("lets so many calls run, queues so many more, and refuses the rest", () => {
    const admission = admissionOf(2, 3, forever)
    const { call } = makeCalls()
    admission.beginTurn()
    assert.deepEqual([admission.tryStart(one), admission.tryStart(one), admission.tryStart(one)], [true, true, false])
    assert.deepEqual([1, 2, 3, 4].map((n) => admission.tryQueue(call(n))), [true, true, true, false])
  })

  it.effect("starts those that wait in their order, one for each that ends", () =>
    Effect.gen(function*() {
      const admission = admissionOf(2, 10, forever)
      const { call, started } = makeCalls()
      admission.beginTurn()
      admission.tryStart(one)
      admission.tryStart(one)
      for (const n of [1, 2, 3, 4]) admission.tryQueue(call(n))
      yield* turn
      assert.deepEqual(started, [])
      admission.ended(one)
      yield* turn
      assert.deepEqual(started, [1])
      admission.ended(one)
      admission.ended(one)
      yield* turn
      assert.deepEqual(started, [1, 2, 3])
      yield* turn
      assert.deepEqual(started, [1, 2, 3])
    }))

  it.effect("lets no new call pass one that waits", () =>
    Effect.gen(function*() {
      const admission = admissionOf(1, 10, forever)
      const { call, started } = makeCalls()
      admission.beginTurn()
      assert.ok(admission.tryStart(one))
      admission.tryQueue(call(1))
      admission.ended(one)
      // There is room for one, and it is taken.
      assert.equal(admission.tryStart(one), false)
      yield* turn
      assert.deepEqual(started, [1])
    }))

  it.effect("forgets a call that leaves the queue, and has its place free for another", () =>
    Effect.gen(function*() {
      const admission = admissionOf(1, 2, forever)
      const { call, started } = makeCalls()
      admission.beginTurn()
      admission.tryStart(one)
      const [first, second, third] = [call(1), call(2), call(3)]
      assert.deepEqual([admission.tryQueue(first), admission.tryQueue(second), admission.tryQueue(third)], [
        true,
        true,
        false
      ])
      admission.leave(first)
      assert.equal(admission.tryQueue(third), true)
      admission.ended(one)
      yield* turn
      admission.ended(one)
      yield* turn
      assert.deepEqual(started, [2, 3])
      admission.ended(one)
      admission.beginTurn()
      assert.ok(admission.tryStart(one))
    }))

  it.effect("puts calls off when the turn's time is up, and starts them in later turns, a part of them in each", () =>
    Effect.gen(function*() {
      const admission = admissionOf(1000, 1000, 2)
      const { call, started } = makeCalls(1)
      admission.beginTurn()
      let atOnce = 0
      for (let n = 0; n < 100; n++) {
        if (started.length === n && admission.tryStart(one)) {
          call(n).start()
          atOnce++
        } else {
          assert.ok(admission.tryQueue(call(n)))
        }
      }
      assert.ok(atOnce >= 2 && atOnce < 20, `${atOnce} at once`)
      let turns = 0
      while (started.length < 100) {
        const before = started.length
        yield* turn
        turns++
        assert.ok(started.length - before < 20, `${started.length - before} in one turn`)
        assert.ok(turns < 200)
      }
      assert.ok(turns > 4)
      assert.deepEqual(started, Array.from({ length: 100 }, (_, n) => n))
    }))

  it.effect("lets a call of another connection start while those of a flood are put off", () =>
    Effect.gen(function*() {
      const admission = admissionOf(1000, 1000, 1)
      const { call, started } = makeCalls(1)
      admission.beginTurn()
      for (let n = 0; n < 100; n++) {
        if (admission.tryStart(one)) call(n).start()
        else admission.tryQueue(call(n))
      }
      assert.ok(started.length < 100)
      assert.equal(admission.tryStart(one), false)
      admission.beginTurn()
      assert.ok(admission.tryStart(other))
      while (started.length < 100) yield* turn
    }))

  it("lets no call of another connection pass those that wait for calls to end", () => {
    const admission = admissionOf(2, 10, forever)
    const { call } = makeCalls()
    admission.beginTurn()
    admission.tryStart(one)
    admission.tryStart(one)
    admission.tryQueue(call(1))
    admission.ended(one)
    assert.equal(admission.tryStart(other), false)
  })

  it.effect("starts those that wait connection by connection, each one's in their order", () =>
    Effect.gen(function*() {
      const admission = admissionOf(1, 100, forever)
      const { call, started } = makeCalls()
      const others = makeCalls(0, other)
      admission.beginTurn()
      admission.tryStart(one)
      for (const n of [1, 2, 3]) admission.tryQueue(call(n))
      for (const n of [11, 12]) admission.tryQueue({ ...others.call(n), start: () => started.push(n) })
      for (let ended = 0; ended < 5; ended++) {
        admission.ended(one)
        yield* turn
      }
      assert.deepEqual(started, [1, 11, 2, 12, 3])
    }))

  it("always starts the first call of a turn, even with no time at all", () => {
    const admission = admissionOf(10, 0, 0)
    for (let n = 0; n < 10; n++) {
      admission.beginTurn()
      assert.ok(admission.tryStart(one))
    }
    assert.equal(admission.tryStart(one), false)
  })

  it.effect("puts off rather than refuses where nobody may wait and there is only no time", () =>
    Effect.gen(function*() {
      const admission = admissionOf(100, 0, 0)
      const { call, started } = makeCalls()
      admission.beginTurn()
      const now = performance.now()
      while (performance.now() === now) {
        // until the clock has moved on
      }
      const accepted = Array.from({ length: 100 }, (_, n) => admission.tryStart(one) || admission.tryQueue(call(n)))
      assert.ok(accepted.every((yes) => yes))
      assert.equal(admission.tryStart(one) || admission.tryQueue(call(100)), false)
      const waited = accepted.length - 7
      while (started.length < waited) yield* turn
      assert.equal(started.length, waited)
    }))

  it.effect("goes on where a call ends in its own start", () =>
    Effect.gen(function*() {
      const admission = admissionOf(1, 100, forever)
      const ended = { count: 0 }
      admission.beginTurn()
      admission.tryStart(one)
      for (let n = 0; n < 50; n++) {
        admission.tryQueue({
          connection: one,
          isPressed: () => false,
          refuse: () => {},
          start: () => {
            ended.count++
            admission.ended(one)
          }
        })
      }
      admission.ended(one)
      while (ended.count < 50) yield* turn
      admission.beginTurn()
      assert.ok(admission.tryStart(one))
    }))
})

describe("a connection's own limits", () => {
  it("let so many of its calls run, so many more wait, and refuse the rest, whatever room the server has", () => {
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
      // Its place goes to those who have waited for one; it is behind them now.
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
    // Nobody else can see it: connections that are gone would be kept.
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

  it.effect("cost nobody else a call that only has to wait for the next turn, however much is held", () =>
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

  it.effect("has none of its calls started, neither new ones nor those that wait, until it goes on", () =>
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

  it.effect("goes on within the limits, be it that its calls have ended meanwhile, were given up, or wait for others'", () =>
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

  it.effect("lets those of its connection pass that are not, and has its turn when there are no others", () =>
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

  it("it is another one's turn to give up when that has the most", () => {
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

  it.effect("it is one that is pressed for time, if any has let others pass", () =>
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

  it("one call more than another's is not too much", () => {
    const { asker, refused } = full([1])
    assert.equal(asker.ask(), "refused")
    assert.deepEqual(refused(), [0])
  })

  it("nobody gives up a call that only waits for its turn, where others wait for calls of their own to end", () => {
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

  it("a connection that is paused gives up none: it has nobody's place", () => {
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
