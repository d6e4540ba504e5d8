import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Equal, Exit, Fiber, Option, Queue, Scope, Stream, SubscriptionRef } from "effect"
import { Deadline, Endpoint, Resolver } from "effect-call"
import { TestClock } from "effect/testing"
import { makeLog } from "../support/log.ts"
import { addresses, next, waits } from "../support/resolve.ts"

const a = Endpoint.tcp("a:1")
const b = Endpoint.tcp("b:1")
const c = Endpoint.tcp("c:1")

const failure = new Resolver.ResolverError({ message: "no" })

const changing = Effect.fnUntraced(function*(...endpoints: ReadonlyArray<Endpoint.Endpoint>) {
  const ref = yield* SubscriptionRef.make(endpoints)
  return { ref, resolver: Resolver.fromSubscriptionRef(ref) }
})

/** Counts what it is told. */
const refreshable = (...endpoints: ReadonlyArray<Endpoint.Endpoint>) => {
  const counts = { refreshed: 0 }
  const resolver: Resolver.Resolver = {
    ...Resolver.constant(...endpoints),
    refresh: Effect.sync(() => void counts.refreshed++)
  }
  return { counts, resolver }
}

describe("map", () => {
  const upper = (endpoint: Endpoint.Endpoint) => Endpoint.withAttributes(endpoint, { zone: "z" })

  it.effect("makes another endpoint of each, and leaves versions and waiting as they are", () =>
    Effect.gen(function*() {
      const { ref, resolver } = yield* changing(a)
      const mapped = Resolver.map(resolver, upper)
      assert.isFalse(mapped.isConstant)
      const first = yield* mapped.resolve()
      assert.deepStrictEqual(first.endpoints.map(({ zone }) => zone), ["z"])
      assert.isTrue(Equal.equals(first.version, (yield* resolver.resolve()).version))
      const waiting = yield* next(mapped, first)
      assert.isTrue(waits(waiting))
      yield* SubscriptionRef.set(ref, [a, b])
      assert.deepStrictEqual((yield* Fiber.join(waiting)).endpoints.map(({ zone }) => zone), ["z", "z"])
    }))

  it.effect("stays constant, and passes refresh on; data-last too", () =>
    Effect.gen(function*() {
      const { counts, resolver } = refreshable(a)
      const mapped = Resolver.map(upper)(resolver)
      assert.isTrue(mapped.isConstant)
      assert.deepStrictEqual(addresses(yield* mapped.resolve()), [a.address])
      yield* mapped.refresh!
      assert.strictEqual(counts.refreshed, 1)
      assert.isUndefined(Resolver.map(Resolver.constant(a), upper).refresh)
    }))
})

describe("filter", () => {
  it.effect("leaves out what does not meet the condition", () =>
    Effect.gen(function*() {
      const resolver = Resolver.constant(a, b, c)
      const keep = ({ address }: Endpoint.Endpoint) => address !== b.address
      assert.deepStrictEqual(addresses(yield* Resolver.filter(resolver, keep).resolve()), [a.address, c.address])
      assert.deepStrictEqual(addresses(yield* Resolver.filter(keep)(resolver).resolve()), [a.address, c.address])
    }))
})

describe("merge", () => {
  it.effect("has the endpoints of all in the order of the arguments, the first of those with one address", () =>
    Effect.gen(function*() {
      const heavy = Endpoint.withAttributes(a, { weight: 2 })
      const merged = Resolver.merge(Resolver.constant(b, heavy), Resolver.constant(a, c))
      assert.isTrue(merged.isConstant)
      const resolution = yield* merged.resolve()
      assert.deepStrictEqual(addresses(resolution), [b.address, a.address, c.address])
      assert.strictEqual(resolution.endpoints[1]?.weight, 2)
      assert.isUndefined(resolution.version)
      assert.deepStrictEqual(yield* Resolver.merge().resolve(), { endpoints: [] })
    }))

  it.effect("waits until any one of them changes", () =>
    Effect.gen(function*() {
      const one = yield* changing(a)
      const other = yield* changing(b)
      const merged = Resolver.merge(one.resolver, Resolver.constant(c), other.resolver)
      assert.isFalse(merged.isConstant)
      let resolution = yield* merged.resolve()
      assert.deepStrictEqual(addresses(resolution), [a.address, c.address, b.address])
      assert.isTrue(Equal.equals((yield* merged.resolve()).version, resolution.version))

      let waiting = yield* next(merged, resolution)
      yield* TestClock.adjust("1 hour")
      assert.isTrue(waits(waiting))
      yield* SubscriptionRef.set(other.ref, [])
      resolution = yield* Fiber.join(waiting)
      assert.deepStrictEqual(addresses(resolution), [a.address, c.address])

      waiting = yield* next(merged, resolution)
      yield* SubscriptionRef.set(one.ref, [b])
      resolution = yield* Fiber.join(waiting)
      assert.deepStrictEqual(addresses(resolution), [b.address, c.address])
    }))

  it.effect("does not answer a change of one that changes nothing for all", () =>
    Effect.gen(function*() {
      const one = yield* changing(a)
      const other = yield* changing(a, b)
      const merged = Resolver.merge(one.resolver, other.resolver)
      const waiting = yield* next(merged, yield* merged.resolve())
      yield* SubscriptionRef.set(other.ref, [b])
      yield* TestClock.adjust("1 minute")
      assert.isTrue(waits(waiting))
    }))

  it.effect("follows one that never waits, and one without versions", () =>
    Effect.gen(function*() {
      let current = [a]
      const eager: Resolver.Resolver = {
        isConstant: false,
        resolve: () => Effect.sync(() => ({ endpoints: current, version: Resolver.version(addressesOf(current)) }))
      }
      const versionless: Resolver.Resolver = {
        isConstant: false,
        resolve: () => Effect.sync(() => ({ endpoints: current }))
      }
      for (const resolver of [eager, versionless]) {
        current = [a]
        const merged = Resolver.merge(resolver, Resolver.constant(c))
        const waiting = yield* next(merged, yield* merged.resolve())
        yield* TestClock.adjust("1 minute")
        assert.isTrue(waits(waiting))
        current = [b]
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(addresses(yield* Fiber.join(waiting)), [b.address, c.address])
      }
    }))

  it.effect("keeps the last endpoints of one that fails, follows the others, and says so", () => {
    const log = makeLog()
    return Effect.gen(function*() {
      let answer: Effect.Effect<Resolver.Resolution, Resolver.ResolverError> = Effect.succeed({
        endpoints: [a],
        version: Resolver.version("1")
      })
      const failing: Resolver.Resolver = { isConstant: false, resolve: () => answer }
      const other = yield* changing(b)
      const merged = Resolver.merge(failing, other.resolver)
      const first = yield* merged.resolve()
      answer = Effect.fail(failure)
      const failed = yield* merged.resolve(first.version)
      assert.deepStrictEqual(addresses(failed), [a.address, b.address])
      assert.isTrue(Equal.equals(failed.version, first.version))
      assert.strictEqual(failed.problem, "a resolver of Resolver.merge failed: no")
      assert.strictEqual(yield* merged.resolve(), failed)
      const waiting = yield* next(merged, failed)
      yield* TestClock.adjust("1 minute")
      assert.isTrue(waits(waiting))
      assert.deepStrictEqual(log.lines.map(({ level }) => level), ["Warn"])
      yield* SubscriptionRef.set(other.ref, [c])
      assert.deepStrictEqual(addresses(yield* Fiber.join(waiting)), [a.address, c.address])
    }).pipe(Effect.provide(log.layer))
  })

  it.effect("logs once in a row that one fails, with any number of changes of others and of callers", () => {
    const log = makeLog()
    return Effect.gen(function*() {
      let answer: Effect.Effect<Resolver.Resolution, Resolver.ResolverError> = Effect.succeed({
        endpoints: [a],
        version: Resolver.version("1")
      })
      const failing: Resolver.Resolver = { isConstant: false, resolve: () => answer }
      const other = yield* changing(b)
      const merged = Resolver.merge(failing, other.resolver)
      let last = yield* merged.resolve()
      const change = Effect.fnUntraced(function*(endpoint: Endpoint.Endpoint) {
        const waiting = [yield* next(merged, last), yield* next(merged, last)]
        yield* TestClock.adjust("1 minute")
        yield* SubscriptionRef.set(other.ref, [endpoint])
        for (const fiber of waiting) last = yield* Fiber.join(fiber)
      })
      const works = answer
      answer = Effect.fail(failure)
      for (const endpoint of [c, b, c]) yield* change(endpoint)
      assert.strictEqual(log.lines.length, 1)
      answer = works
      yield* change(b)
      answer = Effect.fail(failure)
      yield* change(c)
      assert.strictEqual(log.lines.length, 2)
    }).pipe(Effect.provide(log.layer))
  })

  it.effect("fails while one of them has never answered", () =>
    Effect.gen(function*() {
      let answer: Effect.Effect<Resolver.Resolution, Resolver.ResolverError> = Effect.fail(failure)
      const failing: Resolver.Resolver = { isConstant: false, resolve: () => answer }
      const merged = Resolver.merge(Resolver.constant(b), failing)
      assert.strictEqual(yield* Effect.flip(merged.resolve()), failure)
      answer = Effect.succeed({ endpoints: [a], version: Resolver.version("1") })
      assert.deepStrictEqual(addresses(yield* merged.resolve()), [b.address, a.address])
    }))

  it.effect("leaves no fiber waiting when the wait is interrupted, and does not interrupt a slow one without need", () =>
    Effect.gen(function*() {
      const log: Array<string> = []
      const slow: Resolver.Resolver = {
        isConstant: false,
        resolve: (seen) =>
          seen === undefined
            ? Effect.succeed({ endpoints: [a], version: Resolver.version("1") })
            : Effect.onInterrupt(Effect.never, () => Effect.sync(() => log.push("interrupted")))
      }
      const same: Resolver.Resolver = {
        isConstant: false,
        resolve: () => Effect.succeed({ endpoints: [b], version: Resolver.version("1") })
      }
      const merged = Resolver.merge(slow, same)
      const waiting = yield* next(merged, yield* merged.resolve())
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(log, [])
      yield* Fiber.interrupt(waiting)
      assert.deepStrictEqual(log, ["interrupted"])
    }))

  it.effect("passes refresh on to all that have it", () =>
    Effect.gen(function*() {
      const one = refreshable(a)
      const other = refreshable(b)
      yield* Resolver.merge(one.resolver, Resolver.constant(c), other.resolver).refresh!
      assert.deepStrictEqual([one.counts.refreshed, other.counts.refreshed], [1, 1])
      assert.isUndefined(Resolver.merge(Resolver.constant(c)).refresh)
    }))
})

const addressesOf = (endpoints: ReadonlyArray<Endpoint.Endpoint>) => endpoints.map(({ address }) => address).join()

describe("fromStream", () => {
  const make = Effect.gen(function*() {
    const queue = yield* Queue.unbounded<ReadonlyArray<Endpoint.Endpoint>, Error>()
    return { queue, resolver: yield* Resolver.fromStream(Stream.fromQueue(queue)) }
  })

  it.effect("waits for the first element, and then for the next ones", () =>
    Effect.gen(function*() {
      const { queue, resolver } = yield* make
      const waiting = yield* Effect.forkChild(resolver.resolve(), { startImmediately: true })
      yield* TestClock.adjust("1 hour")
      assert.isTrue(waits(waiting))
      yield* Queue.offer(queue, [a])
      const first = yield* Fiber.join(waiting)
      assert.deepStrictEqual(addresses(first), [a.address])
      assert.strictEqual(yield* resolver.resolve(Resolver.missing), first)

      const newer = yield* next(resolver, first)
      assert.isTrue(waits(newer))
      yield* Queue.offer(queue, [b])
      const second = yield* Fiber.join(newer)
      assert.deepStrictEqual(addresses(second), [b.address])
      assert.strictEqual(yield* resolver.resolve(), second)
    }))

  it.effect("fails with the stream, and keeps its last endpoints", () =>
    Effect.gen(function*() {
      const { queue, resolver } = yield* make
      yield* Queue.offer(queue, [a])
      const first = yield* resolver.resolve()
      const waiting = yield* next(resolver, first)
      yield* Queue.fail(queue, new Error("the line is cut"))
      const error = yield* Effect.flip(Fiber.join(waiting))
      assert.strictEqual(error.message, "the stream of endpoints has failed: the line is cut")
      assert.strictEqual(yield* resolver.resolve(), first)
      assert.strictEqual((yield* Effect.flip(resolver.resolve(first.version))).message, error.message)
    }))

  it.effect("fails where the stream fails or ends without an element", () =>
    Effect.gen(function*() {
      const failing = yield* Resolver.fromStream(Stream.fail("no"))
      assert.strictEqual((yield* Effect.flip(failing.resolve())).message, "the stream of endpoints has failed: no")
      const dying = yield* Resolver.fromStream(Stream.die(new Error("broken")))
      assert.include((yield* Effect.flip(dying.resolve())).message, "broken")
      const empty = yield* Resolver.fromStream(Stream.empty)
      assert.include((yield* Effect.flip(empty.resolve())).message, "ended without an element")
    }))

  it.effect("keeps the last element when the stream ends", () =>
    Effect.gen(function*() {
      const resolver = yield* Resolver.fromStream(Stream.make([a], [b]))
      yield* TestClock.adjust(0)
      const last = yield* resolver.resolve()
      assert.deepStrictEqual(addresses(last), [b.address])
      const waiting = yield* next(resolver, last)
      yield* TestClock.adjust("1 hour")
      assert.isTrue(waits(waiting))
    }))

  it.effect("runs the stream until the Scope ends, not under the caller's deadline", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const ended = yield* Deferred.make<void>()
      const remaining = yield* Deferred.make<Option.Option<unknown>>()
      const stream = Stream.fromEffect(Deferred.complete(remaining, Deadline.remaining)).pipe(
        Stream.drain,
        Stream.concat(Stream.make([a])),
        Stream.concat(Stream.never),
        Stream.ensuring(Deferred.succeed(ended, undefined))
      )
      const resolver = yield* Resolver.fromStream(stream).pipe(
        Deadline.within("1 second"),
        Scope.provide(scope)
      )
      assert.deepStrictEqual(yield* Deferred.await(remaining), Option.none())
      assert.deepStrictEqual(addresses(yield* resolver.resolve()), [a.address])
      yield* Scope.close(scope, Exit.void)
      assert.isTrue(yield* Deferred.isDone(ended))
    }))
})
