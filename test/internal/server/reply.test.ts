/** What a client gets, with a real session that sends it. */
import { describe, it } from "@effect/vitest"
import { Cause, Effect, Exit } from "effect"
import { HandlerMap, MethodKey } from "effect-call"
import * as assert from "node:assert/strict"
import * as Identities from "../../../src/internal/protocol/identities.ts"
import { acknowledge, answer, answerWith, endDiscarded } from "../../../src/internal/server/reply.ts"
import type { Incoming } from "../../../src/internal/server/route.ts"
import { open, routeIn, textsOf } from "./support.ts"

const limit = 1024

/** A call of a method of this name that is to be answered. */
const calling = Effect.fnUntraced(function*(method = "get") {
  const handlers = HandlerMap.set(HandlerMap.empty, "test/Store", method, Effect.succeed)
  const route = routeIn(handlers, MethodKey.make("test/Store", method))
  const opened = yield* open(handlers, { maxMessageSize: limit })
  return { ...opened, route, call: { id: 7, route, connection: opened.session } }
})

/** A request of a typed call: some bytes go before its reply, which may carry a failure of the application. */
const typed: Incoming = {
  isDiscarded: false,
  replyLead: Uint8Array.of(1, 2),
  failure: "NotFound",
  handle: () => Effect.die("not handled"),
  isOpen: () => false,
  replyNow: () => undefined,
  reply: () => Effect.die("no reply")
}

const detached = () => {
  const bytes = new Uint8Array(10)
  structuredClone(bytes, { transfer: [bytes.buffer] })
  return bytes
}

describe("the answer to a call", () => {
  it.effect("has the bytes of its result, after those that go before a typed reply", () =>
    Effect.gen(function*() {
      const { answered, call } = yield* calling()
      assert.equal(answer(call, undefined, Exit.succeed(Uint8Array.of(3, 4)), false), undefined)
      assert.equal(answerWith(call, typed, Uint8Array.of(3)), "NotFound")
      acknowledge(call, typed)
      assert.deepEqual(yield* answered(3), [[7, [3, 4]], [7, [1, 2, 3]], [7, [1, 2]]])
    }).pipe(Effect.scoped))

  it.effect("has the errors of a failure, and says of which kind it is", () =>
    Effect.gen(function*() {
      const { answered, call, lines } = yield* calling()
      const failure = new TypeError("no such key", { cause: new Error("disk") })
      assert.equal(answer(call, undefined, Exit.fail(failure), false), "TypeError")
      assert.equal(answer(call, undefined, Exit.interrupt(), false), "canceled")
      assert.deepEqual((yield* answered(2)).map(textsOf), [["no such key", "disk"], [Identities.canceled.message]])
      assert.deepEqual(lines.filter(({ level }) => level === "Error"), [])
    }).pipe(Effect.scoped))

  it.effect("tells nothing of a defect, which is logged with the method", () =>
    Effect.gen(function*() {
      const { answered, call, lines } = yield* calling()
      assert.equal(answer(call, undefined, Exit.die(new Error("secret")), false), "defect")
      assert.deepEqual((yield* answered(1)).map(textsOf), [["internal error: the handler died"]])
      const errors = lines.filter(({ level }) => level === "Error")
      assert.deepEqual(errors.map(({ annotations, message }) => [message, annotations]), [
        ["a handler died", { component: "test/Store", method: "get" }]
      ])
      assert.match(errors[0]!.cause, /secret/)
    }).pipe(Effect.scoped))

  it.effect("is DeadlineExceeded where the handler fails after its deadline, and its result where it succeeds", () =>
    Effect.gen(function*() {
      const { answered, call } = yield* calling()
      assert.equal(answer(call, undefined, Exit.fail("boom"), true), "DeadlineExceeded")
      assert.equal(answer(call, undefined, Exit.succeed(Uint8Array.of(1)), true), undefined)
      assert.deepEqual(yield* answered(2), [[7, { chain: [Identities.deadlineExceeded] }], [7, [1]]])
    }).pipe(Effect.scoped))

  it.effect("is a defect of the handler where its result is no bytes, or bytes that were transferred elsewhere", () =>
    Effect.gen(function*() {
      const { answered, call, lines } = yield* calling()
      assert.equal(answer(call, undefined, Exit.succeed("text"), false), "defect")
      assert.equal(answer(call, undefined, Exit.succeed(detached()), false), "defect")
      const died = ["internal error: the handler died"]
      assert.deepEqual((yield* answered(2)).map(textsOf), [died, died])
      const causes = lines.filter(({ level }) => level === "Error").map(({ cause }) => cause.split("\n")[0])
      assert.equal(causes.length, 2)
      assert.match(causes[0]!, /the result of test\/Store\.get: expected a Uint8Array, got "text"$/)
      assert.match(causes[1]!, /the result of test\/Store\.get: expected a Uint8Array whose bytes can be read, got /)
    }).pipe(Effect.scoped))
})

describe("an answer that is over the limit", () => {
  it.effect("is refused with its size, in which what goes before it is counted", () =>
    Effect.gen(function*() {
      const { answered, call } = yield* calling()
      assert.equal(answer(call, undefined, Exit.succeed(new Uint8Array(limit)), false), undefined)
      assert.equal(answerWith(call, typed, new Uint8Array(limit - 1)), "too_large")
      const problem = "the result of test/Store.get is 1025 bytes, expected at most 1024"
      assert.deepEqual(yield* answered(2), [
        [7, Array.from({ length: limit }, () => 0)],
        [7, { chain: [Identities.answerTooLarge(problem)] }]
      ])
    }).pipe(Effect.scoped))

  it.effect("is refused also where it is an error, and where the method's name is longer than the limit", () =>
    Effect.gen(function*() {
      const { answered, call } = yield* calling("m".repeat(2 * limit))
      assert.equal(answer(call, undefined, Exit.fail(new Error("e".repeat(limit))), false), "Error")
      const [text] = textsOf((yield* answered(1))[0])
      assert.match(
        text!,
        /^the call of test\/Store\.m{189}… failed, with an error of \d{4,} bytes, expected at most 1024$/
      )
    }).pipe(Effect.scoped))
})

describe("a discarded call that has ended", () => {
  it.effect("is not answered again: its failure is logged, unless it was interrupted", () =>
    Effect.gen(function*() {
      const { answered, call, lines } = yield* calling()
      assert.equal(endDiscarded(call, Exit.void), undefined)
      assert.equal(endDiscarded(call, Exit.interrupt()), "canceled")
      assert.equal(endDiscarded(call, Exit.failCause(Cause.fail(new RangeError("full")))), "RangeError")
      // What is sent after that is the first that comes.
      acknowledge(call, undefined)
      assert.deepEqual(yield* answered(1), [[7, []]])
      const errors = lines.filter(({ level }) => level === "Error")
      assert.deepEqual(errors.map(({ message }) => message), ["the handler of a discarded call failed"])
    }).pipe(Effect.scoped))
})
