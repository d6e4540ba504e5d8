/**
 * A link through the states of its picture, over a real session whose other end is written by hand.
 */
import { describe, it } from "@effect/vitest"
import { Context, Deferred, Duration, Effect } from "effect"
import { Endpoint } from "effect-call"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import type { Duplex } from "node:stream"
import { Call, type CallOwner } from "../../../src/internal/client/call.ts"
import { EndpointLog } from "../../../src/internal/client/endpointLog.ts"
import { Latency } from "../../../src/internal/client/latency.ts"
import { Link, type LinkOwner } from "../../../src/internal/client/link.ts"
import { RoomWaiters } from "../../../src/internal/client/waiters.ts"
import { LogQueue } from "../../../src/internal/log.ts"
import { Warnings } from "../../../src/internal/warnings.ts"
import { echo } from "../../support/networks.ts"
import { message, version, versionWith } from "../../support/raw.ts"
import { handWritten, sessionSettings, turn } from "./openSession.ts"

const caller: CallOwner = { onUnsent: () => {}, onRefused: () => {} }

/** The flag of a server that goes away. */
const goesAway = versionWith(2)

/** A link that dials with `dial`, and what its owner has heard. */
const linkThat = Effect.fnUntraced(function*(dial: Endpoint.Endpoint["dial"]) {
  const settings = yield* sessionSettings
  const heard: Array<string> = []
  const endpoint = { address: "test://a", dial }
  const owner: LinkOwner = {
    address: endpoint.address,
    endpoint,
    size: 1,
    lastFailure: undefined,
    failuresInARow: 0,
    latencies: new Latency(),
    log: new EndpointLog(endpoint.address, new LogQueue(Context.empty()), new Warnings(settings.clock)),
    room: new RoomWaiters({ isOpen: true, hasRoom: () => true }),
    onOpen: () => void heard.push("open"),
    onDialFailed: (why, wasCutShort) => void heard.push(`dial failed${wasCutShort ? ", cut short" : ""}: ${why}`),
    onLost: (why) => void heard.push(`lost: ${why}`),
    onGoingAway: () => void heard.push("going away"),
    onGone: () => void heard.push("gone"),
    onBusy: () => {},
    onAnswered: () => {},
    onCallFailed: () => void heard.push("call failed")
  }
  const link = new Link({
    ...settings,
    dialTimeout: Duration.seconds(5),
    metrics: undefined,
    scope: yield* Effect.scope
  }, owner)
  return { heard, link }
})

/** A link whose connection is open, with the server's end of it. */
const active = Effect.gen(function*() {
  const { duplex } = yield* handWritten
  const { heard, link } = yield* linkThat(Effect.succeed(duplex))
  link.dial()
  duplex.push(version)
  yield* turn
  assert.deepEqual([link.state, ...heard.splice(0)], ["Active", "open"])
  return { duplex, heard, link }
})

const send = (link: Link) =>
  link.calls!.send(new Call(echo, undefined, Infinity, undefined, undefined, () => {}, caller), new Uint8Array())

const answer = (duplex: Duplex) => {
  duplex.push(message(1, 2))
  return turn
}

describe("a link that dials", () => {
  it.effect("is Active with the version message of its server, and not before", () =>
    Effect.gen(function*() {
      const { duplex } = yield* handWritten
      const { heard, link } = yield* linkThat(Effect.succeed(duplex))
      assert.equal(link.state, "Idle")
      link.dial()
      yield* turn
      assert.deepEqual([link.state, link.calls, heard], ["Dialing", undefined, []])
      duplex.push(version)
      yield* turn
      assert.deepEqual([link.state, link.calls?.isOpen, heard], ["Active", true, ["open"]])
    }))

  it.effect("is Idle again where the dial fails, with the reason without the endpoint's name", () =>
    Effect.gen(function*() {
      const { heard, link } = yield* linkThat(
        Effect.fail(new Endpoint.DialError({ message: "cannot dial test://a: no" }))
      )
      link.dial()
      yield* turn
      assert.deepEqual([link.state, heard], ["Idle", ["dial failed: no"]])
    }))

  it.effect("is Idle again where its server closes the connection before its version message: it was cut short", () =>
    Effect.gen(function*() {
      const { duplex } = yield* handWritten
      const { heard, link } = yield* linkThat(Effect.succeed(duplex))
      link.dial()
      yield* turn
      duplex.push(null)
      yield* turn
      assert.equal(link.state, "Idle")
      assert.equal(heard.length, 1)
      assert.match(heard[0]!, /^dial failed, cut short: /)
    }))

  it.effect("is Idle again at the dial timeout, though the dial cannot be interrupted", () =>
    Effect.gen(function*() {
      const latch = yield* Deferred.make<Duplex>()
      const { heard, link } = yield* linkThat(Effect.uninterruptible(Deferred.await(latch)))
      link.dial()
      yield* TestClock.adjust(4999)
      assert.equal(link.state, "Dialing")
      yield* TestClock.adjust(1)
      assert.deepEqual([link.state, heard], ["Idle", ["dial failed: no connection and version message within 5s"]])
      // A connection that comes after that is closed, and the link stays Idle.
      const { duplex } = yield* handWritten
      yield* Deferred.succeed(latch, duplex)
      yield* turn
      assert.deepEqual([link.state, heard.length], ["Idle", 1])
    }))

  it.effect("is Gone where it is unlisted meanwhile, and interrupts the dial", () =>
    Effect.gen(function*() {
      const interrupted = yield* Deferred.make<void>()
      const { heard, link } = yield* linkThat(
        Effect.onInterrupt(Effect.never, () => Deferred.succeed(interrupted, undefined))
      )
      link.dial()
      yield* turn
      link.unlist()
      assert.deepEqual([link.state, heard], ["Gone", ["gone"]])
      yield* Deferred.await(interrupted)
    }))
})

describe("a link that is Active", () => {
  it.effect("is Gone at once where it is unlisted without calls, and closes its connection", () =>
    Effect.gen(function*() {
      const { duplex, heard, link } = yield* active
      link.unlist()
      assert.deepEqual([link.state, heard, duplex.destroyed], ["Gone", ["gone"], true])
    }))

  it.effect("drains where it is unlisted with calls, and is Gone with the last of them", () =>
    Effect.gen(function*() {
      const { duplex, heard, link } = yield* active
      send(link)
      yield* turn
      link.unlist()
      assert.deepEqual([link.state, link.calls, link.callsInFlight, heard], ["Draining", undefined, 1, []])
      yield* answer(duplex)
      assert.deepEqual([link.state, heard], ["Gone", ["gone"]])
    }))

  it.effect("is Active again where it is listed again while it drains", () =>
    Effect.gen(function*() {
      const { duplex, heard, link } = yield* active
      send(link)
      yield* turn
      link.unlist()
      assert.ok(link.list())
      yield* answer(duplex)
      assert.deepEqual([link.state, link.callsInFlight, heard], ["Active", 0, []])
    }))

  it.effect("drains where its server goes away, and is not used again where it is listed again", () =>
    Effect.gen(function*() {
      const { duplex, heard, link } = yield* active
      send(link)
      yield* turn
      duplex.push(goesAway)
      yield* turn
      assert.deepEqual([link.state, link.isGoingAway, heard], ["Draining", true, ["going away"]])
      assert.ok(!link.list())
      yield* answer(duplex)
      assert.deepEqual([link.state, heard], ["Gone", ["going away", "gone"]])
    }))

  it.effect("is Idle again where its connection is lost, and counts its calls as one failure", () =>
    Effect.gen(function*() {
      const { duplex, heard, link } = yield* active
      send(link)
      send(link)
      yield* turn
      duplex.destroy()
      yield* turn
      assert.equal(link.state, "Idle")
      assert.equal(heard.length, 2)
      assert.match(heard[0]!, /^lost: /)
      assert.equal(heard[1], "call failed")
    }))

  it.effect("does not dial a second connection", () =>
    Effect.gen(function*() {
      const { link } = yield* active
      assert.throws(() => link.dial(), /a link/)
      assert.equal(link.state, "Active")
    }))
})

describe("a link that is Gone", () => {
  it.effect("is not dialed again", () =>
    Effect.gen(function*() {
      const { link } = yield* active
      link.close()
      assert.equal(link.state, "Gone")
      assert.throws(() => link.dial(), /a link/)
    }))
})
