/**
 * A program that ends as its argument says. `exit-codes.ts` runs it.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Console, Data, Effect, Layer, Runtime } from "effect"
import { HandlerMap, Listener, Server } from "effect-call"

/** An error that chooses the exit code of a program that fails with it. */
class NoLicense extends Data.TaggedError("NoLicense") {
  override readonly [Runtime.errorExitCode] = 3
}

const serverAt = (address: string) => Server.layer(Listener.tcp(address, HandlerMap.empty))

/** Serves until a signal comes. Its last steps take a moment. */
const serve = Effect.gen(function*() {
  yield* Effect.addFinalizer(() => Effect.delay(Console.log("closed"), "300 millis"))
  yield* Layer.build(serverAt("127.0.0.1:0"))
  yield* Console.log("serving")
  yield* Effect.never
}).pipe(Effect.scoped)

const endings: Record<string, Effect.Effect<unknown, unknown>> = {
  success: Effect.succeed("done"),
  failure: Effect.fail("no database"),
  "failure with a code": Effect.fail(new NoLicense()),
  defect: Effect.die(new Error("a bug")),
  "port in use": Effect.gen(function*() {
    const first = yield* Listener.tcp("127.0.0.1:0", HandlerMap.empty)
    yield* Layer.launch(serverAt(first.address.replace("tcp://", "")))
  }).pipe(Effect.scoped),
  signal: serve,
  "signal, with a teardown": serve
}

const ending = process.argv[2] ?? ""

/** Ends with exit code 0 when a signal has stopped the program. */
const teardown: Runtime.Teardown = (exit, onExit) =>
  Runtime.defaultTeardown(exit, (code) => onExit(code === 130 ? 0 : code))

NodeRuntime.runMain(
  endings[ending] ?? Effect.die(new Error(`there is no ending ${ending}`)),
  ending === "signal, with a teardown" ? { teardown } : {}
)
