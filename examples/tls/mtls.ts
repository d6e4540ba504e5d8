/**
 * A server and a client over mTLS, each in a process of its own: this program starts `greeter/server.ts` and
 * `greeter/client.ts`.
 *
 * Run it with `npx node examples/tls/mtls.ts certs`, where `certs` is the directory with your certificates. Without a
 * directory, it makes certificates for itself.
 */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Console, Effect } from "effect"
import { makeDirectory } from "../support/certificates.ts"
import { startProgram } from "../support/program.ts"

const program = Effect.gen(function*() {
  const CERTS = process.argv[2] ?? (yield* makeDirectory)

  const server = yield* startProgram(new URL("greeter/server.ts", import.meta.url), [], { CERTS, PORT: "0" })
  const address = yield* server.after("listening on mtls://")
  yield* Console.log(`the server listens on ${address}`)

  const client = yield* startProgram(new URL("greeter/client.ts", import.meta.url), [], { CERTS, GREETER: address })
  yield* Console.log(`the client got: ${yield* client.after("")}`)
})

program.pipe(Effect.scoped, Effect.provide(NodeServices.layer), NodeRuntime.runMain)
