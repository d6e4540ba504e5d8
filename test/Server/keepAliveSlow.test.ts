/**
 * `keepAlive` of a server: what takes its time and is alive, which may be a client that is slow to take its answers, or
 * this process.
 */
import { describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { HandlerMap, Listener, MethodKey, Server } from "effect-call"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import type { Duplex } from "node:stream"
import { Worker } from "node:worker_threads"
import { settle, until } from "../Connection/support.ts"
import { component, eachNetwork, handlers, memory, mtlsOverTcp, type Network, tcp, unix } from "../support/networks.ts"
import { request, versionWith } from "../support/raw.ts"

const nothing = new Uint8Array()
const mebibyte = 1_048_576
const understood = versionWith(0)
/** A probe, or the answer to one. */
const there = versionWith(16)
const keepAlive = { interval: "10 seconds", timeout: "5 seconds" } as const

describe("a client that is slow to take a large answer, and says nothing meanwhile", () => {
  const make = MethodKey.make(component, "make")

  /** A client that has asked for so many bytes, and takes only what it is told to. */
  const downloading = Effect.fnUntraced(function*(network: Network, size: number, options?: Server.ServerOptions) {
    const { endpoint } = yield* network.serve(
      HandlerMap.set(handlers, component, "make", () => Effect.succeed(new Uint8Array(size))),
      { keepAlive, ...options }
    )
    const socket: Duplex = yield* endpoint.dial
    socket.on("error", () => {})
    socket.write(Buffer.concat([understood, request(1, make, nothing)]))
    let taken = 0
    let enough = 0
    /** Takes so many bytes more, and maybe a few of those behind them. */
    const take = Effect.fnUntraced(function*(bytes: number) {
      enough += bytes
      yield* until(() => {
        for (let chunk: Buffer | null; taken < enough && (chunk = socket.read()) !== null;) taken += chunk.length
        return taken >= enough || socket.closed
      })
      assert.equal(socket.closed, false)
    })
    yield* settle
    /** What it has yet to take of our version and the answer. */
    const left = () => 24 + 16 + size - enough
    return { left, socket, take }
  })

  for (const [what, limit] of [["", {}], [", also where nothing is read from it", { maxUnsentBytes: 1000 }]] as const) {
    it.effect(`is alive as long as it takes some of it${what}`, () =>
      Effect.gen(function*() {
        const { left, socket, take } = yield* downloading(memory, 8 * mebibyte, { ...limit })
        while (left() > 0) {
          yield* TestClock.adjust("20 seconds")
          yield* take(Math.min(mebibyte, left()))
        }
        // Nothing has been lost, and it is alive.
        yield* TestClock.adjust("10 seconds")
        socket.write(there)
        yield* settle
        yield* TestClock.adjust("14 seconds")
        assert.equal(socket.closed, false)
      }).pipe(Effect.scoped))
  }

  eachNetwork((network) => {
    it.effect("is alive also while all of it is with the system, which says no more of it", () =>
      Effect.gen(function*() {
        // More than is thought to be nothing, and no more than the system takes.
        const { left, socket, take } = yield* downloading(network, 131_072, { messageTimeout: "1 minute" })
        for (let i = 0; i < 4; i++) {
          yield* TestClock.adjust("15 seconds")
          yield* settle
        }
        yield* take(left())
        socket.write(there)
        yield* take(there.length)
        // It has said that it is there, and has the whole time again.
        yield* settle
        yield* TestClock.adjust("14 seconds")
        yield* settle
        assert.equal(socket.closed, false)
      }).pipe(Effect.scoped))

    it.effect("is alive also where it has said something while the system had yet to be given the most of it", () =>
      Effect.gen(function*() {
        const size = 16 * mebibyte
        const { left, socket, take } = yield* downloading(network, size, {
          messageTimeout: "1 minute",
          maxUnsentBytes: 2 * size
        })
        socket.write(there)
        yield* settle
        yield* take(size - 131_072)
        yield* settle
        for (let i = 0; i < 3; i++) {
          yield* TestClock.adjust("15 seconds")
          yield* settle
        }
        // The answer to what it has said, and the question.
        yield* take(left() + 2 * there.length)
        socket.write(there)
        yield* settle
        yield* TestClock.adjust("14 seconds")
        yield* settle
        assert.equal(socket.closed, false)
      }).pipe(Effect.scoped))

    it.effect("is given up where it takes longer for it than any message may take", () =>
      Effect.gen(function*() {
        const { socket } = yield* downloading(network, 131_072, { messageTimeout: "1 minute" })
        yield* TestClock.adjust("10 seconds")
        yield* TestClock.adjust("1 minute")
        socket.resume()
        yield* until(() => socket.closed)
      }).pipe(Effect.scoped))
  }, [tcp, unix, mtlsOverTcp])
})

/**
 * A client in a thread of its own, which goes on while this one stands still. It says that it is there whenever it
 * hears something.
 */
const answeringThread = (port: number, answered: Int32Array) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const code = `
        const net = require("node:net")
        const { workerData: { port, understood, there, answered } } = require("node:worker_threads")
        const socket = net.connect({ host: "127.0.0.1", port, noDelay: true })
        socket.on("error", () => {})
        // The first message is no question, and may come together with one.
        let received = 0
        let heard = 1
        socket.on("data", ({ length }) => {
          received += length
          for (; heard < Math.floor(received / there.length); heard++) socket.write(there, () => Atomics.add(answered, 0, 1))
        })
        socket.write(understood)`
      return new Worker(code, { eval: true, workerData: { port, understood, there, answered } })
    }),
    (worker) => Effect.promise(() => worker.terminate())
  )

// Five times 100 ms.
it.live("no client is given up because this process has stood still, with the answer in the kernel", () =>
  Effect.gen(function*() {
    const answered = new Int32Array(new SharedArrayBuffer(4))
    let stalls = 0
    const stall = () => {
      const begun = performance.now()
      // Nothing is read meanwhile, and the client's time is over by then.
      const stalled = () => performance.now() - begun
      while (stalled() < 100 || (Atomics.load(answered, 0) <= stalls && stalled() < 20_000));
      stalls++
    }
    let ended = false
    const listener = yield* Listener.tcp("127.0.0.1:0", handlers)
    const stalling: Listener.Listener = {
      ...listener,
      accept: Effect.map(listener.accept, (accepted) => {
        const { connection } = accepted
        const write = connection.write.bind(connection)
        connection.write = (bytes: unknown, ...rest: ReadonlyArray<unknown>) => {
          // Its time is measured by then, and timers come next, before what can be read.
          if (bytes instanceof Uint8Array && there.equals(bytes) && stalls < 5) setTimeout(() => setImmediate(stall), 1)
          const wrote: boolean = Reflect.apply(write, undefined, [bytes, ...rest])
          return wrote
        }
        connection.once("close", () => ended = true)
        return accepted
      })
    }
    yield* Effect.forkScoped(Server.serve(stalling, { keepAlive: { interval: 20, timeout: 50 }, shutdownGrace: 0 }))
    yield* answeringThread(Number(listener.address.split(":").at(-1)), answered)
    yield* until(() => stalls === 5 || ended)
    yield* settle
    assert.deepEqual([stalls, ended], [5, false])
  }).pipe(Effect.scoped))
