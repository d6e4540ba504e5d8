/**
 * What the same contract is run through: effect/rpc's own `RpcTest`, and a Component in each of its formats.
 *
 * The tests in this folder are written once, against {@link Harness}. They hold what Component promises of effect/rpc's
 * semantics against effect/rpc itself.
 */
import { describe } from "@effect/vitest"
import { Cause, Effect, Exit, Layer, Option, type Scope } from "effect"
import { CallError, Component } from "effect-call"
import { type Rpc, type RpcClient, type RpcGroup, RpcTest } from "effect/rpc"
import * as Identities from "../../../src/internal/protocol/identities.ts"
import { formats, open } from "../support.ts"

/** Makes a client of a group, whose calls are served by these handlers. */
export interface Harness {
  readonly client: <Rpcs extends Rpc.Any>(
    group: RpcGroup.RpcGroup<Rpcs>,
    handlers: Layer.Layer<Rpc.ToHandler<Rpcs>>
  ) => Effect.Effect<
    RpcClient.RpcClient<Rpcs, CallError.CallError>,
    never,
    | Rpc.Middleware<Rpcs>
    | Rpc.MiddlewareClient<Rpcs>
    | Rpc.ServicesServer<Rpcs>
    | Component.ItemServices<Rpcs>
    | Scope.Scope
  >
}

const rpcTest: Harness = {
  client: Effect.fnUntraced(function*<Rpcs extends Rpc.Any>(
    group: RpcGroup.RpcGroup<Rpcs>,
    handlers: Layer.Layer<Rpc.ToHandler<Rpcs>>
  ) {
    const context = yield* Layer.build(handlers)
    // A defect ends its own call, as it does with us.
    return yield* Effect.provideContext(RpcTest.makeClient(group, { disableFatalDefects: true }), context)
  })
}

type RpcsOf<Group> = Group extends RpcGroup.RpcGroup<infer Rpcs> ? Rpcs : never

const componentIn = (format: "binary" | "json"): Harness => ({
  client: (group, handlers) =>
    Effect.map(
      open(Component.make("test/Contract", group), handlers, { format }),
      // RpcTest knows no method that takes items, so none is tested here.
      ({ client }) => client as unknown as RpcClient.RpcClient<RpcsOf<typeof group>, CallError.CallError>
    )
})

/** A `describe` for each harness. */
export const eachHarness = (tests: (harness: Harness) => void): void => {
  describe("through RpcTest", () => tests(rpcTest))
  for (const format of formats) describe(`through a Component, ${format}`, () => tests(componentIn(format)))
}

/** How a call ends, where it does not succeed or fail. */
type Ended = { readonly _tag: "Defect" } | { readonly _tag: "Interrupted" }

/** How a call ended. */
export type Outcome = { readonly success: unknown } | { readonly failure: unknown } | Ended

export const defect: Ended = { _tag: "Defect" }
export const interrupted: Ended = { _tag: "Interrupted" }

/**
 * The one place where the two are not held to the same. `RpcTest` never leaves the process: it gives a handler's whole
 * Cause to the caller. Over a wire, a defect's details stay at the server, and the interruption of a handler must not
 * look like one of the caller: both are RemoteErrors, which are turned back here.
 */
const outcomeOf = (exit: Exit.Exit<unknown, unknown>): Outcome => {
  if (Exit.isSuccess(exit)) return { success: exit.value }
  const failure = Cause.findErrorOption(exit.cause)
  if (Option.isNone(failure)) return Cause.hasInterruptsOnly(exit.cause) ? interrupted : defect
  const error = failure.value
  if (!(error instanceof CallError.RemoteError)) return { failure: error }
  if (error.is(Identities.canceled.identity)) return interrupted
  return error.message === "internal error: the handler died" ? defect : { failure: error }
}

/** Runs a call to its end. */
export const outcome = <A, E, R>(call: Effect.Effect<A, E, R>): Effect.Effect<Outcome, never, R> =>
  Effect.map(Effect.exit(call), outcomeOf)
