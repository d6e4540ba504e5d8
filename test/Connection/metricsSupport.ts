/**
 * What the tests of a Connection's metrics share: a server in memory, and Connections to it in the states that calls
 * may find them in.
 */
import { Effect } from "effect"
import { type Connection, HandlerMap, MethodKey } from "effect-call"
import { TestNetwork } from "effect-call/testing"
import { component, connect, echo, handlers, hang } from "../support/networks.ts"
import { settle } from "./support.ts"

const kibibyte = 1024
export const nothing: Uint8Array = new Uint8Array()

/** Sleeps for as many milliseconds as its arguments are long. */
export const sleep: MethodKey.MethodKey = MethodKey.make(component, "sleep")

export const served: HandlerMap.HandlerMap<never> = HandlerMap.set(
  handlers,
  component,
  "sleep",
  (args) => Effect.as(Effect.sleep(args.length), nothing)
)

export const fork = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.forkChild(effect, { startImmediately: true })

/** Serves at `memory://a`. */
export const serve = TestNetwork.listen("a", served, { shutdownGrace: 0 })

/** A Connection to `memory://a`, where no server need listen. */
export const toA = (options?: Connection.ClientOptions) =>
  Effect.flatMap(TestNetwork.endpoint("a"), (endpoint) => connect([endpoint], options))

/** A Connection to a server at `memory://a` that has been used, so that its next call is sent at once. */
export const open = Effect.fnUntraced(function*(options?: Connection.ClientOptions) {
  yield* serve
  const connection = yield* toA(options)
  yield* connection.call(echo, nothing)
  return connection
})

/** More than the network takes while no peer reads: what comes after it has not left yet. */
export const plug = Effect.fnUntraced(function*(connection: Connection.Connection) {
  yield* TestNetwork.fault("a", { blackHole: "toServer" })
  const call = yield* fork(Effect.exit(connection.call(hang, new Uint8Array(250 * kibibyte))))
  yield* settle
  return call
})

/** There is no room for a call after this. */
export const fill = Effect.fnUntraced(function*(connection: Connection.Connection) {
  yield* plug(connection)
  for (let i = 0; i < 5; i++) yield* fork(Effect.exit(connection.call(hang, new Uint8Array(250 * kibibyte))))
  yield* settle
})
