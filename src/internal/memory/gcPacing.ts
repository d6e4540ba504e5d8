/**
 * Keeps fresh buffers from causing full collections.
 *
 * The bytes of a buffer lie outside of V8's heap. When some 20 MB of them have been made since the last collection
 * (more where the heap is large), V8 starts a full one, which takes the longer the more the application has in its
 * heap. Most of these buffers are dead by then, and a collection of the young generation, which takes a millisecond or
 * two whatever else there is, would have let go of them. But that comes only when the young generation is full, and a
 * call with a payload of some kilobytes leaves far fewer bytes there than outside. So it is made to fill up at the pace
 * at which buffers are made, with arrays that nobody needs.
 *
 * What it buys is in test/benchmark/README.md: at 64 callers with 4 KiB each, three times the calls per second; and how
 * much the application has in its heap hardly matters any more. Nothing depends on it: where V8 behaves otherwise, it
 * costs the making of the arrays, some 0.1 µs for a KiB.
 */
import { getHeapSpaceStatistics } from "node:v8"

/** A young generation of so many bytes fills up in time with a byte in it for each byte of a fresh buffer. */
const timelySize = 25_165_824
/** Less of it lets full collections through again; more costs more than they do. */
const leastShare = 0.75
const mostShare = 2
/**
 * The young generation grows as the application goes on: it is looked at again after so many bytes, which takes 4 µs.
 */
const lookAgainAfter = 67_108_864

/** How much is added at a time. */
const stepSize = 16_384
/** The elements of an array of that size. */
const stepLength = stepSize / 8

/** So many bytes in the young generation for each byte outside. */
let share = leastShare
let due = 0
let untilLook = 0
/** The size of the young generation: more than fills it at once would be for nothing. */
let youngSize = 16_777_216

/** Holds the last array, so that it is not optimized away. */
const filler: { last: ReadonlyArray<undefined> } = { last: [] }

/** Notes that a buffer of so many bytes has been made for one message, and may be dead soon. */
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
 * Notes that a buffer of so many bytes has been made that several messages share: a chunk that was read, a block that
 * copies are cut from. Half of it will do: where messages are so small, those that are alive take no notable part of
 * what may be outside.
 */
export const noteFreshShared = (bytes: number): void => noteFresh(bytes / 2)

const look = (): void => {
  untilLook = lookAgainAfter
  const young = getHeapSpaceStatistics().find(({ space_name }) => space_name === "new_space")
  if (young === undefined) return
  youngSize = young.space_used_size + young.space_available_size
  share = Math.min(Math.max(youngSize / timelySize, leastShare), mostShare)
}
