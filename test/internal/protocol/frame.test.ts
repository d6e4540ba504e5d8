import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import { dataView } from "../../../src/internal/memory/bytes.ts"
import {
  clientTypes,
  FrameDecoder,
  headerSize,
  maxMessageSize,
  maxSkippedSize,
  MessageType,
  readId,
  readLength,
  serverTypes,
  writeHeader
} from "../../../src/internal/protocol/frame.ts"

interface Frame {
  readonly id: number
  readonly type: number
  readonly payload: Uint8Array
}

const encode = ({ id, payload, type }: Frame): Uint8Array => {
  const bytes = new Uint8Array(headerSize + payload.length)
  writeHeader(dataView(bytes), 0, id, type, payload.length)
  bytes.set(payload, headerSize)
  return bytes
}

/** A header whose fields need not be valid. */
const header = (id: bigint, type: number, length: bigint): Uint8Array => {
  const view = new DataView(new ArrayBuffer(16))
  view.setBigUint64(8, (length << 8n) | BigInt(type), true)
  view.setBigUint64(0, id, true)
  return new Uint8Array(view.buffer)
}

const concat = (parts: ReadonlyArray<Uint8Array>): Uint8Array => Uint8Array.from(Buffer.concat(parts))

/** A message that was too large to be taken. */
interface TooLarge {
  readonly id: number
  readonly type: number
  readonly tooLarge: number
}

interface Options {
  readonly types?: number
  readonly keeps?: boolean
  readonly maxSize?: number
}

/** Collects copies of what a decoder hands out. */
const collect = (options: Options = {}) => {
  const frames: Array<Frame> = []
  const owned: Array<Uint8Array> = []
  /** The messages and the too large ones, in the order in which they came. */
  const heard: Array<Frame | TooLarge> = []
  /** How many bytes were allocated each time. */
  const allocated: Array<number> = []
  const decoder = new FrameDecoder(
    {
      onFrame: (id, type, bytes, start, end, isOwned) => {
        const frame = { id, type, payload: bytes.slice(start, end) }
        frames.push(frame)
        heard.push(frame)
        if (isOwned) owned.push(bytes.subarray(start, end))
      },
      keepsPayload: () => options.keeps ?? false,
      onTooLarge: (id, type, tooLarge) => void heard.push({ id, type, tooLarge })
    },
    options.types ?? clientTypes,
    options.maxSize,
    (size) => {
      allocated.push(size)
      return new Uint8Array(size)
    }
  )
  return { decoder, frames, owned, heard, allocated }
}

const frames = fc.array(fc.record({
  id: fc.nat(Number.MAX_SAFE_INTEGER),
  type: fc.constantFrom(MessageType.version, MessageType.response, MessageType.responseError),
  payload: fc.uint8Array({ maxLength: 60 })
}))

describe("a message's header", () => {
  it("is little-endian: id u64, type u8, length u56", () => {
    const bytes = new Uint8Array(20).fill(0xaa)
    writeHeader(dataView(bytes), 2, 0x1a2b3c4d5e6f7, 2, 0x01020304)
    assert.strictEqual(Buffer.from(bytes).toString("hex"), "aaaaf7e6d5c4b3a201000204030201000000aaaa")
    assert.strictEqual(readId(bytes, 2), 0x1a2b3c4d5e6f7)
    assert.strictEqual(readLength(bytes, 2), 0x01020304)
  })

  it("keeps every id below 2^53, and refuses the others", () => {
    fc.assert(fc.property(fc.nat(Number.MAX_SAFE_INTEGER), (id) => {
      assert.deepStrictEqual(encode({ id, type: 2, payload: new Uint8Array(0) }), header(BigInt(id), 2, 0n))
      assert.strictEqual(readId(header(BigInt(id), 2, 0n), 0), id)
    }))
    assert.strictEqual(readId(header(2n ** 53n - 1n, 2, 0n), 0), Number.MAX_SAFE_INTEGER)
    assert.strictEqual(readId(header(2n ** 53n, 2, 0n), 0), -1)
    assert.strictEqual(readId(header(2n ** 64n - 1n, 2, 0n), 0), -1)
  })
})

describe("FrameDecoder", () => {
  it("hands out what was sent, wherever the stream is cut", () => {
    fc.assert(fc.property(frames, fc.array(fc.nat(200)), fc.boolean(), fc.boolean(), (sent, cuts, keeps, isOwned) => {
      const stream = concat(sent.map(encode))
      const { decoder, frames } = collect({ keeps })
      const places = [...cuts.filter((cut) => cut < stream.length), stream.length].toSorted((a, b) => a - b)
      let from = 0
      for (const to of places) {
        // In a buffer that is used again, as a reused receive buffer is, and not at its start.
        const chunk = new Uint8Array(to - from + 5)
        chunk.set(stream.subarray(from, to), 3)
        assert.isUndefined(decoder.feed(chunk, 3, 3 + to - from, isOwned))
        if (!isOwned) chunk.fill(0xee)
        from = to
      }
      assert.deepStrictEqual(frames, sent)
      assert.isFalse(decoder.isPartial)
    }))
  })

  it("hands out what was sent where the stream is cut at each place in turn", () => {
    const sent: ReadonlyArray<Frame> = [
      { id: 0, type: MessageType.version, payload: Uint8Array.of(0, 0, 0, 0) },
      { id: 1, type: MessageType.response, payload: new Uint8Array(0) },
      { id: 2, type: MessageType.responseError, payload: Uint8Array.from({ length: 30 }, (_, i) => i) }
    ]
    const stream = concat(sent.map(encode))
    for (let cut = 0; cut <= stream.length; cut++) {
      const { decoder, frames } = collect()
      assert.isUndefined(decoder.feed(stream.slice(0, cut), 0, cut, true))
      assert.isUndefined(decoder.feed(stream.slice(cut), 0, stream.length - cut, true))
      assert.deepStrictEqual(frames, sent)
    }
  })

  it("puts a large message together from small pieces", () => {
    const payload = Uint8Array.from({ length: 3_500_000 }, (_, i) => i * 31)
    const stream = encode({ id: 7, type: MessageType.response, payload })
    for (const keeps of [true, false]) {
      const { decoder, frames, owned } = collect({ keeps })
      const again = concat([stream, stream])
      for (let i = 0; i < again.length; i += 65_536) {
        const chunk = again.slice(i, i + 65_536)
        assert.isUndefined(decoder.feed(chunk, 0, chunk.length, false))
      }
      assert.deepStrictEqual(frames.map((frame) => Buffer.compare(frame.payload, payload)), [0, 0])
      // The first one must not have changed while the second one came.
      assert.deepStrictEqual(owned.map((bytes) => Buffer.compare(bytes, payload)), keeps ? [0, 0] : [])
    }
  })

  it("says whose the bytes of a message are", () => {
    const stream = encode({ id: 1, type: MessageType.response, payload: Uint8Array.of(1, 2, 3) })
    const whole = collect({ keeps: true })
    whole.decoder.feed(stream, 0, stream.length, true)
    assert.strictEqual(whole.owned[0]?.buffer, stream.buffer)
    const lent = collect({ keeps: true })
    lent.decoder.feed(stream, 0, stream.length, false)
    assert.deepStrictEqual([lent.frames.length, lent.owned.length], [1, 0])
  })

  it("knows that a message has come only in part", () => {
    const stream = encode({ id: 1, type: MessageType.response, payload: Uint8Array.of(1, 2, 3) })
    for (let cut = 0; cut <= stream.length; cut++) {
      const { decoder } = collect()
      decoder.feed(stream, 0, cut, true)
      assert.strictEqual(decoder.isPartial, cut > 0 && cut < stream.length)
    }
  })

  it("takes only the types of its side", () => {
    const types = {
      version: 0,
      request: 1,
      response: 2,
      responseError: 3,
      cancel: 4,
      unknown: 5,
      afterAByte: 32,
      largest: 255
    }
    for (
      const [side, mask, taken] of [["server", serverTypes, [0, 1, 4]], ["client", clientTypes, [0, 2, 3]]] as const
    ) {
      for (const type of Object.values(types)) {
        const { decoder, frames } = collect({ types: mask })
        const problem = decoder.feed(header(1n, type, 0n), 0, 16, true)
        const isTaken = (taken as ReadonlyArray<number>).includes(type)
        assert.strictEqual(problem, isTaken ? undefined : `a message of type ${type}`, side)
        assert.strictEqual(frames.length, isTaken ? 1 : 0)
      }
    }
  })

  it("takes a length up to the limit, and none that is one byte larger", () => {
    assert.strictEqual(maxMessageSize, 100 * 1024 * 1024)
    const claimed = collect()
    assert.isUndefined(claimed.decoder.feed(header(1n, 2, 104_857_600n), 0, 16, true))
    assert.deepStrictEqual(claimed.heard, [])
    const { decoder, frames, heard } = collect({ maxSize: 3 })
    const fits = encode({ id: 1, type: 2, payload: new Uint8Array(3) })
    assert.isUndefined(decoder.feed(fits, 0, fits.length, true))
    assert.isUndefined(decoder.feed(header(2n, 2, 4n), 0, 16, true))
    assert.deepStrictEqual(heard, [...frames, { id: 2, type: 2, tooLarge: 4 }])
    assert.strictEqual(frames.length, 1)
  })

  const tooLarge: ReadonlyArray<readonly [name: string, type: number, side: number, isSkipped: boolean]> = [
    ["a request", MessageType.request, serverTypes, true],
    ["a response", MessageType.response, clientTypes, true],
    ["a response error", MessageType.responseError, clientTypes, true],
    ["a version message for a server", MessageType.version, serverTypes, false],
    ["a version message for a client", MessageType.version, clientTypes, false],
    ["a cancel", MessageType.cancel, serverTypes, false]
  ]
  for (const [name, type, types, isSkipped] of tooLarge) {
    it(`${isSkipped ? "skips" : "refuses"} ${name} over the limit, and refuses it over 1 GiB`, () => {
      assert.strictEqual(maxSkippedSize, 2 ** 30)
      for (const length of [104_857_601n, 2n ** 30n, 2n ** 30n + 1n, 2n ** 53n, 2n ** 56n - 1n]) {
        const { decoder, heard } = collect({ types })
        const problem = decoder.feed(header(1n, type, length), 0, 16, true)
        if (isSkipped && length <= 2n ** 30n) {
          assert.isUndefined(problem)
          assert.deepStrictEqual(heard, [{ id: 1, type, tooLarge: Number(length) }])
          assert.isTrue(decoder.isPartial)
        } else {
          assert.strictEqual(
            problem,
            `a message of ${Number(length)} bytes, which is over the limit of 104857600`
          )
          assert.deepStrictEqual(heard, [])
          assert.isFalse(decoder.isPartial)
        }
      }
    })
  }

  it("tells of a message that is too large once, at its header, and hands out what is around it, wherever the stream is cut", () => {
    const around: ReadonlyArray<Frame> = [
      { id: 1, type: MessageType.response, payload: Uint8Array.of(1, 2) },
      { id: 4, type: MessageType.responseError, payload: Uint8Array.of(3) }
    ]
    const large: ReadonlyArray<Frame> = [
      { id: 2, type: MessageType.response, payload: new Uint8Array(5).fill(0xaa) },
      // What lies in it looks like messages.
      { id: 3, type: MessageType.responseError, payload: concat([around[0]!, around[1]!].map(encode)) }
    ]
    const [first, last] = around
    const sent = [first!, ...large, last!]
    const stream = concat(sent.map(encode))
    const expected = [
      first!,
      { id: 2, type: MessageType.response, tooLarge: 5 },
      { id: 3, type: MessageType.responseError, tooLarge: large[1]!.payload.length },
      last!
    ]
    let at = 0
    const ends = sent.map((frame) => at += encode(frame).length)
    const headers = [ends[0]! + headerSize, ends[1]! + headerSize]
    for (const isOwned of [true, false]) {
      for (let cut = 0; cut <= stream.length; cut++) {
        const { allocated, decoder, heard } = collect({ maxSize: 4, keeps: true })
        const feed = (bytes: Uint8Array) =>
          assert.isUndefined(decoder.feed(concat([Uint8Array.of(9), bytes]), 1, 1 + bytes.length, isOwned))
        feed(stream.slice(0, cut))
        assert.strictEqual(decoder.isPartial, cut > 0 && !ends.includes(cut))
        assert.strictEqual(decoder.completed, ends.filter((end) => end <= cut).length)
        const heardOf = heard.filter((each) => "tooLarge" in each).length
        assert.strictEqual(heardOf, headers.filter((header) => header <= cut).length)
        feed(stream.slice(cut))
        assert.deepStrictEqual(heard, expected)
        assert.deepStrictEqual([decoder.isPartial, decoder.completed], [false, 4])
        // For those around them.
        assert.isTrue(allocated.every((size) => size <= 2), String(allocated))
      }
      const { decoder, heard } = collect({ maxSize: 4 })
      for (const byte of stream) assert.isUndefined(decoder.feed(Uint8Array.of(byte), 0, 1, isOwned))
      assert.deepStrictEqual(heard, expected)
    }
  })

  it("has no memory for a message of 1 GiB, the largest that it skips", () => {
    const { allocated, decoder, heard } = collect({ keeps: true })
    decoder.feed(header(7n, 2, 2n ** 30n), 0, 16, true)
    const piece = new Uint8Array(2 ** 20)
    for (let i = 0; i < 2 ** 10; i++) {
      assert.isTrue(decoder.isPartial)
      assert.isUndefined(decoder.feed(piece, 0, piece.length, false))
    }
    assert.deepStrictEqual([decoder.isPartial, decoder.completed, allocated], [false, 1, []])
    const next = encode({ id: 8, type: 2, payload: Uint8Array.of(1) })
    decoder.feed(next, 0, next.length, true)
    assert.deepStrictEqual(heard.map(({ id }) => id), [7, 8])
  })

  it("skips nothing more once it was stopped from within a message that is too large", () => {
    const seen: Array<number> = []
    const decoder: FrameDecoder = new FrameDecoder(
      {
        onFrame: (id) => void seen.push(id),
        keepsPayload: () => false,
        onTooLarge: () => decoder.stop()
      },
      clientTypes,
      3
    )
    const stream = concat([4, 1].map((size) => encode({ id: size, type: 2, payload: new Uint8Array(size) })))
    assert.isUndefined(decoder.feed(stream, 0, stream.length, true))
    assert.deepStrictEqual([seen, decoder.isPartial, decoder.completed], [[], false, 0])
  })

  it("does not believe a length: little is allocated before the bytes come", () => {
    const decoders = Array.from({ length: 50 }, () => collect({ keeps: true }).decoder)
    const before = process.memoryUsage().arrayBuffers
    for (const decoder of decoders) decoder.feed(header(1n, 2, 104_857_600n), 0, 16, true)
    assert.isBelow(process.memoryUsage().arrayBuffers - before, 50 * 1_100_000)
  })

  it("refuses an id of 2^53 or more", () => {
    assert.strictEqual(
      collect({ maxSize: 3 }).decoder.feed(header(2n ** 53n, 2, 4n), 0, 16, true),
      "a message id of 2^53 or more"
    )
    assert.strictEqual(collect().decoder.feed(header(2n ** 53n, 2, 0n), 0, 16, true), "a message id of 2^53 or more")
  })

  it("hands out what came before a message that it refuses, and nothing after", () => {
    const good = encode({ id: 1, type: 2, payload: Uint8Array.of(1) })
    const stream = concat([good, header(2n, 9, 0n), good])
    for (let size = 1; size <= stream.length; size++) {
      const { decoder, frames } = collect()
      let problem: string | undefined
      for (let i = 0; i < stream.length; i += size) {
        problem = decoder.feed(stream, i, Math.min(i + size, stream.length), true)
      }
      assert.strictEqual(problem, "a message of type 9")
      assert.strictEqual(frames.length, 1)
    }
  })

  it("hands out nothing more once it was stopped, also from within a message", () => {
    const seen: Array<number> = []
    const decoder: FrameDecoder = new FrameDecoder(
      {
        onFrame: (id) => {
          seen.push(id)
          if (id === 2) decoder.stop()
        },
        keepsPayload: () => false,
        onTooLarge: () => {}
      },
      clientTypes
    )
    const stream = concat([1, 2, 3].map((id) => encode({ id, type: 2, payload: Uint8Array.of(id) })))
    assert.isUndefined(decoder.feed(stream, 0, stream.length, true))
    assert.isUndefined(decoder.feed(stream, 0, stream.length, true))
    assert.deepStrictEqual(seen, [1, 2])
  })

  it("survives any bytes: it refuses them or waits for more, and never throws", () => {
    fc.assert(fc.property(fc.array(fc.uint8Array({ maxLength: 80 })), (chunks) => {
      const { decoder } = collect({ types: serverTypes })
      for (const chunk of chunks) {
        const problem = decoder.feed(chunk, 0, chunk.length, true)
        assert.isTrue(problem === undefined || problem.length > 0)
      }
    }))
  })
})
