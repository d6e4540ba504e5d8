import { assert, describe, it } from "@effect/vitest"
import { Clock, Context, Duration, Effect, Fiber, Option } from "effect"
import { Deadline } from "effect-call"
import { TestClock } from "effect/testing"
import { nowMillis } from "../src/internal/time/clock.ts"

const millisLeft = Effect.map(Deadline.remaining, Option.map(Duration.toMillis))

describe("within", () => {
  it.effect("fails with DeadlineExceeded when the time is over, wherever the effect waits", () =>
    Effect.gen(function*() {
      const fiber = yield* Effect.never.pipe(Deadline.within("2 seconds"), Effect.flip, Effect.forkChild)
      yield* TestClock.adjust("1999 millis")
      assert.isUndefined(fiber.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      const error = yield* Fiber.join(fiber)
      assert.strictEqual(error._tag, "DeadlineExceeded")
      assert.strictEqual(error.message, "deadline exceeded: 2s passed")
    }))

  it.effect("changes nothing about an effect that ends in time", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* Deadline.within(Effect.succeed("done"), "1 second"), "done")
      assert.strictEqual(yield* Effect.flip(Deadline.within(Effect.fail("no"), "1 second")), "no")
      const fiber = yield* Effect.forkChild(Deadline.within(Effect.as(Effect.sleep("900 millis"), "slow"), "1 second"))
      yield* TestClock.adjust("900 millis")
      assert.strictEqual(yield* Fiber.join(fiber), "slow")
    }))

  it.effect("interrupts the effect and waits for its finalizers", () =>
    Effect.gen(function*() {
      const log: Array<string> = []
      const note = (line: string) => Effect.sync(() => log.push(line))
      const fiber = yield* Effect.never.pipe(
        Effect.onInterrupt(() => Effect.andThen(Effect.sleep("1 second"), note("cleaned up"))),
        Deadline.within("1 second"),
        Effect.flip,
        Effect.tap(() => note("failed")),
        Effect.forkChild
      )
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(log, [])
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(log, ["cleaned up", "failed"])
    }))

  it.effect("is interrupted with its effect", () =>
    Effect.gen(function*() {
      let interrupted = false
      const fiber = yield* Effect.never.pipe(
        Effect.onInterrupt(() => Effect.sync(() => interrupted = true)),
        Deadline.within("1 hour"),
        Effect.forkChild({ startImmediately: true })
      )
      yield* Fiber.interrupt(fiber)
      assert.isTrue(interrupted)
    }))

  it.effect("takes the ambient deadline where that is earlier, and says that it was inherited", () =>
    Effect.gen(function*() {
      const fiber = yield* Effect.never.pipe(
        Deadline.within("1 minute"),
        Effect.catchTag("DeadlineExceeded", (error) => Effect.succeed(error.message)),
        Deadline.within("1 second"),
        Effect.forkChild
      )
      yield* TestClock.adjust("1 second")
      assert.strictEqual(
        yield* Fiber.join(fiber),
        "deadline exceeded: the inherited deadline passed (it was no later than the 1m given here)"
      )
    }))

  it.effect("takes its own deadline where that is earlier, and leaves the outer one to what comes after", () =>
    Effect.gen(function*() {
      const fiber = yield* Effect.gen(function*() {
        const inner = yield* Effect.flip(Deadline.within(Effect.never, "1 second"))
        return [inner.message, yield* millisLeft] as const
      }).pipe(Deadline.within("10 seconds"), Effect.forkChild)
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* Fiber.join(fiber), ["deadline exceeded: 1s passed", Option.some(9_000)])
    }))

  it.effect("never starts the effect where nothing is left", () =>
    Effect.gen(function*() {
      let starts = 0
      const effect = Effect.sync(() => starts++)
      for (const duration of [0, -5, NaN, -Infinity, "-1 seconds"] as const) {
        const error = yield* Effect.flip(Deadline.within(effect, duration))
        assert.strictEqual(error._tag, "DeadlineExceeded", `${duration}`)
      }
      const error = yield* Effect.flip(Deadline.within(effect, -5))
      assert.strictEqual(error.message, "deadline exceeded: a deadline of -5ms is over before the work begins")
      assert.strictEqual(starts, 0)
    }))

  it.effect("never starts the effect after the ambient deadline, where finalizers run", () =>
    Effect.gen(function*() {
      let starts = 0
      const messages: Array<string> = []
      const fiber = yield* Effect.never.pipe(
        Effect.onInterrupt(() =>
          Effect.sync(() => starts++).pipe(
            Deadline.within("1 minute"),
            Effect.catch((error) => Effect.sync(() => messages.push(error.message)))
          )
        ),
        Deadline.within("1 second"),
        Effect.flip,
        Effect.forkChild
      )
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(fiber)
      assert.strictEqual(starts, 0)
      assert.deepStrictEqual(messages, ["deadline exceeded: the inherited deadline had passed before the work began"])
    }))

  it.effect("sets no deadline of its own with an infinite duration, and keeps the ambient one", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* Deadline.within(millisLeft, Infinity), Option.none())
      const left = millisLeft.pipe(Deadline.within(Infinity), Deadline.within("3 seconds"))
      assert.deepStrictEqual(yield* left, Option.some(3_000))
    }))

  it.effect("counts from when the effect is run", () =>
    Effect.gen(function*() {
      const effect = Deadline.within(millisLeft, "1 second")
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual(yield* effect, Option.some(1_000))
      assert.deepStrictEqual(yield* effect, Option.some(1_000))
    }))

  it.effect("means the same moment under another clock", () =>
    Effect.gen(function*() {
      const live = Context.get(Context.empty(), Clock.Clock)
      const fiber = yield* Effect.never.pipe(
        Deadline.within("1 minute"), // under the live clock, but the ambient deadline of the test's clock comes first
        Effect.provideService(Clock.Clock, live),
        Effect.catchTag("DeadlineExceeded", (error) => Effect.succeed(error.message)),
        Deadline.within("1 second"),
        Effect.forkChild
      )
      yield* TestClock.adjust("1 second")
      assert.match(yield* Fiber.join(fiber), /inherited deadline passed/)
    }))

  it.live("passes on the live clock, and never before its time", () =>
    Effect.gen(function*() {
      const clock = yield* Clock.Clock
      for (let i = 0; i < 20; i++) {
        const start = nowMillis(clock)
        const error = yield* Effect.flip(Deadline.within(Effect.never, "1700 micros"))
        assert.strictEqual(error._tag, "DeadlineExceeded")
        assert.isAtLeast(nowMillis(clock) - start, 1.7)
      }
    }))

  it.live("lets the event loop look for what has come in before it believes that time is up", () =>
    Effect.gen(function*() {
      // What another process has written while this one was busy is seen by the poll that comes after the timers.
      const answer = Effect.callback<string>((resume) => {
        setImmediate(() => {
          const end = performance.now() + 30
          while (performance.now() < end);
          setImmediate(() => resume(Effect.succeed("in time")))
        })
      })
      assert.strictEqual(yield* Deadline.within(answer, "10 millis"), "in time")
    }))
})

describe("remaining", () => {
  it.effect("is none without a deadline and shrinks to zero with one", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* millisLeft, Option.none())
      const seen: Array<Option.Option<number>> = []
      const look = Effect.tap(millisLeft, (left) => Effect.sync(() => seen.push(left)))
      const fiber = yield* look.pipe(
        Effect.andThen(Effect.sleep("400 millis")),
        Effect.andThen(look),
        Effect.andThen(Effect.never),
        Effect.onInterrupt(() => Effect.andThen(Effect.sleep("1 second"), look)),
        Deadline.within("1 second"),
        Effect.flip,
        Effect.forkChild
      )
      yield* TestClock.adjust("2 seconds")
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(seen, [Option.some(1_000), Option.some(600), Option.some(0)])
    }))

  it.effect("is inherited by the fibers that are forked inside", () =>
    Effect.gen(function*() {
      const fiber = yield* Deadline.within(Effect.forkDetach(Effect.delay(millisLeft, "1 second")), "5 seconds")
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* Fiber.join(fiber), Option.some(4_000))
    }))

  it.live("is a little less on the live clock each time", () =>
    Effect.gen(function*() {
      const [first, second] = yield* Deadline.within(
        Effect.all([millisLeft, Effect.delay(millisLeft, "5 millis")]),
        "1 minute"
      )
      const a = Option.getOrThrow(first)
      const b = Option.getOrThrow(second)
      assert.isAtMost(a, 60_000)
      assert.isBelow(b, a)
      assert.isAbove(b, 50_000)
    }))
})

describe("none", () => {
  it.effect("hides the ambient deadline", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* millisLeft.pipe(Deadline.none, Deadline.within("1 second")), Option.none())
      const own = millisLeft.pipe(Deadline.within("1 hour"), Deadline.none, Deadline.within("1 second"))
      assert.deepStrictEqual(yield* own, Option.some(3_600_000))
    }))

  it.effect("lets forked work go on after the deadline", () =>
    Effect.gen(function*() {
      const work = Deadline.within(Effect.as(Effect.sleep("30 minutes"), "finished"), "1 hour")
      const fiber = yield* Effect.forkDetach(Deadline.none(work)).pipe(Deadline.within("1 second"))
      yield* TestClock.adjust("30 minutes")
      assert.strictEqual(yield* Fiber.join(fiber), "finished")
    }))
})

describe("nowMillis", () => {
  it.effect("follows the test clock, fractions included", () =>
    Effect.gen(function*() {
      const clock = yield* Clock.Clock
      const start = nowMillis(clock)
      yield* TestClock.adjust("1500 micros")
      assert.closeTo(nowMillis(clock) - start, 1.5, 1e-9)
      yield* TestClock.adjust("1 hour")
      assert.closeTo(nowMillis(clock) - start, 3_600_001.5, 1e-6)
    }))

  it.live("is the monotonic time of the live clock", () =>
    Effect.gen(function*() {
      const clock = yield* Clock.Clock
      const read = () => {
        const before = clock.monotonicTimeNanosUnsafe()
        const now = nowMillis(clock)
        return { before, now, after: clock.monotonicTimeNanosUnsafe() }
      }
      const start = read()
      yield* Effect.sleep("20 millis")
      const end = read()
      assert.isAtLeast(end.now - start.now, Number(end.before - start.after) / 1e6 - 0.1)
      assert.isAtMost(end.now - start.now, Number(end.after - start.before) / 1e6 + 0.1)
    }))
})
