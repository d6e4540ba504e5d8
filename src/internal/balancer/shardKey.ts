/**
 * Checks shard keys, which must be u64 numbers, and maps them to shards. It knows no balancer.
 */

/** The largest shard key. */
export const maxShardKey = 2n ** 64n - 1n

/** Whether a key is a u64. Code without types may give any value. */
export const isShardKey = (key: bigint): boolean => typeof key === "bigint" && BigInt.asUintN(64, key) === key

/** The error text for a key outside u64. */
export const notAShardKey = (shardKey: bigint): string =>
  `shard key ${String(shardKey)} is out of range: a shard key is a u64, from 0 to ${maxShardKey}`

/**
 * `key` mod `count` for a u64, -1 for any other key. Most keys are small, and are handled as numbers: a key that rounds
 * to a safe integer is that integer. To compare and divide bigints costs several times as much.
 */
export const shardOf = (key: bigint, count: number): number => {
  const small = Number(key)
  if (small >= 0 && small <= Number.MAX_SAFE_INTEGER) return small % count
  return key >= 0n && key <= maxShardKey ? Number(key % BigInt(count)) : -1
}
