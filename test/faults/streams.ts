/** Streams that tests serve and open, and what is seen of them. */
import { Effect, Stream } from "effect"
import { HandlerMap, MethodKey } from "effect-call"
import * as assert from "node:assert/strict"
import * as Networks from "../support/networks.ts"
import { streamClient, type StreamPeer, type StreamPeerOptions } from "../support/streamPeer.ts"
import { type } from "../support/streamWire.ts"
import { makeLog } from "./hostile.ts"
import { until } from "./wire.ts"

const component = "test/Streams"
const method = (name: string) => MethodKey.make(component, name)

/** A call that answers its arguments, and one that never ends. */
export const echo = method("echo")
export const hang = method("hang")
/** Calls that answer as many bytes as their arguments, a u32, say; or the size of their arguments, as a u32. */
export const large = method("large")
export const sizeOf = method("sizeOf")
/** `feed`: as many items as the first u32 of the arguments says, of as many bytes as the second says. */
export const feed = method("feed")
/** Items of as many bytes as the first u32 says, without an end, made as fast as they are taken. */
export const endless = method("endless")
/** Sends its items back. */
export const mirror = method("mirror")
/** Takes all items, and sends one at the end: how many they were, and their bytes. */
export const sink = method("sink")
/** Takes no item and sends none. */
export const silent = method("silent")
/** Three items, and then it fails with the text "no more". */
const fails = method("fails")

export const u32s = (...values: ReadonlyArray<number>): Uint8Array => {
  const bytes = new Uint8Array(4 * values.length)
  for (const [index, value] of values.entries()) new DataView(bytes.buffer).setUint32(4 * index, value, true)
  return bytes
}

const u32At = (bytes: Uint8Array, index: number): number =>
  new DataView(bytes.buffer, bytes.byteOffset).getUint32(4 * index, true)

/** Items of a feed: each says its number in its first byte, if it has one. */
const itemOf = (index: number, size: number): Uint8Array => {
  const bytes = new Uint8Array(size).fill(index * 7)
  if (size > 0) bytes[0] = index
  return bytes
}

/** How many items are made at a time. */
const chunkOf = (size: number): number => size >= 4096 ? 1 : 16

/** What is seen of handlers. */
export interface Seen {
  /** How many handlers of streams run, and how many have begun and were interrupted. */
  running: number
  begun: number
  interrupted: number
  /** How many items were made by `feed` and `endless`, and taken by `sink`. */
  made: number
  taken: number
  takenBytes: number
  /** How many calls of `hang` run. */
  hanging: number
}

/** The handlers of the methods above, and what is seen of them. */
export const makeStreams = () => {
  const seen: Seen = { running: 0, begun: 0, interrupted: 0, made: 0, taken: 0, takenBytes: 0, hanging: 0 }
  const watched = <E>(make: () => Stream.Stream<Uint8Array, E>): Stream.Stream<Uint8Array, E> =>
    Stream.suspend(() => {
      seen.running++
      seen.begun++
      return make()
    }).pipe(Stream.onExit((exit) =>
      Effect.sync(() => {
        seen.running--
        if (exit._tag === "Failure" && exit.cause.reasons.some(({ _tag }) => _tag === "Interrupt")) seen.interrupted++
      })
    ))
  const made = (index: number, size: number) => {
    seen.made++
    return itemOf(index, size)
  }
  let handlers: HandlerMap.HandlerMap<never> = HandlerMap.empty.pipe(
    HandlerMap.set(component, echo.method, (args) => Effect.succeed(args)),
    HandlerMap.set(component, large.method, (args) => Effect.sync(() => new Uint8Array(u32At(args, 0)).fill(7))),
    HandlerMap.set(component, sizeOf.method, (args) => Effect.succeed(u32s(args.length))),
    HandlerMap.set(component, hang.method, () =>
      Effect.suspend(() => {
        seen.hanging++
        return Effect.never
      }).pipe(Effect.ensuring(Effect.sync(() => void seen.hanging--))))
  )
  handlers = HandlerMap.setStream(handlers, feed.component, feed.method, (args) =>
    watched(() => {
      const [count, size] = [u32At(args, 0), u32At(args, 1)]
      return Stream.fromIterable(
        (function*() {
          for (let index = 0; index < count; index++) yield made(index, size)
        })(),
        { chunkSize: chunkOf(size) }
      )
    }))
  handlers = HandlerMap.setStream(handlers, endless.component, endless.method, (args) =>
    watched(() => {
      const size = u32At(args, 0)
      return Stream.fromIterable(
        (function*() {
          for (let index = 0;; index++) yield made(index, size)
        })(),
        { chunkSize: chunkOf(size) }
      )
    }))
  handlers = HandlerMap.setStream(handlers, mirror.component, mirror.method, (_, items) => watched(() => items))
  handlers = HandlerMap.setStream(handlers, sink.component, sink.method, (_, items) =>
    watched(() => {
      let count = 0
      let bytes = 0
      return Stream.fromEffect(Effect.map(
        Stream.runForEach(items, (item) =>
          Effect.sync(() => {
            count++
            bytes += item.length
            seen.taken++
            seen.takenBytes += item.length
          })),
        () => u32s(count, bytes)
      ))
    }))
  handlers = HandlerMap.setStream(handlers, silent.component, silent.method, () => watched(() => Stream.never))
  handlers = HandlerMap.setStream(handlers, fails.component, fails.method, () =>
    watched(() =>
      Stream.concat(
        Stream.fromIterable([0, 1, 2].map((index) => itemOf(index, 8))),
        Stream.fail(new Error("no more"))
      )
    ))
  return { handlers, seen }
}

/** Serves the handlers above, with a log, for the ambient Scope. */
export const serveStreams = Effect.fnUntraced(function*(
  options?: Parameters<Networks.Network["serve"]>[1],
  network: Networks.Network = Networks.tcp
) {
  const { handlers, seen } = makeStreams()
  const served = yield* network.serve(handlers, options)
  return { ...served, seen }
})

/** A peer whose connection serves streams, and on which a call hangs as id 1: what ends the connection ends that. */
export const withCall = Effect.fnUntraced(function*(
  server: { readonly endpoint: Parameters<typeof streamClient>[0]; readonly seen: Seen },
  options?: StreamPeerOptions
) {
  const peer = yield* streamClient(server.endpoint, options)
  peer.request(1, hang)
  yield* until("the call beside it to run", () => server.seen.hanging > 0)
  return peer
})

/** The connection serves on: a call of this id is answered, and the call with id 1 still hangs. */
export const goesOn = Effect.fnUntraced(function*(peer: StreamPeer, seen: Seen, id: number) {
  peer.request(id, echo, Buffer.from("beside it"))
  const { payload, type: answered } = yield* peer.answer(id)
  assert.deepEqual([answered, payload.toString()], [type.response, "beside it"])
  assert.equal(seen.hanging, 1, "the call beside it goes on")
})

export { makeLog, until }
