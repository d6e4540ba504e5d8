/**
 * Replicas behind a name in DNS. The client calls each address of the name, and notices when the addresses change.
 *
 * The program uses a real DNS server, dnsmasq, if that is installed (`apt-get install dnsmasq-base`). Otherwise a table
 * replaces DNS, and its addresses do not change. The replicas listen on 127.0.0.2 and 127.0.0.3. On macOS these
 * addresses have to be configured first.
 *
 * Run it with `node examples/dns.ts`.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Fiber, Schedule } from "effect"
import { Connection, HandlerMap, Listener, MethodKey, Resolver, Server } from "effect-call"
import { Dns } from "effect/net"
import * as assert from "node:assert/strict"
import { hasDnsmasq, startDnsmasq } from "./support/dnsmasq.ts"

const name = MethodKey.make("example/Names", "name")

/** A server that answers with the address that it listens on. */
const startServer = Effect.fnUntraced(function*(host: string, port: number) {
  const handlers = HandlerMap.empty.pipe(
    HandlerMap.set("example/Names", "name", () => Effect.succeed(new TextEncoder().encode(host)))
  )
  const listener = yield* Listener.tcp(`${host}:${port}`, handlers)
  const serving = yield* Effect.forkScoped(Server.serve(listener))
  return { port: Number(listener.address.split(":").at(-1)), stop: Fiber.interrupt(serving) }
})

/** Makes `calls` calls, and returns the answers. */
const ask = (connection: Connection.Connection, calls: number) =>
  Effect.replicateEffect(
    Effect.map(connection.call(name, new Uint8Array()), (answer) => new TextDecoder().decode(answer)),
    calls
  )

const behindServer = Effect.gen(function*() {
  const one = yield* startServer("127.0.0.2", 0)
  const { port } = one
  const server = yield* startDnsmasq({ hosts: { "cart.internal": ["127.0.0.2"] }, options: ["--local-ttl=1"] })
  // The TTL of the records is one second. The resolver needs no other option than the port of the DNS server.
  const replicas = yield* Resolver.dns(`cart.internal:${port}`).pipe(Effect.provide(Resolver.layerDns(server)))
  const connection = yield* Connection.make(replicas)
  const endpointsAre = (...hosts: ReadonlyArray<string>) =>
    Effect.repeat(connection.state, {
      until: ({ endpoints }) =>
        endpoints.map(({ address }) => address).join() === hosts.map((host) => `tcp://${host}:${port}`).join(),
      schedule: Schedule.spaced("5 millis")
    })

  const first = yield* ask(connection, 2)
  yield* Console.log(`one address: ${first.join(", ")}`)
  assert.deepEqual(first, ["127.0.0.2", "127.0.0.2"])

  yield* startServer("127.0.0.3", port)
  yield* server.setHosts({ "cart.internal": ["127.0.0.2", "127.0.0.3"] })
  yield* endpointsAre("127.0.0.2", "127.0.0.3")
  const both = yield* ask(connection, 4)
  yield* Console.log(`two: ${both.join(", ")}`)
  assert.deepEqual(new Set(both), new Set(["127.0.0.2", "127.0.0.3"]))

  yield* server.setHosts({ "cart.internal": ["127.0.0.3"] })
  yield* endpointsAre("127.0.0.3")
  yield* one.stop
  const other = yield* ask(connection, 2)
  yield* Console.log(`the first one has gone: ${other.join(", ")}`)
  assert.deepEqual(other, ["127.0.0.3", "127.0.0.3"])
})

const behindTable = Effect.gen(function*() {
  yield* Console.log("there is no dnsmasq: a table stands in for DNS")
  const { port } = yield* startServer("127.0.0.2", 0)
  yield* startServer("127.0.0.3", port)
  const table = Dns.layerStatic({ hosts: { "cart.internal": ["127.0.0.2", "127.0.0.3"] } })
  const connection = yield* Connection.make(yield* Effect.provide(Resolver.dns(`cart.internal:${port}`), table))
  const answers = yield* ask(connection, 4)
  yield* Console.log(answers.join(", "))
  assert.deepEqual(new Set(answers), new Set(["127.0.0.2", "127.0.0.3"]))
})

Effect.flatMap(hasDnsmasq, (is) => is ? behindServer : behindTable).pipe(
  Effect.timeout("20 seconds"),
  Effect.scoped,
  NodeRuntime.runMain
)
