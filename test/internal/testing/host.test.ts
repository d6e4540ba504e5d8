/**
 * One name of the in-memory network: who may listen on it, and what a dial comes to.
 */
import { describe, it } from "@effect/vitest"
import * as assert from "node:assert/strict"
import type { Duplex } from "node:stream"
import { healthy, Host, type Impairment } from "../../../src/internal/testing/host.ts"

const refusing: Impairment = { ...healthy, dial: "refuse" }
const hanging: Impairment = { ...healthy, dial: "hang" }

const stopOf = (listened: (() => void) | string): () => void => {
  assert.ok(typeof listened !== "string", String(listened))
  return listened
}

describe("a name", () => {
  it("has one listener at a time, and is free again when that has stopped", () => {
    const host = new Host("a")
    const stop = stopOf(host.listen(() => {}))
    assert.equal(host.listen(() => {}), "the name is taken")
    stop()
    stopOf(host.listen(() => {}))
  })

  it("is not freed by a listener that has stopped before", () => {
    const host = new Host("a")
    const stop = stopOf(host.listen(() => {}))
    stop()
    stopOf(host.listen(() => {}))
    stop()
    assert.equal(host.listen(() => {}), "the name is taken")
  })

  it("must not be empty", () => {
    assert.equal(new Host("").listen(() => {}), "a name is expected")
  })
})

describe("a dial", () => {
  it("gives the listener the other end of its connection", () => {
    const host = new Host("a")
    const accepted: Array<Duplex> = []
    host.listen((connection) => accepted.push(connection))
    const outcome = host.dial()
    assert.ok(outcome._tag === "Connected")
    assert.equal(accepted.length, 1)
    assert.notEqual(accepted[0], outcome.connection)
  })

  it("is refused without a listener, by a fault, and after the network has closed", () => {
    const host = new Host("a")
    const why = () => {
      const outcome = host.dial()
      return outcome._tag === "Refused" ? outcome.why : outcome._tag
    }
    assert.equal(why(), "no server listens on \"a\"")
    host.listen(() => {})
    host.impair(refusing)
    assert.equal(why(), "a fault refuses it")
    host.impair(healthy)
    assert.equal(why(), "Connected")
    host.close()
    assert.equal(why(), "the network has been closed")
    assert.equal(host.listen(() => {}), "the network has been closed")
  })

  it("that hangs is to be made again once, when the faults change", () => {
    const host = new Host("a")
    host.impair(hanging)
    assert.equal(host.dial()._tag, "Hanging")
    let [kept, canceled] = [0, 0]
    host.awaitChange(() => kept++)
    host.awaitChange(() => canceled++)()
    host.impair(healthy)
    host.impair(hanging)
    assert.deepEqual([kept, canceled], [1, 0])
  })

  it("hangs no longer when the network has closed", () => {
    const host = new Host("a")
    host.impair(hanging)
    let retried = 0
    host.awaitChange(() => retried++)
    host.close()
    assert.deepEqual([retried, host.isHanging, host.dial()._tag], [1, false, "Refused"])
  })
})
