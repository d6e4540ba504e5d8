/** Messages of items, and streams that receive them. */
import { Cause, Effect, Exit, type Fiber } from "effect"
import { dataView } from "../../../src/internal/memory/bytes.ts"
import { goesOn, itemPrefix } from "../../../src/internal/protocol/items.ts"
import { IncomingItems } from "../../../src/internal/session/incomingItems.ts"
import { Unfinished } from "../../../src/internal/session/unfinished.ts"
import { Windows } from "../../../src/internal/session/windows.ts"

/** An item, or a last piece of one. */
export const whole = (...bytes: ReadonlyArray<number>): Uint8Array => entry(Uint8Array.from(bytes), false)

/** A `length` and the bytes behind it. */
export const entry = (content: Uint8Array, isPiece: boolean): Uint8Array => {
  const bytes = new Uint8Array(itemPrefix + content.length)
  dataView(bytes).setUint32(0, content.length + (isPiece ? goesOn : 0), true)
  bytes.set(content, itemPrefix)
  return bytes
}

/** A first piece of an item of `total` bytes. */
export const firstPiece = (total: number, ...content: ReadonlyArray<number>): Uint8Array => {
  const head = new Uint8Array(4)
  dataView(head).setUint32(0, total, true)
  return entry(concat(head, Uint8Array.from(content)), true)
}

/** A later piece that is not the last. */
export const nextPiece = (...content: ReadonlyArray<number>): Uint8Array => entry(Uint8Array.from(content), true)

export const concat = (...parts: ReadonlyArray<Uint8Array>): Uint8Array => Uint8Array.from(Buffer.concat(parts))

export interface Settings {
  readonly credit?: number
  readonly largest?: number
  readonly budget?: number
  readonly maxItem?: number
  /** The largest message, which decides how much may be unfinished. */
  readonly maxMessageSize?: number
  /** Whose messages' bytes stay as they are. */
  readonly owned?: boolean
}

/** A stream that receives. Its time stands still. */
export const receive = (settings: Settings = {}) => {
  const grants: Array<number> = []
  const clock = { now: 0 }
  const windows = new Windows(settings.largest ?? 65_536, settings.budget ?? 16_777_216)
  const unfinished = new Unfinished(settings.maxMessageSize ?? 1_048_576, 1000, () => clock.now)
  const receiver = {
    windows,
    unfinished,
    maxItem: settings.maxItem ?? 1_048_576,
    grant: (_: number, bytes: number) => void grants.push(bytes)
  }
  const incoming = new IncomingItems(7, receiver, settings.credit ?? windows.first)
  /** A message comes. Where its bytes are not owned, they change after that, as those of a reused buffer. */
  const push = (...entries: ReadonlyArray<Uint8Array>) => {
    const message = concat(Uint8Array.of(1, 2), ...entries, Uint8Array.of(3))
    const violation = incoming.push(message, 2, message.length - 1, settings.owned ?? false)
    if (settings.owned !== true) message.fill(0xee)
    return violation
  }
  /** Takes what waits. */
  const take = (): ReadonlyArray<ReadonlyArray<number>> => pulled(Effect.runSyncExit(incoming.pull))
  return { clock, grants, incoming, push, receiver, take, unfinished, windows }
}

/** The items of a chunk, as numbers. */
export const pulled = (
  exit: Exit.Exit<ReadonlyArray<Uint8Array>, unknown>
): ReadonlyArray<ReadonlyArray<number>> => {
  if (Exit.isFailure(exit)) throw new Error(`expected items, got ${Cause.pretty(exit.cause)}`)
  return exit.value.map((item) => [...item])
}

/** A consumer that waits for the next chunk. */
export const waits = (incoming: IncomingItems): Fiber.Fiber<ReadonlyArray<Uint8Array>, unknown> =>
  Effect.runFork(incoming.pull)
