/**
 * Replaces three replicas one by one while twenty callers call them. Each replica is a process. First the replicas are
 * behind a name in DNS; then they are the sockets in a directory. A chart shows which replicas get the calls.
 *
 * The DNS server is a real one, dnsmasq (`apt-get install dnsmasq-base`). If that is not installed, the program skips
 * this part. The replicas listen on 127.0.0.11 to 127.0.0.16. On macOS these addresses have to be configured first.
 *
 * Run it with `npx node examples/discovery/rolling.ts`.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Console, Duration, Effect } from "effect"
import { Connection } from "effect-call"
import * as assert from "node:assert/strict"
import { hasDnsmasq } from "../support/dnsmasq.ts"
import * as Load from "./rolling/load.ts"
import { behindDns, inDirectory, type Place, type Replica } from "./rolling/replicas.ts"

const old = ["a", "b", "c"]
const replacements = ["d", "e", "f"]

const roll = Effect.fnUntraced(function*<R>({ list, resolver, start }: Place<R>) {
  const replicas = new Map<string, Replica>()
  const add = Effect.fnUntraced(function*(name: string) {
    replicas.set(name, yield* start(name))
  })
  yield* Effect.forEach(old, add, { concurrency: 2 })
  yield* list(old)
  // With `eager`, the client connects to a replica before the first call goes to it.
  const connection = yield* Connection.make(resolver, { eager: true })
  const load = yield* Load.start(connection, 20, Console.log)
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
  yield* load.stop
  yield* Console.log(`${load.answered()} calls, ${load.failures.length} failed`)
  yield* Console.log(
    `each new replica had its share after ${took.map((millis) => `${Math.round(millis)} ms`).join(", ")}\n`
  )
  assert.deepEqual(load.failures, [])
  assert.ok(Math.max(...took) < 2000)
})

const program = Effect.gen(function*() {
  if (yield* hasDnsmasq) {
    yield* Console.log("behind a name in DNS:")
    yield* Effect.scoped(Effect.flatMap(behindDns([...old, ...replacements]), roll))
  } else yield* Console.log("NOT SHOWN: replicas behind DNS, because dnsmasq is not installed\n")
  yield* Console.log("as sockets in a directory:")
  yield* Effect.scoped(Effect.flatMap(inDirectory, roll))
})

program.pipe(Effect.timeout("60 seconds"), Effect.provide(NodeServices.layer), NodeRuntime.runMain)
