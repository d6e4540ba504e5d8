/**
 * The calls of one connection, over a Duplex by hand: what is counted of them when the connection ends.
 */
import { describe, it } from "@effect/vitest"
import { Clock, Context, Effect } from "effect"
import * as assert from "node:assert/strict"
import { Duplex } from "node:stream"
import { Turn } from "../../../src/internal/ambient/turn.ts"
import { Call, type CalledEndpoint, type CallOwner } from "../../../src/internal/client/call.ts"
import { EndpointLog } from "../../../src/internal/client/endpointLog.ts"
import { Latency } from "../../../src/internal/client/latency.ts"
import { LinkCalls } from "../../../src/internal/client/linkCalls.ts"
import { ClientSession } from "../../../src/internal/client/session.ts"
import { RoomWaiters } from "../../../src/internal/client/waiters.ts"
import { LogQueue } from "../../../src/internal/log.ts"
import { EndpointStats } from "../../../src/internal/telemetry/metrics.ts"
import { Warnings } from "../../../src/internal/warnings.ts"
import { echo } from "../../support/networks.ts"
import { message, version } from "../../support/raw.ts"
import { makeRegistry } from "../telemetry/support.ts"

const turn = Effect.callback<void>((resume) => {
  setImmediate(() => resume(Effect.void))
})

const owner: CallOwner = { onUnsent: () => {}, onRefused: () => {} }

/** A connection that is closed by the answer of its last call, as a draining one is. */
const draining = Effect.gen(function*() {
  const clock = yield* Clock.Clock
  const metrics = makeRegistry()
  const stats = new EndpointStats(metrics.context, "test", {})
  const duplex = new Duplex({ read: () => {}, write: (_chunk, _encoding, done) => done() })
  yield* Effect.addFinalizer(() => Effect.sync(() => void duplex.destroy()))
  const endpoint: CalledEndpoint = {
    address: "test://a",
    size: 1,
    lastFailure: undefined,
    latencies: new Latency(),
    failuresInARow: 0,
    onBusy: () => {},
    onAnswered: () => {},
    onCallFailed: () => {}
  }
  const session: ClientSession = new ClientSession(
    endpoint.address,
    duplex,
    { onReady: () => {}, onGoingAway: () => {}, onIdle: () => session.close(), onOver: () => calls.over() },
    new RoomWaiters({ isOpen: true, hasRoom: () => true }),
    {
      clock,
      context: Context.empty(),
      turn: new Turn(),
      writeFlattenLimit: 1024,
      maxMessageSize: 1024,
      maxUnsentBytes: 1024,
      messageTimeoutMillis: 60_000,
      optimisticSpinMillis: 0,
      keepAlive: undefined,
      probesAlways: false,
      streamWindow: 1_048_576,
      streamBudget: 16_777_216
    },
    stats
  )
  const log = new EndpointLog(endpoint.address, new LogQueue(Context.empty()), new Warnings(clock))
  const calls = new LinkCalls(session, endpoint, log, clock, stats)
  session.start()
  duplex.push(version)
  yield* turn
  return { calls, duplex, metrics, stats }
})

describe("the answer that closes a draining connection", () => {
  it.live("is counted without a look at the metrics, and so does not keep the connection in memory", () =>
    Effect.gen(function*() {
      const { calls, duplex, metrics, stats } = yield* draining
      let answered = false
      const call = new Call(echo, undefined, Infinity, undefined, undefined, () => void (answered = true), owner)
      calls.send(call, new Uint8Array())
      yield* turn
      duplex.push(message(call.id, 2, new Uint8Array()))
      yield* turn
      assert.ok(answered)
      // These are what the metrics hold of a connection. Nobody else can see it.
      assert.equal((Reflect.get(stats.calls, "tallies") as Set<unknown>).size, 0)
      assert.equal(metrics.histograms("rpc.client.call.duration")[0]!.state.count, 1)
    }).pipe(Effect.scoped))
})
