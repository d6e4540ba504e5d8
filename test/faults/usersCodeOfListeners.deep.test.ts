/**
 * Listeners and accepted connections that are not what their types say: the place × how it misbehaves → what is harmed,
 * which is one connection at most.
 */
import { describe, it } from "@effect/vitest"
import { Cause, Deferred, Effect, Exit, Fiber } from "effect"
import { Endpoint, HandlerMap, Listener, MethodKey, Server } from "effect-call"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { EventEmitter } from "node:events"
import { type Duplex, duplexPair } from "node:stream"
import { makeLog } from "../support/log.ts"
import { component, connect, handlers } from "../support/networks.ts"
import { request, version } from "../support/raw.ts"
import { areOf, boom, errorsIn, hostile, inLog, rejected, throwing, unharmed, works, wrong } from "./usersCode.ts"
import { own, pairs } from "./usersListenersSupport.ts"

describe("a listener whose accept", () => {
  const given: Readonly<Record<string, () => unknown>> = {
    "gives undefined": () => undefined,
    "gives a text": () => "connection",
    "gives no connection": () => ({ handlers }),
    "gives a connection that is no Duplex": () => ({ connection: new EventEmitter(), handlers }),
    "gives a Duplex that lacks a method": () => ({
      connection: Object.assign(duplexPair()[0], { cork: undefined }),
      handlers
    }),
    "gives a promise of a connection": () => ({ connection: rejected(), handlers }),
    "gives a rejected promise": rejected,
    "gives what is hostile": () => hostile,
    "gives no handlers": () => ({ connection: duplexPair()[0] }),
    "gives handlers of the wrong type": () => ({ connection: duplexPair()[0], handlers: "handlers" }),
    "gives handlers that are hostile": () => ({ connection: duplexPair()[0], handlers: hostile }),
    "gives entries that are none": () => ({ connection: duplexPair()[0], handlers: { entries: new Map([["a", 1]]) } }),
    "gives a connection that was destroyed": () => ({ connection: duplexPair()[0].destroy(), handlers })
  }
  for (const [name, give] of Object.entries(given)) {
    it.live(`${name}: the next connection is served`, () =>
      inLog((log) =>
        Effect.gen(function*() {
          const { endpoint, listener, offer } = yield* own()
          yield* Effect.forkScoped(Server.serve(listener, { shutdownGrace: 0 }))
          offer(give)
          yield* works(yield* connect([endpoint]))
          if (name.endsWith("destroyed")) return
          areOf(errorsIn(log.lines), /accepted something that is not a connection|cannot be served/)
        })
      ))
  }

  it.live("gives a connection without handlers: that is closed", () =>
    inLog(() =>
      Effect.gen(function*() {
        const { listener, offer } = yield* own()
        yield* Effect.forkScoped(Server.serve(listener))
        const [client, connection] = duplexPair()
        client.resume()
        offer(() => ({ connection, handlers: undefined }))
        yield* Effect.callback<void>((resume) => void connection.once("close", () => resume(Effect.void)))
      })
    ))

  it.live("gives the same connection twice: it is served once, and goes on", () =>
    inLog((log) =>
      Effect.gen(function*() {
        const { listener, offer } = yield* own()
        yield* Effect.forkScoped(Server.serve(listener, { shutdownGrace: 0 }))
        const connection = yield* connect([
          pairs((connection) => {
            offer(() => ({ connection, handlers }))
            offer(() => ({ connection, handlers }))
          })
        ])
        yield* works(connection)
        yield* log.until(1)
        yield* works(connection)
        areOf(errorsIn(log.lines), /the connection is served already, expected each one once/)
      })
    ))

  it.live("goes on with what is no effect: the server ends, and closes the listener and its connections", () =>
    inLog(() =>
      Effect.gen(function*() {
        const ends = yield* Deferred.make<void>()
        const { closed, endpoint, listener } = yield* own()
        let accepted = 0
        const accept = Effect.suspend(() =>
          accepted++ === 0
            ? listener.accept
            : Effect.flatMap(Deferred.await(ends), () => wrong<Effect.Effect<never>>(undefined))
        )
        const serving = yield* Effect.forkScoped(Server.serve({ ...listener, accept }, { shutdownGrace: 0 }))
        const connection = yield* connect([endpoint])
        yield* works(connection)
        yield* Deferred.succeed(ends, undefined)
        const exit = yield* Fiber.await(serving)
        assert.ok(Exit.isFailure(exit) && Cause.hasDies(exit.cause))
        assert.equal(closed(), 1)
      })
    ))

  const broken: Readonly<Record<string, PropertyDescriptor>> = {
    "is a getter that throws": { get: boom },
    "is undefined": { value: undefined },
    "is a function": { value: () => Effect.never },
    "is a rejected promise": { get: rejected },
    "throws": { value: Effect.sync(boom) },
    "dies": { value: Effect.die(new Error("boom")) },
    "dies later": { value: Effect.andThen(Effect.yieldNow, Effect.die(new Error("boom"))) },
    "fails": { value: Effect.fail(new Listener.ListenerError({ message: "boom" })) }
  }
  for (const [name, descriptor] of Object.entries(broken)) {
    it.live(`${name}: the server ends and says so, and has closed its listener`, () =>
      inLog(() =>
        Effect.gen(function*() {
          const { closed, listener } = yield* own()
          Object.defineProperty(listener, "accept", descriptor)
          const exit = yield* Effect.exit(Server.serve(listener))
          assert.ok(Exit.isFailure(exit))
          assert.match(
            String(Cause.squash(exit.cause)),
            /boom|the accept of the listener pair:\/\/one: expected an Effect/
          )
          assert.equal(closed(), 1)
        })
      ))
  }

  it.live("never ends: the server is stopped anyway", () =>
    inLog(() =>
      Effect.gen(function*() {
        const { closed, listener } = yield* own({ accept: Effect.never })
        const serving = yield* Effect.forkScoped(Server.serve(listener), { startImmediately: true })
        yield* Fiber.interrupt(serving)
        assert.equal(closed(), 1)
      })
    ))
})

describe("a listener whose address", () => {
  const addresses: Readonly<Record<string, PropertyDescriptor>> = {
    "throws": { get: boom },
    "is undefined": { value: undefined },
    "is a number": { value: 7 }
  }
  for (const [name, descriptor] of Object.entries(addresses)) {
    it.live(`${name}: the server ends and says so, and has closed its listener`, () =>
      inLog(() =>
        Effect.gen(function*() {
          const { closed, listener } = yield* own()
          Object.defineProperty(listener, "address", descriptor)
          const exit = yield* Effect.exit(Server.serve(listener))
          assert.ok(Exit.isFailure(exit))
          assert.match(String(Cause.squash(exit.cause)), /boom|the address of a listener: expected a text/)
          assert.equal(closed(), 1)
        })
      ))
  }
})

describe("a listener whose close", () => {
  const closes: Readonly<Record<string, PropertyDescriptor>> = {
    "is a getter that throws": { get: boom },
    "is undefined": { value: undefined },
    "is a rejected promise": { get: rejected },
    "dies": { value: Effect.die(new Error("boom")) },
    "dies of what is hostile": { value: Effect.die(hostile) },
    "dies later": { value: Effect.andThen(Effect.yieldNow, Effect.sync(boom)) },
    "goes on with no effect": { value: Effect.flatMap(Effect.yieldNow, () => wrong<Effect.Effect<void>>(undefined)) }
  }
  for (const [name, descriptor] of Object.entries(closes)) {
    it.live(`${name}: the server's connections are closed, and the log says why`, () =>
      inLog((log) =>
        Effect.gen(function*() {
          const { endpoint, listener } = yield* own()
          Object.defineProperty(listener, "close", descriptor)
          const serving = yield* Effect.forkScoped(Server.serve(listener, { shutdownGrace: 0 }))
          const connection = yield* connect([endpoint])
          yield* works(connection)
          yield* Fiber.interrupt(serving)
          areOf(
            errorsIn(log.lines),
            /the listener could not be closed.*(boom|expected an Effect|valid effect|could not be read)/s
          )
        })
      ))
  }

  for (
    const [name, close] of [["never ends", Effect.never], [
      "never ends, and cannot be interrupted",
      Effect.uninterruptible(Effect.never)
    ]] as const
  ) {
    it.effect(`${name}: the server ends without it after ten seconds`, () => {
      const log = makeLog()
      return unharmed(
        Effect.gen(function*() {
          const { listener, offer } = yield* own({ close })
          const serving = yield* Effect.forkScoped(Server.serve(listener, { shutdownGrace: 0 }), {
            startImmediately: true
          })
          const [client, connection] = duplexPair()
          client.resume()
          offer(() => ({ connection, handlers }))
          yield* Effect.callback<void>((resume) => void client.once("data", () => resume(Effect.void)).write(version))
          const stopping = yield* Effect.forkScoped(Fiber.interrupt(serving), { startImmediately: true })
          yield* TestClock.adjust("9 seconds")
          assert.equal(stopping.pollUnsafe(), undefined)
          assert.equal(connection.destroyed, true)
          yield* TestClock.adjust("1 second")
          yield* Fiber.join(stopping)
          areOf(errorsIn(log.lines), /was not closed within 10 seconds/)
        }).pipe(Effect.scoped, Effect.provide(log.layer))
      )
    })
  }
})

/** A Duplex that a test overrides; what is written to it goes to the other end of a pair. */
const overridden = (members: PropertyDescriptorMap): { readonly client: Duplex; readonly connection: Duplex } => {
  const [client, connection] = duplexPair()
  client.on("error", () => {})
  Object.defineProperties(connection, members)
  return { client, connection }
}

describe("a connection whose", () => {
  const large = 3_000_000
  /**
   * What the client does after it has said its version. `waits`: it does not read, so that the server has to wait for
   * room.
   */
  interface Row {
    readonly members: PropertyDescriptorMap
    readonly waits?: boolean
    readonly maxUnsentBytes?: number
    /** Whether the log tells of an error: not where Node itself makes it one of the connection's. */
    readonly isDefect?: boolean
    readonly emits?: (connection: Duplex) => void
  }
  const method = (value: () => unknown): PropertyDescriptor => ({ value, configurable: true, writable: true })
  const rows: Readonly<Record<string, Row>> = {
    "write throws": { members: { write: method(boom) } },
    "write throws what is no error": {
      members: {
        write: method(throwing(undefined))
      }
    },
    "cork throws": { members: { cork: method(boom) } },
    "pause throws": { members: { pause: method(boom) }, waits: true },
    "resume throws": { members: { resume: method(boom) }, isDefect: false },
    "end throws": { members: { end: method(boom) }, isDefect: false },
    "destroy throws": { members: { destroy: method(boom) }, isDefect: false },
    "on throws": { members: { on: method(boom) } },
    "on throws what is hostile": { members: { on: method(throwing(hostile)) } },
    "off throws": { members: { off: method(boom) }, isDefect: false },
    "writableLength throws": { members: { writableLength: { get: boom } }, waits: true, maxUnsentBytes: 100_000_000 },
    "writableNeedDrain throws": { members: { writableNeedDrain: { get: boom } }, waits: true },
    "destroyed throws": { members: { destroyed: { get: boom } } },
    "readableEnded throws": { members: { readableEnded: { get: boom } } },
    "remoteAddress throws": { members: { remoteAddress: { get: boom } }, isDefect: false },
    "data is a text": { members: {}, emits: (connection) => void connection.emit("data", "text") },
    "data is undefined": { members: {}, emits: (connection) => void connection.emit("data", undefined) },
    "data is hostile": { members: {}, emits: (connection) => void connection.emit("data", hostile) },
    "data is a Float64Array": { members: {}, emits: (connection) => void connection.emit("data", new Float64Array(3)) },
    "error is no error": { members: {}, isDefect: false, emits: (connection) => void connection.emit("error", "boom") },
    "error is hostile": { members: {}, isDefect: false, emits: (connection) => void connection.emit("error", hostile) },
    "error comes after its close": {
      members: {},
      isDefect: false,
      emits: (connection) => {
        connection.emit("close")
        connection.emit("error", new Error("boom"))
      }
    },
    "write calls back twice": {
      members: {
        _write: method(wrong<() => unknown>((_chunk: unknown, _encoding: unknown, callback: () => void) => {
          callback()
          callback()
        }))
      },
      isDefect: false
    },
    "write never calls back": { members: { _write: method(() => {}) }, isDefect: false, waits: true }
  }

  for (
    const [name, { isDefect = true, maxUnsentBytes = 1000, emits, members, waits = false }] of Object.entries(rows)
  ) {
    for (const how of ["accepted", "served on"] as const) {
      it.live(`${name}, ${how}: it costs that connection, and no other`, () =>
        inLog((log) =>
          Effect.gen(function*() {
            const { client, connection } = overridden(members)
            const served = HandlerMap.set(handlers, component, "large", () => Effect.succeed(new Uint8Array(large)))
            const { endpoint, listener, offer } = yield* own()
            const options = { shutdownGrace: 0, maxUnsentBytes }
            const serve: Effect.Effect<unknown, unknown> = how === "accepted"
              ? Server.serve(listener, options)
              : Server.serveOn(connection, served, options)
            const serving = yield* Effect.forkScoped(Effect.exit(serve), { startImmediately: true })
            if (how === "accepted") offer(() => ({ connection, handlers: served }))
            client.write(version)
            for (let id = 1; id <= 3; id++) {
              client.write(request(id, MethodKey.make(component, "large"), new Uint8Array()))
            }
            if (!waits) client.resume()
            yield* Effect.callback<void>((resume) => {
              setImmediate(() => setImmediate(() => setImmediate(() => resume(Effect.void))))
            })
            yield* Effect.sync(() => emits?.(connection))
            if (how === "accepted") yield* works(yield* connect([endpoint]))
            // It ends: nothing waits for a connection that is broken.
            yield* Fiber.interrupt(serving)
            const exit = yield* Fiber.await(serving)
            // The fiber that serves one connection gets the defect that keeps it from being served.
            const died = Exit.isSuccess(exit) && Exit.isFailure(exit.value) && Cause.hasDies(exit.value.cause)
            if (isDefect && !died) areOf(errorsIn(log.lines), /a connection was lost: it is broken|cannot be served/)
          })
        ))
    }
  }

  it.live("write calls back twice and is a socket's: its bytes are not mixed with another connection's", () =>
    inLog(() =>
      Effect.gen(function*() {
        const listener = yield* Listener.tcp("127.0.0.1:0", handlers)
        const accept = Effect.map(listener.accept, (accepted) => {
          const { connection } = accepted
          const write = connection.write.bind(connection) as (chunk: Uint8Array, callback: () => void) => boolean
          Object.assign(connection, {
            write: (chunk: Uint8Array, callback: () => void = () => {}) => {
              const done = write(chunk, () => {
                callback()
                callback()
              })
              callback()
              return done
            }
          })
          return accepted
        })
        yield* Effect.forkScoped(Server.serve({ ...listener, accept }, { shutdownGrace: 0 }))
        const endpoint = yield* Endpoint.parse(listener.address)
        const connections = yield* Effect.all([connect([endpoint]), connect([endpoint]), connect([endpoint])])
        yield* Effect.forEach(
          Array.from({ length: 300 }, (_, i) => i),
          (i) => works(connections[i % 3]!, `text ${i}`),
          { concurrency: "unbounded" }
        )
      })
    ))
})

describe("a socket whose remoteAddress throws", () => {
  it.live("is served, also in a span", () =>
    inLog(() =>
      Effect.gen(function*() {
        const listener = yield* Listener.tcp("127.0.0.1:0", handlers)
        const accept = Effect.map(listener.accept, (accepted) => {
          Object.defineProperty(accepted.connection, "remoteAddress", { get: boom })
          return accepted
        })
        yield* Effect.forkScoped(Server.serve({ ...listener, accept }, { shutdownGrace: 0 }))
        const connection = yield* connect([yield* Endpoint.parse(listener.address)])
        yield* Effect.withSpan(works(connection), "caller")
      })
    ))
})
