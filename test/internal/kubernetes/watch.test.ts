import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Fiber, Random, Result, Stream } from "effect"
import { TestClock } from "effect/testing"
import type { Api, Event } from "../../../src/internal/kubernetes/api.ts"
import { Failure } from "../../../src/internal/kubernetes/failure.ts"
import type { Slice } from "../../../src/internal/kubernetes/slices.ts"
import { follow } from "../../../src/internal/kubernetes/watch.ts"

const slice = (name: string, resourceVersion: string): Slice => ({
  metadata: { name, resourceVersion },
  addressType: "IPv4"
})

const put = (name: string, version: string): Event => ({ _tag: "Put", slice: slice(name, version) })
const remove = (name: string, version: string): Event => ({ _tag: "Remove", slice: slice(name, version) })
const bookmark = (resourceVersion: string): Event => ({ _tag: "Bookmark", resourceVersion })
const failure = (kind: Failure["kind"], more: { readonly status?: number; readonly retryAfterMillis?: number } = {}) =>
  new Failure({ kind, message: `it is ${kind}`, ...more })

/** What a watch sends, at once and as one, before it ends or breaks off, or goes on. */
type Watched = {
  readonly events?: ReadonlyArray<Event | Failure>
  readonly after?: "end" | "go on" | Failure
}

/** An API that answers by a plan, and does what is last in it again and again. */
const scripted = Effect.fnUntraced(function*(plan: {
  readonly lists?: ReadonlyArray<ReadonlyArray<string> | Failure>
  readonly watches: ReadonlyArray<Watched | Failure>
}) {
  const seen: Array<string> = []
  const at: Array<number> = []
  const heard: Array<string> = []
  const lists = [...plan.lists ?? [["a"]]]
  const watches = [...plan.watches]
  const next = <A>(from: Array<A>): A => (from.length > 1 ? from.shift() : from[0])!
  let version = 0
  const note = (what: string) =>
    Effect.gen(function*() {
      seen.push(what)
      at.push(yield* Clock.currentTimeMillis)
    })
  const api: Api = {
    list: Effect.gen(function*() {
      yield* note("list")
      const listed = next(lists)
      if (listed instanceof Failure) return yield* listed
      version += 100
      return { slices: listed.map((name) => slice(name, String(version))), resourceVersion: String(version) }
    }),
    watch: Effect.fnUntraced(function*(from) {
      yield* note(`watch ${from}`)
      const watched = next(watches)
      if (watched instanceof Failure) return yield* watched
      const { events = [], after = "end" } = watched
      const results = events.map((event) => event instanceof Failure ? Result.fail(event) : Result.succeed(event))
      const rest = after === "end" ? Stream.empty : after === "go on" ? Stream.never : Stream.fail(after)
      return Stream.concat(Stream.fromArray(results), rest)
    })
  }
  yield* Effect.forkScoped(
    follow(api, {
      slices: (slices) => Effect.sync(() => void heard.push([...slices.keys()].join(" "))),
      failed: (failure) => Effect.sync(() => void heard.push(failure.message)),
      watching: Effect.sync(() => void heard.push("watching"))
    }).pipe(
      // As long as can be: nothing is taken off.
      Effect.provideService(Random.Random, { nextDoubleUnsafe: () => 0, nextIntUnsafe: () => 0 })
    ),
    { startImmediately: true }
  )
  return { seen, at, heard }
})

describe("following the slices", () => {
  it.effect("lists, and watches from the version of the list on", () =>
    Effect.gen(function*() {
      const { heard, seen } = yield* scripted({ lists: [["a", "b"]], watches: [{ after: "go on" }] })
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual(seen, ["list", "watch 100"])
      assert.deepStrictEqual(heard, ["a b", "watching"])
    }))

  it.effect("tells of what came together as of one change", () =>
    Effect.gen(function*() {
      const events = [put("b", "101"), put("a", "102"), remove("a", "103"), put("c", "104"), bookmark("110")]
      const { heard } = yield* scripted({ watches: [{ events, after: "go on" }] })
      assert.deepStrictEqual(heard, ["a", "watching", "b c"])
    }))

  it.effect("watches at once from the last version where a watch has ended after an event, and no other right after that", () =>
    Effect.gen(function*() {
      const { at, seen } = yield* scripted({
        watches: [
          { events: [put("b", "101")] },
          { events: [bookmark("120")] },
          { events: [bookmark("130")] },
          { after: "go on" }
        ]
      })
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual(seen, ["list", "watch 100", "watch 101", "watch 120", "watch 130"])
      assert.deepStrictEqual(at, [0, 0, 0, 500, 500])
    }))

  it.effect("says nothing of a connection that was cut, and keeps what came before", () =>
    Effect.gen(function*() {
      const { heard, seen } = yield* scripted({
        watches: [{ events: [put("b", "101")], after: failure("Cut") }, { after: "go on" }]
      })
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(seen, ["list", "watch 100", "watch 101"])
      assert.deepStrictEqual(heard, ["a", "watching", "a b", "watching"])
    }))

  it.effect("waits twice as long after each failure, up to half a minute", () =>
    Effect.gen(function*() {
      const { at, heard } = yield* scripted({ lists: [failure("Unreachable")], watches: [{}] })
      yield* TestClock.adjust("2 minutes")
      assert.deepStrictEqual(at, [0, 500, 1500, 3500, 7500, 15_500, 31_500, 61_500, 91_500])
      assert.deepStrictEqual(new Set(heard), new Set(["it is Unreachable"]))
    }))

  it.effect("waits twice as long each time, too, where a server closes each watch at once", () =>
    Effect.gen(function*() {
      const { at, seen } = yield* scripted({ watches: [{}] })
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(seen, ["list", ...Array.from({ length: 5 }, () => "watch 100")])
      assert.deepStrictEqual(at, [0, 0, 500, 1500, 3500, 7500])
    }))

  it.effect("begins with the short wait again after a watch that brought something", () =>
    Effect.gen(function*() {
      const { at } = yield* scripted({
        watches: [
          failure("Unreachable"),
          failure("Unreachable"),
          { events: [bookmark("101")] },
          failure("Unreachable"),
          { after: "go on" }
        ]
      })
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(at, [0, 0, 500, 1500, 1500, 2000])
    }))

  it.effect("watches at once after each watch that was there for a second, ended or cut, and waits after one that was not", () =>
    Effect.gen(function*() {
      const lives = ["1 second", "20 seconds", 999, "10 minutes", 0, 0] as const
      const at: Array<number> = []
      const api: Api = {
        list: Effect.succeed({ slices: [], resourceVersion: "1" }),
        watch: () =>
          Effect.gen(function*() {
            at.push(yield* Clock.currentTimeMillis)
            const life = lives[at.length - 1]
            if (life === undefined) return Stream.never
            const rest = at.length % 2 === 0 ? Stream.fail(failure("Cut")) : Stream.empty
            return Stream.concat(Stream.drain(Stream.fromEffect(Effect.sleep(life))), rest)
          })
      }
      const heard: Array<string> = []
      const listener = {
        slices: () => Effect.void,
        failed: ({ message }: Failure) => Effect.sync(() => void heard.push(message)),
        watching: Effect.void
      }
      yield* Effect.forkScoped(
        Effect.provideService(follow(api, listener), Random.Random, {
          nextDoubleUnsafe: () => 0,
          nextIntUnsafe: () => 0
        }),
        { startImmediately: true }
      )
      yield* TestClock.adjust("1 hour")
      const first = 1000 + 20_000
      const second = first + 999 + 500 + 600_000
      assert.deepStrictEqual(at, [0, 1000, first, first + 999 + 500, second, second + 500, second + 1500])
      assert.deepStrictEqual(heard, [])
    }))

  it.effect("begins with the short wait again after a watch that was there for a second", () =>
    Effect.gen(function*() {
      const later = Stream.fromEffect(Effect.sleep("1 second")).pipe(Stream.drain)
      let watches = 0
      const at: Array<number> = []
      const api: Api = {
        list: Effect.succeed({ slices: [], resourceVersion: "1" }),
        watch: () =>
          Effect.gen(function*() {
            at.push(yield* Clock.currentTimeMillis)
            if (watches++ !== 3) return yield* failure("Unreachable")
            return later
          })
      }
      const listener = { slices: () => Effect.void, failed: () => Effect.void, watching: Effect.void }
      const fiber = yield* Effect.forkChild(
        Effect.provideService(follow(api, listener), Random.Random, {
          nextDoubleUnsafe: () => 0,
          nextIntUnsafe: () => 0
        }),
        { startImmediately: true }
      )
      yield* TestClock.adjust("6 seconds")
      assert.deepStrictEqual(at, [0, 500, 1500, 3500, 4500, 5000, 6000])
      yield* Fiber.interrupt(fiber)
    }))

  it.effect("takes up to half of a wait off at random", () =>
    Effect.gen(function*() {
      const at: Array<number> = []
      const api: Api = {
        list: Effect.andThen(
          Effect.map(Clock.currentTimeMillis, (now) => void at.push(now)),
          Effect.fail(failure("Unreachable"))
        ),
        watch: () => Effect.succeed(Stream.empty)
      }
      const listener = { slices: () => Effect.void, failed: () => Effect.void, watching: Effect.void }
      const fiber = yield* Effect.forkChild(follow(api, listener).pipe(Random.withSeed("waits")))
      yield* TestClock.adjust("10 minutes")
      yield* Fiber.interrupt(fiber)
      const waits = at.slice(1).map((now, i) => now - at[i]!)
      const capped = waits.slice(7)
      assert.isAbove(capped.length, 20)
      assert.isTrue(capped.every((wait) => wait > 15_000 && wait <= 30_000))
      assert.isAbove(new Set(capped).size, 15)
    }))

  it.effect("lists again, at once, where the version is too old to watch from", () =>
    Effect.gen(function*() {
      const { at, heard, seen } = yield* scripted({
        lists: [["a"], ["b"]],
        watches: [failure("Expired", { status: 410 }), { after: "go on" }]
      })
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(seen, ["list", "watch 100", "list", "watch 200"])
      assert.deepStrictEqual(at, [0, 0, 0, 0])
      assert.deepStrictEqual(heard, ["a", "b", "watching"])
    }))

  it.effect("lists again, at once, where a watch says that its version has become too old", () =>
    Effect.gen(function*() {
      const { heard, seen } = yield* scripted({
        lists: [["a"], ["b"]],
        watches: [{ events: [put("c", "101"), failure("Expired", { status: 410 })] }, { after: "go on" }]
      })
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(seen, ["list", "watch 100", "list", "watch 200"])
      assert.deepStrictEqual(heard, ["a", "watching", "a c", "b", "watching"])
    }))

  it.effect("lists again, at once, each time that a watch that brought something says so", () =>
    Effect.gen(function*() {
      const tooOld = failure("Expired", { status: 410 })
      const { at, heard } = yield* scripted({
        watches: [
          { events: [put("b", "101"), tooOld] },
          { events: [put("b", "201"), tooOld] },
          { events: [put("b", "301"), tooOld] },
          { after: "go on" }
        ]
      })
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(at, new Array(8).fill(0))
      assert.notInclude(heard, "it is Expired")
    }))

  it.effect("does not list without end where each version is too old", () =>
    Effect.gen(function*() {
      const { heard, seen } = yield* scripted({ watches: [failure("Expired", { status: 410 })] })
      yield* TestClock.adjust("10 seconds")
      assert.isBelow(seen.length, 16)
      assert.include(heard, "it is Expired")
    }))

  it.effect("lists again where a watch was refused, or has sent what it cannot read, and says so", () =>
    Effect.gen(function*() {
      for (const problem of [failure("Refused", { status: 500 }), failure("Garbled")]) {
        const { heard, seen } = yield* scripted({
          watches: [{ events: [put("b", "101"), problem, put("c", "102")] }, { after: "go on" }]
        })
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(seen, ["list", "watch 100", "list", "watch 200"])
        assert.deepStrictEqual(heard, ["a", "watching", "a b", problem.message, "a", "watching"])
      }
    }))

  it.effect("waits for as long as a server that is busy says, and does not list for it", () =>
    Effect.gen(function*() {
      const { at, seen } = yield* scripted({
        watches: [failure("Refused", { status: 429, retryAfterMillis: 4000 }), { after: "go on" }]
      })
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(seen, ["list", "watch 100", "watch 100"])
      assert.deepStrictEqual(at, [0, 0, 4000])
    }))

  it.effect("does not wait for longer than half a minute, even if a server asks for it", () =>
    Effect.gen(function*() {
      const { at } = yield* scripted({
        watches: [failure("Refused", { status: 429, retryAfterMillis: 86_400_000 }), { after: "go on" }]
      })
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(at, [0, 0, 30_000])
    }))

  it.effect("goes on after events that it does not know", () =>
    Effect.gen(function*() {
      const { heard, seen } = yield* scripted({
        watches: [{ events: [{ _tag: "Unknown", type: "NOVEL" }, put("b", "101")], after: "go on" }]
      })
      assert.deepStrictEqual(seen, ["list", "watch 100"])
      assert.deepStrictEqual(heard, ["a", "watching", "a b"])
    }))
})
