/**
 * A real session of a client over a Duplex whose other end is written by hand.
 */
import { Clock, Effect } from "effect"
import { Duplex } from "node:stream"
import { Turn } from "../../../src/internal/ambient/turn.ts"
import { ClientSession, type SessionSettings } from "../../../src/internal/client/session.ts"
import { RoomWaiters } from "../../../src/internal/client/waiters.ts"
import { messagesOf, version } from "../../support/raw.ts"

export const turn = Effect.callback<void>((resume) => {
  setImmediate(() => resume(Effect.void))
})

export const sessionSettings: Effect.Effect<SessionSettings> = Effect.gen(function*() {
  return {
    clock: yield* Clock.Clock,
    context: yield* Effect.context<never>(),
    turn: new Turn(),
    writeFlattenLimit: 1024,
    maxMessageSize: 500,
    maxUnsentBytes: 1024,
    messageTimeoutMillis: 60_000,
    optimisticSpinMillis: 0,
    keepAlive: undefined,
    probesAlways: false,
    streamWindow: 1_048_576,
    streamBudget: 16_777_216
  }
})

/** A Duplex, and the messages that were written to it since the last look. */
export const handWritten = Effect.gen(function*() {
  const written: Array<Buffer> = []
  const duplex = new Duplex({
    read: () => {},
    write: (chunk, _encoding, done) => {
      written.push(chunk)
      done()
    }
  })
  yield* Effect.addFinalizer(() => Effect.sync(() => void duplex.destroy()))
  const sent = Effect.map(turn, () => messagesOf(Buffer.concat(written.splice(0))))
  return { duplex, sent }
})

/** A session that is ready, and what its owner has heard. */
export const openSession = Effect.gen(function*() {
  const life: Array<string> = []
  const { duplex, sent } = yield* handWritten
  const session = new ClientSession(
    "test://a",
    duplex,
    {
      onReady: () => life.push("ready"),
      onGoingAway: () => life.push("going away"),
      onIdle: () => life.push("idle"),
      onOver: (_why, calls) => life.push(`over with ${calls}`)
    },
    new RoomWaiters({ isOpen: true, hasRoom: () => true }),
    yield* sessionSettings,
    undefined
  )
  session.start()
  duplex.push(version)
  yield* turn
  yield* sent
  return { duplex, life, sent, session }
})
