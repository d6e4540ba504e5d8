/**
 * What leaves in turns. Types only.
 */

/** Something that leaves in pieces, each in its turn: the items of a stream, or a large message in parts. */
export interface Cut {
  /** Queues about `quantum` bytes at most. Returns whether it has more that could leave now. */
  cut(quantum: number): boolean
}
