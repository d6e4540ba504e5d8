import { assert, describe, it } from "@effect/vitest"
import { EventEmitter } from "node:events"
import type { Duplex } from "node:stream"
import { Gate } from "../../../src/internal/net/gate.ts"
import { clockThat } from "../../support/clock.ts"

describe("Gate", () => {
  const clock = clockThat(() => 0)
  // All that a gate wants of a connection is its end.
  const connection = () => new EventEmitter() as Duplex

  const make = () => {
    const warnings: Array<string> = []
    return { warnings, gate: new Gate({}, clock, (message) => warnings.push(message)) }
  }

  it("lets 10000 connections in at the same time by default", () => {
    const { gate, warnings } = make()
    for (let i = 0; i < 10_000; i++) assert.isTrue(gate.admits(connection(), `10.0.0.${i % 100}`))
    assert.deepStrictEqual(warnings, [])
    assert.isFalse(gate.admits(connection(), "10.0.1.1"))
    assert.deepStrictEqual(warnings, [
      "A connection was refused: maxConnections is 10000, and that many connections are open"
    ])
  })

  it("lets 1000 of them in from one peer, and any number where it does not know from whom", () => {
    const { gate, warnings } = make()
    for (let i = 0; i < 1000; i++) assert.isTrue(gate.admits(connection(), "10.0.0.1"))
    assert.deepStrictEqual(warnings, [])
    assert.isFalse(gate.admits(connection(), "10.0.0.1"))
    assert.isTrue(gate.admits(connection(), "10.0.0.2"))
    for (let i = 0; i < 1001; i++) assert.isTrue(gate.admits(connection(), undefined))
    assert.deepStrictEqual(warnings, [
      "A connection was refused: maxConnectionsPerPeer is 1000, and 10.0.0.1 has that many connections open"
    ])
  })

  it("speaks of each limit by itself", () => {
    const warnings: Array<string> = []
    const gate = new Gate({ maxConnections: 2, maxConnectionsPerPeer: 1 }, clock, (message) => warnings.push(message))
    gate.admits(connection(), "10.0.0.1")
    gate.admits(connection(), "10.0.0.1")
    gate.admits(connection(), "10.0.0.2")
    gate.admits(connection(), "10.0.0.2")
    assert.deepStrictEqual(warnings.map((warning) => /max\w+/.exec(warning)?.[0]), [
      "maxConnectionsPerPeer",
      "maxConnections"
    ])
  })

  it("counts a connection until it has closed", () => {
    const gate = new Gate({ maxConnections: 2, maxConnectionsPerPeer: 1 }, clock, () => {})
    for (let i = 0; i < 3; i++) {
      const [first, second] = [connection(), connection()]
      assert.isTrue(gate.admits(first, "10.0.0.1"))
      assert.isTrue(gate.admits(second, "10.0.0.2"))
      first.emit("close")
      assert.isFalse(gate.admits(connection(), "10.0.0.2"))
      assert.isTrue(gate.admits(first, "10.0.0.1"))
      first.emit("close")
      second.emit("close")
    }
  })

  it("forgets a peer that has no connection left", () => {
    const gate = new Gate({}, clock, () => {})
    const [first, second] = [connection(), connection()]
    gate.admits(first, "10.0.0.1")
    gate.admits(second, "10.0.0.1")
    assert.strictEqual(gate.peers, 1)
    first.emit("close")
    assert.strictEqual(gate.peers, 1)
    second.emit("close")
    assert.strictEqual(gate.peers, 0)
  })
})
