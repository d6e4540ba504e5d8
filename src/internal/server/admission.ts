/**
 * How many calls a server runs at once, and which wait.
 */

/** A connection that calls come in on. */
export interface AdmittedConnection {
  /** How many of its calls run; counted here. */
  running: number
  /** Whether none of its calls is to start, since its client does not take its answers. Where that changes, `pause` or `resume` follows. */
  readonly paused: boolean
}

/** A call that can be started when it is its turn. */
export interface Startable {
  readonly connection: AdmittedConnection
  /** Whether it has waited for half of the time that its caller gives it, or longer. */
  isPressed(): boolean
  start(): void
  /** It has waited, and will not be started after all: its place has gone to another connection's call. */
  refuse(): void
}

/**
 * The calls of one connection that wait, in the order in which they came; those that are pressed for time let the others pass.
 *
 * Where more come than can be served, and each has a deadline, the oldest is always one whose time is nearly up: to start it would be work
 * in vain, call by call, and hardly any would be answered in time. Those behind it have time enough.
 */
class WaitingCalls {
  readonly connection: AdmittedConnection
  private readonly calls = new Set<Startable>()
  /** Calls that had their turn, and were pressed. */
  private readonly pressed = new Set<Startable>()

  constructor(connection: AdmittedConnection) {
    this.connection = connection
  }

  /** The call that is given up first. */
  get least(): Startable | undefined {
    const [call] = this.pressed.size > 0 ? this.pressed : this.calls
    return call
  }

  get size(): number {
    return this.calls.size + this.pressed.size
  }

  add(call: Startable): void {
    this.calls.add(call)
  }

  delete(call: Startable): boolean {
    return this.calls.delete(call) || this.pressed.delete(call)
  }

  /** Takes out the call whose turn it is. */
  take(): Startable | undefined {
    for (const call of this.calls) {
      this.calls.delete(call)
      if (!call.isPressed()) return call
      this.pressed.add(call)
    }
    const [call] = this.pressed
    if (call !== undefined) this.pressed.delete(call)
    return call
  }
}

/** How many calls there may be. */
export interface AdmissionLimits {
  readonly maxConcurrentCalls: number
  readonly maxQueuedCalls: number
  readonly maxConcurrentCallsPerConnection: number
  readonly maxQueuedCallsPerConnection: number
}

/**
 * Lets calls start, up to a number of them in all and a number for each connection; further ones wait, up to other numbers: those of one
 * connection in the order in which they came, but for those that are pressed for time, and the connections in turn.
 *
 * It also puts off what one turn of the event loop should not start any more, so that a large batch from one connection does not keep
 * the others waiting: those calls start in the next turn. As long as there are places for them, they do not count as waiting. Nor do calls
 * of a connection that is paused: nothing more is read from it, so that they are few, and they must not be at the expense of others.
 */
export class Admission {
  private readonly limits: AdmissionLimits
  private readonly turnMillis: number
  private running = 0
  // In the order of their turns, and a call that ends while it waits is out at once.
  private readonly waiting = new Map<AdmittedConnection, WaitingCalls>()
  /** The same, of connections that run as many as one may, or are paused. */
  private readonly held = new Map<AdmittedConnection, WaitingCalls>()
  /** So many of the calls that wait have a place by their connection's limit, and so many have none. Those of paused ones are not counted. */
  private placed = 0
  private unplaced = 0
  /** Whose calls are the most that wait, when that was last looked at; and whether that was since bytes were read. */
  private fullest: WaitingCalls | undefined = undefined
  private looked = false
  private turnEndsAt = 0
  private startedInTurn = 0
  private scheduled = false

  constructor(limits: AdmissionLimits, turnMillis: number) {
    this.limits = limits
    this.turnMillis = turnMillis
  }

  /** A connection has read a batch of requests; its calls are started until this turn's time is up. */
  beginTurn(): void {
    this.turnEndsAt = performance.now() + this.turnMillis
    this.startedInTurn = 0
    this.looked = false
  }

  /**
   * Whether a call of this connection may start now; if so it counts as running until `ended`. It goes before those of other connections only
   * where these were put off to another turn, and not where they wait for others to end.
   */
  tryStart(connection: AdmittedConnection): boolean {
    if (this.running + this.placed >= this.limits.maxConcurrentCalls) return false
    if (connection.running >= this.limits.maxConcurrentCallsPerConnection || connection.paused) return false
    if (this.placed > 0 && this.waiting.has(connection)) return false
    if (this.turnIsOver()) return false
    this.running++
    connection.running++
    return true
  }

  /** Puts a call in the queue; false where that is full. */
  tryQueue(call: Startable): boolean {
    const { connection } = call
    const spare = this.limits.maxConcurrentCallsPerConnection - connection.running
    // All of a connection's are in one place, so that they start in their order.
    const isHeld = (spare <= 0 || connection.paused) && !this.waiting.has(connection)
    const queue = isHeld ? this.held : this.waiting
    let calls = queue.get(connection)
    const size = calls?.size ?? 0
    if (this.isRefused(connection, size, spare)) return false
    if (calls === undefined) queue.set(connection, calls = new WaitingCalls(connection))
    calls.add(call)
    if (!connection.paused) {
      if (size < spare) this.placed++
      else this.unplaced++
    }
    if (!isHeld && this.running < this.limits.maxConcurrentCalls) this.schedule()
    return true
  }

  /** A call that waits will not start any more. */
  leave(call: Startable): void {
    const { connection } = call
    const queue = this.waiting.has(connection) ? this.waiting : this.held
    const calls = queue.get(connection)
    if (calls === undefined || !calls.delete(call)) return
    if (calls.size === 0) queue.delete(connection)
    if (connection.paused) return
    if (calls.size < this.limits.maxConcurrentCallsPerConnection - connection.running) this.placed--
    else this.unplaced--
  }

  /** A call of this connection that was started has ended. */
  ended(connection: AdmittedConnection): void {
    this.running--
    connection.running--
    if (this.unplaced > 0 && !connection.paused) {
      const calls = this.waiting.get(connection) ?? this.held.get(connection)
      if (calls !== undefined && calls.size >= this.limits.maxConcurrentCallsPerConnection - connection.running) {
        this.unplaced--
        this.placed++
      }
      this.release(connection)
    }
    if (this.placed > 0) this.schedule()
  }

  /** The connection is paused now. Its calls that wait wait until it is not. */
  pause(connection: AdmittedConnection): void {
    const calls = this.waiting.get(connection) ?? this.held.get(connection)
    if (calls === undefined) return
    this.waiting.delete(connection)
    this.held.set(connection, calls)
    this.place(connection, calls, -1)
  }

  /** The connection is no longer paused. */
  resume(connection: AdmittedConnection): void {
    const calls = this.held.get(connection)
    if (calls === undefined) return
    this.place(connection, calls, 1)
    this.release(connection)
    if (this.placed > 0) this.schedule()
  }

  /**
   * Whether a further call of a connection is refused, of which so many wait. It may run `spare` more. Where another connection's is to be refused
   * in its place, that is done.
   */
  private isRefused(connection: AdmittedConnection, size: number, spare: number): boolean {
    const { maxConcurrentCalls, maxQueuedCalls, maxQueuedCallsPerConnection } = this.limits
    if (connection.paused) return size - spare >= maxQueuedCallsPerConnection
    const free = maxConcurrentCalls - this.running - this.placed
    // It is only put off.
    if (size < spare && free > 0) return false
    // Of its own, those do not wait that have a place also beside all others'.
    const placed = Math.min(spare, free + Math.min(size, spare))
    if (size - Math.max(0, placed) >= maxQueuedCallsPerConnection) return true
    return this.unplaced + Math.max(0, -free) >= maxQueuedCalls && !this.displace(size, free < 0)
  }

  /**
   * Where no more calls may wait, the connection that has the most of them gives up one, for one that has fewer: a few that flood the server
   * must not lock out the others. `placed` says that a call gives up a place also where its connection's limit is not reached.
   */
  private displace(size: number, placed: boolean): boolean {
    if (!this.isFuller(this.fullest, size, placed) && !this.looked) {
      this.looked = true
      this.fullest = this.findFullest(placed)
    }
    const call = this.isFuller(this.fullest, size, placed) ? this.fullest?.least : undefined
    if (call === undefined) return false
    this.looked = false
    this.leave(call)
    call.refuse()
    return true
  }

  /** Whether a connection may give up one of its calls for one that has `size` of them waiting. */
  private isFuller(calls: WaitingCalls | undefined, size: number, placed: boolean): boolean {
    return calls !== undefined && calls.size > size + 1 && this.mayGiveUp(calls, placed)
  }

  private findFullest(placed: boolean): WaitingCalls | undefined {
    let fullest: WaitingCalls | undefined
    for (const queue of [this.waiting, this.held]) {
      for (const calls of queue.values()) {
        if (calls.size > (fullest?.size ?? 0) && this.mayGiveUp(calls, placed)) fullest = calls
      }
    }
    return fullest
  }

  /** Whether fewer calls wait where one of these gives up. */
  private mayGiveUp(calls: WaitingCalls, placed: boolean): boolean {
    if (calls.connection.paused) return false
    return placed || calls.size > this.limits.maxConcurrentCallsPerConnection - calls.connection.running
  }

  /** Counts the calls of a connection that wait, or counts them no longer. */
  private place(connection: AdmittedConnection, calls: WaitingCalls, sign: 1 | -1): void {
    const placed = Math.min(calls.size, this.limits.maxConcurrentCallsPerConnection - connection.running)
    this.placed += sign * placed
    this.unplaced += sign * (calls.size - placed)
  }

  /** What is held of a connection has its turn again. */
  private release(connection: AdmittedConnection): void {
    const calls = this.held.get(connection)
    if (calls === undefined) return
    this.held.delete(connection)
    this.waiting.set(connection, calls)
  }

  /** Whether no more calls should start in this turn. The first always may, and the clock is not read for each. */
  private turnIsOver(): boolean {
    return (this.startedInTurn++ & 7) === 7 && performance.now() > this.turnEndsAt
  }

  private schedule(): void {
    if (this.scheduled) return
    this.scheduled = true
    setImmediate(this.startWaiting)
  }

  private readonly startWaiting = (): void => {
    this.scheduled = false
    this.fullest = undefined
    this.beginTurn()
    const { maxConcurrentCalls, maxConcurrentCallsPerConnection } = this.limits
    // Whoever has had its turn comes last, and is met again by this very loop.
    for (const [connection, calls] of this.waiting) {
      if (this.running >= maxConcurrentCalls) return
      if (this.turnIsOver()) return this.schedule()
      this.waiting.delete(connection)
      if (connection.running >= maxConcurrentCallsPerConnection) {
        this.held.set(connection, calls)
        continue
      }
      const call = calls.take()
      if (call === undefined) continue
      if (calls.size > 0) this.waiting.set(connection, calls)
      this.placed--
      this.running++
      connection.running++
      call.start()
    }
  }
}
