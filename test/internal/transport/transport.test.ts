/**
 * A connection that is flooded: it is read for a while, and then the others have their turn.
 */
import { describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as assert from "node:assert/strict"
import { Duplex } from "node:stream"
import { serverTypes } from "../../../src/internal/protocol/frame.ts"
import { Transport, type TransportOwner } from "../../../src/internal/transport/transport.ts"
import { message, version } from "../../support/raw.ts"
import { turn } from "./support.ts"

/** A duplex that always has more to be read. */
class Flood extends Duplex {
  private readonly chunks: Array<Buffer>

  constructor(chunks: ReadonlyArray<Buffer>) {
    super()
    this.chunks = [...chunks]
  }

  override _read(): void {
    const chunk = this.chunks.shift()
    if (chunk !== undefined) this.push(chunk)
  }

  override _write(_chunk: Buffer, _encoding: BufferEncoding, callback: () => void): void {
    callback()
  }
}

/** Keeps the event loop busy. */
const work = (millis: number) => {
  const end = performance.now() + millis
  while (performance.now() < end);
}

/** A transport that is flooded with so many messages, each in a chunk of its own, of which each takes 0.2 ms. */
const flooded = (messages: number, onFrame: (id: number) => void = () => {}) => {
  const duplex = new Flood(Array.from({ length: messages }, (_, i) => message(i + 1, 4)))
  const seen: Array<number> = []
  const owner: TransportOwner = {
    onFrame: (id) => {
      seen.push(id)
      onFrame(id)
      work(0.2)
    },
    keepsPayload: () => false,
    onTooLarge: () => {},
    onLeave: () => true,
    onRoom: () => {},
    onFlush: () => {},
    onBlocked: () => {},
    onRead: () => {},
    onPartial: () => {},
    onOver: () => {}
  }
  const settings = { maxMessageSize: 1024, maxUnsentBytes: 1024 }
  const transport: Transport = new Transport(duplex, owner, serverTypes, settings, undefined)
  transport.start()
  return { duplex, seen, transport }
}

const inOrder = (count: number) => Array.from({ length: count }, (_, i) => i + 1)

describe("a connection that is flooded", () => {
  it.effect("is read for a millisecond in a turn, and to the last message in later turns", () =>
    Effect.gen(function*() {
      const { seen } = flooded(200)
      const turns: Array<number> = []
      while (seen.length < 200) {
        const before = seen.length
        yield* turn
        turns.push(seen.length - before)
      }
      // Each takes 0.2 ms or more, and the one that is under way when the time is up is finished.
      assert.ok(Math.max(...turns) <= 10, turns.join(" "))
      assert.deepEqual(seen, inOrder(200))
    }))

  it.effect("is not read again in the next turn where its owner has paused it meanwhile", () =>
    Effect.gen(function*() {
      const made = flooded(200, (id) => {
        // When as much has been read as is in one turn.
        if (id === 20) process.nextTick(() => made.transport.pause())
      })
      const { seen, transport } = made
      while (seen.length < 20) yield* turn
      const { length } = seen
      for (let i = 0; i < 10; i++) yield* turn
      assert.equal(seen.length, length)
      transport.resume()
      while (seen.length < 200) yield* turn
      assert.deepEqual(seen, inOrder(200))
    }))

  it.effect("goes on in the next turn, and not before, where its owner has paused and resumed it meanwhile", () =>
    Effect.gen(function*() {
      const made = flooded(200, () =>
        process.nextTick(() => {
          made.transport.pause()
          made.transport.resume()
        }))
      const { seen } = made
      let most = 0
      while (seen.length < 200) {
        const before = seen.length
        yield* turn
        most = Math.max(most, seen.length - before)
      }
      assert.ok(most <= 10, `${most} messages in one turn`)
      assert.deepEqual(seen, inOrder(200))
    }))

  it.effect("is released where it ends in its turn", () =>
    Effect.gen(function*() {
      const { duplex, seen, transport } = flooded(200)
      while (seen.length === 0) yield* turn
      transport.destroy()
      const { length } = seen
      for (let i = 0; i < 10; i++) yield* turn
      assert.equal(seen.length, length)
      assert.ok(duplex.destroyed)
    }))
})

describe("a large chunk", () => {
  it.effect("is handed out as a whole, however long that takes", () =>
    Effect.gen(function*() {
      const { duplex, seen } = flooded(0)
      duplex.push(Buffer.concat([version, ...inOrder(50).map((id) => message(id, 4))]))
      yield* turn
      assert.deepEqual(seen, [0, ...inOrder(50)])
    }))
})
