/**
 * Starts a program as a process of its own, as a supervisor does.
 */
import { Effect, Queue, Stream } from "effect"
import { ChildProcess } from "effect/process"
import { fileURLToPath } from "node:url"

const tether = new URL("tether.ts", import.meta.url).href

class NoSuchLine extends Error {
  override readonly name = "NoSuchLine"
}

/** Starts `node PROGRAM ARGUMENTS`. The process is killed when the Scope closes. */
export const startProgram = Effect.fnUntraced(function*(
  program: URL,
  args: ReadonlyArray<string> = [],
  env: Readonly<Record<string, string>> = {}
) {
  const path = fileURLToPath(program)
  const startedAt = performance.now()
  const child = yield* ChildProcess.make(process.execPath, ["--import", tether, path, ...args], {
    env,
    extendEnv: true,
    stderr: "inherit",
    forceKillAfter: "2 seconds"
  })
  // All of the output is read: a process blocks when its output is not read.
  const lines = yield* Queue.unbounded<string>()
  yield* child.stdout.pipe(
    Stream.decodeText(),
    Stream.splitLines,
    Stream.runForEach((line) => Queue.offer(lines, line)),
    Effect.ensuring(Effect.delay(Queue.shutdown(lines), "10 millis")),
    Effect.forkScoped
  )
  return {
    pid: Number(child.pid),
    startedAt,
    /** Waits for a line with `text`, and returns what follows the text. */
    after: (text: string): Effect.Effect<string, NoSuchLine> =>
      Effect.gen(function*() {
        while (true) {
          const line = yield* Queue.take(lines)
          const at = line.indexOf(text)
          if (at !== -1) return line.slice(at + text.length)
        }
      }).pipe(
        Effect.timeout("20 seconds"),
        Effect.catchCause(() => Effect.fail(new NoSuchLine(`${path} did not print: ${text}`)))
      ),
    signal: (name: NodeJS.Signals) => Effect.sync(() => void process.kill(Number(child.pid), name)),
    /** Waits for the end of the process. Fails if a signal has ended it. */
    exitCode: Effect.map(child.exitCode, Number)
  }
})
