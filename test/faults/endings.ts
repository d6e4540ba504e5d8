/**
 * A program that uses the package in one way after another, and says after each how long the event loop was kept alive
 * by what it left behind. Node emits "beforeExit" when nothing holds the loop any more: the next scenario begins there,
 * and the last ends the process.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as Scope from "effect/Scope"
import * as net from "node:net"
import type { AddressInfo } from "node:net"
import type { Duplex } from "node:stream"
import * as Connection from "../../src/Connection.ts"
import * as Endpoint from "../../src/Endpoint.ts"
import * as HandlerMap from "../../src/HandlerMap.ts"
import * as Listener from "../../src/Listener.ts"
import * as MethodKey from "../../src/MethodKey.ts"
import * as Resolver from "../../src/Resolver.ts"
import * as Server from "../../src/Server.ts"

const echo = MethodKey.make("test/Endings", "echo")
const hang = MethodKey.make("test/Endings", "hang")
const nothing = new Uint8Array()

const serve = Effect.gen(function*() {
  let running = 0
  const handlers = HandlerMap.empty.pipe(
    HandlerMap.set("test/Endings", "echo", (args) => Effect.succeed(args)),
    HandlerMap.set("test/Endings", "hang", () =>
      Effect.suspend(() => {
        running++
        return Effect.never
      }).pipe(Effect.ensuring(Effect.sync(() => void running--))))
  )
  const listener = yield* Listener.tcp("127.0.0.1:0", handlers)
  const serving = yield* Effect.forkScoped(Server.serve(listener, { shutdownGrace: "1 minute" }), {
    startImmediately: true
  })
  return { endpoint: yield* Endpoint.parse(listener.address), serving, running: () => running }
})

const connect = (endpoint: Endpoint.Endpoint, options?: Connection.ClientOptions) =>
  Connection.make(Resolver.constant(endpoint), options)

const turns = (count: number) =>
  Effect.callback<void>((resume) => {
    const turn = (left: number) => left === 0 ? resume(Effect.void) : setImmediate(turn, left - 1)
    turn(count)
  })

const until = Effect.fnUntraced(function*(holds: () => boolean) {
  while (!holds()) yield* turns(1)
})

/** A server that accepts and says nothing. */
const silentServer = Effect.acquireRelease(
  Effect.callback<net.Server>((resume) => {
    const server = net.createServer((socket) => socket.on("error", () => {}).resume())
    server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
  }),
  (server) => Effect.sync(() => server.close())
)

const fork = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.forkChild(effect, { startImmediately: true })

const scenarios: Record<string, Effect.Effect<unknown, unknown, Scope.Scope>> = {
  "calls, and closes both ends": Effect.gen(function*() {
    const { endpoint, serving } = yield* serve
    const connection = yield* connect(endpoint)
    yield* connection.call(echo, nothing)
    yield* connection.call(echo, nothing, { timeout: "1 hour" })
    yield* connection.close
    yield* Fiber.interrupt(serving)
  }),

  "calls, and closes the Scope": Effect.gen(function*() {
    const { endpoint } = yield* serve
    const connection = yield* connect(endpoint)
    yield* connection.call(echo, new Uint8Array(1_000_000), { timeout: "1 hour" })
  }),

  "closes the Scope with calls in flight": Effect.gen(function*() {
    const { endpoint, running } = yield* serve
    const connection = yield* connect(endpoint)
    for (let i = 0; i < 10; i++) {
      yield* Effect.forkScoped(Effect.exit(connection.call(hang, nothing, { timeout: "1 hour" })))
    }
    yield* until(() => running() === 10)
  }),

  "interrupts serve with calls in flight, after its grace": Effect.gen(function*() {
    const handlers = HandlerMap.empty.pipe(HandlerMap.set("test/Endings", "hang", () => Effect.never))
    const listener = yield* Listener.tcp("127.0.0.1:0", handlers)
    const serving = yield* Effect.forkScoped(Server.serve(listener, { shutdownGrace: 20 }), { startImmediately: true })
    const connection = yield* connect(yield* Endpoint.parse(listener.address))
    const call = yield* fork(Effect.exit(connection.call(hang, nothing, { timeout: "1 hour" })))
    yield* turns(20)
    yield* Fiber.interrupt(serving)
    yield* Fiber.join(call)
  }),

  "interrupts a call whose dial hangs": Effect.gen(function*() {
    const { port } = (yield* silentServer).address() as AddressInfo // a TCP server's address is no text
    const connection = yield* connect(Endpoint.tcp(`127.0.0.1:${port}`), { dialTimeout: "1 hour" })
    const call = yield* fork(connection.call(echo, nothing, { timeout: "1 hour" }))
    yield* turns(20)
    yield* Fiber.interrupt(call)
  }),

  "closes a Connection whose dial hangs": Effect.gen(function*() {
    const { port } = (yield* silentServer).address() as AddressInfo // a TCP server's address is no text
    const connection = yield* connect(Endpoint.tcp(`127.0.0.1:${port}`), { dialTimeout: "1 hour" })
    const call = yield* fork(Effect.exit(connection.call(echo, nothing)))
    yield* turns(20)
    yield* connection.close
    yield* Fiber.join(call)
  }),

  "closes a Connection with several connections, one of which is being dialed": Effect.gen(function*() {
    const { endpoint, running } = yield* serve
    const { port } = (yield* silentServer).address() as AddressInfo // a TCP server's address is no text
    let dials = 0
    const dial = Effect.suspend(() => dials++ < 2 ? endpoint.dial : Endpoint.tcp(`127.0.0.1:${port}`).dial)
    const options = { connectionsPerEndpoint: 3, dialTimeout: "1 hour" } as const
    const connection = yield* connect({ address: endpoint.address, dial }, options)
    for (let i = 0; i < 2; i++) {
      yield* connection.call(echo, nothing)
      yield* turns(20)
    }
    yield* connection.call(echo, nothing)
    yield* until(() => dials === 3)
    const calls = yield* Effect.replicateEffect(fork(Effect.exit(connection.call(hang, nothing))), 4)
    yield* until(() => running() === 4)
    yield* connection.close
    yield* Fiber.joinAll(calls)
  }),

  "closes a Connection while calls wait for the end of a backoff": Effect.gen(function*() {
    const connection = yield* connect(Endpoint.unix("/nobody/listens/here"), {
      backoff: { initial: "1 hour", max: "1 hour" }
    })
    const call = yield* fork(Effect.exit(connection.call(echo, nothing, { waitForReady: true, timeout: "2 hours" })))
    yield* turns(20)
    yield* connection.close
    yield* Fiber.join(call)
  }),

  "loses a connection, and never closes the Connection": Effect.gen(function*() {
    const { endpoint, running } = yield* serve
    let socket: Duplex | undefined
    const dial = Effect.tap(endpoint.dial, (duplex) => Effect.sync(() => void (socket = duplex)))
    const open = yield* Scope.make()
    const connection = yield* Scope.provide(connect({ address: endpoint.address, dial }), open)
    const call = yield* fork(Effect.exit(connection.call(hang, nothing, { timeout: "1 hour" })))
    yield* until(() => running() === 1)
    socket?.destroy()
    yield* Fiber.join(call)
  }),

  "closes a Connection in the caller whose deadline has passed, while others have theirs to come": Effect.gen(
    function*() {
      const { endpoint, running } = yield* serve
      const connection = yield* connect(endpoint)
      const other = yield* fork(Effect.exit(connection.call(hang, nothing, { timeout: "1 hour" })))
      yield* until(() => running() === 1)
      yield* Effect.exit(connection.call(hang, nothing, { timeout: 10 }))
      yield* connection.close
      yield* Fiber.join(other)
    }
  ),

  "spins for an answer that comes, and for one that does not": Effect.gen(function*() {
    const { endpoint } = yield* serve
    const connection = yield* connect(endpoint, { optimisticSpinDuration: "1 hour" })
    yield* connection.call(echo, nothing)
    yield* Effect.exit(connection.call(hang, nothing, { timeout: 10 }))
  }),

  "serves garbage": Effect.gen(function*() {
    const { endpoint } = yield* serve
    const socket = yield* endpoint.dial
    socket.resume().write(new Uint8Array(100).fill(255))
    yield* until(() => socket.closed)
  }),

  "stops listening without a connection": Effect.gen(function*() {
    const { serving } = yield* serve
    yield* Fiber.interrupt(serving)
  })
}

const left = Object.entries(scenarios)
let current: { readonly name: string; doneAt: number } | undefined

const next = () => {
  if (current !== undefined) {
    console.log(JSON.stringify({ name: current.name, millis: performance.now() - current.doneAt }))
  }
  const scenario = left.shift()
  if (scenario === undefined) return
  const [name, effect] = scenario
  current = { name, doneAt: Infinity }
  Effect.runCallback(Effect.scoped(Effect.provide(effect, Logger.layer([]))), {
    onExit: (exit) => {
      if (Exit.isFailure(exit)) throw new Error(`${name}: ${Cause.pretty(exit.cause)}`)
      current = { name, doneAt: performance.now() }
    }
  })
}

process.on("beforeExit", next)
next()
