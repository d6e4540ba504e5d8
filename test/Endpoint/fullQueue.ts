/**
 * A server that is there and does not get to accepting: a process that stands still, with a queue that is full. Linux.
 */
import { Effect, type Scope } from "effect"
import { spawn } from "node:child_process"
import { once } from "node:events"
import * as net from "node:net"

/** Says its port, and then a line for each connection that it has accepted and for each that has ended. */
const program = `
  const server = require("node:net").createServer((socket) => {
    console.log("accepted")
    socket.resume().on("error", () => {}).on("close", () => console.log("ended"))
  })
  server.listen(JSON.parse(process.argv[1]), () => console.log(server.address().port ?? 0))`

/** A server whose queue is full. */
export interface Full {
  readonly port: number
  /** Lets it accept. */
  readonly goOn: Effect.Effect<void>
  /** How many connections it has accepted and how many have ended, without the connections that fill its queue. */
  readonly counts: () => { readonly accepted: number; readonly ended: number }
}

export const fullQueue = Effect.fnUntraced(
  function*(
    where: { readonly host: string; readonly port?: number } | { readonly path: string }
  ): Effect.fn.Return<Full, never, Scope.Scope> {
    const child = yield* Effect.acquireRelease(
      Effect.sync(() =>
        spawn(process.execPath, [
          "-e",
          program,
          JSON.stringify({ backlog: 1, ...("path" in where ? where : { port: 0, ...where }) })
        ], { stdio: ["ignore", "pipe", "inherit"] })
      ),
      (child) =>
        Effect.promise(() => {
          const exited = child.exitCode === null ? once(child, "exit") : Promise.resolve([])
          child.kill("SIGKILL")
          return exited
        })
    )
    const lines: Array<string> = []
    const first = yield* Effect.promise(() => once(child.stdout, "data").then(([text]) => String(text)))
    child.stdout.on("data", (text) => lines.push(...String(text).trim().split("\n")))
    const port = Number(first)
    child.kill("SIGSTOP")
    // Linux takes one more than it is told to.
    const fillers = yield* Effect.promise(() =>
      Promise.all([1, 2].map(async () => {
        const socket = net.connect("path" in where ? where : { ...where, port }).on("error", () => {})
        await once(socket, "connect")
        return socket
      }))
    )
    yield* Effect.addFinalizer(() => Effect.sync(() => fillers.forEach((socket) => socket.destroy())))
    return {
      port,
      goOn: Effect.sync(() => void child.kill("SIGCONT")),
      counts: () => ({
        accepted: lines.filter((line) => line === "accepted").length - fillers.length,
        ended: lines.filter((line) => line === "ended").length
      })
    }
  }
)
