/**
 * The tables in which a connection looks up the methods of a handler map.
 *
 * They must not know what a route does.
 */
import type { HandlerMap } from "../../HandlerMap.ts"
import { shown } from "../guard.ts"
import { isHandlerMap } from "../handlerMap.ts"
import { KeyTable } from "../protocol/keyTable.ts"
import { type Route, routeOf } from "./route.ts"

/** The methods of one handler map. A stream is not found among the calls, nor a call among the streams. */
export interface Routes {
  readonly calls: KeyTable<Route>
  readonly streams: KeyTable<Route>
}

const made = new WeakMap<HandlerMap<never>, Routes>()

/** The tables of a handler map, made once for each map. It throws a TypeError where that is none. */
export const routesOf = <R>(handlers: HandlerMap<R>): Routes => {
  // The cast: a server has put what the handlers require into the context that they run in.
  const map = handlers as unknown as HandlerMap<never>
  let routes = made.get(map)
  if (routes === undefined) {
    if (!isHandlerMap(map)) {
      throw new TypeError(`the handlers of a connection: expected a HandlerMap, got ${shown(map)}`)
    }
    const all = Array.from(map.entries.values(), routeOf)
    routes = { calls: tableOf(all.filter((route) => !route.isStream)), streams: tableOf(all.filter(isStream)) }
    made.set(map, routes)
  }
  return routes
}

const isStream = (route: Route): boolean => route.isStream

const tableOf = (routes: ReadonlyArray<Route>): KeyTable<Route> =>
  new KeyTable(routes.map((route) => [route.key.bytes, route] as const))
