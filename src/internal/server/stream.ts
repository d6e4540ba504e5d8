/**
 * One stream that a server has taken, from its open to its end: its handler runs in a fiber and a Scope of its own,
 * gets the client's items and sends its own.
 *
 * It ends exactly once, when its handler has ended and its Scope is closed. It may be answered before that: where the
 * client has broken a rule, and at the end of a server's grace. It must not know the messages of a connection beyond
 * those with its id, nor what a method's items mean.
 */
import type * as Arr from "effect/Array"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Pull from "effect/Pull"
import * as Stream from "effect/Stream"
import { u32At } from "../protocol/bytes.ts"
import { MessageType } from "../protocol/frame.ts"
import * as Identities from "../protocol/identities.ts"
import { methodName } from "../protocol/methodName.ts"
import type { TraceContext } from "../protocol/request.ts"
import type { Flow } from "../session/flow.ts"
import { IncomingItems, type ItemsReceiver, type Violation } from "../session/incomingItems.ts"
import { type ItemTooLarge, OutgoingItems } from "../session/outgoingItems.ts"
import { firstCredit } from "../session/windows.ts"
import type { CountedStream } from "../telemetry/streams.ts"
import type { ServedConnection, StopReason } from "./model.ts"
import { answer, answerError, itemTooLarge, logFailure } from "./reply.ts"
import type { Route, StreamSides } from "./route.ts"
import { Serving } from "./serving.ts"

/** What the streams of one connection share. */
export interface StreamOwner {
  readonly flow: Flow
  readonly receiver: ItemsReceiver
  /** The stream has ended: its place is free. */
  onEnded(stream: ServerStream): void
}

/** A stream whose handler runs. */
export class ServerStream extends Serving implements CountedStream {
  readonly stream: StreamSides
  /** The client's items, and the handler's. */
  readonly received: IncomingItems
  readonly sent: OutgoingItems
  private readonly owner: StreamOwner
  private isPulled = false
  /** The kind of failure with which it was answered before its handler ended. */
  private failure: string | undefined = undefined

  /** `credit` is what it may send at first, in bytes. */
  constructor(
    id: number,
    route: Route,
    deadlineAt: number,
    startedAt: number,
    connection: ServedConnection,
    owner: StreamOwner,
    credit: number
  ) {
    super(id, route, deadlineAt, startedAt, connection)
    this.owner = owner
    this.received = new IncomingItems(id, owner.receiver, firstCredit)
    this.sent = new OutgoingItems(id, owner.flow, credit, connection.settings.maxMessageSize)
    this.stream = { items: Stream.fromPull(Effect.suspend(() => this.pull())), write: this.write }
  }

  get itemsSent(): number {
    return this.sent.items
  }

  get itemsReceived(): number {
    return this.received.items
  }

  get bytesSent(): number {
    return this.sent.bytes
  }

  get bytesReceived(): number {
    return this.received.bytes
  }

  /** Serves the stream. Its arguments are `bytes` from `start` to `end`, which is as a call's are. */
  receive(bytes: Uint8Array, start: number, end: number, owned: boolean, trace: TraceContext | undefined): void {
    const incoming = this.route.read(bytes, start, end, owned)
    this.connection.open(this)
    this.received.open()
    this.begin(incoming, trace)
  }

  /** Its items say that it has begun. */
  acknowledge(): void {}

  /** It takes no place of a call. */
  exempt(): void {}

  onMessage(type: number, bytes: Uint8Array, start: number, end: number, owned: boolean): void {
    if (this.stopped !== undefined) return
    if (type === MessageType.items) {
      const violation = this.received.push(bytes, start, end, owned)
      if (violation !== undefined) this.violated(violation)
    } else if (type === MessageType.credit) {
      const problem = this.sent.grant(u32At(bytes, start))
      if (problem !== undefined) this.refuse(Identities.flowControl(problem), "flow_control")
    } else if (type === MessageType.end) {
      const violation = this.received.end()
      if (violation === undefined) this.received.finish(ended)
      else this.violated(violation)
    } else if (type === MessageType.cancel) {
      this.stop("canceled")
    }
  }

  stop(why: StopReason): void {
    if (this.stopped !== undefined) return
    this.stopped = why
    this.close()
    this.interrupt()
  }

  /** The client has broken a rule or a limit: it is told, and the handler is interrupted. */
  violated({ _tag, problem }: Violation): void {
    switch (_tag) {
      case "FlowControl":
        return this.refuse(Identities.flowControl(problem), "flow_control")
      case "TooLarge":
        return this.refuse({ message: problem, identity: Identities.argumentsTooLargeIdentity }, "too_large")
      case "Overloaded":
        return this.refuse({ message: problem, identity: Identities.overloaded.identity }, "overloaded")
    }
  }

  /** Ends it where an item of the client's has got nothing for too long. */
  endIfStalled(now: number): void {
    if (!this.received.isStalled(now)) return
    this.violated({ _tag: "Overloaded", problem: "an item that got nothing for too long" })
  }

  /** The server ends the connection. Returns whether the client is to be told that this is why the stream ends. */
  leave(): boolean {
    if (this.answered || this.isCanceled) return false
    this.answered = true
    this.failure = "leaving"
    this.close()
    return true
  }

  protected end(exit: Exit.Exit<unknown, unknown>): void {
    this.close()
    if (this.answered) {
      if (Exit.isFailure(exit) && Cause.hasDies(exit.cause)) logFailure(this, "a handler died", exit.cause)
      this.count(this.failure)
    } else {
      const isLate = this.stopped === "deadline" || this.isPast(this.deadlineAt)
      this.count(answer(this, this.incoming, exit, isLate))
    }
    this.owner.onEnded(this)
    this.connection.close(this)
  }

  /** Answers with an error, and interrupts the handler. */
  private refuse(link: Identities.Link, failure: string): void {
    if (this.stopped !== undefined) return
    this.answered = true
    this.failure = failure
    // What has not left yet does not follow the answer.
    this.close()
    answerError(this.connection, this.id, [link])
    this.stop("refused")
  }

  /** Nothing more is sent or taken. Where the handler cannot be interrupted, it is not left waiting. */
  private close(): void {
    this.sent.close()
    this.received.close()
    this.received.finish(interrupted)
  }

  private pull(): Effect.Effect<Pull.Pull<Arr.NonEmptyReadonlyArray<Uint8Array>>> {
    if (this.isPulled) {
      return Effect.die(new Error(`the items of ${methodName(this.route.key)} were run a second time, expected once`))
    }
    this.isPulled = true
    // The cast: it fails only with what `finish` was given here, the end of a stream or an interruption.
    return Effect.succeed(this.received.pull as Pull.Pull<Arr.NonEmptyReadonlyArray<Uint8Array>>)
  }

  private readonly write: StreamSides["write"] = (items, lead) => {
    const written = this.sent.write(items, lead)
    // Nearly always it is done already.
    return written === Exit.void ? Exit.void : Effect.catch(written, (error) => this.unsendable(error))
  }

  private unsendable({ size }: ItemTooLarge): Effect.Effect<never> {
    return Effect.suspend(() => {
      this.refuse(itemTooLarge(this, size), "too_large")
      return interrupted
    })
  }
}

/** The end of the items, as a Stream has it. */
const ended = Exit.fail(Cause.Done())

const interrupted = Exit.interrupt()
