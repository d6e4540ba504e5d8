/**
 * What a client's session has beside calls where its server understands streams: items, credit, and large messages in
 * parts.
 *
 * It must not know what entries are, or how one ends for its caller: it finds them in its session's table, and asks the
 * session to end them. The rules of items are those of each stream's own.
 */
import { dataView, ownCopy } from "../memory/bytes.ts"
import { u32At } from "../protocol/bytes.ts"
import { clientStreamTypes, MessageType } from "../protocol/frame.ts"
import { openHeaderSize, requestHeaderSize, writeRequestHeader } from "../protocol/request.ts"
import { Flow } from "../session/flow.ts"
import type { ItemsReceiver, Violation } from "../session/incomingItems.ts"
import { type IncomingMessage, IncomingMessages } from "../session/incomingMessages.ts"
import type { Messages } from "../session/messages.ts"
import {
  longestWhole,
  type OutgoingMessage,
  type OutgoingMessageOwner,
  OutgoingMessages
} from "../session/outgoingMessages.ts"
import { Unfinished } from "../session/unfinished.ts"
import { Windows } from "../session/windows.ts"
import type { Transport } from "../transport/transport.ts"
import type { End, Pending, StreamEnds } from "./pending.ts"

/** The settings of a session that are about streams. */
export interface StreamingSettings {
  readonly writeFlattenLimit: number
  readonly maxMessageSize: number
  readonly messageTimeoutMillis: number
  /** The largest window of a stream, and how large all of a connection should be together, in bytes. */
  readonly streamWindow: number
  readonly streamBudget: number
}

/** The table of entries, and what is done with them. */
export interface StreamingOwner {
  /** The entry with this id, if it waits. */
  entry(id: number): Pending | undefined
  /** All entries, as they are now. */
  entries(): ReadonlyArray<Pending>
  /** Ends an entry without an answer, and tells the server. */
  abort(entry: Pending, end: End): void
  /**
   * A request is about to leave: its time left is written into its payload, at `payloadAt`. Returns false where its
   * time is up, or it was given up.
   */
  leaves(id: number, bytes: DataView, payloadAt: number): boolean
  /** Looks at what is unfinished at this time, in milliseconds of the clock. */
  lookAt(at: number): void
}

/** How much of a request with these arguments and this lead leaves as its payload. */
const payloadSize = ({ lead, stream }: Pending, args: Uint8Array): number =>
  (stream === undefined ? requestHeaderSize : openHeaderSize) + lead.length + args.length

/** Arguments of fewer bytes are never sent in parts. */
export const leastInParts = longestWhole - 1024

/** The items, the credit and the messages in parts of one connection. */
export class Streaming implements StreamEnds, OutgoingMessageOwner {
  readonly flow: Flow
  readonly receiver: ItemsReceiver
  private readonly windows: Windows
  private readonly unfinished: Unfinished
  private readonly incoming: IncomingMessages
  private readonly outgoing: OutgoingMessages
  /** The requests that were sent in parts, of which one has left. */
  private readonly begun = new Set<number>()
  private readonly owner: StreamingOwner
  private readonly transport: Transport
  private readonly settings: StreamingSettings

  constructor(
    owner: StreamingOwner,
    transport: Transport,
    messages: Messages,
    settings: StreamingSettings,
    now: () => number
  ) {
    const { maxMessageSize, messageTimeoutMillis, streamBudget, streamWindow } = settings
    this.owner = owner
    this.transport = transport
    this.settings = settings
    this.flow = new Flow(messages, transport.writer)
    this.windows = new Windows(streamWindow, streamBudget)
    this.unfinished = new Unfinished(maxMessageSize, messageTimeoutMillis, now)
    this.receiver = {
      windows: this.windows,
      unfinished: this.unfinished,
      maxItem: maxMessageSize,
      grant: (id, bytes) => this.flow.grant(id, bytes)
    }
    this.incoming = new IncomingMessages(this.unfinished, maxMessageSize, 4)
    this.outgoing = new OutgoingMessages(this.flow, this)
    transport.allow(clientStreamTypes)
    this.flow.start()
  }

  /** What a server may send on a stream at first, in bytes. */
  get firstCredit(): number {
    return this.windows.first
  }

  /** Whether anything goes or comes in parts, so that an answer may be more than it seems. */
  get hasParts(): boolean {
    return this.begun.size > 0 || this.incoming.size > 0
  }

  /** Whether the request of an entry goes in parts. */
  isLarge(entry: Pending, args: Uint8Array): boolean {
    return payloadSize(entry, args) > longestWhole
  }

  /** Sends the request of an entry in parts. */
  send(entry: Pending, args: Uint8Array): void {
    const { deadlineAt, id, key, lead, stream, trace } = entry
    const headerSize = stream === undefined ? requestHeaderSize : openHeaderSize
    const head = new Uint8Array(headerSize + lead.length)
    const view = dataView(head)
    writeRequestHeader(view, 0, key.bytes, deadlineAt === Infinity ? 0 : 1, trace)
    if (stream !== undefined) view.setUint32(requestHeaderSize, this.firstCredit, true)
    head.set(lead, headerSize)
    const body = args.length < this.settings.writeFlattenLimit ? ownCopy(args, 0, args.length) : args
    this.outgoing.send(id, stream === undefined ? MessageType.request : MessageType.open, head, body)
  }

  onFirstPart({ id }: OutgoingMessage, head: DataView): boolean {
    if (!this.owner.leaves(id, head, 0)) return false
    this.begun.add(id)
    return true
  }

  onSent({ id }: OutgoingMessage): void {
    const stream = this.owner.entry(id)?.stream
    if (stream === undefined) return
    if (stream.hasItems) stream.onLeft()
    else this.transport.writer.empty(id, MessageType.end)
  }

  /**
   * An entry is given up. Returns what has become of its request: `Whole` says that it was not sent in parts, `Begun`
   * that some of it has left, and `Unsent` that nothing has, and nothing will.
   */
  giveUp(id: number): "Whole" | "Begun" | "Unsent" {
    this.incoming.forget(id)
    const message = this.outgoing.get(id)
    if (message !== undefined) this.outgoing.drop(message)
    if (this.begun.delete(id)) return "Begun"
    return message === undefined ? "Whole" : "Unsent"
  }

  /**
   * The arguments of a request in parts that the server has not got in full, and so has not run; undefined for others.
   */
  unsentArgs(id: number): Uint8Array | undefined {
    return this.outgoing.get(id)?.body
  }

  /** Takes back the requests in parts of which nothing has left. Returns their ids and arguments. */
  takeBack(): ReadonlyArray<{ readonly id: number; readonly args: Uint8Array }> {
    const waiting = this.outgoing.values().filter(({ state }) => state === "Waiting")
    for (const message of waiting) this.outgoing.drop(message)
    return waiting.map(({ body, id }) => ({ id, args: body }))
  }

  /** A message that belongs to no answer has come. */
  onFrame(id: number, type: number, bytes: Uint8Array, start: number, end: number, owned: boolean): void {
    switch (type) {
      case MessageType.items:
        if (id === 0) return this.transport.refuse("items with id 0")
        this.flow.read(end - start)
        return this.onItems(id, bytes, start, end, owned)
      case MessageType.part:
        if (id === 0) return this.transport.refuse("a part with id 0")
        this.flow.read(end - start)
        return this.onPart(id, bytes, start, end)
      case MessageType.credit:
        return this.onCredit(id, u32At(bytes, start))
    }
  }

  /**
   * The message of type `type` that answers `id` has come. Returns its whole payload where it was sent in parts, and
   * undefined where this message is all of it. `"Refused"`: the peer has broken the rules, and the connection is over.
   */
  onAnswer(
    id: number,
    type: number,
    bytes: Uint8Array,
    start: number,
    end: number
  ): Uint8Array | "Refused" | undefined {
    this.begun.delete(id)
    // The server may answer before it has got all of the request.
    const unsent = this.outgoing.get(id)
    if (unsent !== undefined && this.outgoing.drop(unsent)) this.transport.writer.empty(id, MessageType.cancel)
    const message = this.incoming.get(id)
    if (message === undefined) return undefined
    // An error stands for what has come of a result, unless it is what was sent in parts.
    if (type === MessageType.responseError && this.have(message) + end - start !== message.total) {
      this.incoming.forget(id)
      return undefined
    }
    const whole = this.incoming.finish(message, bytes, start, end)
    if (typeof whole !== "string") return whole
    this.transport.refuse(whole)
    return "Refused"
  }

  /** Ends what has got nothing for too long. Returns when to look again, in milliseconds of the clock. */
  expire(now: number): number {
    if (this.unfinished.isEmpty) return Infinity
    const { due, stalled } = this.unfinished.expire(now)
    if (stalled.length === 0) return due
    for (const { id, total } of this.incoming.stalled(stalled)) {
      const entry = this.owner.entry(id)
      if (entry !== undefined) {
        this.violated(entry, `an answer of ${total} bytes in parts that got nothing for too long`)
      }
    }
    for (const entry of this.owner.entries()) {
      if (entry.stream?.isStalled(now) === true) this.violated(entry, "an item that got nothing for too long")
    }
    return due
  }

  /** The connection is over. */
  close(): void {
    this.flow.close()
    this.outgoing.close()
  }

  private onItems(id: number, bytes: Uint8Array, start: number, end: number, owned: boolean): void {
    const entry = this.owner.entry(id)
    const violation = entry?.stream?.onItems(bytes, start, end, owned)
    if (entry !== undefined && violation !== undefined) return this.broken(entry, violation)
    this.watch()
  }

  private onPart(id: number, bytes: Uint8Array, start: number, end: number): void {
    const entry = this.owner.entry(id)
    // It belongs to one that was given up.
    if (entry === undefined) return
    const problem = this.incoming.part(id, bytes, start, end)
    if (problem !== undefined) return this.transport.refuse(problem)
    const message = this.incoming.get(id)
    if (message?.dropped === undefined) return this.watch()
    const { dropped, total } = message
    if (dropped === "TooLarge") {
      return this.owner.abort(entry, { _tag: "TooLarge", type: MessageType.response, length: total })
    }
    this.violated(entry, `an answer of ${total} bytes in parts, beside more than may be unfinished`)
  }

  private onCredit(id: number, bytes: number): void {
    if (bytes === 0) return this.transport.refuse("credit of 0 bytes")
    if (id === 0) {
      const problem = this.flow.landed(bytes)
      return problem === undefined ? undefined : this.transport.refuse(problem)
    }
    const entry = this.owner.entry(id)
    const problem = entry?.stream?.onCredit(bytes)
    if (entry !== undefined && problem !== undefined) this.violated(entry, problem)
  }

  /** What is unfinished must not stay so. */
  private watch(): void {
    if (!this.unfinished.isEmpty) this.owner.lookAt(this.unfinished.now() + this.settings.messageTimeoutMillis)
  }

  private broken(entry: Pending, { _tag, problem }: Violation): void {
    if (_tag === "TooLarge") this.owner.abort(entry, { _tag: "Violation", reason: "TooLarge", problem })
    else this.violated(entry, problem)
  }

  private violated(entry: Pending, problem: string): void {
    this.owner.abort(entry, { _tag: "Violation", reason: "Protocol", problem })
  }

  /** How much of a message in parts has come. */
  private have(message: IncomingMessage): number {
    return this.incoming.bytesOf(message)?.length ?? 0
  }
}
