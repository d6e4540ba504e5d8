/** A writer over a duplex that is as slow as a test wants. */
import { Effect } from "effect"
import { Duplex, type DuplexOptions } from "node:stream"
import { dataView } from "../../../src/internal/memory/bytes.ts"
import { headerSize, MessageType, writeHeader } from "../../../src/internal/protocol/frame.ts"
import { capabilitiesOf } from "../../../src/internal/transport/capabilities.ts"
import { Writer, type WriterOwner } from "../../../src/internal/transport/writer.ts"
import { messagesOf } from "../../support/raw.ts"

/** What a batch takes. */
export const batchSize = 262_144

/** A duplex that is done with a write when it is told so. */
export class Slow extends Duplex {
  readonly writes: Array<ReadonlyArray<Buffer>> = []
  /** Finishes the write that is under way. */
  done: (() => void) | undefined = undefined
  private readonly holds: boolean
  ended = false

  constructor(holds: boolean, options?: DuplexOptions) {
    super(options)
    this.holds = holds
    this.on("error", () => {})
  }

  override _read(): void {}

  override _writev(chunks: Array<{ readonly chunk: Buffer }>, callback: () => void): void {
    this.writes.push(chunks.map(({ chunk }) => chunk))
    if (this.holds) {
      this.done = () => {
        this.done = undefined
        callback()
      }
    } else callback()
  }

  override _final(callback: () => void): void {
    this.ended = true
    callback()
  }

  get messages() {
    return messagesOf(Buffer.concat(this.writes.flat()))
  }
}

/** A turn of the event loop. */
export const turn = Effect.callback<void>((resume) => {
  setImmediate(() => resume(Effect.void))
})

/** Lets a duplex finish all its writes. */
export const drain = Effect.fnUntraced(function*(duplex: Slow) {
  for (let i = 0; i < 10; i++) {
    duplex.done?.()
    yield* turn
  }
})

/** A writer, what it has told its owner, and a way to queue requests. */
export const makeWriter = (duplex: Duplex, onLeave: WriterOwner["onLeave"] = () => true) => {
  const counts = { rooms: 0, flushes: 0, blocks: 0 }
  const traffic = { received: 0, sent: 0 }
  const owner = {
    onLeave,
    onRoom: () => void counts.rooms++,
    onFlush: () => void counts.flushes++,
    onBlocked: () => void counts.blocks++
  }
  const writer = new Writer(duplex, capabilitiesOf(duplex), owner, 1_048_576, traffic, (error) => {
    throw error
  })
  let id = 0
  /** Queues a request with `size` bytes of payload, all of them the id's low byte. */
  const request = (size: number, options?: { readonly deadline?: boolean; readonly large?: boolean }) => {
    id++
    if (options?.large === true) {
      const head = new Uint8Array(headerSize + 4).fill(id & 0xff)
      writeHeader(dataView(head), 0, id, MessageType.request, size)
      writer.reference(id, MessageType.request, head, new Uint8Array(size - 4).fill(id & 0xff))
    } else {
      const batch = writer.reserve(headerSize + size)
      const start = batch.length - headerSize - size
      writeHeader(batch.view, start, id, MessageType.request, size)
      batch.bytes.fill(id & 0xff, start + headerSize, batch.length)
    }
    writer.requestQueued(id, options?.deadline === true)
    return id
  }
  return { writer, request, counts, traffic }
}
