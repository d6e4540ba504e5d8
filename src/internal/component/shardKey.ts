/**
 * Shard keys of typed calls: what a method makes of its payload.
 */
import * as Context from "effect/Context"
import { createHash } from "node:crypto"

/** A key of its own, a text that one is made of, or none. */
export type ShardKeyOf<Payload> = (payload: Payload) => bigint | string | undefined

/** The annotation of an Rpc. */
export const ShardKey: Context.Reference<ShardKeyOf<never> | undefined> = Context.Reference<
  ShardKeyOf<never> | undefined
>("effect-call/Component/ShardKey", { defaultValue: () => undefined })

/** The u64 that a text stands for: the first eight bytes of its SHA-256, little-endian. The same for every process and version. */
export const hashKey = (text: string): bigint => createHash("sha256").update(text, "utf8").digest().readBigUInt64LE(0)
