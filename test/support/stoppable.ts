/** A server that is going to be stopped, with calls that end when they are told to. */
import { Effect, Fiber, Latch, type Scope } from "effect"
import { type Endpoint, HandlerMap, MethodKey, Server } from "effect-call"
import { component, handlers, memory, type Network } from "./networks.ts"

/** Answers its arguments once the gate is open. */
export const hold: MethodKey.MethodKey = MethodKey.make(component, "hold")

/** A server that holds calls. */
export interface Stoppable {
  readonly endpoint: Endpoint.Endpoint
  /** Lets `hold` answer. */
  readonly gate: Latch.Latch
  /** How many calls of `hold` run, how many were interrupted, and how many of `echo` there have been. */
  readonly calls: { readonly running: number; readonly interrupted: number; readonly echoed: number }
  /** Begins to stop it; the fiber ends when it has stopped. */
  readonly stop: Effect.Effect<Fiber.Fiber<void>, never, Scope.Scope>
}

/** Serves {@link hold} together with the usual handlers. The grace is a minute, unless the options say otherwise. */
export const stoppable = Effect.fnUntraced(function*(
  options?: Server.ServerOptions,
  listen: Network["listen"] = memory.listen
): Effect.fn.Return<Stoppable, never, Scope.Scope> {
  const gate = yield* Latch.make(false)
  const calls = { running: 0, interrupted: 0, echoed: 0 }
  const { endpoint, listener } = yield* listen(handlers.pipe(
    HandlerMap.set(component, "echo", (args) => {
      calls.echoed++
      // Answered without a fiber.
      return Effect.succeed(args)
    }),
    HandlerMap.set(component, hold.method, (args) =>
      Effect.suspend(() => {
        calls.running++
        return Effect.as(gate.await, args)
      }).pipe(
        Effect.onInterrupt(() => Effect.sync(() => calls.interrupted++)),
        Effect.ensuring(Effect.sync(() => calls.running--))
      ))
  ))
  const serving = yield* Effect.forkScoped(Server.serve(listener, { shutdownGrace: "1 minute", ...options }), {
    startImmediately: true
  })
  const stop = Effect.forkScoped(Fiber.interrupt(serving), { startImmediately: true })
  return { endpoint, gate, calls, stop }
})
