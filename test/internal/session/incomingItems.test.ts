import { describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Scheduler, Stream } from "effect"
import * as assert from "node:assert/strict"
import { isMarkedAsUntransferable } from "node:worker_threads"
import { mostAtOnce } from "../../../src/internal/session/itemQueue.ts"
import { concat, entry, firstPiece, nextPiece, pulled, receive, waits, whole } from "./itemsSupport.ts"

const done = Exit.failCause(Cause.fail(Cause.Done()))

describe("items that come", () => {
  it("wait, and are taken as one chunk", () => {
    const { push, take } = receive()
    push(whole(1), whole(), whole(2, 3))
    push(whole(4))
    assert.deepEqual(take(), [[1], [], [2, 3], [4]])
  })

  it("wake the consumer that waits, with one chunk for one message", () => {
    const { incoming, push } = receive()
    const fiber = waits(incoming)
    assert.equal(fiber.pollUnsafe(), undefined)
    push(whole(1), whole(2, 2))
    assert.deepEqual(pulled(fiber.pollUnsafe()!), [[1], [2, 2]])
  })

  it("are read by a Stream until the end", () => {
    const { incoming, push } = receive()
    const chunks: Array<ReadonlyArray<number>> = []
    const stream = Stream.fromPull(Effect.succeed(incoming.pull))
    const fiber = Effect.runFork(
      Stream.runForEachArray(stream, (chunk) => Effect.sync(() => void chunks.push(chunk.map((item) => item.length))))
    )
    push(whole(1), whole())
    push(whole(1, 2, 3))
    assert.equal(incoming.end(), undefined)
    incoming.finish(done)
    assert.deepEqual(fiber.pollUnsafe(), Exit.void)
    assert.deepEqual(chunks, [[1, 0], [3]])
  })

  it("are put together of pieces, in their place among the others", () => {
    const { incoming, push, take, unfinished } = receive()
    push(whole(1), firstPiece(6, 2, 3))
    push(nextPiece(4, 5, 6))
    assert.deepEqual(take(), [[1]])
    assert.deepEqual([incoming.items, incoming.bytes], [1, 5 + 10 + 7])
    push(whole(7), whole(8), firstPiece(2, 9))
    assert.deepEqual(take(), [[2, 3, 4, 5, 6, 7], [8]])
    push(whole(10))
    assert.deepEqual(take(), [[9, 10]])
    assert.equal(unfinished.isEmpty, true)
  })

  it("do not wake the consumer while an item is unfinished", () => {
    const { incoming, push } = receive()
    const fiber = waits(incoming)
    push(firstPiece(4, 1))
    push(nextPiece(2, 3))
    assert.equal(fiber.pollUnsafe(), undefined)
    push(whole(4))
    assert.deepEqual(pulled(fiber.pollUnsafe()!), [[1, 2, 3, 4]])
  })

  it("are views of the bytes that came, where those stay as they are", () => {
    const { incoming } = receive({ owned: true })
    const large = entry(new Uint8Array(8192).fill(5), false)
    const isView = (exit: Exit.Exit<ReadonlyArray<Uint8Array>, unknown>, bytes: Uint8Array) =>
      Exit.isSuccess(exit) && exit.value[0]!.buffer === bytes.buffer
    incoming.push(large, 0, large.length, true)
    assert.equal(isView(Effect.runSyncExit(incoming.pull), large), true)
    const fiber = waits(incoming)
    const small = whole(1)
    incoming.push(small, 0, small.length, true)
    assert.equal(isView(fiber.pollUnsafe()!, small), true)
  })

  it("do not keep a buffer alive of which they are less than half, while they wait", () => {
    const { incoming } = receive({ owned: true })
    const read = new Uint8Array(65_536)
    const item = entry(new Uint8Array(8192).fill(5), false)
    read.set(item)
    incoming.push(read, 0, item.length, true)
    const exit = Effect.runSyncExit(incoming.pull)
    assert.ok(Exit.isSuccess(exit))
    assert.notEqual(exit.value[0].buffer, read.buffer)
    assert.ok(exit.value[0].buffer.byteLength <= 2 * item.length)
  })

  it("are given in chunks of a bounded number, and none is lost", () => {
    const { incoming, push, windows } = receive({ credit: 1_048_576, largest: 1_048_576 })
    const empty = new Uint8Array(4 * 65_536)
    const counts: Array<number> = []
    for (let i = 0; i < 3; i++) push(empty)
    push(whole(1))
    assert.deepEqual([incoming.items, incoming.waiting], [196_609, 3 * empty.length + 5])
    for (let left = incoming.items; left > 0;) {
      const items = Effect.runSync(incoming.pull)
      assert.ok(items.length <= mostAtOnce)
      if (left > items.length) assert.equal(isMarkedAsUntransferable(items[0].buffer), true)
      left -= items.length
      counts.push(items.length)
    }
    assert.deepEqual([counts.length, incoming.waiting, windows.total], [13, 0, 1_048_576])
  })

  it("are given to a consumer that waits in chunks of a bounded number, too", () => {
    const { incoming, push, take } = receive({ credit: 1_048_576 })
    const fiber = waits(incoming)
    push(new Uint8Array(4 * (mostAtOnce + 2)), whole(9))
    assert.equal(pulled(fiber.pollUnsafe()!).length, mostAtOnce)
    assert.deepEqual(take(), [[], [], [9]])
  })
})

describe("a consumer", () => {
  it("loses nothing when it is interrupted while it waits", () => {
    const { incoming, push, take } = receive()
    const fiber = waits(incoming)
    fiber.interruptUnsafe()
    push(whole(1))
    assert.deepEqual(take(), [[1]])
  })

  it.effect("loses nothing when it is interrupted after it was woken, and before it runs", () =>
    Effect.gen(function*() {
      const { incoming, push, take } = receive()
      // It yields before each other step. With 1 it would yield for ever.
      const fiber = Effect.runFork(Effect.provideService(incoming.pull, Scheduler.MaxOpsBeforeYield, 2))
      for (let i = 0; i < 20; i++) yield* Effect.yieldNow
      push(whole(1), whole(2))
      assert.equal(fiber.pollUnsafe(), undefined)
      fiber.interruptUnsafe()
      push(whole(3))
      assert.deepEqual(take(), [[1], [2], [3]])
    }))

  it("waits only once at a time", () => {
    const { incoming } = receive()
    waits(incoming)
    const exit = Effect.runSyncExit(incoming.pull)
    assert.match(String(exit), /pulled by two at once/)
  })

  it("gets what waits before the exit, and then the exit each time", () => {
    const { incoming, push, take } = receive()
    push(whole(1))
    incoming.finish(Exit.fail("first"))
    incoming.finish(Exit.fail("second"))
    assert.deepEqual(take(), [[1]])
    assert.deepEqual(Effect.runSyncExit(incoming.pull), Exit.fail("first"))
    assert.deepEqual(Effect.runSyncExit(incoming.pull), Exit.fail("first"))
  })

  it("is woken by the exit", () => {
    const { incoming } = receive()
    const fiber = waits(incoming)
    incoming.finish(Exit.fail("over"))
    assert.deepEqual(fiber.pollUnsafe(), Exit.fail("over"))
  })

  it("gets nothing after `close`, and may close it when it is woken", () => {
    const { incoming, push, unfinished, windows } = receive()
    const fiber = Effect.runFork(Effect.map(incoming.pull, (items) => {
      incoming.close()
      return items
    }))
    assert.equal(push(whole(1), firstPiece(9, 2)), undefined)
    assert.deepEqual(pulled(fiber.pollUnsafe()!), [[1]])
    assert.equal(push(whole(3)), undefined)
    assert.deepEqual([incoming.state, incoming.waiting, unfinished.isEmpty, windows.total], ["Closed", 0, true, 0])
    incoming.close()
    incoming.finish(Exit.fail("over"))
    assert.deepEqual(Effect.runSyncExit(incoming.pull), Exit.fail("over"))
    assert.equal(incoming.end(), undefined)
  })
})

describe("the window of a stream", () => {
  it("is granted beyond the first credit when the stream is opened, once", () => {
    const { grants, incoming } = receive({ credit: 16_384 })
    incoming.open()
    incoming.open()
    assert.deepEqual(grants, [49_152])
  })

  it("is not granted where it is smaller than the first credit", () => {
    const { grants, incoming } = receive({ credit: 16_384, largest: 8192 })
    incoming.open()
    assert.deepEqual(grants, [])
  })

  it("is granted again when half of it was taken, lengths included, and not when it has come", () => {
    const { grants, push, take } = receive({ credit: 100, largest: 100 })
    push(entry(new Uint8Array(45), false))
    take()
    push(whole())
    assert.deepEqual(grants, [])
    take()
    assert.deepEqual(grants, [53])
  })

  it("counts an item in pieces as taken when it is delivered, with the lengths of its pieces", () => {
    const { grants, push, take } = receive({ credit: 20, largest: 20 })
    push(firstPiece(5, 1))
    push(nextPiece(2, 3, 4))
    push(whole(5))
    assert.deepEqual(grants, [])
    assert.deepEqual(take(), [[1, 2, 3, 4, 5]])
    assert.deepEqual(grants, [9 + 7 + 5])
  })

  it("grows while the consumer waits for the peer, and not while the peer waits for the consumer", () => {
    const { incoming, push, take, windows } = receive({ largest: 1_048_576 })
    const half = entry(new Uint8Array(32_764), false)
    const sizes = Array.from({ length: 3 }, () => {
      push(half)
      take()
      return windows.total
    })
    assert.deepEqual(sizes, [65_536, 65_536, 65_536])
    const fiber = waits(incoming)
    push(half)
    assert.equal(pulled(fiber.pollUnsafe()!).length, 1)
    assert.equal(windows.total, 131_072)
  })

  it("grants nothing any more once the peer has ended", () => {
    const { grants, incoming, push, take } = receive({ credit: 10, largest: 10 })
    push(entry(new Uint8Array(50), false))
    incoming.end()
    take()
    assert.deepEqual(grants, [])
  })

  it("gives its share of the budget back when what waits was taken after the end, or is dropped", () => {
    const taken = receive()
    taken.push(whole(1))
    taken.incoming.finish(done)
    assert.equal(taken.windows.total, 65_536)
    taken.take()
    Effect.runSyncExit(taken.incoming.pull)
    assert.equal(taken.windows.total, 0)
    const dropped = receive()
    dropped.incoming.close()
    assert.equal(dropped.windows.total, 0)
  })
})

describe("an item in pieces that gets nothing for too long", () => {
  it("is stalled", () => {
    const { clock, incoming, push, unfinished } = receive()
    push(firstPiece(9, 1))
    clock.now = 900
    assert.equal(push(nextPiece(2)), undefined)
    assert.equal(incoming.isStalled(1899), false)
    assert.equal(incoming.isStalled(1900), true)
    assert.equal(unfinished.expire(1900).stalled.length, 1)
    assert.equal(incoming.isStalled(1900), true)
    assert.deepEqual(push(nextPiece(3)), {
      _tag: "Overloaded",
      problem: "an item of 9 bytes that got nothing for too long"
    })
  })

  it("is not that where there is none", () => {
    const { incoming, push } = receive()
    push(firstPiece(2, 1))
    push(whole(2))
    assert.equal(incoming.isStalled(1_000_000), false)
  })
})

describe("what breaks a rule", () => {
  const bad: ReadonlyArray<
    readonly [
      name: string,
      messages: ReadonlyArray<ReadonlyArray<Uint8Array>>,
      problem: string,
      tag?: "TooLarge" | "Overloaded"
    ]
  > = [
    [
      "a length past its message",
      [[whole(1), Uint8Array.of(9, 0, 0, 0, 1, 2)]],
      "an item of 9 bytes in a message that has 2 left"
    ],
    [
      "a length that is cut",
      [[whole(1), Uint8Array.of(9, 0)]],
      "2 bytes where the length of an item was expected, of 4 bytes"
    ],
    [
      "an item without credit",
      [[entry(new Uint8Array(196), false), whole()]],
      "an item after 200 bytes, with credit for 200"
    ],
    [
      "an item when it was overdrawn",
      [[entry(new Uint8Array(300), false)], [whole()]],
      "an item after 0 bytes, with credit for 0"
    ],
    [
      "a first piece without credit",
      [[entry(new Uint8Array(196), false)], [firstPiece(9, 1)]],
      "an item after 0 bytes, with credit for 0"
    ],
    ["an item without credit behind a last piece", [[firstPiece(193, ...new Uint8Array(187))], [
      whole(...new Uint8Array(6)),
      whole()
    ]], "an item after 10 bytes, with credit for 5"],
    [
      "a first piece past its message",
      [[Uint8Array.of(9, 0, 0, 0x80, 20, 0, 0, 0, 1)]],
      "a piece of 9 bytes in a message that has 5 left"
    ],
    ["a first piece without content", [[firstPiece(9)]], "a first piece of 4 bytes, expected at least 5"],
    [
      "a first piece that is too short for a total",
      [[nextPiece(1, 2)]],
      "a first piece of 2 bytes, expected at least 5"
    ],
    ["a first piece with the whole item", [[firstPiece(2, 1, 2)]], "a piece of 2 bytes that goes on, of an item of 2"],
    [
      "a first piece that is not the last of its message",
      [[firstPiece(9, 1), whole(2)]],
      "a piece that goes on, with 5 bytes behind it, expected none"
    ],
    [
      "a later piece that is not the last of its message",
      [[firstPiece(9, 1)], [nextPiece(2), whole(3)]],
      "a piece that goes on, with 5 bytes behind it, expected none"
    ],
    [
      "a later piece past its message",
      [[firstPiece(9, 1)], [Uint8Array.of(9, 0, 0, 0, 1)]],
      "a piece of 9 bytes in a message that has 1 left"
    ],
    [
      "a later piece whose length is cut",
      [[firstPiece(9, 1)], [Uint8Array.of(9, 0, 0)]],
      "3 bytes where the length of a piece was expected, of 4 bytes"
    ],
    [
      "an empty later piece",
      [[firstPiece(9, 1)], [nextPiece()]],
      "an empty piece of an item, expected at least 1 byte"
    ],
    ["an empty last piece", [[firstPiece(9, 1)], [whole()]], "an empty piece of an item, expected at least 1 byte"],
    [
      "a last piece that is too short",
      [[firstPiece(4, 1)], [whole(2, 3)]],
      "a piece of 2 bytes that is the last, of an item that has 3 left"
    ],
    [
      "a last piece that is too long",
      [[firstPiece(4, 1)], [whole(2, 3, 4, 5)]],
      "a piece of 4 bytes that is the last, of an item that has 3 left"
    ],
    [
      "a piece that goes on with all that is left",
      [[firstPiece(4, 1)], [nextPiece(2, 3, 4)]],
      "a piece of 3 bytes that goes on, of an item that has 3 left"
    ],
    [
      "an item over the limit",
      [[whole(1), entry(new Uint8Array(65), false)]],
      "an item of 65 bytes, which is over the limit of 64",
      "TooLarge"
    ],
    [
      "an item in pieces over the limit",
      [[firstPiece(65, 1)]],
      "an item of 65 bytes, which is over the limit of 64",
      "TooLarge"
    ]
  ]
  for (const [name, messages, problem, tag = "FlowControl"] of bad) {
    it(`is ${name}`, () => {
      const limit = tag === "TooLarge" ? 64 : 1000
      const { incoming, push, unfinished } = receive({ credit: 200, largest: 200, maxItem: limit })
      for (const message of messages.slice(0, -1)) assert.equal(push(...message), undefined)
      const before = incoming.items
      assert.deepEqual(push(...messages.at(-1)!), { _tag: tag, problem })
      // What came before it is kept, and what comes is ignored.
      assert.deepEqual([incoming.state, unfinished.isEmpty], ["Over", true])
      const { items } = incoming
      assert.ok(items >= before)
      assert.equal(push(whole(1)), undefined)
      assert.equal(incoming.items, items)
      incoming.finish(Exit.fail("over"))
      if (items > 0) assert.equal(Effect.runSync(incoming.pull).length, items)
      assert.deepEqual(Effect.runSyncExit(incoming.pull), Exit.fail("over"))
    })
  }

  it("is an unfinished item for which the connection has no room", () => {
    const { push, receiver, unfinished } = receive({ maxMessageSize: 0, maxItem: 200_000_000 })
    const held = unfinished.begin(67_108_860)
    for (let left = held.total; left > 0; left -= 1_048_576) {
      assert.equal(unfinished.add(held, new Uint8Array(1_048_576), 0, Math.min(left, 1_048_576)), true)
    }
    const violation = push(firstPiece(9, 1))
    assert.deepEqual(violation, {
      _tag: "Overloaded",
      problem: "an item of 9 bytes, with 67108860 bytes of unfinished items and messages already"
    })
    assert.equal(receiver.unfinished.held, 67_108_860)
  })

  it("is an item after the end, also when the consumer has got the end", () => {
    for (const isFinished of [false, true]) {
      const { incoming, push } = receive()
      assert.equal(incoming.end(), undefined)
      assert.equal(incoming.end(), undefined)
      if (isFinished) incoming.finish(done)
      assert.deepEqual(push(whole(1)), { _tag: "FlowControl", problem: "items after the end of the items" })
      assert.equal(push(whole(1)), undefined)
    }
  })

  it("is the end inside an item", () => {
    const { incoming, push, unfinished } = receive()
    push(firstPiece(9, 1, 2))
    assert.deepEqual(incoming.end(), {
      _tag: "FlowControl",
      problem: "the end of the items inside an item that has 7 bytes left"
    })
    assert.equal(unfinished.isEmpty, true)
  })

  it("does not wake the consumer with what came before it: its session says first how the stream ends", () => {
    const { incoming } = receive()
    const fiber = waits(incoming)
    const message = concat(whole(1), Uint8Array.of(9, 0, 0, 0))
    assert.notEqual(incoming.push(message, 0, message.length, false), undefined)
    assert.equal(fiber.pollUnsafe(), undefined)
    incoming.finish(Exit.fail("over"))
    assert.deepEqual(pulled(fiber.pollUnsafe()!), [[1]])
  })
})
