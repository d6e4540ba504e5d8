/**
 * The command as users run it, the built program in a process of its own; and in this process, for what it makes of its
 * arguments.
 */
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Effect, Layer, Logger, Runtime, type Scope, Sink, Stdio, Stream } from "effect"
import { Resolver } from "effect-call"
import { CliError, CliOutput, Command } from "effect/cli"
import { ChildProcess, type ChildProcessSpawner } from "effect/process"
import { Buffer } from "node:buffer"
import { fileURLToPath } from "node:url"
import { command } from "../../src/cli/command.ts"
import { Failure } from "../../src/cli/failure.ts"

export const program = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url))
export const contract = fileURLToPath(new URL("contract.ts", import.meta.url))
export const awkward = fileURLToPath(new URL("awkward.ts", import.meta.url))

const surroundings = {
  cwd: fileURLToPath(new URL(".", import.meta.url)),
  // Most of what a process takes is to load its modules.
  env: { NODE_COMPILE_CACHE: fileURLToPath(new URL("../../node_modules/.cache/effect-call", import.meta.url)) },
  extendEnv: true
}

/** What a process has written, and how it has ended. */
export interface Ended {
  readonly code: number
  readonly stdout: Buffer
  /** The same as text. */
  readonly text: string
  readonly stderr: string
}

const bytesOf = (stream: Stream.Stream<Uint8Array, unknown>) =>
  Effect.map(Effect.orDie(Stream.runCollect(stream)), (chunks) => Buffer.concat(chunks))

/** Runs a program to its end. */
export const run = (
  command: string,
  args: ReadonlyArray<string>,
  stdin: string | Uint8Array = ""
): Effect.Effect<Ended, never, ChildProcessSpawner.ChildProcessSpawner> =>
  Effect.gen(function*() {
    const given = typeof stdin === "string" ? Buffer.from(stdin) : stdin
    const child = yield* ChildProcess.make(command, args, { ...surroundings, stdin: Stream.succeed(given) })
    const { code, stderr, stdout } = yield* Effect.all(
      { code: child.exitCode, stdout: bytesOf(child.stdout), stderr: bytesOf(child.stderr) },
      { concurrency: "unbounded" }
    )
    return { code, stdout, text: stdout.toString(), stderr: stderr.toString() }
  }).pipe(Effect.scoped, Effect.orDie)

/**
 * Runs the command to its end. What {@link runHere} and {@link failure} can show, they show in a hundredth of the time.
 */
export const effectCall = (
  ...args: ReadonlyArray<string>
): Effect.Effect<Ended, never, ChildProcessSpawner.ChildProcessSpawner> => run(process.execPath, [program, ...args])

/** The same, with something at stdin. */
export const effectCallWith = (
  stdin: string | Uint8Array,
  ...args: ReadonlyArray<string>
): Effect.Effect<Ended, never, ChildProcessSpawner.ChildProcessSpawner> =>
  run(process.execPath, [program, ...args], stdin)

/** The command while it runs. */
export interface Running {
  /** Waits for the next line of stdout that meets a condition, and gives it. */
  readonly line: (isIt: (line: string) => boolean) => Effect.Effect<string>
  /** Sends it what Ctrl-C does, and gives its exit code and what it wrote to stderr. */
  readonly interrupt: Effect.Effect<{ readonly code: number; readonly stderr: string }>
}

/** Starts the command. */
export const start = (
  ...args: ReadonlyArray<string>
): Effect.Effect<Running, never, ChildProcessSpawner.ChildProcessSpawner | Scope.Scope> =>
  Effect.gen(function*() {
    const child = yield* ChildProcess.make(process.execPath, [program, ...args], { ...surroundings, stdin: "ignore" })
    const lines = yield* child.stdout.pipe(Stream.decodeText, Stream.splitLines, Stream.toPull)
    const buffered: Array<string> = []
    const next = Effect.gen(function*() {
      while (buffered.length === 0) buffered.push(...(yield* lines))
      return buffered.shift()!
    })
    return {
      line: (isIt: (line: string) => boolean) =>
        Effect.gen(function*() {
          while (true) {
            const line = yield* next
            if (isIt(line)) return line
          }
        }).pipe(Effect.orDie),
      interrupt: Effect.gen(function*() {
        yield* Effect.forkChild(child.kill({ killSignal: "SIGINT" }))
        return { code: yield* child.exitCode, stderr: (yield* bytesOf(child.stderr)).toString() }
      }).pipe(Effect.orDie)
    }
  }).pipe(Effect.orDie)

const services = Layer.mergeAll(
  NodeServices.layer,
  Layer.orDie(Resolver.layerDns()),
  CliOutput.layerPresenter({ present: () => Effect.void })
)

/** The command in this process, with `given` in place of some of the process's services. */
export const runHere = <S = never>(args: ReadonlyArray<string>, given?: Layer.Layer<S>): Effect.Effect<void, unknown> =>
  Command.runWith(command, { version: "0.0.0", renderErrors: false })(args).pipe(
    Effect.provide(given ?? Layer.empty),
    Effect.provide(services)
  )

/** What is said, and the exit code, where the command fails. */
export const failure = (
  ...args: ReadonlyArray<string>
): Effect.Effect<{ readonly message: string; readonly code: number }> =>
  Effect.map(Effect.orDie(Effect.flip(runHere(args))), (error) => {
    if (error instanceof Failure) return { message: error.message, code: Runtime.getErrorExitCode(error) }
    if (CliError.isCliError(error) && error._tag === "ShowHelp") {
      return { message: error.errors.map(({ message }) => message).join("; "), code: 2 }
    }
    throw new Error("it failed in another way", { cause: error })
  })

/** The scheme `warning`, whose resolver warns once it is there, and the messages that are logged. */
export const makeWarning = (resolver: Resolver.Resolver) => {
  const logged: Array<unknown> = []
  const services = Layer.merge(
    Resolver.layerSchemes({ warning: () => Effect.as(Effect.logWarning("it warns"), resolver) }),
    Logger.layer([Logger.make(({ message }) => logged.push(message))])
  )
  return { logged, services }
}

/** A stdout that is kept, with something at stdin. */
export const makeStdout = (stdin: string | Uint8Array = "") => {
  let text = ""
  const watchers = new Set<() => void>()
  const look = <A>(find: (lines: ReadonlyArray<string>) => A | undefined) =>
    Effect.callback<A>((resume) => {
      const look = () => {
        const found = find(text.split("\n").slice(0, -1))
        if (found !== undefined) resume(Effect.succeed(found))
      }
      watchers.add(look)
      look()
      return Effect.sync(() => watchers.delete(look))
    })
  return {
    text: () => text,
    /** Waits until there are so many lines, and gives them. */
    lines: (count: number) => look((lines) => lines.length >= count ? lines : undefined),
    /** Waits for a line that meets a condition. */
    line: (isIt: (line: string) => boolean) => look((lines) => lines.find(isIt)),
    layer: Stdio.layerTest({
      stdin: Stream.succeed(Buffer.from(stdin)),
      stdout: () =>
        Sink.forEach((output: string | Uint8Array) =>
          Effect.sync(() => {
            text += typeof output === "string" ? output : Buffer.from(output).toString()
            for (const look of [...watchers]) look()
          })
        )
    })
  }
}
