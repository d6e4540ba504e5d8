/**
 * Five replicas are replaced one by one while callers call: what `examples/discovery/rolling.ts` shows with processes,
 * with fewer calls.
 */
import { NodeFileSystem } from "@effect/platform-node"
import { describe, it } from "@effect/vitest"
import { Duration, Effect, Fiber, FileSystem } from "effect"
import { Connection, HandlerMap, Listener, Resolver, Server } from "effect-call"
import * as assert from "node:assert/strict"
import * as Load from "../../examples/discovery/rolling/load.ts"
import { hasDnsmasq, startDnsmasq } from "../../examples/support/dnsmasq.ts"

const old = ["a", "b", "c", "d", "e"]
const replacements = ["f", "g", "h", "i", "j"]
const all = [...old, ...replacements]

const handlersOf = (name: string) =>
  HandlerMap.set(HandlerMap.empty, "example/Worker", "name", () => Effect.succeed(new TextEncoder().encode(name)))

/** Serves until it is stopped, as a signal stops it. */
const serve = <E, R>(listen: Effect.Effect<Listener.Listener, E, R>) =>
  Effect.gen(function*() {
    const listener = yield* listen
    const serving = yield* Effect.forkScoped(Server.serve(listener), { startImmediately: true })
    return { address: listener.address, stop: Effect.asVoid(Fiber.interrupt(serving)) }
  })

/** Replaces all, where they are listed like that, and checks what may not happen. */
const roll = Effect.fnUntraced(function*<R>(
  resolver: Resolver.Resolver,
  start: (name: string) => Effect.Effect<{ readonly stop: Effect.Effect<void> }, unknown, R>,
  list: (names: ReadonlyArray<string>) => Effect.Effect<void>
) {
  const replicas = new Map<string, { readonly stop: Effect.Effect<void> }>()
  for (const name of old) replicas.set(name, yield* start(name))
  yield* list(old)
  const connection = yield* Connection.make(resolver, { eager: true })
  const load = yield* Load.start(connection, 8, () => Effect.void)
  for (const [index, leaver] of old.entries()) {
    const newcomer = replacements[index]!
    replicas.set(newcomer, yield* start(newcomer))
    yield* list([...replicas.keys()])
    const took = Duration.toMillis(yield* load.share(newcomer, replicas.size))
    assert.ok(took < 2000, `${newcomer} had its share after ${took} ms`)
    const leaving = replicas.get(leaver)!
    replicas.delete(leaver)
    yield* list([...replicas.keys()])
    yield* leaving.stop
  }
  assert.deepEqual(load.failures, [])
  assert.ok(load.answered() > 100)
  yield* connection.close
})

// More than a second, since a share is measured for a while, ten times.
describe("five replicas that are replaced one by one get their share within 2 s, and no call fails,", () => {
  it.live.skipIf(!Effect.runSync(hasDnsmasq))("behind a name in DNS", () =>
    Effect.gen(function*() {
      const host = (name: string) => `127.0.0.${21 + all.indexOf(name)}`
      const probe = yield* Effect.scoped(Listener.tcp(`${host("a")}:0`, handlersOf("probe")))
      const port = probe.address.split(":").at(-1)!
      const dns = yield* startDnsmasq({ hosts: {}, options: ["--local-ttl=0"] })
      yield* roll(
        yield* Effect.provide(
          Resolver.dns(`cart.internal:${port}`, { interval: { min: "200 millis" } }),
          Resolver.layerDns(dns)
        ),
        (name) => serve(Listener.tcp(`${host(name)}:${port}`, handlersOf(name))),
        (names) => dns.setHosts({ "cart.internal": names.map(host) })
      )
    }).pipe(Effect.scoped))

  it.live("as the sockets in a directory", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const directory = yield* fs.makeTempDirectoryScoped({ prefix: "effect-call-" })
      yield* roll(
        yield* Resolver.directory(directory),
        (name) => serve(Listener.unix(`${directory}/${name}.sock`, handlersOf(name))),
        () => Effect.void
      )
    }).pipe(Effect.scoped, Effect.provide(NodeFileSystem.layer)))
})
