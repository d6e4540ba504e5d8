/** When a client that takes nothing is cut off, with a real writer over a socket that takes what a test wants. */
import { describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as assert from "node:assert/strict"
import { headerSize } from "../../../src/internal/protocol/frame.ts"
import { UnsentAnswers } from "../../../src/internal/server/unsent.ts"
import { capabilitiesOf } from "../../../src/internal/transport/capabilities.ts"
import { Progress } from "../../../src/internal/transport/progress.ts"
import { makeWriter, Slow, turn } from "../transport/support.ts"

const timeout = 30_000
const maxUnsentBytes = 1000
/** So many bytes may wait, the largest answer not counted. */
const most = 16 * maxUnsentBytes

/** A client whose socket is behind with an answer of so many bytes. */
const behindWith = (size: number, timeoutMillis = timeout) => {
  const duplex = new Slow(true, { writableHighWaterMark: 1 })
  const { request, writer } = makeWriter(duplex)
  const progress = new Progress(capabilitiesOf(duplex), writer)
  const unsent = new UnsentAnswers(writer, progress, maxUnsentBytes, timeoutMillis)
  /** Queues an answer, as a session does. Returns whether it is too much. */
  const answer = (bytes: number) => {
    request(bytes - headerSize)
    return unsent.add(bytes)
  }
  const isTooMuch = answer(size)
  writer.flush()
  assert.ok(writer.isBlocked)
  /** The client takes what the socket has; the socket gets what is queued. */
  const take = Effect.suspend(() => {
    duplex.done?.()
    return turn
  })
  return { answer, isTooMuch, take, unsent, writer }
}

describe("a client that takes nothing", () => {
  it("is cut off after the timeout, and not before", () => {
    const { unsent } = behindWith(100)
    assert.ok(unsent.needsWatch)
    assert.equal(unsent.watch(5000), 5000 + timeout / 4)
    assert.equal(unsent.needsWatch, false)
    assert.equal(unsent.expire(4999 + timeout), 5000 + timeout)
    assert.deepEqual([unsent.expire(5000 + timeout), unsent.state], [Infinity, "CutOff"])
    assert.equal(unsent.problem, "took nothing of 100 bytes of its answers within 30s")
  })

  it("is not watched where the timeout is Infinity", () => {
    const { unsent } = behindWith(100, Infinity)
    assert.equal(unsent.needsWatch, false)
  })

  it.effect("is free again when it has taken all", () =>
    Effect.gen(function*() {
      const { take, unsent } = behindWith(100)
      unsent.watch(0)
      yield* take
      assert.deepEqual([unsent.expire(timeout), unsent.state, unsent.needsWatch], [Infinity, "Free", true])
    }))

  it.effect("gets the whole timeout again when it takes some", () =>
    Effect.gen(function*() {
      const { answer, take, unsent, writer } = behindWith(100)
      unsent.watch(0)
      answer(100)
      yield* take
      assert.equal(writer.pendingBytes, 100)
      assert.equal(unsent.expire(20_000), 20_000 + timeout / 4)
      unsent.expire(49_999)
      assert.equal(unsent.state, "Behind")
      unsent.expire(50_000)
      assert.equal(unsent.state, "CutOff")
    }))
})

describe("a client for which too much waits", () => {
  /** One for which an answer of the largest size waits, and a byte too many besides. */
  const tooMuch = () => {
    const client = behindWith(most)
    client.unsent.watch(0)
    assert.equal(client.isTooMuch, false)
    assert.equal(client.answer(most), false)
    assert.equal(client.answer(headerSize + 1), true)
    return client
  }

  it("is one that has more to take than 16 times maxUnsentBytes, the largest answer not counted", () => {
    const { unsent } = tooMuch()
    assert.deepEqual([unsent.press(1000), unsent.state], [1500, "TooMuch"])
    assert.equal(
      unsent.problem,
      "did not take its answers: 32017 bytes of them wait, " +
        "expected at most 16000 (16 times maxUnsentBytes) and the largest"
    )
  })

  it("is cut off when it takes nothing for two seconds", () => {
    const { unsent } = tooMuch()
    unsent.press(1000)
    unsent.expire(2999)
    assert.equal(unsent.state, "TooMuch")
    unsent.expire(3000)
    assert.equal(unsent.state, "CutOff")
  })

  it("is cut off when it takes nothing while as much again comes, and stays cut off", () => {
    const { answer, unsent } = tooMuch()
    unsent.press(1000)
    assert.equal(answer(most), false)
    assert.equal(answer(headerSize + 1), true)
    assert.deepEqual([unsent.press(1001), unsent.state], [Infinity, "CutOff"])
    assert.deepEqual([answer(most), answer(most)], [false, false])
  })

  it.effect("is only behind again when it has taken enough", () =>
    Effect.gen(function*() {
      const { take, unsent, writer } = tooMuch()
      unsent.press(1000)
      yield* take
      assert.equal(writer.pendingBytes, most + headerSize + 1)
      assert.deepEqual([unsent.expire(2000), unsent.state], [2000 + timeout / 4, "Behind"])
    }))
})
