/**
 * Replicas in SRV records, which also tell ports, weights and priorities: two replicas that share the calls 3 to 1, and
 * a standby that gets calls only while both are down.
 *
 * The program starts a real DNS server, dnsmasq (`apt-get install dnsmasq-base`).
 *
 * Run it with `npx node examples/discovery/srv.ts`.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Exit, Scope, Stream } from "effect"
import { Balancer, Connection, Endpoint, Resolver } from "effect-call"
import * as assert from "node:assert/strict"
import { hasDnsmasq, startDnsmasq } from "../support/dnsmasq.ts"
import { askOver, namesHandlers, serve } from "../support/names.ts"

/** Starts a server on a free port, and returns the port. */
const startServer = Effect.fnUntraced(function*(name: string) {
  const { addr } = yield* Endpoint.parse(yield* serve("127.0.0.1:0", yield* namesHandlers(name)))
  return addr.slice(addr.lastIndexOf(":") + 1)
})

const count = (answers: ReadonlyArray<string>, name: string) => answers.filter((answer) => answer === name).length

const program = Effect.gen(function*() {
  const primaries = yield* Scope.fork(yield* Effect.scope)
  const large = yield* Scope.provide(startServer("large"), primaries)
  const small = yield* Scope.provide(startServer("small"), primaries)
  const standby = yield* startServer("standby")

  // The fields of a record are its name, the target, the port, the priority and the weight.
  const dns = yield* startDnsmasq({
    hosts: { "host.internal": ["127.0.0.1"] },
    options: [
      `--srv-host=_rpc._tcp.cart.internal,host.internal,${large},1,30`,
      `--srv-host=_rpc._tcp.cart.internal,host.internal,${small},1,10`,
      `--srv-host=_rpc._tcp.cart.internal,host.internal,${standby},2,0`
    ]
  })
  const replicas = yield* Resolver.dnsSrv("_rpc._tcp.cart.internal").pipe(
    Effect.provide(Resolver.layerDns({ nameServers: dns.nameServers }))
  )
  const connection = yield* Connection.make(replicas, { balancer: Balancer.weighted })

  const answers = yield* askOver(connection, 40)
  yield* Console.log(`large ${count(answers, "large")}, small ${count(answers, "small")}`)
  assert.deepEqual([count(answers, "large"), count(answers, "small")], [30, 10])

  yield* Scope.close(primaries, Exit.void)
  // Each server closes its connections once it has stopped.
  yield* connection.changes.pipe(
    Stream.filter(({ endpoints }) => endpoints.every(({ state }) => state !== "Active")),
    Stream.runHead
  )
  const others = yield* askOver(connection, 3)
  yield* Console.log(`both are down: ${others.join(", ")}`)
  assert.deepEqual(others, ["standby", "standby", "standby"])
})

Effect.gen(function*() {
  if (yield* hasDnsmasq) yield* program
  else yield* Console.log("NOT SHOWN: dnsmasq is not installed (apt-get install dnsmasq-base)")
}).pipe(Effect.timeout("20 seconds"), Effect.scoped, NodeRuntime.runMain)
