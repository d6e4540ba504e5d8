/**
 * What the page of the wire asks of a peer that knows streams, checked on each message that comes from one. It uses
 * nothing of `src/internal`.
 *
 * It gives a problem for whatever the page does not allow, and never throws for it: hostile bytes are read, too.
 */
import type { Message } from "./raw.ts"
import { firstCredit, flag, goesOn, mostInFlight, type } from "./streamWire.ts"

/** One direction of a stream, as the end sees it that receives it. */
interface Receiving {
  /** What the other side was allowed so far, in bytes. */
  allowed: number
  /** Bytes of payload that have come. */
  bytes: number
  /** The item that is unfinished. */
  unfinished: { readonly total: number; readonly pieces: Array<Buffer>; have: number } | undefined
  readonly items: Array<Buffer>
  count: number
  ended: boolean
}

interface Parts {
  readonly total: number
  have: number
  readonly pieces: Array<Buffer>
  count: number
}

export type Side = "client" | "server"

/** The largest total of unfinished items and messages in parts, where it is not only one. */
const mostUnfinished = 67_108_864

/** Types that the side gets which these rules are for. */
const typesTo: Record<Side, ReadonlySet<number>> = {
  client: new Set([type.version, type.response, type.responseError, type.items, type.part, type.credit]),
  server: new Set([
    ...[type.version, type.request, type.cancel],
    ...[type.open, type.items, type.part, type.end, type.credit]
  ])
}

/**
 * The rules for what one end receives. That end says what it sends by the methods that begin with `sent`; what comes is
 * given to `received`, which returns the message, put together where it came in parts.
 */
export class Rules {
  /** The end that these rules are used by: a `client` checks what a server sends. */
  readonly side: Side
  /** What has broken the page, in the order in which it came. */
  readonly problems: Array<string> = []
  /** Whether the whole items and parts are kept. Otherwise they are only counted. */
  keeps: boolean
  private readonly receiving = new Map<number, Receiving>()
  private readonly inParts = new Map<number, Parts>()
  /** Ids that run: a client's own, or those that a server has got. */
  private readonly running = new Set<number>()
  private readonly over = new Set<number>()
  private saidStreams = false
  private heardStreams = false
  private readonly begun = new Set<number>()
  private lastWord = false
  private versions = 0
  /** Bytes of items and parts that have come, and how much of that the other side has been told. */
  flown = 0
  told = 0
  /** The same the other way: what this end has sent, and what it has been told of that. */
  sentBytes = 0
  heardOf = 0
  /** The most that was in flight where a message began, and how many bytes the other side has granted by id. */
  mostFlown = 0
  readonly granted = new Map<number, number>()
  /** How many items and parts have come, and how many bytes the longest of these messages had. */
  readonly seen = new Map<number, number>()
  largestPiece = 0

  constructor(side: Side, keeps = true) {
    this.side = side
    this.keeps = keeps
  }

  /** Whether both sides have said that they understand streams. */
  get negotiated(): boolean {
    return this.saidStreams && this.heardStreams
  }

  itemsOf(id: number): ReadonlyArray<Buffer> {
    return this.receiving.get(id)?.items ?? []
  }

  /** How many items have come whole. */
  countOf(id: number): number {
    return this.receiving.get(id)?.count ?? 0
  }

  /** Bytes of payloads that came for a stream. */
  bytesOf(id: number): number {
    return this.receiving.get(id)?.bytes ?? 0
  }

  hasEnded(id: number): boolean {
    return this.receiving.get(id)?.ended === true
  }

  // What this end sends

  sentVersion(flags: number): void {
    if ((flags & flag.understood) !== 0 && (flags & flag.streams) !== 0) this.saidStreams = true
  }

  /** A client opens a stream, and lets the server send `credit` bytes. */
  sentOpen(id: number, credit: number): void {
    this.running.add(id)
    this.receiving.set(id, receivingWith(credit))
  }

  sentRequest(id: number): void {
    this.running.add(id)
  }

  sentCredit(id: number, bytes: number): void {
    if (id === 0) this.told += bytes
    const receiving = this.receiving.get(id)
    if (receiving !== undefined) receiving.allowed += bytes
  }

  /** This end has ended an exchange, or given it up. What was on its way may still come. */
  sentEnd(id: number): void {
    this.over.add(id)
    if (this.side === "server") this.running.delete(id)
  }

  /** Bytes of items or of a part were sent. */
  sentPiece(bytes: number): void {
    this.sentBytes += bytes
  }

  // What comes

  /** Takes a message that came. Gives it whole where it is the rest of one in parts. */
  received(message: Message): Message {
    this.seen.set(message.type, (this.seen.get(message.type) ?? 0) + 1)
    if (!typesTo[this.side].has(message.type)) this.problem(message, "is of a type that this side never gets")
    if (message.type >= type.open && !this.negotiated) this.problem(message, "came before both sides knew streams")
    if (this.versions === 0 && this.side === "server" && message.type !== type.version) {
      this.problem(message, "came before the version")
    }
    switch (message.type) {
      case type.version:
        this.version(message)
        return message
      case type.request:
      case type.open:
      case type.response:
      case type.responseError:
        return this.whole(message)
      case type.items:
        this.items(message)
        return message
      case type.part:
        this.part(message)
        return message
      case type.credit:
        this.credit(message)
        return message
      case type.end:
        this.end(message)
        return message
      case type.cancel:
        if (message.payload.length > 0) this.problem(message, "is not empty")
        if (!this.running.has(message.id) && !this.over.has(message.id) && !this.inParts.has(message.id)) {
          this.problem(message, "cancels what does not run")
        }
        this.finish(message.id)
        return message
    }
    return message
  }

  private problem(message: Message, what: string): void {
    this.problems.push(`a message of type ${message.type}, id ${message.id}, ${message.payload.length} bytes, ${what}`)
  }

  private finish(id: number): void {
    this.running.delete(id)
    this.over.add(id)
    this.inParts.delete(id)
  }

  private version(message: Message): void {
    this.versions++
    if (message.id !== 0) this.problem(message, "has an id")
    const flags = message.payload.length >= 8 ? message.payload.readUInt32LE(4) : 0
    if ((flags & flag.understood) === 0) return
    if ((flags & flag.streams) !== 0) this.heardStreams = true
    else if (this.negotiated) this.problem(message, `has flags ${flags}, after streams were understood`)
    if ((flags & flag.noMoreRequests) !== 0) this.lastWord = true
  }

  /** A new id of a client's. */
  private begin(message: Message): void {
    if (this.begun.has(message.id)) this.problem(message, "begins a second time")
    if (this.lastWord) this.problem(message, "begins after the client's last word")
    this.begun.add(message.id)
    this.running.add(message.id)
  }

  private whole(message: Message): Message {
    const { id } = message
    const parts = this.inParts.get(id)
    if (parts === undefined) {
      if (this.negotiated && message.payload.length > mostInFlight) this.problem(message, "should be in parts")
      return this.started(message, true)
    }
    this.inParts.delete(id)
    // An error after parts of a response discards them.
    if (message.type === type.responseError && parts.have + message.payload.length !== parts.total) {
      return this.started(message, false)
    }
    if (parts.have + message.payload.length !== parts.total) {
      this.problem(message, `completes ${parts.have} bytes in parts, expected ${parts.total}`)
    }
    return this.started({ ...message, payload: Buffer.concat([...parts.pieces, message.payload]) }, false)
  }

  private started(message: Message, isNew: boolean): Message {
    const { id, payload } = message
    if (this.side === "server") {
      if (isNew) this.begin(message)
      const least = message.type === type.open ? 53 : 49
      if (payload.length < least && this.keeps) this.problem(message, "is shorter than its header")
      if (message.type === type.open) this.receiving.set(id, receivingWith(firstCredit))
      return message
    }
    if (!this.running.has(id)) this.problem(message, "answers what does not run")
    const receiving = this.receiving.get(id)
    if (message.type === type.response && receiving?.unfinished !== undefined) {
      this.problem(message, "ends a stream inside an item")
    }
    this.finish(id)
    return message
  }

  /** Items and parts: how much is in flight. */
  private fly(message: Message): void {
    const inFlight = this.flown - this.told
    this.mostFlown = Math.max(this.mostFlown, inFlight)
    this.largestPiece = Math.max(this.largestPiece, message.payload.length)
    if (inFlight >= mostInFlight) this.problem(message, `began with ${inFlight} bytes in flight`)
    if (message.payload.length > 1_048_576) this.problem(message, "is over 1 MiB")
    if (message.payload.length === 0) this.problem(message, "is empty")
    if (message.id === 0) this.problem(message, "has the id 0")
    this.flown += message.payload.length
  }

  private items(message: Message): void {
    this.fly(message)
    const { id, payload } = message
    const receiving = this.receiving.get(id)
    if (receiving === undefined) return this.problem(message, "is for no stream")
    if (this.side === "client" ? !this.running.has(id) : this.over.has(id) && !this.running.has(id)) {
      // What was on its way when this end ended it is no fault.
      if (this.side === "client") this.problem(message, "came after the end")
    }
    if (receiving.ended) this.problem(message, "came after the client's end")
    let at = 0
    while (at < payload.length) {
      const start = at
      if (payload.length - at < 4) return this.problem(message, `has a length of ${payload.length - at} bytes`)
      const word = payload.readUInt32LE(at)
      const isPiece = word >= goesOn
      const size = word & 0x7fff_ffff
      at += 4
      if (size > payload.length - at) return this.problem(message, `has an item of ${size} bytes that is past its end`)
      const bytes = payload.subarray(at, at + size)
      at += size
      if (isPiece && at < payload.length) this.problem(message, "goes on after a piece that does")
      this.piece(message, receiving, bytes, isPiece, receiving.allowed - receiving.bytes - start)
    }
    receiving.bytes += payload.length
    this.checkUnfinished(message)
  }

  private piece(message: Message, receiving: Receiving, bytes: Buffer, isPiece: boolean, credit: number): void {
    const { unfinished } = receiving
    if (unfinished === undefined) {
      if (credit <= 0) this.problem(message, `begins an item with a credit of ${credit}`)
      if (!isPiece) return this.item(receiving, bytes)
      if (bytes.length < 5) return this.problem(message, `has a first piece of ${bytes.length} bytes`)
      const first = bytes.subarray(4)
      receiving.unfinished = { total: bytes.readUInt32LE(0), pieces: this.keeps ? [first] : [], have: first.length }
      return
    }
    if (bytes.length === 0) this.problem(message, "has an empty piece")
    unfinished.have += bytes.length
    if (this.keeps) unfinished.pieces.push(bytes)
    if (isPiece ? unfinished.have >= unfinished.total : unfinished.have !== unfinished.total) {
      this.problem(message, `has ${unfinished.have} bytes of an item of ${unfinished.total}`)
    }
    if (isPiece) return
    receiving.unfinished = undefined
    this.item(receiving, this.keeps ? Buffer.concat(unfinished.pieces) : bytes)
  }

  private item(receiving: Receiving, bytes: Buffer): void {
    receiving.count++
    if (this.keeps) receiving.items.push(bytes)
  }

  private part(message: Message): void {
    this.fly(message)
    const { id, payload } = message
    const parts = this.inParts.get(id)
    if (parts !== undefined) {
      parts.have += payload.length
      parts.count++
      if (this.keeps) parts.pieces.push(payload)
      if (parts.have > parts.total) this.problem(message, `makes ${parts.have} bytes of ${parts.total}`)
      return
    }
    if (payload.length < (this.side === "server" ? 53 : 4)) return this.problem(message, "is a first part, and short")
    if (this.side === "server") this.begin(message)
    else if (!this.running.has(id)) this.problem(message, "is for an id that does not run")
    const bytes = payload.subarray(4)
    this.inParts.set(id, {
      total: payload.readUInt32LE(0),
      have: bytes.length,
      pieces: this.keeps ? [bytes] : [],
      count: 1
    })
    if (this.inParts.size > 64) this.problem(message, `is in parts beside ${this.inParts.size - 1} others`)
    this.checkUnfinished(message)
  }

  private checkUnfinished(message: Message): void {
    const totals = [
      ...[...this.inParts.values()].map(({ total }) => total),
      ...[...this.receiving].flatMap(([id, { unfinished }]) =>
        unfinished === undefined || !this.running.has(id) ? [] : [unfinished.total]
      )
    ]
    const sum = totals.reduce((sum, total) => sum + total, 0)
    if (totals.length > 1 && sum > mostUnfinished) this.problem(message, `makes ${sum} bytes that are unfinished`)
  }

  private end(message: Message): void {
    const receiving = this.receiving.get(message.id)
    if (message.payload.length > 0) this.problem(message, "is not empty")
    if (receiving === undefined) return this.problem(message, "is for no stream")
    if (receiving.ended) this.problem(message, "ends a second time")
    if (receiving.unfinished !== undefined) this.problem(message, "ends inside an item")
    receiving.ended = true
  }

  private credit(message: Message): void {
    const { id, payload } = message
    if (payload.length !== 4) return this.problem(message, "is not of 4 bytes")
    const bytes = payload.readUInt32LE(0)
    if (bytes === 0) this.problem(message, "says 0")
    if (id === 0) {
      this.heardOf += bytes
      if (this.heardOf > this.sentBytes) this.problem(message, `returns ${this.heardOf} of ${this.sentBytes} bytes`)
      return
    }
    this.granted.set(id, (this.granted.get(id) ?? 0) + bytes)
    if (!this.running.has(id) && !this.over.has(id)) this.problem(message, "is for an id that does not run")
  }
}

const receivingWith = (allowed: number): Receiving => ({
  allowed,
  bytes: 0,
  unfinished: undefined,
  items: [],
  count: 0,
  ended: false
})
