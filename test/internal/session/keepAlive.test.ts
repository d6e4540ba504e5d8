/**
 * The states of a peer that has fallen silent, one by one, with a connection that is only numbers. What a session makes
 * of them is tested in `test/Connection/keepAlive.test.ts` and `test/Server/keepAlive.test.ts`.
 */
import { describe, it } from "@effect/vitest"
import * as assert from "node:assert/strict"
import { KeepAlive, type Watched } from "../../../src/internal/session/keepAlive.ts"
import { toTicks } from "../../../src/internal/time/clock.ts"
import { handClock } from "../../support/clock.ts"

const second = 1000
const times = { interval: 10 * second, timeout: 5 * second }
const patience = 60 * second

type Hand = { -readonly [K in keyof Watched]: Watched[K] } & {
  readonly writer: { -readonly [K in keyof Watched["writer"]]: number }
}

/** A peer that has just been heard, and a connection that hands over at once what it can. */
const heard = (options: { readonly times?: typeof times; readonly patience?: number } = {}) => {
  const clock = handClock()
  // Far from 0, where ticks begin.
  clock.pass(1_000_000)
  const now = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
  const began = now()
  const state = { asked: 0, takes: true, drains: 0 }
  let seen = -1
  const progress = {
    look: () => {
      const moved = state.drains !== seen
      seen = state.drains
      return moved
    }
  }
  const peer: Hand = {
    readAt: toTicks(began),
    isDeaf: false,
    writer: { handovers: 0, handed: 0, handedByRead: 0, pendingBytes: 0, unsentBytes: 0 },
    ask: () => {
      state.asked++
      send(24)
    }
  }
  const { writer } = peer
  /** Queues bytes, which the socket is handed at once unless it has yet to take others. */
  const send = (bytes: number) => {
    writer.pendingBytes += bytes
    if (writer.unsentBytes > 0) return
    writer.handed += writer.pendingBytes
    writer.handovers++
    if (state.takes) writer.pendingBytes = 0
    else writer.unsentBytes = writer.pendingBytes
  }
  /** The socket has taken what it was handed, and is handed what has been queued meanwhile. */
  const drain = () => {
    state.drains++
    writer.pendingBytes -= writer.unsentBytes
    writer.unsentBytes = 0
    if (writer.pendingBytes > 0) send(0)
  }
  const read = () => {
    peer.readAt = toTicks(now())
    writer.handedByRead = writer.handed
  }
  const keepAlive = new KeepAlive(clock, options.times ?? times, options.patience ?? patience, progress)
  let next = keepAlive.start(now(), peer)
  return {
    began,
    keepAlive,
    peer,
    state,
    send,
    drain,
    read,
    /** Lets time pass, and looks at the peer whenever that is due. */
    pass: (millis: number) => {
      const until = now() + millis
      while (next <= until) {
        clock.pass(next - now())
        next = keepAlive.look(now(), peer)
      }
      clock.pass(until - now())
    },
    /** When it is to be looked at next, from now. */
    due: () => next - now()
  }
}

describe("a peer that is heard", () => {
  it("is probed when it has been silent for the interval, and not before", () => {
    const { keepAlive, pass, state } = heard()
    pass(10 * second - 1)
    assert.deepEqual([keepAlive.state, state.asked], ["Heard", 0])
    pass(1)
    assert.deepEqual([keepAlive.state, state.asked], ["Asked", 1])
  })

  it("has its interval from when it was heard, also where that is checked much later", () => {
    const { keepAlive, pass, read, state } = heard()
    pass(4 * second)
    read()
    pass(10 * second - 1)
    assert.deepEqual([keepAlive.state, state.asked], ["Heard", 0])
    pass(1)
    assert.deepEqual([keepAlive.state, state.asked], ["Asked", 1])
  })

  it("is only checked when its interval may be over", () => {
    const { due, pass, read } = heard()
    assert.equal(due(), 10 * second)
    pass(4 * second)
    read()
    pass(6 * second)
    assert.equal(due(), 4 * second)
  })
})

describe("a peer that was probed", () => {
  it("is heard again with what is read", () => {
    const { keepAlive, pass, read, state } = heard()
    for (let asked = 1; asked <= 10; asked++) {
      pass(10 * second - (asked === 1 ? 0 : 1))
      assert.deepEqual([keepAlive.state, state.asked], ["Asked", asked])
      pass(5 * second - 1)
      read()
      pass(1)
      assert.equal(keepAlive.state, "Heard")
    }
  })

  it("is lost when it has said nothing for the timeout, and is not checked again", () => {
    const { began, due, keepAlive, pass } = heard()
    pass(15 * second - 1)
    assert.equal(keepAlive.state, "Asked")
    pass(1)
    assert.deepEqual([keepAlive.state, due()], ["Lost", Infinity])
    assert.equal(keepAlive.silence(began + 15 * second), "15s")
  })

  it("is checked each interval, so that it is probed again in time where its answer may take longer", () => {
    const { keepAlive, pass, read, state } = heard({ times: { interval: second, timeout: 10 * second } })
    pass(1.5 * second)
    read()
    pass(second)
    assert.deepEqual([keepAlive.state, state.asked], ["Asked", 2])
  })

  it("is given no time for what follows the probe, and is not alive because its system takes that", () => {
    const { drain, keepAlive, pass, send, state } = heard()
    pass(10 * second)
    state.takes = false
    for (let i = 0; i < 5; i++) {
      send(100_000)
      drain()
      pass(second)
    }
    assert.equal(keepAlive.state, "Lost")
  })

  it("is not lost while we do not read from it, and has its time again when we do", () => {
    const { drain, keepAlive, pass, peer, send, state } = heard()
    pass(10 * second)
    state.takes = false
    send(100_000)
    peer.isDeaf = true
    pass(5 * second)
    assert.equal(keepAlive.state, "Behind")
    pass(20 * second)
    assert.equal(keepAlive.state, "Behind")
    drain()
    peer.isDeaf = false
    pass(10 * second)
    assert.equal(keepAlive.state, "Asked")
    pass(5 * second)
    assert.equal(keepAlive.state, "Lost")
  })

  it("has longer for its answer where much was handed to its system before the probe", () => {
    for (const [bytes, seconds] of [[65_536, 15], [65_537, 70]] as const) {
      const { keepAlive, pass, send } = heard()
      send(bytes)
      pass(seconds * second - 1)
      assert.equal(keepAlive.state, "Asked")
      pass(1)
      assert.equal(keepAlive.state, "Lost")
    }
  })

  it("has no longer for what it was handed before it was last heard", () => {
    const { keepAlive, pass, read, send } = heard()
    send(1_000_000)
    pass(second)
    read()
    pass(15 * second)
    assert.equal(keepAlive.state, "Lost")
  })

  it("has no longer where we do not extend the timeout", () => {
    const { keepAlive, pass, send } = heard({ patience: 0 })
    send(1_000_000)
    pass(15 * second)
    assert.equal(keepAlive.state, "Lost")
  })
})

describe("a peer that is probed behind bytes that it has yet to take", () => {
  const behind = (options?: Parameters<typeof heard>[0]) => {
    const all = heard(options)
    all.state.takes = false
    all.send(10_000)
    all.pass(10 * second)
    assert.deepEqual([all.keepAlive.state, all.state.asked], ["Behind", 1])
    return all
  }

  it("is lost when it takes none of them for longer than any message may take", () => {
    const { keepAlive, pass } = behind()
    pass(60 * second - 1)
    assert.equal(keepAlive.state, "Behind")
    pass(1)
    assert.equal(keepAlive.state, "Lost")
  })

  it("is lost after the timeout where we do not extend it", () => {
    const { keepAlive, pass } = behind({ patience: 0 })
    pass(5 * second - 1)
    assert.equal(keepAlive.state, "Behind")
    pass(1)
    assert.equal(keepAlive.state, "Lost")
  })

  it("is not lost as long as it takes some", () => {
    const { drain, keepAlive, pass, send } = behind()
    for (let i = 0; i < 20; i++) {
      send(10_000)
      drain()
      pass(50 * second)
      assert.equal(keepAlive.state, "Behind")
    }
  })

  it("has its time for the answer from when it has taken them all", () => {
    const { drain, keepAlive, pass, state } = behind()
    state.takes = true
    drain()
    pass(10 * second)
    assert.equal(keepAlive.state, "Asked")
    pass(5 * second - 1)
    assert.equal(keepAlive.state, "Asked")
    pass(1)
    assert.equal(keepAlive.state, "Lost")
  })

  it("has it, too, where the socket has not said that they are taken", () => {
    const { keepAlive, pass, peer } = behind()
    peer.writer.pendingBytes = peer.writer.unsentBytes = 0
    peer.writer.handovers++
    pass(10 * second)
    assert.equal(keepAlive.state, "Asked")
  })

  it("is heard with what is read, taken or not", () => {
    const { keepAlive, pass, read, state } = behind()
    pass(9 * second)
    read()
    pass(second)
    assert.deepEqual([keepAlive.state, state.asked], ["Heard", 1])
  })

  it("is not assumed to have got the probe while we do not read from it", () => {
    const { drain, keepAlive, pass, peer, state } = behind()
    peer.isDeaf = true
    state.takes = true
    drain()
    pass(10 * second)
    assert.equal(keepAlive.state, "Behind")
    peer.isDeaf = false
    pass(10 * second)
    assert.equal(keepAlive.state, "Asked")
  })
})

it("a peer that is lost stays lost, even if something is read", () => {
  const { keepAlive, pass, peer, read } = heard()
  pass(15 * second)
  assert.equal(keepAlive.state, "Lost")
  read()
  assert.throws(() => keepAlive.look(1_020_000, peer), /cannot go from Lost to Heard/)
})
