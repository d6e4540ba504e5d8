import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Equal, Exit, Fiber } from "effect"
import { Endpoint, Resolver } from "effect-call"
import { TestClock } from "effect/testing"
import { type Look, polled, type Source } from "../../../src/internal/resolver/polled.ts"
import { addresses, next, waits } from "../../support/resolve.ts"

const a = Endpoint.tcp("a:1")
const b = Endpoint.tcp("b:1")

const make = Effect.fnUntraced(function*(options?: Partial<Source>) {
  const state = {
    looks: 0,
    answer: Effect.succeed([a]) as Effect.Effect<ReadonlyArray<Endpoint.Endpoint>, Resolver.ResolverError>,
    problem: undefined as string | undefined,
    ttlMillis: 10_000
  }
  const { resolver } = yield* polled({
    kind: "test",
    look: () => {
      state.looks++
      const { ttlMillis, problem } = state
      return Effect.map(state.answer, (endpoints): Look => ({ endpoints, ttlMillis, problem }))
    },
    leastMillis: 1000,
    retryMillis: 5000,
    ...options
  })
  return { state, resolver }
})

const error = new Resolver.ResolverError({ message: "no" })

describe("polled", () => {
  it.effect("looks when it is first asked, and again when what was found is no longer good", () =>
    Effect.gen(function*() {
      const { resolver, state } = yield* make()
      const first = yield* resolver.resolve()
      assert.deepStrictEqual(addresses(first), [a.address])
      const waiting = yield* next(resolver, first)
      yield* TestClock.adjust(9999)
      assert.strictEqual(state.looks, 1)
      state.answer = Effect.succeed([a, b])
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(addresses(yield* Fiber.join(waiting)), [a.address, b.address])
      assert.strictEqual(state.looks, 2)
    }))

  it.effect("gives one version to one set, attributes included", () =>
    Effect.gen(function*() {
      const { resolver, state } = yield* make()
      const first = yield* resolver.resolve()
      const waiting = yield* next(resolver, first)
      state.answer = Effect.succeed([Endpoint.tcp("a:1")])
      yield* TestClock.adjust("1 minute")
      assert.isTrue(waits(waiting))
      assert.strictEqual(state.looks, 7)
      state.answer = Effect.succeed([Endpoint.withAttributes(a, { weight: 2 })])
      yield* TestClock.adjust("10 seconds")
      const second = yield* Fiber.join(waiting)
      assert.strictEqual(second.endpoints[0]?.weight, 2)
      assert.isFalse(Equal.equals(first.version, second.version))
    }))

  it.effect("answers at once what it knows while that is good, also to a version it does not know", () =>
    Effect.gen(function*() {
      const { resolver, state } = yield* make()
      const first = yield* resolver.resolve()
      assert.strictEqual(yield* resolver.resolve(), first)
      assert.strictEqual(yield* resolver.resolve(Resolver.missing), first)
      assert.strictEqual(state.looks, 1)
      yield* TestClock.adjust("10 seconds")
      yield* resolver.resolve()
      assert.strictEqual(state.looks, 2)
    }))

  it.effect("looks once for all that ask", () =>
    Effect.gen(function*() {
      const { resolver, state } = yield* make()
      const gate = yield* Deferred.make<void>()
      state.answer = Effect.as(Deferred.await(gate), [a])
      const asking = yield* Effect.forkChild(Effect.replicateEffect(resolver.resolve(), 8, { concurrency: 8 }), {
        startImmediately: true
      })
      yield* Deferred.succeed(gate, undefined)
      const answers = yield* Fiber.join(asking)
      assert.strictEqual(new Set(answers).size, 1)
      const waiting = yield* Effect.forEach(answers, (answer) => next(resolver, answer))
      state.answer = Effect.succeed([b])
      yield* TestClock.adjust("10 seconds")
      for (const fiber of waiting) assert.deepStrictEqual(addresses(yield* Fiber.join(fiber)), [b.address])
      assert.strictEqual(state.looks, 2)
    }))

  it.effect("gives no caller a value from before the time without callers, while it looks again", () =>
    Effect.gen(function*() {
      const { resolver, state } = yield* make()
      yield* resolver.resolve()
      yield* TestClock.adjust("1 hour")
      const gate = yield* Deferred.make<void>()
      state.answer = Effect.as(Deferred.await(gate), [b])
      const asking = yield* Effect.forkChild(Effect.replicateEffect(resolver.resolve(), 2, { concurrency: 2 }), {
        startImmediately: true
      })
      yield* Deferred.succeed(gate, undefined)
      for (const answer of yield* Fiber.join(asking)) assert.deepStrictEqual(addresses(answer), [b.address])
    }))

  it.effect("does not look while no caller waits", () =>
    Effect.gen(function*() {
      const { resolver, state } = yield* make()
      const waiting = yield* next(resolver, yield* resolver.resolve())
      yield* Fiber.interrupt(waiting)
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(state.looks, 1)
    }))

  it.effect("looks again for the callers that still wait when one is interrupted in the middle of a look", () =>
    Effect.gen(function*() {
      const { resolver, state } = yield* make()
      let interrupted = 0
      state.answer = Effect.onInterrupt(Effect.never, () => Effect.sync(() => interrupted++))
      const one = yield* Effect.forkChild(resolver.resolve(), { startImmediately: true })
      const other = yield* Effect.forkChild(resolver.resolve(), { startImmediately: true })
      yield* Fiber.interrupt(one)
      assert.strictEqual(interrupted, 0)
      yield* Fiber.interrupt(other)
      assert.strictEqual(interrupted, 1)
      state.answer = Effect.succeed([b])
      assert.deepStrictEqual(addresses(yield* resolver.resolve()), [b.address])
    }))

  it.effect("looks no more often when callers come and go during a look", () =>
    Effect.gen(function*() {
      const { resolver, state } = yield* make()
      const first = yield* resolver.resolve()
      yield* TestClock.adjust("10 seconds")
      state.answer = Effect.delay(Effect.succeed([b]), "200 millis")
      for (let i = 0; i < 9; i++) {
        const waiting = yield* next(resolver, first)
        yield* TestClock.adjust("100 millis")
        yield* Fiber.interrupt(waiting)
      }
      assert.strictEqual(state.looks, 2)
      // What is known may be out of date: it is no answer to who comes now.
      const waiting = yield* Effect.forkChild(resolver.resolve(), { startImmediately: true })
      yield* TestClock.adjust("300 millis")
      assert.deepStrictEqual(addresses(yield* Fiber.join(waiting)), [b.address])
    }))

  it.effect("fails the callers that wait when a look fails, keeps what it knows, and tells when it is up to date again", () =>
    Effect.gen(function*() {
      const { resolver, state } = yield* make()
      const first = yield* resolver.resolve()
      state.answer = Effect.fail(error)
      const failing = yield* next(resolver, first)
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual(yield* Effect.flip(Fiber.join(failing)), error)
      assert.strictEqual(yield* resolver.resolve(), first)

      const waiting = yield* next(resolver, first)
      yield* TestClock.adjust(4999)
      assert.isTrue(waits(waiting))
      state.answer = Effect.succeed([a])
      yield* TestClock.adjust(1)
      const well = yield* Fiber.join(waiting)
      assert.deepStrictEqual(well, first)
      const quiet = yield* next(resolver, well)
      yield* TestClock.adjust("1 minute")
      assert.isTrue(waits(quiet))
    }))

  it.effect("tells also callers that were not waiting then that it is up to date again", () =>
    Effect.gen(function*() {
      const { resolver, state } = yield* make()
      const first = yield* resolver.resolve()
      state.answer = Effect.fail(error)
      const failing = [yield* next(resolver, first), yield* next(resolver, first)]
      yield* TestClock.adjust("10 seconds")
      for (const fiber of failing) assert.strictEqual(yield* Effect.flip(Fiber.join(fiber)), error)

      state.answer = Effect.succeed([a])
      const waiting = yield* next(resolver, first)
      yield* TestClock.adjust("5 seconds")
      const well = yield* Fiber.join(waiting)
      const later = yield* next(resolver, first)
      assert.strictEqual(yield* Fiber.join(later), well)
      assert.isTrue(Equal.equals(well.version, first.version))
    }))

  it.effect("tells of another problem, with the same version and the same list where the endpoints are the same", () =>
    Effect.gen(function*() {
      const { resolver, state } = yield* make()
      state.problem = "b is not there yet"
      const first = yield* resolver.resolve()
      assert.strictEqual(first.problem, "b is not there yet")
      let waiting = yield* next(resolver, first)
      yield* TestClock.adjust("10 seconds")
      assert.isTrue(waits(waiting))

      state.problem = "b is gone"
      yield* TestClock.adjust("10 seconds")
      const second = yield* Fiber.join(waiting)
      assert.strictEqual(second.problem, "b is gone")
      assert.strictEqual(second.endpoints, first.endpoints)
      assert.isTrue(Equal.equals(second.version, first.version))
      assert.strictEqual(yield* resolver.resolve(first.version), second)

      waiting = yield* next(resolver, second)
      state.problem = undefined
      yield* TestClock.adjust("10 seconds")
      assert.isFalse("problem" in (yield* Fiber.join(waiting)))
    }))

  it.effect("says what a defect of a look is", () =>
    Effect.gen(function*() {
      const { resolver, state } = yield* make()
      const bug = new TypeError("x is not a function")
      state.answer = Effect.die(bug)
      const { cause, message } = yield* Effect.flip(resolver.resolve())
      assert.deepStrictEqual([message, cause], ["the resolver has a defect: x is not a function", bug])
    }))

  it.effect("fails while it has never found anything, and looks each time it is asked", () =>
    Effect.gen(function*() {
      const { resolver, state } = yield* make()
      state.answer = Effect.fail(error)
      assert.strictEqual(yield* Effect.flip(resolver.resolve()), error)
      assert.strictEqual(yield* Effect.flip(resolver.resolve(Resolver.missing)), error)
      assert.strictEqual(state.looks, 2)
      state.answer = Effect.succeed([a])
      assert.deepStrictEqual(addresses(yield* resolver.resolve()), [a.address])
    }))

  it.effect("treats a defect as a failure", () =>
    Effect.gen(function*() {
      const { resolver, state } = yield* make()
      for (const cause of [Effect.die("broken"), Effect.interrupt]) {
        state.answer = cause
        assert.strictEqual((yield* Effect.flip(resolver.resolve()))._tag, "ResolverError")
      }
    }))

  it.effect("looks soon when it is refreshed, at most once in a while", () =>
    Effect.gen(function*() {
      const { resolver, state } = yield* make()
      const waiting = yield* next(resolver, yield* resolver.resolve())
      yield* resolver.refresh!
      yield* resolver.refresh!
      yield* TestClock.adjust(999)
      assert.strictEqual(state.looks, 1)
      yield* TestClock.adjust(1)
      assert.strictEqual(state.looks, 2)
      yield* TestClock.adjust("5 seconds")
      assert.strictEqual(state.looks, 2)
      yield* resolver.refresh!
      yield* TestClock.adjust(0)
      assert.strictEqual(state.looks, 3)
      assert.isTrue(waits(waiting))
    }))

  it.effect("looks once more when it is refreshed in the middle of a look", () =>
    Effect.gen(function*() {
      const { resolver, state } = yield* make()
      const first = yield* resolver.resolve()
      const waiting = yield* next(resolver, first)
      const gate = yield* Deferred.make<void>()
      state.answer = Effect.as(Deferred.await(gate), [a])
      yield* TestClock.adjust("10 seconds")
      yield* resolver.refresh!
      yield* Deferred.succeed(gate, undefined)
      state.answer = Effect.succeed([b])
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(addresses(yield* Fiber.join(waiting)), [b.address])
    }))

  it.effect("runs its watch while someone waits, and ends it then", () =>
    Effect.gen(function*() {
      const log: Array<string> = []
      let lookSoon = () => {}
      const { resolver, state } = yield* make({
        leastMillis: 20,
        watch: (soon) => {
          lookSoon = soon
          return Effect.acquireUseRelease(
            Effect.sync(() => log.push("begins")),
            () => Effect.never,
            () => Effect.sync(() => log.push("ends"))
          )
        }
      })
      const first = yield* resolver.resolve()
      const waiting = yield* next(resolver, first)
      yield* TestClock.adjust("1 second")
      assert.strictEqual(log.at(-1), "begins")
      state.answer = Effect.succeed([b])
      lookSoon()
      yield* Fiber.join(waiting)
      yield* TestClock.adjust(0)
      assert.strictEqual(log.at(-1), "ends")
    }))

  it.effect("tells the callers that wait what has come after a look, and looks when that is no longer good", () =>
    Effect.gen(function*() {
      let looks = 0
      const { resolver } = yield* make({
        look: (later) =>
          Effect.gen(function*() {
            looks++
            const more = yield* later.fork(Effect.sleep("2 seconds"))
            more.addObserver((exit) => {
              if (Exit.isSuccess(exit)) later.tell({ endpoints: [a, b], ttlMillis: 3000 })
            })
            return { endpoints: [a], ttlMillis: 30_000 }
          })
      })
      const first = yield* resolver.resolve()
      const waiting = yield* next(resolver, first)
      // The look of who waits, since what the first one left has ended with the waiting.
      yield* TestClock.adjust("1 second")
      assert.strictEqual(looks, 2)
      yield* TestClock.adjust(1999)
      assert.isTrue(waits(waiting))
      yield* TestClock.adjust(1)
      const second = yield* Fiber.join(waiting)
      assert.deepStrictEqual(addresses(second), [a.address, b.address])
      const again = yield* next(resolver, second)
      yield* TestClock.adjust(2999)
      assert.strictEqual(looks, 2)
      yield* TestClock.adjust(1)
      assert.strictEqual(looks, 3)
      assert.deepStrictEqual(addresses(yield* Fiber.join(again)), [a.address])
    }))

  it.effect("ends what comes later when no caller waits any more, and begins no look before it has ended", () =>
    Effect.gen(function*() {
      const log: Array<string> = []
      const gate = yield* Deferred.make<void>()
      const { resolver } = yield* make({
        look: (later) =>
          Effect.gen(function*() {
            log.push("looks")
            yield* later.fork(Effect.onInterrupt(Effect.never, () =>
              Effect.andThen(
                Deferred.await(gate),
                Effect.sync(() => log.push("ended"))
              )))
            return { endpoints: [a], ttlMillis: 10_000 }
          })
      })
      const first = yield* resolver.resolve()
      yield* next(resolver, first)
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(log, ["looks"])
      yield* Deferred.succeed(gate, undefined)
      yield* TestClock.adjust(0)
      assert.deepStrictEqual(log, ["looks", "ended", "looks"])
    }))

  it.effect("continues where callers that it answers interrupt the last caller that waits, and wait again", () =>
    Effect.gen(function*() {
      const { resolver, state } = yield* make()
      const first = yield* resolver.resolve()
      const again = yield* Deferred.make<Resolver.Resolution, Resolver.ResolverError>()
      const answered = yield* Effect.forkScoped(
        Effect.gen(function*() {
          const second = yield* resolver.resolve(first.version)
          yield* Fiber.interrupt(last)
          yield* Deferred.completeWith(again, resolver.resolve(second.version))
          yield* Deferred.await(again)
        }),
        { startImmediately: true }
      )
      const last: Fiber.Fiber<unknown, unknown> = yield* next(resolver, first)
      state.answer = Effect.succeed([a, b])
      yield* TestClock.adjust("10 seconds")
      assert.isFalse(waits(last))
      assert.isTrue(waits(answered))
      const looks = state.looks
      state.answer = Effect.succeed([b])
      yield* TestClock.adjust("10 seconds")
      yield* Fiber.join(answered)
      assert.deepStrictEqual(addresses(yield* Deferred.await(again)), [b.address])
      assert.strictEqual(state.looks, looks + 1)
    }))
})
