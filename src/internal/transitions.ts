/**
 * How the state machines of this library check that a state may follow another.
 *
 * It knows no machine: each has its own states, its own table of what follows what, and one method that changes them.
 */

/** Which states may follow each state. */
export type Transitions<State extends string> = { readonly [S in State]: ReadonlyArray<State> }

/**
 * Throws where `to` may not follow `from`: that is a bug of ours. `machine` is the subject of the error's text, as in
 * "the drain of a connection".
 */
export const checkTransition = <State extends string>(
  machine: string,
  allowed: Transitions<State>,
  from: State,
  to: State
): void => {
  const expected = allowed[from]
  if (expected.includes(to)) return
  const states = expected.length === 0 ? "no other state" : expected.join(" or ")
  throw new Error(`${machine} cannot go from ${from} to ${to}, expected ${states}`)
}
