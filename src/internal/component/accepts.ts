/**
 * Methods that take items from their client: the annotation that says so, and the items of the call that runs.
 *
 * It does not know how items come.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type { Rpc } from "effect/rpc"
import type * as Schema from "effect/Schema"
import type * as Stream from "effect/Stream"

/** What an Rpc accepts. Its identity stands for the method, also where the Rpc gets middleware or a prefix later. */
export interface Accepted {
  /** The schema of the items. */
  readonly schema: Schema.Top
  /** The payload that the Rpc had, which has the mark for the compiler. */
  readonly payload: Schema.Top
}

/** The annotation of an Rpc that takes items. */
export const Accepts: Context.Reference<Accepted | undefined> = Context.Reference<Accepted | undefined>(
  "effect-call/Component/Accepts",
  { defaultValue: () => undefined }
)

/** The items of a call, for its handler. */
export interface CallItems {
  readonly accepted: Accepted
  readonly items: Stream.Stream<unknown>
}

/** The items of the call that runs. */
export const CurrentItems: Context.Reference<CallItems | undefined> = Context.Reference<CallItems | undefined>(
  "effect-call/Component/CurrentItems",
  { defaultValue: () => undefined }
)

/** The items of the call of `rpc` whose handler runs this; a defect elsewhere. */
export const itemsOf = (rpc: Rpc.Any): Effect.Effect<Stream.Stream<unknown>> =>
  Effect.flatMap(Effect.service(CurrentItems), (current) => {
    const accepted = Context.get(rpc.annotations, Accepts)
    if (accepted === undefined) {
      return Effect.die(new TypeError(`${rpc._tag} does not accept items: use Component.accepts`))
    }
    return current === undefined || current.accepted !== accepted
      ? Effect.die(
        new TypeError(`the items of ${rpc._tag} exist only in its handler, while a client of a Component calls it`)
      )
      : Effect.succeed(current.items)
  })
