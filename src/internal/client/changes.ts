/**
 * Something that changes, and those who wait for it to.
 */
import * as Effect from "effect/Effect"

export class Changes {
  /** How often it has changed. */
  count = 0
  private waiters = new Set<() => void>()
  private isWaking = false

  /** It has changed: those who wait go on at once. */
  note(): void {
    this.count++
    this.wake()
  }

  /** It has changed, in the middle of something: those who wait, who may do anything, go on after that, once for all that changes by then. */
  noteForLater(): void {
    this.count++
    if (this.waiters.size === 0 || this.isWaking) return
    this.isWaking = true
    queueMicrotask(() => {
      this.isWaking = false
      this.wake()
    })
  }

  /** Ends when it has changed more often than `seen` says. */
  after(seen: number): Effect.Effect<void> {
    return Effect.callback<void>((resume) => {
      if (this.count !== seen) return resume(Effect.void)
      const wake = () => resume(Effect.void)
      this.waiters.add(wake)
      return Effect.sync(() => this.waiters.delete(wake))
    })
  }

  private wake(): void {
    const waiters = this.waiters
    this.waiters = new Set()
    for (const wake of waiters) wake()
  }
}
