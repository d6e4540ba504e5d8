/**
 * Replicas that stand still: their system accepts connections and takes some bytes, and never answers. Calls whose
 * time is up count against them wherever they wait: for an answer, for the connection, or for room on it.
 */
import { describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber } from "effect"
import { Balancer, Connection, Deadline, Resolver } from "effect-call"
import { TestNetwork } from "effect-call/testing"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { ask, counted, elapse, settle, startInMemory, untilState, who } from "./support.ts"

const onNetwork = Effect.provide(TestNetwork.layer)
const timeout = { timeout: "1 second" } as const
const a = "memory://a"

/** No byte of it comes any more, and what is dialed says nothing. */
const freeze = TestNetwork.fault("a", { blackHole: true, dial: "hang" })

/** Two replicas, and how often the first was dialed. Dials take longer than a test, unless it says otherwise. */
const open = Effect.fnUntraced(function*(options?: Connection.ClientOptions) {
  const replicas = yield* Effect.forEach(["a", "b"], startInMemory)
  const [first, second] = replicas.map(({ endpoint }) => counted(endpoint))
  const connection = yield* Connection.make(Resolver.constant(first!, second!), { dialTimeout: "1 hour", ...options })
  return { connection, first: first!, replicas }
})

/** Where the answer came from, or "-". */
const asked = (connection: Connection.Connection, options: Connection.CallOptions = timeout) =>
  ask(connection, options).pipe(Effect.orElseSucceed(() => "-"))

const fork = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.forkChild(effect, { startImmediately: true })

/** Makes so many calls, one after the other. */
const askTimes = Effect.fnUntraced(function*(
  connection: Connection.Connection,
  times: number,
  call: Effect.Effect<string> = asked(connection)
) {
  let answers = ""
  for (let i = 0; i < times; i++) {
    const asking = yield* fork(call)
    yield* elapse(asking, 1000)
    answers += yield* Fiber.join(asking)
  }
  return answers
})

const isEjected = (connection: Connection.Connection) =>
  Effect.map(connection.state, ({ endpoints }) => endpoints.find(({ address }) => address === a)!.isEjected)

/** Connects to it, freezes it, and leaves no room for calls on its connection. */
const plug = Effect.fnUntraced(function*(connection: Connection.Connection) {
  assert.equal(yield* askTimes(connection, 2), "ab")
  yield* freeze
  const args = new Uint8Array(100_000)
  // The network holds less than that.
  const first = yield* Balancer.make(([first]) => Effect.succeed(first!))
  const plugs = yield* Effect.forEach([1, 2], () => fork(Effect.exit(connection.call(who, args, { balancer: first }))))
  yield* settle
  return Fiber.interruptAll(plugs)
})
const narrow = { maxUnsentBytes: 50_000 }

describe("a call counts against a replica when its time is up while it waits", () => {
  it.effect("for the connection", () =>
    Effect.gen(function*() {
      const { connection } = yield* open()
      yield* freeze
      assert.equal(yield* askTimes(connection, 9), "-b-b-b-b-")
      assert.equal(yield* isEjected(connection), true)
      assert.equal(yield* askTimes(connection, 4), "bbbb")
    }).pipe(onNetwork))

  it.effect("for room on the connection", () =>
    Effect.gen(function*() {
      const { connection } = yield* open(narrow)
      const unplug = yield* plug(connection)
      assert.equal(yield* askTimes(connection, 9), "-b-b-b-b-")
      assert.equal(yield* isEjected(connection), true)
      assert.equal(yield* askTimes(connection, 4), "bbbb")
      yield* unplug
    }).pipe(onNetwork))

  it.effect("behind others on the connection, that were sent in part", () =>
    Effect.gen(function*() {
      const { connection } = yield* open({ maxUnsentBytes: 10_000_000 })
      const unplug = yield* plug(connection)
      assert.equal(yield* askTimes(connection, 9), "-b-b-b-b-")
      assert.equal(yield* isEjected(connection), true)
      yield* unplug
    }).pipe(onNetwork))

  it.effect("within the deadline of a region, wherever it waits", () =>
    Effect.gen(function*() {
      for (const waits of ["for the connection", "for room", "behind others"]) {
        yield* Effect.gen(function*() {
          const { connection } = yield* open(waits === "for room" ? narrow : { maxUnsentBytes: 10_000_000 })
          const unplug = waits === "for the connection"
            ? yield* Effect.as(freeze, Effect.void)
            : yield* plug(connection)
          const call = ask(connection).pipe(Deadline.within("1 second"), Effect.orElseSucceed(() => "-"))
          assert.equal(yield* askTimes(connection, 9, call), "-b-b-b-b-", waits)
          assert.equal(yield* isEjected(connection), true, waits)
          yield* unplug
        }).pipe(Effect.scoped, onNetwork)
      }
    }))

  it.effect("also where its caller gives it up at that moment", () =>
    Effect.gen(function*() {
      for (const waits of ["for room", "behind others"]) {
        yield* Effect.gen(function*() {
          const { connection } = yield* open(waits === "for room" ? narrow : { maxUnsentBytes: 10_000_000 })
          const unplug = yield* plug(connection)
          // It sleeps first, and so is the first to wake.
          const call = Effect.raceFirst(Effect.as(Effect.sleep("1 second"), "-"), asked(connection))
          assert.equal(yield* askTimes(connection, 9, call), "-b-b-b-b-", waits)
          assert.equal(yield* isEjected(connection), true, waits)
          yield* unplug
        }).pipe(Effect.scoped, onNetwork)
      }
    }))

  it.effect("and not when its caller has given it up", () =>
    Effect.gen(function*() {
      const { connection } = yield* open()
      yield* freeze
      const call = ask(connection).pipe(Effect.timeout("1 second"), Effect.orElseSucceed(() => "-"))
      assert.equal(yield* askTimes(connection, 20, call), "-b".repeat(10))
      assert.equal(yield* isEjected(connection), false)
    }).pipe(onNetwork))
})

describe("calls that wait for a replica when it is ejected", () => {
  const waiters = Effect.fnUntraced(function*(connection: Connection.Connection) {
    const short = yield* Effect.forEach(Array.from({ length: 10 }), () => fork(asked(connection)))
    const long = yield* Effect.forEach(
      Array.from({ length: 10 }),
      () => fork(asked(connection, { timeout: "1 hour" }))
    )
    yield* settle
    yield* TestClock.adjust("1 second")
    yield* settle
    const answers = yield* Effect.forEach([...short, ...long], (fiber) => Effect.sync(() => fiber.pollUnsafe()))
    assert.deepEqual(answers.slice(10).map((exit) => exit?._tag === "Success" && exit.value), new Array(10).fill("b"))
  })

  it.effect("for its connection go elsewhere", () =>
    Effect.gen(function*() {
      const { connection } = yield* open()
      yield* freeze
      yield* waiters(connection)
    }).pipe(onNetwork))

  it.effect("for room go elsewhere", () =>
    Effect.gen(function*() {
      const { connection } = yield* open(narrow)
      const unplug = yield* plug(connection)
      yield* waiters(connection)
      yield* unplug
    }).pipe(onNetwork))
})

describe("a replica that is ejected and not connected", () => {
  /** Ejects it, and breaks its connection. */
  const ejected = Effect.gen(function*() {
    const opened = yield* open({ keepAlive: false, backoff: { initial: 1, max: 1 } })
    assert.equal(yield* askTimes(opened.connection, 2), "ab")
    yield* freeze
    assert.equal(yield* askTimes(opened.connection, 9), "-b-b-b-b-")
    yield* TestNetwork.fault("a", { cutAfter: { toClient: 0 }, dial: "hang" })
    yield* TestClock.adjust(4999)
    yield* settle
    assert.equal(yield* askTimes(opened.connection, 4), "bbbb")
    assert.equal(opened.first.dials, 1)
    yield* TestClock.adjust(1)
    return opened
  })

  it.effect("is dialed when its time is up, and no call waits for that", () =>
    Effect.gen(function*() {
      const { connection, first } = yield* ejected
      assert.equal(yield* askTimes(connection, 10), "bbbbbbbbbb")
      assert.equal(first.dials, 2)
      assert.equal(yield* isEjected(connection), true)
    }).pipe(onNetwork))

  it.effect("gets a single call when that has succeeded, and is used again when that is answered", () =>
    Effect.gen(function*() {
      const { connection } = yield* ejected
      yield* TestNetwork.heal("a")
      assert.equal(yield* askTimes(connection, 1), "b")
      yield* untilState(connection, ({ endpoints }) => endpoints[0]!.state === "Active")
      const calls = yield* Effect.forEach(Array.from({ length: 4 }), () => fork(asked(connection)))
      yield* settle
      const answers = yield* Effect.forEach(calls, Fiber.join)
      assert.equal(answers.filter((answer) => answer === "a").length, 1)
      assert.equal((yield* askTimes(connection, 4)).replaceAll("b", ""), "aa")
    }).pipe(onNetwork))

  it.effect("is ejected for twice as long when it connects and its call fails", () =>
    Effect.gen(function*() {
      const { connection } = yield* ejected
      yield* TestNetwork.heal("a")
      assert.equal(yield* askTimes(connection, 1), "b")
      yield* untilState(connection, ({ endpoints }) => endpoints[0]!.state === "Active")
      yield* TestNetwork.fault("a", { blackHole: "toClient" })
      assert.equal((yield* askTimes(connection, 4)).replaceAll("b", ""), "-")
      yield* TestClock.adjust(9999)
      assert.equal(yield* askTimes(connection, 4), "bbbb")
      yield* TestClock.adjust(1)
      assert.equal((yield* askTimes(connection, 4)).replaceAll("b", ""), "-")
    }).pipe(onNetwork))

  it.effect("is ejected for twice as long when the dial fails", () =>
    Effect.gen(function*() {
      const { connection, first } = yield* ejected
      yield* TestNetwork.fault("a", { dial: "refuse" })
      assert.equal(yield* askTimes(connection, 4), "bbbb")
      assert.equal(first.dials, 2)
      yield* TestClock.adjust(9999)
      assert.equal(yield* askTimes(connection, 4), "bbbb")
      assert.equal(first.dials, 2)
      yield* TestClock.adjust(1)
      assert.equal(yield* askTimes(connection, 4), "bbbb")
      assert.equal(first.dials, 3)
    }).pipe(onNetwork))

  it.effect("is ejected for twice as long when it closes the connection before it gets a call", () =>
    Effect.gen(function*() {
      const { connection, first } = yield* ejected
      // Its version.
      yield* TestNetwork.fault("a", { cutAfter: { toClient: 24 } })
      for (let i = 0; i < 4; i++) {
        assert.equal(yield* askTimes(connection, 4), "bbbb")
        yield* settle
      }
      assert.equal(first.dials, 2)
      yield* TestClock.adjust("10 seconds")
      assert.equal(yield* askTimes(connection, 4), "bbbb")
      assert.equal(first.dials, 3)
    }).pipe(onNetwork))

  it.effect("is waited for where no other can be reached", () =>
    Effect.gen(function*() {
      const { connection, replicas } = yield* ejected
      yield* replicas[1]!.stop
      const calls = yield* Effect.forEach([1, 2, 3], () => fork(asked(connection)))
      yield* settle
      yield* TestNetwork.heal("a")
      assert.deepEqual(yield* Effect.forEach(calls, Fiber.join), ["a", "a", "a"])
    }).pipe(onNetwork))

  it.effect("is waited for by a call whose key has no other", () =>
    Effect.gen(function*() {
      const { connection } = yield* open({
        dialTimeout: 2000,
        backoff: { initial: 1, max: 1 },
        balancer: Balancer.sharded,
        outlierEjection: { failures: 1 }
      })
      yield* freeze
      const call = asked(connection, { ...timeout, shardKey: 0n })
      assert.equal(yield* askTimes(connection, 1, call), "-")
      // Its dial fails after another second, and it is ejected for ten.
      yield* TestClock.adjust("11 seconds")
      const asking = yield* fork(call)
      yield* settle
      assert.equal(asking.pollUnsafe(), undefined)
      yield* TestNetwork.heal("a")
      assert.equal(yield* Fiber.join(asking), "a")
    }).pipe(onNetwork))
})

describe("a replica whose dial takes longer than calls have", () => {
  it.effect("gets a call that waits for it, since its key has no other, as soon as it is connected", () =>
    Effect.gen(function*() {
      const { connection } = yield* open({
        balancer: Balancer.sharded,
        outlierEjection: { failures: 1, duration: "1 hour", maxDuration: "1 hour" }
      })
      yield* freeze
      assert.equal(yield* askTimes(connection, 1, asked(connection, { ...timeout, shardKey: 0n })), "-")
      assert.equal(yield* isEjected(connection), true)
      const waiting = yield* fork(asked(connection, { shardKey: 0n, waitForReady: true }))
      yield* settle
      assert.equal(waiting.pollUnsafe(), undefined)
      yield* TestNetwork.heal("a")
      yield* settle
      assert.deepEqual(waiting.pollUnsafe(), Exit.succeed("a"))
    }).pipe(onNetwork))

  it.effect("gets a single call as soon as it is connected, and is used again when that is answered", () =>
    Effect.gen(function*() {
      const { connection, first } = yield* open()
      yield* freeze
      assert.equal(yield* askTimes(connection, 11), "-b-b-b-b-bb")
      yield* TestNetwork.heal("a")
      yield* untilState(connection, ({ endpoints }) => endpoints[0]!.state === "Active")
      assert.equal((yield* askTimes(connection, 2)).replaceAll("b", ""), "a")
      assert.equal(yield* isEjected(connection), false)
      assert.equal(first.dials, 1)
    }).pipe(onNetwork))
})

describe("a trial that its caller gives up", () => {
  it.effect("counts neither way: the next trial comes after the same time", () =>
    Effect.gen(function*() {
      const { connection } = yield* open({ keepAlive: false })
      assert.equal(yield* askTimes(connection, 2), "ab")
      yield* TestNetwork.fault("a", { blackHole: "toClient" })
      assert.equal(yield* askTimes(connection, 9), "-b-b-b-b-")
      const trial = Effect.gen(function*() {
        const calls = yield* Effect.forEach([1, 2, 3], () => fork(ask(connection)))
        yield* settle
        const waiting = calls.filter((call) => call.pollUnsafe() === undefined)
        yield* Fiber.interruptAll(waiting)
        return waiting.length
      })
      for (let i = 0; i < 3; i++) {
        yield* TestClock.adjust(4999)
        assert.equal(yield* trial, 0)
        yield* TestClock.adjust(1)
        assert.equal(yield* trial, 1)
        assert.equal(yield* isEjected(connection), true)
      }
      yield* TestNetwork.heal("a")
      yield* TestClock.adjust(5000)
      assert.equal((yield* askTimes(connection, 4)).replaceAll("b", ""), "aa")
    }).pipe(onNetwork))
})

describe("of three replicas one stands still for three minutes", () => {
  const simulate = Effect.fnUntraced(function*(args: Uint8Array, options: Connection.ClientOptions) {
    const replicas = yield* Effect.forEach(["a", "b", "c"], startInMemory)
    const connection = yield* Connection.make(Resolver.constant(...replicas.map(({ endpoint }) => endpoint)), {
      keepAlive: { interval: "10 seconds", timeout: "10 seconds" },
      ...options
    })
    yield* askTimes(connection, 3)
    yield* freeze
    const ended = { before: [0, 0], after: [0, 0] }
    const caller = Effect.gen(function*() {
      const exit = yield* Effect.exit(connection.call(who, args, { timeout: 500 }))
      const phase = everEjected ? ended.after : ended.before
      phase[exit._tag === "Success" ? 0 : 1]!++
      yield* Effect.sleep(500)
    })
    let everEjected = false
    const callers = yield* Effect.forEach([1, 2, 3, 4], () => fork(Effect.forever(caller)))
    for (let millis = 0; millis < 180_000; millis += 500) {
      yield* TestClock.adjust(500)
      yield* settle
      everEjected ||= yield* isEjected(connection)
    }
    yield* Fiber.interruptAll(callers)
    const [ok, failed] = ended.after as [number, number]
    assert.ok(ended.before[1]! <= 12, `${ended.before[1]} calls failed before it was ejected`)
    assert.ok(ok > 1200, `${ok} calls were answered`)
    assert.ok(failed <= 0.01 * (ok + failed), `${failed} of ${ok + failed} calls failed`)
    return failed
  })

  it.effect("hardly any call fails after its first ejection", () =>
    Effect.flatMap(simulate(new Uint8Array(1), {}), (failed) => Effect.sync(() => assert.ok(failed < 10, `${failed}`)))
      .pipe(
        onNetwork
      ))

  it.effect("hardly any call fails either where calls are so large that they wait for room", () =>
    simulate(new Uint8Array(100_000), narrow).pipe(onNetwork))
})
