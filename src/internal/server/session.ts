/**
 * A server's side of one connection: it reads messages, gives each to what it is for, writes answers, and owns the
 * table of the exchanges that are not over.
 *
 * It must not know how a call or a stream is served, or what its bytes mean: that is `call.ts`'s and `stream.ts`'s, and
 * what only clients send that know streams is `streams.ts`'s. What happens in time is decided by small machines (drain,
 * silence, backlog, versions); the session looks at them and does what they decide.
 *
 * It is plain synchronous code up to where a handler's fiber begins. Its connection is done only when its table is
 * empty.
 */
import type * as Effect from "effect/Effect"
import type { Duplex } from "node:stream"
import { MessageType, serverStreamTypes, serverTypes } from "../protocol/frame.ts"
import { openHeaderSize, readDeadlineMicros, readTraceContext, requestHeaderSize } from "../protocol/request.ts"
import type { Watched } from "../session/keepAlive.ts"
import { Messages } from "../session/messages.ts"
import { longestWhole } from "../session/outgoingMessages.ts"
import { ServerVersions } from "../session/versions.ts"
import { Tally } from "../telemetry/calls.ts"
import { nowMillis, nowTicks } from "../time/clock.ts"
import { DeadlineTimer } from "../time/timer.ts"
import { isTaken, markTaken } from "../transport/given.ts"
import { Slots } from "../transport/slots.ts"
import { type Over, Transport, type TransportOwner } from "../transport/transport.ts"
import type { Writer } from "../transport/writer.ts"
import { Backlog } from "./backlog.ts"
import { ServerCall } from "./call.ts"
import { ConnectionLog } from "./connectionLog.ts"
import { Drain, type DrainDecision, type Drained } from "./drain.ts"
import type { Exchange, SessionSettings } from "./model.ts"
import { refuseLate, refuseTooLarge, refuseUnknown } from "./refusals.ts"
import { Silence } from "./silence.ts"
import { Spans } from "./spans.ts"
import { Streams, type StreamsSession } from "./streams.ts"
import type { Routes } from "./table.ts"

/** A server's side of one connection. */
export class ServerSession implements TransportOwner, StreamsSession, Drained, Watched {
  readonly settings: SessionSettings
  readonly tally: Tally | undefined
  readonly spans: Spans
  readonly routes: Routes
  private readonly transport: Transport
  private readonly messages: Messages
  private readonly exchanges = new Slots<Exchange>()
  private readonly timer: DeadlineTimer
  private readonly logs: ConnectionLog
  private readonly drain: Drain
  private readonly versions = new ServerVersions()
  private readonly silence: Silence
  private readonly backlog: Backlog
  /** Undefined while the client has not said that it knows streams. */
  private streams: Streams | undefined = undefined
  private readonly endListeners: Array<() => void> = []
  /** How many of its calls run: counted by the admission. */
  running = 0
  /** When the bytes that are being read have come, in ticks of the clock. */
  readAt = 0

  /** It throws where the connection is served already. */
  constructor(duplex: Duplex, routes: Routes, settings: SessionSettings) {
    if (isTaken(duplex)) throw new TypeError("the connection is served already, expected each one once")
    const { clock, context, stats, warnings } = settings
    this.settings = settings
    this.routes = routes
    this.tally = stats === undefined ? undefined : new Tally(stats.calls, () => nowTicks(clock))
    this.transport = new Transport(duplex, this, serverTypes, settings, stats)
    const { transport } = this
    const { remote } = transport.capabilities
    this.messages = new Messages(transport.writer, settings.writeFlattenLimit)
    this.logs = new ConnectionLog(context, warnings, remote)
    this.spans = new Spans(remote)
    this.silence = new Silence(settings, transport, this.versions)
    // Each has a progress of its own: a progress shows what the client has taken since it was last looked at.
    this.backlog = new Backlog(this, transport)
    this.drain = new Drain(settings, this.backlog.progress())
    this.timer = new DeadlineTimer(clock, context, (now) => this.expire(now))
    markTaken(duplex)
  }

  start(): void {
    const now = this.now()
    this.drain.start(now)
    this.timer.arm(Math.min(this.silence.start(now), this.drain.due(this)))
    this.logs.accepted()
    this.transport.start()
  }

  /**
   * Lets the client know that it should start no more calls here, lets those in flight end, as long as the grace lasts,
   * and ends the connection. It can be repeated.
   */
  leave(): void {
    if (this.drain.state === "Done") return
    const now = this.now()
    this.act(this.drain.stop(now))
    this.timer.arm(this.expire(now))
  }

  /** Calls `listener` when the connection is gone and no handler runs any more. */
  onceDone(listener: () => void): void {
    if (this.drain.state === "Done") listener()
    else this.endListeners.push(listener)
  }

  get callsInFlight(): number {
    return this.exchanges.size
  }

  /** How many of them are streams. */
  get openStreams(): number {
    return this.streams?.size ?? 0
  }

  /** Whether the connection is gone. Handlers that cannot be interrupted may still run. */
  get isOver(): boolean {
    return this.transport.isOver
  }

  /** Whether none of its calls is started, since the client does not take its answers. */
  get paused(): boolean {
    return this.backlog.isPaused
  }

  get isDeaf(): boolean {
    return this.backlog.isDeaf
  }

  get understands(): boolean {
    return this.versions.understands
  }

  get isPartial(): boolean {
    return this.transport.isPartial
  }

  get pendingBytes(): number {
    return this.backlog.outbound.pendingBytes
  }

  get writer(): Writer {
    return this.transport.writer
  }

  // What is read.

  onRead(): void {
    if (this.settings.stats !== undefined || this.silence.probes) this.readAt = nowTicks(this.settings.clock)
    this.settings.admission.beginTurn()
  }

  onPartial(): void {
    this.timer.arm(this.silence.partial(this.now()))
  }

  onFrame(id: number, type: number, bytes: Uint8Array, start: number, end: number, owned: boolean): void {
    if (this.drain.state === "Ended") return this.onLateFrame(id, type, bytes, start, end)
    if (type === MessageType.version) return this.onVersion(id, bytes.subarray(start, end))
    this.versions.spoke()
    if (type === MessageType.request) this.onRequest(id, bytes, start, end, owned)
    else if (type === MessageType.cancel) this.exchanges.get(id)?.onMessage(type, bytes, start, end, owned)
    else this.streams?.onFrame(id, type, bytes, start, end, owned)
  }

  /** Once all is answered, only what lets answers in parts leave means something. */
  private onLateFrame(id: number, type: number, bytes: Uint8Array, start: number, end: number): void {
    if (type === MessageType.credit && id === 0) this.streams?.onFrame(id, type, bytes, start, end, false)
  }

  /** Parts are not kept: they are put together elsewhere. */
  keepsPayload(_id: number, type: number): boolean {
    return type === MessageType.request || type === MessageType.open || type === MessageType.items
  }

  /** Only requests and opens are skipped. */
  onTooLarge(id: number, type: number, length: number): void {
    if (this.drain.state === "Ended") return
    this.versions.spoke()
    const requests = this.streams?.requests
    if (requests?.has(id) === true) return requests.finishTooLarge(id, type, length)
    if (this.takes(id)) {
      refuseTooLarge(this, id, length, type === MessageType.open ? openHeaderSize : requestHeaderSize)
    }
  }

  private onRequest(id: number, bytes: Uint8Array, start: number, end: number, owned: boolean): void {
    // Each refusal is a method of its own: V8 inlines so many bytes of code, and they should be those of calls.
    if (end - start < requestHeaderSize) return this.onShort(id, bytes, start, end)
    if (this.exchanges.get(id) !== undefined) return this.onKnown(id, bytes, start, end)
    if (this.drain.isTimed && !this.takesNow(id)) return
    const route = this.routes.calls.get(bytes, start)
    if (route === undefined) return refuseUnknown(this, id)
    const micros = readDeadlineMicros(bytes, start)
    if (micros < 0) return refuseLate(this, id, route)
    const deadlineAt = micros === 0 ? Infinity : this.now() + micros / 1000
    const trace = readTraceContext(bytes, start)
    const call = new ServerCall(id, route, deadlineAt, this.readAt, this)
    call.receive(bytes, start + requestHeaderSize, end, owned, trace, micros)
  }

  private onShort(id: number, bytes: Uint8Array, start: number, end: number): void {
    if (this.streams?.requests.has(id) === true) return this.onKnown(id, bytes, start, end)
    this.transport.refuse(`a request of ${end - start} bytes, expected at least ${requestHeaderSize}`)
  }

  /** A request with an id that is known: it is the rest of one in parts. */
  private onKnown(id: number, bytes: Uint8Array, start: number, end: number): void {
    const requests = this.streams?.requests
    if (requests?.has(id) === true) requests.finish(id, MessageType.request, bytes, start, end)
    else this.refuseTwice(id)
  }

  private refuseTwice(id: number): void {
    this.transport.refuse(`request ${id} twice`)
  }

  takes(id: number): boolean {
    if (this.exchanges.get(id) === undefined) return !this.drain.isTimed || this.takesNow(id)
    this.refuseTwice(id)
    return false
  }

  private takesNow(id: number): boolean {
    const { drain } = this
    if (drain.state === "Closing") return false
    if (drain.state === "LastWord") {
      this.transport.refuse(`request ${id} after it had said that there are no more`)
      return false
    }
    drain.requested(this.now())
    return true
  }

  refuse(problem: string): void {
    this.transport.refuse(problem)
  }

  private onVersion(id: number, payload: Uint8Array): void {
    const said = this.versions.receive(id, payload)
    if (said._tag === "Bad") return this.transport.refuse(said.problem)
    const { drain } = this
    const now = this.now()
    if (this.versions.understandsStreams && this.streams === undefined) this.startStreams()
    if (said.isFirst) this.timer.arm(this.silence.understood(now, this))
    if (said.understands) this.act(drain.understood(now))
    if (said.isLastWord) drain.lastWord(now)
    if (!said.isAnswer) this.say(this.versions.flags(drain.isGoingAway))
    this.act(drain.endIfServed(now, this.callsInFlight))
  }

  private startStreams(): void {
    this.streams = new Streams(this, this.messages, this.transport.writer)
    this.backlog.cutsInto(this.streams)
    this.transport.allow(serverStreamTypes)
  }

  // What is written.

  send(id: number, type: number, lead: Uint8Array, payload: Uint8Array): void {
    if (this.transport.isOver || this.drain.state === "Ended") return
    if (lead.length + payload.length > longestWhole && this.streams !== undefined) {
      return this.streams.answers.send(id, type, lead, payload)
    }
    const size = this.messages.response(id, type, lead, payload)
    if (!this.transport.writer.hasRoom()) this.onFull(size)
  }

  /** Sends our version, with flags where the client understands them. */
  private say(flags: number | undefined): void {
    if (this.transport.isOver || this.drain.state === "Ended") return
    const size = this.messages.version(flags)
    if (!this.transport.writer.hasRoom()) this.onFull(size)
  }

  /** Asks the client whether it is there. */
  ask(): void {
    this.say(this.versions.ask(this.drain.isGoingAway))
    // At once: in a turn that takes long, its time would pass before it has left.
    this.transport.writer.flush()
  }

  onLeave(): boolean {
    return true
  }

  onFlush(): void {
    this.tally?.count()
  }

  onBlocked(): void {
    this.backlog.blocked()
  }

  /** A message of this size was queued, and there is no room for more. */
  private onFull(size: number): void {
    this.backlog.full()
    this.drain.full(this.now())
    this.transport.writer.release()
    this.backlog.add(size)
  }

  onUncut(size: number): void {
    this.backlog.uncut(size)
  }

  onCut(): void {
    this.backlog.cut()
  }

  onRoom(): void {
    if (this.transport.isOver || !this.backlog.room()) return
    const now = this.now()
    // It has taken something, so it is there. Nothing that it has sent meanwhile was read.
    this.readAt = nowTicks(this.settings.clock)
    // The message is incomplete because we did not read: its time begins anew.
    if (this.transport.isPartial) this.timer.arm(this.silence.partial(now))
    this.streams?.resumed(now)
    this.drain.resumed(now)
    // Now, and not by the timer: a client that asks for much may be paused whenever the timer looks.
    if (this.drain.state === "Leaving") this.timer.arm(this.expireDrain(now))
    this.backlog.resume()
  }

  // The table.

  get(id: number): Exchange | undefined {
    return this.exchanges.get(id)
  }

  open(exchange: Exchange): void {
    // The handler itself may have ended the connection before its call got here.
    if (this.transport.isOver) return exchange.stop("lost")
    this.exchanges.add(exchange)
    if (exchange.deadlineAt !== Infinity) this.timer.arm(exchange.deadlineAt)
  }

  close(exchange: Exchange): void {
    // Its answer in parts may be there in its place.
    if (this.exchanges.delete(exchange)) this.served()
  }

  replace(exchange: Exchange): void {
    this.exchanges.remove(exchange.id)
    this.exchanges.add(exchange)
  }

  remove(exchange: Exchange): void {
    this.exchanges.delete(exchange)
  }

  served(): void {
    if (this.exchanges.size > 0) return
    if (this.drain.state === "Over") return this.finish()
    if (!this.drain.isTimed || this.transport.isOver) return
    this.act(this.drain.callsEnded(this.now()))
    this.timer.arm(this.drain.due(this))
  }

  // The end.

  onOver(over: Over): void {
    this.tally?.count()
    this.drain.over(this.now())
    this.logs.over(over)
    this.streams?.close()
    // A copy: a handler that is interrupted may end, and leave the table, at once.
    for (const exchange of this.exchanges.values()) exchange.stop("lost")
    if (this.exchanges.size === 0) this.finish()
  }

  /** The connection is gone, and no handler runs any more. */
  private finish(): void {
    if (this.drain.state === "Done") return
    this.drain.done(this.now())
    this.timer.stop()
    this.logs.flush()
    for (const listener of this.endListeners) listener()
  }

  /** Does what the drain has decided. */
  private act(decision: DrainDecision): void {
    const { writer } = this.transport
    switch (decision) {
      case "Wait":
        return
      case "SayGoingAway":
        if (this.versions.understands) this.say(this.versions.flags(true))
        return
      case "Hold":
        return writer.hold()
      case "Release":
        return writer.release()
      case "End":
        return this.endWriting()
      case "EndAndStop":
        this.streams?.leave()
        this.endWriting()
        return this.stopAll()
      case "Destroy":
        this.streams?.leave()
        // Answers that are queued are sent as far as the socket takes them.
        writer.flush()
        this.transport.destroy()
        return this.stopAll()
    }
  }

  private stopAll(): void {
    for (const exchange of this.exchanges.values()) exchange.stop("shutdown")
  }

  /**
   * Ends the connection's writing half. The connection is over when the client, which has then read every answer, has
   * closed it. What the client still sends is read and dropped.
   */
  private endWriting(): void {
    this.transport.end()
    this.onRoom()
  }

  /** Closes the connection of a client that does not take its answers. */
  cutOff(problem: string): void {
    this.logs.closed(`its peer ${problem}`)
    this.transport.fail(new Error(problem))
  }

  // What is due.

  /** Does what is due. Returns when to look again; so do the others. */
  private expire(now: number): number {
    const isEnding = this.drain.state === "Ended"
    return Math.min(
      this.silence.expire(now, this, isEnding),
      this.expireDrain(now),
      this.expireUnsent(now),
      this.expireUnfinished(now),
      this.expireExchanges(now)
    )
  }

  /** Goes on with the end of the connection. The grace is for handlers, too, that run on when it is gone. */
  private expireDrain(now: number): number {
    for (;;) {
      const decision = this.drain.look(now, this)
      if (decision === "Wait") return this.drain.due(this)
      this.act(decision)
    }
  }

  /** Cuts off a client that does not take what waits for it. */
  private expireUnsent(now: number): number {
    return this.transport.isOver ? Infinity : this.backlog.expire(now)
  }

  /** Ends what has come in part and does not become whole. */
  private expireUnfinished(now: number): number {
    const { streams } = this
    // While nothing is read, it is not the client's fault. Its time begins anew when it is read again.
    return streams === undefined || this.transport.isOver || this.isDeaf ? Infinity : streams.expire(now)
  }

  /** Ends the exchanges whose time is up. */
  private expireExchanges(now: number): number {
    if (this.transport.isOver) return Infinity
    let next = Infinity
    for (const exchange of this.exchanges.values()) {
      if (exchange.deadlineAt <= now) exchange.stop("deadline")
      else next = Math.min(next, exchange.deadlineAt)
    }
    return next
  }

  now(): number {
    return nowMillis(this.settings.clock)
  }

  wake(at: number): void {
    this.timer.arm(at)
  }

  log(line: Effect.Effect<void>): void {
    this.logs.add(line)
  }
}
