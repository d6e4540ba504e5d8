/**
 * The layout of a message of items: one item after the other, each a `length` u32 and its bytes.
 *
 * If bit 31 of `length` is set, the item goes on in a later message of items of its stream: these bytes are a piece of
 * it. The first piece begins with the length of the whole item, u32. It knows no streams and no credit.
 */

/** The size of the `length` before the bytes of an item or of a piece. */
export const itemPrefix = 4

/** The size of the length of the whole item, at the start of its first piece. */
export const pieceHead = 4

/** Bit 31 of `length`: the item goes on. */
export const goesOn = 0x8000_0000

/** The largest credit that there may be at once, and so the longest item, in bytes: 2^31 - 1. */
export const maxCredit = 0x7fff_ffff
