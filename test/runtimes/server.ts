/**
 * A server on TCP, on a Unix socket and with mTLS, for the runtime that runs it. It prints its addresses. It ends when
 * `run.ts` ends, also when that is killed.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Console, Context, Effect, Layer, References, Schema, type Scope } from "effect"
import { Component, HandlerMap, Listener, Server } from "effect-call"
import type { TlsOptions } from "node:tls"
import { echo, given, Listening, Refused, Runtimes } from "./contract.ts"

let running = 0
let interrupted = 0

/** Succeeds when the standard input ends. The system ends it when `run.ts` is gone. */
const stdinEnds = Effect.callback<void>((resume) => {
  process.stdin.once("end", () => resume(Effect.void)).resume()
})

/** The handlers for the clients with this common name. */
const handlersOf = (commonName: string) =>
  Runtimes.group.toLayer({
    Greet: ({ name }) =>
      name === "" ? Effect.fail(new Refused({ why: "there is no name" })) : Effect.succeed(`Hello, ${name}!`),
    Wait: ({ millis }) =>
      Effect.suspend(() => {
        running++
        return Effect.delay(Effect.succeed("waited"), millis)
      }).pipe(
        Effect.onInterrupt(() => Effect.sync(() => void interrupted++)),
        Effect.ensuring(Effect.sync(() => void running--))
      ),
    Waiting: () => Effect.sync(() => ({ running, interrupted })),
    Who: () => Effect.succeed(commonName)
  })

const program = Effect.gen(function*() {
  const { ca, crl, server, socket } = yield* given
  const handlersFor = Effect.fnUntraced(function*(commonName: string) {
    const typed = yield* Component.handlers(Runtimes, handlersOf(commonName))
    return HandlerMap.set(typed, echo.component, echo.method, (args) => Effect.succeed(args))
  })
  const anonymous = yield* handlersFor("")
  const known = yield* handlersFor("client")
  const pick = ({ certificate }: Listener.Peer) => certificate?.subject.CN === "client" ? known : anonymous
  const serve = <E>(listener: Effect.Effect<Listener.Listener, E, Scope.Scope>) =>
    Effect.map(
      Layer.build(Server.layer(listener, { shutdownGrace: "10 seconds" })),
      (context) => Context.get(context, Server.Server).address
    )
  const secure = (tls: TlsOptions) =>
    serve(Effect.flatMap(Listener.tcp("127.0.0.1:0", pick), (below) => Listener.mtls(tls, below)))
  const withList = yield* Effect.result(secure({ ...server, ca, crl }))
  const addresses = {
    tcp: yield* serve(Listener.tcp("127.0.0.1:0", anonymous)),
    unix: yield* serve(Listener.unix(socket, anonymous)),
    mtls: withList._tag === "Success" ? withList.success : yield* secure({ ...server, ca })
  }
  yield* Console.log(
    Schema.encodeSync(Listening)({ addresses, crl: withList._tag === "Success" ? "" : withList.failure.message })
  )
  yield* stdinEnds
})

program.pipe(
  Effect.scoped,
  // Clients that are refused are logged as warnings.
  Effect.provideService(References.MinimumLogLevel, "Error"),
  NodeRuntime.runMain
)
