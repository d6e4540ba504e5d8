/**
 * Replaces five replicas one by one while twenty callers call them. Each replica is a process. First the replicas are
 * behind a name in DNS; then they are the sockets in a directory.
 *
 * A chart shows which replicas get the calls. No call may fail, and each new replica must get its share within two
 * seconds after it is listed. The DNS server is a real one, dnsmasq. If that is not installed (`apt-get install
 * dnsmasq-base`), the program skips this part. The replicas listen on 127.0.0.11 to 127.0.0.20. On macOS these
 * addresses have to be configured first.
 *
 * Run it with `node examples/rolling/run.ts`.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Console, Duration, Effect, Exit, FileSystem, Option, Scope, Stream } from "effect"
import { Connection, Resolver } from "effect-call"
import { ChildProcess } from "effect/process"
import * as assert from "node:assert/strict"
import { fileURLToPath } from "node:url"
import { hasDnsmasq, startDnsmasq } from "../support/dnsmasq.ts"
import * as Load from "./load.ts"

const program = fileURLToPath(new URL("../support/replica.ts", import.meta.url))
const callers = 20
const old = ["a", "b", "c", "d", "e"]
const replacements = ["f", "g", "h", "i", "j"]

interface Replica {
  readonly address: string
  /** Tells the replica to stop, as a deployment does, and waits until it has stopped. */
  readonly stop: Effect.Effect<void>
}

/**
 * Starts a replica, and waits until it listens. The replica ends when the Scope closes, if it was not stopped before.
 */
const startReplica = Effect.fnUntraced(function*(name: string, address: string) {
  const scope = yield* Scope.fork(yield* Effect.scope)
  const process = yield* ChildProcess.make(globalThis.process.execPath, [program, name, address], {
    stderr: "inherit",
    forceKillAfter: "5 seconds"
  }).pipe(Scope.provide(scope))
  const line = yield* process.stdout.pipe(Stream.decodeText(), Stream.splitLines, Stream.runHead)
  if (Option.isNone(line)) return yield* Effect.die(new Error(`replica ${name} does not listen on ${address}`))
  // Closing the Scope sends SIGTERM.
  return { address: line.value, stop: Scope.close(scope, Exit.void) } satisfies Replica
})

/** An environment for replicas: it starts them, and lists them where a client can find them. */
interface Place<R> {
  readonly resolver: Resolver.Resolver
  readonly start: (name: string) => Effect.Effect<Replica, unknown, R>
  /** Replaces the list of replicas that clients see. */
  readonly list: (names: ReadonlyArray<string>) => Effect.Effect<void>
}

const roll = Effect.fnUntraced(function*<R>({ list, resolver, start }: Place<R>) {
  const replicas = new Map<string, Replica>()
  const add = Effect.fnUntraced(function*(name: string) {
    replicas.set(name, yield* start(name))
  })
  yield* Effect.forEach(old, add, { concurrency: 2 })
  yield* list(old)
  // With `eager`, the client connects to a replica before the first call goes to it.
  const connection = yield* Connection.make(resolver, { eager: true })
  const load = yield* Load.start(connection, callers, Console.log)
  yield* Effect.forEach(old, (name) => load.share(name, old.length))

  const took: Array<number> = []
  for (const [index, leaver] of old.entries()) {
    const newcomer = replacements[index]
    if (newcomer === undefined) continue
    yield* add(newcomer)
    yield* list([...replicas.keys()])
    took.push(Duration.toMillis(yield* load.share(newcomer, replicas.size)))
    const leaving = replicas.get(leaver)
    replicas.delete(leaver)
    yield* list([...replicas.keys()])
    if (leaving !== undefined) yield* leaving.stop
  }
  yield* Effect.forEach(replacements, (name) => load.share(name, replacements.length))
  // Copy the failures before the replicas stop.
  const failures = [...load.failures]
  yield* connection.close
  const slowest = Math.max(...took)
  yield* Console.log(
    `${load.answered()} calls, ${failures.length} failed; new replicas had their share after ` +
      `${took.map((millis) => `${Math.round(millis)} ms`).join(", ")}\n`
  )
  assert.deepEqual(failures, [])
  assert.ok(slowest < 2000, `a new replica had its share only after ${slowest} ms`)
}, Effect.scoped)

const behindDns = Effect.gen(function*() {
  yield* Console.log("behind cart.internal, in DNS:")
  const host = (name: string) => `127.0.0.${11 + [...old, ...replacements].indexOf(name)}`
  // All replicas need the same port, because a name in DNS has no port. A first replica finds a free one.
  const probe = yield* Effect.scoped(startReplica("probe", `tcp://${host("a")}:0`))
  const port = probe.address.split(":").at(-1) ?? ""
  const server = yield* startDnsmasq({ hosts: {}, options: ["--local-ttl=1"] })
  const resolver = yield* Effect.provide(Resolver.dns(`cart.internal:${port}`), Resolver.layerDns(server))
  yield* roll({
    resolver,
    start: (name) => startReplica(name, `tcp://${host(name)}:${port}`),
    list: (names) => server.setHosts({ "cart.internal": names.map(host) })
  })
}).pipe(Effect.scoped)

const inDirectory = Effect.gen(function*() {
  yield* Console.log("as sockets in a directory:")
  const fs = yield* FileSystem.FileSystem
  const directory = yield* fs.makeTempDirectoryScoped({ prefix: "rolling-" })
  yield* roll({
    resolver: yield* Resolver.directory(directory),
    start: (name) => startReplica(name, `unix://${directory}/${name}.sock`),
    // A replica creates its socket when it starts to listen, and removes it when it stops.
    list: () => Effect.void
  })
}).pipe(Effect.scoped)

const main = Effect.gen(function*() {
  if (yield* hasDnsmasq) yield* behindDns
  else yield* Console.log("NOT SHOWN: replicas behind DNS, since dnsmasq is not installed\n")
  yield* inDirectory
})

main.pipe(Effect.timeout("80 seconds"), Effect.provide(NodeServices.layer), NodeRuntime.runMain)
