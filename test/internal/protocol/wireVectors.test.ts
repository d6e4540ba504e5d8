/**
 * Every byte that the reference wrote, read and written again by our codec.
 */
import { assert, describe, it } from "@effect/vitest"
import { dataView } from "../../../src/internal/memory/bytes.ts"
import {
  decodeErrorChain,
  encodeErrorChain,
  type ErrorChain,
  plainError
} from "../../../src/internal/protocol/errorChain.ts"
import {
  clientTypes,
  FrameDecoder,
  headerSize,
  MessageType,
  serverTypes,
  writeHeader
} from "../../../src/internal/protocol/frame.ts"
import {
  canceled,
  communicationError,
  deadlineExceeded,
  unknownMethod,
  unreachable
} from "../../../src/internal/protocol/identities.ts"
import {
  readDeadlineMicros,
  readTraceContext,
  requestHeaderSize,
  type TraceContext,
  writeRequestHeader
} from "../../../src/internal/protocol/request.ts"
import { decodeVersion, encodeVersion } from "../../../src/internal/protocol/version.ts"
import * as MethodKey from "../../../src/MethodKey.ts"
import vectors from "../../data/wire-vectors.json" with { type: "json" }

interface Version {
  readonly type: "version"
  readonly version: number
}
interface Request {
  readonly type: "request"
  readonly id: number
  readonly key: string
  readonly deadlineMicros: number
  readonly trace: TraceContext | undefined
  readonly args: string
}
interface Response {
  readonly type: "response"
  readonly id: number
  readonly result: string
}
interface ResponseError {
  readonly type: "responseError"
  readonly id: number
  readonly chain: ErrorChain
}
interface Cancel {
  readonly type: "cancel"
  readonly id: number
}
type Message = Version | Request | Response | ResponseError | Cancel

const frame = (id: number, type: number, ...payload: ReadonlyArray<Uint8Array>): Uint8Array => {
  const header = new Uint8Array(headerSize)
  writeHeader(dataView(header), 0, id, type, payload.reduce((sum, part) => sum + part.length, 0))
  return Buffer.concat([header, ...payload])
}

const encode = (message: Message): Uint8Array => {
  switch (message.type) {
    case "version":
      return frame(0, MessageType.version, encodeVersion(message.version))
    case "request": {
      // Not zeroed, as a reused buffer would be: every byte must be written.
      const header = new Uint8Array(requestHeaderSize).fill(0xaa)
      writeRequestHeader(dataView(header), 0, Buffer.from(message.key, "hex"), message.deadlineMicros, message.trace)
      return frame(message.id, MessageType.request, header, Buffer.from(message.args))
    }
    case "response":
      return frame(message.id, MessageType.response, Buffer.from(message.result))
    case "responseError":
      return frame(message.id, MessageType.responseError, encodeErrorChain(message.chain))
    case "cancel":
      return frame(message.id, MessageType.cancel)
  }
}

const encodeAll = (messages: ReadonlyArray<Message>): string => Buffer.concat(messages.map(encode)).toString("hex")

const decodePayload = (id: number, type: number, payload: Uint8Array): Message => {
  switch (type) {
    case MessageType.version: {
      const decoded = decodeVersion(payload)
      assert.strictEqual(id, 0)
      assert.isDefined(decoded)
      assert.strictEqual(decoded.flags, 0)
      return { type: "version", version: decoded.version }
    }
    case MessageType.request:
      return {
        type: "request",
        id,
        key: Buffer.from(payload.subarray(0, 16)).toString("hex"),
        deadlineMicros: readDeadlineMicros(payload, 0),
        trace: readTraceContext(payload, 0),
        args: Buffer.from(payload.subarray(requestHeaderSize)).toString()
      }
    case MessageType.response:
      return { type: "response", id, result: Buffer.from(payload).toString() }
    case MessageType.responseError: {
      const decoded = decodeErrorChain(payload)
      if (!decoded.ok) assert.fail(decoded.reason)
      return { type: "responseError", id, chain: decoded.chain }
    }
    case MessageType.cancel:
      assert.strictEqual(payload.length, 0)
      return { type: "cancel", id }
    default:
      return assert.fail(`unexpected type ${type}`)
  }
}

/** Decodes a side's bytes, cut into pieces of `size`. */
const decodeAll = (hex: string, types: number, size: number): ReadonlyArray<Message> => {
  const messages: Array<Message> = []
  const decoder = new FrameDecoder(
    {
      onFrame: (id, type, bytes, start, end) => {
        messages.push(decodePayload(id, type, bytes.subarray(start, end)))
      },
      keepsPayload: () => false,
      onTooLarge: () => {}
    },
    types
  )
  const bytes = Buffer.from(hex, "hex")
  for (let i = 0; i < bytes.length; i += size) {
    assert.isUndefined(decoder.feed(bytes, i, Math.min(i + size, bytes.length), true))
  }
  assert.isFalse(decoder.isPartial)
  return messages
}

const version: Version = { type: "version", version: 0 }
const request = (id: number, method: string, args: string, more: Partial<Request> = {}): Request => ({
  type: "request",
  id,
  key: MethodKey.make("test/Echo", method).hex,
  deadlineMicros: 0,
  trace: undefined,
  args,
  ...more
})
const response = (id: number, result: string): Response => ({ type: "response", id, result })
const failure = (id: number, ...chain: ErrorChain): ResponseError => ({ type: "responseError", id, chain })
const cancel = (id: number): Cancel => ({ type: "cancel", id })
/** A Go error that wraps another; its identity contains what only that process knew. */
const wrapped = (message: string, inner: string) => ({
  message,
  identity: `(:&fmt.wrapError{msg:"${message}", err:${inner}})`
})

const trace: TraceContext = {
  traceId: "000102030405060708090a0b0c0d0e0f",
  spanId: "1011121314151617",
  sampled: true
}

/** What the exchanges say. */
const expected: Readonly<
  Record<string, { readonly client: ReadonlyArray<Message>; readonly server: ReadonlyArray<Message> }>
> = {
  "echo-hello": { client: [request(1, "echo", "hello")], server: [response(1, "hello")] },
  "echo-empty": { client: [request(1, "echo", "")], server: [response(1, "")] },
  "two-calls-ids-1-2": {
    client: [request(1, "echo", "a"), request(2, "who", "")],
    server: [response(1, "a"), response(2, "gopeer")]
  },
  "deadline-1500ms": {
    client: [request(1, "echo", "hello", { deadlineMicros: 1_499_864 })],
    server: [response(1, "hello")]
  },
  "trace-context": {
    client: [request(1, "trace", "", { trace })],
    server: [response(1, `${trace.traceId} ${trace.spanId} 01`)]
  },
  "cancel": { client: [request(1, "cancelwait", ""), cancel(1)], server: [failure(1, canceled)] },
  "deadline-expires": {
    client: [request(1, "cancelwait", "", { deadlineMicros: 49_995 })],
    server: [failure(1, deadlineExceeded)]
  },
  "error-boom": { client: [request(1, "error", "boom")], server: [failure(1, plainError("boom"))] },
  "error-unknown-method": {
    client: [request(1, "no-such-method", "x")],
    server: [failure(1, unknownMethod)]
  },
  "error-wrapped-communication-error": {
    client: [request(1, "errkind", "wrap-comm")],
    server: [failure(1, wrapped("communication error: x", "0"), communicationError)]
  },
  "errkind-unreachable": { client: [request(1, "errkind", "unreachable")], server: [failure(1, unreachable)] },
  "errkind-wrap-new": {
    client: [request(1, "errkind", "wrap-new")],
    server: [failure(1, wrapped("outer: inner", "(*errors.errorString)(0xc000232720)"), plainError("inner"))]
  },
  "errkind-wrap-wrap-comm": {
    client: [request(1, "errkind", "wrap-wrap-comm")],
    server: [
      failure(
        1,
        wrapped("a: b: communication error", "(*fmt.wrapError)(0xc000074e40)"),
        wrapped("b: communication error", "0"),
        communicationError
      )
    ]
  },
  "errkind-struct": {
    client: [request(1, "errkind", "struct")],
    server: [
      failure(1, { message: "structError 3: a\"b\n", identity: "(main:main.structError{Code:3, Msg:\"a\\\"b\\n\"})" })
    ]
  },
  "errkind-empty": { client: [request(1, "errkind", "empty")], server: [failure(1, plainError(""))] }
}

describe("the bytes of the reference", () => {
  it("are all expected here", () => {
    assert.deepStrictEqual(
      vectors.exchanges.map((exchange) => exchange.name).toSorted(),
      Object.keys(expected).toSorted()
    )
  })

  for (const { clientHex, name, serverHex } of vectors.exchanges) {
    const sides = [
      { side: "client", hex: clientHex, types: serverTypes, messages: [version, ...expected[name]!.client] },
      { side: "server", hex: serverHex, types: clientTypes, messages: [version, ...expected[name]!.server] }
    ]
    for (const { hex, messages, side, types } of sides) {
      it(`${name}: what the ${side} wrote decodes, in pieces of any size`, () => {
        for (let size = 1; size <= hex.length / 2; size++) assert.deepStrictEqual(decodeAll(hex, types, size), messages)
      })

      it(`${name}: what the ${side} wrote encodes to the same bytes`, () => {
        assert.strictEqual(encodeAll(messages), hex)
      })
    }
  }
})
