import { describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import * as assert from "node:assert/strict"
import { Drain, type Drained } from "../../../src/internal/server/drain.ts"

const times = { idleMillis: Infinity, messageTimeoutMillis: 60_000, shutdownGraceMillis: 2000 }

/** A connection with no call whose client does not understand flags, but for what is given. */
const connectionOf = (given: Partial<Drained> = {}): Drained => ({
  callsInFlight: 0,
  understands: false,
  isDeaf: false,
  isPartial: false,
  pendingBytes: 0,
  ...given
})

/** A drain that begins at 0; `takes` says whether the client takes bytes. */
const makeDrain = (given: Partial<typeof times> = {}, takes = () => false) => {
  const drain = new Drain({ ...times, ...given }, { look: takes, forget: () => {} })
  drain.start(0)
  return drain
}

describe("a drain of a server that stops", () => {
  it("ends a connection whose client understands when the client has said its last word", () => {
    const drain = makeDrain()
    assert.equal(drain.stop(0), "SayGoingAway")
    const connection = connectionOf({ understands: true })
    assert.deepEqual([drain.look(1500, connection), drain.due(connection)], ["Wait", 2000])
    drain.lastWord(1500)
    assert.deepEqual([drain.endIfServed(1500, 1), drain.state], ["Wait", "LastWord"])
    assert.deepEqual([drain.callsEnded(1600), drain.state], ["End", "Ended"])
  })

  it("ends a connection whose client does not understand when it was quiet for 100 ms", () => {
    const drain = makeDrain()
    drain.stop(0)
    drain.requested(50)
    assert.equal(drain.due(connectionOf()), 150)
    assert.equal(drain.look(149, connectionOf()), "Wait")
    assert.deepEqual([drain.look(150, connectionOf()), drain.state], ["End", "Ended"])
  })

  it("does not take a client for quiet in the middle of a message, or while it is not read from", () => {
    for (const busy of [{ isPartial: true }, { isDeaf: true }]) {
      const drain = makeDrain()
      drain.stop(0)
      assert.equal(drain.look(150, connectionOf(busy)), "Wait")
      assert.equal(drain.due(connectionOf()), 250)
    }
  })

  it("holds answers in the last second of the grace, or in its second half", () => {
    for (const [grace, from] of [[60_000, 59_000], [2000, 1000], [500, 250]] as const) {
      const drain = makeDrain({ shutdownGraceMillis: grace })
      drain.stop(0)
      const busy = connectionOf({ callsInFlight: 1 })
      assert.deepEqual([drain.look(from - 1, busy), drain.due(busy)], ["Wait", from])
      assert.deepEqual([drain.look(from, busy), drain.state], ["Hold", "Holding"])
      assert.deepEqual([drain.look(from + 100, busy), drain.state], ["Wait", "Closing"])
      assert.equal(drain.callsEnded(from + 200), "End")
    }
  })

  it("sends what it held when the client turns out to understand", () => {
    const drain = makeDrain()
    drain.stop(0)
    drain.look(1000, connectionOf({ callsInFlight: 1 }))
    assert.deepEqual([drain.understood(1050), drain.state], ["Release", "Leaving"])
  })

  it("holds no answers of a client that takes none, and holds no more than there is room for", () => {
    const drain = makeDrain()
    drain.stop(0)
    const paused = connectionOf({ callsInFlight: 1, isDeaf: true })
    assert.deepEqual([drain.look(1500, paused), drain.state], ["Wait", "Leaving"])
    drain.look(1500, connectionOf({ callsInFlight: 1 }))
    drain.full(1550)
    assert.equal(drain.state, "Closing")
  })

  it("interrupts what is left at the end of the grace, and half a second later closes the connection", () => {
    const drain = makeDrain()
    drain.stop(0)
    const connection = connectionOf({ callsInFlight: 1, understands: true })
    assert.deepEqual([drain.look(2000, connection), drain.state], ["EndAndStop", "Ended"])
    assert.equal(drain.due(connection), 2500)
    assert.equal(drain.look(2500, connection), "Destroy")
  })

  it("interrupts handlers at the end of the grace, too, whose connection was gone before", () => {
    const drain = makeDrain()
    drain.over(0)
    assert.equal(drain.stop(100), "Wait")
    const connection = connectionOf({ callsInFlight: 1 })
    assert.equal(drain.due(connection), 2100)
    assert.equal(drain.look(2100, connection), "Destroy")
    assert.equal(drain.due(connection), Infinity)
  })

  it("closes the connection at once without a grace", () => {
    assert.equal(makeDrain({ shutdownGraceMillis: 0 }).stop(0), "Destroy")
  })
})

describe("a drain of a connection that is idle", () => {
  it("begins when the connection was idle for so long", () => {
    const drain = makeDrain({ idleMillis: 1000 })
    assert.equal(drain.look(1000, connectionOf({ callsInFlight: 1 })), "Wait")
    assert.equal(drain.callsEnded(1500), "Wait")
    assert.equal(drain.look(2499, connectionOf()), "Wait")
    assert.deepEqual([drain.look(2500, connectionOf()), drain.state], ["SayGoingAway", "Leaving"])
  })

  it("gives a client that has calls, or takes its answers, its time again", () => {
    let takes = false
    const drain = makeDrain({ idleMillis: 1000 }, () => takes)
    const connection = connectionOf({ understands: true, pendingBytes: 10 })
    drain.look(1000, connection)
    assert.equal(drain.due(connection), 61_000)
    assert.equal(drain.look(61_000, { ...connection, callsInFlight: 1 }), "Wait")
    assert.equal(drain.due(connection), 121_000)
    takes = true
    assert.equal(drain.look(121_000, connection), "Wait")
    takes = false
    assert.equal(drain.look(181_000, connection), "Destroy")
  })

  it("is hurried by a stop of the server", () => {
    const drain = makeDrain({ idleMillis: 1000 })
    const connection = connectionOf({ understands: true })
    drain.look(1000, connection)
    assert.equal(drain.stop(1500), "Wait")
    assert.equal(drain.look(3500, connection), "EndAndStop")
  })
})

describe("a drain", () => {
  it("comes to its end whatever happens, and to nothing after it", () => {
    const event = fc.constantFrom<"stop" | "understood" | "lastWord" | "full" | "ended" | "requested" | "look">(
      "stop",
      "understood",
      "lastWord",
      "full",
      "ended",
      "requested",
      "look"
    )
    const connection = fc.record({
      callsInFlight: fc.nat(2),
      understands: fc.boolean(),
      isDeaf: fc.boolean(),
      isPartial: fc.boolean(),
      pendingBytes: fc.nat(1)
    })
    const step = fc.record({ event, connection, after: fc.nat(3000) })
    fc.assert(fc.property(fc.array(step, { maxLength: 30 }), fc.boolean(), (steps, takes) => {
      const drain = makeDrain({ idleMillis: 1000 }, () => takes)
      let now = 0
      for (const { after, connection, event } of steps) {
        now += after
        if (event === "stop") drain.stop(now)
        else if (event === "ended") drain.callsEnded(now)
        else if (event === "look") { while (drain.look(now, connection) !== "Wait"); }
        else drain[event](now)
      }
      drain.stop(now)
      const quiet = connectionOf()
      for (let looks = 0; drain.state !== "Ended" && looks < 100; looks++) {
        if (drain.look(now, quiet) === "Wait") now = drain.due(quiet)
      }
      assert.equal(drain.state, "Ended")
      drain.over(now)
      drain.done(now)
      assert.deepEqual([drain.stop(now), drain.look(Number.MAX_SAFE_INTEGER, quiet)], ["Wait", "Wait"])
      assert.throws(() => drain.over(now), /cannot go from Done to Over, expected no other state/)
    }))
  })
})
