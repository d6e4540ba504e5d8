/**
 * One call that a server has taken, from its request to its answer: it waits for its turn, its handler runs in a fiber
 * and a Scope of its own, and it is answered.
 *
 * It ends exactly once: when its reply is made and its Scope is closed, or where it is stopped or refused while it
 * waits. It must not know the messages of a connection, nor what else its session does.
 */
import * as Exit from "effect/Exit"
import { ownCopy } from "../memory/bytes.ts"
import { MessageType } from "../protocol/frame.ts"
import * as Identities from "../protocol/identities.ts"
import type { TraceContext } from "../protocol/request.ts"
import type { Startable } from "./admission.ts"
import type { StopReason } from "./model.ts"
import { acknowledge, answer, answerError, answerWith, endDiscarded } from "./reply.ts"
import type { Incoming } from "./route.ts"
import { replyOf, Serving } from "./serving.ts"

/** What is kept of a request that waits for its turn. */
interface Waiting {
  readonly args: Uint8Array
  readonly trace: TraceContext | undefined
  /** From when on it lets others pass, in milliseconds of the clock. */
  readonly pressedAt: number
}

/** A call whose handler runs, or waits to be run. */
export class ServerCall extends Serving implements Startable {
  readonly stream = undefined
  /** Its request, while it waits for its turn. */
  private waiting: Waiting | undefined = undefined
  /** Whether it no longer counts as one of the calls that run at once. */
  private released = false

  /**
   * Serves the call, at once or when it is its turn; or refuses it, where too many calls wait. Its arguments are
   * `bytes` from `start` to `end`, which may be overwritten when this has returned, unless they are `owned`. `micros`
   * is the time that its caller has given it, 0 for no limit.
   */
  receive(
    bytes: Uint8Array,
    start: number,
    end: number,
    owned: boolean,
    trace: TraceContext | undefined,
    micros: number
  ): void {
    const { connection } = this
    if (!connection.settings.admission.tryStart(connection)) this.wait(bytes, start, end, owned, trace, micros)
    else this.run(this.route.read(bytes, start, end, owned), trace)
  }

  /** Waits for its turn, or is refused. */
  private wait(
    bytes: Uint8Array,
    start: number,
    end: number,
    owned: boolean,
    trace: TraceContext | undefined,
    micros: number
  ): void {
    const { connection } = this
    // It is read when it is its turn: a call that is never started need not be.
    const args = owned ? bytes.subarray(start, end) : ownCopy(bytes, start, end)
    // Half of its time is gone then. Without a deadline there is no half.
    this.waiting = { args, trace, pressedAt: this.deadlineAt - micros / 2000 }
    if (connection.settings.admission.tryQueue(this)) return connection.open(this)
    this.waiting = undefined
    this.count("overloaded")
    answerError(connection, this.id, overloaded)
  }

  isPressed(): boolean {
    return this.waiting !== undefined && this.isPast(this.waiting.pressedAt)
  }

  start(): void {
    const { waiting } = this
    this.waiting = undefined
    // Where the event loop is busy, which is when calls wait, timers are late. No work is done for a caller that has
    // given up.
    if (waiting === undefined || this.isPast(this.deadlineAt)) return this.end(interrupted)
    const { args, trace } = waiting
    this.begin(this.route.read(args, 0, args.length, true), trace)
  }

  refuse(): void {
    this.waiting = undefined
    this.count("overloaded")
    answerError(this.connection, this.id, overloaded)
    this.connection.close(this)
  }

  acknowledge(): void {
    if (this.answered || this.stopped !== undefined) return
    this.answered = true
    // Its deadline was for the answer.
    this.deadlineAt = Infinity
    acknowledge(this, this.incoming)
  }

  exempt(): void {
    this.release()
  }

  /** Messages of a stream mean nothing for a call. */
  onMessage(type: number): void {
    if (type === MessageType.cancel) this.stop("canceled")
  }

  stop(why: StopReason): void {
    // An answered call need not end with its connection.
    if (this.stopped !== undefined || (why === "lost" && this.answered)) return
    this.stopped = why
    if (this.waiting === undefined) return this.interrupt()
    this.waiting = undefined
    this.connection.settings.admission.leave(this)
    this.finish(interrupted)
  }

  /** Runs a handler that was admitted. A handler that has its result at once is answered without a fiber. */
  private run(incoming: Incoming, trace: TraceContext | undefined): void {
    const { connection } = this
    if (trace !== undefined || this.route.spans === "all" || incoming.isDiscarded) {
      connection.open(this)
      return this.begin(incoming, trace)
    }
    const handler = this.invoke(incoming)
    if (isExit(handler)) {
      const now = replyNow(incoming, handler)
      if (now !== undefined) {
        this.release()
        return this.count(answerWith(this, incoming, now))
      }
      const replied = replyOf(incoming, handler)
      if (Exit.isExit(replied)) {
        this.release()
        return this.count(answer(this, incoming, replied, false))
      }
    }
    connection.open(this)
    this.fork(incoming, handler, undefined)
  }

  protected end(exit: Exit.Exit<unknown, unknown>): void {
    this.release()
    this.finish(exit)
  }

  /** Answers the call, if it is not yet, and leaves. */
  private finish(exit: Exit.Exit<unknown, unknown>): void {
    const isLate = this.stopped === "deadline" || this.isPast(this.deadlineAt)
    this.count(this.answered ? endDiscarded(this, exit) : answer(this, this.incoming, exit, isLate))
    this.connection.close(this)
  }

  /** It no longer counts as one of the calls that run at once. */
  private release(): void {
    if (this.released) return
    this.released = true
    this.connection.settings.admission.ended(this.connection)
  }
}

const replyNow = (incoming: Incoming, exit: Exit.Exit<unknown, unknown>): Uint8Array | undefined => {
  try {
    return Exit.isSuccess(exit) ? incoming.replyNow(exit.value) : undefined
  } catch {
    // What is wrong is found again, and told, where the reply is asked for in full.
    return undefined
  }
}

/** Whether a handler has given its result at once. It may give anything, a proxy too. */
const isExit = (given: unknown): given is Exit.Exit<unknown, unknown> => {
  try {
    return Exit.isExit(given)
  } catch {
    return false
  }
}

const overloaded = [Identities.overloaded]

const interrupted = Exit.interrupt()
