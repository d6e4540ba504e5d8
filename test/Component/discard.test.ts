/** The life of a handler whose caller has gone on: nothing of the call ends it, only the server does. */
import { describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Function, Latch, Option, Queue, Schema } from "effect"
import { Component, Deadline } from "effect-call"
import { Rpc, RpcGroup, RpcMiddleware } from "effect/rpc"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { settle } from "../Connection/support.ts"
import { makeLog } from "../support/log.ts"
import { bytesOf, eachNetwork } from "../support/networks.ts"
import { messagesOf, rawClient, request, version } from "../support/raw.ts"
import { open, type OpenOptions } from "./support.ts"

class Failed extends Schema.TaggedError<Failed>()("Failed", { why: Schema.String }) {}
class Denied extends Schema.TaggedError<Denied>()("Denied", {}) {}
class Around extends RpcMiddleware.Service<Around>()("Around", { error: Denied }) {}

const group = RpcGroup.make(
  Rpc.make("Work", { payload: Schema.String, success: Schema.String, error: Failed }).middleware(Around),
  Rpc.make("Ping")
)
const Jobs = Component.make("test/Jobs", group)
const discard = { discard: true } as const

/** A served component whose handler works until its gate is open, with what happens to it. */
const working = Effect.fnUntraced(function*(
  options: OpenOptions & { readonly middleware?: RpcMiddleware.RpcMiddleware<never, Denied, never> } = {}
) {
  const { middleware = Function.identity, ...rest } = options
  const events = yield* Queue.unbounded<string>()
  const gate = yield* Latch.make()
  const log = makeLog()
  const note = (event: string) => Effect.asVoid(Queue.offer(events, event))
  const opened = yield* open(
    Jobs,
    group.toLayer({
      Work: (how) =>
        Effect.addFinalizer(() => note("closed")).pipe(
          Effect.andThen(note("started")),
          Effect.andThen(gate.await),
          Effect.andThen(
            how === "fail"
              ? Effect.fail(new Failed({ why: "broken" }))
              : how === "die"
              ? Effect.die(new Error("dead"))
              : Effect.as(note("done"), "result")
          ),
          Effect.onInterrupt(() => note("interrupted"))
        ),
      Ping: () => Effect.void
    }),
    rest
  ).pipe(Effect.provideService(Around, middleware), Effect.provide(log.layer))
  const expect = (...expected: ReadonlyArray<string>) =>
    Effect.map(Queue.takeN(events, expected.length), (seen) => assert.deepEqual(seen, expected))
  return { ...opened, gate, log, expect }
})

eachNetwork((network) => {
  it.live("a handler goes on when its caller's connection is gone", () =>
    Effect.gen(function*() {
      const { client, connection, expect, gate } = yield* working({ network })
      yield* client.Work("", discard)
      yield* expect("started")
      yield* connection.close
      yield* settle
      yield* gate.open
      yield* expect("done", "closed")
    }).pipe(Effect.scoped))
})

describe("a call that is discarded", () => {
  it.effect("is interrupted with its connection as long as its handler has not started", () =>
    Effect.gen(function*() {
      const entered = yield* Deferred.make<void>()
      const interrupted = yield* Deferred.make<void>()
      const { client, connection } = yield* working({
        middleware: (effect) =>
          Deferred.succeed(entered, undefined).pipe(
            Effect.andThen(Effect.never),
            Effect.andThen(effect),
            Effect.onInterrupt(() => Deferred.succeed(interrupted, undefined))
          )
      })
      const calling = yield* Effect.forkChild(Effect.flip(client.Work("", discard)))
      yield* Deferred.await(entered)
      yield* connection.close
      yield* Deferred.await(interrupted)
      assert.equal((yield* Fiber.join(calling))._tag, "CommunicationError")
    }).pipe(Effect.scoped))

  it.effect("runs its middleware under its deadline, and its handler under none", () =>
    Effect.gen(function*() {
      const left: Array<unknown> = []
      const note = Effect.map(Deadline.remaining, (remaining) => void left.push(Option.isSome(remaining)))
      const seeing = group.omit("Ping")
      const gate = yield* Latch.make()
      const done = yield* Deferred.make<void>()
      const { client } = yield* open(
        Component.make("test/Jobs", seeing),
        seeing.toLayer({
          Work: () =>
            note.pipe(
              Effect.andThen(gate.await),
              Effect.andThen(note),
              Effect.andThen(Deferred.succeed(done, undefined)),
              Effect.as("done")
            )
        })
      ).pipe(Effect.provideService(Around, (effect) => Effect.andThen(note, effect)))
      yield* Deadline.within(client.Work("", discard), "1 second")
      yield* TestClock.adjust("1 minute")
      yield* settle
      yield* gate.open
      yield* Deferred.await(done)
      assert.deepEqual(left, [true, false, false])
    }).pipe(Effect.scoped))

  it.effect("fails at its deadline where its handler has not started by then", () =>
    Effect.gen(function*() {
      const { client } = yield* working({ middleware: () => Effect.never })
      const calling = yield* Effect.forkChild(Effect.flip(Deadline.within(client.Work("", discard), "1 second")))
      yield* TestClock.adjust("1 second")
      assert.equal((yield* Fiber.join(calling))._tag, "DeadlineExceeded")
    }).pipe(Effect.scoped))

  it.effect("is answered once, however its handler ends", () =>
    Effect.gen(function*() {
      const { endpoint, expect, gate } = yield* working()
      const raw = yield* rawClient(endpoint)
      const call = (id: number, how: string) =>
        request(id, Jobs.keys.get("Work")!, Uint8Array.of(0x22, ...bytesOf(JSON.stringify(how))))
      raw.write(Buffer.concat([version, call(1, ""), call(2, "fail"), call(3, "die")]))
      yield* expect("started", "started", "started")
      yield* gate.open
      yield* expect("done", "closed", "closed", "closed")
      // What comes after all that, if anything did.
      raw.write(request(4, Jobs.keys.get("Ping")!, Uint8Array.of(0x02, ...bytesOf("null"))))
      const received = messagesOf(yield* raw.until((bytes) => messagesOf(bytes).some(({ id }) => id === 4)))
      assert.deepEqual(received.map(({ id, type }) => [id, type]), [[0, 0], [1, 2], [2, 2], [3, 2], [4, 2]])
      assert.deepEqual(received.slice(1, 4).map(({ payload }) => [...payload]), [[0x02], [0x02], [0x02]])
    }).pipe(Effect.scoped))

  it.effect("takes a place among the server's calls until its handler has ended", () =>
    Effect.gen(function*() {
      const { client, expect, gate } = yield* working({ server: { maxConcurrentCalls: 1, maxQueuedCalls: 1 } })
      yield* client.Work("", discard)
      yield* expect("started")
      const pinging = yield* Effect.forkChild(client.Ping())
      yield* settle
      assert.equal(pinging.pollUnsafe(), undefined)
      const refused = yield* Effect.flip(client.Ping())
      assert.ok(refused._tag === "RemoteError" && refused.isOverloaded)
      yield* gate.open
      yield* Fiber.join(pinging)
    }).pipe(Effect.scoped))
})

describe("the failure of a handler whose call was discarded", () => {
  it.effect("is logged, with its component and method", () =>
    Effect.gen(function*() {
      const { client, gate, log } = yield* working()
      yield* gate.open
      yield* client.Work("fail", discard)
      yield* log.until(1)
      yield* client.Work("die", discard)
      yield* log.until(2)
      const annotations = { component: "test/Jobs", method: "Work" }
      const message = "the handler of a discarded call failed"
      assert.deepEqual(
        log.lines.map(({ annotations, level, message }) => ({ annotations, level, message })),
        [{ annotations, level: "Error", message }, { annotations, level: "Error", message }]
      )
      assert.match(log.lines[0]!.cause, /Failed/)
      assert.match(log.lines[1]!.cause, /dead/)
    }).pipe(Effect.scoped))

  it.effect("is logged where it is that of a Deferred, which the server waits for", () =>
    Effect.gen(function*() {
      const later = yield* Deferred.make<string, Failed>()
      const log = makeLog()
      const bare = RpcGroup.make(Rpc.make("Work", { success: Schema.String, error: Failed }))
      const { client, serving } = yield* open(
        Component.make("test/Jobs", bare),
        bare.toLayer({ Work: () => Effect.succeed(later) }),
        { server: { shutdownGrace: "10 seconds" } }
      ).pipe(Effect.provide(log.layer))
      yield* client.Work(undefined, discard)
      const stopping = yield* Effect.forkChild(Fiber.interrupt(serving), { startImmediately: true })
      yield* settle
      assert.equal(stopping.pollUnsafe(), undefined)
      yield* Deferred.fail(later, new Failed({ why: "broken" }))
      yield* Fiber.join(stopping)
      assert.equal(log.lines[0]?.message, "the handler of a discarded call failed")
    }).pipe(Effect.scoped))

  it.effect("is not logged where the handler has not failed", () =>
    Effect.gen(function*() {
      const { client, expect, gate, log, serving } = yield* working()
      yield* gate.open
      yield* client.Work("", discard)
      yield* expect("started", "done", "closed")
      yield* gate.close
      yield* client.Work("", discard)
      yield* expect("started")
      // One that the server interrupts has not failed either.
      yield* Fiber.interrupt(serving)
      yield* expect("interrupted", "closed")
      // The client logs that its connection was lost.
      assert.deepEqual(log.lines.filter(({ annotations }) => "component" in annotations), [])
    }).pipe(Effect.scoped))

  it.effect("is sent to its caller where it comes before the handler has started", () =>
    Effect.gen(function*() {
      const { client, log } = yield* working({ middleware: () => Effect.fail(new Denied()) })
      assert.deepEqual(yield* Effect.flip(client.Work("", discard)), new Denied())
      assert.deepEqual(log.lines, [])
    }).pipe(Effect.scoped))
})

describe("a server that stops", () => {
  const whether = { "is there": false, "is gone": true } as const

  for (const [caller, isGone] of Object.entries(whether)) {
    it.effect(`waits for the handler of a discarded call to end, where its caller ${caller}`, () =>
      Effect.gen(function*() {
        const { client, connection, expect, gate, serving } = yield* working({
          server: { shutdownGrace: "10 seconds" }
        })
        yield* client.Work("", discard)
        yield* expect("started")
        if (isGone) yield* connection.close
        const stopping = yield* Effect.forkChild(Fiber.interrupt(serving), { startImmediately: true })
        yield* TestClock.adjust("9 seconds")
        yield* settle
        assert.equal(stopping.pollUnsafe(), undefined)
        yield* gate.open
        yield* expect("done", "closed")
        yield* Fiber.join(stopping)
      }).pipe(Effect.scoped))

    it.effect(`interrupts it when its grace is over, where its caller ${caller}`, () =>
      Effect.gen(function*() {
        const { client, connection, expect, serving } = yield* working({ server: { shutdownGrace: "20 seconds" } })
        yield* client.Work("", discard)
        yield* expect("started")
        if (isGone) yield* connection.close
        yield* settle
        const stopping = yield* Effect.forkChild(Fiber.interrupt(serving), { startImmediately: true })
        yield* TestClock.adjust("19999 millis")
        yield* settle
        assert.equal(stopping.pollUnsafe(), undefined)
        yield* TestClock.adjust("1 millis")
        yield* expect("interrupted", "closed")
        yield* Fiber.join(stopping)
      }).pipe(Effect.scoped))
  }
})
