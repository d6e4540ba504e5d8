/**
 * For how long a test waits for what has to happen by itself, in milliseconds, and for how many turns of the event loop
 * at the least.
 *
 * It is a limit against endless waits, not a measure: it makes a test say what it waits for before the runner ends it.
 * On a busy machine, what takes a moment may take seconds, and a few turns may take all of the time.
 */
export const patience = 30_000

/** Of someone who waits and looks at each turn of the event loop: gives whether that was long enough. */
export const makePatience = (millis = patience, fewestTurns = 100): () => boolean => {
  const end = performance.now() + millis
  let turns = 0
  return () => ++turns > fewestTurns && performance.now() > end
}
