import { describe, it } from "@effect/vitest"
import * as assert from "node:assert/strict"
import { Unfinished, unfinishedRoom } from "../../../src/internal/session/unfinished.ts"

const mib = 1_048_576

const make = (maxMessageSize = 100) => {
  const clock = { now: 0 }
  return { clock, unfinished: new Unfinished(maxMessageSize, 1000, () => clock.now) }
}

describe("something unfinished", () => {
  it("is put together of its pieces", () => {
    const { unfinished } = make()
    const assembly = unfinished.begin(5)
    const bytes = Uint8Array.of(9, 1, 2, 3, 4, 5)
    assert.equal(unfinished.isEmpty, false)
    assert.equal(unfinished.add(assembly, bytes, 1, 3), true)
    assert.equal(assembly.have, 2)
    assert.equal(unfinished.add(assembly, bytes, 3, 6), true)
    bytes.fill(0)
    assert.deepEqual([...unfinished.finish(assembly)], [1, 2, 3, 4, 5])
    assert.deepEqual([unfinished.isEmpty, unfinished.held], [true, 0])
  })

  it("has a buffer that grows with the bytes as they come, and never over its total", () => {
    const { unfinished } = make()
    const assembly = unfinished.begin(5 * mib)
    const piece = new Uint8Array(mib / 2).map((_, i) => i)
    const sizes: Array<number> = []
    for (let i = 0; i < 10; i++) {
      unfinished.add(assembly, piece, 0, piece.length)
      sizes.push(unfinished.held / mib)
    }
    assert.deepEqual(sizes, [1, 1, 2, 2, 4, 4, 4, 4, 5, 5])
    const whole = unfinished.finish(assembly)
    assert.equal(whole.length, 5 * mib)
    assert.equal(Buffer.compare(whole, Buffer.concat(Array.from({ length: 10 }, () => piece))), 0)
  })

  it("of one piece has one buffer of its size", () => {
    const { unfinished } = make()
    const assembly = unfinished.begin(3 * mib)
    unfinished.add(assembly, new Uint8Array(3 * mib), 0, 3 * mib)
    assert.equal(unfinished.finish(assembly).buffer.byteLength, 3 * mib)
  })

  it("does not fit where the buffers would be more than the room, and the others stay", () => {
    const { unfinished } = make(mib)
    const all = Array.from({ length: 65 }, () => unfinished.begin(2 * mib))
    // One byte takes a buffer of 1 MiB.
    for (const assembly of all) assert.equal(unfinished.add(assembly, Uint8Array.of(1), 0, 1), true)
    assert.equal(unfinished.held, unfinishedRoom + mib)
    const late = unfinished.begin(10)
    assert.equal(unfinished.add(late, Uint8Array.of(1), 0, 1), false)
    assert.equal(unfinished.add(all[0]!, new Uint8Array(mib), 0, mib), false)
    unfinished.drop(all[1]!)
    unfinished.drop(all[1]!)
    assert.equal(unfinished.held, unfinishedRoom)
    assert.equal(unfinished.add(all[0]!, new Uint8Array(mib), 0, mib), true)
    assert.deepEqual([unfinished.held, all[0]!.have], [unfinishedRoom + mib, mib + 1])
  })

  it("always fits where the sender keeps to its limit: 64 MiB together, or one that is larger beside", () => {
    const { unfinished } = make(100 * mib)
    const small = Array.from({ length: 64 }, () => unfinished.begin(mib))
    const large = unfinished.begin(100 * mib)
    const piece = new Uint8Array(mib / 4)
    for (let i = 0; i < 400; i++) {
      assert.equal(unfinished.add(large, piece, 0, piece.length), true)
      if (i < 4) { for (const assembly of small) assert.equal(unfinished.add(assembly, piece, 0, piece.length), true) }
    }
    assert.equal(unfinished.held, 164 * mib)
  })

  it("refuses to be taken before it is whole, to get more than its total, and anything after it was given up", () => {
    const { unfinished } = make()
    const assembly = unfinished.begin(2)
    assert.throws(() => unfinished.finish(assembly), /taken with 0 of 2 bytes/)
    assert.throws(
      () => unfinished.add(assembly, new Uint8Array(3), 0, 3),
      /3 bytes of something unfinished with 2 in all/
    )
    unfinished.add(assembly, new Uint8Array(2), 0, 2)
    unfinished.drop(assembly)
    assert.equal(unfinished.add(assembly, new Uint8Array(2), 0, 0), false)
    assert.throws(() => unfinished.finish(assembly))
  })
})

describe("something unfinished that gets nothing", () => {
  it("is given up after the timeout, once, and the others stay", () => {
    const { clock, unfinished } = make()
    const [one, other] = [unfinished.begin(9), unfinished.begin(9)]
    assert.deepEqual(unfinished.expire(0), { stalled: [], due: 1000 })
    clock.now = 400
    unfinished.add(other, Uint8Array.of(1), 0, 1)
    assert.deepEqual(unfinished.expire(999), { stalled: [], due: 1000 })
    assert.deepEqual([unfinished.isStalled(one, 999), unfinished.isStalled(one, 1000)], [false, true])
    assert.deepEqual(unfinished.expire(1000), { stalled: [one], due: 1400 })
    assert.deepEqual([one.isStalled, other.isStalled], [true, false])
    assert.equal(unfinished.add(one, Uint8Array.of(1), 0, 1), false)
    assert.deepEqual(unfinished.expire(1400), { stalled: [other], due: Infinity })
    assert.deepEqual([unfinished.isEmpty, unfinished.held], [true, 0])
  })

  it("has its whole time again when the peer is read from again", () => {
    const { clock, unfinished } = make()
    const assembly = unfinished.begin(9)
    unfinished.resumed(5000)
    assert.deepEqual(unfinished.expire(5999), { stalled: [], due: 6000 })
    clock.now = 5500
    unfinished.add(assembly, Uint8Array.of(1), 0, 1)
    assert.deepEqual(unfinished.expire(6000), { stalled: [], due: 6500 })
    assert.deepEqual(unfinished.expire(6500).stalled, [assembly])
  })
})
