import { NodeFileSystem } from "@effect/platform-node"
import { describe, it } from "@effect/vitest"
import { Clock, Effect, Exit, Fiber, Option, Scope, SubscriptionRef } from "effect"
import { Connection, Deadline, type Endpoint, Resolver } from "effect-call"
import { TestNetwork } from "effect-call/testing"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { makeLog } from "../support/log.ts"
import { temporaryDirectory, unix } from "../support/networks.ts"
import { ask, settle, start, startInMemory, turn } from "./support.ts"

const onNetwork = Effect.provide(TestNetwork.layer)

type Answer = Effect.Effect<Resolver.Resolution, Resolver.ResolverError>

/** A resolver that is told what to answer the n-th time, and notes when it was asked with which version. */
const scripted = (answer: (n: number, version: Resolver.Version | undefined) => Answer) => {
  const asked: Array<{ readonly at: number; readonly version: string | undefined }> = []
  const resolver: Resolver.Resolver = {
    isConstant: false,
    resolve: (version) =>
      Effect.flatMap(Clock.currentTimeMillis, (at) => {
        asked.push({ at, version: version?.opaque })
        return answer(asked.length - 1, version)
      })
  }
  return { resolver, asked, waits: () => asked.slice(1).map(({ at }, i) => at - asked[i]!.at) }
}

const broken = Effect.fail(new Resolver.ResolverError({ message: "no such luck" }))
const set = (endpoints: ReadonlyArray<Endpoint.Endpoint>, version: string): Answer =>
  Effect.succeed({ endpoints, version: Resolver.version(version) })

/** The longest wait after the n-th answer in a row that brings nothing new; the shortest is 0.6 of it. */
const longestWait = (n: number) => Math.min(1000, 10 * 1.3 ** n)

const assertWaits = (waits: ReadonlyArray<number>) => {
  waits.forEach((wait, n) => {
    const longest = longestWait(n)
    assert.ok(wait <= longest + 0.001 && wait >= 0.6 * longest - 0.001, `wait ${n}: ${wait}, expected up to ${longest}`)
  })
}

describe("the first answer of a resolver", () => {
  it.effect("that is an error fails make, and the resolver is not asked again", () =>
    Effect.gen(function*() {
      const { asked, resolver } = scripted(() => broken)
      const error = yield* Effect.flip(Connection.make(resolver))
      assert.ok(error._tag === "ResolverError", error._tag)
      assert.equal(error.message, "no such luck")
      yield* TestClock.adjust("1 minute")
      assert.deepEqual(asked, [{ at: 0, version: undefined }])
    }))

  it.effect("is the only one that a constant resolver is asked for", () =>
    Effect.gen(function*() {
      const a = yield* startInMemory("a")
      const { asked, resolver } = scripted(() => set([a.endpoint], "1"))
      const connection = yield* Connection.make({ ...resolver, isConstant: true })
      yield* TestClock.adjust("1 minute")
      assert.equal(yield* ask(connection), "a")
      assert.equal(asked.length, 1)
    }).pipe(onNetwork))
})

describe("a resolver that fails", () => {
  it.effect("is asked again after waits that grow from 10 ms by 1.3 to a second, up to 40 % shorter, with the last version", () =>
    Effect.gen(function*() {
      const a = yield* startInMemory("a")
      const { asked, resolver, waits } = scripted((n) => n === 0 ? set([a.endpoint], "first") : broken)
      const connection = yield* Connection.make(resolver)
      yield* TestClock.adjust("15 seconds")
      assert.equal(asked[1]!.at, 0)
      assert.ok(asked.slice(1).every(({ version }) => version === "first"))
      assert.ok(asked.length > 25, `${asked.length}`)
      assertWaits(waits().slice(1))
      // Its endpoints stay.
      assert.equal(yield* ask(connection), "a")
    }).pipe(onNetwork))

  it.effect("varies its waits at random", () =>
    Effect.gen(function*() {
      const firstWaits: Array<number> = []
      for (let i = 0; i < 200; i++) {
        const { asked, resolver } = scripted((n) => n === 0 ? set([], "0") : broken)
        const connection = yield* Connection.make(resolver)
        yield* TestClock.adjust("30 millis")
        firstWaits.push(asked[2]!.at - asked[1]!.at)
        yield* connection.close
      }
      for (const wait of firstWaits) assert.ok(wait >= 6 && wait <= 10, `${wait}`)
      // 200 of them outside a sixth of the range: once in 10^15 runs.
      assert.ok(firstWaits.some((wait) => wait < 6.7) && firstWaits.some((wait) => wait > 9.3))
    }))

  it.effect("and then succeeds brings its new endpoints, and starts its waits over", () =>
    Effect.gen(function*() {
      const [a, b] = [yield* startInMemory("a"), yield* startInMemory("b")]
      const { asked, resolver, waits } = scripted((n) =>
        n === 0 ? set([a.endpoint], "first") : n === 10 ? set([b.endpoint], "second") : broken
      )
      const connection = yield* Connection.make(resolver)
      assert.equal(yield* ask(connection), "a")
      yield* TestClock.adjust("1 second")
      assert.equal(yield* ask(connection), "b")
      assert.deepEqual([asked[10]!.version, asked[11]!.version], ["first", "second"])
      // Asked again at once after the change.
      assert.equal(asked[11]!.at, asked[10]!.at)
      assertWaits(waits().slice(1, 10))
      assertWaits(waits().slice(11))
    }).pipe(onNetwork))

  it.effect("is logged once, and not once for each time", () => {
    const log = makeLog()
    return Effect.gen(function*() {
      const { asked, resolver } = scripted((n) => n === 0 || n === 10 ? set([], `${n}`) : broken)
      yield* Connection.make(resolver)
      const warnings = () => log.lines.filter(({ level }) => level === "Warn")
      while (asked.length < 10) yield* TestClock.adjust(10)
      assert.equal(warnings().length, 1)
      assert.match(warnings()[0]!.message, /the resolver failed; its last endpoints stay in use/)
      assert.match(warnings()[0]!.cause, /no such luck/)
      // It has worked once in between.
      while (asked.length < 20) yield* TestClock.adjust(10)
      assert.equal(warnings().length, 2)
    }).pipe(Effect.provide(log.layer))
  })

  for (
    const [how, fail] of [
      ["dies", () => Effect.die(new Error("a bug"))],
      ["throws", () => {
        throw new Error("a bug")
      }],
      ["interrupts itself", () => Effect.interrupt]
    ] satisfies ReadonlyArray<readonly [string, () => Answer]>
  ) {
    it.effect(`because it ${how} is asked again anyway`, () =>
      Effect.gen(function*() {
        const [a, b] = [yield* startInMemory("a"), yield* startInMemory("b")]
        const { resolver, waits } = scripted((n) =>
          n === 0 ? set([a.endpoint], "first") : n < 6 ? fail() : set([b.endpoint], "second")
        )
        const connection = yield* Connection.make(resolver)
        assert.equal(yield* ask(connection), "a")
        yield* TestClock.adjust("1 second")
        assert.equal(yield* ask(connection), "b")
        assertWaits(waits().slice(1, 6))
      }).pipe(onNetwork))
  }
})

describe("a resolver that has nothing new", () => {
  it.effect("and answers the same version is asked again later, and its endpoints are not taken over", () =>
    Effect.gen(function*() {
      const [a, b] = [yield* startInMemory("a"), yield* startInMemory("b")]
      const { asked, resolver, waits } = scripted((n) => set([n === 0 ? a.endpoint : b.endpoint], "the same"))
      const connection = yield* Connection.make(resolver)
      yield* TestClock.adjust("15 seconds")
      assertWaits(waits().slice(1))
      assert.ok(asked.length > 25)
      assert.ok(asked.slice(1).every(({ version }) => version === "the same"))
      assert.equal(yield* ask(connection), "a")
    }).pipe(onNetwork))

  it.effect("and gives no version is asked again later, and its endpoints are taken over each time", () =>
    Effect.gen(function*() {
      const [a, b] = [yield* startInMemory("a"), yield* startInMemory("b")]
      const { asked, resolver, waits } = scripted((n) =>
        Effect.succeed({ endpoints: [n < 10 ? a.endpoint : b.endpoint] })
      )
      const connection = yield* Connection.make(resolver)
      assert.equal(yield* ask(connection), "a")
      yield* TestClock.adjust("15 seconds")
      assert.equal(yield* ask(connection), "b")
      assertWaits(waits().slice(1))
      assert.ok(asked.every(({ version }) => version === undefined))
      assert.equal(b.accepted, 1)
    }).pipe(onNetwork))

  it.effect("and waits for changes is asked once for each change", () =>
    Effect.gen(function*() {
      const { asked, resolver } = scripted((n) =>
        n === 0 ? set([], "0") : Effect.andThen(Effect.sleep("1 hour"), set([], `${n}`))
      )
      yield* Connection.make(resolver)
      yield* TestClock.adjust("5 hours")
      assert.deepEqual(asked.map(({ at }) => at / 3_600_000), [0, 0, 1, 2, 3, 4, 5])
      assert.deepEqual(asked.map(({ version }) => version), [undefined, "0", "1", "2", "3", "4", "5"])
    }))
})

describe("a resolver that always has something new", () => {
  for (
    const [when, delay] of [
      ["at once", Effect.void],
      ["after a microtask", Effect.promise(() => Promise.resolve())]
    ] as const
  ) {
    it.effect(`${when} is not asked in a tight loop`, () =>
      Effect.gen(function*() {
        const [a, b] = [yield* startInMemory("a"), yield* startInMemory("b")]
        const { asked, resolver, waits } = scripted((n) =>
          Effect.andThen(delay, set([n % 2 === 0 ? a.endpoint : b.endpoint], `${n}`))
        )
        const connection = yield* Connection.make(resolver)
        yield* settle
        const atOnce = asked.length
        assert.ok(atOnce < 70, `${atOnce} times at once`)
        for (let second = 0; second < 15; second++) {
          yield* TestClock.adjust("1 second")
          yield* settle
        }
        const later = waits().slice(atOnce - 1)
        assert.ok(later.length > 10 && later.every((wait) => wait >= 6))
        // As slow as any other that brings nothing worth an earlier question.
        if (when === "at once") assertWaits(later)
        // What it says is taken over nevertheless.
        assert.equal(yield* ask(connection), asked.length % 2 === 1 ? "a" : "b")
      }).pipe(onNetwork))
  }

  it.effect("in a burst of changes is followed to the last of them", () =>
    Effect.gen(function*() {
      const replicas = yield* Effect.forEach(["a", "b", "c"], startInMemory)
      const endpoints = yield* SubscriptionRef.make<ReadonlyArray<Endpoint.Endpoint>>([])
      const connection = yield* Connection.make(Resolver.fromSubscriptionRef(endpoints))
      for (let i = 0; i < 50; i++) {
        yield* SubscriptionRef.set(endpoints, [replicas[i % 3]!.endpoint])
        yield* Effect.yieldNow
      }
      yield* settle
      assert.equal(yield* ask(connection), "b")
    }).pipe(onNetwork))
})

describe("a resolver's watch", () => {
  it.effect("survives a resolve that throws before there is an Effect", () =>
    Effect.gen(function*() {
      const [a, b] = [yield* startInMemory("a"), yield* startInMemory("b")]
      let asked = 0
      const connection = yield* Connection.make({
        isConstant: false,
        resolve: () => {
          if (++asked === 1) return set([a.endpoint], "first")
          if (asked === 2) throw new Error("a bug")
          return set([b.endpoint], "second")
        }
      })
      assert.equal(yield* ask(connection), "a")
      yield* TestClock.adjust("10 millis")
      assert.equal(yield* ask(connection), "b")
    }).pipe(onNetwork))

  it.effect("ends with the Connection, in the middle of a resolve", () =>
    Effect.gen(function*() {
      for (const close of ["close", "scope"] as const) {
        let interrupted = 0
        const { asked, resolver } = scripted((n) =>
          n === 0 ? set([], "0") : Effect.onInterrupt(Effect.never, () => Effect.sync(() => interrupted++))
        )
        const scope = yield* Scope.make()
        const connection = yield* Scope.provide(Connection.make(resolver), scope)
        yield* settle
        assert.equal(asked.length, 2)
        yield* close === "close" ? connection.close : Scope.close(scope, Exit.void)
        assert.equal(interrupted, 1)
        yield* TestClock.adjust("1 minute")
        assert.equal(asked.length, 2)
        yield* Scope.close(scope, Exit.void)
      }
    }))

  it.effect("ends with the Connection, between two resolves", () =>
    Effect.gen(function*() {
      const { asked, resolver } = scripted((n) => n === 0 ? set([], "0") : broken)
      const connection = yield* Connection.make(resolver)
      yield* TestClock.adjust("100 millis")
      const before = asked.length
      yield* connection.close
      yield* TestClock.adjust("1 minute")
      assert.equal(asked.length, before)
    }))

  it.effect("does not end with the deadline of the call that made the Connection, and knows nothing of it", () =>
    Effect.gen(function*() {
      const [a, b] = [yield* startInMemory("a"), yield* startInMemory("b")]
      const seen: Array<readonly [boolean, boolean]> = []
      const { resolver } = scripted((n) =>
        Effect.gen(function*() {
          seen.push([
            Option.isSome(yield* Deadline.remaining),
            Option.isSome(yield* Effect.option(Effect.currentParentSpan))
          ])
          if (n > 0) yield* Effect.sleep("1 minute")
          return yield* set([n === 0 ? a.endpoint : b.endpoint], `${n}`)
        })
      )
      const scope = yield* Scope.make()
      const making = Connection.make(resolver).pipe(
        Scope.provide(scope),
        Deadline.within("10 millis"),
        Effect.withSpan("handler")
      )
      // In a fiber of its own, that ends.
      const connection = yield* Fiber.join(yield* Effect.forkChild(making))
      assert.equal(yield* ask(connection), "a")
      yield* TestClock.adjust("61 seconds")
      assert.equal(yield* ask(connection), "b")
      assert.deepEqual(seen.slice(0, 2), [[true, true], [false, false]])
      yield* Scope.close(scope, Exit.void)
    }).pipe(onNetwork))

  it.effect("survives a balancer that cannot take the endpoints over", () => {
    const log = makeLog()
    return Effect.gen(function*() {
      const [a, b] = [yield* startInMemory("a"), yield* startInMemory("b")]
      const { resolver } = scripted((n) =>
        n === 0
          ? set([a.endpoint], "0")
          : Effect.andThen(Effect.sleep("1 second"), set(n === 1 ? [] : [b.endpoint], `${n}`))
      )
      let current: Endpoint.Endpoint | undefined
      const balancer = Effect.succeed({
        update: (endpoints: ReadonlyArray<Endpoint.Endpoint>) => {
          if (endpoints.length === 0) throw new Error("what now?")
          current = endpoints[0]
        },
        pick: () => Effect.succeed(current!)
      })
      const connection = yield* Connection.make(resolver, { balancer })
      yield* TestClock.adjust("1 second")
      assert.equal(yield* ask(connection), "a")
      assert.deepEqual(log.lines.map(({ level }) => level), ["Error"])
      assert.match(log.lines[0]!.message, /the new endpoints could not be used/)
      // It waits a little before it asks again.
      yield* TestClock.adjust("1010 millis")
      assert.equal(yield* ask(connection), "b")
    }).pipe(onNetwork, Effect.provide(log.layer))
  })
})

describe("the refresh of a resolver", () => {
  it.effect("is asked for when a dial fails, and ends with the Connection", () =>
    Effect.gen(function*() {
      let running = 0
      const a = yield* startInMemory("a")
      yield* TestNetwork.fault("a", { dial: "refuse" })
      const refresh = Effect.acquireUseRelease(
        Effect.sync(() => running++),
        () => Effect.never,
        () => Effect.sync(() => running--)
      )
      const connection = yield* Connection.make({ ...Resolver.constant(a.endpoint), refresh })
      yield* Effect.flip(ask(connection))
      assert.equal(running, 1)
      yield* connection.close
      assert.equal(running, 0)
    }).pipe(onNetwork))
})

describe("a file resolver", () => {
  it.live("gives a Connection nothing until the file exists, and then its endpoints", () =>
    Effect.gen(function*() {
      const file = join(yield* temporaryDirectory, "ready")
      const a = yield* start("a", unix.listen)
      const connection = yield* Connection.make(yield* Resolver.file(file, a.endpoint))
      for (let i = 0; i < 3; i++) {
        assert.equal((yield* Effect.flip(ask(connection)))._tag, "Unreachable")
        yield* turn
      }
      const waiting = yield* Effect.forkChild(ask(connection, { waitForReady: true }), { startImmediately: true })
      writeFileSync(file, "")
      assert.equal(yield* Fiber.join(waiting), "a")
      assert.equal(yield* ask(connection), "a")
    }).pipe(Effect.provide(NodeFileSystem.layer)))
})
