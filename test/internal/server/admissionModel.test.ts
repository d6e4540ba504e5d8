/**
 * Admission against a model of it: lists of what runs and of what waits, from which everything that it counts is worked
 * out anew.
 */
import { it } from "@effect/vitest"
import * as fc from "fast-check"
import * as assert from "node:assert/strict"
import { Admission, type AdmissionLimits } from "../../../src/internal/server/admission.ts"

type Command =
  /** A connection has read so many requests. */
  | { readonly _tag: "Read"; readonly connection: number; readonly requests: number }
  /** One of a connection's calls that run ends, if any does. */
  | { readonly _tag: "End"; readonly connection: number }
  /** One of the calls that wait is given up, if there is one. */
  | { readonly _tag: "Leave"; readonly pick: number }
  | { readonly _tag: "Pause" | "Resume"; readonly connection: number }
  /** One of the calls that wait is pressed for time from now on. */
  | { readonly _tag: "Press"; readonly pick: number }
  /** A turn of the event loop. */
  | { readonly _tag: "Turn" }

interface Call {
  readonly connection: Connection
  pressed: boolean
  readonly isPressed: () => boolean
  readonly start: () => void
  readonly refuse: () => void
}

class Connection {
  /** Counted by what is tested. */
  running = 0
  paused = false
  /** The model: how many run, and which wait, in the order in which they came. */
  runs = 0
  waits: Array<Call> = []
}

const connection = fc.nat({ max: 5 })
const command: fc.Arbitrary<Command> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({ _tag: fc.constant("Read"), connection, requests: fc.integer({ min: 1, max: 9 }) })
  },
  { weight: 5, arbitrary: fc.record({ _tag: fc.constant("End"), connection }) },
  { weight: 2, arbitrary: fc.record({ _tag: fc.constantFrom("Leave", "Press"), pick: fc.nat() }) },
  { weight: 2, arbitrary: fc.record({ _tag: fc.constantFrom("Pause", "Resume"), connection }) },
  { weight: 2, arbitrary: fc.record({ _tag: fc.constant("Turn") }) }
)

const limit = (min: number, max: number) => fc.oneof(fc.integer({ min, max }), fc.constant(Infinity))
const limits: fc.Arbitrary<AdmissionLimits> = fc.record({
  maxConcurrentCalls: limit(1, 6),
  maxQueuedCalls: limit(0, 8),
  maxConcurrentCallsPerConnection: limit(1, 4),
  maxQueuedCallsPerConnection: limit(0, 5)
})

/** What is tested, and what it should do. */
class Run {
  readonly admission: Admission
  readonly connections: ReadonlyArray<Connection>
  private readonly limits: AdmissionLimits
  private readonly hasTime: boolean
  /** Whose call has given up its place, of the calls that were asked for last. */
  private displaced: Connection | undefined = undefined

  constructor(limits: AdmissionLimits, turnMillis: number, connections: number) {
    this.connections = Array.from({ length: connections }, () => new Connection())
    this.limits = limits
    this.hasTime = turnMillis > 0
    this.admission = new Admission(limits, turnMillis)
  }

  /** Of the calls of a connection that wait, so many could run if it were for its own limit alone. */
  private placed({ runs, waits }: Connection): number {
    return Math.min(waits.length, this.limits.maxConcurrentCallsPerConnection - runs)
  }

  /**
   * So many more could run if all did that could by their connections' limits; less than 0 where some of those have to
   * wait.
   */
  private get free(): number {
    const counted = this.connections.map((connection) =>
      connection.runs + (connection.paused ? 0 : this.placed(connection))
    )
    return this.limits.maxConcurrentCalls - counted.reduce((sum, n) => sum + n, 0)
  }

  /** How many calls wait for others to end, and not only for a turn. */
  private get waiting(): number {
    const unplaced = this.connections.map((connection) =>
      connection.paused ? 0 : connection.waits.length - this.placed(connection)
    )
    return unplaced.reduce((sum, n) => sum + n, 0) + Math.max(0, -this.free)
  }

  /** What is to become of a call that cannot be started: it waits, in the place of another or not, or is refused. */
  private expected(connection: Connection): "waits" | "displaces" | "refused" {
    const { maxConcurrentCallsPerConnection, maxQueuedCalls, maxQueuedCallsPerConnection } = this.limits
    const size = connection.waits.length
    const spare = maxConcurrentCallsPerConnection - connection.runs
    if (connection.paused) return size >= spare + maxQueuedCallsPerConnection ? "refused" : "waits"
    if (this.free > 0 && size < spare) return "waits"
    const own = Math.max(0, Math.min(spare, this.free + this.placed(connection)))
    if (size - own >= maxQueuedCallsPerConnection) return "refused"
    if (this.waiting < maxQueuedCalls) return "waits"
    return this.connections.some((other) => this.mayGiveUp(other, size)) ? "displaces" : "refused"
  }

  /** Whether a connection has more calls waiting than one that has so many, and one of them counts. */
  private mayGiveUp(connection: Connection, size: number): boolean {
    const { paused, waits } = connection
    return !paused && waits.length > size + 1 && (this.free < 0 || waits.length > this.placed(connection))
  }

  private note(call: Call): void {
    const { connection } = call
    assert.ok(!connection.paused, "a call of a connection that is paused was started")
    connection.runs++
  }

  request(connection: Connection): void {
    const { maxConcurrentCallsPerConnection } = this.limits
    const expected = this.expected(connection)
    this.displaced = undefined
    const call: Call = {
      connection,
      pressed: false,
      isPressed: () => call.pressed,
      start: () => {
        const { waits } = connection
        assert.equal(call, waits.find(({ pressed }) => !pressed) ?? waits[0], "the order of a connection's calls")
        waits.splice(waits.indexOf(call), 1)
        this.note(call)
      },
      refuse: () => {
        const { waits } = connection
        assert.ok(call.pressed || waits[0] === call, "it is not the one that is given up first")
        waits.splice(waits.indexOf(call), 1)
        this.displaced = connection
      }
    }
    if (this.admission.tryStart(connection)) {
      assert.ok(this.free > 0 && connection.runs < maxConcurrentCallsPerConnection, "started past a limit")
      assert.equal(connection.waits.length, 0, "started before the waiting calls")
      this.note(call)
    } else if (this.admission.tryQueue(call)) {
      assert.equal(this.displaced === undefined ? "waits" : "displaces", expected)
      assert.notEqual(this.displaced, connection)
      const { paused, runs, waits } = connection
      const mayStart = !paused && waits.length === 0 && this.free > 0 && runs < maxConcurrentCallsPerConnection
      assert.ok(!(this.hasTime && mayStart), "has to wait, where it could be started")
      waits.push(call)
    } else {
      assert.equal("refused", expected)
      assert.equal(this.displaced, undefined)
    }
  }

  end(connection: Connection): void {
    if (connection.runs === 0) return
    connection.runs--
    this.admission.ended(connection)
  }

  leave(call: Call): void {
    const { waits } = call.connection
    waits.splice(waits.indexOf(call), 1)
    this.admission.leave(call)
  }

  pause(connection: Connection): void {
    if (connection.paused) return
    connection.paused = true
    this.admission.pause(connection)
  }

  resume(connection: Connection): void {
    if (!connection.paused) return
    connection.paused = false
    this.admission.resume(connection)
  }

  connection(pick: number): Connection {
    return this.connections[pick % this.connections.length]!
  }

  get all(): ReadonlyArray<Call> {
    return this.connections.flatMap(({ waits }) => waits)
  }

  check(): void {
    const { maxConcurrentCalls, maxConcurrentCallsPerConnection } = this.limits
    for (const { runs, running } of this.connections) {
      assert.equal(running, runs, "what is counted of a connection")
      assert.ok(runs <= maxConcurrentCallsPerConnection, "more run of a connection than may")
    }
    assert.ok(this.connections.reduce((sum, { runs }) => sum + runs, 0) <= maxConcurrentCalls, "more run than may")
  }

  /** No call waits without a reason: whatever could start has been started by now. */
  checkIdle(): void {
    const { maxConcurrentCalls, maxConcurrentCallsPerConnection } = this.limits
    if (this.connections.reduce((sum, { runs }) => sum + runs, 0) >= maxConcurrentCalls) return
    for (const { paused, runs, waits } of this.connections) {
      assert.ok(waits.length === 0 || paused || runs === maxConcurrentCallsPerConnection, "a call waits for nothing")
    }
  }
}

const turn = () => new Promise<void>((resolve) => setImmediate(resolve))

/** Lets all that could start do so; where a turn has no time, it takes many. */
const settle = async () => {
  for (let i = 0; i < 12; i++) await turn()
}

const execute = async (run: Run, command: Command): Promise<void> => {
  switch (command._tag) {
    case "Read": {
      run.admission.beginTurn()
      for (let i = 0; i < command.requests; i++) run.request(run.connection(command.connection))
      return
    }
    case "End":
      return run.end(run.connection(command.connection))
    case "Leave": {
      const { all } = run
      return all.length === 0 ? undefined : run.leave(all[command.pick % all.length]!)
    }
    case "Press": {
      const { all } = run
      if (all.length > 0) all[command.pick % all.length]!.pressed = true
      return
    }
    case "Pause":
      return run.pause(run.connection(command.connection))
    case "Resume":
      return run.resume(run.connection(command.connection))
    case "Turn":
      return settle().then(() => run.checkIdle())
  }
}

/** What a new Admission does with many requests of one connection, and then of another. */
const firstOutcomes = (admission: Admission) => {
  const outcomes: Array<string> = []
  for (const connection of [new Connection(), new Connection()]) {
    admission.beginTurn()
    for (let i = 0; i < 30; i++) {
      outcomes.push(
        admission.tryStart(connection)
          ? "started"
          : admission.tryQueue({ connection, isPressed: () => false, start: () => {}, refuse: () => {} })
          ? "waiting"
          : "refused"
      )
    }
  }
  return outcomes
}

for (
  const [what, turnMillis] of [["all the time there is", 1_000_000], ["time for seven calls in a turn", -1]] as const
) {
  it(`admits, queues, holds and refuses as its model does, and is as new when all is over, with ${what}`, () =>
    fc.assert(
      fc.asyncProperty(
        limits,
        fc.integer({ min: 2, max: 3 }),
        fc.array(command, { maxLength: 40 }),
        async (limits, connections, commands) => {
          const run = new Run(limits, turnMillis, connections)
          for (const command of commands) {
            await execute(run, command)
            run.check()
          }
          for (const connection of run.connections) run.resume(connection)
          for (let i = 0; run.all.length > 0 || run.connections.some(({ runs }) => runs > 0); i++) {
            assert.ok(i < 1000, "it does not come to an end")
            for (const connection of run.connections) run.end(connection)
            await turn()
            run.check()
          }
          assert.deepEqual(firstOutcomes(run.admission), firstOutcomes(new Admission(limits, turnMillis)))
        }
      ),
      { numRuns: 1000, seed: 7 }
    ))
}
