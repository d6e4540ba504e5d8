/**
 * The two environments of the `rolling` example: replicas behind a name in DNS, and replicas as sockets in a directory.
 * Each replica is a process.
 */
import { Effect, Exit, FileSystem, Option, Scope, Stream } from "effect"
import { Resolver } from "effect-call"
import { ChildProcess } from "effect/process"
import { fileURLToPath } from "node:url"
import { startDnsmasq } from "../../support/dnsmasq.ts"

const program = fileURLToPath(new URL("../../support/replica.ts", import.meta.url))

export interface Replica {
  readonly address: string
  /** Tells the replica to stop, as a deployment does, and waits until it has stopped. */
  readonly stop: Effect.Effect<void>
}

/** An environment for replicas: it starts them, and lists them where a client can find them. */
export interface Place<R> {
  readonly resolver: Resolver.Resolver
  readonly start: (name: string) => Effect.Effect<Replica, unknown, R>
  /** Replaces the list of replicas that clients see. */
  readonly list: (names: ReadonlyArray<string>) => Effect.Effect<void>
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

/** The replicas listen on 127.0.0.11 and the addresses after it, all on the same port: a name in DNS has no port. */
export const behindDns = Effect.fnUntraced(function*(names: ReadonlyArray<string>) {
  const host = (name: string) => `127.0.0.${11 + names.indexOf(name)}`
  // A first replica finds a free port.
  const probe = yield* Effect.scoped(startReplica("probe", "tcp://127.0.0.11:0"))
  const port = probe.address.slice(probe.address.lastIndexOf(":") + 1)
  // The records live for one second.
  const { nameServers, setHosts } = yield* startDnsmasq({ hosts: {}, options: ["--local-ttl=1"] })
  return {
    resolver: yield* Effect.provide(Resolver.dns(`cart.internal:${port}`), Resolver.layerDns({ nameServers })),
    start: (name: string) => startReplica(name, `tcp://${host(name)}:${port}`),
    list: (listed: ReadonlyArray<string>) => setHosts({ "cart.internal": listed.map(host) })
  }
})

export const inDirectory = Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  const directory = yield* fs.makeTempDirectoryScoped({ prefix: "rolling-" })
  return {
    resolver: yield* Resolver.directory(directory),
    start: (name: string) => startReplica(name, `unix://${directory}/${name}.sock`),
    // A replica creates its socket when it starts to listen, and removes it when it stops.
    list: () => Effect.void
  }
})
