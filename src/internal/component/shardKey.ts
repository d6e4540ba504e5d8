/**
 * Shard keys of typed calls: how a method makes them from its payload. It does not know balancers.
 */
import * as Context from "effect/Context"
import { createHash } from "node:crypto"

/** Gives a key, a text to hash, or undefined for no key. */
export type ShardKeyOf<Payload> = (payload: Payload) => bigint | string | undefined

/** The annotation of an Rpc that holds the function. */
export const ShardKey: Context.Reference<ShardKeyOf<never> | undefined> = Context.Reference<
  ShardKeyOf<never> | undefined
>("effect-call/Component/ShardKey", { defaultValue: () => undefined })

/** The u64 for a text: the first 8 bytes of its SHA-256, little-endian. It is the same in every process and version. */
export const hashKey = (text: string): bigint => createHash("sha256").update(text, "utf8").digest().readBigUInt64LE(0)
