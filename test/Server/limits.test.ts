/**
 * How many calls a server runs and lets wait, in all and of one connection: each limit as it is reached, and one call
 * past it.
 */
import { describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Scope } from "effect"
import { type CallError, type Connection, HandlerMap, MethodKey, type Server } from "effect-call"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { elapse, settle, until } from "../Connection/support.ts"
import * as Networks from "../support/networks.ts"
import { cancel, messagesOf, rawClient, request, version } from "../support/raw.ts"

const { bytesOf, component, connect, textOf } = Networks
const work = MethodKey.make(component, "work")

/** A server whose calls work until they are told to end, by their names. */
const open = Effect.fnUntraced(function*(network: Networks.Network, options: Server.ServerOptions) {
  const started: Array<string> = []
  const interrupted: Array<string> = []
  const gates = new Map<string, Deferred.Deferred<void>>()
  let ended = 0
  let all = 0
  const handlers = HandlerMap.set(Networks.handlers, component, "work", (args) => {
    const name = textOf(args)
    const gate = Deferred.makeUnsafe<void>()
    gates.set(name, gate)
    started.push(name)
    all++
    return Effect.as(Deferred.await(gate), args).pipe(
      Effect.onInterrupt(() => Effect.sync(() => interrupted.push(name))),
      Effect.ensuring(Effect.sync(() => ended++))
    )
  })
  const { endpoint } = yield* network.serve(handlers, options)
  const end = (name: string) => Effect.suspend(() => Deferred.succeed(gates.get(name)!, undefined))
  /** Waits until exactly these have been started, in whatever order. */
  const running = (...names: ReadonlyArray<string>) =>
    until(() => started.length >= names.length).pipe(
      Effect.map(() => assert.deepEqual([...started].sort(), [...names].sort()))
    )
  /** Waits until none is left. */
  const over = until(() => ended === all)
  return { endpoint, started, interrupted, end, running, over }
})

/** Makes a call in a fiber of its own. */
const call = (connection: Connection.Connection, name: string, options?: Connection.CallOptions) =>
  Effect.forkChild(Effect.map(connection.call(work, bytesOf(name), options), textOf), { startImmediately: true })

const isOverloaded = (error: CallError.CallError) => {
  assert.ok(error._tag === "RemoteError", error.message)
  assert.ok(error.isOverloaded, error.message)
  assert.equal(error.message, "overloaded")
}

/** The call is refused at once: no other call has ended. */
const refused = (connection: Connection.Connection, name: string) =>
  Effect.map(Effect.flip(connection.call(work, bytesOf(name))), isOverloaded)

/** What was sent before it has been read by the server, and its turn has come. */
const passed = (connection: Connection.Connection) =>
  Effect.andThen(Effect.exit(connection.call(MethodKey.make("no", "such"), bytesOf(""))), settle)

describe("at the limit, and one call past it", () => {
  Networks.eachNetwork((network) => {
    it.live("maxConcurrentCalls: that many run, and the next call is refused where none may wait, from the same connection or another", () =>
      Effect.gen(function*() {
        const { end, endpoint, running, started } = yield* open(network, { maxConcurrentCalls: 3, maxQueuedCalls: 0 })
        const [a, b] = [yield* connect([endpoint]), yield* connect([endpoint])]
        const calls = [yield* call(a, "1"), yield* call(a, "2"), yield* call(b, "3")]
        yield* running("1", "2", "3")
        yield* refused(a, "4")
        yield* refused(b, "5")
        yield* end("2")
        yield* Fiber.join(calls[1]!)
        // There is room for one again.
        const sixth = yield* call(b, "6")
        yield* running("1", "2", "3", "6")
        yield* refused(a, "7")
        for (const name of ["1", "3", "6"]) yield* end(name)
        assert.deepEqual(yield* Fiber.joinAll([...calls, sixth]), ["1", "2", "3", "6"])
        assert.deepEqual([...started].sort(), ["1", "2", "3", "6"])
      }).pipe(Effect.scoped))

    it.live("maxQueuedCalls: they wait and have their turn, and the one past them is refused and never executed", () =>
      Effect.gen(function*() {
        const { end, endpoint, running, started } = yield* open(network, { maxConcurrentCalls: 2, maxQueuedCalls: 3 })
        const connection = yield* connect([endpoint])
        const names = ["1", "2", "3", "4", "5"]
        const calls = yield* Effect.forEach(names, (name) => call(connection, name))
        yield* refused(connection, "6")
        yield* running("1", "2")
        for (const [i, name] of names.entries()) {
          yield* running(...names.slice(0, i + 2))
          yield* end(name)
          assert.equal(yield* Fiber.join(calls[i]!), name)
        }
        assert.deepEqual(started, names)
      }).pipe(Effect.scoped))

    it.live("maxConcurrentCallsPerConnection: its further calls wait for its own, and others' run meanwhile", () =>
      Effect.gen(function*() {
        const { end, endpoint, running } = yield* open(network, {
          maxConcurrentCalls: 5,
          maxConcurrentCallsPerConnection: 2
        })
        const [a, b] = [yield* connect([endpoint]), yield* connect([endpoint])]
        yield* Effect.forEach(["a1", "a2", "a3", "a4"], (name) => call(a, name))
        yield* passed(a)
        yield* running("a1", "a2")
        yield* Effect.forEach(["b1", "b2"], (name) => call(b, name))
        yield* running("a1", "a2", "b1", "b2")
        yield* end("b1")
        yield* passed(b)
        yield* running("a1", "a2", "b1", "b2")
        yield* end("a2")
        yield* running("a1", "a2", "a3", "b1", "b2")
      }).pipe(Effect.scoped))

    it.live("maxQueuedCallsPerConnection: they wait, the one past them is refused, and another connection has places of its own", () =>
      Effect.gen(function*() {
        const { end, endpoint, running, started } = yield* open(network, {
          maxConcurrentCallsPerConnection: 1,
          maxQueuedCallsPerConnection: 2
        })
        const [a, b] = [yield* connect([endpoint]), yield* connect([endpoint])]
        const calls = yield* Effect.forEach(["a1", "a2", "a3"], (name) => call(a, name))
        yield* refused(a, "a4")
        yield* Effect.forEach(["b1", "b2", "b3"], (name) => call(b, name))
        yield* refused(b, "b4")
        yield* running("a1", "b1")
        for (const [i, name] of ["a1", "a2", "a3"].entries()) {
          yield* until(() => started.includes(name))
          yield* end(name)
          assert.equal(yield* Fiber.join(calls[i]!), name)
        }
        yield* running("a1", "b1", "a2", "a3")
      }).pipe(Effect.scoped))
  }, [Networks.tcp, Networks.mtlsOverTcp, Networks.memory])
})

describe("while as many calls run and wait as may", () => {
  /** Two run and two wait, all of one plain connection; nothing more is taken. */
  const full = Effect.fnUntraced(function*(network: Networks.Network) {
    const made = yield* open(network, { maxConcurrentCalls: 2, maxQueuedCalls: 2 })
    const client = yield* rawClient(made.endpoint)
    const ask = (id: number) => request(id, work, bytesOf(String(id)))
    client.write(Buffer.concat([version, ask(1), ask(2), ask(3), ask(4), ask(5)]))
    /** The messages after the version, when there are so many. */
    const answers = (count: number) =>
      Effect.map(client.until((bytes) => messagesOf(bytes).length > count), (bytes) => messagesOf(bytes).slice(1))
    const [first] = yield* answers(1)
    assert.match(String(first!.payload), /overloaded/)
    assert.equal(first!.id, 5)
    return { ...made, client, ask, answers }
  })

  Networks.eachNetwork((network) => {
    it.live("a cancelled call that waits frees its place, and is never executed", () =>
      Effect.gen(function*() {
        const { answers, ask, client, end, started } = yield* full(network)
        client.write(Buffer.concat([cancel(3), ask(6), ask(7)]))
        const [, canceled, refused] = yield* answers(3)
        assert.deepEqual([canceled!.id, refused!.id], [3, 7])
        assert.match(String(canceled!.payload), /context canceled/)
        assert.match(String(refused!.payload), /overloaded/)
        for (const name of ["1", "2", "4", "6"]) {
          yield* until(() => started.includes(name))
          yield* end(name)
        }
        yield* answers(7)
        assert.deepEqual(started, ["1", "2", "4", "6"])
      }).pipe(Effect.scoped))

    it.live("a cancelled call that runs is interrupted, and the next one starts", () =>
      Effect.gen(function*() {
        const { answers, client, interrupted, running } = yield* full(network)
        client.write(cancel(1))
        yield* running("1", "2", "3")
        assert.deepEqual(interrupted, ["1"])
        const [, canceled] = yield* answers(2)
        assert.equal(canceled!.id, 1)
      }).pipe(Effect.scoped))

    it.live("versions are answered, unknown methods and late deadlines told, and so is what is refused", () =>
      Effect.gen(function*() {
        const { answers, ask, client, endpoint } = yield* full(network)
        client.write(Buffer.concat([
          version,
          request(6, MethodKey.make("no", "such"), bytesOf("")),
          request(7, work, bytesOf("7"), -1),
          ask(8)
        ]))
        const [, probe, unknown, late, refused] = yield* answers(5)
        assert.deepEqual([probe!.id, probe!.type], [0, 0])
        assert.match(String(unknown!.payload), /unknown function/)
        assert.match(String(late!.payload), /context deadline exceeded/)
        assert.match(String(refused!.payload), /overloaded/)
        // And a new client is heard.
        const other = yield* rawClient(endpoint)
        other.write(version)
        yield* other.until((bytes) => messagesOf(bytes).length === 1)
      }).pipe(Effect.scoped))

    it.live("one of a connection that has several waiting is refused in place of another's first one", () =>
      Effect.gen(function*() {
        const { answers, end, endpoint, running } = yield* full(network)
        const connection = yield* connect([endpoint])
        const calling = yield* call(connection, "other")
        const [, displaced] = yield* answers(2)
        assert.match(String(displaced!.payload), /overloaded/)
        assert.equal(displaced!.id, 3)
        // Each has one that waits, and neither can have another.
        yield* refused(connection, "another")
        yield* end("1")
        yield* end("2")
        yield* running("1", "2", "4", "other")
        yield* end("other")
        assert.equal(yield* Fiber.join(calling), "other")
      }).pipe(Effect.scoped))
  }, [Networks.tcp, Networks.mtlsOverTcp, Networks.memory])

  it.live("a connection that is lost gives up all of its places, to run and to wait", () =>
    Effect.gen(function*() {
      const { endpoint, interrupted, running, started } = yield* open(Networks.tcp, {
        maxConcurrentCalls: 2,
        maxQueuedCalls: 2
      })
      const scope = yield* Scope.make()
      const lost = yield* Scope.provide(connect([endpoint]), scope)
      yield* Effect.forEach(
        ["1", "2", "3", "4"],
        (name) => Effect.forkChild(Effect.exit(lost.call(work, bytesOf(name))))
      )
      yield* running("1", "2")
      yield* Scope.close(scope, Exit.void)
      yield* until(() => interrupted.length === 2)
      const connection = yield* connect([endpoint])
      yield* Effect.forEach(["5", "6", "7", "8"], (name) => call(connection, name))
      yield* refused(connection, "9")
      assert.deepEqual(started.slice(2), ["5", "6"])
    }).pipe(Effect.scoped))

  it.effect("calls that wait for longer than they have are answered with their deadline, never executed, and free their places", () =>
    Effect.gen(function*() {
      const { end, endpoint, running } = yield* open(Networks.memory, { maxConcurrentCalls: 1, maxQueuedCalls: 2 })
      const connection = yield* connect([endpoint])
      const first = yield* call(connection, "first")
      yield* settle
      const late = yield* Effect.forEach(
        ["2 seconds", "1 second"] as const,
        (timeout) =>
          Effect.forkChild(Effect.flip(connection.call(work, bytesOf(timeout), { timeout })), {
            startImmediately: true
          })
      )
      yield* settle
      yield* refused(connection, "past them")
      assert.equal(yield* elapse(late[1]!, 100), 1000)
      // One of the two is free, and then both.
      const second = yield* call(connection, "second")
      yield* settle
      yield* refused(connection, "past them")
      assert.equal(yield* elapse(late[0], 100), 1000)
      for (const fiber of late) assert.equal((yield* Fiber.join(fiber))._tag, "DeadlineExceeded")
      const third = yield* call(connection, "third")
      yield* settle
      yield* refused(connection, "past them")
      for (const name of ["first", "second", "third"]) {
        yield* settle
        yield* end(name)
      }
      yield* Fiber.joinAll([first, second, third])
      yield* running("first", "second", "third")
    }).pipe(Effect.scoped))

  it.effect("a handler that does not end keeps its place past its caller's deadline where it cannot be interrupted", () =>
    Effect.gen(function*() {
      const { endpoint } = yield* Networks.memory.serve(
        HandlerMap.set(
          Networks.handlers,
          component,
          "stubborn",
          (args) => Effect.uninterruptible(Effect.as(Effect.sleep("10 seconds"), args))
        ),
        { maxConcurrentCalls: 1, maxQueuedCalls: 0 }
      )
      const connection = yield* connect([endpoint])
      const stubborn = MethodKey.make(component, "stubborn")
      const calling = yield* Effect.forkChild(
        Effect.flip(connection.call(stubborn, bytesOf(""), { timeout: "1 second" })),
        { startImmediately: true }
      )
      yield* elapse(calling, 500)
      isOverloaded(yield* Effect.flip(connection.call(Networks.echo, bytesOf("past it"))))
      yield* TestClock.adjust("9 seconds")
      yield* settle
      assert.equal(textOf(yield* connection.call(Networks.echo, bytesOf("next"))), "next")
    }).pipe(Effect.scoped))
})

describe("when all calls have ended", () => {
  it.live("there is as much room as before: a thousand calls that end in every way leave nothing behind", () =>
    Effect.gen(function*() {
      const limits = {
        maxConcurrentCalls: 4,
        maxQueuedCalls: 6,
        maxConcurrentCallsPerConnection: 3,
        maxQueuedCallsPerConnection: 5
      }
      const { end, endpoint, interrupted, over, running, started } = yield* open(Networks.tcp, limits)
      const connections = yield* Effect.replicateEffect(connect([endpoint]), 3)
      for (let round = 0; round < 40; round++) {
        const fibers = yield* Effect.forEach(
          Array.from({ length: 25 }, (_, i) => i),
          (i) =>
            Effect.forkChild(
              Effect.exit(
                connections[i % 3]!.call(work, bytesOf(`${round}.${i}`), i % 4 === 0 ? { timeout: 1 + i / 10 } : {})
              ),
              { startImmediately: true }
            )
        )
        yield* passed(connections[round % 3]!)
        // Some end by themselves, the others are interrupted.
        for (const name of started.slice(-2)) yield* end(name)
        yield* Fiber.interruptAll(fibers)
      }
      assert.ok(interrupted.length > 0)
      // Whatever was cancelled is by now; calls whose time was up the server has to end by itself.
      for (const connection of connections) {
        yield* passed(connection)
        yield* over
      }
      started.length = 0
      const [a, b, c] = [connections[0]!, connections[1]!, connections[2]!]
      const names = ["a1", "a2", "a3", "a4", "a5", "a6", "a7", "a8"]
      const calls = yield* Effect.forEach(names, (name) => call(a, name))
      yield* refused(a, "a9")
      yield* Effect.forEach(["b1", "b2"], (name) => call(b, name))
      yield* passed(b)
      yield* running("a1", "a2", "a3", "b1")
      // With that, as many wait as may: this one does in place of another.
      yield* call(c, "c1")
      isOverloaded(yield* Effect.flip(Fiber.join(calls[3]!)))
      yield* running("a1", "a2", "a3", "b1")
    }).pipe(Effect.scoped))
})
