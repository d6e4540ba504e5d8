/**
 * Handler maps as a connection looks methods up in them.
 */
import type { HandlerMap } from "../../HandlerMap.ts"
import { KeyTable } from "../protocol/keyTable.ts"
import { type Route, routeOf } from "./incoming.ts"

const tables = new WeakMap<HandlerMap<never>, KeyTable<Route>>()

/** The table of a handler map: made once for each map, since most connections share one. */
export const tableOf = <R>(handlers: HandlerMap<R>): KeyTable<Route> => {
  // Whoever serves has taken the handlers' requirements into the context that they run in.
  const map = handlers as unknown as HandlerMap<never>
  let table = tables.get(map)
  if (table === undefined) {
    table = new KeyTable(Array.from(map.entries.values(), (entry) => [entry.key.bytes, routeOf(entry)] as const))
    tables.set(map, table)
  }
  return table
}
