/**
 * A client of `server.ts`, for the runtime that runs it. It prints a line for each check. The last one ends when the
 * server stops: a call is in flight then.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Cause, Console, Effect, Exit, Fiber, References, Schedule, Schema } from "effect"
import { Component, Connection, Endpoint, Resolver } from "effect-call"
import * as assert from "node:assert/strict"
import { Checked, echo, given, Runtimes, transports } from "./contract.ts"

const soon = { schedule: Schedule.spaced("5 millis").pipe(Schedule.upTo({ times: 400 })) }

/** The checks of one connection, by name. */
const checksOf = Effect.fnUntraced(function*(transport: string, connection: Connection.Connection) {
  const client = yield* Effect.provideService(Component.client(Runtimes), Connection.Connection, connection)
  /** Starts a call of `Wait`, and makes sure that its handler runs. */
  const waiting = Effect.fnUntraced(function*(millis: number) {
    const call = yield* Effect.forkChild(client.Wait({ millis }), { startImmediately: true })
    yield* Effect.repeat(client.Waiting(), { until: ({ running }) => running === 1, ...soon })
    return call
  })
  /** Makes sure that `end` interrupts the handler of a call. */
  const interrupts = <E>(end: Effect.Effect<unknown, E>) =>
    Effect.gen(function*() {
      const before = (yield* client.Waiting()).interrupted
      yield* end
      const after = yield* Effect.repeat(client.Waiting(), { until: ({ running }) => running === 0, ...soon })
      assert.equal(after.interrupted, before + 1)
    })
  const checks: Record<string, Effect.Effect<unknown, unknown>> = {
    typed: Effect.gen(function*() {
      const names = Array.from({ length: 200 }, (_, i) => `caller ${i}`)
      const greetings = yield* Effect.forEach(names, (name) => client.Greet({ name }), { concurrency: "unbounded" })
      assert.deepEqual(greetings, names.map((name) => `Hello, ${name}!`))
    }),
    error: Effect.gen(function*() {
      assert.equal((yield* Effect.flip(client.Greet({ name: "" })))._tag, "Refused")
    }),
    bytes: Effect.forEach([0, 1, 20_000, 3_000_000], (size) =>
      Effect.gen(function*() {
        const args = new Uint8Array(size).fill(size % 251)
        // With assert, a difference of megabytes would be printed.
        const isSame = Buffer.compare(args, yield* connection.call(echo, args)) === 0
        assert.ok(isSame, `${size} bytes came back changed`)
      })),
    deadline: interrupts(Effect.gen(function*() {
      const error = yield* Effect.flip(Connection.withOptions(client.Wait({ millis: 60_000 }), { timeout: 50 }))
      assert.equal(error._tag, "DeadlineExceeded")
    })),
    cancel: interrupts(Effect.flatMap(waiting(60_000), Fiber.interrupt)),
    identity: Effect.gen(function*() {
      assert.equal(yield* client.Who(), transport === "mtls" ? "client" : "")
    })
  }
  return { checks, waiting }
})

/** Makes sure that a server refuses a client, or a client its server. */
const isRefused = Effect.fnUntraced(function*(endpoint: Endpoint.Endpoint) {
  const connection = yield* Connection.make(Resolver.constant(endpoint))
  const error = yield* Effect.flip(connection.call(echo, new Uint8Array(), { timeout: "5 seconds" }))
  assert.ok(error._tag === "Unreachable" || error._tag === "CommunicationError", error.message)
}, Effect.scoped)

const report = (transport: string, check: string, exit: Exit.Exit<unknown, unknown>) =>
  Console.log(
    Schema.encodeSync(Checked)({
      check,
      transport,
      problem: Exit.isSuccess(exit) ? "" : Cause.pretty(exit.cause).slice(0, 500)
    })
  )

const program = Effect.gen(function*() {
  const { addresses, ca, client, crl, crlOfServer, otherCa, revoked, stranger } = yield* given
  assert.ok(addresses !== undefined)
  const { mtls, tcp, unix } = addresses
  const below = yield* Endpoint.parse(mtls.replace("mtls://", ""))
  const endpoints = {
    tcp: yield* Endpoint.parse(tcp),
    unix: yield* Endpoint.parse(unix),
    mtls: Endpoint.mtls({ ...client, ca }, below)
  }
  for (const transport of transports) {
    const connection = yield* Connection.make(Resolver.constant(endpoints[transport]))
    const { checks } = yield* checksOf(transport, connection)
    for (const [check, effect] of Object.entries(checks)) {
      yield* report(transport, check, yield* Effect.exit(Effect.timeout(effect, "10 seconds")))
    }
  }
  const refusals = {
    "another authority's client is refused": Endpoint.mtls({ ...stranger, ca }, below),
    "a revoked client is refused": Endpoint.mtls({ ...revoked, ca }, below),
    "a revoked server is refused": Endpoint.mtls({ ...client, ca, crl: crlOfServer }, below),
    "another authority's server is refused": Endpoint.mtls({ ...client, ca: otherCa }, below),
    "a server with another name is refused": Endpoint.mtls({ ...client, ca, servername: "elsewhere.internal" }, below)
  }
  for (const [check, endpoint] of Object.entries(refusals)) {
    yield* report("mtls", check, yield* Effect.exit(isRefused(endpoint)))
  }
  const checking = yield* Connection.make(Resolver.constant(Endpoint.mtls({ ...client, ca, crl }, below)))
  yield* report("mtls", "client's revocation list", yield* Effect.exit(checking.call(echo, new Uint8Array())))
  const connection = yield* Connection.make(Resolver.constant(endpoints.tcp))
  const { waiting } = yield* checksOf("tcp", connection)
  const call = yield* waiting(300)
  yield* Console.log("stop the server")
  yield* report("tcp", "stop", yield* Effect.exit(Effect.timeout(Fiber.join(call), "10 seconds")))
})

program.pipe(
  Effect.scoped,
  // Connections that are refused are logged as warnings.
  Effect.provideService(References.MinimumLogLevel, "Error"),
  NodeRuntime.runMain
)
