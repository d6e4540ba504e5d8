/**
 * What the operating system has yet to take of what a socket was given.
 *
 * Node's own timeout of a socket looks at the same number, and it has no public name: where it is missing there is
 * nothing to be seen.
 */
import type { Duplex } from "node:stream"
import { attempt } from "../userError.ts"

/** A secure socket has a handle of its own above that of the socket below, which may be none of the system's. */
const handlesOf = (duplex: Duplex): ReadonlyArray<object> => {
  const handles: Array<object> = []
  let handle: unknown = Reflect.get(duplex, "_handle")
  while (typeof handle === "object" && handle !== null && handles.length < 4) {
    handles.push(handle)
    handle = Reflect.get(handle, "_parent")
  }
  return handles
}

const sizeAt = (handle: object | undefined): number | undefined => {
  const size: unknown = handle === undefined ? undefined : Reflect.get(handle, "writeQueueSize")
  return typeof size === "number" ? size : undefined
}

/** How many bytes the system has yet to take, or 0 where that is not to be seen. */
export const queuedBelow = (duplex: Duplex): number =>
  attempt(() => handlesOf(duplex).reduce((sum, handle) => sum + (sizeAt(handle) ?? 0), 0), 0)

/** Whether that is to be seen. */
export const showsTaken = (duplex: Duplex): boolean =>
  attempt(() => sizeAt(handlesOf(duplex).at(-1)) !== undefined, false)
