/**
 * Decides how many calls a server runs at once, which wait, and which are refused.
 *
 * It must not know what a call does, nor how it is refused: calls are started and refused by themselves.
 */

/** A connection from which calls come. */
export interface AdmittedConnection {
  /** How many of its calls run. The admission counts them. */
  running: number
  /**
   * Whether none of its calls may start, since its client does not take its answers. When that changes, `pause` or
   * `resume` is called.
   */
  readonly paused: boolean
}

/** A call that can be started when it is its turn. */
export interface Startable {
  readonly connection: AdmittedConnection
  /** Whether it has waited for half of the time until its deadline, or longer. */
  isPressed(): boolean
  start(): void
  /** It waited, and is not started after all: a call of another connection gets its place. */
  refuse(): void
}

/**
 * The calls of one connection that wait, in the order in which they came. Calls that are pressed for time let the
 * others pass.
 *
 * Where more calls come than can be served, and each has a deadline, the oldest call never has enough time left. If the
 * oldest was started each time, hardly any call would be answered in time. The calls behind it have time enough.
 */
class WaitingCalls {
  readonly connection: AdmittedConnection
  private readonly calls = new Set<Startable>()
  /** Calls that had their turn when they were pressed for time. */
  private readonly pressed = new Set<Startable>()

  constructor(connection: AdmittedConnection) {
    this.connection = connection
  }

  /** The call that is refused first. */
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

  /** Takes out the call that is to start now. */
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

/** How many calls may run and wait. */
export interface AdmissionLimits {
  readonly maxConcurrentCalls: number
  readonly maxQueuedCalls: number
  readonly maxConcurrentCallsPerConnection: number
  readonly maxQueuedCallsPerConnection: number
}

/**
 * Lets calls start, up to a limit for all and a limit for each connection. Further calls wait, up to two other limits:
 * those of one connection in the order in which they came, unless they are pressed for time; and the connections take
 * turns.
 *
 * It also defers calls to the next turn of the event loop when a turn has started calls for long enough, so that a
 * large batch from one connection does not hold up the others. As long as there are places for the deferred calls, they
 * do not count as waiting. Calls of a paused connection do not count either. They are few, since nothing more is read
 * from it, and they must not take places away from others.
 */
export class Admission {
  private readonly limits: AdmissionLimits
  private readonly turnMillis: number
  private running = 0
  /** The calls that wait, in the order in which their connections have a turn. */
  private readonly waiting = new Map<AdmittedConnection, WaitingCalls>()
  /** The same, of connections that run as many calls as one connection may, or are paused. */
  private readonly held = new Map<AdmittedConnection, WaitingCalls>()
  /** How many of the calls that wait fit into their connection's limit. Calls of paused connections are not counted. */
  private placed = 0
  /** How many of them do not fit. */
  private unplaced = 0
  /** The most calls of one connection that wait, when this was last looked at. */
  private fullest: WaitingCalls | undefined = undefined
  /** Whether it was looked at since bytes were read. */
  private looked = false
  private turnEndsAt = 0
  private startedInTurn = 0
  private scheduled = false

  constructor(limits: AdmissionLimits, turnMillis: number) {
    this.limits = limits
    this.turnMillis = turnMillis
  }

  /** A batch of requests was read. Its calls are started until this turn's time is up. */
  beginTurn(): void {
    this.turnEndsAt = performance.now() + this.turnMillis
    this.startedInTurn = 0
    this.looked = false
  }

  /**
   * Whether a call of this connection may start now. If so, it counts as running until `ended`. It goes before waiting
   * calls of other connections only where these were deferred to another turn, and not where they wait for others to
   * end.
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

  /** Puts a call into the queue. Returns false where the queue is full. */
  tryQueue(call: Startable): boolean {
    const { connection } = call
    const spare = this.limits.maxConcurrentCallsPerConnection - connection.running
    // All calls of a connection are in one queue, so that they start in their order.
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

  /** A call that waits will not be started any more. */
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

  /** A call of this connection that was started has ended, or counts no longer. */
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

  /** The connection is paused now. Its waiting calls wait at least until it is not. */
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
   * Whether a further call of a connection is refused that has `size` calls waiting and may run `spare` more. Where a
   * call of another connection is to be refused instead, this does so.
   */
  private isRefused(connection: AdmittedConnection, size: number, spare: number): boolean {
    const { maxConcurrentCalls, maxQueuedCalls, maxQueuedCallsPerConnection } = this.limits
    if (connection.paused) return size - spare >= maxQueuedCallsPerConnection
    const free = maxConcurrentCalls - this.running - this.placed
    // It is only deferred.
    if (size < spare && free > 0) return false
    // Its calls that have a place next to all others' do not count as waiting.
    const placed = Math.min(spare, free + Math.min(size, spare))
    if (size - Math.max(0, placed) >= maxQueuedCallsPerConnection) return true
    return this.unplaced + Math.max(0, -free) >= maxQueuedCalls && !this.displace(size, free < 0)
  }

  /**
   * Refuses a call of the connection with the most waiting calls in favor of a connection with fewer, where no more
   * calls may wait: a few connections that flood the server must not lock out the others. Returns whether it did.
   * `placed` says that a call gives up a place also where its connection's limit is not reached.
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

  /** Whether a connection may give up a call in favor of one that has `size` calls waiting. */
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

  /** Whether fewer calls count as waiting where one of these is refused. */
  private mayGiveUp(calls: WaitingCalls, placed: boolean): boolean {
    if (calls.connection.paused) return false
    return placed || calls.size > this.limits.maxConcurrentCallsPerConnection - calls.connection.running
  }

  /** Counts the waiting calls of a connection, or no longer counts them. */
  private place(connection: AdmittedConnection, calls: WaitingCalls, sign: 1 | -1): void {
    const placed = Math.min(calls.size, this.limits.maxConcurrentCallsPerConnection - connection.running)
    this.placed += sign * placed
    this.unplaced += sign * (calls.size - placed)
  }

  /** The held calls of a connection have a turn again. */
  private release(connection: AdmittedConnection): void {
    const calls = this.held.get(connection)
    if (calls === undefined) return
    this.held.delete(connection)
    this.waiting.set(connection, calls)
  }

  /** Whether no more calls should start in this turn. The first one always may. The clock is not read for each. */
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
    // A connection that has had its turn goes to the end, and this loop meets it again there.
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
