/**
 * What has happened, line by line in a file: faults, and calls that were not answered. It is what a violation is looked
 * into with.
 */
import { appendFileSync, closeSync, openSync, readSync } from "node:fs"
import { join } from "node:path"

/** So many lines are written together. */
const together = 500

export class Journal {
  private readonly file: string
  private readonly start = performance.now()
  private lines: Array<string> = []

  constructor(directory: string) {
    this.file = join(directory, "journal.jsonl")
    appendFileSync(this.file, "")
  }

  /** Notes something, with the seconds since the start. */
  add(what: string, details: Readonly<Record<string, unknown>>): void {
    this.lines.push(
      JSON.stringify({ seconds: Number(((performance.now() - this.start) / 1000).toFixed(4)), what, ...details })
    )
    if (this.lines.length >= together) this.flush()
  }

  /** The lines about these calls, by their ids. */
  about(ids: ReadonlySet<number>): ReadonlyMap<number, ReadonlyArray<string>> {
    this.flush()
    const found = new Map<number, Array<string>>()
    for (const line of linesOf(this.file)) {
      const id = Number(/"id":(\d+)[,}]/.exec(line)?.[1] ?? NaN)
      if (!ids.has(id)) continue
      const lines = found.get(id)
      if (lines === undefined) found.set(id, [line])
      else lines.push(line)
    }
    return found
  }

  flush(): void {
    if (this.lines.length === 0) return
    appendFileSync(this.file, this.lines.map((line) => `${line}\n`).join(""))
    this.lines = []
  }
}

/** The lines of a file that may be too long for a text. */
function* linesOf(path: string): Generator<string> {
  const file = openSync(path, "r")
  const buffer = new Uint8Array(2 ** 20)
  const decoder = new TextDecoder()
  let rest = ""
  for (let length = readSync(file, buffer); length > 0; length = readSync(file, buffer)) {
    const lines = (rest + decoder.decode(buffer.subarray(0, length), { stream: true })).split("\n")
    rest = lines.pop() ?? ""
    yield* lines
  }
  closeSync(file)
}
