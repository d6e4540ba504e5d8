/**
 * The deadline of a call, from its timeout and the deadline that its fiber is under.
 *
 * It is on the hot path of each call that has one. It must not know what happens when a deadline passes.
 */
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import { invalid } from "../options.ts"
import { remainingMillis, type Value as Deadline } from "./deadline.ts"

/** Reads timeouts. Nearly always a timeout is the text that the last one was: to parse it took a third of a call. */
export class Timeouts {
  private readonly clock: Clock.Clock
  private lastText: string | undefined = undefined
  private lastMillis = 0

  constructor(clock: Clock.Clock) {
    this.clock = clock
  }

  /** When the time of a call is up that begins `now`, in milliseconds of the clock; Infinity for never. */
  deadlineAt(ambient: Deadline | undefined, timeout: Duration.Input | undefined, now: number): number {
    let deadlineAt = Infinity
    if (ambient !== undefined) {
      deadlineAt = ambient.clock === this.clock ? ambient.at : now + remainingMillis(ambient)
    }
    return timeout === undefined ? deadlineAt : Math.min(deadlineAt, now + this.millisOf(timeout))
  }

  private millisOf(timeout: Duration.Input): number {
    if (timeout === this.lastText) return this.lastMillis
    const parsed = Duration.fromInput(timeout)
    if (parsed._tag === "None" || Number.isNaN(timeout)) return invalid("timeout", timeout, "a duration")
    const millis = Duration.toMillis(parsed.value)
    if (typeof timeout === "string") {
      this.lastText = timeout
      this.lastMillis = millis
    }
    return millis
  }
}
