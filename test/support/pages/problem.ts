/** What a check of the pages finds. */

/** Something that is wrong on a page. */
export interface Problem {
  readonly page: string
  readonly line: number
  /** What is wrong, and what was expected. */
  readonly message: string
}

/** A problem as one line, which editors make a link of. */
export const show = ({ line, message, page }: Problem): string => `${page}:${line}: ${message}`
