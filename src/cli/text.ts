/**
 * Texts for a terminal: a text from a peer, a name server or a directory must not move the cursor, nor take more than
 * one line. It does not know where texts come from.
 */

const unprintable = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu

const names: ReadonlyMap<string, string> = new Map([["\n", "\\n"], ["\r", "\\r"], ["\t", "\\t"]])

const hex = (character: string, digits: number): string =>
  (character.codePointAt(0) ?? 0).toString(16).padStart(digits, "0")

/**
 * A text as one line, with its control characters spelled out: `\n`, `\u{1b}`. So are characters that only change how
 * others are displayed.
 */
export const printable = (text: string): string =>
  text.replaceAll(unprintable, (character) => names.get(character) ?? `\\u{${hex(character, 2)}}`)

/** A value as one line of JSON that is safe for a terminal. */
export const json = (value: unknown): string =>
  // `undefined` has no JSON form.
  (JSON.stringify(value) ?? "null").replaceAll(
    unprintable,
    (character) => Array.from({ length: character.length }, (_, i) => `\\u${unit(character, i)}`).join("")
  )

const unit = (character: string, index: number): string => character.charCodeAt(index).toString(16).padStart(4, "0")

// An estimate, since terminals differ: it is better to cut a line too early than to have it wrapped.
const wide =
  /[\p{Script=Han}\p{Script=Hangul}\p{Script=Hiragana}\p{Script=Katakana}\p{Extended_Pictographic}\u3000-\u303e\uff01-\uff60]/u
const mark = /\p{M}/u

const widthOf = (character: string): number => {
  if (character < "\u0300") return 1
  if (mark.test(character)) return 0
  return wide.test(character) ? 2 : 1
}

/** How many columns of a terminal a printable text takes. */
export const width = (text: string): number => {
  let columns = 0
  for (const character of text) columns += widthOf(character)
  return columns
}

/** A printable text, cut if it is wider than this many columns. */
export const clip = (text: string, columns: number): string => {
  if (width(text) <= columns) return text
  let clipped = ""
  let left = columns - 1
  for (const character of text) {
    left -= widthOf(character)
    if (left < 0) break
    clipped += character
  }
  return columns < 1 ? "" : `${clipped}…`
}

/** A column of a table. */
export interface Column {
  readonly title: string
  /** Whether its cells are aligned to the right, as numbers are. */
  readonly right?: boolean
  /** Its least width, so that it stays in place while its cells change. */
  readonly min?: number
}

/** A table as lines; the first holds the titles. Cells are made printable. */
export const grid = (
  columns: ReadonlyArray<Column>,
  rows: ReadonlyArray<ReadonlyArray<string>>
): ReadonlyArray<string> => {
  const cells = [columns.map(({ title }) => title), ...rows.map((row) => row.map(printable))]
  const widths = columns.map(({ min = 0 }, i) => cells.reduce((most, row) => Math.max(most, width(row[i] ?? "")), min))
  return cells.map((row) =>
    columns.map(({ right = false }, i) => {
      const cell = row[i] ?? ""
      const space = " ".repeat((widths[i] ?? 0) - width(cell))
      return right ? space + cell : cell + space
    }).join("  ").trimEnd()
  )
}
