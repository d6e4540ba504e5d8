/**
 * The latest value of something that changes, its version, and the fibers that wait for a newer one.
 *
 * Effect's own modules do not fit here: a `SubscriptionRef` can only be set by an effect, and a `Latch` resumes its
 * waiters in a later turn. Most of what is watched changes in plain code, and its waiters go on at once.
 *
 * It knows nothing of what the value is.
 */
import * as Effect from "effect/Effect"

/** Someone who waits for a newer value. */
interface Waiter<A, E> {
  /** Whether the waiter wants this value. Default: it wants each. It must not throw. */
  readonly isNews?: ((value: A) => boolean) | undefined
  /** Ends the wait, at once. */
  readonly resume: (answer: Effect.Effect<A, E>) => void
}

/**
 * A value that changes, and those who wait for it to. `E` is what they can be told in place of a value, and `Initial`
 * is there until the first value is set.
 */
export class Latest<A, E = never, Initial = A> {
  private current: A | Initial
  private changes = 0
  private readonly waiters = new Set<Waiter<A, E>>()
  /** Whether a microtask will resume the waiters. */
  private isResumeQueued = false

  constructor(initial: Initial) {
    this.current = initial
  }

  get value(): A | Initial {
    return this.current
  }

  /** How often a value has been set. */
  get version(): number {
    return this.changes
  }

  /** How many wait. */
  get waiting(): number {
    return this.waiters.size
  }

  /** Sets the value. Those who wait for it go on at once. */
  set(value: A): void {
    this.current = value
    this.changes++
    this.resumeWaiters(value)
  }

  /**
   * Sets the value in the middle of something. Waiters can do anything, so they go on after it: in a microtask, and
   * once for all values that are set before that.
   */
  setAndResumeLater(value: A): void {
    this.current = value
    this.changes++
    if (this.waiters.size === 0 || this.isResumeQueued) return
    this.isResumeQueued = true
    queueMicrotask(() => {
      this.isResumeQueued = false
      // Not the initial value: one has been set above.
      this.resumeWaiters(this.current as A)
    })
  }

  /** Ends the wait of all who wait now with this answer. The value and its version stay. */
  tell(answer: Effect.Effect<A, E>): void {
    for (const waiter of [...this.waiters]) this.resume(waiter, answer)
  }

  /** Adds a waiter, which is resumed once. The result removes it. */
  join(waiter: Waiter<A, E>): () => void {
    this.waiters.add(waiter)
    return () => void this.waiters.delete(waiter)
  }

  /** Waits for the next value, or for what {@link tell} tells. */
  readonly next: Effect.Effect<A, E> = Effect.callback<A, E>((resume) => {
    const leave = this.join({ resume })
    return Effect.sync(leave)
  })

  /** The value, where `version` is not its version any more. Else it waits for the next one. */
  after(version: number): Effect.Effect<A | Initial, E> {
    // In one step: a value that is set between a look and the wait would be missed.
    return Effect.callback<A | Initial, E>((resume) => {
      if (this.changes !== version) return resume(Effect.succeed(this.current))
      const leave = this.join({ resume })
      return Effect.sync(leave)
    })
  }

  private resumeWaiters(value: A): void {
    if (this.waiters.size === 0) return
    const answer = Effect.succeed(value)
    // Those who begin to wait meanwhile have seen this value.
    for (const waiter of [...this.waiters]) {
      if (waiter.isNews === undefined || waiter.isNews(value)) this.resume(waiter, answer)
    }
  }

  private resume(waiter: Waiter<A, E>, answer: Effect.Effect<A, E>): void {
    // One that was resumed before may have removed it.
    if (this.waiters.delete(waiter)) waiter.resume(answer)
  }
}
