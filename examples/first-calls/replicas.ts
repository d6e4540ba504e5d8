/**
 * A service with four replicas. Each is a separate process: two on TCP, one on a Unix socket, and one on TCP with mTLS.
 *
 * The client balances calls over the replicas, cancels a call, loses a replica, and reconnects to it. The program
 * checks each claim that it prints, and exits with code 0 only if all claims were observed.
 *
 * Run it with `npm start`.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Console, Duration, Effect, Fiber, FileSystem, Logger, Option, Schedule, Schema, Stream } from "effect"
import { Balancer, type CallError, Connection, Endpoint, Resolver } from "effect-call"
import { ChildProcess } from "effect/process"
import * as assert from "node:assert/strict"
import { fileURLToPath } from "node:url"
import "../support/closedOutput.ts"
import { makeAuthority } from "../support/certificates.ts"
import { makeObserver } from "../support/observe.ts"
import * as Worker from "../support/worker.ts"

const program = fileURLToPath(new URL("../support/replica.ts", import.meta.url))

/** Starts a replica, and waits until it prints its address. The replica ends when the Scope closes. */
const startReplica = Effect.fnUntraced(function*(name: string, address: string, directory: string) {
  const process = yield* ChildProcess.make(globalThis.process.execPath, [program, name, address, directory], {
    stderr: "inherit",
    forceKillAfter: "2 seconds"
  })
  const line = yield* process.stdout.pipe(Stream.decodeText(), Stream.splitLines, Stream.runHead)
  if (Option.isNone(line)) {
    return yield* Effect.fail(new Error(`replica ${name} ended before it listened on ${address}`))
  }
  yield* Console.log(`  ${name}: process ${process.pid} on ${line.value}`)
  return { process, endpoint: yield* Endpoint.parse(line.value) }
})

/** Creates certificates for a server and a client. It writes the server's to files, and returns the client's. */
const makeCertificates = Effect.fnUntraced(function*(directory: string) {
  const fs = yield* FileSystem.FileSystem
  const authority = yield* makeAuthority()
  const server = yield* authority.server()
  yield* fs.writeFileString(`${directory}/ca.pem`, authority.ca)
  yield* fs.writeFileString(`${directory}/server.pem`, server.cert)
  yield* fs.writeFileString(`${directory}/server-key.pem`, server.key)
  return { ca: authority.ca, ...(yield* authority.client({ commonName: "replicas" })) }
})

const askName = Effect.fnUntraced(function*(connection: Connection.Connection, options?: Connection.CallOptions) {
  return Worker.fromBytes(yield* connection.call(Worker.name, Worker.nothing, { timeout: "5 seconds", ...options }))
})

const askJobs = Effect.fnUntraced(function*(connection: Connection.Connection, options: Connection.CallOptions) {
  const answer = yield* connection.call(Worker.jobs, Worker.nothing, options)
  return yield* Schema.decodeEffect(Worker.Jobs)(Worker.fromBytes(answer))
})

/** Repeats `ask` until its answer is the expected one. */
const until = <A, E, R>(ask: Effect.Effect<A, E, R>, isRight: (answer: A) => boolean) =>
  Effect.repeat(ask, { until: isRight, schedule: Schedule.spaced("10 millis") })

/** What the client has logged. The program prints it below the claim that it belongs to. */
const logged: Array<string> = []

const logger = Logger.make(({ logLevel, message }) => {
  const [text] = Array.isArray(message) ? message : [message]
  logged.push(`${logLevel}: ${text}`)
})

const main = Effect.gen(function*() {
  const { observe, verdict } = makeObserver()
  const fs = yield* FileSystem.FileSystem
  const directory = yield* fs.makeTempDirectoryScoped({ prefix: "replicas-" })
  const certificates = yield* makeCertificates(directory)
  const socket = `unix://${directory}/c.sock`

  yield* Console.log("four replicas:")
  const [a, b, c, d] = yield* Effect.all([
    startReplica("a", "tcp://127.0.0.1:0", directory),
    startReplica("b", "tcp://127.0.0.1:0", directory),
    startReplica("c", socket, directory),
    startReplica("d", "mtls://tcp://127.0.0.1:0", directory)
  ], { concurrency: "unbounded" })

  const connection = yield* Connection.make(
    Resolver.constant(a.endpoint, b.endpoint, c.endpoint, Endpoint.mtls(certificates, d.endpoint)),
    // With a short backoff, the client soon reconnects to a replica that was down.
    { backoff: { max: "500 millis" } }
  )
  const ask = askName(connection)
  const sharded = yield* Balancer.sharded
  /** Options that select one replica: 0n selects a, 1n selects b, and so on. */
  const shard = (shardKey: bigint): Connection.CallOptions => ({ shardKey, balancer: sharded })

  yield* observe(
    "round robin takes the replicas in turn",
    Effect.gen(function*() {
      const names = yield* Effect.replicateEffect(ask, 8)
      assert.deepEqual(names, ["a", "b", "c", "d", "a", "b", "c", "d"])
      return `8 calls were answered by ${names.join(" ")}`
    })
  )

  yield* observe(
    "a shard key leads to the same replica each time",
    Effect.gen(function*() {
      const keys = [0n, 1n, 2n, 3n, 4n, 2n, 2n, 2n ** 64n - 1n]
      const names = yield* Effect.forEach(keys, (key) => askName(connection, shard(key)))
      assert.deepEqual(names, ["a", "b", "c", "d", "a", "c", "c", "d"])
      return keys.map((key, i) => `${key} → ${names[i]}`).join(", ")
    })
  )

  yield* observe(
    "cancelling a call stops its handler",
    Effect.gen(function*() {
      const working = yield* Effect.forkChild(connection.call(Worker.work, Worker.nothing, shard(1n)))
      const before = yield* until(askJobs(connection, shard(1n)), ({ running }) => running === 1)
      yield* Fiber.interrupt(working)
      const after = yield* until(askJobs(connection, shard(1n)), ({ running }) => running === 0)
      assert.deepEqual([before, after], [{ running: 1, stopped: 0 }, { running: 0, stopped: 1 }])
      return "b had 1 handler running; after the cancel 0 are running and 1 was stopped"
    })
  )

  yield* observe(
    "a killed replica costs the call that it was working on",
    Effect.gen(function*() {
      const working = yield* Effect.forkChild(Effect.flip(connection.call(Worker.work, Worker.nothing, shard(2n))))
      yield* until(askJobs(connection, shard(2n)), ({ running }) => running === 1)
      yield* c.process.kill({ killSignal: "SIGKILL" })
      const error: CallError.CallError = yield* Fiber.join(working)
      assert.equal(error._tag, "CommunicationError")
      assert.deepEqual([error.reason._tag, error.maybeExecuted], ["Lost", true])
      yield* until(Effect.sync(() => logged.length), (count) => count > 0)
      assert.deepEqual(logged, ["Warn: a connection was lost"])
      return `c was killed; the call failed with ${error._tag} ${error.reason._tag}, maybeExecuted: ${error.maybeExecuted}
    the client logged: ${logged.join(", ")}`
    })
  )

  yield* observe(
    "and no other: calls go on with the other replicas",
    Effect.gen(function*() {
      const names = yield* Effect.replicateEffect(ask, 60)
      assert.deepEqual([...new Set(names)].toSorted(), ["a", "b", "d"])
      return "60 calls, 60 answers, all from a, b and d"
    })
  )

  yield* observe(
    "with a shard key there is no other replica to go to",
    Effect.gen(function*() {
      const error = yield* Effect.flip(askName(connection, shard(2n)))
      assert.equal(error._tag, "Unreachable")
      return `${error._tag}: ${error.attempts.map(({ message }) => message).join("; ")}`
    })
  )

  const again = yield* startReplica("c", socket, directory)
  yield* observe(
    "a replica that was started again is used again",
    Effect.gen(function*() {
      assert.notEqual(again.process.pid, c.process.pid)
      const [duration] = yield* Effect.timed(until(ask, (name) => name === "c"))
      const millis = Math.round(Duration.toMillis(duration))
      return `process ${again.process.pid} took over the socket file of ${c.process.pid}, and answered ${millis} ms later`
    })
  )

  yield* observe(
    "closing the Connection ends the calls in flight and refuses later ones",
    Effect.gen(function*() {
      const working = yield* Effect.forkChild(Effect.flip(connection.call(Worker.work, Worker.nothing, shard(0n))))
      yield* until(askJobs(connection, shard(0n)), ({ running }) => running === 1)
      yield* connection.close
      const errors = [yield* Fiber.join(working), yield* Effect.flip(ask)]
      const reasons = errors.map((error) => error._tag === "CommunicationError" ? error.reason._tag : error._tag)
      assert.deepEqual(reasons, ["Closed", "Closed"])
      assert.deepEqual(yield* connection.state, { closed: true, endpoints: [] })
      return `both failed with ${errors[0]?._tag} Closed`
    })
  )

  yield* observe(
    "the replicas close cleanly when they are told to",
    Effect.gen(function*() {
      const processes = [a.process, b.process, again.process, d.process]
      const codes = yield* Effect.forEach(processes, (process) =>
        // A replica serves until its standard input ends.
        Effect.andThen(Stream.run(Stream.empty, process.stdin), process.exitCode), { concurrency: "unbounded" })
      assert.deepEqual(codes, [0, 0, 0, 0])
      assert.equal(yield* fs.exists(`${directory}/c.sock`), false)
      return "all ended with exit code 0, and the socket file is gone"
    })
  )

  yield* verdict
})

main.pipe(
  Effect.timeout("30 seconds"),
  Effect.scoped,
  Effect.provide([NodeServices.layer, Logger.layer([logger])]),
  NodeRuntime.runMain
)
