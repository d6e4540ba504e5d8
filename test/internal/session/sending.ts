/** The sending half of streams, as its tests use it: a Flow over a Duplex that the test reads. */
import { Effect } from "effect"
import * as assert from "node:assert/strict"
import { MessageType } from "../../../src/internal/protocol/frame.ts"
import { Flow } from "../../../src/internal/session/flow.ts"
import { Messages } from "../../../src/internal/session/messages.ts"
import { makeWriter, Slow, turn } from "../transport/support.ts"

/** A flow that both peers know, over a Duplex that takes all or nothing until it is drained. */
export const makeFlow = (isSlow = false) => {
  const duplex = new Slow(isSlow)
  const { writer } = makeWriter(duplex)
  const messages = new Messages(writer, 16_384)
  const flow = new Flow(messages, writer)
  flow.start()
  return { duplex, flow, messages, writer }
}

/** What one stream's messages of items carry: whole items, and the rest of one that is not whole. */
export const itemsOf = (duplex: Slow, id: number): { readonly items: Array<Buffer>; readonly unfinished: number } => {
  const items: Array<Buffer> = []
  let pieces: Array<Buffer> | undefined
  let total = 0
  for (const { id: of, payload, type } of duplex.messages) {
    if (of !== id || type !== MessageType.items) continue
    assert.ok(payload.length <= 1_048_576, "a message of items is at most 1 MiB")
    let at = 0
    while (at < payload.length) {
      const word = payload.readUInt32LE(at)
      const end = at + 4 + (word & 0x7fff_ffff)
      assert.ok(end <= payload.length, "an item ends within its message")
      let bytes = payload.subarray(at + 4, end)
      const isMore = word >= 0x8000_0000
      if (isMore) assert.equal(end, payload.length, "a piece that goes on is the last in its message")
      if (isMore && pieces === undefined) {
        total = bytes.readUInt32LE(0)
        bytes = bytes.subarray(4)
        pieces = []
      }
      if (pieces === undefined) {
        items.push(bytes)
      } else {
        assert.ok(bytes.length > 0, "a piece is not empty")
        pieces.push(bytes)
        if (!isMore) {
          items.push(Buffer.concat(pieces))
          assert.equal(items.at(-1)?.length, total)
          pieces = undefined
        }
      }
      at = end
    }
  }
  return { items, unfinished: pieces === undefined ? 0 : Buffer.concat(pieces).length }
}

/** Counts the bytes of items and parts that were sent, in messages that were written whole. */
const counterOf = (duplex: Slow) => {
  let chunks = 0
  let rest = Buffer.alloc(0)
  let skipped = 0
  let sum = 0
  return () => {
    const all = duplex.writes.slice(chunks).flat()
    chunks = duplex.writes.length
    for (const written of all) {
      let chunk = written
      const skip = Math.min(skipped, chunk.length)
      skipped -= skip
      chunk = chunk.subarray(skip)
      if (chunk.length === 0) continue
      rest = Buffer.concat([rest, chunk])
      while (rest.length >= 16) {
        const length = rest.readUIntLE(9, 6)
        if (rest[8] === MessageType.items || rest[8] === MessageType.part) sum += length
        skipped = Math.max(0, 16 + length - rest.length)
        rest = rest.subarray(16 + length)
      }
    }
    return skipped > 0 ? sum - skipped : sum
  }
}

/** Lets the peer read all that is in flight beyond what it has read `before`, until nothing more leaves. */
export const readAll = (duplex: Slow, flow: Flow, before = 0) =>
  Effect.gen(function*() {
    const count = counterOf(duplex)
    let read = before
    for (;;) {
      // A piece leaves in a turn, is taken in the next one, and what makes room is noticed in a third.
      for (let i = 0; i < 4; i++) yield* turn
      const sent = count()
      if (sent === read) return
      assert.equal(flow.landed(sent - read), undefined)
      read = sent
    }
  })
