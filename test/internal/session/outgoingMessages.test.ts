import { describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as assert from "node:assert/strict"
import { MessageType } from "../../../src/internal/protocol/frame.ts"
import { type OutgoingMessage, OutgoingMessages } from "../../../src/internal/session/outgoingMessages.ts"
import { type Slow, turn } from "../transport/support.ts"
import { makeFlow, readAll } from "./sending.ts"

const head = Uint8Array.of(1, 2, 3)

const makeMessages = (leaves = true) => {
  const made = makeFlow()
  const events: Array<string> = []
  const messages: OutgoingMessages = new OutgoingMessages(made.flow, {
    onFirstPart: ({ id, state }, view) => {
      events.push(`first ${id} ${state}`)
      view.setUint8(0, 9)
      return leaves
    },
    onSent: ({ id, state }) => void events.push(`sent ${id} ${state}`)
  })
  return { ...made, events, outgoing: messages }
}

/** A message that came in parts, put together; undefined where it is not whole. */
const whole = (duplex: Slow, id: number, type: number): Buffer | undefined => {
  const own = duplex.messages.filter((message) => message.id === id)
  const parts = own.filter((message) => message.type === MessageType.part)
  const rest = own.find((message) => message.type === type)
  if (parts.length === 0 || rest === undefined) return undefined
  assert.equal(own.at(-1), rest, "the rest comes last")
  assert.ok(parts.every(({ payload }) => payload.length > 0 && payload.length <= 1_048_576))
  const bytes = Buffer.concat([...parts, rest].map(({ payload }) => payload))
  assert.equal(bytes.readUInt32LE(0), bytes.length - 4)
  return bytes.subarray(4)
}

const { request, response } = MessageType

describe("messages in parts", () => {
  for (const size of [262_145, 131_072 * 4, 1_000_001]) {
    it.effect(`carry a payload of ${size} bytes: parts, and the rest in a message of its type`, () =>
      Effect.gen(function*() {
        const { duplex, events, flow, outgoing } = makeMessages()
        const body = new Uint8Array(size).map((_, i) => i)
        outgoing.send(1, response, head.slice(), body)
        assert.deepEqual([outgoing.size, outgoing.unsentBytes], [1, size])
        yield* readAll(duplex, flow)
        assert.deepEqual(whole(duplex, 1, response), Buffer.concat([Uint8Array.of(9, 2, 3), body]))
        assert.deepEqual(events, ["first 1 Waiting", "sent 1 Sent"])
        assert.deepEqual([outgoing.size, outgoing.unsentBytes, outgoing.get(1)], [0, 0, undefined])
        assert.ok(flow.isEmpty)
      }))
  }

  it.effect("let small messages pass, and take turns", () =>
    Effect.gen(function*() {
      const { duplex, flow, outgoing, writer } = makeMessages()
      const body = new Uint8Array(1_000_000)
      outgoing.send(1, response, head, body)
      outgoing.send(2, response, head, body)
      yield* turn
      writer.empty(3, MessageType.cancel)
      yield* readAll(duplex, flow)
      const ids = duplex.messages.map(({ id }) => id)
      assert.deepEqual(ids.slice(0, 3), [1, 2, 3])
      assert.ok(ids.lastIndexOf(1) > ids.indexOf(2))
      assert.equal(whole(duplex, 1, response)?.length, 1_000_003)
      assert.equal(whole(duplex, 2, response)?.length, 1_000_003)
    }))

  it.effect("leave nothing where they are not to be sent any more when their first part would leave", () =>
    Effect.gen(function*() {
      const { duplex, flow, outgoing } = makeMessages(false)
      outgoing.send(1, request, head, new Uint8Array(1_000_000))
      yield* readAll(duplex, flow)
      assert.deepEqual(duplex.messages, [])
      assert.deepEqual([outgoing.size, outgoing.unsentBytes], [0, 0])
    }))

  it.effect("can be dropped before and after their first part", () =>
    Effect.gen(function*() {
      const { duplex, flow, outgoing } = makeMessages()
      const get = (id: number): OutgoingMessage => outgoing.get(id)!
      outgoing.send(1, request, head, new Uint8Array(1_000_000))
      outgoing.send(2, request, head, new Uint8Array(1_000_000))
      assert.equal(outgoing.drop(get(1)), false)
      yield* turn
      assert.equal(get(2).state, "Begun")
      assert.equal(outgoing.drop(get(2)), true)
      const before = duplex.messages.length
      yield* readAll(duplex, flow)
      assert.equal(duplex.messages.length, before)
      assert.deepEqual([outgoing.size, outgoing.unsentBytes, flow.isEmpty], [0, 0, true])
    }))

  it.effect("are 64 under way at most", () =>
    Effect.gen(function*() {
      const { duplex, flow, outgoing } = makeMessages()
      for (let id = 1; id <= 66; id++) outgoing.send(id, response, head, new Uint8Array(270_000))
      const open = new Set<number>()
      let most = 0
      yield* readAll(duplex, flow)
      for (const { id, type } of duplex.messages) {
        if (type === MessageType.part) open.add(id)
        else open.delete(id)
        most = Math.max(most, open.size)
      }
      assert.equal(most, 64)
      const ended = duplex.messages.filter(({ type }) => type === response).map(({ id }) => id)
      assert.deepEqual(ended.toSorted((a, b) => a - b), Array.from({ length: 66 }, (_, i) => i + 1))
    }))

  it.effect("hold back the end of the connection until all of them have left", () =>
    Effect.gen(function*() {
      const { duplex, flow, outgoing, writer } = makeMessages()
      outgoing.send(1, response, head, new Uint8Array(1_000_000))
      writer.end()
      for (let i = 0; i < 5; i++) yield* turn
      assert.equal(duplex.ended, false)
      yield* readAll(duplex, flow)
      assert.equal(whole(duplex, 1, response)?.length, 1_000_003)
      assert.equal(duplex.ended, true)
    }))

  it.effect("hold back the end of the connection also while they wait until they may be under way", () =>
    Effect.gen(function*() {
      const { duplex, flow, outgoing, writer } = makeMessages()
      const size = 270_000
      for (let id = 1; id <= 66; id++) outgoing.send(id, response, head, new Uint8Array(size))
      writer.end()
      yield* readAll(duplex, flow)
      assert.equal(duplex.messages.filter(({ type }) => type === response).length, 66)
      assert.equal(duplex.ended, true)
    }))

  it.effect("end the connection where their bytes were transferred to another thread", () =>
    Effect.gen(function*() {
      const { flow, outgoing, writer } = makeMessages()
      const body = new Uint8Array(1_000_000)
      outgoing.send(1, response, head, body)
      yield* turn
      structuredClone(body, { transfer: [body.buffer] })
      flow.landed(131_079)
      // `makeWriter` throws what breaks its connection.
      assert.throws(() => writer.flush(), /transferred before they were sent: expected 1000000 bytes, unchanged, got 0/)
    }))
})
