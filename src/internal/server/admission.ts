/**
 * How many calls a server runs at once, and which wait.
 */

/** A connection that calls come in on. */
export interface AdmittedConnection {
  /** How many of its calls run; counted here. */
  running: number
}

/** A call that can be started when it is its turn. */
export interface Startable {
  readonly connection: AdmittedConnection
  start(): void
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
 * connection in the order in which they came, and the connections in turn.
 *
 * It also puts off what one turn of the event loop should not start any more, so that a large batch from one connection does not keep
 * the others waiting: those calls start in the next turn.
 */
export class Admission {
  private readonly limits: AdmissionLimits
  private readonly turnMillis: number
  private running = 0
  // In the order of their turns, and a call that ends while it waits is out at once.
  private readonly waiting = new Map<AdmittedConnection, Set<Startable>>()
  /** The same, of connections that run as many as one may. */
  private readonly held = new Map<AdmittedConnection, Set<Startable>>()
  private waitingCalls = 0
  private heldCalls = 0
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
  }

  /**
   * Whether a call of this connection may start now; if so it counts as running until `ended`. It goes before those of other connections only
   * where these were put off to another turn, and not where they wait for others to end.
   */
  tryStart(connection: AdmittedConnection): boolean {
    if (this.running + this.waitingCalls >= this.limits.maxConcurrentCalls) return false
    if (connection.running >= this.limits.maxConcurrentCallsPerConnection) return false
    if (this.waitingCalls > 0 && this.waiting.has(connection)) return false
    if (this.turnIsOver()) return false
    this.running++
    connection.running++
    return true
  }

  /** Puts a call in the queue; false where that is full. */
  tryQueue(call: Startable): boolean {
    const { maxConcurrentCalls, maxConcurrentCallsPerConnection, maxQueuedCalls, maxQueuedCallsPerConnection } =
      this.limits
    if (this.running + this.waitingCalls + this.heldCalls >= maxConcurrentCalls + maxQueuedCalls) return false
    const { connection } = call
    // All of a connection's are in one place, so that they start in their order.
    const isHeld = connection.running >= maxConcurrentCallsPerConnection && !this.waiting.has(connection)
    const queue = isHeld ? this.held : this.waiting
    const calls = queue.get(connection)
    // Of those that are only put off, as many as could run do not count.
    const spare = maxConcurrentCallsPerConnection - connection.running
    if ((calls?.size ?? 0) >= spare + maxQueuedCallsPerConnection) return false
    if (calls === undefined) queue.set(connection, new Set([call]))
    else calls.add(call)
    if (isHeld) this.heldCalls++
    else this.waitingCalls++
    if (!isHeld && this.running < maxConcurrentCalls) this.schedule()
    return true
  }

  /** A call that waits will not start any more. */
  leave(call: Startable): void {
    const { connection } = call
    if (this.remove(this.waiting, call)) this.waitingCalls--
    else if (this.remove(this.held, call)) this.heldCalls--
    else return
    if (this.waiting.get(connection)?.size === 0) this.waiting.delete(connection)
    if (this.held.get(connection)?.size === 0) this.held.delete(connection)
  }

  /** A call of this connection that was started has ended. */
  ended(connection: AdmittedConnection): void {
    this.running--
    connection.running--
    if (this.heldCalls > 0) this.release(connection)
    if (this.waitingCalls > 0) this.schedule()
  }

  private remove(queue: Map<AdmittedConnection, Set<Startable>>, call: Startable): boolean {
    return queue.get(call.connection)?.delete(call) ?? false
  }

  /** What is held of a connection has its turn again. */
  private release(connection: AdmittedConnection): void {
    const calls = this.held.get(connection)
    if (calls === undefined) return
    this.held.delete(connection)
    this.waiting.set(connection, calls)
    this.heldCalls -= calls.size
    this.waitingCalls += calls.size
  }

  private hold(connection: AdmittedConnection, calls: Set<Startable>): void {
    this.held.set(connection, calls)
    this.heldCalls += calls.size
    this.waitingCalls -= calls.size
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
    this.beginTurn()
    const { maxConcurrentCalls, maxConcurrentCallsPerConnection } = this.limits
    // Whoever has had its turn comes last, and is met again by this very loop.
    for (const [connection, calls] of this.waiting) {
      if (this.running >= maxConcurrentCalls) return
      if (this.turnIsOver()) return this.schedule()
      this.waiting.delete(connection)
      if (connection.running >= maxConcurrentCallsPerConnection) {
        this.hold(connection, calls)
        continue
      }
      const [call] = calls
      if (call === undefined) continue
      calls.delete(call)
      if (calls.size > 0) this.waiting.set(connection, calls)
      this.waitingCalls--
      this.running++
      connection.running++
      call.start()
    }
  }
}
