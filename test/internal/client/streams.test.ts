/**
 * Typed streams, as the clients of components open them: over a Connection to a server that is written by hand.
 */
import { describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Pull, Stream } from "effect"
import { CallError, type Connection } from "effect-call"
import * as assert from "node:assert/strict"
import {
  type OpenStream,
  openTyped,
  TypedMethod,
  type TypedStreamRequest,
  typedStreamsOf
} from "../../../src/internal/client/typed.ts"
import { bytes, connected, feed, textOf } from "../../Connection/streamsSupport.ts"
import { type } from "../../support/streamWire.ts"

const method = new TypedMethod(feed, undefined, undefined)

const request = (given: Partial<TypedStreamRequest> = {}): TypedStreamRequest => ({
  method,
  lead: bytes("lead "),
  args: bytes("args"),
  options: undefined,
  span: undefined,
  items: undefined,
  decodeEnd: (end) => Effect.succeed(`result ${textOf(end)}`),
  inJson: undefined,
  ...given
})

const open = (connection: Connection.Connection, asked: TypedStreamRequest) => {
  const streams = typedStreamsOf(connection)
  assert.ok(streams !== undefined)
  return streams[openTyped](asked)
}

/** All items as texts, and the value of the end. */
const all = ({ pull }: OpenStream) =>
  Effect.gen(function*() {
    const items: Array<string> = []
    const loop = Effect.forever(Effect.map(pull, (chunk) => void items.push(...chunk.map(textOf))))
    const end = yield* Pull.catchDone(loop, (value) => Effect.succeed(value))
    return { items, end }
  })

describe("a typed stream", () => {
  it.live("opens with its lead, gives its items, and ends with what its response is decoded to", () =>
    Effect.gen(function*() {
      const { connection, server } = yield* connected()
      const opening = yield* Effect.forkScoped(open(connection, request()))
      const peer = yield* server.accepted
      const { id, payload } = yield* peer.next({ type: type.open })
      assert.equal(payload.subarray(53).toString(), "lead args")
      assert.equal(opening.pollUnsafe(), undefined)
      peer.items(id, bytes("a"), bytes("b"))
      const stream = yield* Fiber.join(opening)
      assert.equal(stream.endpoint, server.endpoint.address)
      peer.respond(id, bytes("r"))
      assert.deepEqual(yield* all(stream), { items: ["a", "b"], end: "result r" })
    }).pipe(Effect.scoped))

  for (const [how, after] of [["at once", Effect.void], ["in a later turn", Effect.sleep(1)]] as const) {
    it.live(`fails with the failure that its response is decoded to ${how}, behind its items`, () =>
      Effect.gen(function*() {
        const { connection, server } = yield* connected()
        const decodeEnd = () => Effect.andThen(after, Effect.fail("typed"))
        const opening = yield* Effect.forkScoped(open(connection, request({ decodeEnd })))
        const peer = yield* server.accepted
        const { id } = yield* peer.next({ type: type.open })
        peer.items(id, bytes("a"))
        const stream = yield* Fiber.join(opening)
        peer.respond(id, bytes("r"))
        assert.deepEqual((yield* stream.pull).map(textOf), ["a"])
        assert.equal(yield* Effect.flip(stream.pull), "typed")
      }).pipe(Effect.scoped))
  }

  it.live("is canceled with the Scope that it was opened in", () =>
    Effect.gen(function*() {
      const { connection, server } = yield* connected()
      const using = yield* Effect.forkChild(
        Effect.scoped(Effect.flatMap(open(connection, request()), ({ pull }) => pull))
      )
      const peer = yield* server.accepted
      const { id } = yield* peer.next({ type: type.open })
      peer.items(id, bytes("a"))
      yield* Fiber.join(using)
      yield* peer.next({ type: type.cancel, id })
    }).pipe(Effect.scoped))

  it.live("goes in JSON to a server that has another contract, with all its items, and later ones at once", () =>
    Effect.gen(function*() {
      const { connection, server } = yield* connected()
      let runs = 0
      const items = Stream.concat(Stream.suspend(() => Stream.make(bytes(`item of run ${++runs}`))), Stream.never)
      const json = request({ lead: bytes("json "), items: Stream.make(bytes("in JSON")) })
      const asked = request({ items, inJson: Effect.succeed(json) })
      const opening = yield* Effect.forkScoped(open(connection, asked))
      const peer = yield* server.accepted
      const first = yield* peer.next({ type: type.open })
      assert.equal((yield* peer.item(first.id)).toString(), "item of run 1")
      peer.fail(first.id, "differs", "(effect-call:contract-differs)")
      const second = yield* peer.next({ type: type.open })
      assert.equal(second.payload.subarray(53).toString(), "json args")
      assert.equal((yield* peer.item(second.id)).toString(), "in JSON")
      peer.respond(second.id, bytes("r"))
      assert.deepEqual(yield* all(yield* Fiber.join(opening)), { items: [], end: "result r" })
      const again = yield* Effect.forkScoped(open(connection, asked))
      const third = yield* peer.next({ type: type.open })
      assert.equal(third.payload.subarray(53).toString(), "json args")
      peer.respond(third.id, bytes("r"))
      yield* Fiber.join(again)
      assert.equal(runs, 1)
    }).pipe(Effect.scoped))

  it.live("fails where its contract differs and it has no JSON", () =>
    Effect.gen(function*() {
      const { connection, server } = yield* connected()
      const opening = yield* Effect.forkScoped(Effect.flip(open(connection, request())))
      const peer = yield* server.accepted
      const { id } = yield* peer.next({ type: type.open })
      peer.fail(id, "differs", "(effect-call:contract-differs)")
      const error = yield* Fiber.join(opening)
      assert.ok(error instanceof CallError.RemoteError && error.is("(effect-call:contract-differs)"))
    }).pipe(Effect.scoped))

  it.live("ends when it is interrupted while it is being put into JSON", () =>
    Effect.gen(function*() {
      const { connection, server } = yield* connected()
      const opening = yield* Effect.forkChild(Effect.scoped(open(connection, request({ inJson: Effect.never }))))
      const peer = yield* server.accepted
      const { id } = yield* peer.next({ type: type.open })
      peer.fail(id, "differs", "(effect-call:contract-differs)")
      yield* Fiber.interrupt(opening)
      assert.ok(Exit.isFailure(yield* Fiber.await(opening)))
    }).pipe(Effect.scoped))
})
