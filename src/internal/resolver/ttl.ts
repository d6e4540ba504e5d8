/**
 * How long answers of DNS are valid, which Effect's `Dns` does not tell. It does not ask DNS.
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { effectOf } from "../guard.ts"

/** The types of records that are asked for. */
export type RecordType = "A" | "AAAA" | "SRV"

/** The time to live of the last answer to a question; `None` if it is not known. */
export type TimeToLive = (name: string, type: RecordType) => Effect.Effect<Option.Option<Duration.Duration>>

/**
 * The time to live of the last answer of DNS to a question, for `Resolver.dns` and `Resolver.dnsSrv`: a function of the
 * name and the type of its records. It gives `None` if the time is not known.
 *
 * **When to use**
 *
 * `Resolver.layerDns` provides it for A and AAAA records. Provide it yourself together with a `Dns` of your own.
 *
 * **Details**
 *
 * Effect's `Dns` does not tell the time to live. The resolvers ask this right after they have asked `Dns`. Default: it
 * is not known, and an answer is valid for 5 seconds.
 *
 * @category services
 * @since 0.1.0
 */
export const DnsTimeToLive: Context.Reference<
  (name: string, type: "A" | "AAAA" | "SRV") => Effect.Effect<Option.Option<Duration.Duration>>
> = Context.Reference<TimeToLive>(
  "effect-call/Resolver/DnsTimeToLive",
  { defaultValue: () => () => Effect.succeed(Option.none()) }
)

/** The default TTL: how long an answer is valid if its TTL is not known. */
export const defaultTtlMillis = 5000

export const ttlOf = (timeToLive: TimeToLive, name: string, type: RecordType): Effect.Effect<number> =>
  Effect.map(
    effectOf("the time to live of DNS", () => timeToLive(name, type)),
    (found) => Option.isSome(found) ? Duration.toMillis(found.value) : defaultTtlMillis
  )
