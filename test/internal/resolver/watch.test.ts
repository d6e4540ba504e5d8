/**
 * A watch: when it asks its resolver again, and what its audience is told.
 */
import { describe, it } from "@effect/vitest"
import { Cause, Effect } from "effect"
import { Resolver } from "effect-call"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { version } from "../../../src/internal/resolver/version.ts"
import { type Audience, watch } from "../../../src/internal/resolver/watch.ts"
import { makeLog } from "../../support/log.ts"

const versioned = (text: string): Resolver.Resolution => ({ endpoints: [], version: version(text) })

const broken = Effect.fail(new Resolver.ResolverError({ message: "broken" }))

/** Watches a resolver that gives these answers, and then none; the versions that it was asked for. */
const watching = Effect.fnUntraced(function*(
  answers: ReadonlyArray<Effect.Effect<Resolver.Resolution, Resolver.ResolverError>>,
  audience: Partial<Audience> = {}
) {
  const asked: Array<unknown> = []
  const told: Array<string> = []
  const resolver: Resolver.Resolver = {
    isConstant: false,
    refresh: undefined,
    resolve: (seen) =>
      Effect.suspend(() => {
        asked.push(seen === undefined ? undefined : seen.opaque)
        return answers[asked.length - 1] ?? Effect.never
      })
  }
  const log = makeLog()
  yield* watch(resolver, versioned("0"), {
    changed: () => told.push("changed"),
    unchanged: () => told.push("unchanged"),
    failed: (cause) => told.push(Cause.pretty(cause).includes("broken") ? "failed" : "died"),
    ...audience
  }).pipe(Effect.provide(log.layer), Effect.forkChild({ startImmediately: true }))
  return { asked, log, told }
})

describe("a watch", () => {
  it.effect("asks with its last version, and at once again after another one", () =>
    Effect.gen(function*() {
      const { asked, told } = yield* watching([Effect.succeed(versioned("1")), Effect.succeed(versioned("2"))])
      assert.deepEqual(asked, ["0", "1", "2"])
      assert.deepEqual(told, ["changed", "changed"])
    }))

  it.effect("waits at least 6 and at most 10 ms after the same version, and reports it as unchanged", () =>
    Effect.gen(function*() {
      const { asked, told } = yield* watching([Effect.succeed(versioned("0"))])
      assert.deepEqual([asked.length, told], [1, ["unchanged"]])
      yield* TestClock.adjust(5)
      assert.equal(asked.length, 1)
      yield* TestClock.adjust(5)
      assert.deepEqual(asked, ["0", "0"])
    }))

  it.effect("asks with the old version again where its audience could not take over an answer, and logs that once", () =>
    Effect.gen(function*() {
      let refusals = 2
      const { asked, log } = yield* watching(
        [Effect.succeed(versioned("1")), Effect.succeed(versioned("1")), Effect.succeed(versioned("1"))],
        {
          changed: () => {
            if (refusals-- > 0) throw new Error("not now")
          }
        }
      )
      yield* TestClock.adjust("1 second")
      assert.deepEqual(asked, ["0", "0", "0", "1"])
      assert.deepEqual(log.lines.map(({ message }) => message), ["the new endpoints could not be used"])
    }))

  it.effect("logs the first failure of several in a row, and reports each of them", () =>
    Effect.gen(function*() {
      const { asked, log, told } = yield* watching([broken, broken, Effect.succeed(versioned("1")), broken])
      yield* TestClock.adjust("1 second")
      assert.deepEqual(told, ["failed", "failed", "changed", "failed"])
      assert.deepEqual(asked, ["0", "0", "0", "1", "1"])
      assert.deepEqual(log.lines.map(({ level }) => level), ["Warn", "Warn"])
    }))
})
