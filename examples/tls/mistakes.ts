/**
 * What both sides say when something is wrong with the certificates: the client in the error of the call, the server in
 * its log.
 *
 * Run it with `npx node examples/tls/mistakes.ts`.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Logger, Queue } from "effect"
import { type CallError, Connection, Endpoint, HandlerMap, Listener, MethodKey, Resolver, Server } from "effect-call"
import type { ConnectionOptions, TlsOptions } from "node:tls"
import { makeAuthority } from "../support/certificates.ts"

const handlers = HandlerMap.set(HandlerMap.empty, "example/Echo", "echo", (args) => Effect.succeed(args))
const echo = MethodKey.make("example/Echo", "echo")

/** Starts a server. Its warnings go to a queue. */
const serve = Effect.fnUntraced(function*(tls: TlsOptions | undefined) {
  const warnings = yield* Queue.unbounded<string>()
  const logger = Logger.make<unknown, void>(({ message }) => Queue.offerUnsafe(warnings, String(message)))
  const address = yield* Effect.gen(function*() {
    const tcp = yield* Listener.tcp("127.0.0.1:0", handlers)
    const listener = tls === undefined ? tcp : yield* Listener.mtls(tls, tcp)
    yield* Effect.forkScoped(Server.serve(listener, { shutdownGrace: 0 }))
    return listener.address
  }).pipe(Effect.provide(Logger.layer([logger])))
  return { address, warnings }
})

const reasonOf = (error: CallError.CallError): string =>
  error._tag === "Unreachable" ? error.attempts.map(({ message }) => message).join("; ") : error.message

/** Calls a server once, and prints what the client says, and then what the server says if it logs a warning. */
const show = Effect.fnUntraced(function*(mistake: string, options: {
  readonly server?: TlsOptions
  readonly client?: ConnectionOptions
  readonly serverWarns?: boolean
}) {
  const { address, warnings } = yield* serve(options.server)
  const tcp = yield* Endpoint.parse(address)
  const endpoint = options.client === undefined ? tcp : Endpoint.mtls(options.client, tcp)
  const connection = yield* Connection.make(Resolver.constant(endpoint))
  const error = yield* Effect.flip(connection.call(echo, new Uint8Array(), { timeout: "5 seconds" }))
  yield* Console.log(`${mistake}\n  client: ${error._tag}: ${reasonOf(error)}`)
  if (options.serverWarns === true) yield* Console.log(`  server: ${yield* Queue.take(warnings)}`)
}, Effect.scoped)

const day = 24 * 60 * 60 * 1000
const lastWeek = { notBefore: new Date(Date.now() - 7 * day), notAfter: new Date(Date.now() - 6 * day) }

const program = Effect.gen(function*() {
  const authority = yield* makeAuthority("My CA")
  const other = yield* makeAuthority("Another CA")
  const { ca } = authority
  const server = { ca, ...yield* authority.server() } // for localhost and 127.0.0.1
  const stock = { ca, ...yield* authority.server({ commonName: "stock", names: [{ type: "dns", value: "stock" }] }) }
  const client = { ca, servername: "localhost", ...yield* authority.client({ commonName: "orders" }) }

  yield* show("The client trusts another authority", { server, client: { ...client, ca: other.ca } })
  yield* show("The server's certificate has another name", { server: stock, client })
  yield* show("The client's certificate has expired", {
    server,
    client: { ...client, ...yield* authority.client({ commonName: "orders", ...lastWeek }) },
    serverWarns: true
  })
  yield* show("The client's certificate is from another authority", {
    server,
    client: { ...client, ...yield* other.client({ commonName: "orders" }) },
    serverWarns: true
  })
  yield* show("The client has no certificate", { server, client: { ca } })
  yield* show("The client speaks plain TCP to a TLS port", { server, serverWarns: true })
  yield* show("The client speaks TLS to a plain TCP port", { client, serverWarns: true })
})

// The client logs the failed dials, too. The errors say the same.
program.pipe(Effect.provide(Logger.layer([])), NodeRuntime.runMain)
