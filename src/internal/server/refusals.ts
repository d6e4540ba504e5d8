/**
 * How a server answers what it does not serve: each refusal has its error and its kind in metrics.
 *
 * It must not know why something is refused.
 */
import * as Identities from "../protocol/identities.ts"
import { maxCredit } from "../protocol/items.ts"
import type { ServedConnection } from "./model.ts"
import { answerError } from "./reply.ts"
import type { Route } from "./route.ts"

/** There is no handler for it. */
export const refuseUnknown = (connection: ServedConnection, id: number): void => {
  connection.settings.stats?.calls.other.record(0, "unknown_method")
  answerError(connection, id, [Identities.unknownMethod])
}

/** Its deadline has passed. */
export const refuseLate = (connection: ServedConnection, id: number, route: Route): void => {
  connection.settings.stats?.calls.method(route.key).record(0, "DeadlineExceeded")
  answerError(connection, id, [Identities.deadlineExceeded])
}

/** Its payload of `length` bytes, of which `header` are no arguments, is over the limit. */
export const refuseTooLarge = (connection: ServedConnection, id: number, length: number, header: number): void => {
  const { maxMessageSize, stats } = connection.settings
  stats?.calls.other.record(0, "too_large")
  answerError(connection, id, [Identities.argumentsTooLarge(length - header, maxMessageSize - header)])
}

/** There is no place for it. `route` is its method, where that is known; `problem` what there is too much of. */
export const refuseOverloaded = (
  connection: ServedConnection,
  id: number,
  route: Route | undefined,
  problem = Identities.overloaded.message
): void => {
  const calls = connection.settings.stats?.calls
  const counted = route === undefined ? calls?.other : calls?.method(route.key)
  counted?.record(0, "overloaded")
  answerError(connection, id, [{ message: problem, identity: Identities.overloaded.identity }])
}

/** It lets the server send more than there may be. */
export const refuseCredit = (connection: ServedConnection, id: number, route: Route, credit: number): void => {
  connection.settings.stats?.calls.method(route.key).record(0, "flow_control")
  answerError(connection, id, [Identities.flowControl(`a credit of ${credit} bytes, expected at most ${maxCredit}`)])
}
