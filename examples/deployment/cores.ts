/**
 * A server on all cores: several processes that listen on one port, and a client with several connections to it.
 *
 * A server process uses one core, and a connection belongs to one process. With `reusePort`, the operating system
 * assigns new connections to the processes by a hash. The distribution is uneven: with few connections, a process may
 * get none. So the client opens four connections for each process.
 *
 * Run it with `npx node examples/deployment/cores.ts`.
 */
// These imports use the modules' own paths: the whole of @effect/platform-node takes longer to load than this program.
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Console, Duration, Effect, Option, Schedule, Stdio, Stream } from "effect"
import { Connection, Endpoint, HandlerMap, Listener, MethodKey, Resolver, Server } from "effect-call"
import { ChildProcess } from "effect/process"
import * as assert from "node:assert/strict"
import { availableParallelism } from "node:os"
import { fileURLToPath } from "node:url"

const component = "example/Cores"
const work = MethodKey.make(component, "work")

// ---- One of the server's processes: `node cores.ts serve ADDRESS`.

/** The CPU time that the server spends on a call, in milliseconds. */
const cost = 1

/** The handlers for one connection. They use CPU time, and answer with the process id and the client's address. */
const handlersFor = ({ address }: Listener.Peer) =>
  HandlerMap.empty.pipe(
    HandlerMap.set(component, "work", () =>
      Effect.sync(() => {
        const end = performance.now() + cost
        while (performance.now() < end);
        return new TextEncoder().encode(`${process.pid} ${address}`)
      }))
  )

/** Serves until its standard input ends, so that it does not outlive its parent process. */
const serve = Effect.fnUntraced(function*(address: string) {
  const { stdin } = yield* Stdio.Stdio
  const untilStdinEnds = Effect.gen(function*() {
    yield* Console.log((yield* Server.Server).address)
    yield* Stream.runDrain(stdin)
  })
  yield* Effect.provide(untilStdinEnds, Server.layer(Listener.tcp(address, handlersFor, { reusePort: true })))
})

// ---- The client, which starts the server's processes.

/** Starts a process of the server, and waits until it prints its address. The process ends when the Scope closes. */
const startServer = Effect.fnUntraced(function*(address: string) {
  const program = fileURLToPath(import.meta.url)
  const process = yield* ChildProcess.make(globalThis.process.execPath, [program, "serve", address], {
    stderr: "inherit",
    forceKillAfter: "2 seconds"
  })
  const line = yield* process.stdout.pipe(Stream.decodeText(), Stream.splitLines, Stream.runHead)
  if (Option.isNone(line)) return yield* Effect.fail(new Error(`a server ended before it listened on ${address}`))
  return { pid: Number(process.pid), address: line.value }
})

const calls = 400
const callers = 64

/** Makes the calls over `connectionsPerEndpoint` connections, and prints how many of them each process answered. */
const measure = Effect.fnUntraced(function*(
  endpoint: Endpoint.Endpoint,
  processes: ReadonlyArray<number>,
  connectionsPerEndpoint: number
) {
  const connection = yield* Connection.make(Resolver.constant(endpoint), { connectionsPerEndpoint })
  const connections = new Map(processes.map((pid) => [pid, new Set<string>()]))
  const answered = new Map(processes.map((pid) => [pid, 0]))
  const call = Effect.map(connection.call(work, new Uint8Array(), { timeout: "10 seconds" }), (answer) => {
    const [pid, address = ""] = new TextDecoder().decode(answer).split(" ")
    connections.get(Number(pid))?.add(address)
    answered.set(Number(pid), (answered.get(Number(pid)) ?? 0) + 1)
  })
  const opened = () => [...connections.values()].reduce((sum, { size }) => sum + size, 0)

  // Each call dials one more connection until all of them are open.
  yield* Effect.repeat(call, { until: () => opened() === connectionsPerEndpoint, schedule: Schedule.spaced(1) })
  for (const pid of processes) answered.set(pid, 0)

  const [took] = yield* Effect.timed(
    Effect.forEach(Array.from({ length: calls }), () => call, { concurrency: callers, discard: true })
  )
  yield* Console.log(
    `\n${calls} calls of ${cost} ms each over ${opened()} connection${opened() === 1 ? "" : "s"} took ${
      Math.round(Duration.toMillis(took))
    } ms:`
  )
  for (const pid of processes) {
    const size = connections.get(pid)?.size ?? 0
    yield* Console.log(
      size === 0
        ? `  process ${pid} got no connection`
        : `  process ${pid} answered ${answered.get(pid)} on ${size} connection${size === 1 ? "" : "s"}`
    )
  }
  assert.equal([...answered.values()].reduce((sum, count) => sum + count), calls)
  return [...answered.values()].filter((count) => count > 0).length
}, Effect.scoped)

const main = Effect.gen(function*() {
  const possible = yield* Effect.result(
    Effect.scoped(Listener.tcp("127.0.0.1:0", HandlerMap.empty, { reusePort: true }))
  )
  if (possible._tag === "Failure") {
    return yield* Console.log(`processes cannot share a port on this system: ${possible.failure.message}`)
  }

  const count = Math.max(2, Math.min(4, availableParallelism()))
  // The system picks a free port for the first process. The others listen on the same port.
  const first = yield* startServer("127.0.0.1:0")
  const endpoint = yield* Endpoint.parse(first.address)
  const others = yield* Effect.replicateEffect(startServer(endpoint.addr), count - 1, { concurrency: "unbounded" })
  const processes = [first, ...others].map(({ pid }) => pid)
  yield* Console.log(`${count} processes listen on ${first.address}`)

  assert.equal(yield* measure(endpoint, processes, 1), 1)
  // Nothing is asserted about the distribution, because the operating system decides it. With two processes, all eight
  // connections go to the same process in one of 128 runs.
  yield* measure(endpoint, processes, 4 * count)
})

const program = Effect.gen(function*() {
  const stdio = yield* Stdio.Stdio
  const [role, address = ""] = yield* stdio.args
  yield* role === "serve" ? serve(address) : main
})

program.pipe(
  Effect.timeout("30 seconds"),
  Effect.scoped,
  Effect.provide(NodeServices.layer),
  NodeRuntime.runMain
)
