/** How the command logs. */
import { describe, it } from "@effect/vitest"
import { Console, Effect, Logger } from "effect"
import * as assert from "node:assert/strict"
import { logger } from "../../src/cli/output.ts"

describe("a log of the command", () => {
  it.effect("is one line, with no control characters of what a peer has said", () =>
    Effect.gen(function*() {
      const lines: Array<string> = []
      const console = { ...globalThis.console, error: (line: string) => lines.push(line) }
      yield* Effect.logWarning("\u001b[2J", "a\nb\u009b2J", new Error("\u001b]0;c\u0007\nd")).pipe(
        Effect.provide(Logger.layer([logger])),
        Effect.provideService(Console.Console, console)
      )
      assert.equal(lines.length, 1)
      // oxlint-disable-next-line no-control-regex -- they are what must not be there
      assert.doesNotMatch(lines[0]!, /[\u0000-\u001f\u007f-\u009f]/)
      assert.match(lines[0]!, /level=WARN.*a\\nb\\u\{9b\}2J/)
    }))
})
