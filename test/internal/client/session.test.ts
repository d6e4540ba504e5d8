/**
 * A session with entries of a kind that it has never seen: what it does for every kind.
 */
import { describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { MethodKey } from "effect-call"
import * as assert from "node:assert/strict"
import type { End, Pending } from "../../../src/internal/client/pending.ts"
import type { ClientSession } from "../../../src/internal/client/session.ts"
import { message } from "../../support/raw.ts"
import { openSession, turn } from "./openSession.ts"

/** Notes what it hears. */
class Entry implements Pending {
  id = 0
  readonly key = MethodKey.make("test/Echo", "echo")
  readonly trace = undefined
  readonly stream = undefined
  readonly keepsAnswer = false
  readonly heard: Array<string> = []
  readonly isCall: boolean
  readonly lead: Uint8Array
  readonly deadlineAt: number
  /** How many calls were in flight when it ended. */
  inFlight: number | undefined = undefined
  private readonly session: ClientSession
  constructor(session: ClientSession, isCall = true, lead = "", deadlineAt = Infinity) {
    this.session = session
    this.isCall = isCall
    this.lead = Buffer.from(lead)
    this.deadlineAt = deadlineAt
  }
  onMessage(type: number, bytes: Uint8Array, start: number, end: number) {
    this.inFlight = this.session.callsInFlight
    this.heard.push(`${type} ${Buffer.from(bytes.subarray(start, end)).toString()}`)
  }
  onEnd(end: End) {
    this.inFlight = this.session.callsInFlight
    this.heard.push(end._tag === "Unsent" ? `Unsent ${Buffer.from(end.args).toString()}` : end._tag)
  }
}

describe("an entry of a session", () => {
  it.live("is sent with its lead before its arguments, and hears its answer when it is no longer in the table", () =>
    Effect.gen(function*() {
      const { duplex, life, sent, session } = yield* openSession
      const entry = new Entry(session, true, "lead ")
      session.send(entry, Buffer.from("args"))
      const [request] = yield* sent
      assert.equal(request!.payload.subarray(49).toString(), "lead args")
      assert.equal(session.callsInFlight, 1)
      duplex.push(message(entry.id, 2, Buffer.from("answer")))
      yield* turn
      assert.deepEqual([entry.heard, entry.inFlight, life], [["2 answer"], 0, ["ready", "idle"]])
      assert.equal(session.giveUp(entry, true), false)
    }).pipe(Effect.scoped))

  it.live("hears an answer that is an error, too, and one that is too large", () =>
    Effect.gen(function*() {
      const { duplex, session } = yield* openSession
      const entries = [new Entry(session), new Entry(session)]
      for (const entry of entries) session.send(entry, new Uint8Array())
      yield* turn
      duplex.push(message(entries[0]!.id, 3, Buffer.from("chain")))
      duplex.push(message(entries[1]!.id, 2, Buffer.alloc(501)))
      yield* turn
      assert.deepEqual(entries.map(({ heard }) => heard), [["3 chain"], ["TooLarge"]])
    }).pipe(Effect.scoped))

  it.live("that is no call does not count as one", () =>
    Effect.gen(function*() {
      const { duplex, life, session } = yield* openSession
      const entry = new Entry(session, false)
      session.send(entry, new Uint8Array())
      assert.equal(session.callsInFlight, 0)
      yield* turn
      duplex.push(message(entry.id, 2))
      yield* turn
      assert.deepEqual([entry.heard, life], [["2 "], ["ready"]])
    }).pipe(Effect.scoped))

  it.live("is dropped when it is given up before it has left; otherwise its peer gets a cancel", () =>
    Effect.gen(function*() {
      const { sent, session } = yield* openSession
      const entry = new Entry(session)
      session.send(entry, new Uint8Array())
      assert.equal(session.giveUp(entry, true), true)
      assert.deepEqual(yield* sent, [])
      session.send(entry, new Uint8Array())
      yield* sent
      session.giveUp(entry, true)
      assert.deepEqual((yield* sent).map(({ id, type }) => [id, type]), [[entry.id, 4]])
      assert.deepEqual(entry.heard, [])
    }).pipe(Effect.scoped))

  it.live("is not sent any more when its time is up before it leaves", () =>
    Effect.gen(function*() {
      const { sent, session } = yield* openSession
      const entry = new Entry(session, true, "", 0)
      session.send(entry, new Uint8Array())
      assert.deepEqual([yield* sent, entry.heard], [[], ["NeverLeft"]])
    }).pipe(Effect.scoped))

  it.live("gets its arguments back, without the lead, if the connection is lost before it has left", () =>
    Effect.gen(function*() {
      const { duplex, life, sent, session } = yield* openSession
      const [first, second] = [new Entry(session), new Entry(session, true, "lead ")]
      session.send(first, new Uint8Array())
      yield* sent
      session.send(second, Buffer.from("args"))
      // At once: the second has not left.
      duplex.emit("error", new Error("lost"))
      assert.deepEqual([first.heard, second.heard], [["Lost"], ["Unsent args"]])
      assert.deepEqual(life, ["ready", "over with 2"])
      assert.equal(first.inFlight, 0)
    }).pipe(Effect.scoped))
})
