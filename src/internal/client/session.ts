/**
 * A client's side of one established connection: it numbers requests, sends them, and hands each message to the entry
 * of its table that waits for it.
 *
 * It must not know what the entries are: calls, probes or streams. It tells its owner of its own life only.
 *
 * This is the hot path, so it is plain synchronous code: Effect begins where a call's fiber is resumed.
 */
import type * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Exit from "effect/Exit"
import type { Duplex } from "node:stream"
import { CommunicationError } from "../../CallError.ts"
import type { Turn } from "../ambient/turn.ts"
import { clientTypes, endsExchange, MessageType } from "../protocol/frame.ts"
import { openHeaderSize, requestHeaderSize, writeDeadline } from "../protocol/request.ts"
import { KeepAlive, type KeepAliveTimes, type Watched } from "../session/keepAlive.ts"
import { Messages } from "../session/messages.ts"
import { StalledMessage } from "../session/stalledMessage.ts"
import { clientHello, ClientVersions } from "../session/versions.ts"
import type { Traffic } from "../telemetry/metrics.ts"
import { CoarseClock, nowMillis, toTicks } from "../time/clock.ts"
import { DeadlineTimer } from "../time/timer.ts"
import type { Remote } from "../transport/capabilities.ts"
import { Slots } from "../transport/slots.ts"
import { type Over, Transport, type TransportOwner } from "../transport/transport.ts"
import type { Writer } from "../transport/writer.ts"
import { isReset, textOf } from "../userError.ts"
import { closedError } from "./errors.ts"
import { type End, neverLeft, type Pending, timeUp } from "./pending.ts"
import { Spin } from "./spin.ts"
import { leastInParts, Streaming, type StreamingOwner, type StreamingSettings } from "./streaming.ts"
import type { RoomWaiters } from "./waiters.ts"

/** What a session needs to know, the same for all of a Connection's. */
export interface SessionSettings extends StreamingSettings {
  readonly clock: Clock.Clock
  /** The context of fibers that serve several callers. */
  readonly context: Context.Context<never>
  /** What the calls of one turn of the event loop share. */
  readonly turn: Turn
  readonly maxUnsentBytes: number
  readonly optimisticSpinMillis: number
  /** Undefined if servers are not probed. */
  readonly keepAlive: KeepAliveTimes | undefined
  /** Whether servers are probed also on connections whose peer cannot vanish without a word. */
  readonly probesAlways: boolean
}

/** Hears of a session's life. */
export interface SessionOwner {
  /** The peer's version message has come: requests can be sent. */
  onReady(): void
  /** The peer goes away: no more calls may be sent to it. Called once, and after `onReady`. */
  onGoingAway(): void
  /** No call and no stream is in flight any more. Called before the last one hears of its end. */
  onIdle(): void
  /**
   * The session is over, while so many `calls` and streams were in flight. Called once, before any of them hears of its
   * end.
   */
  onOver(why: string, calls: number): void
}

/** A client's side of one connection: sends requests, and gives each message to its entry. */
export class ClientSession implements TransportOwner, Watched, StreamingOwner {
  readonly address: string
  private readonly settings: SessionSettings
  private readonly owner: SessionOwner
  private readonly transport: Transport
  readonly writer: Writer
  private readonly messages: Messages
  /** The calls that wait for room on this connection and others to its endpoint. */
  private readonly room: RoomWaiters
  private readonly table = new Slots<Pending>()
  /** How many entries of the table are calls, and how many are streams. */
  private calls = 0
  private open = 0
  /** There iff the server has said that it understands streams. */
  private streaming: Streaming | undefined = undefined
  private nextId = 1
  private readonly timer: DeadlineTimer
  private readonly clock: CoarseClock
  /** When the bytes that are being read have come, in ticks of the clock, and in milliseconds. */
  readAt = 0
  readMillis = 0
  /** When the requests leave that are handed to the socket, in milliseconds; -1 if that has yet to be read. */
  private leavingAt = -1
  private readonly versions = new ClientVersions()
  private readonly stalled: StalledMessage
  private readonly keepAlive: KeepAlive | undefined
  private readonly spin: Spin | undefined
  /** Whether we have closed it. */
  private isClosed = false

  constructor(
    address: string,
    duplex: Duplex,
    owner: SessionOwner,
    room: RoomWaiters,
    settings: SessionSettings,
    traffic: Traffic | undefined
  ) {
    this.address = address
    this.owner = owner
    this.room = room
    this.settings = settings
    this.clock = new CoarseClock(settings.clock)
    this.transport = new Transport(duplex, this, clientTypes, settings, traffic)
    this.writer = this.transport.writer
    this.messages = new Messages(this.writer, settings.writeFlattenLimit)
    this.stalled = new StalledMessage(settings.messageTimeoutMillis)
    const { keepAlive, probesAlways } = settings
    this.keepAlive = keepAlive !== undefined && (probesAlways || this.transport.capabilities.mayVanish)
      ? new KeepAlive(settings.clock, keepAlive, 0, this.transport.progress())
      : undefined
    this.spin = settings.optimisticSpinMillis > 0
      ? new Spin(settings.optimisticSpinMillis, () => this.calls > 0)
      : undefined
    this.timer = new DeadlineTimer(settings.clock, settings.context, (now) => this.expire(now))
  }

  /** Says our version and begins to read. */
  start(): void {
    this.messages.version(clientHello)
    this.writer.flush()
    this.transport.start()
  }

  /** How many calls are in flight, without streams. */
  get callsInFlight(): number {
    return this.calls
  }

  /** How many streams are open. */
  get streams(): number {
    return this.open
  }

  /** Whether streams can be opened on it. It is known once it is ready. */
  get understandsStreams(): boolean {
    return this.streaming !== undefined
  }

  get isOver(): boolean {
    return this.transport.isOver
  }

  /** Whether calls may be sent on it: it is not over, and the peer is not going away. */
  get isOpen(): boolean {
    return !this.transport.isOver && !this.isGoingAway
  }

  /** Whether the peer goes away. */
  get isGoingAway(): boolean {
    return this.versions.state === "GoingAway"
  }

  /** Whether the peer has ended it before its version message, and has given no reason but that it goes away. */
  get wasCutShort(): boolean {
    return this.versions.state === "CutShort"
  }

  /** How large an answer may be, in bytes. */
  get maxMessageSize(): number {
    return this.settings.maxMessageSize
  }

  /** The peer, as the system knows it. */
  get remote(): Remote | undefined {
    return this.transport.capabilities.remote
  }

  /** Whether a request can be sent now. */
  hasRoom(): boolean {
    return this.writer.hasRoom()
  }

  /** The time of what happens together, in ticks of the clock. `isLater` says that it is asked after something else. */
  now(isLater: boolean): number {
    // If no flush is due, as with deadlines that pass one after another, nothing says that a turn has ended.
    if (isLater || !this.writer.isFlushDue) this.clock.forget()
    return this.clock.now()
  }

  /** Sends the request of an entry, and keeps the entry until it ends. The session must not be over. */
  send(entry: Pending, args: Uint8Array): void {
    const id = this.nextId++
    entry.id = id
    this.table.add(entry)
    const { deadlineAt, isCall } = entry
    if (isCall) this.calls++
    const hasDeadline = deadlineAt !== Infinity
    if (args.length < leastInParts || !this.sendsInParts(entry, args)) {
      this.messages.request(id, entry.key, hasDeadline, entry.trace, entry.lead, args)
    }
    if (hasDeadline) this.timer.arm(deadlineAt)
    if (isCall && this.spin !== undefined) this.spin.start()
  }

  /** Opens the stream that an entry is, and keeps it until it ends. The server must understand streams. */
  openStream(entry: Pending, args: Uint8Array): void {
    const { stream } = entry
    const { streaming } = this
    if (stream === undefined || streaming === undefined) throw new Error("a stream is opened where there can be none")
    const id = this.nextId++
    entry.id = id
    this.table.add(entry)
    if (stream.isCounted) this.open++
    stream.begin(streaming, streaming.firstCredit)
    const { deadlineAt } = entry
    const hasDeadline = deadlineAt !== Infinity
    if (!this.sendsInParts(entry, args)) {
      const { hasItems } = stream
      this.messages.open(id, entry.key, hasDeadline, hasItems, entry.trace, streaming.firstCredit, entry.lead, args)
      if (!hasItems) this.writer.empty(id, MessageType.end)
    }
    if (hasDeadline) this.timer.arm(deadlineAt)
  }

  /** The stream of an entry gets no more items from us. */
  endItems(entry: Pending): void {
    if (this.table.get(entry.id) === entry) this.writer.empty(entry.id, MessageType.end)
  }

  /**
   * Takes an entry out of the table that its owner has ended: a request that has not left is dropped, otherwise the
   * peer is told if it `isTold`. Returns false if the entry had ended before.
   */
  giveUp(entry: Pending, isTold: boolean): boolean {
    const { id } = entry
    if (this.table.get(id) !== entry) return false
    this.table.remove(id)
    this.withdraw(id, isTold)
    this.settle(entry)
    return true
  }

  abort(entry: Pending, end: End): void {
    if (this.giveUp(entry, true)) entry.onEnd(end)
  }

  /** Ends the session at once; its calls fail as closed. */
  close(): void {
    this.isClosed = true
    this.transport.destroy()
  }

  onRead(): void {
    this.clock.forget()
    this.readMillis = nowMillis(this.settings.clock)
    this.readAt = toTicks(this.readMillis)
  }

  onPartial(): void {
    this.timer.arm(this.stalled.begin(nowMillis(this.settings.clock)))
  }

  /** The keepalive watches whether the server reads. */
  onBlocked(): void {}

  onFlush(): void {
    this.leavingAt = -1
    this.settings.turn.leave()
  }

  onFrame(id: number, type: number, bytes: Uint8Array, start: number, end: number, owned: boolean): void {
    if (!endsExchange(type)) {
      if (type === MessageType.version) return this.onVersion(id, bytes.subarray(start, end))
      return this.streaming?.onFrame(id, type, bytes, start, end, owned)
    }
    const { streaming } = this
    if (streaming !== undefined && streaming.hasParts) {
      return this.onAnswer(streaming, id, type, bytes, start, end, owned)
    }
    const entry = this.table.remove(id)
    // Without an entry, it belongs to one that was given up.
    if (entry === undefined) return
    this.settle(entry)
    entry.onMessage(type, bytes, start, end, owned)
  }

  keepsPayload(id: number, type: number): boolean {
    if (type === MessageType.response) return this.table.get(id)?.keepsAnswer === true
    return type === MessageType.items && this.table.get(id)?.stream !== undefined
  }

  onTooLarge(id: number, type: number, length: number): void {
    // No request was sent yet: the peer is no server of ours, and the dial fails at once.
    if (!this.versions.isReady) {
      return this.transport.refuse(`an answer of ${length} bytes before its version message`)
    }
    const entry = this.table.remove(id)
    if (entry === undefined) return
    this.streaming?.giveUp(id)
    this.settle(entry)
    entry.onEnd({ _tag: "TooLarge", type, length })
  }

  onLeave(id: number, bytes: DataView, payloadAt: number): boolean {
    const entry = this.table.get(id)
    if (entry === undefined || (entry.deadlineAt !== Infinity && !this.hasTime(entry, bytes, payloadAt))) return false
    const { stream } = entry
    if (stream !== undefined && stream.hasItems) stream.onLeft()
    return true
  }

  entry(id: number): Pending | undefined {
    return this.table.get(id)
  }

  entries(): ReadonlyArray<Pending> {
    return this.table.values()
  }

  leaves(id: number, bytes: DataView, payloadAt: number): boolean {
    const entry = this.table.get(id)
    return entry !== undefined && (entry.deadlineAt === Infinity || this.hasTime(entry, bytes, payloadAt))
  }

  lookAt(at: number): void {
    this.timer.arm(at)
  }

  /** Writes the time that is left for a request that leaves. Ends its entry, and returns false, where there is none. */
  private hasTime(entry: Pending, bytes: DataView, payloadAt: number): boolean {
    if (this.leavingAt === -1) this.leavingAt = nowMillis(this.settings.clock)
    const left = entry.deadlineAt - this.leavingAt
    if (left > 0) {
      writeDeadline(bytes, payloadAt, left * 1000)
      return true
    }
    this.table.remove(entry.id)
    this.settle(entry)
    entry.onEnd(neverLeft)
    return false
  }

  onRoom(): void {
    this.room.wake()
  }

  onOver(over: Over): void {
    this.timer.stop()
    this.onFlush()
    const why = this.textOf(over)
    if (over._tag === "Lost" && (over.error === undefined || isReset(over.error))) this.versions.endedWithoutReason()
    const { writer } = this
    const entries = this.table.clear()
    const inFlight = this.calls + this.open
    this.calls = this.open = 0
    const unsent = entries.some(({ id }) => writer.isQueued(id)) ? writer.unsent() : undefined
    this.owner.onOver(why, inFlight)
    this.endAll(entries, unsent, over, why)
    this.streaming?.close()
    this.room.wake()
  }

  /** A client always reads. */
  get isDeaf(): boolean {
    return false
  }

  ask(): void {
    this.messages.version(undefined)
    // At once: in a turn that takes long, its time would pass before it has left.
    this.writer.flush()
  }

  /** An entry is no longer in the table. */
  private settle(entry: Pending): void {
    if (entry.isCall) {
      if (--this.calls === 0 && this.open === 0) this.owner.onIdle()
    } else if (entry.stream?.isCounted === true && --this.open === 0 && this.calls === 0) {
      this.owner.onIdle()
    }
  }

  /** The answer to an entry has come, while something goes or comes in parts: this may be the rest of it. */
  private onAnswer(
    streaming: Streaming,
    id: number,
    type: number,
    bytes: Uint8Array,
    start: number,
    end: number,
    owned: boolean
  ): void {
    if (this.table.get(id) === undefined) return
    const whole = streaming.onAnswer(id, type, bytes, start, end)
    if (whole === "Refused") return
    const entry = this.table.remove(id)
    if (entry === undefined) return
    this.settle(entry)
    if (whole === undefined) entry.onMessage(type, bytes, start, end, owned)
    else entry.onMessage(type, whole, 0, whole.length, true)
  }

  /**
   * Sends the request of an entry in parts, where it is that large and the server takes parts. Returns whether it is.
   */
  private sendsInParts(entry: Pending, args: Uint8Array): boolean {
    const { streaming } = this
    if (streaming === undefined || !streaming.isLarge(entry, args)) return false
    streaming.send(entry, args)
    return true
  }

  /** The exchange `id` is over for us: what has not left does not, otherwise the peer is told if it `isTold`. */
  private withdraw(id: number, isTold: boolean): void {
    const { writer } = this
    switch (this.streaming?.giveUp(id) ?? "Whole") {
      case "Whole":
        if (writer.isQueued(id)) writer.drop(id)
        else if (isTold) writer.empty(id, MessageType.cancel)
        return
      case "Begun":
        // Also at its deadline: the server would wait for the rest.
        return writer.empty(id, MessageType.cancel)
      case "Unsent":
    }
  }

  /** Requests in parts of which nothing has left will not leave: the peer goes away. */
  private takeBack(): ReadonlyArray<() => void> {
    return (this.streaming?.takeBack() ?? []).flatMap(({ args, id }) => {
      const entry = this.table.remove(id)
      if (entry === undefined) return []
      this.settle(entry)
      return () => entry.onEnd({ _tag: "Unsent", args })
    })
  }

  /** The server understands streams. */
  private beginStreams(): void {
    const { clock } = this.settings
    this.streaming = new Streaming(this, this.transport, this.messages, this.settings, () => nowMillis(clock))
  }

  private onVersion(id: number, payload: Uint8Array): void {
    const said = this.versions.receive(id, payload)
    if (this.streaming === undefined && this.versions.understandsStreams) this.beginStreams()
    switch (said._tag) {
      case "Bad":
        return this.transport.refuse(said.problem)
      case "CutShort":
        return this.transport.fail(new Error("it is going away"))
      case "Ready":
        if (this.keepAlive !== undefined) this.timer.arm(this.keepAlive.start(nowMillis(this.settings.clock), this))
        this.owner.onReady()
        break
      case "GoingAway": {
        const unsent = this.takeBack()
        // Behind all requests that were queued before.
        this.messages.version(this.versions.lastWord)
        this.owner.onGoingAway()
        for (const end of unsent) end()
        break
      }
      case "Nothing":
    }
    // Without room, the server is not reading. As soon as it reads again, it sees that the client is there.
    if (said.isQuestion && !this.isOver && this.hasRoom()) this.messages.version(this.versions.isThere)
  }

  /** Ends the entries of a connection that is over. */
  private endAll(
    entries: ReadonlyArray<Pending>,
    unsent: ReadonlyMap<number, Uint8Array> | undefined,
    over: Over,
    why: string
  ): void {
    if (entries.length === 0) return
    // One error for all that were sent: what it says is the same for each.
    const sent = { _tag: "Lost", failure: Exit.fail(this.errorOf(over, why)) } as const
    const closed = this.isClosed
      ? { _tag: "Lost", failure: Exit.fail(closedError(this.address, false)) } as const
      : undefined
    for (const entry of entries) {
      const args = this.unsentArgs(entry, unsent?.get(entry.id))
      entry.onEnd(args === undefined ? sent : closed ?? { _tag: "Unsent", args })
    }
  }

  /** The arguments of an entry whose request has not left. `payload` is what was still queued, if it was sent whole. */
  private unsentArgs({ id, lead, stream }: Pending, payload: Uint8Array | undefined): Uint8Array | undefined {
    if (payload === undefined) return this.streaming?.unsentArgs(id)
    return payload.subarray((stream === undefined ? requestHeaderSize : openHeaderSize) + lead.length)
  }

  private errorOf(over: Over, why: string): CommunicationError {
    if (this.isClosed) return closedError(this.address, true)
    return new CommunicationError({
      reason: { _tag: "Lost" },
      endpoint: this.address,
      message: `the connection was lost: ${why}`,
      ...(over._tag === "Lost" && over.error !== undefined ? { cause: over.error } : {}),
      maybeExecuted: true
    })
  }

  /** Why it is over, as a text. */
  private textOf(over: Over): string {
    const { address } = this
    if (over._tag === "Refused") return `${address} sent ${over.problem}`
    if (over.error !== undefined) return `${address}: ${textOf(over.error)}`
    if (this.versions.isReady) return `${address} closed the connection`
    return `${address} closed the connection before its version message${this.refusalHint}`
  }

  /** With TLS 1.3 a client whose certificate is refused has done its handshake by then, and is told no reason. */
  private get refusalHint(): string {
    return this.transport.capabilities.refusesSilently
      ? " (it may have refused this client's certificate: its log says so)"
      : ""
  }

  /** Does what is due. Returns when to look again. */
  private expire(now: number): number {
    const unfinished = this.streaming?.expire(now) ?? Infinity
    return Math.min(this.expireEntries(now), this.expirePeer(now), this.expireMessage(now), unfinished)
  }

  /** Ends the entries whose time is up; returns the earliest deadline of the others. */
  private expireEntries(now: number): number {
    let next = Infinity
    for (const entry of this.table.values()) {
      if (entry.deadlineAt > now) next = Math.min(next, entry.deadlineAt)
      // `giveUp` is false where a caller that was resumed has ended this one. The server is not told: its deadline is
      // the same.
      else if (this.giveUp(entry, false)) entry.onEnd(timeUp)
    }
    return next
  }

  /** Gives up a peer that has fallen silent and does not answer. Returns when to look again. */
  private expirePeer(now: number): number {
    const { keepAlive, transport } = this
    if (keepAlive === undefined || !this.versions.isReady || transport.isOver) return Infinity
    const next = keepAlive.look(now, this)
    if (keepAlive.state === "Lost") {
      const silence = keepAlive.silence(now)
      transport.fail(new Error(`nothing was heard of it for ${silence}, and it has not answered when it was asked`))
    }
    return next
  }

  /** Refuses a peer whose message does not become whole. Returns when to look again. */
  private expireMessage(now: number): number {
    const { stalled, transport } = this
    if (transport.isOver) return Infinity
    const next = stalled.look(now, transport.isPartial, true)
    if (stalled.state === "Stalled") transport.refuse(stalled.problem)
    return next
  }
}
