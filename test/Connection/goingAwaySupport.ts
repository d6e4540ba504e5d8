/** A client, and a server by hand that says that it goes away. */
import { Effect } from "effect"
import type { Connection } from "effect-call"
import { TestNetwork } from "effect-call/testing"
import { byHand } from "../support/byHand.ts"
import { bytesOf } from "../support/networks.ts"
import { clientVersion, receives, request, versionWith } from "../support/raw.ts"
import { hold } from "../support/stoppable.ts"
import { connectToListed } from "./support.ts"

export const nothing = new Uint8Array()

export const goingAway = versionWith(2)
export const noMoreRequests = versionWith(4)
export const onNetwork = Effect.provide(TestNetwork.layer)
export const fork = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.forkChild(effect, { startImmediately: true })

export const stateOf = (connection: Connection.Connection, address = "memory://a") =>
  Effect.map(connection.state, ({ endpoints }) => endpoints.find((endpoint) => endpoint.address === address))

/** A Connection with two calls in flight to a server by hand. */
export const withTwoCalls = Effect.fnUntraced(function*(options?: Connection.ClientOptions) {
  const a = yield* byHand("a")
  const { connection, endpoints } = yield* connectToListed([a], options)
  const one = yield* fork(connection.call(hold, bytesOf("one")))
  const raw = yield* a.accepted()
  const two = yield* fork(connection.call(hold, bytesOf("two")))
  const sent = [clientVersion, request(1, hold, bytesOf("one")), request(2, hold, bytesOf("two"))]
  yield* receives(raw, ...sent)
  return { a, raw, connection, endpoints, one, two, sent }
})
