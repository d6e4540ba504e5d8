/**
 * Keeps fresh buffers from causing full collections.
 *
 * The bytes of a buffer lie outside of V8's heap. When some 30 MB of them have been made since the last collection, V8 starts a full one, which
 * takes the longer the more the application has in its heap. Most of these buffers are dead by then, and a collection of the young
 * generation, which takes less than a millisecond whatever else there is, would have let go of them. But that comes only when the young
 * generation is full, and a call with a payload of some kilobytes leaves far fewer bytes there than outside. So it is made to fill up at the
 * pace at which buffers are made, with arrays that nobody needs.
 *
 * What it buys is in docs/performance.md: at 64 callers with 4 KiB each, three times the calls per second; and how much the application has
 * in its heap no longer matters. It relies on nothing: where V8 behaves otherwise, it costs the making of the arrays, 1 % of those calls.
 */

/**
 * So many bytes in the young generation for each byte of a buffer that several messages share: a chunk that was read, a block that copies are
 * cut from. With a third there are full collections again.
 */
const sharedShare = 0.5

/** How much is added at a time. */
const stepSize = 16_384
/** The elements of an array of that size. */
const stepLength = stepSize / 8

let due = 0

/** The last one, so that it is not optimized away. */
export let filler: ReadonlyArray<undefined> = []

/** Notes that a buffer of so many bytes has been made that several messages share. */
export const noteFreshShared = (bytes: number): void => noteFresh(bytes * sharedShare)

/**
 * Notes that a buffer of so many bytes has been made for one message, and may be dead soon. It counts in full: where messages are that large,
 * those that are alive take a part of what may be outside.
 */
export const noteFresh = (bytes: number): void => {
  due += bytes
  while (due >= stepSize) {
    due -= stepSize
    filler = new Array<undefined>(stepLength)
  }
}
