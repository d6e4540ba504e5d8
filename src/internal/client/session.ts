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
import { requestHeaderSize, writeDeadline } from "../protocol/request.ts"
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
import { neverLeft, type Pending, timeUp } from "./pending.ts"
import { Spin } from "./spin.ts"
import type { RoomWaiters } from "./waiters.ts"

/** What a session needs to know, the same for all of a Connection's. */
export interface SessionSettings {
  readonly clock: Clock.Clock
  /** The context of fibers that serve several callers. */
  readonly context: Context.Context<never>
  /** What the calls of one turn of the event loop share. */
  readonly turn: Turn
  readonly writeFlattenLimit: number
  readonly maxMessageSize: number
  readonly maxUnsentBytes: number
  readonly messageTimeoutMillis: number
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
  /** No call is in flight any more. Called before the last call hears of its end. */
  onIdle(): void
  /** The session is over, while `calls` calls were in flight. Called once, before any of them hears of its end. */
  onOver(why: string, calls: number): void
}

/** A client's side of one connection: sends requests, and gives each message to its entry. */
export class ClientSession implements TransportOwner, Watched {
  readonly address: string
  private readonly settings: SessionSettings
  private readonly owner: SessionOwner
  private readonly transport: Transport
  readonly writer: Writer
  private readonly messages: Messages
  /** The calls that wait for room on this connection and others to its endpoint. */
  private readonly room: RoomWaiters
  private readonly table = new Slots<Pending>()
  /** How many entries of the table are calls. */
  private calls = 0
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

  get callsInFlight(): number {
    return this.calls
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
    this.messages.request(id, entry.key, hasDeadline, entry.trace, entry.lead, args)
    if (hasDeadline) this.timer.arm(deadlineAt)
    if (isCall && this.spin !== undefined) this.spin.start()
  }

  /**
   * Takes an entry out of the table that its owner has ended: a request that has not left is dropped, otherwise the
   * peer is told if it `isTold`. Returns false if the entry had ended before.
   */
  giveUp(entry: Pending, isTold: boolean): boolean {
    const { id } = entry
    if (this.table.get(id) !== entry) return false
    this.table.remove(id)
    const { writer } = this
    if (writer.isQueued(id)) writer.drop(id)
    else if (isTold) writer.empty(id, MessageType.cancel)
    this.settle(entry)
    return true
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
    if (type === MessageType.version) return this.onVersion(id, bytes.subarray(start, end))
    const isEnd = endsExchange(type)
    const entry = isEnd ? this.table.remove(id) : this.table.get(id)
    // Without an entry, it belongs to one that was given up.
    if (entry === undefined) return
    if (isEnd) this.settle(entry)
    entry.onMessage(type, bytes, start, end, owned)
  }

  keepsPayload(id: number, type: number): boolean {
    return type === MessageType.response && this.table.get(id)?.keepsAnswer === true
  }

  onTooLarge(id: number, type: number, length: number): void {
    // No request was sent yet: the peer is no server of ours, and the dial fails at once.
    if (!this.versions.isReady) {
      return this.transport.refuse(`an answer of ${length} bytes before its version message`)
    }
    const entry = this.table.remove(id)
    if (entry === undefined) return
    this.settle(entry)
    entry.onEnd({ _tag: "TooLarge", type, length })
  }

  onLeave(id: number, bytes: DataView, payloadAt: number): boolean {
    const entry = this.table.get(id)
    if (entry === undefined) return false
    if (entry.deadlineAt === Infinity) return true
    if (this.leavingAt === -1) this.leavingAt = nowMillis(this.settings.clock)
    const left = entry.deadlineAt - this.leavingAt
    if (left > 0) {
      writeDeadline(bytes, payloadAt, left * 1000)
      return true
    }
    this.table.remove(id)
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
    const { calls } = this
    this.calls = 0
    const unsent = entries.some(({ id }) => writer.isQueued(id)) ? writer.unsent() : undefined
    this.owner.onOver(why, calls)
    this.endAll(entries, unsent, over, why)
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
    if (entry.isCall && --this.calls === 0) this.owner.onIdle()
  }

  private onVersion(id: number, payload: Uint8Array): void {
    const said = this.versions.receive(id, payload)
    switch (said._tag) {
      case "Bad":
        return this.transport.refuse(said.problem)
      case "CutShort":
        return this.transport.fail(new Error("it is going away"))
      case "Ready":
        if (this.keepAlive !== undefined) this.timer.arm(this.keepAlive.start(nowMillis(this.settings.clock), this))
        this.owner.onReady()
        break
      case "GoingAway":
        // Behind all requests that were queued before.
        this.messages.version(this.versions.lastWord)
        this.owner.onGoingAway()
        break
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
      const payload = unsent?.get(entry.id)
      if (payload === undefined) entry.onEnd(sent)
      else entry.onEnd(closed ?? { _tag: "Unsent", args: payload.subarray(requestHeaderSize + entry.lead.length) })
    }
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
    return Math.min(this.expireEntries(now), this.expirePeer(now), this.expireMessage(now))
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
