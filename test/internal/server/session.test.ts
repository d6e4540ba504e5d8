/** A session, and a client that speaks byte by byte: what it does with each message, and when it is over. */
import { describe, it } from "@effect/vitest"
import { Deferred, Effect } from "effect"
import { HandlerMap, MethodKey } from "effect-call"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import * as Identities from "../../../src/internal/protocol/identities.ts"
import { until } from "../../Connection/support.ts"
import { cancel, message, request, version } from "../../support/raw.ts"
import { open } from "./support.ts"

const echo = MethodKey.make("test/Store", "echo")
const hold = MethodKey.make("test/Store", "hold")
const none = MethodKey.make("test/Store", "none")

/** A session whose method `hold` ends when it is told to, and cannot be interrupted before where `isStubborn`. */
const serving = Effect.fnUntraced(function*(isStubborn = false) {
  const gate = yield* Deferred.make<void>()
  const wait = isStubborn ? Effect.uninterruptible(Deferred.await(gate)) : Deferred.await(gate)
  const handlers = HandlerMap.empty.pipe(
    HandlerMap.set("test/Store", "echo", Effect.succeed),
    HandlerMap.set("test/Store", "hold", (args) => Effect.as(wait, args))
  )
  return { ...yield* open(handlers), goOn: Deferred.succeed(gate, undefined) }
})

const args = Uint8Array.of(1, 2)

describe("a session", () => {
  it.effect("answers each request with its own id, in the order in which they end", () =>
    Effect.gen(function*() {
      const { answered, client, goOn, session } = yield* serving()
      client.write(Buffer.concat([version, request(1, hold, args), request(2, echo, args)]))
      yield* answered(1)
      assert.equal(session.callsInFlight, 1)
      yield* goOn
      assert.deepEqual(yield* answered(2), [[2, [1, 2]], [1, [1, 2]]])
      assert.equal(session.callsInFlight, 0)
    }).pipe(Effect.scoped))

  it.effect("answers a request for an unknown method by itself, and one whose deadline has passed", () =>
    Effect.gen(function*() {
      const { answered, client } = yield* serving()
      client.write(Buffer.concat([request(1, none, args), request(2, echo, args, -1), request(3, echo, args)]))
      assert.deepEqual(yield* answered(3), [
        [1, { chain: [Identities.unknownMethod] }],
        [2, { chain: [Identities.deadlineExceeded] }],
        [3, [1, 2]]
      ])
    }).pipe(Effect.scoped))

  it.effect("ends the exchange that a cancel names, and ignores the cancel of one that is over", () =>
    Effect.gen(function*() {
      const { answered, client } = yield* serving()
      client.write(Buffer.concat([request(1, hold, args), cancel(9), cancel(1), cancel(1), request(2, echo, args)]))
      assert.deepEqual(yield* answered(2), [[1, { chain: [Identities.canceled] }], [2, [1, 2]]])
    }).pipe(Effect.scoped))

  it.effect("closes the connection of a client that breaks the protocol, and logs how it has", () =>
    Effect.gen(function*() {
      for (
        const [sent, problem] of [
          [[request(1, hold, args), request(1, echo, args)], "request 1 twice"],
          [[message(1, 1, new Uint8Array(48))], "a request of 48 bytes, expected at least 49"]
        ] as const
      ) {
        const { answers, client, done, lines } = yield* serving()
        client.write(Buffer.concat(sent))
        yield* client.closed
        yield* done
        assert.deepEqual(answers(), [])
        const warnings = lines.filter(({ level }) => level === "Warn")
        assert.deepEqual(warnings.map(({ annotations, message }) => [message, annotations]), [
          [`a connection was closed: its peer sent ${problem}`, { peer: "a local peer", reason: problem }]
        ])
      }
    }).pipe(Effect.scoped))

  it.effect("closes the connection of a client that says nothing for 10 seconds", () =>
    Effect.gen(function*() {
      const { client, lines, session } = yield* serving()
      yield* TestClock.adjust("9999 millis")
      assert.equal(session.isOver, false)
      yield* TestClock.adjust("1 millis")
      yield* client.closed
      assert.match(lines.map(({ message }) => message).join(), /its peer sent no message within 10s/)
    }).pipe(Effect.scoped))

  it.effect("is done only when the last handler has ended, also where the connection is gone long before", () =>
    Effect.gen(function*() {
      const { answered, client, done, goOn, pair, session } = yield* serving(true)
      client.write(Buffer.concat([request(1, hold, args), request(2, hold, args), request(3, echo, args)]))
      yield* answered(1)
      let left: number | undefined = undefined
      session.onceDone(() => void (left = session.callsInFlight))
      pair.close()
      yield* until(() => session.isOver)
      assert.deepEqual([left, session.callsInFlight], [undefined, 2])
      yield* goOn
      yield* done
      assert.equal(left, 0)
    }).pipe(Effect.scoped))

  it.effect("calls a listener at once where it is done already", () =>
    Effect.gen(function*() {
      const { done, pair, session } = yield* serving()
      pair.close()
      yield* done
      let told = 0
      session.onceDone(() => void told++)
      assert.equal(told, 1)
    }).pipe(Effect.scoped))

  it.effect("refuses a connection that another session serves", () =>
    Effect.gen(function*() {
      const { pair, serve } = yield* serving()
      assert.throws(
        () => serve(pair.server),
        /^TypeError: the connection is served already, expected each one once$/
      )
    }).pipe(Effect.scoped))
})
