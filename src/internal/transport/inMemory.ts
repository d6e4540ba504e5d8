/**
 * The mark of endpoints and connections of the in-memory network. Their peers cannot vanish without a word, and where a
 * test moves its clock by an hour, they should not be taken for dead because they had no turn in between.
 */
import type { Duplex } from "node:stream"
import type { Endpoint } from "../../Endpoint.ts"

/** The key of the mark. */
export const inMemory: unique symbol = Symbol.for("effect-call/internal/inMemory")

/** Whether an endpoint is one of the in-memory network. */
export const isInMemory = (endpoint: Endpoint): boolean => inMemory in endpoint

/** The mark, for an endpoint that is made of another. */
export const markOf = (endpoint: Endpoint): object => isInMemory(endpoint) ? { [inMemory]: true } : {}

const connections = new WeakSet<Duplex>()

/** Marks a server's end of a connection. */
export const markConnection = (connection: Duplex): void => void connections.add(connection)

/** Whether a connection that a server has accepted is one of the in-memory network. */
export const isConnectionInMemory = (connection: Duplex): boolean => connections.has(connection)
