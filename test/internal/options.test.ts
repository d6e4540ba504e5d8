import { assert, describe, it } from "@effect/vitest"
import { Duration } from "effect"
import * as Options from "../../src/internal/options.ts"

// What a user's code without types may give.
const any = <A>(value: unknown) => value as A

describe("an option", () => {
  it("has its default if it is not given", () => {
    assert.strictEqual(Options.wholeNumber("size", undefined, 3, 1), 3)
    assert.strictEqual(Options.count("calls", undefined, Infinity, 1), Infinity)
    assert.strictEqual(Options.flag("eager", undefined, true), true)
    assert.strictEqual(Options.positiveMillis("idle", undefined, "1 second"), 1000)
  })

  it("of whole numbers takes its least value, and refuses the next smaller one, fractions and Infinity", () => {
    assert.strictEqual(Options.wholeNumber("size", 1, 3, 1), 1)
    for (const bad of [0, 1.5, Infinity, Number.NaN, any<number>("2")]) {
      assert.throws(
        () => Options.wholeNumber("size", bad, 3, 1),
        /^option size: expected a whole number, 1 or more, got /
      )
    }
  })

  it("of counts takes Infinity, too", () => {
    assert.strictEqual(Options.count("calls", Infinity, 1, 0), Infinity)
    assert.throws(
      () => Options.count("calls", -1, 1, 0),
      "option calls: expected a whole number, 0 or more, or Infinity, got -1"
    )
  })

  it("of booleans takes no other value that counts as true", () => {
    assert.strictEqual(Options.flag("eager", false, true), false)
    assert.throws(() => Options.flag("eager", any(1), true), "option eager: expected true or false, got 1")
  })

  it("of durations refuses negative ones, NaN, and texts that are none", () => {
    assert.strictEqual(Duration.toMillis(Options.duration("wait", "20 millis", 0)), 20)
    for (const bad of [-1, Number.NaN, any<Duration.Input>("soon")]) {
      assert.throws(() => Options.duration("wait", bad, 0), /^option wait: expected a duration of zero or more, got /)
    }
  })

  it("of positive durations refuses zero, and takes Infinity", () => {
    assert.strictEqual(Options.positiveMillis("wait", Infinity, 1), Infinity)
    assert.throws(
      () => Options.positiveMillis("wait", 0, 1),
      "option wait: expected a duration of more than zero, got 0"
    )
  })

  it("with fields is an object, or false if that is allowed", () => {
    assert.doesNotThrow(() => Options.checkParts("keepAlive", false, true))
    assert.throws(() => Options.checkParts("keepAlive", any(true), true), /expected an object, or false, got true/)
    assert.throws(() => Options.checkParts("backoff", false, false), /expected an object, got false/)
  })
})

describe("the options of a connection", () => {
  it("have defaults that client and server share", () => {
    assert.deepStrictEqual(Options.connectionOptions(undefined), {
      writeFlattenLimit: 16_384,
      maxMessageSize: 104_857_600,
      maxUnsentBytes: 1_048_576,
      messageTimeoutMillis: 60_000,
      keepAlive: { interval: 10_000, timeout: 10_000 },
      probesAlways: false,
      streamWindow: 1_048_576,
      streamBudget: 16_777_216
    })
  })

  it("probe every connection if keepAlive is given, and none if it is false", () => {
    const given = Options.connectionOptions({ keepAlive: { timeout: "1 second" } })
    assert.deepStrictEqual([given.keepAlive, given.probesAlways], [{ interval: 10_000, timeout: 1000 }, true])
    assert.strictEqual(Options.connectionOptions({ keepAlive: false }).keepAlive, undefined)
  })

  it("name a size outside of its bounds", () => {
    assert.throws(
      () => Options.connectionOptions({ maxMessageSize: 1023 }),
      "option maxMessageSize: expected a whole number of bytes from 1024 to 104857600, got 1023"
    )
    assert.throws(
      () => Options.connectionOptions({ streamWindow: 4095 }),
      "option streamWindow: expected a whole number of bytes from 4096 to 2147483647, got 4095"
    )
    assert.throws(
      () => Options.connectionOptions({ streamBudget: 4095 }),
      "option streamBudget: expected a whole number of bytes from 4096 to 9007199254740991, got 4095"
    )
  })
})
