/**
 * Streams of a Connection, against a server that is written by hand from the page of the wire.
 */
import { describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Fiber, Queue, Stream } from "effect"
import { Connection, MethodKey, Resolver } from "effect-call"
import * as assert from "node:assert/strict"
import { streamServer } from "../support/streamPeer.ts"
import { type } from "../support/streamWire.ts"

const feed = MethodKey.make("test/Echo", "feed")
const bytes = (text: string): Uint8Array => Buffer.from(text)
const textOf = (item: Uint8Array): string => Buffer.from(item).toString()

const connected = Effect.gen(function*() {
  const server = yield* streamServer()
  const connection = yield* Connection.make(Resolver.constant(server.endpoint))
  return { server, connection }
})

describe("a stream", () => {
  it.live("is opened with its arguments and a credit of 64 KiB, and gives the items that come until its end", () =>
    Effect.gen(function*() {
      const { connection, server } = yield* connected
      const reading = yield* Effect.forkChild(
        Stream.runCollect(Stream.map(connection.stream(feed, bytes("args")), textOf))
      )
      const peer = yield* server.accepted
      const open = yield* peer.next({ type: type.open })
      assert.equal(open.payload.readUInt32LE(49), 65_536)
      assert.equal(open.payload.subarray(53).toString(), "args")
      yield* peer.next({ type: type.end, id: open.id })
      peer.items(open.id, bytes("a"), bytes(""), bytes("bc"))
      peer.items(open.id, bytes("d"))
      peer.respond(open.id)
      assert.deepEqual(yield* Fiber.join(reading), ["a", "", "bc", "d"])
    }).pipe(Effect.scoped))

  it.live("sends the items of its client, and then its end", () =>
    Effect.gen(function*() {
      const { connection, server } = yield* connected
      const items = Stream.map(Stream.make("x", "y", "z"), bytes)
      const reading = yield* Effect.forkChild(Stream.runCollect(connection.stream(feed, bytes(""), { items })))
      const peer = yield* server.accepted
      const { id } = yield* peer.next({ type: type.open })
      for (const text of ["x", "y", "z"]) assert.equal((yield* peer.item(id)).toString(), text)
      yield* peer.next({ type: type.end, id })
      peer.respond(id)
      assert.deepEqual(yield* Fiber.join(reading), [])
    }).pipe(Effect.scoped))

  it.live("is canceled at once when its consumer has enough", () =>
    Effect.gen(function*() {
      const { connection, server } = yield* connected
      const reading = yield* Effect.forkChild(Stream.runCollect(Stream.take(connection.stream(feed, bytes("")), 1)))
      const peer = yield* server.accepted
      const { id } = yield* peer.next({ type: type.open })
      peer.items(id, bytes("a"), bytes("b"))
      assert.equal((yield* Fiber.join(reading)).length, 1)
      yield* peer.next({ type: type.cancel, id })
    }).pipe(Effect.scoped))
})
void Cause
void Exit
void Queue
