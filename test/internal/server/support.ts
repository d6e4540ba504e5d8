/** The session of a server over a connection in memory, with the client at the other end written by hand. */
import { Clock, Effect } from "effect"
import type { HandlerMap, MethodKey } from "effect-call"
import * as assert from "node:assert/strict"
import type { Duplex } from "node:stream"
import { withoutCaller } from "../../../src/internal/ambient/background.ts"
import { decodeErrorChain, type ErrorChain } from "../../../src/internal/protocol/errorChain.ts"
import { MessageType } from "../../../src/internal/protocol/frame.ts"
import { Admission } from "../../../src/internal/server/admission.ts"
import { type ServerOptions, serverSettings } from "../../../src/internal/server/options.ts"
import { StreamPlaces } from "../../../src/internal/server/places.ts"
import { type Route, routeOf } from "../../../src/internal/server/route.ts"
import { ServerSession } from "../../../src/internal/server/session.ts"
import { routesOf } from "../../../src/internal/server/table.ts"
import { make as makePair } from "../../../src/internal/testing/duplexPair.ts"
import { Warnings } from "../../../src/internal/warnings.ts"
import { makeLog } from "../../support/log.ts"
import { messagesOf, rawOf } from "../../support/raw.ts"

/** What one request was answered with: the bytes of a result, or an error chain. */
export type Answer = readonly [id: number, result: ReadonlyArray<number> | { readonly chain: ErrorChain }]

/** A session that has started. It and its connection end with the Scope. */
export const begin = Effect.fnUntraced(function*(
  handlers: HandlerMap.HandlerMap<never>,
  options: ServerOptions = {}
) {
  const log = makeLog()
  const context = yield* Effect.provide(Effect.map(Effect.context<never>(), withoutCaller), log.layer)
  const clock = yield* Clock.Clock
  const limits = serverSettings(options)
  const settings = {
    ...limits,
    clock,
    context,
    admission: new Admission(limits, limits.inlineHandlerMillis),
    places: new StreamPlaces(limits),
    warnings: new Warnings(clock),
    stats: undefined
  }
  const serve = (connection: Duplex) => new ServerSession(connection, routesOf(handlers), settings)
  const pair = makePair()
  const session = serve(pair.server)
  const done = Effect.callback<void>((resume) => session.onceDone(() => resume(Effect.void)))
  yield* Effect.addFinalizer(() => {
    pair.close()
    return done
  })
  session.start()
  return { done, lines: log.lines, pair, serve, session, settings }
})

/** A session that has started, and its client, which has said nothing yet. Both end with the Scope. */
export const open = Effect.fnUntraced(function*(
  handlers: HandlerMap.HandlerMap<never>,
  options: ServerOptions = {}
) {
  const begun = yield* begin(handlers, options)
  const { pair } = begun
  const client = rawOf(pair.client)
  /** The answers that the client has got so far. */
  const answers = (): ReadonlyArray<Answer> =>
    messagesOf(client.received()).filter(({ type }) => type !== MessageType.version).map(({ id, payload, type }) => {
      if (type === MessageType.response) return [id, [...payload]]
      assert.equal(type, MessageType.responseError)
      const decoded = decodeErrorChain(payload)
      assert.ok(decoded.ok)
      return [id, { chain: decoded.chain }]
    })
  /** Waits until the client has got so many answers, and gives them. */
  const answered = (count: number) => Effect.map(client.until(() => answers().length >= count), answers)
  return { ...begun, answered, answers, client }
})

/** The route of one method of a handler map. */
export const routeIn = (handlers: HandlerMap.HandlerMap<never>, key: MethodKey.MethodKey): Route => {
  const entry = handlers.entries.get(key.hex)
  assert.ok(entry)
  return routeOf(entry)
}

/** The texts of an error chain. */
export const textsOf = (answer: Answer | undefined): ReadonlyArray<string> => {
  assert.ok(answer !== undefined && "chain" in answer[1], "not answered with an error")
  return answer[1].chain.map(({ message }) => message)
}
