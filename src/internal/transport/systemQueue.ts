/**
 * How many bytes of a socket wait in libuv, below the stream: the system has yet to take them.
 *
 * The number has no public name. Node's own timeout of a socket reads the same one. Where it is missing, nothing can be
 * seen.
 */
import type { Duplex } from "node:stream"
import { attempt } from "../userError.ts"

/** The handles of a socket, the lowest one last. A secure socket has one above that of the connection below. */
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

/** How many bytes the system has yet to take; 0 where that cannot be seen. */
export const queuedBelow = (duplex: Duplex): number =>
  attempt(() => handlesOf(duplex).reduce((sum, handle) => sum + (sizeAt(handle) ?? 0), 0), 0)

/** Whether that can be seen. */
export const showsTaken = (duplex: Duplex): boolean =>
  attempt(() => sizeAt(handlesOf(duplex).at(-1)) !== undefined, false)
