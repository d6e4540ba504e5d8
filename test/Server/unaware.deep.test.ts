/**
 * A server that stops under a client that is never quiet, and does not understand that the server goes away: towards
 * the end of the grace its answers are held, so that its callers, who wait for them, send no more.
 */
import { describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { HandlerMap, MethodKey, type Server } from "effect-call"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import * as net from "node:net"
import { settle, turn, until } from "../Connection/support.ts"
import { bytesOf, component, echo, mtlsOverTcp, mtlsOverUnix, type Network, tcp, unix } from "../support/networks.ts"
import {
  message,
  messagesOf,
  type Raw,
  rawClient,
  rawOf,
  receives,
  request,
  version,
  versionWith
} from "../support/raw.ts"
import { hold, stoppable } from "../support/stoppable.ts"

const answer = (id: number, text: string) => message(id, 2, bytesOf(text))
const isOpen = ({ socket }: Raw) => !socket.readableEnded && !socket.closed

/** A server that has begun to stop, with a grace of a minute, and a client of which a call runs. */
const stopping = Effect.fnUntraced(function*(options?: Server.ServerOptions) {
  const server = yield* stoppable(options)
  const raw = yield* rawClient(server.endpoint)
  raw.write(Buffer.concat([version, request(1, hold, bytesOf("runs"))]))
  yield* until(() => server.calls.running === 1)
  const stopped = yield* server.stop
  /** Sends a request that is answered at once, if it is served. */
  const ask = (id: number, text: string) => {
    raw.write(request(id, echo, bytesOf(text)))
    return settle
  }
  return { ...server, raw, stopped, ask }
})

describe("the answers to a client that does not understand", () => {
  it.effect("are held from the last second of the grace on, and come together, before the end, when its calls have ended", () =>
    Effect.gen(function*() {
      const { ask, calls, gate, raw, stopped } = yield* stopping()
      yield* TestClock.adjust(58_999)
      yield* ask(2, "at once")
      yield* receives(raw, version, answer(2, "at once"))
      yield* TestClock.adjust(1)
      yield* ask(3, "held")
      yield* TestClock.adjust(99)
      yield* ask(4, "held, too")
      assert.equal(calls.echoed, 3)
      yield* TestClock.adjust(1)
      // By now each of its callers waits for an answer.
      yield* ask(5, "comes too late")
      assert.equal(calls.echoed, 3)
      yield* receives(raw, version, answer(2, "at once"))
      yield* gate.open
      yield* raw.closed
      yield* receives(
        raw,
        version,
        answer(2, "at once"),
        answer(3, "held"),
        answer(4, "held, too"),
        answer(1, "runs")
      )
      yield* Fiber.join(stopped)
    }).pipe(Effect.scoped))

  it.effect("are held from half of a grace on that is shorter than two seconds", () =>
    Effect.gen(function*() {
      const { ask, gate, raw, stopped } = yield* stopping({ shutdownGrace: "1 second" })
      yield* TestClock.adjust(499)
      yield* ask(2, "at once")
      yield* receives(raw, version, answer(2, "at once"))
      yield* TestClock.adjust(1)
      yield* ask(3, "held")
      yield* receives(raw, version, answer(2, "at once"))
      yield* TestClock.adjust(100)
      yield* gate.open
      yield* raw.closed
      yield* receives(raw, version, answer(2, "at once"), answer(3, "held"), answer(1, "runs"))
      yield* Fiber.join(stopped)
    }).pipe(Effect.scoped))

  it.effect("are there also where other handlers outlast the grace: those are interrupted, and not answered", () =>
    Effect.gen(function*() {
      const { ask, calls, raw, stopped } = yield* stopping()
      yield* TestClock.adjust("59 seconds")
      yield* ask(2, "held")
      yield* TestClock.adjust(999)
      assert.deepEqual([calls.running, isOpen(raw)], [1, true])
      yield* TestClock.adjust(1)
      yield* raw.closed
      yield* receives(raw, version, answer(2, "held"))
      assert.equal(calls.interrupted, 1)
      yield* Fiber.join(stopped)
    }).pipe(Effect.scoped))

  it.effect("wait for no more than 100 ms where it has none that run", () =>
    Effect.gen(function*() {
      const { ask, gate, raw, stopped } = yield* stopping()
      yield* TestClock.adjust("59 seconds")
      yield* ask(2, "held")
      yield* gate.open
      yield* settle
      yield* TestClock.adjust(99)
      assert.equal(isOpen(raw), true)
      yield* receives(raw, version)
      yield* TestClock.adjust(1)
      yield* raw.closed
      yield* receives(raw, version, answer(2, "held"), answer(1, "runs"))
      yield* Fiber.join(stopped)
    }).pipe(Effect.scoped))

  it.effect("are not held where they are more than maxUnsentBytes", () =>
    Effect.gen(function*() {
      const { ask, calls, gate, raw, stopped } = yield* stopping({ maxUnsentBytes: 1000 })
      const large = "x".repeat(2000)
      yield* TestClock.adjust("59 seconds")
      yield* ask(2, "held")
      yield* ask(3, large)
      yield* receives(raw, version, answer(2, "held"), answer(3, large))
      // What follows is too much.
      yield* ask(4, "comes too late")
      yield* gate.open
      yield* raw.closed
      assert.equal(calls.echoed, 2)
      yield* receives(raw, version, answer(2, "held"), answer(3, large), answer(1, "runs"))
      yield* Fiber.join(stopped)
    }).pipe(Effect.scoped))

  /** What the client has got: the id of each message, and the size of its payload. */
  const taken = (raw: Raw) => messagesOf(raw.received()).map(({ id, payload }) => [id, payload.length])
  /** More than what is on its way in memory. */
  const large = "x".repeat(5_000_000)
  const slow = { maxUnsentBytes: 100_000, unsentTimeout: "1 hour" } as const

  it.effect("are held as soon as there is room for them, where it has taken none until then", () =>
    Effect.gen(function*() {
      const { ask, calls, gate, raw, stopped } = yield* stopping(slow)
      raw.socket.pause()
      yield* ask(2, large)
      yield* until(() => calls.echoed === 1)
      yield* TestClock.adjust("59 seconds")
      raw.socket.resume()
      yield* raw.until(({ length }) => length >= large.length)
      yield* ask(3, "held")
      yield* until(() => calls.echoed === 2)
      yield* TestClock.adjust(100)
      yield* ask(4, "comes too late")
      assert.deepEqual(taken(raw), [[0, 4], [2, large.length]])
      yield* gate.open
      yield* raw.closed
      assert.deepEqual(taken(raw), [[0, 4], [2, large.length], [3, 4], [1, 4]])
      assert.equal(calls.echoed, 2)
      yield* Fiber.join(stopped)
    }).pipe(Effect.scoped))

  it.effect("are there also where it has yet to take them when the grace is over", () =>
    Effect.gen(function*() {
      const { ask, calls, raw, stopped } = yield* stopping(slow)
      raw.socket.pause()
      yield* ask(2, large)
      yield* until(() => calls.echoed === 1)
      yield* TestClock.adjust("1 minute")
      assert.equal(calls.interrupted, 1)
      raw.socket.resume()
      yield* raw.closed
      assert.deepEqual(taken(raw), [[0, 4], [2, large.length]])
      yield* Fiber.join(stopped)
    }).pipe(Effect.scoped))

  it.effect("are no longer held when it says that it understands after all: it is told, and served", () =>
    Effect.gen(function*() {
      const { ask, gate, raw, stopped } = yield* stopping()
      const goingAway = versionWith(2)
      yield* TestClock.adjust("59 seconds")
      yield* ask(2, "held")
      raw.write(versionWith(0))
      yield* receives(raw, version, answer(2, "held"), goingAway)
      yield* TestClock.adjust(500)
      yield* ask(3, "at once")
      raw.write(versionWith(4))
      yield* receives(raw, version, answer(2, "held"), goingAway, answer(3, "at once"), goingAway)
      yield* gate.open
      yield* raw.closed
      yield* Fiber.join(stopped)
    }).pipe(Effect.scoped))
})

describe("a client that does not close its end", () => {
  it.effect("has half a second for it after the grace, in which what it sends is dropped", () =>
    Effect.gen(function*() {
      const { calls, endpoint, stop } = yield* stoppable({}, tcp.listen)
      const { hostname, port } = new URL(endpoint.address)
      const socket = net.connect({ host: hostname, port: Number(port), allowHalfOpen: true })
      yield* Effect.addFinalizer(() => Effect.sync(() => void socket.destroy()))
      const raw = rawOf(socket)
      raw.write(Buffer.concat([version, request(1, hold, bytesOf("runs"))]))
      yield* until(() => calls.running === 1)
      const stopped = yield* stop
      yield* TestClock.adjust("1 minute")
      yield* until(() => socket.readableEnded)
      assert.equal(calls.interrupted, 1)
      let id = 1
      for (let turns = 0; turns < 50; turns++) {
        raw.write(request(++id, echo, new Uint8Array(10_000)))
        yield* turn
      }
      yield* TestClock.adjust(499)
      assert.deepEqual([stopped.pollUnsafe(), socket.destroyed, calls.echoed], [undefined, false, 0])
      yield* TestClock.adjust(1)
      yield* Fiber.join(stopped)
    }).pipe(Effect.scoped))
})

/**
 * 16 callers of a client that is never quiet: each thinks for a moment, and makes its next call. What becomes of their
 * calls.
 */
const callers = (raw: Raw, key: MethodKey.MethodKey) => {
  const waiting = new Set<number>()
  let id = 0
  let answered = 0
  let unread = Buffer.alloc(0)
  const call = () => {
    if (raw.socket.readableEnded || raw.socket.destroyed) return
    waiting.add(++id)
    raw.write(request(id, key, bytesOf(String(id))))
  }
  raw.socket.on("data", (chunk: Buffer) => {
    unread = Buffer.concat([unread, chunk])
    for (const { id, payload } of messagesOf(unread)) {
      unread = unread.subarray(16 + payload.length)
      if (!waiting.delete(id)) continue
      answered++
      setImmediate(call)
    }
  })
  raw.write(version)
  for (let i = 0; i < 16; i++) call()
  return { waiting, answered: () => answered }
}

describe("a server that stops under 16 callers who are never quiet", () => {
  const networks: ReadonlyArray<Network> = [tcp, unix, mtlsOverTcp, mtlsOverUnix]
  for (const network of networks) {
    it.live(`answers every call that it has begun, and then ends the connection, over ${network.name}`, () =>
      Effect.gen(function*() {
        const begun = new Set<number>()
        const work = MethodKey.make(component, "work")
        const { endpoint, serving } = yield* network.serve(
          HandlerMap.set(HandlerMap.empty, component, "work", (args) =>
            Effect.suspend(() => {
              begun.add(Number(Buffer.from(args).toString()))
              return Effect.as(Effect.sleep(5 + 10 * Math.random()), args)
            })),
          // Time enough for what runs, also where this process stands still for a moment.
          { shutdownGrace: 800 }
        )
        const raw = yield* rawClient(endpoint)
        let error: unknown
        raw.socket.on("error", (given) => error = given)
        const { answered, waiting } = callers(raw, work)
        yield* until(() => answered() > 32)
        yield* Fiber.interrupt(serving)
        yield* raw.closed
        assert.deepEqual([[...waiting].filter((id) => begun.has(id)), error, raw.socket.readableEnded], [
          [],
          undefined,
          true
        ])
      }).pipe(Effect.scoped))
  }
})
