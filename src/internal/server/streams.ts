/**
 * What a connection has beyond calls in one message each, once its client has said that it knows streams: streams,
 * requests in parts, answers in parts.
 *
 * It takes the messages of these types, and refuses a client that breaks their rules. It must not know how a stream or
 * a call is served. A connection whose client does not know streams has none of this.
 */
import { u32At } from "../protocol/bytes.ts"
import { encodeErrorChain } from "../protocol/errorChain.ts"
import { MessageType } from "../protocol/frame.ts"
import * as Identities from "../protocol/identities.ts"
import { maxCredit } from "../protocol/items.ts"
import {
  openHeaderSize,
  readDeadlineMicros,
  readTraceContext,
  requestHeaderSize,
  type TraceContext
} from "../protocol/request.ts"
import { Flow } from "../session/flow.ts"
import type { ItemsReceiver } from "../session/incomingItems.ts"
import { type Messages, noLead } from "../session/messages.ts"
import { Unfinished } from "../session/unfinished.ts"
import { Windows } from "../session/windows.ts"
import type { Writer } from "../transport/writer.ts"
import { AnswersInParts, type AnswersOwner } from "./answersInParts.ts"
import { ServerCall } from "./call.ts"
import { refuseCredit, refuseLate, refuseOverloaded, refuseUnknown } from "./refusals.ts"
import { RequestsInParts, type RequestsOwner, type WholeRequest, type WholeServer } from "./requestsInParts.ts"
import type { Route } from "./route.ts"
import { ServerStream, type StreamOwner } from "./stream.ts"

/** The connection, as its session shows it. */
export interface StreamsSession extends RequestsOwner, AnswersOwner {
  /** Calls {@link Streams.expire} at that time, in milliseconds of the clock. */
  wake(at: number): void
}

/** The payload of the answer to a stream that ends with its server. */
const leaving = encodeErrorChain([Identities.leaving])

/** The streams and the messages in parts of one connection. */
export class Streams implements StreamOwner, WholeServer {
  readonly flow: Flow
  readonly receiver: ItemsReceiver
  readonly answers: AnswersInParts
  readonly requests: RequestsInParts
  private readonly unfinished: Unfinished
  private readonly messages: Messages
  private readonly session: StreamsSession
  private readonly open = new Set<ServerStream>()
  /** The one of them that takes no place, if there is one. */
  private exempt: ServerStream | undefined = undefined
  /** How many bytes of items and parts the client has said to have read. */
  landed = 0
  /** Whether {@link expire} is called when something unfinished may have got nothing for too long. */
  private isWatching = false

  constructor(session: StreamsSession, messages: Messages, writer: Writer) {
    const { maxMessageSize, messageTimeoutMillis, streamBudget, streamWindow } = session.settings
    this.session = session
    this.messages = messages
    this.flow = new Flow(messages, writer)
    this.unfinished = new Unfinished(maxMessageSize, messageTimeoutMillis, () => session.now())
    this.receiver = {
      windows: new Windows(streamWindow, streamBudget),
      unfinished: this.unfinished,
      maxItem: maxMessageSize,
      grant: (id, bytes) => this.flow.grant(id, bytes)
    }
    this.answers = new AnswersInParts(this.flow, session)
    this.requests = new RequestsInParts(session, this, this.unfinished)
    this.flow.start()
  }

  /** A message of a type that only clients send that know streams. */
  onFrame(id: number, type: number, bytes: Uint8Array, start: number, end: number, owned: boolean): void {
    const { session } = this
    if (type === MessageType.credit) return this.onCredit(id, type, bytes, start, end)
    // Whatever becomes of it.
    if (type === MessageType.items || type === MessageType.part) this.flow.read(end - start)
    if (id === 0) return session.refuse(`a message of type ${type} with id 0`)
    if (type === MessageType.open) return this.onOpen(id, bytes, start, end, owned)
    if (type === MessageType.part) this.requests.part(id, bytes, start, end)
    else session.get(id)?.onMessage(type, bytes, start, end, owned)
    if (!this.isWatching && !this.unfinished.isEmpty) this.watch()
  }

  onCredit(id: number, type: number, bytes: Uint8Array, start: number, end: number): void {
    const { session } = this
    const credit = u32At(bytes, start)
    if (credit === 0) return session.refuse(`credit of 0 bytes for ${id}, expected more`)
    if (id !== 0) return session.get(id)?.onMessage(type, bytes, start, end, false)
    const problem = this.flow.landed(credit)
    if (problem !== undefined) return session.refuse(problem)
    this.landed += credit
  }

  private onOpen(id: number, bytes: Uint8Array, start: number, end: number, owned: boolean): void {
    const { requests, session } = this
    if (requests.has(id)) return requests.finish(id, MessageType.open, bytes, start, end)
    if (end - start < openHeaderSize) {
      return session.refuse(`an open of ${end - start} bytes, expected at least ${openHeaderSize}`)
    }
    if (!session.takes(id)) return
    const route = session.routes.streams.get(bytes, start)
    if (route === undefined) return refuseUnknown(session, id)
    const micros = readDeadlineMicros(bytes, start)
    if (micros < 0) return refuseLate(session, id, route)
    const deadlineAt = micros === 0 ? Infinity : session.now() + micros / 1000
    this.serve(id, route, deadlineAt, session.readAt, bytes, start, end, owned, readTraceContext(bytes, start))
  }

  serveCall({ deadlineAt, id, micros, payload, route, startedAt, trace }: WholeRequest): void {
    const call = new ServerCall(id, route, deadlineAt, startedAt, this.session)
    call.receive(payload, requestHeaderSize, payload.length, true, trace, micros)
  }

  serveStream({ deadlineAt, id, payload, route, startedAt, trace }: WholeRequest): void {
    this.serve(id, route, deadlineAt, startedAt, payload, 0, payload.length, true, trace)
  }

  /** Serves a stream whose open is `bytes` from `start` to `end`, if there is a place for it. */
  private serve(
    id: number,
    route: Route,
    deadlineAt: number,
    startedAt: number,
    bytes: Uint8Array,
    start: number,
    end: number,
    owned: boolean,
    trace: TraceContext | undefined
  ): void {
    const { open, session } = this
    const credit = u32At(bytes, start + requestHeaderSize)
    if (credit > maxCredit) return refuseCredit(session, id, route, credit)
    const { exempt } = this
    const isExempt = route.isExempt && exempt === undefined
    const placed = exempt === undefined ? open.size : open.size - 1
    if (!isExempt && !session.settings.places.take(placed)) return refuseOverloaded(session, id, route)
    const stream = new ServerStream(id, route, deadlineAt, startedAt, session, this, credit)
    if (isExempt) this.exempt = stream
    open.add(stream)
    session.settings.stats?.streams.begin(route.key, stream)
    stream.receive(bytes, start + openHeaderSize, end, owned, trace)
  }

  onEnded(stream: ServerStream): void {
    if (!this.open.delete(stream)) return
    this.session.settings.stats?.streams.end(stream.route.key, stream)
    if (stream === this.exempt) this.exempt = undefined
    else this.session.settings.places.free()
  }

  /** How many streams are open. */
  get size(): number {
    return this.open.size
  }

  /** Tells the client of each stream that it ends since the server leaves. */
  leave(): void {
    for (const stream of [...this.open]) {
      if (stream.leave()) this.messages.response(stream.id, MessageType.responseError, noLead, leaving)
    }
  }

  /** Nothing was read from the client until now. */
  resumed(now: number): void {
    this.unfinished.resumed(now)
    if (this.isWatching) this.watch()
  }

  /** Ends what is unfinished and has got nothing for too long. Returns when to look again. */
  expire(now: number): number {
    const { due, stalled } = this.unfinished.expire(now)
    this.isWatching = due !== Infinity
    if (stalled.length === 0) return due
    this.requests.stalled(stalled)
    for (const stream of [...this.open]) stream.endIfStalled(now)
    return due
  }

  /** The connection is over. */
  close(): void {
    this.flow.close()
    this.answers.close()
  }

  private watch(): void {
    this.isWatching = true
    const { session } = this
    session.wake(session.now() + session.settings.messageTimeoutMillis)
  }
}
