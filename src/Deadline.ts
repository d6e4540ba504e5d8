/**
 * How long the result of some work is of use: a time limit that travels with calls.
 *
 * There is no time limit unless one is set, here or as the `timeout` of a call. A deadline belongs to a piece of work,
 * not to a single call: {@link within} sets it. Everything inside ends at the deadline, including calls over any number
 * of connections. It is sent with each call: the handler has the time that its caller had left, and so have the calls
 * of that handler. Each step can only make the deadline earlier, never later. Work that must outlive it starts with
 * {@link none}.
 *
 * Time comes from Effect's `Clock`, so `TestClock` drives deadlines, too. This module does not know how a deadline is
 * sent.
 *
 * @module
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { dual } from "effect/Function"
import * as Option from "effect/Option"
import { DeadlineExceeded } from "./CallError.ts"
import { Current, remainingMillis } from "./internal/ambient/deadline.ts"
import { shown } from "./internal/guard.ts"
import { nowMillis, sleepMillis } from "./internal/time/clock.ts"

const isOver = (own: Duration.Duration, inherited: boolean): DeadlineExceeded =>
  new DeadlineExceeded({
    message: inherited
      ? "deadline exceeded: the inherited deadline had passed before the work began"
      : `deadline exceeded: a deadline of ${Duration.format(own)} is over before the work begins`
  })

const hasPassed = (own: Duration.Duration, inherited: boolean): DeadlineExceeded =>
  new DeadlineExceeded({
    message: inherited
      ? `deadline exceeded: the inherited deadline passed (it was no later than the ${Duration.format(own)} given here)`
      : `deadline exceeded: ${Duration.format(own)} passed`
  })

/**
 * Runs an effect under a deadline: the earlier of `duration` from now and the deadline that is already set.
 *
 * **When to use**
 *
 * Use it for work of several calls, and for schemas and middleware that take their time. For a single call, its
 * `timeout` is enough. Prefer both to `Effect.timeout`, which ends calls but does not tell their servers how much time
 * they have.
 *
 * **Details**
 *
 * If the deadline passes first, the effect is interrupted, whether or not it was waiting for a call. When its
 * finalizers have run, the result is a `DeadlineExceeded`. If no time is left (a duration of zero or less, or a
 * deadline that has passed), the effect is not started. An infinite duration sets no deadline of its own. What is no
 * duration is a defect, a `RangeError`.
 *
 * **Example** (One deadline for several calls)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { type Connection, Deadline, MethodKey } from "effect-call"
 *
 * const get = MethodKey.make("example/Cart", "get")
 * const price = MethodKey.make("example/Price", "price")
 *
 * // Half a second for both; the second call gets what the first one has left of it.
 * const total = (connection: Connection.Connection, user: Uint8Array) =>
 *   connection.call(get, user).pipe(
 *     Effect.flatMap((cart) => connection.call(price, cart)),
 *     Deadline.within("500 millis")
 *   )
 * ```
 *
 * Source: `context.WithTimeout`, as callers of the Go package use it.
 *
 * @see {@link none} for work that must go on after the deadline
 * @category combinators
 * @since 0.1.0
 */
export const within: {
  (duration: Duration.Input): <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E | DeadlineExceeded, R>
  <A, E, R>(self: Effect.Effect<A, E, R>, duration: Duration.Input): Effect.Effect<A, E | DeadlineExceeded, R>
} = dual(
  2,
  <A, E, R>(self: Effect.Effect<A, E, R>, duration: Duration.Input): Effect.Effect<A, E | DeadlineExceeded, R> =>
    Effect.withFiber<A, E | DeadlineExceeded, R>((fiber) => {
      const parsed = Duration.fromInput(duration)
      if (Option.isNone(parsed)) {
        return Effect.die(new RangeError(`Deadline.within: expected a duration, got ${shown(duration)}`))
      }
      const own = parsed.value
      const ownMillis = Duration.toMillis(own)
      const ambient = fiber.getRef(Current)
      const ambientMillis = ambient === undefined ? Infinity : remainingMillis(ambient)
      const inherited = ambient !== undefined && ambientMillis <= ownMillis
      const millis = inherited ? ambientMillis : ownMillis
      if (millis <= 0) return Effect.fail(isOver(own, inherited))
      if (millis === Infinity) return self
      const clock = fiber.getRef(Clock.Clock)
      const deadline = inherited ? ambient : { at: nowMillis(clock) + millis, clock }
      return Effect.raceFirst(
        Effect.provideService(self, Current, deadline),
        Effect.flatMap(sleepMillis(deadline.clock, millis), () => Effect.fail(hasPassed(own, inherited)))
      )
    })
)

/**
 * Runs an effect without the deadline around it: its calls have only the deadlines that are set inside.
 *
 * **When to use**
 *
 * Use it for work that goes on after the call that started it.
 *
 * **Gotchas**
 *
 * It hides the deadline; it does not keep the fiber alive. A {@link within} around the effect still interrupts the
 * fiber, so fork such work, too.
 *
 * **Example** (Work that outlives the call)
 *
 * ```ts
 * import { Effect, type Scope } from "effect"
 * import { Deadline } from "effect-call"
 *
 * const handler = (refreshCache: Effect.Effect<void>, server: Scope.Scope) =>
 *   Effect.as(Effect.forkIn(Deadline.none(refreshCache), server), new Uint8Array(0))
 * ```
 *
 * @category combinators
 * @since 0.1.0
 */
export const none: <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R> = Effect.provideService(
  Current,
  undefined
)

/**
 * The time that is left until the deadline: `None` without a deadline, zero after the deadline has passed.
 *
 * **When to use**
 *
 * Use it in a handler to leave out work that would not end in time, or to give the calls that it makes less time than
 * it has itself.
 *
 * **Example** (Leaving out a part for which no time is left)
 *
 * ```ts
 * import { Duration, Effect, Option } from "effect"
 * import { Deadline } from "effect-call"
 *
 * const withRecommendations = <A>(page: A, more: (page: A) => Effect.Effect<A>) =>
 *   Effect.flatMap(Deadline.remaining, (left) =>
 *     Option.isSome(left) && Duration.toMillis(left.value) < 50 ? Effect.succeed(page) : more(page))
 * ```
 *
 * @category accessors
 * @since 0.1.0
 */
export const remaining: Effect.Effect<Option.Option<Duration.Duration>> = Effect.withFiber((fiber) => {
  const deadline = fiber.getRef(Current)
  return Effect.succeed(
    deadline === undefined ? Option.none() : Option.some(Duration.millis(Math.max(0, remainingMillis(deadline))))
  )
})
