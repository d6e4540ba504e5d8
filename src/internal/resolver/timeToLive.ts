/**
 * For how long what DNS has answered is good. Effect's `Dns` does not say.
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"

/** How long the last answer to a question is good; none where that is not known. */
export type TimeToLive = (name: string, type: "A" | "AAAA" | "SRV") => Effect.Effect<Option.Option<Duration.Duration>>

export const DnsTimeToLive: Context.Reference<TimeToLive> = Context.Reference<TimeToLive>(
  "effect-call/Resolver/DnsTimeToLive",
  { defaultValue: () => () => Effect.succeed(Option.none()) }
)
