import { describe, it } from "@effect/vitest"
import { Cause, Console, Effect, Logger } from "effect"
import * as assert from "node:assert/strict"
import { logCause } from "../../src/internal/log.ts"
import { hostileErrors } from "../support/hostileErrors.ts"
import { makeLog } from "../support/log.ts"

const loggers = {
  "the default logger": Logger.consolePretty(),
  "the JSON logger": Logger.consoleJson,
  "the structured logger": Logger.consoleStructured,
  "the logger of lines": Logger.consoleLogFmt
}

/** A console that keeps what is written to it. */
const makeConsole = () => {
  const written: Array<unknown> = []
  const write = (...values: ReadonlyArray<unknown>) => void written.push(...values)
  const nothing = () => {}
  return {
    written,
    console: {
      ...console,
      log: write,
      info: write,
      warn: write,
      error: write,
      debug: write,
      group: nothing,
      groupEnd: nothing
    }
  }
}

describe("a line with a cause", () => {
  for (const [name, logger] of Object.entries(loggers)) {
    it.effect(`is written by ${name}, whatever the error`, () =>
      Effect.gen(function*() {
        for (const [what, make] of Object.entries(hostileErrors)) {
          const { console, written } = makeConsole()
          yield* logCause(Effect.logError, "it failed", Cause.die(make())).pipe(
            // Written after the cause.
            Effect.annotateLogs({ method: "do" }),
            Effect.provide(Logger.layer([logger])),
            Effect.provideService(Console.Console, console)
          )
          assert.match(JSON.stringify(written), /it failed.*method/, what)
        }
      }))
  }

  it.effect("has the error itself, where it can be read", () =>
    Effect.gen(function*() {
      const cause = Cause.fail(new Error("no"))
      const logged: Array<Cause.Cause<unknown>> = []
      const logger = Logger.make(({ cause }) => void logged.push(cause))
      yield* Effect.provide(logCause(Effect.logError, "it failed", cause), Logger.layer([logger]))
      assert.equal(logged.length, 1)
      assert.equal(logged[0], cause)
    }))

  it.effect("is written at its level, with its annotations", () => {
    const log = makeLog()
    return logCause(Effect.logWarning, "it failed", Cause.fail("no")).pipe(
      Effect.annotateLogs({ endpoint: "a" }),
      Effect.andThen(Effect.sync(() => {
        assert.deepEqual(log.lines.map(({ annotations, level, message }) => ({ annotations, level, message })), [
          { level: "Warn", message: "it failed", annotations: { endpoint: "a" } }
        ])
      })),
      Effect.provide(log.layer)
    )
  })

  it.effect("does not end who logs, where a logger throws", () => {
    const logger = Logger.make(() => {
      throw new Error("the disk is full")
    })
    return Effect.provide(logCause(Effect.logError, "it failed", Cause.fail("no")), Logger.layer([logger]))
  })
})
