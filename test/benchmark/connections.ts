/**
 * What an idle connection costs a server: its memory, and the time to accept it, compared with a `node:net` server that
 * does nothing else.
 *
 * `node test/benchmark/connections.ts [--connections 5000] [--rounds 3] [--json] [--save]`
 *
 * The clients are plain sockets of one process. Each exchanges version messages and is then idle. In each round both
 * servers are started again; medians are printed. Memory is what the server has grown by, after garbage collection and
 * divided by the connections; what the kernel holds for a socket is not part of it. The time is from the first
 * `connect` until the last client has its version message, with some hundred underway at once; the clients have a share
 * in it, the CPU is the server's alone.
 *
 * Target: heap and RSS together at most 16 KiB a connection.
 */
import { Effect } from "effect"
import { HandlerMap, Listener, Server } from "effect-call"
import * as net from "node:net"
import { Child } from "./pair.ts"
import { block, save } from "./results.ts"
import { answerParent, count, cpuMicros, fail, liveMemory, median, type Memory, parse, table } from "./support.ts"

type System = "raw" | "effect-call"

/** What the children are asked. A server tells its memory and CPU; the clients do all else. */
type Question =
  | { readonly _tag: "Usage" }
  | { readonly _tag: "Open"; readonly connections: number }
  | { readonly _tag: "Close" }

/** The CPU is what was used before and after the memory was measured, which takes some itself. */
interface Usage {
  readonly memory: Memory
  readonly cpuBefore: number
  readonly cpuAfter: number
}

/** What one connection has cost. */
interface Cost {
  readonly acceptMillis: number
  readonly cpuMicros: number
  readonly heapUsed: number
  readonly external: number
  readonly rss: number
}

/** Id 0, type 0, and as payload the version, 0. The server's is the same. */
const versionMessage = new Uint8Array(20)
versionMessage[9] = 4

/**
 * Connects that are underway at once: fewer than a server's queue takes, since what does not fit is only tried again
 * after a second.
 */
const mostUnderway = 256

/**
 * The system has some 28 000 ports for connections from one address to one server, and takes ever longer to find one as
 * they get fewer.
 */
const connectionsPerAddress = 10_000

/**
 * Where a connection comes from. Past the first address the port is given, too: to find one that is free takes the
 * system milliseconds.
 */
const sourceOf = (index: number) => {
  const address = Math.floor(index / connectionsPerAddress)
  return address === 0
    ? {}
    : { localAddress: `127.0.0.${1 + address}`, localPort: 20_000 + index % connectionsPerAddress }
}

const startServer: Record<System, () => Promise<string>> = {
  raw: () =>
    new Promise((resolve) => {
      const server = net.createServer({ noDelay: true }, (socket) => {
        socket.on("error", () => {})
        socket.on("data", () => socket.write(versionMessage))
      })
      server.listen(0, "127.0.0.1", () => {
        const address = server.address()
        resolve(String(typeof address === "object" && address !== null ? address.port : 0))
      })
    }),
  "effect-call": () =>
    new Promise((resolve) => {
      const handlers = HandlerMap.empty.pipe(HandlerMap.set("benchmark/Echo", "echo", (args) => Effect.succeed(args)))
      Effect.runFork(Effect.scoped(Effect.gen(function*() {
        const listener = yield* Listener.tcp("127.0.0.1:0", handlers, {
          maxConnections: Infinity,
          maxConnectionsPerPeer: Infinity
        })
        resolve(new URL(listener.address).port)
        return yield* Server.serve(listener)
      })))
    })
}

/** One connection, once its version message is here. */
const connect = (port: number, index: number): Promise<net.Socket> =>
  new Promise((resolve, reject) => {
    const socket = net.connect({ port, host: "127.0.0.1", ...sourceOf(index), noDelay: true })
    let received = Buffer.alloc(0)
    socket.write(versionMessage)
    socket.on("data", (chunk) => {
      received = Buffer.concat([received, chunk])
      if (received.length < versionMessage.length) return
      if (received.equals(versionMessage)) resolve(socket)
      else reject(new Error(`${received.toString("hex")} came in place of a version message`))
    })
    socket.on("error", reject)
    socket.on("close", () => reject(new Error("the server closed a connection")))
  })

const openAll = async (port: number, connections: number): Promise<ReadonlyArray<net.Socket>> => {
  const sockets: Array<net.Socket> = []
  let started = 0
  const some = async () => {
    while (started < connections) sockets.push(await connect(port, started++))
  }
  await Promise.all(Array.from({ length: mostUnderway }, some))
  return sockets
}

/** Ends them, and waits until the server has ended its halves. */
const closeAll = (sockets: ReadonlyArray<net.Socket>) =>
  Promise.all(sockets.map((socket) =>
    new Promise<void>((resolve, reject) => {
      if (socket.destroyed) return reject(new Error("an idle connection was lost"))
      socket.once("close", () => resolve())
      socket.end()
    })
  ))

const runServer = async (system: System) => {
  answerParent<Question>(async () => {
    const cpuBefore = cpuMicros()
    const memory = await liveMemory({ shrink: true })
    return { cpuBefore, memory, cpuAfter: cpuMicros() } satisfies Usage
  })
  process.send?.(await startServer[system]())
}

const runClients = (port: number) => {
  let sockets: ReadonlyArray<net.Socket> = []
  answerParent<Question>(async (question) => {
    const start = performance.now()
    if (question._tag === "Open") sockets = await openAll(port, question.connections)
    else await closeAll(sockets)
    return { millis: performance.now() - start }
  })
  process.send?.("ready")
}

const measure = async (system: System, connections: number): Promise<Cost> => {
  const program = new URL(import.meta.url)
  const server = new Child(["server", system], ["--expose-gc"], program)
  const clients = new Child(["clients", await server.receive<string>()], [], program)
  await clients.receive()
  const open = (connections: number) =>
    clients.ask<{ readonly millis: number }>({ _tag: "Open", connections } satisfies Question)
  const usage = () => server.ask<Usage>({ _tag: "Usage" } satisfies Question)
  // What is made once for all connections is there before.
  await open(mostUnderway)
  await clients.ask({ _tag: "Close" } satisfies Question)
  const before = await usage()
  const { millis } = await open(connections)
  const after = await usage()
  await clients.ask({ _tag: "Close" } satisfies Question)
  clients.kill()
  server.kill()
  const grown = (name: keyof Memory) => (after.memory[name] - before.memory[name]) / connections
  return {
    acceptMillis: millis,
    cpuMicros: (after.cpuBefore - before.cpuAfter) / connections,
    heapUsed: grown("heapUsed"),
    external: grown("external"),
    rss: grown("rss")
  }
}

/** Each of the two processes has a descriptor for each connection, and some more. */
const checkDescriptors = (connections: number) => {
  if (process.report === undefined) return
  // The types say nothing of what a report contains.
  const { userLimits } = process.report.getReport() as {
    readonly userLimits?: { readonly open_files?: { readonly hard: number | "unlimited" } }
  }
  // Node has raised the limit as far as it may.
  const limit = userLimits?.open_files?.hard
  const needed = connections + 100
  if (typeof limit === "number" && limit < needed) {
    fail(
      `${connections} connections need ${needed} file descriptors a process, and there are ${limit}: see "ulimit -n"`
    )
  }
}

const main = async () => {
  const values = parse({
    connections: { type: "string", default: "5000" },
    rounds: { type: "string", default: "3" },
    json: { type: "boolean", default: false },
    save: { type: "boolean", default: false }
  })
  const connections = count("connections", values.connections)
  const rounds = count("rounds", values.rounds)
  checkDescriptors(connections)
  const systems: ReadonlyArray<System> = ["raw", "effect-call"]
  const costs = systems.map((system) => ({ system, rounds: new Array<Cost>() }))
  for (let round = 0; round < rounds; round++) {
    for (const { rounds, system } of costs) rounds.push(await measure(system, connections))
  }
  const results = costs.map(({ rounds, system }) => {
    const of = (name: keyof Cost) => median(rounds.map((cost) => cost[name]))
    return {
      system,
      acceptMillis: of("acceptMillis"),
      cpuMicros: of("cpuMicros"),
      heapUsed: of("heapUsed"),
      external: of("external"),
      rss: of("rss"),
      heapAndRss: median(rounds.map(({ heapUsed, rss }) => heapUsed + rss))
    }
  })
  if (values.json) return console.log(JSON.stringify({ connections, rounds, systems: results }))
  const kibibytes = (bytes: number) => (bytes / 1024).toFixed(2)
  const title = `${connections} idle connections; CPU and memory are the server's, for each connection`
  const figures = table(
    ["system", "accepted in", "CPU", "heap used", "external", "RSS", "heap + RSS"],
    results.map((result) => [
      result.system,
      `${result.acceptMillis.toFixed(0)} ms`,
      `${result.cpuMicros.toFixed(0)} µs`,
      ...[result.heapUsed, result.external, result.rss, result.heapAndRss].map((bytes) => `${kibibytes(bytes)} KiB`)
    ])
  )
  const text = `${title}\n\n${figures}`
  console.log(text)
  if (values.save) save("connections", block(text))
}

const [role, argument = ""] = process.argv.slice(2)
if (role === "server") await runServer(argument === "raw" ? "raw" : "effect-call")
else if (role === "clients") runClients(Number(argument))
else await main()
