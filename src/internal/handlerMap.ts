/**
 * Checks whether a value can be a handler map. It has its own file, because both listeners and servers need the check.
 * It does not look into the entries.
 */
import { isMap } from "node:util/types"
import type { HandlerMap } from "../HandlerMap.ts"

/** Whether a value can be a handler map. Its entries are checked when they are read. */
export const isHandlerMap = (u: unknown): u is HandlerMap<unknown> =>
  typeof u === "object" && u !== null && "entries" in u && isMap(u.entries)
