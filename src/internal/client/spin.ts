/**
 * Keeps the event loop from sleeping for a while after a call was sent, so that its answer is seen without a wake-up.
 *
 * It must not know calls: its session says whether any is in flight.
 */

export class Spin {
  private readonly millis: number
  private readonly isWanted: () => boolean
  private until = 0
  private isSpinning = false

  /** It spins for `millis` after each {@link start}, while `isWanted`. */
  constructor(millis: number, isWanted: () => boolean) {
    this.millis = millis
    this.isWanted = isWanted
  }

  start(): void {
    this.until = performance.now() + this.millis
    if (this.isSpinning) return
    this.isSpinning = true
    setImmediate(this.turn)
  }

  private readonly turn = (): void => {
    this.isSpinning = this.isWanted() && performance.now() < this.until
    if (this.isSpinning) setImmediate(this.turn)
  }
}
