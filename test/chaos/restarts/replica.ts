/**
 * A replica in a process of its own: `node replica.ts ADDRESS [SHUTDOWN_GRACE]`.
 *
 * It listens on ADDRESS, says so on its standard output, and serves until it is told to stop with SIGTERM, or until its
 * standard input ends: it does not outlive the process that started it.
 */
// By its own path: all of @effect/platform-node takes longer to load than all else in this program.
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Console, Effect, Layer } from "effect"
// The sources, not what was built of them at some time.
import { Endpoint, Listener, Server } from "../../../src/index.ts"
import { handlers } from "./calls.ts"

const [address = "", shutdownGrace = "2000"] = process.argv.slice(2)

const listener = Effect.flatMap(
  Endpoint.parse(address),
  ({ addr, network }) => network === "unix" ? Listener.unix(addr, handlers) : Listener.tcp(addr, handlers)
)

const announce = Layer.effectDiscard(Server.Server.use(({ address }) => Console.log(`listens on ${address}`)))

// As with examples/support/tether.ts, for one that is started without it.
process.stdin.on("end", () => process.kill(process.pid, "SIGTERM")).resume()

announce.pipe(
  Layer.provide(Server.layer(listener, { shutdownGrace: Number(shutdownGrace) })),
  Layer.launch,
  NodeRuntime.runMain
)
