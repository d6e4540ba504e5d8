/**
 * A program that runs in a network of its own, with an /etc of its own, and changes which name servers the system has.
 * It prints what each step finds.
 */
import { Effect, Fiber, Layer } from "effect"
import { Dns, NetAddress } from "effect/net"
import { TestClock } from "effect/testing"
import { renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
// The sources, not what was built of them at some time.
import * as Resolver from "../../src/Resolver.ts"
import { startNameServer } from "./nameServer.ts"

const file = "/etc/resolv.conf"

/** As those do it who keep a link to what they have written: systemd-resolved, Kubernetes. */
const point = (server: string) =>
  Effect.sync(() => {
    writeFileSync(`/etc/${server}`, `nameserver ${server}\n`)
    rmSync("/etc/next", { force: true })
    symlinkSync(`/etc/${server}`, "/etc/next")
    renameSync("/etc/next", file)
  })

/** As a program does that writes the file again. */
const write = (...servers: ReadonlyArray<string>) =>
  Effect.sync(() => writeFileSync(file, servers.map((server) => `nameserver ${server}\n`).join("")))

const program = Effect.gen(function*() {
  for (const [host, address] of [["127.0.0.53", "10.0.0.3"], ["127.0.0.54", "10.0.0.4"]] as const) {
    // One of them never answers some questions.
    yield* startNameServer(
      (question) => host === "127.0.0.54" && question.endsWith("hung.test") ? undefined : [address],
      host,
      53
    )
  }
  // Whom c-ares asks where there is no name server at all.
  yield* startNameServer(() => ["10.0.0.1"], "127.0.0.1", 53)

  yield* write("127.0.0.53")
  yield* Effect.gen(function*() {
    const dns = yield* Dns.Dns
    const ask = (name: string) =>
      Effect.map(dns.resolve(name, "A"), (records) => records.map(({ address }) => NetAddress.formatIp(address)).join())
    const step = Effect.fnUntraced(function*(what: string) {
      yield* TestClock.adjust("1 second")
      console.log(`${what}: ${yield* ask("orders.test")}`)
    })

    yield* step("at first")
    yield* point("127.0.0.54")
    yield* step("a link to another file")
    yield* write()
    yield* step("an empty file")
    rmSync(file)
    yield* write("127.0.0.53")
    yield* step("written anew")
    rmSync(file)
    yield* step("no file for a moment")
    yield* step("no file for longer")
    yield* point("127.0.0.54")
    yield* step("a file again")
    const hung = yield* Effect.forkChild(ask("hung.test"), { startImmediately: true })
    yield* write("127.0.0.53")
    yield* TestClock.adjust("1 second")
    console.log(`what was under way: ${yield* Fiber.join(hung)}`)

    const own = yield* Effect.provide(
      Dns.Dns,
      Layer.fresh(Resolver.layerDns({ nameServers: ["127.0.0.53"] }))
    )
    yield* TestClock.adjust("1 second")
    const records = yield* own.resolve("orders.test", "A")
    console.log(`those of the options: ${records.map(({ address }) => NetAddress.formatIp(address)).join()}`)
  }).pipe(Effect.provide(Resolver.layerDns()))
})

await Effect.runPromise(Effect.scoped(program).pipe(Effect.provide(TestClock.layer())))
