/** Servers in memory whose side of each connection is written by hand. */
import { Effect, Exit, Scope } from "effect"
import type { Endpoint } from "effect-call"
import { TestNetwork } from "effect-call/testing"
import { handlers } from "./networks.ts"
import { type Raw, rawAccepted, versionWith } from "./raw.ts"

/** A name of the ambient {@link TestNetwork}, whose connections wait to be accepted. */
export interface ByHand {
  readonly endpoint: Endpoint.Endpoint
  /** The next connection, which has been sent this: our version, unless it says otherwise. */
  readonly accepted: (greeting?: Uint8Array) => Effect.Effect<Raw>
  /** Says to a connection that the server goes away, and frees the name, as a server does that stops. */
  readonly leave: (raw: Raw) => Effect.Effect<void>
}

/** Listens on a name, for the ambient Scope. */
export const byHand = Effect.fnUntraced(function*(
  name: string
): Effect.fn.Return<ByHand, never, Scope.Scope | TestNetwork.TestNetwork> {
  const scope = yield* Scope.fork(yield* Effect.scope)
  const listener = yield* Effect.orDie(Scope.provide(TestNetwork.listener(name, handlers), scope))
  return {
    endpoint: yield* TestNetwork.endpoint(name),
    accepted: (greeting = versionWith(0)) =>
      Effect.map(rawAccepted(listener), (raw) => {
        raw.write(greeting)
        return raw
      }),
    leave: (raw) => Effect.andThen(Scope.close(scope, Exit.void), Effect.sync(() => raw.write(versionWith(2))))
  }
})
