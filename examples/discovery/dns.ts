/**
 * Replicas behind a name in DNS. The client calls each address of the name, and notices when the addresses change.
 *
 * The program starts a real DNS server, dnsmasq (`apt-get install dnsmasq-base`). The replicas listen on 127.0.0.2 and
 * 127.0.0.3. On macOS these addresses have to be configured first.
 *
 * Run it with `npx node examples/discovery/dns.ts`.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Exit, Scope, Stream } from "effect"
import { Connection, Endpoint, Resolver } from "effect-call"
import * as assert from "node:assert/strict"
import { hasDnsmasq, startDnsmasq } from "../support/dnsmasq.ts"
import { askOver, namesHandlers, serve } from "../support/names.ts"

/** Starts a server that answers with the address that it listens on. */
const startServer = Effect.fnUntraced(function*(host: string, port: string) {
  return yield* serve(`${host}:${port}`, yield* namesHandlers(host))
})

/** Waits until the Connection has this many endpoints. */
const endpointsAre = (connection: Connection.Connection, count: number) =>
  connection.changes.pipe(Stream.filter(({ endpoints }) => endpoints.length === count), Stream.runHead)

const program = Effect.gen(function*() {
  // The first server has a Scope of its own, so that it can stop before the others. The system chooses its port.
  const first = yield* Scope.fork(yield* Effect.scope)
  const { addr } = yield* Endpoint.parse(yield* Scope.provide(startServer("127.0.0.2", "0"), first))
  const port = addr.slice(addr.lastIndexOf(":") + 1)

  // The records live for one second, so the client asks again after one second.
  const dns = yield* startDnsmasq({ hosts: { "cart.internal": ["127.0.0.2"] }, options: ["--local-ttl=1"] })
  const replicas = yield* Resolver.dns(`cart.internal:${port}`).pipe(
    Effect.provide(Resolver.layerDns({ nameServers: dns.nameServers }))
  )
  const connection = yield* Connection.make(replicas)

  const one = yield* askOver(connection, 2)
  yield* Console.log(`one address:    ${one.join(", ")}`)
  assert.deepEqual(one, ["127.0.0.2", "127.0.0.2"])

  yield* startServer("127.0.0.3", port)
  yield* dns.setHosts({ "cart.internal": ["127.0.0.2", "127.0.0.3"] })
  yield* endpointsAre(connection, 2)
  const two = yield* askOver(connection, 4)
  yield* Console.log(`two addresses:  ${two.toSorted().join(", ")}`)
  assert.deepEqual(new Set(two), new Set(["127.0.0.2", "127.0.0.3"]))

  yield* dns.setHosts({ "cart.internal": ["127.0.0.3"] })
  yield* endpointsAre(connection, 1)
  yield* Scope.close(first, Exit.void)
  const other = yield* askOver(connection, 2)
  yield* Console.log(`the other one:  ${other.join(", ")}`)
  assert.deepEqual(other, ["127.0.0.3", "127.0.0.3"])
})

Effect.gen(function*() {
  if (yield* hasDnsmasq) yield* program
  else yield* Console.log("NOT SHOWN: dnsmasq is not installed (apt-get install dnsmasq-base)")
}).pipe(Effect.timeout("20 seconds"), Effect.scoped, NodeRuntime.runMain)
