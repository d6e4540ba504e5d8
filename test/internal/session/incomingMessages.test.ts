import { describe, it } from "@effect/vitest"
import * as assert from "node:assert/strict"
import { IncomingMessages, mostInParts } from "../../../src/internal/session/incomingMessages.ts"
import { Unfinished } from "../../../src/internal/session/unfinished.ts"

const mib = 1_048_576

const make = (settings: { readonly maxMessageSize?: number; readonly smallestFirst?: number } = {}) => {
  const clock = { now: 50 }
  const maxMessageSize = settings.maxMessageSize ?? 1000
  const unfinished = new Unfinished(maxMessageSize, 1000, () => clock.now)
  const messages = new IncomingMessages(unfinished, maxMessageSize, settings.smallestFirst ?? 4)
  const part = (id: number, ...bytes: ReadonlyArray<number>) =>
    messages.part(id, Uint8Array.of(9, ...bytes, 9), 1, 1 + bytes.length)
  /** A first part. */
  const first = (id: number, total: number, ...bytes: ReadonlyArray<number>) => {
    const head = Buffer.alloc(4)
    head.writeUInt32LE(total)
    return part(id, ...head, ...bytes)
  }
  const finish = (id: number, ...bytes: ReadonlyArray<number>) => {
    const payload = messages.finish(messages.get(id)!, Uint8Array.of(9, ...bytes, 9), 1, 1 + bytes.length)
    return payload instanceof Uint8Array ? [...payload] : payload
  }
  return { clock, finish, first, messages, part, unfinished }
}

describe("a message in parts", () => {
  it("is what the parts carry, in order, and the payload of its last message", () => {
    const { finish, first, messages, part, unfinished } = make()
    assert.equal(first(3, 6, 1, 2), undefined)
    const message = messages.get(3)!
    assert.deepEqual(
      [message.id, message.total, message.firstAt, message.dropped, messages.size],
      [3, 6, 50, undefined, 1]
    )
    assert.equal(part(3, 3), undefined)
    assert.deepEqual([...messages.bytesOf(message)!], [1, 2, 3])
    assert.deepEqual(finish(3, 4, 5, 6), [1, 2, 3, 4, 5, 6])
    assert.deepEqual([messages.size, messages.get(3), unfinished.isEmpty], [0, undefined, true])
  })

  it("may have all its bytes in its parts, and none in its first", () => {
    const { finish, first, part } = make()
    first(3, 2)
    part(3, 1, 2)
    assert.deepEqual(finish(3), [1, 2])
  })

  it("comes beside others", () => {
    const { finish, first } = make()
    first(1, 2, 1)
    first(2, 3, 5)
    assert.deepEqual([finish(1, 2), finish(2, 6, 7)], [[1, 2], [5, 6, 7]])
  })
})

describe("a message in parts whose bytes are dropped", () => {
  it("is one over the limit, and is known until it is whole", () => {
    const { finish, first, messages, part, unfinished } = make()
    assert.equal(first(3, 1001, 1), undefined)
    const message = messages.get(3)!
    assert.deepEqual([message.dropped, messages.bytesOf(message), unfinished.isEmpty], ["TooLarge", undefined, true])
    for (let i = 0; i < 9; i++) assert.equal(part(3, ...new Uint8Array(100)), undefined)
    assert.equal(messages.size, 1)
    assert.equal(finish(3, ...new Uint8Array(100)), undefined)
    assert.equal(messages.size, 0)
  })

  it("is one for which the connection has no room, at its first part or later", () => {
    const { finish, first, messages, part, unfinished } = make({ maxMessageSize: 8 * mib })
    const large = unfinished.begin(71 * mib + 1)
    assert.equal(unfinished.add(large, new Uint8Array(large.total), 0, large.total), true)
    first(1, 2 * mib, 1)
    first(2, mib - 1, 1)
    assert.equal(messages.get(1)!.dropped, "Overloaded")
    assert.equal(messages.get(2)!.dropped, undefined)
    unfinished.drop(large)
    assert.deepEqual([part(1, 2), messages.get(1)!.dropped], [undefined, "Overloaded"])
    assert.match(String(finish(1)), /parts of 2 bytes, the last one included, of a message of 2097152/)
  })

  it("is one that was given up, and the first reason stays", () => {
    const { finish, first, messages, part, unfinished } = make()
    first(1, 3, 1)
    const message = messages.get(1)!
    messages.drop(message)
    assert.deepEqual([message.dropped, unfinished.isEmpty], ["GivenUp", true])
    assert.equal(part(1, 2), undefined)
    assert.equal(finish(1, 3), undefined)
    first(2, 1001)
    messages.drop(messages.get(2)!)
    assert.equal(messages.get(2)!.dropped, "TooLarge")
  })

  it("is one that got nothing for too long", () => {
    const { clock, finish, first, messages, unfinished } = make()
    first(1, 3, 1)
    clock.now = 500
    first(2, 3, 1)
    const stalled = messages.stalled(unfinished.expire(1050).stalled)
    assert.deepEqual(stalled.map(({ dropped, id }) => [id, dropped]), [[1, "Stalled"]])
    assert.deepEqual([finish(1, 2, 3), finish(2, 2, 3)], [undefined, [1, 2, 3]])
  })

  it("is one that got nothing for too long, also where a part comes before it was looked for", () => {
    const { first, messages, part, unfinished } = make()
    first(1, 3, 1)
    unfinished.expire(1050)
    assert.equal(part(1, 2), undefined)
    assert.equal(messages.get(1)!.dropped, "Stalled")
  })
})

describe("a message in parts that is forgotten", () => {
  it("holds nothing, and its id can be used again", () => {
    const { finish, first, messages, unfinished } = make()
    first(1, 3, 1)
    messages.forget(1)
    messages.forget(1)
    assert.deepEqual([messages.size, unfinished.isEmpty], [0, true])
    first(1, 2, 7)
    assert.deepEqual(finish(1, 8), [7, 8])
  })

  it("is not taken for the one that has its id now", () => {
    const { first, messages } = make()
    first(1, 3, 1)
    const before = messages.get(1)!
    messages.forget(1)
    first(1, 3, 1)
    assert.throws(() => messages.drop(before), /a message in parts with the id 1 is not known/)
  })
})

describe("a peer is refused", () => {
  it("for a first part that is too short for what it begins with", () => {
    const client = make()
    assert.equal(client.part(1, 0, 0, 0), "a first part of 3 bytes, expected at least 4")
    const server = make({ smallestFirst: 53 })
    assert.equal(server.first(1, 100, ...new Uint8Array(48)), "a first part of 52 bytes, expected at least 53")
    assert.equal(server.first(1, 100, ...new Uint8Array(49)), undefined)
  })

  it("for parts that are more than the total, also of a message whose bytes are dropped", () => {
    const { finish, first, messages, part } = make()
    assert.equal(first(1, 2, 1, 2, 3), "parts of 3 bytes of a message of 2")
    first(2, 2, 1)
    assert.equal(part(2, 2, 3), "parts of 3 bytes of a message of 2")
    assert.equal(finish(2, 2, 3), "parts of 3 bytes of a message of 2")
    first(3, 2, 1)
    messages.drop(messages.get(3)!)
    assert.equal(part(3, 2, 3), "parts of 3 bytes of a message of 2")
  })

  it("for a message that ends before its total, also one whose bytes are dropped", () => {
    const { finish, first, messages } = make()
    first(1, 4, 1)
    assert.equal(finish(1, 2, 3), "parts of 3 bytes, the last one included, of a message of 4")
    first(2, 4, 1)
    messages.drop(messages.get(2)!)
    assert.equal(finish(2), "parts of 1 bytes, the last one included, of a message of 4")
  })

  it("for a 65th message in parts, those whose bytes are dropped included", () => {
    const { first, messages } = make()
    for (let id = 1; id <= mostInParts; id++) assert.equal(first(id, id % 2 === 0 ? 9 : 5000), undefined)
    assert.equal(first(65, 9), "more than 64 messages in parts at once")
    messages.forget(1)
    assert.equal(first(65, 9), undefined)
  })
})
