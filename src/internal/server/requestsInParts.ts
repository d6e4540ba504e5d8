/**
 * The requests and opens of one connection that come in parts: each has its id, and its deadline, from its first part
 * on. When it is whole it is served as if it had come whole, or refused.
 *
 * It must not know how something is served. Nothing is answered before it is whole: the client may still be sending.
 */
import { MessageType } from "../protocol/frame.ts"
import {
  openHeaderSize,
  readDeadlineMicros,
  readTraceContext,
  requestHeaderSize,
  type TraceContext
} from "../protocol/request.ts"
import { type IncomingMessage, IncomingMessages } from "../session/incomingMessages.ts"
import type { Assembly, Unfinished } from "../session/unfinished.ts"
import type { Exchange, ServedConnection, StopReason } from "./model.ts"
import { refuseLate, refuseOverloaded, refuseTooLarge, refuseUnknown } from "./refusals.ts"
import type { Route } from "./route.ts"
import type { Routes } from "./table.ts"

/** The size of the total before the payload in a first part. */
const totalSize = 4

/** A request, or an open, that has come in parts and is whole. */
export interface WholeRequest {
  readonly id: number
  readonly route: Route
  /** Its payload, with its header. It belongs to the receiver. */
  readonly payload: Uint8Array
  /** When its time is up, in milliseconds of the clock; Infinity for never. */
  readonly deadlineAt: number
  /** The time that its caller has given it, in microseconds; 0 for no limit. */
  readonly micros: number
  readonly trace: TraceContext | undefined
  /** When its first part came, in ticks of the clock. */
  readonly startedAt: number
}

/** The connection of such requests. */
export interface RequestsOwner extends ServedConnection {
  readonly routes: Routes
  /** When the bytes that are being read have come, in ticks of the clock. */
  readonly readAt: number
  /** Whether a request with this id may come now. A client that sends one that may not is refused. */
  takes(id: number): boolean
  /** Takes an exchange out of the table; another one with its id may follow. */
  remove(exchange: Exchange): void
  /** The peer has broken the protocol. */
  refuse(problem: string): void
  /** The time, in milliseconds of the clock. */
  now(): number
  /** One was served or refused. It may have been the last exchange that there was. */
  served(): void
}

/** What serves requests that are whole. */
export interface WholeServer {
  serveCall(request: WholeRequest): void
  serveStream(request: WholeRequest): void
}

/** The requests in parts of one connection. */
export class RequestsInParts {
  private readonly owner: RequestsOwner
  private readonly server: WholeServer
  private readonly messages: IncomingMessages
  private readonly requests = new Map<number, RequestInParts>()

  constructor(owner: RequestsOwner, server: WholeServer, unfinished: Unfinished) {
    this.owner = owner
    this.server = server
    this.messages = new IncomingMessages(unfinished, owner.settings.maxMessageSize, totalSize + requestHeaderSize)
  }

  /** Whether some of a request with this id has come. */
  has(id: number): boolean {
    return this.requests.has(id)
  }

  /** A part has come. */
  part(id: number, bytes: Uint8Array, start: number, end: number): void {
    const isFirst = !this.requests.has(id)
    if (isFirst && !this.owner.takes(id)) return
    const problem = this.messages.part(id, bytes, start, end)
    if (problem !== undefined) return this.owner.refuse(problem)
    if (isFirst) this.begin(id, bytes, start + totalSize)
  }

  /** The rest of a request has come, with a message of its type. */
  finish(id: number, type: number, bytes: Uint8Array, start: number, end: number): void {
    const request = this.requests.get(id)
    if (request === undefined) return
    const payload = this.messages.finish(request.message, bytes, start, end)
    if (typeof payload === "string") return this.owner.refuse(payload)
    this.whole(request, type, payload)
  }

  /** The rest is over the limit of a message by itself, and is skipped. */
  finishTooLarge(id: number, type: number, length: number): void {
    const request = this.requests.get(id)
    if (request === undefined) return
    const { total } = request.message
    if (total < length) return this.owner.refuse(`a rest of ${length} bytes of a message of ${total}`)
    this.messages.forget(id)
    this.whole(request, type, undefined)
  }

  /** Its bytes are dropped. It is refused when it is whole. */
  drop({ message }: RequestInParts): void {
    this.messages.drop(message)
  }

  /** Nothing more of it will come. */
  forget(request: RequestInParts): void {
    this.messages.forget(request.id)
    this.requests.delete(request.id)
    this.owner.close(request)
  }

  /** Drops the bytes of those that have got nothing for too long. */
  stalled(assemblies: ReadonlyArray<Assembly>): void {
    this.messages.stalled(assemblies)
  }

  private begin(id: number, bytes: Uint8Array, header: number): void {
    const message = this.messages.get(id)
    if (message === undefined) return
    const { owner } = this
    const call = owner.routes.calls.get(bytes, header)
    const stream = owner.routes.streams.get(bytes, header)
    const micros = readDeadlineMicros(bytes, header)
    const trace = readTraceContext(bytes, header)
    const request = new RequestInParts(this, message, call, stream, micros, trace, owner.readAt)
    this.requests.set(id, request)
    owner.open(request)
    // Bytes that nobody will look at need not be kept.
    if ((call === undefined && stream === undefined) || micros < 0) this.drop(request)
  }

  /** All of it has come. `payload` is undefined where its bytes were dropped. */
  private whole(request: RequestInParts, type: number, payload: Uint8Array | undefined): void {
    const { owner, server } = this
    const { id, message } = request
    const isOpen = type === MessageType.open
    const header = isOpen ? openHeaderSize : requestHeaderSize
    if (message.total < header) {
      return owner.refuse(`${isOpen ? "an open" : "a request"} of ${message.total} bytes, expected at least ${header}`)
    }
    this.requests.delete(id)
    owner.remove(request)
    const route = isOpen ? request.stream : request.call
    const { deadlineAt, micros, startedAt, trace } = request
    if (message.dropped === "TooLarge") refuseTooLarge(owner, id, message.total, header)
    else if (route === undefined) refuseUnknown(owner, id)
    else if (micros < 0 || deadlineAt <= owner.now()) refuseLate(owner, id, route)
    else if (payload === undefined) refuseOverloaded(owner, id, route, problemOf(message))
    else if (isOpen) server.serveStream({ id, route, payload, deadlineAt, micros, trace, startedAt })
    else server.serveCall({ id, route, payload, deadlineAt, micros, trace, startedAt })
    owner.served()
  }
}

/** Why there is no place for the bytes of a message. */
const problemOf = ({ dropped, total }: IncomingMessage): string =>
  dropped === "Stalled"
    ? `a message of ${total} bytes in parts that got nothing for too long`
    : `a message of ${total} bytes in parts, with too many of them already`

/** A request of which some has come. Its bytes may be dropped: its message says so. */
class RequestInParts implements Exchange {
  readonly id: number
  readonly deadlineAt: number
  readonly isCanceled = false
  private readonly requests: RequestsInParts
  readonly message: IncomingMessage
  /** What serves it as a call, and as a stream. Which of them it is, its last message says. */
  readonly call: Route | undefined
  readonly stream: Route | undefined
  readonly micros: number
  readonly trace: TraceContext | undefined
  readonly startedAt: number

  constructor(
    requests: RequestsInParts,
    message: IncomingMessage,
    call: Route | undefined,
    stream: Route | undefined,
    micros: number,
    trace: TraceContext | undefined,
    startedAt: number
  ) {
    this.id = message.id
    this.deadlineAt = micros === 0 ? Infinity : message.firstAt + micros / 1000
    this.requests = requests
    this.message = message
    this.call = call
    this.stream = stream
    this.micros = micros
    this.trace = trace
    this.startedAt = startedAt
  }

  onMessage(type: number): void {
    if (type === MessageType.cancel) this.requests.forget(this)
  }

  stop(why: StopReason): void {
    if (why === "deadline") this.requests.drop(this)
    else this.requests.forget(this)
  }
}
