/** Programs that run in a network of their own, which they may change. They print what each has found out. */
import { Effect, Exit, Fiber, Logger } from "effect"
import { execSync } from "node:child_process"
import { createSocket } from "node:dgram"
import { lookup } from "node:dns/promises"
import { once } from "node:events"
import { writeFileSync } from "node:fs"
import * as net from "node:net"
// The sources, not what was built of them at some time.
import { Connection, Endpoint, HandlerMap, Listener, MethodKey, Resolver, Server } from "../../../src/index.ts"
import { CurrentObstacles, Obstacles } from "../../../src/internal/net/obstacles.ts"

const turn = Effect.promise(() => new Promise(setImmediate))
const echo = MethodKey.make("example/Echo", "echo")
const handlers = HandlerMap.set(HandlerMap.empty, "example/Echo", "echo", (args) => Effect.succeed(args))
const count = (what: string) => process.getActiveResourcesInfo().filter((name) => name === what).length

const listening = (where: net.ListenOptions) =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const sockets: Array<net.Socket> = []
      const server = net.createServer((socket) => void sockets.push(socket.on("error", () => {}))).listen(where)
      await once(server, "listening")
      return { server, sockets }
    }),
    ({ server }) => Effect.sync(() => server.close())
  )

/** Says what becomes of a dial. */
const outcome = (endpoint: Endpoint.Endpoint) =>
  Effect.scoped(Effect.match(endpoint.dial, { onFailure: ({ message }) => message, onSuccess: () => "connected" }))

/** The first and the last port that the system gives to clients. */
const localPorts = (ports: string) => Effect.sync(() => writeFileSync("/proc/sys/net/ipv4/ip_local_port_range", ports))

/** A name server that never answers, until its Scope ends: this process cannot end before its lookups do. */
const silentNameServer = Effect.acquireRelease(
  Effect.promise(async () => {
    const questions: Array<() => void> = []
    let isOver = false
    const server = createSocket("udp4").bind(53, "127.0.0.1")
    server.on("message", (question, { address, port }) => {
      const answer = () => {
        // There is no such name.
        question[2] = 0x84
        question[3] = 3
        server.send(question, port, address)
      }
      if (isOver) answer()
      else questions.push(answer)
    })
    await once(server, "listening")
    return () => {
      isOver = true
      for (const answer of questions) answer()
    }
  }),
  (answer) => Effect.sync(answer)
)

const programs: Readonly<Record<string, Effect.Effect<unknown, unknown, never>>> = {
  /** Two services are called again and again, with less time than their names need. */
  silentDns: Effect.gen(function*() {
    yield* silentNameServer
    const connections = yield* Effect.forEach(
      ["a", "b"],
      (name) => Connection.make(Resolver.constant(Endpoint.tcp(`${name}.test:7000`)))
    )
    const buffers = process.memoryUsage().arrayBuffers
    yield* Effect.forEach(
      connections,
      (connection) =>
        Effect.repeat(Effect.exit(connection.call(echo, new Uint8Array(1), { timeout: 2 })), { times: 100 }),
      { concurrency: "unbounded" }
    )
    const found = {
      lookups: count("GetAddrInfoReqWrap"),
      sockets: count("TCPSocketWrap"),
      megabytes: Math.max(0, Math.round((process.memoryUsage().arrayBuffers - buffers) / 1e6))
    }
    const late = yield* Connection.make(Resolver.constant(Endpoint.tcp("a.test:7000")), { dialTimeout: 50 })
    return { ...found, why: (yield* Effect.flip(late.call(echo, new Uint8Array(1)))).message }
  }).pipe(Effect.scoped),

  localhost: Effect.gen(function*() {
    const listener = yield* Listener.tcp("localhost:7000", handlers)
    yield* Effect.forkScoped(Server.serve(listener))
    const connection = yield* Connection.make(Resolver.constant(Endpoint.tcp("localhost:7000")))
    const answer = yield* connection.call(echo, Uint8Array.of(1))
    return { address: listener.address, answer: [...answer] }
  }).pipe(Effect.scoped),

  order: outcome(Endpoint.tcp("four.test:7000")),

  /** Of a name whose first address is another machine's: it has a way there, and such IPv6 addresses come first. */
  listen: Effect.gen(function*() {
    execSync("ip addr add 2001:db8::9/64 dev lo nodad")
    const first = yield* Effect.promise(() => lookup("two.test"))
    const { address } = yield* Listener.tcp("two.test:7000", handlers)
    const second = yield* Effect.flip(Listener.tcp("two.test:7000", handlers))
    return { first: first.address, address, second: second.message }
  }).pipe(Effect.scoped),

  toItself: Effect.gen(function*() {
    yield* localPorts("40000 40000")
    const outcomes = yield* Effect.forEach(
      ["127.0.0.1:40000", "[::1]:40000", "localhost:40000"],
      (address) => outcome(Endpoint.tcp(address))
    )
    // The port is free again at once.
    const listener = yield* Listener.tcp("127.0.0.1:40000", handlers)
    return { outcomes, address: listener.address }
  }).pipe(Effect.scoped),

  /** A second connection where there is one port. */
  noPort: Effect.gen(function*() {
    yield* localPorts("40000 40000")
    const { sockets } = yield* listening({ port: 7000, host: "127.0.0.1" })
    yield* Endpoint.tcp("127.0.0.1:7000").dial
    const obstacles = new Obstacles()
    const second = yield* Effect.forkChild(
      Effect.provideService(Endpoint.tcp("127.0.0.1:7000").dial, CurrentObstacles, obstacles),
      { startImmediately: true }
    )
    while (!obstacles.text.includes("EADDRNOTAVAIL") && second.pollUnsafe() === undefined) yield* turn
    const waits = second.pollUnsafe() === undefined
    // Reset, so that nothing is left of it.
    for (const socket of sockets) socket.resetAndDestroy()
    const exit = yield* Fiber.await(second)
    return { waits, second: Exit.isSuccess(exit) ? "connected" : String(exit.cause) }
  }).pipe(Effect.scoped),

  /** Without IPv6, the system says of such addresses what it says of a lack of ports. */
  noIPv6: Effect.gen(function*() {
    yield* localPorts("40000 50000")
    writeFileSync("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1")
    // It would not end by itself.
    return yield* Effect.timeout(outcome(Endpoint.tcp(":7000")), "5 seconds")
  })
}

/** One after the other: the last one takes away a part of the network. */
const all = Effect.forEach(
  Object.entries(programs),
  ([name, program]) =>
    Effect.map(Effect.exit(program), (exit) => [name, Exit.isSuccess(exit) ? exit.value : String(exit.cause)])
)
console.log(JSON.stringify(Object.fromEntries(await Effect.runPromise(Effect.provide(all, Logger.layer([]))))))
process.exit()
