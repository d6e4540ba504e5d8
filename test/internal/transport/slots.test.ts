import { describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import * as assert from "node:assert/strict"
import { Slots } from "../../../src/internal/transport/slots.ts"

interface Entry {
  readonly id: number
}

const byId = (a: Entry, b: Entry) => a.id - b.id

describe("Slots", () => {
  it("finds, removes and lists the calls that a Map would, for any order of ids", () => {
    // Each step adds the next id, removes one that is there (by its rank), or looks for one that may have gone.
    const step = fc.oneof(
      {
        weight: 5,
        arbitrary: fc.record({ _tag: fc.constant("add" as const), count: fc.integer({ min: 1, max: 40 }) })
      },
      {
        weight: 8,
        arbitrary: fc.record({
          _tag: fc.constant("remove" as const),
          rank: fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true })
        })
      },
      { weight: 1, arbitrary: fc.record({ _tag: fc.constant("get" as const), id: fc.nat(2000) }) },
      { weight: 1, arbitrary: fc.constant({ _tag: "drain" as const }) }
    )
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
        const slots = new Slots<Entry>()
        const map = new Map<number, Entry>()
        let next = 1
        for (const step of steps) {
          if (step._tag === "add") {
            for (let i = 0; i < step.count; i++) {
              const entry = { id: next++ }
              slots.add(entry)
              map.set(entry.id, entry)
            }
          } else if (step._tag === "remove") {
            const entry = [...map.values()][Math.floor(step.rank * map.size)]
            if (entry === undefined) continue
            assert.equal(slots.remove(entry.id), entry)
            assert.equal(slots.remove(entry.id), undefined)
            map.delete(entry.id)
          } else if (step._tag === "get") {
            assert.equal(slots.get(step.id), map.get(step.id))
          } else {
            // All but the oldest: what comes then goes round past it.
            for (const entry of [...map.values()].slice(1)) {
              assert.equal(slots.remove(entry.id), entry)
              map.delete(entry.id)
            }
          }
          assert.equal(slots.size, map.size)
        }
        for (let id = 0; id < next + 5; id++) assert.equal(slots.get(id), map.get(id))
        assert.deepEqual(slots.values().toSorted(byId), [...map.values()])
        assert.deepEqual(slots.clear().toSorted(byId), [...map.values()])
        assert.equal(slots.size, 0)
        assert.deepEqual(slots.values(), [])
        assert.equal(slots.get(next - 1), undefined)
      }),
      { numRuns: 200 }
    )
  })

  it("keeps a call that outlasts a hundred thousand others, and calls that find its slot taken", () => {
    const slots = new Slots<Entry>()
    const old = { id: 1 }
    slots.add(old)
    for (let id = 2; id <= 100_000; id++) {
      const entry = { id }
      slots.add(entry)
      assert.ok(slots.get(id) === entry)
      assert.ok(slots.remove(id) === entry)
    }
    assert.equal(slots.size, 1)
    assert.equal(slots.get(1), old)
    assert.deepEqual(slots.values(), [old])
  })

  it("holds more calls than it has slots", () => {
    const slots = new Slots<Entry>()
    const count = 80_000
    for (let id = 1; id <= count; id++) slots.add({ id })
    assert.equal(slots.size, count)
    assert.equal(new Set(slots.values().map(({ id }) => id)).size, count)
    for (let id = 1; id <= count; id++) assert.equal(slots.remove(id)?.id, id)
    assert.equal(slots.size, 0)
  })

  it("lists and clears hundreds of thousands of calls beyond its slots", () => {
    const slots = new Slots<Entry>()
    const count = 300_000
    for (let id = 1; id <= count; id++) slots.add({ id })
    assert.equal(slots.values().length, count)
    assert.equal(slots.clear().length, count)
    assert.equal(slots.size, 0)
  })

  it("gives a list of its own: what happens to the table later does not change it", () => {
    const slots = new Slots<Entry>()
    for (let id = 1; id <= 20; id++) slots.add({ id })
    const all = slots.values()
    for (const { id } of all) slots.remove(id)
    assert.equal(all.length, 20)
  })
})
