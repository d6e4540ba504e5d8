/**
 * What the parts of a server say to each other: what a session's table holds, and what an exchange may ask of its
 * connection. Types only.
 */
import type * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type { KeepAliveTimes } from "../session/keepAlive.ts"
import type { Tally } from "../telemetry/calls.ts"
import type { ServerStats } from "../telemetry/metrics.ts"
import type { Warnings } from "../warnings.ts"
import type { Admission, AdmittedConnection } from "./admission.ts"
import type { StreamPlaces } from "./places.ts"
import type { Spans } from "./spans.ts"

/** What the sessions of one server share. */
export interface SessionSettings {
  readonly clock: Clock.Clock
  /** What handlers need, without anything that belongs to a single call. */
  readonly context: Context.Context<never>
  readonly admission: Admission
  /** How many streams the server has. */
  readonly places: StreamPlaces
  readonly warnings: Warnings
  readonly writeFlattenLimit: number
  readonly maxMessageSize: number
  readonly maxUnsentBytes: number
  readonly unsentMillis: number
  readonly messageTimeoutMillis: number
  readonly keepAlive: KeepAliveTimes | undefined
  /** Whether clients are probed also on connections whose peer cannot vanish without a word. */
  readonly probesAlways: boolean
  readonly firstMessageMillis: number
  readonly idleMillis: number
  readonly shutdownGraceMillis: number
  readonly maxStreamsPerConnection: number
  readonly streamWindow: number
  readonly streamBudget: number
  /** Undefined where nothing is counted. */
  readonly stats: ServerStats | undefined
}

/**
 * Why an exchange is to end before its handler has:
 *
 * - `canceled`: the client has given it up.
 * - `deadline`: its time is up.
 * - `lost`: its connection is gone, so that no answer can be delivered. A call that is answered already goes on.
 * - `shutdown`: the server stops, or closes the connection. Whatever still runs is to end.
 * - `refused`: the client has broken a rule of streams, or a handler sends what cannot be sent. It is answered already.
 */
export type StopReason = "canceled" | "deadline" | "lost" | "shutdown" | "refused"

/** Something that a client has begun with a request and that is not over. A session's table holds these. */
export interface Exchange {
  /** The request's id. */
  readonly id: number
  /** When its time is up, in milliseconds of the clock; Infinity for never. */
  readonly deadlineAt: number
  /** Whether the client has given it up: it need not be answered any more. */
  readonly isCanceled: boolean
  /**
   * A further message with its id has come. Its payload is `bytes` from `start` to `end`, which may be overwritten
   * after this call, unless they are `owned`.
   */
  onMessage(type: number, bytes: Uint8Array, start: number, end: number, owned: boolean): void
  /** Ends it. It may end, and leave the table, at once or later. */
  stop(why: StopReason): void
}

/** The connection of an exchange, as the exchange uses it. */
export interface ServedConnection extends AdmittedConnection {
  readonly settings: SessionSettings
  /** Counts calls that have ended, when their answers are handed to the socket. Undefined where nothing is counted. */
  readonly tally: Tally | undefined
  readonly spans: Spans
  /** Whether the connection is gone: nothing can be sent any more. */
  readonly isOver: boolean
  /** Puts an exchange into the table; or stops it at once where the connection is gone. */
  open(exchange: Exchange): void
  /** Takes an exchange that was answered out of the table. */
  close(exchange: Exchange): void
  /** Queues a message. `lead` goes before the payload. */
  send(id: number, type: number, lead: Uint8Array, payload: Uint8Array): void
  /** Logs a line when the change of state that is under way is over. */
  log(line: Effect.Effect<void>): void
}
