/**
 * The deadline that the running fiber is under, as the client, the server and `Deadline` share it.
 *
 * It is a value: this module must not know what happens when a deadline passes.
 */
import type * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import { nowMillis } from "../time/clock.ts"

/**
 * A deadline: the moment `at`, as {@link nowMillis} of `clock` reads it. It has its clock with it, so it means the same
 * moment everywhere, also under another `Clock`.
 */
export interface Value {
  readonly at: number
  readonly clock: Clock.Clock
}

/**
 * The ambient deadline; forked fibers inherit it, as they do every service.
 */
export const Current: Context.Reference<Value | undefined> = Context.Reference<Value | undefined>(
  "effect-call/Deadline/Current",
  { defaultValue: () => undefined }
)

/**
 * What is left until the deadline in milliseconds; zero or less once it has passed.
 */
export const remainingMillis = (value: Value): number => value.at - nowMillis(value.clock)
