/**
 * Starts replicas in processes of their own, and says how they end.
 */
import { Effect, type Scope } from "effect"
import { type ChildProcess, spawn } from "node:child_process"
import * as net from "node:net"
import { fileURLToPath } from "node:url"

const program = fileURLToPath(new URL("replica.ts", import.meta.url))

/** How a process has ended: with a code, or by a signal. */
export interface Ended {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

/** A replica that listens. */
export interface ReplicaProcess {
  readonly address: string
  readonly pid: number
  /** From when it was started until it listened, in milliseconds. */
  readonly startMillis: number
  readonly signal: (signal: NodeJS.Signals) => void
  readonly ended: Effect.Effect<Ended>
}

/** What a process is started with. */
export interface ReplicaOptions {
  /** In milliseconds. */
  readonly shutdownGrace?: number
  /** A command that runs it. */
  readonly within?: ReadonlyArray<string>
}

const ended = (child: ChildProcess): Effect.Effect<Ended> =>
  Effect.callback((resume) => {
    if (child.exitCode !== null || child.signalCode !== null) {
      return resume(Effect.succeed({ code: child.exitCode, signal: child.signalCode }))
    }
    child.once("exit", (code, signal) => resume(Effect.succeed({ code, signal })))
  })

/** Starts a replica and waits until it listens. It is killed with the Scope, if it still runs then. */
export const startReplica = Effect.fnUntraced(function*(
  address: string,
  { shutdownGrace = 2000, within = [] }: ReplicaOptions = {}
): Effect.fn.Return<ReplicaProcess, never, Scope.Scope> {
  const startedAt = performance.now()
  const [command, ...args] = [...within, process.execPath, program, address, String(shutdownGrace)]
  const child = yield* Effect.acquireRelease(
    Effect.sync(() => spawn(command, args, { stdio: ["pipe", "pipe", "inherit"] })),
    (child) =>
      Effect.suspend(() => {
        child.kill("SIGKILL")
        return ended(child)
      })
  )
  const listening = Effect.callback<string>((resume) => {
    let output = ""
    child.stdout.on("data", (chunk: Buffer) => {
      output += chunk.toString()
      const found = /^listens on (.*)$/m.exec(output)?.[1]
      if (found !== undefined) resume(Effect.succeed(found))
    })
    child.once("exit", () => resume(Effect.die(new Error(`a replica did not listen on ${address}: ${output}`))))
  })
  return {
    address: yield* listening,
    pid: child.pid ?? 0,
    startMillis: performance.now() - startedAt,
    signal: (signal) => void child.kill(signal),
    ended: ended(child)
  }
})

/**
 * Free ports, below the range that the system gives to clients: otherwise a client that dials a port without a listener
 * may be given that very port, and be connected to itself.
 */
export const freePorts = (count: number): Effect.Effect<ReadonlyArray<number>> =>
  Effect.gen(function*() {
    const found: Array<number> = []
    for (let port = 20_000 + Math.floor(Math.random() * 10_000); found.length < count; port++) {
      const isFree = yield* Effect.callback<boolean>((resume) => {
        const server = net.createServer()
        server.once("error", () => resume(Effect.succeed(false)))
        server.listen(port, "127.0.0.1", () => server.close(() => resume(Effect.succeed(true))))
      })
      if (isFree) found.push(port)
    }
    return found
  })
