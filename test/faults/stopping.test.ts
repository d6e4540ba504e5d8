/**
 * Ends that meet something under way: a server that stops, a Connection that is closed from within what it calls back.
 */
import { describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { HandlerMap, MethodKey, Server } from "effect-call"
import { TestNetwork } from "effect-call/testing"
import * as assert from "node:assert/strict"
import * as Networks from "../support/networks.ts"
import { versionWith } from "../support/raw.ts"
import { rawPeer, request, type, until, version } from "./wire.ts"

const large = MethodKey.make("test/Large", "get")
const tooLate = MethodKey.make("test/Large", "late")
const size = 8_000_000

describe("a server that stops", () => {
  Networks.eachNetwork((network) => {
    it.live("delivers an answer that is being sent, while its client sends more requests", () =>
      Effect.gen(function*() {
        let runs = 0
        let late = 0
        const { endpoint, serving } = yield* network.serve(
          HandlerMap.empty.pipe(
            HandlerMap.set("test/Large", "get", () =>
              Effect.sync(() => {
                runs++
                return new Uint8Array(size)
              })),
            HandlerMap.set("test/Large", "late", (args) =>
              Effect.sync(() => {
                late++
                return args
              }))
          ),
          { shutdownGrace: "5 seconds" }
        )
        const peer = yield* rawPeer(endpoint)
        peer.socket.pause()
        yield* peer.send(versionWith(0), request(1, large))
        yield* until("the handler to have run", () => runs === 1)
        const stopping = yield* Effect.forkChild(Fiber.interrupt(serving), { startImmediately: true })
        let id = 1
        let turns = 10
        yield* until("the server to have begun to stop", () => --turns === 0)
        yield* peer.send(versionWith(4))
        // It has said that no request follows, and each piece of the answer is followed by one: none of them is served.
        peer.socket.on("data", () => void peer.socket.write(request(++id, tooLate)))
        peer.socket.resume()
        const { payload } = yield* peer.answer(1)
        assert.equal(payload.length, size)
        yield* Fiber.join(stopping)
        assert.ok(id > 10, `${id}`)
        assert.equal(late, 0)
      }).pipe(Effect.scoped))
  })

  it.live("waits no longer than its grace for a client that does not close its end", () =>
    Effect.gen(function*() {
      const { endpoint, serving } = yield* Networks.tcp.serve(Networks.handlers, { shutdownGrace: 50 })
      const peer = yield* rawPeer(endpoint)
      yield* peer.send(version)
      yield* peer.answer(0, [type.version])
      // A client that neither reads nor closes.
      peer.socket.pause()
      const before = performance.now()
      yield* Fiber.interrupt(serving)
      assert.ok(performance.now() - before < 1000)
      peer.socket.resume()
      yield* peer.closed
    }).pipe(Effect.scoped))
})

describe("a caller that is resumed in the middle of something", () => {
  const turn = Effect.callback<void>((resume) => {
    setImmediate(() => resume(Effect.void))
  })

  it.live("may call and give up again while the writer is at it, and that call is never sent", () =>
    Effect.gen(function*() {
      const seen: Array<string> = []
      const network = yield* TestNetwork.make
      const listener = yield* Effect.orDie(network.listener(
        "server",
        HandlerMap.empty.pipe(
          HandlerMap.set(Networks.component, "echo", (args) => {
            seen.push(Networks.textOf(args.subarray(0, 1)))
            return Effect.succeed(args)
          })
        )
      ))
      yield* Effect.forkScoped(Server.serve(listener, { shutdownGrace: 0 }), { startImmediately: true })
      const connection = yield* Networks.connect([network.endpoint("server")])
      const call = (text: string, timeout?: number) =>
        connection.call(Networks.echo, Networks.bytesOf(text), timeout === undefined ? {} : { timeout })
      yield* call("a")
      // Larger than what can be on its way, so that what comes after it waits in our writer.
      yield* network.fault("server", { blackHole: "toServer" })
      const first = yield* Effect.forkChild(call("b".repeat(300_000)), { startImmediately: true })
      yield* turn
      yield* turn
      const givenUp = yield* Effect.forkChild(call("never: given up"), { startImmediately: true })
      const late = yield* Effect.forkChild(
        Effect.catch(call("never: too late when it would leave", 5), (error) =>
          Effect.gen(function*() {
            const another = yield* Effect.forkChild(call("never: given up at once"), { startImmediately: true })
            yield* Fiber.interrupt(another)
            return error._tag
          })),
        { startImmediately: true }
      )
      yield* Fiber.interrupt(givenUp)
      yield* network.heal("server")
      // The deadline passes without the event loop seeing it, so that it is the writer that finds it passed.
      const passed = performance.now() + 8
      while (performance.now() < passed) {
        // busy
      }
      assert.equal(yield* Fiber.join(late), "DeadlineExceeded")
      yield* Fiber.join(first)
      yield* call("c")
      assert.deepEqual(seen, ["a", "b", "c"])
    }).pipe(Effect.scoped))
})
