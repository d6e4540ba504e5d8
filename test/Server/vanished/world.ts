/**
 * A server in a network of its own, and clients in a process of their own that vanish from it: first their cable is
 * cut, and then they are killed, so that not even their system says a word. Tells as JSON what has become of it;
 * `vanished.deep.test.ts` starts it.
 */
import { Effect, Logger, type Scope } from "effect"
import { execFileSync, spawn } from "node:child_process"
import * as net from "node:net"
import { fileURLToPath } from "node:url"
// The sources, not what was built of them at some time.
import { Connection, Endpoint, HandlerMap, Health, Listener, MethodKey, Resolver, Server } from "../../../src/index.ts"

const wait = MethodKey.make("test/Vanished", "wait")
const nothing = new Uint8Array()
const address = "127.0.0.1:7000"

/** What the server counts. */
export interface Counts {
  readonly connections: number
  readonly running: number
}

/** What has become of the clients. */
export interface Outcome {
  readonly before: Counts
  readonly after: Counts
  /** From when they vanished until the server had given them all up. */
  readonly seconds: number
  /** Whether a new client was let in, and had a call started, where the old ones had taken all places. */
  readonly letIn: boolean
}

/** How many clients there are: as many as the server lets in. */
export const clients = 3

/**
 * What a client does, in a process of its own: each has a connection, and but for `health` a call that does not end.
 */
const kinds = {
  /** Ours. */
  calls: connected({}),
  /** Ours, which asks for the server's health, and has no calls. */
  health: connected({ health: "" }),
  /** One that knows no flags. */
  flagless: Effect.gen(function*() {
    for (let i = 0; i < clients; i++) {
      const socket = net.connect({ host: "127.0.0.1", port: 7000, noDelay: true })
      const request = Buffer.alloc(16 + 49)
      request[0] = 1
      request[8] = 1
      request[9] = 49
      request.set(wait.bytes, 16)
      const version = Buffer.alloc(20)
      version[9] = 4
      socket.write(Buffer.concat([version, request]))
    }
    yield* Effect.never
  })
} satisfies Record<string, Effect.Effect<void, unknown, Scope.Scope>>

export type Kind = keyof typeof kinds

function connected(options: Connection.ClientOptions) {
  return Effect.gen(function*() {
    const endpoint = Endpoint.tcp(address)
    const own = Connection.make(Resolver.constant(endpoint), { eager: true, ...options })
    const connections = yield* Effect.replicateEffect(own, clients)
    yield* Effect.forEach(
      connections,
      (connection) => "health" in options ? Effect.never : connection.call(wait, nothing),
      { concurrency: "unbounded", discard: true }
    )
  })
}

const cut = (state: "up" | "down") => void execFileSync("ip", ["link", "set", "lo", state])

const until = (condition: () => boolean) =>
  Effect.gen(function*() {
    while (!condition()) yield* Effect.sleep(20)
  })

const run = Effect.fnUntraced(function*(kind: Kind) {
  cut("up")
  let running = 0
  const handlers = HandlerMap.set(HandlerMap.empty, wait.component, wait.method, () =>
    Effect.suspend(() => {
      running++
      return Effect.never
    }).pipe(Effect.ensuring(Effect.sync(() => running--))))
  const listener = yield* Listener.tcp(address, HandlerMap.merge(handlers, yield* Health.handlers), {
    maxConnectionsPerPeer: clients
  })
  let connections = 0
  const counting: Listener.Listener<Health.Health> = {
    ...listener,
    accept: Effect.map(listener.accept, (accepted) => {
      connections++
      accepted.connection.once("close", () => connections--)
      return accepted
    })
  }
  const options: Server.ServerOptions = {
    keepAlive: { interval: "1 second", timeout: "1 second" },
    maxConcurrentCalls: clients,
    shutdownGrace: 0
  }
  yield* Effect.forkScoped(Server.serve(counting, options))
  const client = yield* Effect.acquireRelease(
    Effect.sync(() => spawn(process.execPath, [fileURLToPath(import.meta.url), kind, "client"], { stdio: "inherit" })),
    (client) => Effect.sync(() => client.kill("SIGKILL"))
  )
  yield* until(() => connections === clients && running === (kind === "health" ? 0 : clients))
  // What was sent is acknowledged: else the system sends it again, and asks nothing.
  yield* Effect.sleep(500)
  const before: Counts = { connections, running }
  cut("down")
  client.kill("SIGKILL")
  const vanishedAt = performance.now()
  yield* until(() => connections === 0 && running === 0).pipe(Effect.timeoutOption("40 seconds"))
  const seconds = (performance.now() - vanishedAt) / 1000
  const after: Counts = { connections, running }
  cut("up")
  const connection = yield* Connection.make(Resolver.constant(Endpoint.tcp(address)))
  const call = connection.call(wait, nothing, { timeout: "5 seconds" })
  const letIn = yield* Effect.race(
    Effect.as(Effect.ignore(call), false),
    Effect.as(until(() => running === after.running + 1), true)
  )
  const outcome: Outcome = { before, after, seconds, letIn }
  console.log(JSON.stringify(outcome))
}, Effect.provide(Health.layer()))

if (import.meta.main) {
  const [, , kind, role] = process.argv
  // Only the test and this file start it.
  const name = kind as Kind
  const effect: Effect.Effect<void, unknown, Scope.Scope> = role === "client" ? kinds[name] : run(name)
  await Effect.runPromise(Effect.provide(Effect.scoped(effect), Logger.layer([])))
  process.exit()
}
