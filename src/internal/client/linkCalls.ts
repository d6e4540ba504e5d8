/**
 * The calls of one connection: sends them, measures how long their answers take, counts how they end, and says what an
 * end without a result means.
 *
 * It must not know which endpoint a call should have, or how a connection is made. The table of what waits for an
 * answer is its session's.
 *
 * This is the hot path, so it is plain synchronous code.
 */
import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Tracer from "effect/Tracer"
import { DeadlineExceeded } from "../../CallError.ts"
import type { MethodKey } from "../../MethodKey.ts"
import { MessageType } from "../protocol/frame.ts"
import { Tally } from "../telemetry/calls.ts"
import type { EndpointStats } from "../telemetry/metrics.ts"
import { annotate, errorType, peerAttributes, serverAttributes } from "../telemetry/span.ts"
import type { CountedStream } from "../telemetry/streams.ts"
import { millisBetween, nowMillis, nowTicks, secondsBetween, toTicks } from "../time/clock.ts"
import type { Call, CalledEndpoint, CallLink } from "./call.ts"
import type { EndpointLog } from "./endpointLog.ts"
import { faulty, readErrorAnswer } from "./errorAnswer.ts"
import type { End } from "./pending.ts"
import type { ClientSession } from "./session.ts"

const isPutIntoJson = (call: Call, differing: ReadonlySet<string>): boolean =>
  call.hasJson && differing.has(call.key.hex)

/** What happens to calls if contracts differ. */
const inJson = "calls of the method go in JSON on this connection"

/** Sends, measures and counts the calls of one connection. */
export class LinkCalls implements CallLink {
  readonly session: ClientSession
  private readonly endpoint: CalledEndpoint
  private readonly log: EndpointLog
  private readonly clock: Clock.Clock
  private readonly stats: EndpointStats | undefined
  private readonly tally: Tally | undefined
  /** When the calls of the tally have ended, in ticks. */
  private talliedAt = -1
  /**
   * When the call was sent that was measured last, and when its answer was read, in ticks: calls that were sent and
   * answered together took as long.
   */
  private measuredAt = -1
  private measuredReadAt = -1
  /** How many calls to the endpoint had failed in a row when the server of this connection said that it goes away. */
  private failuresBefore = 0
  /** The methods, by their keys in hex, of which the server has another contract: calls of them go in JSON. */
  private differing: Set<string> | undefined = undefined
  /** What spans say of the server. */
  private peer: ReadonlyArray<readonly [name: string, value: string | number]> | undefined = undefined

  constructor(
    session: ClientSession,
    endpoint: CalledEndpoint,
    log: EndpointLog,
    clock: Clock.Clock,
    stats: EndpointStats | undefined
  ) {
    this.session = session
    this.endpoint = endpoint
    this.log = log
    this.clock = clock
    this.stats = stats
    this.tally = stats === undefined ? undefined : new Tally(stats.calls, () => this.talliedAt)
  }

  get address(): string {
    return this.session.address
  }

  /** How many calls are in flight, without streams. */
  get callsInFlight(): number {
    return this.session.callsInFlight
  }

  /** How many streams are open. */
  get streams(): number {
    return this.session.streams
  }

  /** How many calls are in flight and how many streams are open, together. */
  get inFlight(): number {
    return this.session.callsInFlight + this.session.streams
  }

  /** Whether streams can be opened. */
  get understandsStreams(): boolean {
    return this.session.understandsStreams
  }

  /** Whether calls may be sent. */
  get isOpen(): boolean {
    return this.session.isOpen
  }

  /** Whether a call can be sent now. */
  hasRoom(): boolean {
    return this.session.hasRoom()
  }

  /** Whether a call must be put into JSON before it can be sent here. */
  needsJson(call: Call): boolean {
    // Nearly always there are no such methods: that much is inlined.
    return this.differing !== undefined && isPutIntoJson(call, this.differing)
  }

  /** Sends a call. It must be open, there must be room, and the call must not need JSON. */
  send(call: Call, args: Uint8Array): void {
    const { session } = this
    call.link = this
    // A call that comes from elsewhere may have been made after this clock was last read.
    call.sentAt = session.now(call.startedAt !== -1)
    if (call.startedAt === -1) call.startedAt = call.sentAt
    if (session.callsInFlight === 0) this.endpoint.onBusy()
    session.send(call, args)
    if (call.typed !== undefined && call.typed.span !== undefined) this.describePeer(call.typed.span)
  }

  /**
   * Opens a stream. The connection must be open and understand streams, and there must be room. Streams are left out of
   * what is measured: they last for as long as they are used.
   */
  open(call: Call, args: Uint8Array): void {
    const { session } = this
    call.link = this
    call.sentAt = session.now(call.startedAt !== -1)
    if (call.startedAt === -1) call.startedAt = call.sentAt
    session.openStream(call, args)
    if (call.span !== undefined) this.describePeer(call.span)
  }

  streamBegan(key: MethodKey, stream: CountedStream): void {
    this.stats?.streams.begin(key, stream)
  }

  streamEnded(key: MethodKey, stream: CountedStream): void {
    this.stats?.streams.end(key, stream)
  }

  opened(): void {
    if (this.endpoint.failuresInARow > 0) this.answersAgain()
  }

  endItems(call: Call): void {
    this.session.endItems(call)
  }

  abandon(call: Call, failure: Exit.Exit<never, unknown>): void {
    if (this.session.giveUp(call, true)) this.finish(call, failure)
  }

  cancel(call: Call): void {
    // A fiber that waits for the deadline may be earlier than the timer of the session.
    const isLate = this.isLate(call)
    // Read before the cancel is queued: with a flush due, the clock would give the time that it gave last.
    const now = this.session.now(false)
    // At the deadline the server ends the call by itself.
    if (!this.session.giveUp(call, !isLate)) return
    const errorType = isLate ? "DeadlineExceeded" : "canceled"
    annotate(call.span, "error.type", errorType)
    this.count(call, errorType, now)
    if (isLate) this.late(call)
  }

  answered(call: Call): void {
    if (this.endpoint.failuresInARow > 0) this.answersAgain()
    if (call.sentAt !== this.measuredAt || this.session.readAt !== this.measuredReadAt) this.measure(call)
  }

  private measure(call: Call): void {
    const { endpoint, session } = this
    this.measuredAt = call.sentAt
    this.measuredReadAt = session.readAt
    endpoint.latencies.observe(millisBetween(call.sentAt, session.readAt), session.readMillis)
  }

  countAnswer(call: Call): void {
    const { tally } = this
    if (tally === undefined) return
    call.counted = true
    if (this.session.readAt !== this.talliedAt) this.beginTally(tally)
    tally.add(call.key, call.startedAt, undefined)
  }

  /** Counts the calls that ended with the read before. */
  private beginTally(tally: Tally): void {
    tally.count()
    this.talliedAt = this.session.readAt
  }

  finish(call: Call, result: Effect.Effect<unknown, unknown>): void {
    // Nearly always. The rest is a method of its own, so that V8 inlines this one.
    if (this.stats === undefined || !Exit.isExit(result) || !Exit.isSuccess(result)) {
      return this.finishOther(call, result)
    }
    this.countAnswer(call)
    call.resume(result)
  }

  /** Ends a call that is not counted, has failed, or whose answer is still being decoded. */
  private finishOther(call: Call, result: Effect.Effect<unknown, unknown>): void {
    if (this.stats === undefined) return call.resume(result)
    if (Exit.isExit(result)) {
      this.countNow(call, Exit.isSuccess(result) ? undefined : errorType(result.cause))
      return call.resume(result)
    }
    // Its outcome is known when it has been decoded.
    call.resume(
      Effect.onExit(
        result,
        (exit) => Effect.sync(() => this.countNow(call, Exit.isSuccess(exit) ? undefined : errorType(exit.cause)))
      )
    )
  }

  refused(call: Call, chain: Uint8Array): void {
    // What a stream's server refuses may be an item of it: by then it has run.
    const answer = readErrorAnswer(chain, call.key, this.address, call.stream !== undefined && call.isAnswered)
    if (answer._tag === "TimeUp" && call.deadlineAt !== Infinity) {
      if (this.isTimeUp(call)) return this.end(call, { _tag: "TimeUp" })
      if (answer.isOwn) return this.failed(call, this.deadlineExceeded(call))
    } else if (answer._tag === "ContractDiffers" && call.hasJson && call.stream?.isOpened !== true) {
      return this.contractDiffers(call)
    }
    this.failed(call, answer.error)
  }

  end(call: Call, end: End): void {
    switch (end._tag) {
      case "TimeUp":
        this.late(call)
        return this.finish(call, Exit.fail(this.deadlineExceeded(call)))
      case "NeverLeft":
        return this.finish(call, Exit.fail(this.deadlineExceeded(call)))
      case "Violation":
        return this.failed(
          call,
          faulty(this.address, end.reason, `${call.method}: ${this.address} sent ${end.problem}`, true)
        )
      case "TooLarge": {
        const what = end.type === MessageType.response
          ? `the result of ${call.method} is ${end.length} bytes`
          : `the call of ${call.method} failed, with an error of ${end.length} bytes`
        const problem = `${what}, expected at most ${this.session.maxMessageSize}`
        return this.failed(call, faulty(this.address, "TooLarge", problem, true))
      }
      case "Lost":
        return this.finish(call, end.failure)
      case "Unsent":
        return call.owner.onUnsent(call, this.endpoint, end.args)
    }
  }

  /** The server of the connection goes away. */
  goingAway(): void {
    this.failuresBefore = this.endpoint.failuresInARow
  }

  /** The connection is over: what was noted of its calls is counted. */
  over(): void {
    const { tally } = this
    if (tally === undefined) return
    tally.count()
    // A draining connection is closed by the answer of its last call, which is noted after that. A tally that is not
    // counted would keep the connection in memory until the metrics are read.
    queueMicrotask(() => tally.count())
  }

  /** Ends a call with an answer that is an error. */
  private failed(call: Call, error: unknown): void {
    if (this.endpoint.failuresInARow > 0) this.answersAgain()
    this.measureAtLeast(call)
    this.finish(call, Exit.fail(error))
  }

  /** The server has another contract of the method, and has run nothing: the call is made again, in JSON. */
  private contractDiffers(call: Call): void {
    if (this.endpoint.failuresInARow > 0) this.answersAgain()
    this.measureAtLeast(call)
    const { method, key: { hex } } = call
    const differing = this.differing ??= new Set()
    if (!differing.has(hex)) {
      differing.add(hex)
      this.log.warn(`client and server have different contracts of ${method}`, inJson)
    }
    call.owner.onRefused(call)
  }

  /**
   * A call was answered, after others to this endpoint had failed. Where the server of this connection goes away, its
   * answers count only until a call has failed since: they say nothing of the server that takes its place.
   */
  private answersAgain(): void {
    const { endpoint } = this
    if (!this.session.isOpen && endpoint.failuresInARow !== this.failuresBefore) return
    this.failuresBefore = 0
    endpoint.onAnswered()
  }

  private deadlineExceeded(call: Call): DeadlineExceeded {
    return new DeadlineExceeded({
      message: `deadline exceeded: no answer from ${this.address} to ${call.method} in time`
    })
  }

  private countNow(call: Call, failure: string | undefined): void {
    this.count(call, failure, this.session.now(false))
  }

  /** Counts a call that has ended at a time in ticks. */
  private count(call: Call, failure: string | undefined, now: number): void {
    if (this.stats === undefined) return
    call.counted = true
    this.stats.calls.method(call.key).record(secondsBetween(call.startedAt, now), failure)
  }

  /** The time of a call is up, which was sent or was about to be. */
  private late(call: Call): void {
    // A stream whose server has sent something is not late: it lasts for longer than it may.
    if (call.stream?.isOpened === true) return
    this.measureAtLeast(call)
    this.endpoint.onCallFailed()
  }

  /** Measures an end that can only show that the endpoint is slow. A refusal, for example, may come at once. */
  private measureAtLeast({ sentAt, stream }: Call): void {
    if (stream !== undefined) return
    const { clock } = this
    this.endpoint.latencies.observeAtLeast(millisBetween(sentAt, nowTicks(clock)), nowMillis(clock))
  }

  /**
   * Whether the time of a call is up, or may be up by the server's clock.
   *
   * The server is told whole microseconds, so that its deadline may be one earlier than ours. And the clocks of two
   * machines run at different speeds: one that is being set right may be off by 0.05 %, so two are 0.1 % apart at most.
   */
  private isTimeUp({ deadlineAt, sentAt }: Call): boolean {
    const now = nowMillis(this.clock)
    return deadlineAt - now <= 0.001 * millisBetween(sentAt, toTicks(now)) + 0.01
  }

  private isLate({ deadlineAt }: Call): boolean {
    return deadlineAt !== Infinity && deadlineAt <= nowMillis(this.clock)
  }

  /** Tells a client span which server the call was sent to. */
  private describePeer(span: Tracer.Span): void {
    this.peer ??= Object.entries({ ...serverAttributes(this.address), ...peerAttributes(this.session.remote) })
    for (const [name, value] of this.peer) annotate(span, name, value)
  }
}
