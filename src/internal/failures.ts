/**
 * Formats the failures of several endpoints as one text for error messages. It does not know what failed.
 */

/** At most this many failures are named: a text with a thousand failures would be useless. */
const mostNamed = 20

export const listFailures = (
  failures: ReadonlyArray<{ readonly endpoint: string; readonly message: string }>
): string => {
  const named = failures.slice(0, mostNamed).map(({ endpoint, message }) => `${endpoint}: ${message}`).join("; ")
  const more = failures.length - mostNamed
  return more > 0 ? `${named}; and ${more} more` : named
}
