/**
 * mTLS over a Unix socket: the permissions of the socket file say which users may connect, and the certificate says
 * which client it is.
 *
 * Run it with `npx node examples/tls/unix.ts`.
 */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Console, Effect, FileSystem } from "effect"
import { Connection, Endpoint, HandlerMap, Listener, MethodKey, Resolver, Server } from "effect-call"
import { makeAuthority } from "../support/certificates.ts"

const whoAmI = MethodKey.make("example/Caller", "name")

const handlersFor = ({ address, certificate }: Listener.Peer) =>
  HandlerMap.empty.pipe(
    HandlerMap.set(
      "example/Caller",
      "name",
      () => Effect.succeed(new TextEncoder().encode(`${String(certificate?.subject.CN)} at ${address}`))
    )
  )

const program = Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  const path = `${yield* fs.makeTempDirectoryScoped({ prefix: "mtls-" })}/orders.sock`
  const authority = yield* makeAuthority()
  const server = yield* authority.server({ commonName: "orders", names: [{ type: "dns", value: "orders.internal" }] })
  const client = yield* authority.client({ commonName: "stock" })

  const socket = yield* Listener.unix(path, handlersFor, { mode: 0o660 }) // the user and the group may connect
  const listener = yield* Listener.mtls({ ca: authority.ca, ...server }, socket)
  yield* Effect.forkScoped(Server.serve(listener))

  // A socket file has no host name, so the client says which name the server's certificate must have.
  const tls = { ca: authority.ca, ...client, servername: "orders.internal" }
  const connection = yield* Connection.make(Resolver.constant(Endpoint.mtls(tls, Endpoint.unix(path))))
  const answer = yield* connection.call(whoAmI, new Uint8Array(), { timeout: "5 seconds" })
  yield* Console.log(`the server knows this client as ${new TextDecoder().decode(answer)}`)
})

program.pipe(Effect.scoped, Effect.provide(NodeServices.layer), NodeRuntime.runMain)
