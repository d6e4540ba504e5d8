import { describe, it } from "@effect/vitest"
import * as assert from "node:assert/strict"
import { dataView } from "../../../src/internal/memory/bytes.ts"
import { headerSize, MessageType, writeHeader } from "../../../src/internal/protocol/frame.ts"
import { Batch } from "../../../src/internal/transport/batch.ts"
import {
  compact,
  firstRequest,
  type LargeMessage,
  leavesLarge,
  payloadsOf,
  sizeOf
} from "../../../src/internal/transport/queued.ts"
import { messagesOf } from "../../support/raw.ts"

type Message = readonly [id: number, type: number, payload: ReadonlyArray<number>]

/** A batch of messages. */
const batchOf = (...messages: ReadonlyArray<Message>): Batch => {
  const batch = new Batch(1000)
  for (const [id, type, payload] of messages) {
    writeHeader(batch.view, batch.length, id, type, payload.length)
    batch.bytes.set(payload, batch.length + headerSize)
    batch.length += headerSize + payload.length
  }
  return batch
}

const large = (id: number, type: number, start: ReadonlyArray<number>, body: ReadonlyArray<number>): LargeMessage => {
  const head = new Uint8Array(headerSize + start.length)
  writeHeader(dataView(head), 0, id, type, start.length + body.length)
  head.set(start, headerSize)
  return { id, type, head, body: new Uint8Array(body), size: body.length, isRest: false }
}

const { cancel, request } = MessageType

describe("what is queued", () => {
  it("loses the requests that do not leave, and nothing else", () => {
    const batch = batchOf([1, request, [1]], [1, cancel, []], [2, request, [2, 2]], [3, request, [3, 3, 3]])
    compact(batch, (id) => id === 3)
    const left = messagesOf(Buffer.from(batch.bytes.subarray(0, batch.length)))
    assert.deepEqual(left.map(({ id, payload, type }) => [id, type, [...payload]]), [
      [1, cancel, []],
      [3, request, [3, 3, 3]]
    ])
  })

  it("gets deadlines at the start of the payload as it leaves", () => {
    const batch = batchOf([1, request, [0, 7]], [2, request, [0, 7]])
    compact(batch, (id, bytes, payloadAt) => {
      bytes.setUint8(payloadAt, id * 10)
      return true
    })
    const left = messagesOf(Buffer.from(batch.bytes.subarray(0, batch.length)))
    assert.deepEqual(left.map(({ payload }) => [...payload]), [[10, 7], [20, 7]])
    const message = large(3, request, [0], [7])
    assert.equal(
      leavesLarge(message, (id, bytes, payloadAt) => {
        bytes.setUint8(payloadAt, id * 10)
        return false
      }),
      false
    )
    assert.equal(message.head[headerSize], 30)
  })

  it("leaves without a question where it is large and no request", () => {
    assert.equal(leavesLarge(large(1, MessageType.response, [], [1]), () => assert.fail("asked")), true)
  })

  it("begins with the first request, after any other messages", () => {
    assert.equal(firstRequest([]), undefined)
    assert.equal(firstRequest([batchOf([1, cancel, []]), large(2, MessageType.response, [], [1])]), undefined)
    assert.equal(firstRequest([batchOf([1, cancel, []], [5, request, []], [6, request, []])]), 5)
    assert.equal(firstRequest([batchOf([1, cancel, []]), large(7, request, [], [1]), batchOf([8, request, []])]), 7)
  })

  it("is given back as the payloads of its requests, each a copy", () => {
    const batch = batchOf([1, request, [1]], [2, cancel, []], [3, request, [3]])
    const items = [batch, large(4, request, [4], [4, 4]), large(5, request, [], [5])]
    const found = payloadsOf(items, new Set([3, 5]))
    batch.bytes.fill(0)
    assert.deepEqual([...found].map(([id, payload]) => [id, [...payload]]), [[1, [1]], [4, [4, 4, 4]]])
  })

  it("has the size of its headers and payloads", () => {
    assert.equal(sizeOf(batchOf([1, request, [1, 2]], [2, cancel, []])), 2 * headerSize + 2)
    assert.equal(sizeOf(large(1, request, [1], [2, 3])), headerSize + 3)
  })
})
