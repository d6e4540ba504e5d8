/**
 * The table in which a connection looks up the methods of a handler map.
 *
 * It must not know what a route does.
 */
import type { HandlerMap } from "../../HandlerMap.ts"
import { shown } from "../guard.ts"
import { isHandlerMap } from "../handlerMap.ts"
import { KeyTable } from "../protocol/keyTable.ts"
import { type Route, routeOf } from "./route.ts"

const tables = new WeakMap<HandlerMap<never>, KeyTable<Route>>()

/** The table of a handler map, made once for each map. It throws a TypeError where that is none. */
export const tableOf = <R>(handlers: HandlerMap<R>): KeyTable<Route> => {
  // The cast: a server has put what the handlers require into the context that they run in.
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
