/**
 * A server and a client over mTLS. Both read their certificates from files.
 *
 * Run it with `npx node examples/tls/mtls.ts certs`, where `certs` is the directory with your certificates. Without a
 * directory, it makes certificates for itself.
 */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Console, Effect, Schema } from "effect"
import { Component, Connection, Endpoint, Listener, Resolver, Server } from "effect-call"
import { Rpc, RpcGroup } from "effect/rpc"
import { readFile } from "node:fs/promises"
import { join } from "node:path"
import { makeDirectory } from "../support/certificates.ts"

const Greeter = Component.make(
  "example/Greeter",
  RpcGroup.make(Rpc.make("Greet", { payload: { name: Schema.String }, success: Schema.String }))
)

const GreeterHandlers = Greeter.group.toLayer({
  Greet: ({ name }) => Effect.succeed(`Hello, ${name}!`)
})

/** Reads the authority's certificate, and a certificate with its key: `server` or `client`. */
const readTls = (directory: string, name: string) =>
  Effect.tryPromise({
    try: async () => ({
      ca: await readFile(join(directory, "ca.pem")),
      cert: await readFile(join(directory, `${name}.pem`)),
      key: await readFile(join(directory, `${name}-key.pem`))
    }),
    catch: (cause) => `cannot read the certificates: ${String(cause)}`
  })

const GreeterServer = (directory: string) =>
  Server.layer(Effect.gen(function*() {
    const handlers = yield* Component.handlers(Greeter, GreeterHandlers)
    const tls = Effect.mapError(
      readTls(directory, "server"),
      (message) => new Listener.ListenerError({ message })
    )
    return yield* Listener.mtls(tls, yield* Listener.tcp("127.0.0.1:0", handlers))
  }))

const client = Effect.fnUntraced(function*(directory: string, address: string) {
  const tls = Effect.mapError(
    readTls(directory, "client"),
    (message) => new Endpoint.DialError({ message })
  )
  const endpoint = Endpoint.mtls(tls, yield* Endpoint.parse(address))
  const connection = yield* Connection.make(Resolver.constant(endpoint))
  const greeter = yield* Effect.provideService(Component.client(Greeter), Connection.Connection, connection)
  yield* Console.log(`the answer: ${yield* greeter.Greet({ name: "Ada" })}`)
})

const program = Effect.gen(function*() {
  const directory = process.argv[2] ?? (yield* makeDirectory)
  yield* Effect.gen(function*() {
    const { address } = yield* Server.Server
    yield* Console.log(`the server listens on ${address}`)
    yield* client(directory, address)
  }).pipe(Effect.provide(GreeterServer(directory)))
})

program.pipe(Effect.scoped, Effect.provide(NodeServices.layer), NodeRuntime.runMain)
