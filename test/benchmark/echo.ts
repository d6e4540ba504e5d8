/**
 * Echo calls per second and CPU per call, client and server in processes of their own: raw `node:net`, effect-call with bytes, the same
 * without metrics, with typed methods, and with typed methods that are traced.
 *
 * `node test/benchmark/echo.ts [--systems raw,bytes,uncounted,typed,traced] [--seconds 1] [--rounds 5] [--callers 1,16,64,256] [--bytes 16]`. Rounds go from system to system, so that a
 * noisy machine hits all alike; what is printed are medians, and medians of the ratios within a round.
 */
import { Effect, Fiber, Schema } from "effect"
import { Component, Connection, Endpoint, HandlerMap, Listener, MethodKey, Resolver, Server } from "effect-call"
import { Rpc, RpcGroup } from "effect/rpc"
import { type ChildProcess, fork } from "node:child_process"
import { parseArgs } from "node:util"
import * as raw from "./raw.ts"

type System = "raw" | "bytes" | "uncounted" | "typed" | "traced"

interface Job {
  readonly callers: number
  readonly bytes: number
  readonly seconds: number
}

interface Figures {
  readonly calls: number
  readonly seconds: number
  readonly cpuMicros: number
}

const echo = MethodKey.make("benchmark/Echo", "echo")

const group = RpcGroup.make(
  Rpc.make("Echo", { payload: { bytes: Schema.Uint8Array }, success: Schema.Struct({ bytes: Schema.Uint8Array }) })
)
const EchoComponent = Component.make("benchmark/Echo", group)

const handlersFor = (system: System) =>
  system === "bytes" || system === "uncounted"
    ? Effect.succeed(
      HandlerMap.empty.pipe(HandlerMap.set("benchmark/Echo", "echo", (args) => Effect.succeed(args)))
    )
    : Component.handlers(EchoComponent, group.toLayer({ Echo: (payload) => Effect.succeed(payload) }), {
      disableTracing: system !== "traced"
    })

const startServer = async (system: System): Promise<string> => {
  if (system === "raw") return String(await raw.serve())
  return new Promise((resolve) => {
    Effect.runFork(Effect.scoped(Effect.gen(function*() {
      const handlers = yield* handlersFor(system)
      const listener = yield* Listener.tcp("127.0.0.1:0", handlers)
      resolve(listener.address)
      return yield* Server.serve(listener, { metrics: system !== "uncounted" })
    })))
  })
}

/** Runs `callers` loops of calls until the time is up. Gives how many calls were answered. */
const connectRaw = async (address: string) => {
  const connection = await raw.connect(Number(address))
  return (job: Job): Promise<number> =>
    new Promise((resolve) => {
      const args = new Uint8Array(job.bytes).fill(7)
      const end = performance.now() + job.seconds * 1000
      let calls = 0
      let running = job.callers
      const next = () => connection.call(args, done)
      const done = (length: number) => {
        if (length !== job.bytes) throw new Error(`expected ${job.bytes} bytes, got ${length}`)
        calls++
        if (performance.now() < end) next()
        else if (--running === 0) resolve(calls)
      }
      for (let i = 0; i < job.callers; i++) next()
    })
}

const connectOurs = (address: string, system: System) =>
  new Promise<(job: Job) => Promise<number>>((resolve) => {
    Effect.runFork(Effect.scoped(Effect.gen(function*() {
      const connection = yield* Connection.make(Resolver.constant(yield* Endpoint.parse(address)), {
        metrics: system !== "uncounted"
      })
      const client = yield* Component.client(EchoComponent, { disableTracing: system !== "traced" }).pipe(
        Effect.provideService(Connection.Connection, connection)
      )
      const call = system === "bytes" || system === "uncounted"
        ? (args: Uint8Array) => connection.call(echo, args)
        : (args: Uint8Array) => Effect.map(client.Echo({ bytes: args }), ({ bytes }) => bytes)
      resolve((job) => {
        const args = new Uint8Array(job.bytes).fill(7)
        const end = performance.now() + job.seconds * 1000
        let calls = 0
        const caller = Effect.whileLoop({
          while: () => performance.now() < end,
          body: () => call(args),
          step: (answer) => {
            if (answer.length !== job.bytes) throw new Error(`expected ${job.bytes} bytes, got ${answer.length}`)
            calls++
          }
        })
        const fibers = Array.from({ length: job.callers }, () => Effect.runFork(caller))
        return Effect.runPromise(Effect.as(Fiber.joinAll(fibers), 0)).then(() => calls)
      })
      return yield* Effect.never
    })))
  })

/** A child process: serves, or calls as it is told. */
const child = async (role: string, system: System, address: string) => {
  if (role === "server") {
    const listening = await startServer(system)
    process.on("message", () => process.send?.(process.cpuUsage()))
    process.send?.(listening)
    return
  }
  const run = await (system === "raw" ? connectRaw(address) : connectOurs(address, system))
  const measure = async (job: Job) => {
    const before = process.cpuUsage()
    const start = performance.now()
    const calls = await run(job)
    const { system: kernel, user } = process.cpuUsage(before)
    process.send?.({ calls, seconds: (performance.now() - start) / 1000, cpuMicros: user + kernel } satisfies Figures)
  }
  process.on("message", (job: Job) => void measure(job))
  process.send?.("ready")
}

const receive = <A>(from: ChildProcess): Promise<A> =>
  new Promise((resolve) => from.once("message", (message) => resolve(message as A)))

const ask = <A>(whom: ChildProcess, message: object): Promise<A> => {
  const answer = receive<A>(whom)
  whom.send(message)
  return answer
}

const median = (values: ReadonlyArray<number>): number => {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)] ?? NaN
}

const systemOf = (name: string): System => {
  if (name === "raw" || name === "bytes" || name === "uncounted" || name === "typed" || name === "traced") return name
  throw new Error(`unknown system ${name}: expected raw, bytes, uncounted, typed or traced`)
}

const main = async () => {
  const { values } = parseArgs({
    options: {
      systems: { type: "string", default: "raw,bytes,uncounted,typed,traced" },
      seconds: { type: "string", default: "1" },
      rounds: { type: "string", default: "5" },
      callers: { type: "string", default: "1,16,64,256" },
      bytes: { type: "string", default: "16" }
    }
  })
  const systems = values.systems.split(",").map(systemOf)
  const pairs = await Promise.all(systems.map(async (system) => {
    const server = fork(import.meta.filename, ["server", system])
    const address = await receive<string>(server)
    const client = fork(import.meta.filename, ["client", system, address])
    await receive(client)
    return { system, server, client }
  }))
  console.log("callers  bytes  system        calls/s  client µs  server µs   rate ÷ raw  client ÷ raw  server ÷ raw")
  for (const bytes of values.bytes.split(",").map(Number)) {
    for (const callers of values.callers.split(",").map(Number)) {
      const rounds: Array<Map<System, { rate: number; client: number; server: number }>> = []
      // The first round warms up and is not counted.
      for (let round = 0; round <= Number(values.rounds); round++) {
        const figures = new Map<System, { rate: number; client: number; server: number }>()
        for (const { client, server, system } of pairs) {
          const before = await ask<NodeJS.CpuUsage>(server, {})
          const { calls, cpuMicros, seconds } = await ask<Figures>(client, {
            callers,
            bytes,
            seconds: Number(values.seconds)
          })
          const after = await ask<NodeJS.CpuUsage>(server, {})
          const serverMicros = after.user + after.system - before.user - before.system
          figures.set(system, { rate: calls / seconds, client: cpuMicros / calls, server: serverMicros / calls })
        }
        if (round > 0) rounds.push(figures)
      }
      for (const system of systems) {
        const of = (name: "rate" | "client" | "server") =>
          median(rounds.map((round) => round.get(system)?.[name] ?? NaN))
        const ratio = (name: "rate" | "client" | "server") =>
          median(rounds.map((round) => (round.get(system)?.[name] ?? NaN) / (round.get("raw")?.[name] ?? NaN))).toFixed(
            2
          )
        console.log(
          String(callers).padStart(7),
          String(bytes).padStart(6),
          ` ${system.padEnd(12)}`,
          of("rate").toFixed(0).padStart(8),
          of("client").toFixed(2).padStart(10),
          of("server").toFixed(2).padStart(10),
          ratio("rate").padStart(12),
          ratio("client").padStart(13),
          ratio("server").padStart(13)
        )
      }
    }
  }
  for (const { client, server } of pairs) {
    client.kill()
    server.kill()
  }
}

const [role, system, address] = process.argv.slice(2)
if (role === "server" || role === "client") await child(role, systemOf(system ?? ""), address ?? "")
else await main()
