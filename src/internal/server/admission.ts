/**
 * How many calls a server runs at once, and which wait.
 */

/** A call that can be started when it is its turn. */
export interface Startable {
  /** Stands for the connection that it came in on. */
  readonly connection: object
  start(): void
}

/**
 * Lets calls start, up to a number of them; further ones wait, up to another number: those of one connection in the order in which they
 * came, and the connections in turn.
 *
 * It also puts off what one turn of the event loop should not start any more, so that a large batch from one connection does not keep
 * the others waiting: those calls start in the next turn.
 */
export class Admission {
  private readonly maxRunning: number
  private readonly maxWaiting: number
  private readonly turnMillis: number
  private running = 0
  // In the order of their turns, and a call that ends while it waits is out at once.
  private readonly waiting = new Map<object, Set<Startable>>()
  private waitingCalls = 0
  private turnEndsAt = 0
  private startedInTurn = 0
  private scheduled = false

  constructor(maxRunning: number, maxWaiting: number, turnMillis: number) {
    this.maxRunning = maxRunning
    this.maxWaiting = maxWaiting
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
  tryStart(connection: object): boolean {
    if (this.running + this.waitingCalls >= this.maxRunning) return false
    if (this.waitingCalls > 0 && this.waiting.has(connection)) return false
    if (this.turnIsOver()) return false
    this.running++
    return true
  }

  /** Puts a call in the queue; false where that is full. */
  tryQueue(call: Startable): boolean {
    if (this.running + this.waitingCalls >= this.maxRunning + this.maxWaiting) return false
    const calls = this.waiting.get(call.connection)
    if (calls === undefined) this.waiting.set(call.connection, new Set([call]))
    else calls.add(call)
    this.waitingCalls++
    if (this.running < this.maxRunning) this.schedule()
    return true
  }

  /** A call that waits will not start any more. */
  leave(call: Startable): void {
    const calls = this.waiting.get(call.connection)
    if (calls === undefined || !calls.delete(call)) return
    this.waitingCalls--
    if (calls.size === 0) this.waiting.delete(call.connection)
  }

  /** A call that was started has ended. */
  ended(): void {
    this.running--
    if (this.waitingCalls > 0) this.schedule()
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
    // Whoever has had its turn comes last, and is met again by this very loop.
    for (const [connection, calls] of this.waiting) {
      if (this.running >= this.maxRunning) return
      if (this.turnIsOver()) return this.schedule()
      const [call] = calls
      this.waiting.delete(connection)
      if (call === undefined) continue
      calls.delete(call)
      if (calls.size > 0) this.waiting.set(connection, calls)
      this.waitingCalls--
      this.running++
      call.start()
    }
  }
}
