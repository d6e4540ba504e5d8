import { describe, it } from "@effect/vitest"
import { Duration } from "effect"
import type { Server } from "effect-call"
import * as assert from "node:assert/strict"
import { serverSettings } from "../../../src/internal/server/options.ts"

describe("a server's options", () => {
  it("have the defaults that they say", () => {
    assert.deepEqual(serverSettings(undefined), {
      inlineHandlerMillis: 0.5,
      writeFlattenLimit: 16_384,
      maxMessageSize: 104_857_600,
      maxUnsentBytes: 1_048_576,
      unsentMillis: 30_000,
      messageTimeoutMillis: 60_000,
      keepAlive: { interval: 10_000, timeout: 10_000 },
      probesAlways: false,
      firstMessageMillis: 10_000,
      idleMillis: Infinity,
      maxConcurrentCalls: 10_000,
      maxQueuedCalls: 10_000,
      maxConcurrentCallsPerConnection: 5000,
      maxQueuedCallsPerConnection: 5000,
      maxStreams: 10_000,
      maxStreamsPerConnection: 1000,
      streamWindow: 1_048_576,
      streamBudget: 16_777_216,
      metrics: true,
      shutdownGraceMillis: 2000
    })
    assert.deepEqual(serverSettings({}), serverSettings(undefined))
  })

  it("are taken in any unit, each into the setting of its name", () => {
    const settings = serverSettings({
      inlineHandlerDuration: "50 micros",
      unsentTimeout: "1 minute",
      firstMessageTimeout: Duration.seconds(2),
      idleTimeout: "3 seconds",
      shutdownGrace: 4,
      metrics: false
    })
    assert.equal(settings.inlineHandlerMillis, 0.05)
    assert.equal(settings.unsentMillis, 60_000)
    assert.equal(settings.firstMessageMillis, 2000)
    assert.equal(settings.idleMillis, 3000)
    assert.equal(settings.shutdownGraceMillis, 4)
    assert.equal(settings.metrics, false)
  })

  it("may be without a limit, or without a place to wait", () => {
    const settings = serverSettings({
      maxConcurrentCalls: Infinity,
      maxQueuedCalls: 0,
      maxConcurrentCallsPerConnection: 1,
      maxQueuedCallsPerConnection: 0,
      unsentTimeout: Infinity,
      shutdownGrace: 0
    })
    assert.deepEqual([settings.maxConcurrentCalls, settings.maxConcurrentCallsPerConnection], [Infinity, 1])
    assert.deepEqual([settings.maxQueuedCalls, settings.maxQueuedCallsPerConnection], [0, 0])
    assert.deepEqual([settings.unsentMillis, settings.shutdownGraceMillis], [Infinity, 0])
  })

  it("probe clients in memory only where keepAlive is given", () => {
    const { keepAlive, probesAlways } = serverSettings({ keepAlive: { interval: "1 minute" } })
    assert.deepEqual([keepAlive, probesAlways], [{ interval: 60_000, timeout: 10_000 }, true])
    assert.equal(serverSettings({ keepAlive: false }).keepAlive, undefined)
  })

  const invalid: ReadonlyArray<readonly [Server.ServerOptions, RegExp]> = [
    [{ maxConcurrentCalls: 0 }, /^RangeError: option maxConcurrentCalls: expected .*, 1 or more, or Infinity, got 0$/],
    [{ maxConcurrentCallsPerConnection: 0 }, /option maxConcurrentCallsPerConnection: .*, 1 or more, .* got 0/],
    [{ maxStreams: -1 }, /option maxStreams: expected a whole number, 0 or more, or Infinity, got -1/],
    [{ maxStreamsPerConnection: 0.5 }, /option maxStreamsPerConnection: .*, 0 or more, .* got 0\.5/],
    [{ maxQueuedCalls: -1 }, /option maxQueuedCalls: expected a whole number, 0 or more, or Infinity, got -1/],
    [{ maxQueuedCallsPerConnection: 1.5 }, /option maxQueuedCallsPerConnection: .*, 0 or more, .* got 1\.5/],
    [{ unsentTimeout: 0 }, /option unsentTimeout: expected a duration of more than zero, got 0/],
    [{ firstMessageTimeout: 0 }, /option firstMessageTimeout: expected a duration of more than zero, got 0/],
    [{ idleTimeout: "0 millis" }, /option idleTimeout: expected a duration of more than zero, got 0 millis/],
    [{ inlineHandlerDuration: -1 }, /option inlineHandlerDuration: expected a duration of zero or more, got -1/],
    [{ shutdownGrace: "soon" as never }, /option shutdownGrace: expected a duration of zero or more, got soon/],
    [{ metrics: 1 as never }, /option metrics: expected true or false, got 1/],
    [{ maxMessageSize: 1023 }, /option maxMessageSize: expected .* from 1024 to 104857600, got 1023/]
  ]
  it("are refused with an error that names the one that makes no sense", () => {
    for (const [options, problem] of invalid) assert.throws(() => serverSettings(options), problem)
  })
})
