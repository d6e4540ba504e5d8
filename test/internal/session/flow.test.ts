import { describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as assert from "node:assert/strict"
import { MessageType } from "../../../src/internal/protocol/frame.ts"
import { drain, turn } from "../transport/support.ts"
import { makeFlow } from "./sending.ts"

describe("the flow of items and parts", () => {
  it.effect("tells the peer what was read when it is 64 KiB", () =>
    Effect.gen(function*() {
      const { duplex, flow } = makeFlow()
      flow.read(65_535)
      yield* turn
      assert.equal(duplex.messages.length, 0)
      flow.read(10)
      flow.read(65_535)
      yield* turn
      assert.deepEqual(
        duplex.messages.map(({ id, payload, type }) => [id, type, payload.readUInt32LE(0)]),
        [[0, MessageType.credit, 65_545]]
      )
    }))

  it("refuses a peer that says that it has read more than is in flight", () => {
    const { flow } = makeFlow()
    flow.items(1, 100)
    assert.equal(flow.landed(60), undefined)
    assert.equal(flow.landed(41), "that it has read 41 bytes of items and parts, while 40 are in flight")
    assert.equal(flow.landed(40), undefined)
  })

  it.effect("gives turns in order, and again to those that have more", () =>
    Effect.gen(function*() {
      const { flow } = makeFlow()
      const turns: Array<string> = []
      const cut = (name: string, times: number) => ({
        cut: () => {
          turns.push(name)
          return --times > 0
        }
      })
      flow.add(cut("a", 3))
      flow.add(cut("b", 1))
      flow.add(cut("c", 2))
      yield* turn
      assert.deepEqual(turns, ["a", "b", "c", "a", "c", "a"])
      assert.ok(flow.isEmpty)
    }))

  it.effect("pauses after a millisecond, so that others have their turn", () =>
    Effect.gen(function*() {
      const { flow } = makeFlow()
      let cuts = 0
      const endless = {
        cut: () => {
          const until = performance.now() + 0.6
          while (performance.now() < until);
          cuts++
          return true
        }
      }
      flow.add(endless)
      yield* turn
      assert.ok(cuts <= 2)
      for (let i = 0; i < 3; i++) yield* turn
      assert.ok(cuts > 2)
      flow.remove(endless)
    }))

  it.effect("gives no turn while the socket is behind, and goes on when it has drained", () =>
    Effect.gen(function*() {
      const { duplex, flow, writer } = makeFlow(true)
      let cuts = 0
      const cut = {
        cut: () => {
          cuts++
          flow.items(1, 100_000)
          return cuts < 3
        }
      }
      flow.add(cut)
      yield* turn
      assert.ok(writer.isBlocked)
      const before = cuts
      for (let i = 0; i < 3; i++) yield* turn
      assert.equal(cuts, before)
      yield* drain(duplex)
      assert.equal(cuts, 3)
    }))

  it.effect("gives no turn any more when it is closed", () =>
    Effect.gen(function*() {
      const { duplex, flow } = makeFlow()
      flow.add({ cut: () => assert.fail("it has a turn") })
      flow.close()
      flow.add({ cut: () => assert.fail("it has a turn") })
      flow.grant(1, 5)
      yield* turn
      assert.deepEqual([duplex.messages, flow.isEmpty, flow.hasRoom()], [[], true, false])
    }))
})
