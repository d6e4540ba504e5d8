import { describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as assert from "node:assert/strict"
import { headerSize, MessageType } from "../../../src/internal/protocol/frame.ts"
import { readDeadlineMicros, readTraceContext, requestHeaderSize } from "../../../src/internal/protocol/request.ts"
import { flagUnderstood } from "../../../src/internal/protocol/version.ts"
import { Messages, noLead } from "../../../src/internal/session/messages.ts"
import * as MethodKey from "../../../src/MethodKey.ts"
import { makeWriter, Slow, turn } from "../transport/support.ts"

const key = MethodKey.make("example/Echo", "echo")
const trace = { traceId: "0af7651916cd43dd8448eb211c80319c", spanId: "b7ad6b7169203331", sampled: true }
const lead = Uint8Array.of(1, 2, 3)
const limit = 100

const makeMessages = () => {
  const duplex = new Slow(false)
  const { writer } = makeWriter(duplex)
  return { duplex, writer, messages: new Messages(writer, limit) }
}

describe("the writer of messages", () => {
  for (const [how, size] of [["by copy", limit - 1], ["by reference", limit]] as const) {
    it.effect(`writes a request ${how}: its header, its lead and its arguments`, () =>
      Effect.gen(function*() {
        const { duplex, messages, writer } = makeMessages()
        const args = new Uint8Array(size).fill(7)
        messages.request(1, key, false, trace, lead, args)
        assert.ok(writer.isQueued(1))
        // What was copied may change after that.
        if (size < limit) args.fill(8)
        yield* turn
        const [message] = duplex.messages
        const payload = message!.payload
        assert.deepEqual([message!.id, message!.type], [1, MessageType.request])
        assert.deepEqual(payload.subarray(0, 16), Buffer.from(key.bytes))
        assert.equal(readDeadlineMicros(payload, 0), 0)
        assert.deepEqual(readTraceContext(payload, 0), trace)
        assert.deepEqual([...payload.subarray(requestHeaderSize)], [...lead, ...new Uint8Array(size).fill(7)])
      }))

    it.effect(`writes a response ${how}, and returns its size`, () =>
      Effect.gen(function*() {
        const { duplex, messages } = makeMessages()
        const payload = new Uint8Array(size).fill(7)
        assert.equal(messages.response(5, MessageType.response, lead, payload), headerSize + 3 + size)
        assert.equal(messages.response(6, MessageType.responseError, noLead, payload), headerSize + size)
        yield* turn
        assert.deepEqual(
          duplex.messages.map(({ id, payload, type }) => [id, type, [...payload]]),
          [[5, MessageType.response, [...lead, ...payload]], [6, MessageType.responseError, [...payload]]]
        )
      }))
  }

  it("notes that a request has a deadline, which is written when the request leaves", () => {
    const { messages, writer } = makeMessages()
    messages.request(1, key, true, undefined, noLead, noLead)
    assert.equal(readDeadlineMicros(writer.unsent().get(1)!, 0), 1)
  })

  it.effect("writes a version message with flags and one without", () =>
    Effect.gen(function*() {
      const { duplex, messages } = makeMessages()
      assert.deepEqual([messages.version(undefined), messages.version(flagUnderstood)], [
        headerSize + 4,
        headerSize + 8
      ])
      yield* turn
      assert.deepEqual(
        duplex.messages.map(({ id, payload, type }) => [id, type, [...payload]]),
        [[0, MessageType.version, [0, 0, 0, 0]], [0, MessageType.version, [0, 0, 0, 0, 1, 0, 0, 0]]]
      )
    }))
})
