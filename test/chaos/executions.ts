/**
 * Which calls were executed: each replica's process appends the id of every call that its handlers see to a file of its
 * own.
 *
 * What was written outlives a process that is killed in the next moment, since the system has it. So no executed call
 * is missing, of any replica.
 */
import { closeSync, openSync, readdirSync, readFileSync, writeSync } from "node:fs"
import { join } from "node:path"

const extension = ".executed"

/** Notes executed calls, for the process with the number `stamp`. */
export class ExecutionLog {
  private readonly file: number
  private readonly record = new Uint32Array(1)

  constructor(directory: string, stamp: number) {
    this.file = openSync(join(directory, `${stamp}${extension}`), "a")
  }

  add(id: number): void {
    this.record[0] = id
    writeSync(this.file, this.record)
  }

  close(): void {
    closeSync(this.file)
  }
}

/** How often each call was executed, and by whom. */
export class Executions {
  private readonly byStamp = new Map<number, Uint32Array>()
  total = 0

  add(stamp: number, ids: Uint32Array): void {
    this.byStamp.set(stamp, ids)
    this.total += ids.length
  }

  /** How many processes have written, if only that there was nothing. */
  get processes(): number {
    return this.byStamp.size
  }

  /** How often each of the calls 0 to `last` was executed; what is past 255 times is 255. */
  counts(last: number): Uint8Array {
    const counts = new Uint8ClampedArray(last + 1)
    for (const ids of this.byStamp.values()) {
      for (const id of ids) if (id <= last) counts[id] = (counts[id] ?? 0) + 1
    }
    return new Uint8Array(counts.buffer)
  }

  /** The numbers of the processes that executed a call, one for each time. */
  whoExecuted(id: number): ReadonlyArray<number> {
    return [...this.byStamp].flatMap(([stamp, ids]) => [...ids.filter((other) => other === id)].map(() => stamp))
  }
}

/** Reads what all processes have noted. */
export const readExecutions = (directory: string): Executions => {
  const executions = new Executions()
  for (const name of readdirSync(directory)) {
    if (!name.endsWith(extension)) continue
    const bytes = readFileSync(join(directory, name))
    // A copy: what was read begins anywhere in a block that others use, too.
    const ids = new Uint32Array(Uint8Array.from(bytes.subarray(0, bytes.length - bytes.length % 4)).buffer)
    executions.add(Number(name.slice(0, -extension.length)), ids)
  }
  return executions
}
