/**
 * The latest value of something that changes, its version, and the fibers that wait for a newer one.
 *
 * Effect's own modules do not fit here: a `SubscriptionRef` can only be set by an effect, and a `Latch` resumes its
 * waiters in a later turn. Most of the watched values change in plain code, and their waiters continue at once.
 *
 * It does not know what the value is.
 */
import * as Effect from "effect/Effect"

/** A waiter: it waits for a newer value. */
interface Waiter<A, E> {
  /** Whether the waiter wants this value. Default: it wants every value. It must not throw. */
  readonly isNews?: ((value: A) => boolean) | undefined
  /** Ends the wait, at once. */
  readonly resume: (answer: Effect.Effect<A, E>) => void
}

/**
 * A value that changes, and its waiters. A waiter gets the next value, or an error of type `E`. Until the first value
 * is set, the value has the type `Initial`.
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

  /** The number of waiters. */
  get waiting(): number {
    return this.waiters.size
  }

  /** Sets the value. Its waiters continue at once. */
  set(value: A): void {
    this.current = value
    this.changes++
    this.resumeWaiters(value)
  }

  /**
   * Sets the value during a change of state. Waiters run user code, so they continue after the change: in a microtask,
   * once for all values that were set before it.
   */
  setAndResumeLater(value: A): void {
    this.current = value
    this.changes++
    if (this.waiters.size === 0 || this.isResumeQueued) return
    this.isResumeQueued = true
    queueMicrotask(() => {
      this.isResumeQueued = false
      // It is not the initial value: a value has been set above.
      this.resumeWaiters(this.current as A)
    })
  }

  /** Resumes all present waiters with this answer. The value and its version stay. */
  tell(answer: Effect.Effect<A, E>): void {
    for (const waiter of [...this.waiters]) this.resume(waiter, answer)
  }

  /** Adds a waiter, which is resumed once. The returned function removes it. */
  join(waiter: Waiter<A, E>): () => void {
    this.waiters.add(waiter)
    return () => void this.waiters.delete(waiter)
  }

  /** Waits for the next value, or for the next answer of {@link tell}. */
  readonly next: Effect.Effect<A, E> = Effect.callback<A, E>((resume) => {
    const leave = this.join({ resume })
    return Effect.sync(leave)
  })

  /** The value, if `version` is no longer its version. Otherwise it waits for the next value. */
  after(version: number): Effect.Effect<A | Initial, E> {
    // In one step: a value that is set between the check and the wait would be missed.
    return Effect.callback<A | Initial, E>((resume) => {
      if (this.changes !== version) return resume(Effect.succeed(this.current))
      const leave = this.join({ resume })
      return Effect.sync(leave)
    })
  }

  private resumeWaiters(value: A): void {
    if (this.waiters.size === 0) return
    const answer = Effect.succeed(value)
    // Waiters that are added meanwhile have seen this value.
    for (const waiter of [...this.waiters]) {
      if (waiter.isNews === undefined || waiter.isNews(value)) this.resume(waiter, answer)
    }
  }

  private resume(waiter: Waiter<A, E>, answer: Effect.Effect<A, E>): void {
    // A waiter that was resumed before may have removed it.
    if (this.waiters.delete(waiter)) waiter.resume(answer)
  }
}
