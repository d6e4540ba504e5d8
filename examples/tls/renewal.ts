/**
 * Certificates that are replaced, and a client that is revoked, while the server runs. The server reads its files again
 * after each `reload`; open connections go on.
 *
 * Run it with `npx node examples/tls/renewal.ts`.
 */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Console, Effect, FileSystem, Logger } from "effect"
import { Connection, Endpoint, HandlerMap, Listener, MethodKey, Resolver, Server } from "effect-call"
import { X509Certificate } from "node:crypto"
import { readFile } from "node:fs/promises"
import { checkServerIdentity } from "node:tls"
import "../support/closedOutput.ts"
import { makeAuthority, writeIdentity } from "../support/certificates.ts"

const handlers = HandlerMap.set(HandlerMap.empty, "example/Echo", "echo", (args) => Effect.succeed(args))
const echo = MethodKey.make("example/Echo", "echo")

/** The files of the server: they are read when the server starts, and after each `reload`. */
const serverTls = (directory: string) =>
  Effect.tryPromise({
    try: async () => ({
      ca: await readFile(`${directory}/ca.pem`),
      crl: await readFile(`${directory}/crl.pem`),
      cert: await readFile(`${directory}/server.pem`),
      key: await readFile(`${directory}/server-key.pem`)
    }),
    catch: (cause) => new Listener.ListenerError({ message: `cannot read the certificates: ${String(cause)}`, cause })
  })

const program = Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  const directory = yield* fs.makeTempDirectoryScoped({ prefix: "renewal-" })
  const authority = yield* makeAuthority()
  const [first, second] = [yield* authority.server(), yield* authority.server()]
  const client = yield* authority.client({ commonName: "orders" })
  yield* fs.writeFileString(`${directory}/ca.pem`, authority.ca)
  yield* fs.writeFileString(`${directory}/crl.pem`, yield* authority.revoke()) // a list that revokes nothing
  yield* writeIdentity(directory, "server", first)

  const listener = yield* Listener.mtls(
    serverTls(directory),
    yield* Listener.tcp("127.0.0.1:0", handlers),
    { reload: "100 millis" } // default: 1 minute
  )
  yield* Effect.forkScoped(Server.serve(listener))

  const names = new Map([first, second].map(({ cert }, i) => [new X509Certificate(cert).fingerprint256, i + 1]))
  let seen: number | undefined
  const endpoint = Endpoint.mtls({
    ca: authority.ca,
    ...client,
    checkServerIdentity: (host, certificate) => {
      seen = names.get(certificate.fingerprint256)
      return checkServerIdentity(host, certificate)
    }
  }, yield* Endpoint.parse(listener.address))

  /** Makes a call over a new connection, and gives the number of the server's certificate. */
  const callAnew = Effect.scoped(Effect.gen(function*() {
    const connection = yield* Connection.make(Resolver.constant(endpoint))
    yield* connection.call(echo, new Uint8Array(), { timeout: "5 seconds" })
    return seen
  }))

  const open = yield* Connection.make(Resolver.constant(endpoint))
  yield* open.call(echo, new Uint8Array())
  yield* Console.log(`the server has certificate ${yield* callAnew}`)

  yield* writeIdentity(directory, "server", second)
  yield* Effect.repeat(callAnew, { until: (certificate) => certificate === 2 })
  yield* Console.log("its files were replaced: new connections get certificate 2")

  yield* fs.writeFileString(`${directory}/crl.pem`, yield* authority.revoke(client))
  const refused = yield* Effect.flip(Effect.forever(callAnew))
  yield* Console.log(`the client was revoked: ${refused._tag}`)

  yield* open.call(echo, new Uint8Array())
  yield* Console.log("a connection that was open before goes on")
})

// Without the server's and the client's warnings about the client that was refused.
program.pipe(Effect.scoped, Effect.provide([NodeServices.layer, Logger.layer([])]), NodeRuntime.runMain)
