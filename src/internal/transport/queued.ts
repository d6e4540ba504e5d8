/**
 * What waits in a writer: batches of small messages, and large messages that are not copied.
 *
 * It reads the headers of messages that are already written. It knows no sockets, and not when anything is sent.
 */
import { dataView } from "../memory/bytes.ts"
import { beginsExchange, headerSize, readId, readLength } from "../protocol/frame.ts"
import { Batch } from "./batch.ts"

/** A message whose payload is not copied: `head` is its header and the start of the payload, `body` is the rest. */
export interface LargeMessage {
  readonly id: number
  readonly type: number
  readonly head: Uint8Array
  readonly body: Uint8Array
  /**
   * The length of `body` when it was queued. Users own these bytes, and may have moved them to another thread since.
   */
  readonly size: number
  /** Whether it is the rest of a message in parts: its payload has no header. */
  readonly isRest: boolean
}

export type Queued = Batch | LargeMessage

/**
 * Whether a request, or an open, is still to be sent, which is decided as it leaves. It may write its deadline at
 * `payloadAt`.
 */
export type Leaves = (id: number, bytes: DataView, payloadAt: number) => boolean

/** How many bytes it has. */
export const sizeOf = (item: Queued): number =>
  item instanceof Batch ? item.length : item.head.length + item.body.length

const eachMessage = (batch: Batch, f: (id: number, type: number, start: number, end: number) => void): void => {
  let start = 0
  while (start < batch.length) {
    const end = start + headerSize + readLength(batch.bytes, start)
    f(readId(batch.bytes, start), batch.bytes[start + 8] ?? 0, start, end)
    start = end
  }
}

const isRequest = ({ isRest, type }: LargeMessage): boolean => beginsExchange(type) && !isRest

/** Removes the requests of a batch that do not leave, and closes the gaps. */
export const compact = (batch: Batch, leaves: Leaves): void => {
  let length = 0
  eachMessage(batch, (id, type, start, end) => {
    if (beginsExchange(type) && !leaves(id, batch.view, start + headerSize)) return
    if (length !== start) batch.bytes.copyWithin(length, start, end)
    length += end - start
  })
  batch.length = length
}

/** Whether a large message is still to be sent. */
export const leavesLarge = (message: LargeMessage, leaves: Leaves): boolean =>
  !isRequest(message) || leaves(message.id, dataView(message.head), headerSize)

/** The lowest id of a request among messages that are queued in the order of their ids. */
export const firstRequest = (items: ReadonlyArray<Queued>): number | undefined => {
  let first: number | undefined
  for (const item of items) {
    if (item instanceof Batch) {
      eachMessage(item, (id, type) => {
        if (beginsExchange(type)) first ??= id
      })
    } else if (isRequest(item)) {
      first = item.id
    }
    if (first !== undefined) break
  }
  return first
}

/** The payloads of the requests that are not `dropped`, by id, each a copy. */
export const payloadsOf = (items: ReadonlyArray<Queued>, dropped: ReadonlySet<number>): Map<number, Uint8Array> => {
  const found = new Map<number, Uint8Array>()
  for (const item of items) {
    if (item instanceof Batch) {
      eachMessage(item, (id, type, start, end) => {
        if (beginsExchange(type) && !dropped.has(id)) found.set(id, item.bytes.slice(start + headerSize, end))
      })
    } else if (isRequest(item) && !dropped.has(item.id)) {
      const payload = new Uint8Array(item.head.length - headerSize + item.body.length)
      payload.set(item.head.subarray(headerSize))
      payload.set(item.body, item.head.length - headerSize)
      found.set(item.id, payload)
    }
  }
  return found
}
