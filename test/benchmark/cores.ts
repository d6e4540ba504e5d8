/**
 * What more server processes on one port are good for: calls per second of the bytes API, over several connections to
 * each.
 *
 * `node test/benchmark/cores.ts [--processes 1,2,4] [--clients 1,2] [--callers 64,256] [--bytes 16] [--work 0,50]
 * [--connections-per-process 4] [--seconds 0.5] [--rounds 5] [--json]
 * [--save]`
 *
 * The servers listen with `reusePort`, and each client has `--connections-per-process` connections for each of them.
 * The callers are spread over the clients, since a client process is one core, too. `--work` is how many µs of CPU a
 * handler takes before it answers with its arguments: so many turns of a loop, as many on a busy machine as on an idle
 * one. Rounds go from one setup to the next, so that a noisy machine hits all alike; medians are printed, and ratios
 * are those within a round: to the first number of processes. Each round has connections of its own, since the system
 * spreads them over the processes by a hash: "busiest" is the calls of the process that had the most ÷ those of the
 * average one. With fewer free cores than there are processes, they wait for each other.
 */
import { Effect, Exit, Scope } from "effect"
import { Connection, Endpoint, HandlerMap, Listener, MethodKey, Resolver, Server } from "effect-call"
import { randomFillSync } from "node:crypto"
import { setImmediate as turn } from "node:timers/promises"
import { Meter } from "./meter.ts"
import { Child } from "./pair.ts"
import { block, save } from "./results.ts"
import { answerParent, count, counts, cpuMicros, fail, median, number, parse, table } from "./support.ts"
import type { Client } from "./system.ts"
import { effectClient } from "./systems/effects.ts"

/** What the children are asked. */
type Question =
  | { readonly _tag: "Usage" }
  /** A client: new connections in place of those before. */
  | { readonly _tag: "Connect"; readonly address: string; readonly connections: number }
  | {
    readonly _tag: "Run"
    readonly callers: number
    readonly bytes: number
    readonly work: number
    readonly seconds: number
  }

/** The CPU in µs, and the calls that were served, since the process started. */
interface Usage {
  readonly cpuMicros: number
  readonly calls: number
}

interface Ran {
  readonly calls: number
  readonly seconds: number
}

const done = { _tag: "Done" }

const component = "benchmark/Work"
const work = MethodKey.make(component, "work")

/** The turns of the loop that a handler is to take are in the first bytes of the arguments. */
const turnsBytes = 4

/** Takes CPU. What it gives is of no use, and keeps the loop from being left out. */
const burn = (turns: number): number => {
  let x = 1
  for (let i = 0; i < turns; i++) x = Math.imul(x ^ (x >>> 15), 0x2c1b3c6d) + i | 0
  return x
}

/** How many turns of the loop take a µs: of several tries the fastest, in which nothing came in between. */
const turnsPerMicro = (): number => {
  const turns = 1_000_000
  let fastest = Infinity
  for (let i = 0; i < 20; i++) {
    const start = performance.now()
    burn(turns)
    fastest = Math.min(fastest, performance.now() - start)
  }
  return turns / (fastest * 1000)
}

const runServer = (addr: string) => {
  let calls = 0
  let burned = 0
  const handlers = HandlerMap.empty.pipe(
    HandlerMap.set(component, "work", (args) =>
      Effect.sync(() => {
        calls++
        burned ^= burn(new DataView(args.buffer, args.byteOffset).getUint32(0))
        return args
      }))
  )
  answerParent<Question>(async () => ({ cpuMicros: cpuMicros(), calls, burned }) satisfies Usage & { burned: number })
  Effect.runFork(
    Effect.scoped(Effect.gen(function*() {
      const listener = yield* Listener.tcp(addr, handlers, { reusePort: true })
      process.send?.(listener.address)
      return yield* Server.serve(listener)
    })).pipe(Effect.tapError(({ message }) => Effect.sync(() => fail(message))))
  )
}

/** How many sockets this process has. */
const sockets = () => process.getActiveResourcesInfo().filter((name) => name === "TCPSocketWrap").length

const runClient = () => {
  let scope = Scope.makeUnsafe()
  let client: Client | undefined

  const connect = async (address: string, connections: number) => {
    await Effect.runPromise(Scope.close(scope, Exit.void))
    // The sockets of before are gone then.
    await turn()
    scope = Scope.makeUnsafe()
    const endpoint = await Effect.runPromise(Endpoint.parse(address))
    const connection = await Effect.runPromise(
      Scope.provide(
        Connection.make(Resolver.constant(endpoint), { connectionsPerEndpoint: connections }),
        scope
      )
    )
    client = effectClient((payload) => connection.call(work, payload), (answer) => answer)
    // Each call has one more dialed; the last ones may take a moment.
    while (sockets() < connections) {
      await client.echo(new Uint8Array(turnsBytes))
      await turn()
    }
    for (let i = 0; i < 4 * connections; i++) await client.echo(new Uint8Array(turnsBytes))
  }

  answerParent<Question>(async (question) => {
    if (question._tag === "Usage") return { cpuMicros: cpuMicros(), calls: 0 } satisfies Usage
    if (question._tag === "Connect") {
      await connect(question.address, question.connections)
      return done
    }
    if (client === undefined) throw new Error("it is not connected yet")
    const payload = randomFillSync(new Uint8Array(question.bytes))
    new DataView(payload.buffer).setUint32(0, question.work)
    const start = performance.now()
    const meter = new Meter(question.seconds)
    await client.run({ callers: question.callers, payload }, meter)
    const ran: Ran = { calls: meter.latencies.total, seconds: (performance.now() - start) / 1000 }
    return ran
  })
  process.send?.("ready")
}

const program = new URL(import.meta.url)

interface Group {
  readonly address: string
  readonly servers: ReadonlyArray<Child>
}

/** So many servers on one port. */
const startGroup = async (processes: number): Promise<Group> => {
  const start = async (addr: string) => {
    const server = new Child(["server", addr], [], program)
    return { server, address: await server.receive<string>() }
  }
  const first = await start("127.0.0.1:0")
  const addr = new URL(first.address).host
  const others = await Promise.all(Array.from({ length: processes - 1 }, () => start(addr)))
  return { address: first.address, servers: [first, ...others].map(({ server }) => server) }
}

interface Setup {
  readonly processes: number
  readonly clients: number
  readonly callers: number
  readonly work: number
}

/** What a round has measured. */
interface Round {
  readonly rate: number
  readonly clientMicros: number
  readonly serverMicros: number
  readonly busiest: number
}

const usages = (children: ReadonlyArray<Child>) =>
  Promise.all(children.map((child) => child.ask<Usage>({ _tag: "Usage" } satisfies Question)))

const sum = (values: ReadonlyArray<number>) => values.reduce((sum, value) => sum + value, 0)

const measure = async (
  { address, servers }: Group,
  clients: ReadonlyArray<Child>,
  setup: Setup,
  how: { readonly connections: number; readonly bytes: number; readonly turns: number; readonly seconds: number }
): Promise<Round> => {
  const askAll = <A>(questionOf: (index: number) => Question) =>
    Promise.all(clients.map((client, index) => client.ask<A>(questionOf(index))))
  await askAll(() => ({ _tag: "Connect", address, connections: how.connections * servers.length }))
  const [clientsBefore, serversBefore] = [await usages(clients), await usages(servers)]
  const ran = await askAll<Ran>((index) => ({
    _tag: "Run",
    // What cannot be spread evenly goes to the first ones.
    callers: Math.ceil((setup.callers - index) / clients.length),
    bytes: how.bytes,
    work: how.turns,
    seconds: how.seconds
  }))
  const [clientsAfter, serversAfter] = [await usages(clients), await usages(servers)]
  const calls = sum(ran.map(({ calls }) => calls))
  const cpu = (before: ReadonlyArray<Usage>, after: ReadonlyArray<Usage>) =>
    (sum(after.map(({ cpuMicros }) => cpuMicros)) - sum(before.map(({ cpuMicros }) => cpuMicros))) / calls
  const served = serversAfter.map(({ calls }, index) => calls - (serversBefore[index]?.calls ?? 0))
  return {
    rate: sum(ran.map(({ calls, seconds }) => calls / seconds)),
    clientMicros: cpu(clientsBefore, clientsAfter),
    serverMicros: cpu(serversBefore, serversAfter),
    busiest: Math.max(...served) * served.length / sum(served)
  }
}

const main = async () => {
  const values = parse({
    processes: { type: "string", default: "1,2,4" },
    clients: { type: "string", default: "1,2" },
    callers: { type: "string", default: "64,256" },
    bytes: { type: "string", default: "16" },
    work: { type: "string", default: "0,50" },
    "connections-per-process": { type: "string", default: "4" },
    seconds: { type: "string", default: "0.5" },
    rounds: { type: "string", default: "5" },
    json: { type: "boolean", default: false },
    save: { type: "boolean", default: false }
  })
  const processes = counts("processes", values.processes)
  const clients = counts("clients", values.clients)
  const callers = counts("callers", values.callers)
  const bytes = count("bytes", values.bytes)
  const works = values.work.split(",").map((part) => part === "0" ? 0 : number("work", part))
  const connections = count("connections-per-process", values["connections-per-process"])
  const seconds = number("seconds", values.seconds)
  const rounds = count("rounds", values.rounds)
  if (bytes < turnsBytes) fail(`--bytes: expected ${turnsBytes} or more, since they say what a handler has to do`)

  const perMicro = turnsPerMicro()
  const groups = new Map<number, Group>()
  for (const some of processes) groups.set(some, await startGroup(some))
  const clientProcesses = Array.from({ length: Math.max(...clients) }, () => new Child(["client"], [], program))
  for (const client of clientProcesses) await client.receive()

  // The setups that are compared with each other come one after the other.
  const measured = works.flatMap((work) =>
    clients.flatMap((clients) =>
      callers.flatMap((callers) =>
        processes.map((processes) => ({ processes, clients, callers, work, rounds: new Array<Round>() }))
      )
    )
  )
  // The first round warms up and is not counted.
  for (let round = 0; round <= rounds; round++) {
    for (const { rounds, ...setup } of measured) {
      const group = groups.get(setup.processes)
      if (group === undefined) continue
      const how = { connections, bytes, turns: Math.round(setup.work * perMicro), seconds }
      const result = await measure(group, clientProcesses.slice(0, setup.clients), setup, how)
      if (round > 0) rounds.push(result)
    }
  }
  for (const client of clientProcesses) client.kill()
  for (const { servers } of groups.values()) for (const server of servers) server.kill()

  const results = measured.map(({ rounds, ...setup }) => {
    const of = (name: keyof Round) => median(rounds.map((round) => round[name]))
    const baseline = measured.find((other) =>
      other.processes === processes[0] && other.clients === setup.clients && other.callers === setup.callers &&
      other.work === setup.work
    )
    return {
      ...setup,
      rate: of("rate"),
      ratio: median(rounds.map(({ rate }, round) => rate / (baseline?.rounds[round]?.rate ?? NaN))),
      clientMicros: of("clientMicros"),
      serverMicros: of("serverMicros"),
      busiest: of("busiest")
    }
  })
  if (values.json) return console.log(JSON.stringify({ bytes, connections, seconds, rounds, results }))
  const title = `calls of ${bytes} bytes over ${connections} connections to each server process; CPU in µs a call`
  const figures = table(
    ["handler's µs", "clients", "callers", "servers", "calls/s", "ratio", "busiest", "client CPU", "server CPU"],
    results.map((result) => [
      String(result.work),
      String(result.clients),
      String(result.callers),
      String(result.processes),
      result.rate.toFixed(0),
      result.ratio.toFixed(2),
      result.busiest.toFixed(2),
      result.clientMicros.toFixed(2),
      result.serverMicros.toFixed(2)
    ])
  )
  const text = `${title}\n\n${figures}`
  console.log(text)
  if (values.save) save("cores", block(text))
}

const [role, argument = ""] = process.argv.slice(2)
if (role === "server") runServer(argument)
else if (role === "client") runClient()
else await main()
