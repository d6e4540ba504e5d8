/**
 * How many calls a server runs at once, and which wait.
 */

/** A call that can be started when it is its turn. */
export interface Startable {
  start(): void
}

/**
 * Lets calls start, up to a number of them; further ones wait in the order in which they came, up to another number.
 *
 * It also puts off what one turn of the event loop should not start any more, so that a large batch from one connection does not keep
 * the others waiting: those calls start in the next turn.
 */
export class Admission {
  private readonly maxRunning: number
  private readonly maxWaiting: number
  private readonly turnMillis: number
  private running = 0
  // In insertion order, and a call that ends while it waits is out at once.
  private readonly waiting = new Set<Startable>()
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

  /** Whether a call may start now; if so it counts as running until `ended`. */
  tryStart(): boolean {
    if (this.running >= this.maxRunning || this.waiting.size > 0 || this.turnIsOver()) return false
    this.running++
    return true
  }

  /** Puts a call in the queue; false where that is full. */
  tryQueue(call: Startable): boolean {
    if (this.running + this.waiting.size >= this.maxRunning + this.maxWaiting) return false
    this.waiting.add(call)
    if (this.running < this.maxRunning) this.schedule()
    return true
  }

  /** A call that waits will not start any more. */
  leave(call: Startable): void {
    this.waiting.delete(call)
  }

  /** A call that was started has ended. */
  ended(): void {
    this.running--
    if (this.waiting.size > 0) this.schedule()
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
    for (const call of this.waiting) {
      if (this.running >= this.maxRunning) return
      if (this.turnIsOver()) return this.schedule()
      this.waiting.delete(call)
      this.running++
      call.start()
    }
  }
}
