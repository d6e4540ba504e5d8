/**
 * Writes the failures of several endpoints as one text, for error messages.
 */

/** At most this many failures are named: a text about a thousand endpoints would not be read. */
const mostNamed = 20

export const listFailures = (
  failures: ReadonlyArray<{ readonly endpoint: string; readonly message: string }>
): string => {
  const named = failures.slice(0, mostNamed).map(({ endpoint, message }) => `${endpoint}: ${message}`).join("; ")
  const more = failures.length - mostNamed
  return more > 0 ? `${named}; and ${more} more` : named
}
