/**
 * Paced garbage collection: keeps new buffers from causing full garbage collections. It does not know what the buffers
 * are for.
 *
 * The bytes of a buffer lie outside V8's heap. When some 20 MB of them have been made since the last collection (more
 * if the heap is large), V8 starts a full collection. The larger the application's heap is, the longer that takes. Most
 * of these buffers are dead by then, and a collection of the young generation would have freed them in a millisecond or
 * two. But that collection starts only when the young generation is full, and a call with a payload of some kilobytes
 * allocates far fewer bytes there than outside. So this module fills the young generation with unneeded arrays, at the
 * pace at which buffers are made.
 *
 * test/benchmark/README.md has the gain: with 64 callers and 4 KiB each, three times the calls per second, whatever the
 * size of the application's heap. Correctness does not depend on it: if another V8 behaves differently, the only cost
 * is the arrays, some 0.1 µs per KiB.
 */
import { getHeapSpaceStatistics } from "node:v8"

/**
 * A young generation of this many bytes fills up in time if each byte of a new buffer adds one byte to it.
 */
const timelySize = 25_165_824
/** With a smaller share, full collections happen again. A larger share costs more than they do. */
const leastShare = 0.75
const mostShare = 2
/**
 * The young generation grows while the application runs: its size is read again after this many bytes, which takes 4
 * µs.
 */
const lookAgainAfter = 67_108_864

/** The bytes of one array. */
const stepSize = 16_384
/** The elements of one array. */
const stepLength = stepSize / 8

/** The bytes to add to the young generation for each byte of a buffer. */
let share = leastShare
let due = 0
let untilLook = 0
/** The size of the young generation: one message never adds more than that. */
let youngSize = 16_777_216

/** Holds the last array, so that it is not optimized away. */
const filler: { last: ReadonlyArray<undefined> } = { last: [] }

/** Notes that a buffer of this many bytes was made for one message, and may be dead soon. */
export const noteFresh = (bytes: number): void => {
  due = Math.min(due + bytes * share, youngSize)
  while (due >= stepSize) {
    due -= stepSize
    untilLook -= stepSize
    if (untilLook < 0) look()
    filler.last = new Array<undefined>(stepLength)
  }
}

/**
 * Notes that a buffer of this many bytes was made that several messages share: a chunk that was read, or a block for
 * copies. Only half of its bytes are counted: such messages are small, so the living ones take little of the memory
 * outside the heap.
 */
export const noteFreshShared = (bytes: number): void => noteFresh(bytes / 2)

const look = (): void => {
  untilLook = lookAgainAfter
  const young = getHeapSpaceStatistics().find(({ space_name }) => space_name === "new_space")
  if (young === undefined) return
  youngSize = young.space_used_size + young.space_available_size
  share = Math.min(Math.max(youngSize / timelySize, leastShare), mostShare)
}
