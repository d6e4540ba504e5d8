/**
 * Handler maps as a connection looks methods up in them.
 */
import type { HandlerMap } from "../../HandlerMap.ts"
import { shown } from "../guard.ts"
import { isHandlerMap } from "../handlerMap.ts"
import { KeyTable } from "../protocol/keyTable.ts"
import { type Route, routeOf } from "./route.ts"

const tables = new WeakMap<HandlerMap<never>, KeyTable<Route>>()

/**
 * The table of a handler map: made once for each map, since most connections share one. It throws where that is no such
 * map.
 */
export const tableOf = <R>(handlers: HandlerMap<R>): KeyTable<Route> => {
  // Whoever serves has taken the handlers' requirements into the context that they run in.
  const map = handlers as unknown as HandlerMap<never>
  let table = tables.get(map)
  if (table === undefined) {
    if (!isHandlerMap(map)) {
      throw new TypeError(`the handlers of a connection: expected a HandlerMap, got ${shown(map)}`)
    }
    table = new KeyTable(Array.from(map.entries.values(), (entry) => {
      const route = routeOf(entry)
      return [route.key.bytes, route] as const
    }))
    tables.set(map, table)
  }
  return table
}
