/** Whether an excerpt stands in its program, and whether a program prints what its page shows. */

const withoutEmpty = (lines: ReadonlyArray<string>): ReadonlyArray<string> =>
  lines.map((line) => line.trimEnd()).filter((line) => line !== "")

/**
 * The first of the wanted lines that is not where it should be: the lines between two lines that skip must follow each
 * other, and the parts must come in their order. `matching` says how many lines of a part stand at a place.
 */
const firstMissing = (
  wanted: ReadonlyArray<string>,
  skips: (line: string) => boolean,
  places: number,
  matching: (part: ReadonlyArray<string>, place: number) => number
): string | undefined => {
  const parts: Array<Array<string>> = [[]]
  for (const line of withoutEmpty(wanted)) {
    if (skips(line)) parts.push([])
    else parts.at(-1)?.push(line)
  }
  if (parts.every((part) => part.length === 0)) return "it is empty"
  let from = 0
  for (const part of parts) {
    let longest = 0
    let found = part.length === 0 ? from : -1
    for (let place = from; place < places && found < 0; place++) {
      const count = matching(part, place)
      if (count === part.length) found = place
      longest = Math.max(longest, count)
    }
    if (found < 0) return part[longest]
    from = found + part.length
  }
  return undefined
}

/** By how much a line is indented less in an excerpt than in its program; undefined if they are not the same line. */
const indentation = (excerpt: string, line: string): number | undefined =>
  line.endsWith(excerpt) && line.slice(0, line.length - excerpt.length).trim() === ""
    ? line.length - excerpt.length
    : undefined

/**
 * The first line of an excerpt that is not in the program where it should be. A line "// ..." skips lines. The lines of
 * a part may be indented by the same number of spaces less than in the program. Empty lines don't count.
 */
export const excerptProblem = (excerpt: ReadonlyArray<string>, program: ReadonlyArray<string>): string | undefined => {
  const lines = withoutEmpty(program)
  return firstMissing(excerpt, (line) => line.trim() === "// ...", lines.length, (part, place) => {
    const indent = indentation(part[0] ?? "", lines[place] ?? "")
    if (indent === undefined) return 0
    const differs = part.findIndex((line, at) => indentation(line, lines[place + at] ?? "") !== indent)
    return differs < 0 ? part.length : differs
  })
}

/** Whether a line was printed as a page shows it: "…" stands for anything. */
const isLike = (shown: string, printed: string): boolean => {
  const pieces = shown.split("…").map((piece) => piece.replaceAll(/[\\^$.*+?()[\]{}|]/g, String.raw`\$&`))
  return new RegExp(`^${pieces.join(".*")}$`).test(printed)
}

/** What a program printed, line by line, without colours and empty lines. */
export const printedLines = (output: string): ReadonlyArray<string> =>
  // eslint-disable-next-line no-control-regex -- the sequences that set colours
  withoutEmpty(output.replaceAll(/\u001B\[[\d;]*m/g, "").split(/\r?\n/))

/**
 * The first line that a page shows but the program did not print there. A page may show a part of the output. A line of
 * only "…" stands for any number of lines.
 */
export const outputProblem = (shown: ReadonlyArray<string>, printed: ReadonlyArray<string>): string | undefined =>
  firstMissing(shown, (line) => line.trim() === "…", printed.length, (part, place) => {
    const differs = part.findIndex((line, at) => !isLike(line, printed[place + at] ?? ""))
    return differs < 0 ? part.length : differs
  })

/** The lines of logged warnings and errors that no page shows. */
export const unexplained = (
  printed: ReadonlyArray<string>,
  shown: ReadonlyArray<string>
): ReadonlyArray<string> =>
  printed.filter((line) =>
    /\b(WARN|ERROR|FATAL)\b/.test(line) &&
    !shown.some((explained) => /\b(WARN|ERROR|FATAL)\b/.test(explained) && isLike(explained, line))
  )
