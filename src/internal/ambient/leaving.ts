/**
 * How a handler knows that its server goes away. Both `Server` and what answers handlers use it.
 *
 * It must not know a server: each puts its own into the context of its handlers.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { isInstance } from "../userError.ts"

/** Ends when the server begins to stop in whose handler it runs. Outside of handlers it never ends. */
export const Leaving: Context.Reference<Effect.Effect<void>> = Context.Reference<Effect.Effect<void>>(
  "effect-call/Server/Leaving",
  { defaultValue: () => Effect.never }
)

/**
 * The defect of a stream that has ended since its server leaves. As a defect it passes through handlers whose errors
 * have types. Its caller hears of it, and it is not logged.
 */
export class Left extends Error {
  override readonly name = "leaving"
  constructor() {
    super("the server leaves")
  }
}

/** Whether a defect is that. It does not throw, whatever the value. */
export const isLeft = (defect: unknown): boolean => isInstance(defect, Left)
