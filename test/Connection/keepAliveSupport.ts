/** A client with keepAlive, and a server by hand that answers its probes or does not. */
import { Effect } from "effect"
import { type CallError, type Connection, MethodKey } from "effect-call"
import { TestNetwork } from "effect-call/testing"
import * as assert from "node:assert/strict"
import { byHand } from "../support/byHand.ts"
import { bytesOf, component, connect } from "../support/networks.ts"
import { clientVersion, messagesOf, receives, request, versionWith } from "../support/raw.ts"

export const nothing = new Uint8Array()
export const mebibyte = 1_048_576
export const understood = versionWith(0)
export const put = MethodKey.make(component, "put")
export const onNetwork = Effect.provide(TestNetwork.layer)
export const fork = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.forkChild(effect, { startImmediately: true })
export const keepAlive = { interval: "10 seconds", timeout: "5 seconds" } as const

export const isLost = (error: CallError.CallError, message: string) => {
  assert.ok(error._tag === "CommunicationError", error.message)
  assert.deepEqual([error.reason._tag, error.maybeExecuted, error.message], ["Lost", true, message])
}

export const silence = (how: string) =>
  `the connection was lost: memory://a: nothing was heard of it for ${how}, and it has not answered when it was asked`

/** A client with a call in flight to a server by hand, which has said its version at this moment. */
export const calling = Effect.fnUntraced(
  function*(options: Connection.ClientOptions = { keepAlive }, greeting = understood) {
    const a = yield* byHand("a")
    const connection = yield* connect([a.endpoint], options)
    const call = yield* fork(connection.call(put, bytesOf("one")))
    const raw = yield* a.accepted(greeting)
    const sent = [clientVersion, request(1, put, bytesOf("one"))]
    yield* receives(raw, ...sent)
    return { a, raw, connection, call, sent }
  }
)

export const kindsOf = (bytes: Buffer) => messagesOf(bytes).map(({ id, type }) => [id, type])

export const stateOf = (connection: Connection.Connection) =>
  Effect.map(connection.state, ({ endpoints }) => endpoints[0]!.state)
