/** Listeners of users' own, and endpoints that dial them. */
import { Effect, Queue } from "effect"
import type { Endpoint, Listener } from "effect-call"
import { type Duplex, duplexPair } from "node:stream"
import { handlers } from "../support/networks.ts"
import { wrong } from "./usersCode.ts"

/** An endpoint that dials one end of a pair, whose other end goes to `accept`. */
export const pairs = (accept: (connection: Duplex) => void): Endpoint.Endpoint => ({
  address: "pair://one",
  dial: Effect.acquireRelease(
    Effect.sync(() => {
      const [client, server] = duplexPair()
      client.on("error", () => {})
      accept(server)
      return client
    }),
    (client) => Effect.sync(() => client.destroy())
  )
})

/** A listener of a user's own, whose accept gives what is offered to it. */
export const own = Effect.fnUntraced(function*(with_: object = {}) {
  const queue = yield* Queue.unbounded<() => unknown>()
  let closed = 0
  const listener = {
    address: "pair://one",
    accept: Effect.map(Queue.take(queue), (give) => give()),
    close: Effect.sync(() => void closed++),
    ...with_
  }
  const endpoint = pairs((connection) => void Queue.offerUnsafe(queue, () => ({ connection, handlers })))
  return {
    endpoint,
    listener: wrong<Listener.Listener>(listener),
    offer: (give: () => unknown) => Queue.offerUnsafe(queue, give),
    closed: () => closed
  }
})
