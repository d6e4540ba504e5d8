/**
 * Whether something can be a handler map. A file of its own, since listeners ask that as well as servers.
 */
import { isMap } from "node:util/types"
import type { HandlerMap } from "../HandlerMap.ts"

/** Whether something may be a handler map. What it holds is checked where its entries are read. */
export const isHandlerMap = (u: unknown): u is HandlerMap<unknown> =>
  typeof u === "object" && u !== null && "entries" in u && isMap(u.entries)
