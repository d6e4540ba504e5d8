/**
 * How a connection of a server comes to its end in good order: when its client is told, when answers are held, when the
 * connection is closed.
 *
 * Its session tells it what happens, looks at it when it has said so, and does what it decides. It must not know
 * messages, handlers or a socket, and it has no timer.
 */
import { checkTransition, type Transitions } from "../transitions.ts"
import type { Progress } from "../transport/progress.ts"

/**
 * ```
 *  ┌─────────┐      ┌─────────┐      ┌──────────┐      ┌───────┐      ┌──────┐      ┌──────┐
 *  │ Serving │ ───▶ │ Leaving │ ───▶ │ LastWord │ ───▶ │ Ended │ ───▶ │ Over │ ───▶ │ Done │
 *  └─────────┘      └─────────┘      └──────────┘      └───────┘      └──────┘      └──────┘
 *                     │     ▲ │                          ▲   ▲           ▲
 *                     ▼     │ └──────────────────────────┘   │           │ the connection is gone,
 *                   ┌─────────┐      ┌─────────┐             │           │ from every state
 *                   │ Holding │ ───▶ │ Closing │ ────────────┤
 *                   └─────────┘      └─────────┘             │
 *                        │                                   │
 *                        └───────────────────────────────────┘
 * ```
 * - `Serving`: it is not to end.
 * - `Leaving`: the client should send no more requests, and was told so if it understands. Those that come are served.
 * - `LastWord`: the client has said that no more requests follow. What it had sent before is served.
 * - `Holding`: the client cannot be told. Its requests are served and their answers held, so that callers who wait for
 *   those send no more. A client that says late that it understands goes back to `Leaving`.
 * - `Closing`: what the client has sent is answered, and what comes now is dropped.
 * - `Ended`: all answers were handed to the socket, and the end after them. What comes is dropped until the client
 *   closes its end.
 * - `Over`: the connection is gone. Handlers may still run.
 * - `Done`: no handler runs any more.
 */
export type DrainState = "Serving" | "Leaving" | "LastWord" | "Holding" | "Closing" | "Ended" | "Over" | "Done"

const allowed: Transitions<DrainState> = {
  Serving: ["Leaving", "Over"],
  Leaving: ["LastWord", "Holding", "Ended", "Over"],
  LastWord: ["Ended", "Over"],
  Holding: ["Leaving", "Closing", "Ended", "Over"],
  Closing: ["Ended", "Over"],
  Ended: ["Over"],
  Over: ["Done"],
  Done: []
}

/**
 * What a session has to do.
 *
 * - `Wait`: nothing, until {@link Drain.due}.
 * - `SayGoingAway`: tell the client, if it understands.
 * - `Hold`: hold the answers. `Release`: send those that were held.
 * - `End`: end the writing half.
 * - `EndAndStop`: the same, and interrupt the handlers.
 * - `Destroy`: close the connection at once, and interrupt the handlers.
 */
export type DrainDecision = "Wait" | "SayGoingAway" | "Hold" | "Release" | "End" | "EndAndStop" | "Destroy"

/** The connection, as its session shows it. */
export interface Drained {
  readonly callsInFlight: number
  /** Whether the client understands that the server goes away. */
  readonly understands: boolean
  /** Whether nothing is read from the client for now. */
  readonly isDeaf: boolean
  /** Whether a message has begun to arrive that is not whole yet. */
  readonly isPartial: boolean
  /** How many bytes wait for the client. */
  readonly pendingBytes: number
}

/** The times of a drain, in milliseconds. */
export interface DrainTimes {
  readonly idleMillis: number
  readonly messageTimeoutMillis: number
  readonly shutdownGraceMillis: number
}

/**
 * A client that does not understand must have sent no request for so long before its connection is ended, in
 * milliseconds.
 */
const quietPeriod = 100

/**
 * How long a client has at least to close its end after the server has ended its own, in milliseconds. A connection
 * that is closed with unread bytes is reset, and that destroys answers that are on their way.
 */
const lingering = 500

/** How long before the end of the grace answers begin to be held, in milliseconds; at most half of the grace. */
const longestHold = 1000

/** The end of one connection. */
export class Drain {
  private readonly times: DrainTimes
  /** What the client takes. Only this drain looks at it: it shows what was taken since the last look. */
  private readonly progress: Pick<Progress, "look" | "forget">
  private current: DrainState = "Serving"
  /** Why the connection is to end, if it is. A stop of the server is not undone by calls that come. */
  private reason: "Idle" | "Stop" | undefined = undefined
  /** The end of the grace. All times here are in milliseconds of the clock. */
  private graceUntil = Infinity
  private holdAt = Infinity
  private heldSince = 0
  /** When the last request came, or the last call ended. It is noted only where {@link isTimed}. */
  private quietSince = 0

  constructor(times: DrainTimes, progress: Pick<Progress, "look" | "forget">) {
    this.times = times
    this.progress = progress
  }

  get state(): DrainState {
    return this.current
  }

  /** Whether the client should start nothing more here. */
  get isGoingAway(): boolean {
    return this.current !== "Serving"
  }

  /** Whether it matters when requests come and calls end. */
  get isTimed(): boolean {
    return this.current !== "Serving" || this.times.idleMillis !== Infinity
  }

  /** The connection begins. */
  start(now: number): void {
    this.quietSince = now
  }

  /** A request has come. To be called where {@link isTimed}. */
  requested(now: number): void {
    this.quietSince = now
    this.progress.forget()
  }

  /** No call is in flight any more, on a connection that is not over. To be called where {@link isTimed}. */
  callsEnded(now: number): DrainDecision {
    if (this.current === "Serving") {
      this.quietSince = now
      return "Wait"
    }
    this.progress.forget()
    return this.endIfLast(now)
  }

  /** The server stops. It can be repeated. */
  stop(now: number): DrainDecision {
    if (this.reason === "Stop" || this.current === "Done") return "Wait"
    this.reason = "Stop"
    const { shutdownGraceMillis } = this.times
    if (shutdownGraceMillis === 0) return "Destroy"
    const decision = this.goAway(now, shutdownGraceMillis)
    this.holdAt = this.graceUntil - Math.min(shutdownGraceMillis / 2, longestHold)
    return decision
  }

  /** The client has said that it understands flags. Where its answers were held, they need not be any more. */
  understood(now: number): DrainDecision {
    if (this.current !== "Holding") return "Wait"
    this.transition("Leaving", now)
    return "Release"
  }

  /**
   * The client has said that no more requests follow. That means something only as an answer to a server that leaves.
   */
  lastWord(now: number): void {
    if (this.current === "Leaving") this.transition("LastWord", now)
  }

  /** Ends the connection where nothing more will be served on it. */
  endIfServed(now: number, callsInFlight: number): DrainDecision {
    return callsInFlight === 0 ? this.endIfLast(now) : "Wait"
  }

  /** More answers wait than there is room for: so much is not to be held. */
  full(now: number): void {
    if (this.current === "Holding") this.transition("Closing", now)
  }

  /** The client, from which nothing was read, is read again. It may have been busy all the while. */
  resumed(now: number): void {
    if (this.current === "Leaving") this.quietSince = now
  }

  /** The connection is gone. */
  over(now: number): void {
    this.transition("Over", now)
    // The grace of a connection that was idle was for the connection.
    if (this.reason !== "Stop") this.graceUntil = Infinity
  }

  /** The connection is gone, and no handler runs any more. */
  done(now: number): void {
    this.transition("Done", now)
    this.graceUntil = Infinity
  }

  /** Decides what is due. Do what it decides and call it again, until it says `Wait`. */
  look(now: number, connection: Drained): DrainDecision {
    if (now >= this.graceUntil) {
      const decision = this.graceIsOver(now, connection)
      if (decision !== "Wait") return decision
    }
    if (this.quietDue(connection) !== Infinity) {
      const { isDeaf, isPartial } = connection
      // In the middle of a message it is not quiet. While a client is not read from, its requests are unknown, and must
      // be served.
      if (isPartial || (this.isGoingAway && isDeaf)) this.quietSince = now
      if (now >= this.quietDue(connection)) return this.quiet(now, connection)
    }
    if (now < this.holdDue(connection)) return "Wait"
    if (this.current === "Leaving") {
      this.transition("Holding", now)
      return "Hold"
    }
    this.transition("Closing", now)
    return this.endIfServed(now, connection.callsInFlight)
  }

  /** When to look again, in milliseconds of the clock; Infinity where that is not needed. */
  due(connection: Drained): number {
    return Math.min(this.graceUntil, this.quietDue(connection), this.holdDue(connection))
  }

  private quietDue({ callsInFlight, understands }: Drained): number {
    if (callsInFlight > 0 || this.isOut) return Infinity
    if (this.current === "Serving") return this.quietSince + this.times.idleMillis
    // It says itself when no more follow.
    return understands ? Infinity : this.quietSince + quietPeriod
  }

  /** Answers are held only on behalf of a server that stops. */
  private holdDue({ isDeaf, understands }: Drained): number {
    if (understands) return Infinity
    // While a client does not take its answers there is no need to hold them, and its earlier requests must be served.
    if (this.current === "Leaving") return isDeaf ? Infinity : this.holdAt
    return this.current === "Holding" ? this.heldSince + quietPeriod : Infinity
  }

  /** Whether nothing is served on the connection any more. */
  private get isOut(): boolean {
    return this.current === "Ended" || this.current === "Over" || this.current === "Done"
  }

  private graceIsOver(now: number, connection: Drained): DrainDecision {
    if (this.reason === "Stop" && !this.isOut) {
      // Calls that are interrupted get no answer, by which their callers see that they were lost. Answers that are
      // there are sent, also where the client has not taken them yet.
      this.transition("Ended", now)
      return "EndAndStop"
    }
    if (this.reason !== "Stop" && (connection.callsInFlight > 0 || this.takesAnswers(connection))) {
      // It was idle, and then had calls after all, or still takes its answers. There is no hurry.
      this.graceUntil = now + this.times.messageTimeoutMillis
      return "Wait"
    }
    this.graceUntil = Infinity
    return "Destroy"
  }

  /** The connection was quiet for long enough. */
  private quiet(now: number, connection: Drained): DrainDecision {
    if (this.isGoingAway) {
      this.transition("Ended", now)
      return "End"
    }
    this.reason = "Idle"
    // From now on it is looked at what the client takes. All that it has to say takes no longer than any message.
    this.takesAnswers(connection)
    return this.goAway(now, this.times.messageTimeoutMillis)
  }

  private goAway(now: number, graceMillis: number): DrainDecision {
    this.graceUntil = now + graceMillis
    if (this.isGoingAway) return "Wait"
    this.transition("Leaving", now)
    this.quietSince = now
    return "SayGoingAway"
  }

  private endIfLast(now: number): DrainDecision {
    if (this.current !== "LastWord" && this.current !== "Closing") return "Wait"
    this.transition("Ended", now)
    return "End"
  }

  /** Whether answers wait for the client, and it has taken some, or was given more, since this was last asked. */
  private takesAnswers({ pendingBytes }: Drained): boolean {
    return this.progress.look() && pendingBytes > 0
  }

  private transition(state: DrainState, now: number): void {
    checkTransition("the drain of a connection", allowed, this.current, state)
    if (state !== "Over" && state !== "Done" && this.reason === undefined) {
      throw new Error("a connection drains without a reason")
    }
    this.current = state
    if (state === "Holding") this.heldSince = now
    // Also after a late end the client has its full time.
    if (state === "Ended") this.graceUntil = Math.max(this.graceUntil, now + lingering)
  }
}
