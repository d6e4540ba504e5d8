import { describe, it } from "@effect/vitest"
import { Cause, Duration, Effect, Exit } from "effect"
import { Connection, Endpoint, Resolver } from "effect-call"
import * as assert from "node:assert/strict"
import { clientSettings } from "../../../src/internal/client/options.ts"

describe("a client's options", () => {
  it("have the defaults that they say", () => {
    const { dialTimeout, ...settings } = clientSettings(undefined)
    assert.deepEqual(settings, {
      writeFlattenLimit: 16_384,
      maxMessageSize: 104_857_600,
      maxUnsentBytes: 1_048_576,
      messageTimeoutMillis: 60_000,
      keepAlive: { interval: 10_000, timeout: 10_000 },
      probesAlways: false,
      streamWindow: 1_048_576,
      streamBudget: 16_777_216,
      retryBudget: { ratio: 0.1, burst: 100 },
      outlierEjection: { failures: 5, duration: 5000, maxDuration: 30_000, ejectsShards: false },
      metrics: true,
      connectionsPerEndpoint: 1,
      eager: false,
      slowStartMillis: 0,
      health: undefined,
      optimisticSpinMillis: 0,
      backoff: { initial: 50, factor: 1.6, max: 5000, jitter: 0.2 }
    })
    assert.equal(Duration.toMillis(dialTimeout), 5000)
    assert.deepEqual(clientSettings({}), clientSettings(undefined))
    assert.deepEqual(clientSettings({ backoff: {} }), clientSettings(undefined))
  })

  it("are taken in any unit", () => {
    const settings = clientSettings({
      optimisticSpinDuration: "50 micros",
      dialTimeout: Duration.infinity,
      backoff: { initial: 0, max: "1 minute", factor: 1, jitter: 0 },
      writeFlattenLimit: 0,
      maxMessageSize: 1024,
      connectionsPerEndpoint: 64
    })
    assert.equal(settings.optimisticSpinMillis, 0.05)
    assert.ok(!Duration.isFinite(settings.dialTimeout))
    assert.deepEqual(settings.backoff, { initial: 0, max: 60_000, factor: 1, jitter: 0 })
    assert.deepEqual([settings.writeFlattenLimit, settings.maxMessageSize], [0, 1024])
    assert.equal(settings.connectionsPerEndpoint, 64)
  })

  const invalid: ReadonlyArray<readonly [Connection.ClientOptions, RegExp]> = [
    [
      { writeFlattenLimit: -1 },
      /^option writeFlattenLimit: expected a whole number of bytes from 0 to 104857600, got -1$/
    ],
    [{ writeFlattenLimit: 1.5 }, /writeFlattenLimit: .* got 1\.5/],
    [{ writeFlattenLimit: NaN }, /writeFlattenLimit: .* got NaN/],
    [{ maxMessageSize: 1023 }, /maxMessageSize: expected a whole number of bytes from 1024 to 104857600, got 1023/],
    [{ maxMessageSize: 104_857_601 }, /maxMessageSize: .* got 104857601/],
    [{ dialTimeout: -5 }, /dialTimeout: expected a duration of zero or more, got -5/],
    [{ dialTimeout: NaN }, /dialTimeout: .* got NaN/],
    [{ dialTimeout: "soon" as never }, /dialTimeout: .* got soon/],
    [{ optimisticSpinDuration: "-1 millis" }, /optimisticSpinDuration: .* got -1 millis/],
    [{ metrics: "off" as never }, /metrics: expected true or false, got off/],
    [{ slowStart: Infinity }, /slowStart: expected a duration that ends, got Infinity/],
    [{ connectionsPerEndpoint: 0 }, /connectionsPerEndpoint: expected a whole number, 1 or more, got 0/],
    [{ connectionsPerEndpoint: -1 }, /connectionsPerEndpoint: .* got -1/],
    [{ connectionsPerEndpoint: 1.5 }, /connectionsPerEndpoint: .* got 1\.5/],
    [{ connectionsPerEndpoint: NaN }, /connectionsPerEndpoint: .* got NaN/],
    [{ connectionsPerEndpoint: Infinity }, /connectionsPerEndpoint: .* got Infinity/],
    [{ connectionsPerEndpoint: "4" as never }, /connectionsPerEndpoint: .* got 4/],
    [{ maxUnsentBytes: 0 }, /maxUnsentBytes: expected a whole number of bytes from 1 to 9007199254740991, got 0/],
    [{ messageTimeout: 0 }, /messageTimeout: expected a duration of more than zero, got 0/],
    [{ keepAlive: { interval: 0 } }, /keepAlive\.interval: expected a duration of more than zero, got 0/],
    [{ keepAlive: { timeout: NaN } }, /keepAlive\.timeout: .* got NaN/],
    [{ keepAlive: { interval: -1 } }, /keepAlive\.interval: expected a duration of more than zero, got -1/],
    [{ keepAlive: true as never }, /keepAlive: expected an object, or false, got true/],
    [{ keepAlive: 5000 as never }, /keepAlive: expected an object, or false, got 5000/],
    [{ outlierEjection: null as never }, /outlierEjection: expected an object, or false, got null/],
    [{ retryBudget: 0.2 as never }, /retryBudget: expected an object, got 0\.2/],
    [{ retryBudget: false as never }, /retryBudget: expected an object, got false/],
    [{ backoff: "1 second" as never }, /backoff: expected an object, got 1 second/],
    [{ retryBudget: { ratio: -1 } }, /retryBudget\.ratio: expected a number of 0 or more, got -1/],
    [{ retryBudget: { burst: Infinity } }, /retryBudget\.burst: .* got Infinity/],
    [{ outlierEjection: { failures: 0 } }, /outlierEjection\.failures: expected a whole number, 1 or more, got 0/],
    [{ outlierEjection: { duration: 0 } }, /outlierEjection\.duration: .* got 0/],
    [{ outlierEjection: { maxDuration: -1 } }, /outlierEjection\.maxDuration: .* got -1/],
    [{ backoff: { initial: -1 } }, /backoff\.initial: .* got -1/],
    [{ backoff: { max: -1 } }, /backoff\.max: .* got -1/],
    [{ backoff: { factor: 0.9 } }, /backoff\.factor: expected a number of 1 or more, got 0\.9/],
    [{ backoff: { factor: NaN } }, /backoff\.factor: .* got NaN/],
    [{ backoff: { jitter: 1 } }, /backoff\.jitter: expected a number from 0 to less than 1, got 1/],
    [{ backoff: { jitter: -0.1 } }, /backoff\.jitter: .* got -0\.1/]
  ]
  for (const [options, expected] of invalid) {
    it.effect(`are a defect of make that names what is wrong: ${expected.source}`, () =>
      Effect.gen(function*() {
        const exit = yield* Effect.exit(Connection.make(Resolver.constant(Endpoint.tcp("127.0.0.1:1")), options))
        assert.ok(Exit.isFailure(exit) && Cause.hasDies(exit.cause))
        const defect = Cause.squash(exit.cause)
        assert.ok(defect instanceof RangeError)
        assert.match(defect.message, expected)
      }))
  }
})
