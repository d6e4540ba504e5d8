/**
 * A program that serves and calls over every kind of socket, with calls in flight and dials under way, and closes it
 * all. It does so three times: the Connections first (with `close`), everything at once (with its Scopes), the servers
 * first. It prints "closed" each time, and then has nothing left to do: its process must end by itself.
 */
import { Effect, Exit, Fiber, Logger, Scope, SubscriptionRef } from "effect"
import { mkdtempSync, rmSync } from "node:fs"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { makeAuthority } from "../../examples/support/certificates.ts"
// The sources, not what was built of them at some time.
import { Connection, Endpoint, HandlerMap, Listener, MethodKey, Resolver, Server } from "../../src/index.ts"

const component = "test/Exit"
const echo = MethodKey.make(component, "echo")
const hang = MethodKey.make(component, "hang")
const nothing = new Uint8Array()
/**
 * A timer of these that is left keeps the process alive for longer than the test waits for its end, even on a busy
 * machine.
 */
const keepAlive = { interval: "1 hour", timeout: "1 hour" } as const

/** Waits, turn by turn of the event loop, for what is going to be true by itself. */
const until = (condition: Effect.Effect<boolean>) =>
  Effect.callback<void>((resume) => void setImmediate(() => resume(Effect.void))).pipe(
    Effect.andThen(condition),
    Effect.repeat({ until: (is) => is })
  )

const program = Effect.fnUntraced(function*(first: "connections" | "scopes" | "servers") {
  const serving = yield* Scope.make()
  const connecting = yield* Scope.make()
  const authority = yield* makeAuthority()
  const certificates = { ca: authority.ca, ...(yield* authority.server()) }
  const client = { ca: authority.ca, ...(yield* authority.client({ commonName: "client" })) }
  const directory = mkdtempSync(join(tmpdir(), "effect-call-"))

  let hanging = 0
  const handlers = HandlerMap.empty.pipe(
    HandlerMap.set(component, "echo", (args) => Effect.succeed(args)),
    HandlerMap.set(component, "hang", () =>
      Effect.suspend(() => {
        hanging++
        // It waits with a timer, which has to go with it.
        return Effect.as(Effect.sleep("1 hour"), nothing)
      }))
  )

  const listeners = yield* Scope.provide(
    Effect.all([
      Listener.tcp("127.0.0.1:0", handlers),
      Listener.unix(join(directory, "socket"), handlers),
      Effect.flatMap(
        Listener.tcp("127.0.0.1:0", handlers),
        (listener) => Listener.mtls(Effect.succeed(certificates), listener)
      )
    ]),
    serving
  )
  const endpoints: Array<Endpoint.Endpoint> = []
  for (const listener of listeners) {
    const options = { shutdownGrace: "100 millis", firstMessageTimeout: "1 hour", keepAlive } as const
    yield* Effect.forkIn(Server.serve(listener, options), serving)
    const endpoint = yield* Endpoint.parse(listener.address)
    endpoints.push(listener.address.startsWith("mtls") ? Endpoint.mtls(client, endpoint) : endpoint)
  }
  // A peer that accepts and never says its version: its dial is under way until it is called off.
  let greeted = false
  const silent = createServer((socket) => socket.on("error", () => {}).once("data", () => greeted = true))
  yield* Effect.callback<void>((resume) => void silent.listen(0, "127.0.0.1", () => resume(Effect.void)))
  const address = silent.address()
  const silentEndpoint = Endpoint.tcp(`127.0.0.1:${typeof address === "object" && address !== null ? address.port : 0}`)
  // No server listens there: it is in backoff.
  const deadEndpoint = Endpoint.unix(join(directory, "nobody"))

  const connect = (endpoints: ReadonlyArray<Endpoint.Endpoint>) =>
    Effect.gen(function*() {
      const ref = yield* SubscriptionRef.make(endpoints)
      return yield* Connection.make(Resolver.fromSubscriptionRef(ref), {
        optimisticSpinDuration: 1,
        dialTimeout: "1 hour",
        backoff: { initial: "1 hour", max: "1 hour" },
        keepAlive
      })
    }).pipe(Scope.provide(connecting))

  const connections: Array<Connection.Connection> = []
  const calls: Array<Fiber.Fiber<unknown, unknown>> = []
  for (const endpoint of endpoints) {
    const connection = yield* connect([endpoint])
    connections.push(connection)
    yield* connection.call(echo, nothing, { timeout: "1 hour" })
    calls.push(yield* Effect.forkDetach(connection.call(hang, nothing)))
    calls.push(yield* Effect.forkDetach(connection.call(hang, nothing, { timeout: "1 hour" })))
  }
  for (const endpoint of [silentEndpoint, deadEndpoint]) {
    const connection = yield* connect([endpoint])
    connections.push(connection)
    calls.push(yield* Effect.forkDetach(connection.call(echo, nothing, { waitForReady: true, timeout: "1 hour" })))
  }
  // Every call hangs in its handler, in a dial, or in a backoff.
  const inBackoff = Effect.map(connections.at(-1)!.state, ({ endpoints }) => endpoints[0]!.inBackoff)
  yield* until(Effect.map(inBackoff, (inBackoff) => inBackoff && greeted && hanging === 2 * endpoints.length))

  if (first === "connections") {
    for (const connection of connections) yield* connection.close
    yield* Scope.close(serving, Exit.void)
  } else if (first === "servers") {
    yield* Scope.close(serving, Exit.void)
    yield* Scope.close(connecting, Exit.void)
  } else {
    yield* Effect.all([Scope.close(connecting, Exit.void), Scope.close(serving, Exit.void)], { concurrency: 2 })
  }
  silent.close()
  const exits = yield* Effect.forEach(calls, Fiber.await)
  rmSync(directory, { recursive: true })
  process.stdout.write(`${first} first: closed ${exits.filter(Exit.isFailure).length} calls\n`)
})

for (const first of ["connections", "scopes", "servers"] as const) {
  // What it breaks is logged, too: on the output that it says "closed" on.
  await Effect.runPromise(Effect.provide(program(first), Logger.layer([])))
}
