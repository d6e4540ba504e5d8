/** What the errors of calls say of the resolver. */
import { NodeFileSystem } from "@effect/platform-node"
import { describe, it } from "@effect/vitest"
import { Effect, Fiber, Queue, Schedule, Stream } from "effect"
import { Balancer, Connection, Endpoint, HandlerMap, Listener, Resolver } from "effect-call"
import { TestNetwork } from "effect-call/testing"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { linkSync, mkdirSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { temporaryDirectory } from "../support/networks.ts"
import { ask, askSlowly, settle, start, startInMemory, until } from "./support.ts"

const onNetwork = Effect.provide(TestNetwork.layer)

type Answer = Effect.Effect<Resolver.Resolution, Resolver.ResolverError>

/** A resolver that answers what a test says, whenever it is asked. */
const scripted = (first: Answer) => {
  const state = { answer: first }
  const resolver: Resolver.Resolver = { isConstant: false, resolve: () => Effect.suspend(() => state.answer) }
  return { state, resolver }
}

const answer = (
  endpoints: ReadonlyArray<Endpoint.Endpoint>,
  problem?: string,
  version = Resolver.version("1")
): Answer => Effect.succeed({ endpoints, version, problem })

const broken = (message: string): Answer => Effect.fail(new Resolver.ResolverError({ message }))

const unreachable = Effect.fnUntraced(function*(
  connection: Connection.Connection,
  options: Connection.CallOptions = {}
) {
  const error = yield* Effect.flip(ask(connection, options))
  assert.ok(error._tag === "Unreachable", error._tag)
  return error
})

const messageOf = (connection: Connection.Connection) => Effect.map(unreachable(connection), ({ message }) => message)

/** The first error of a call that is another than before: for resolvers of which a Connection hears by real events. */
const nextMessage = (connection: Connection.Connection, before: string) =>
  Effect.repeat(messageOf(connection), { until: (message) => message !== before, schedule: Schedule.spaced(5) })

describe("a call that has no endpoint", () => {
  it.effect("says why the resolver has none, with any balancer", () =>
    Effect.gen(function*() {
      const { resolver } = scripted(answer([], "\"cart\" is not in DNS (ENOTFOUND)"))
      const connection = yield* Connection.make(resolver)
      const error = yield* unreachable(connection)
      assert.equal(error.message, "no endpoints: \"cart\" is not in DNS (ENOTFOUND)")
      assert.deepEqual(error.attempts, [])
      for (const balancer of [yield* Balancer.sharded, yield* Balancer.leastPending]) {
        assert.equal((yield* unreachable(connection, { balancer, shardKey: 1n })).message, error.message)
      }
    }))

  it.effect("says no more where the resolver does not", () =>
    Effect.gen(function*() {
      const connection = yield* Connection.make(scripted(answer([])).resolver)
      assert.equal(yield* messageOf(connection), "no endpoints")
    }))

  it.effect("says why the resolver fails, until it is well again", () =>
    Effect.gen(function*() {
      const { resolver, state } = scripted(answer([], "the Service has no pods"))
      const connection = yield* Connection.make(resolver)
      state.answer = broken("the API is away")
      yield* TestClock.adjust("1 second")
      assert.equal(
        yield* messageOf(connection),
        "no endpoints: the Service has no pods; the resolver failed: the API is away"
      )
      state.answer = broken("the API says no")
      yield* TestClock.adjust("1 second")
      assert.match(yield* messageOf(connection), /; the resolver failed: the API says no$/)
      state.answer = answer([])
      yield* TestClock.adjust("1 second")
      assert.equal(yield* messageOf(connection), "no endpoints")
    }))

  for (
    const [how, fail] of [
      ["dies", () => Effect.die(new TypeError("x is not a function"))],
      ["throws", () => {
        throw new TypeError("x is not a function")
      }]
    ] satisfies ReadonlyArray<readonly [string, () => Answer]>
  ) {
    it.effect(`says why the resolver ${how}`, () =>
      Effect.gen(function*() {
        const { resolver, state } = scripted(answer([]))
        const connection = yield* Connection.make(resolver)
        state.answer = Effect.suspend(fail)
        yield* TestClock.adjust("1 second")
        assert.equal(yield* messageOf(connection), "no endpoints; the resolver failed: x is not a function")
      }))
  }

  it.effect("survives a problem that is no text", () =>
    Effect.gen(function*() {
      const problem = new Error("no such zone") as never
      const connection = yield* Connection.make(scripted(answer([], problem)).resolver)
      assert.equal(yield* messageOf(connection), "no endpoints: no such zone")
    }))

  it.effect("says it at its deadline, too, where it waits for one", () =>
    Effect.gen(function*() {
      const { resolver, state } = scripted(answer([], "the file does not exist yet"))
      const connection = yield* Connection.make(resolver)
      const call = yield* Effect.forkChild(
        Effect.flip(ask(connection, { waitForReady: true, timeout: "5 seconds" })),
        { startImmediately: true }
      )
      yield* TestClock.adjust("1 second")
      state.answer = broken("permission denied")
      yield* TestClock.adjust("4 seconds")
      const { _tag, message } = yield* Fiber.join(call)
      assert.equal(_tag, "DeadlineExceeded")
      assert.match(
        message,
        /in time; there are no endpoints: the file does not exist yet; the resolver failed: permission denied$/
      )
    }))
})

describe("a call whose endpoints cannot be reached", () => {
  it.effect("says that the resolver fails, or leaves some out: they may be old, or not all", () =>
    Effect.gen(function*() {
      const a = yield* startInMemory("a")
      yield* TestNetwork.fault("a", { dial: "refuse" })
      const { resolver, state } = scripted(answer([a.endpoint]))
      const connection = yield* Connection.make(resolver)
      const { attempts, message } = yield* unreachable(connection)
      assert.deepEqual(attempts.map(({ endpoint }) => endpoint), [a.endpoint.address])
      assert.doesNotMatch(message, /resolver/)

      state.answer = broken("DNS is away")
      yield* TestClock.adjust("1 second")
      const failing = yield* unreachable(connection)
      assert.equal(failing.message, `${message}; the resolver failed: DNS is away`)
      assert.deepEqual(failing.attempts, attempts)

      state.answer = answer([a.endpoint], "b is left out")
      yield* TestClock.adjust("1 second")
      assert.equal(yield* messageOf(connection), `${message}; b is left out`)
    }).pipe(onNetwork))

  it.effect("says what the resolver says now, also where nothing else has changed since another failed", () =>
    Effect.gen(function*() {
      const down: Endpoint.Endpoint = {
        address: "test://down",
        dial: Effect.fail(new Endpoint.DialError({ message: "it is down" }))
      }
      const { resolver, state } = scripted(answer([down]))
      const connection = yield* Connection.make(resolver, { backoff: { initial: "1 hour", max: "1 hour" } })
      const known = "unreachable: test://down: it is down"
      assert.equal(yield* messageOf(connection), known)
      assert.equal(yield* messageOf(connection), known)
      for (
        const [now, more] of [
          [broken("the API is away"), "; the resolver failed: the API is away"],
          [answer([down], "one is left out"), "; one is left out"],
          [answer([down]), ""]
        ] as const
      ) {
        state.answer = now
        yield* TestClock.adjust("2 seconds")
        for (let i = 0; i < 2; i++) assert.equal(yield* messageOf(connection), `${known}${more}`)
      }
    }))

  it.effect("says nothing of that where it was sent, and is not answered in time", () =>
    Effect.gen(function*() {
      const a = yield* startInMemory("a")
      const { resolver, state } = scripted(answer([a.endpoint]))
      const connection = yield* Connection.make(resolver)
      const call = yield* Effect.forkChild(Effect.flip(askSlowly(connection, { timeout: "1 minute" })), {
        startImmediately: true
      })
      yield* until(() => a.holding === 1)
      state.answer = answer([], "nothing is there", Resolver.version("2"))
      yield* TestClock.adjust("1 minute")
      assert.match((yield* Fiber.join(call)).message, /^deadline exceeded: no answer to \S+ in time$/)
    }).pipe(onNetwork))

  it.effect("says it at its deadline, too", () =>
    Effect.gen(function*() {
      const a = yield* startInMemory("a")
      yield* TestNetwork.fault("a", { dial: "refuse" })
      const { resolver, state } = scripted(answer([a.endpoint]))
      const connection = yield* Connection.make(resolver)
      state.answer = broken("DNS is away")
      yield* TestClock.adjust("1 second")
      const call = yield* Effect.forkChild(
        Effect.flip(ask(connection, { waitForReady: true, timeout: "1 second" })),
        { startImmediately: true }
      )
      yield* TestClock.adjust("1 second")
      assert.match((yield* Fiber.join(call)).message, /^deadline exceeded: .*; the resolver failed: DNS is away$/)
    }).pipe(onNetwork))
})

describe("another problem with the same endpoints", () => {
  it.effect("disturbs neither connections nor balancers", () =>
    Effect.gen(function*() {
      const a = yield* startInMemory("a")
      const { resolver, state } = scripted(answer([a.endpoint]))
      const inner = yield* Balancer.roundRobin
      let updates = 0
      const balancer: Balancer.Balancer = {
        update: (endpoints, views) => {
          updates++
          inner.update(endpoints, views)
        },
        pick: (options) => inner.pick(options)
      }
      const connection = yield* Connection.make(resolver, { balancer: Effect.succeed(balancer) })
      assert.equal(yield* ask(connection), "a")
      for (const problem of ["one is left out", "two are left out", undefined]) {
        state.answer = answer([a.endpoint], problem)
        yield* TestClock.adjust("2 seconds")
        assert.equal(yield* ask(connection), "a")
      }
      assert.deepEqual([updates, a.accepted], [1, 1])
    }).pipe(onNetwork))
})

describe("a Connection", () => {
  it.effect("to a constant resolver says that its filter has left nothing", () =>
    Effect.gen(function*() {
      const resolver = Resolver.filter(Resolver.constant(Endpoint.tcp("a:1"), Endpoint.tcp("b:1")), () => false)
      const error = yield* Effect.flip(Connection.make(resolver))
      assert.equal(error._tag, "Unreachable")
      assert.equal(
        error.message,
        "the resolver is constant and has no endpoints: 2 endpoints are left out by Resolver.filter"
      )
    }))

  it.effect("to filtered and mapped endpoints says what was wrong before the filter, too", () =>
    Effect.gen(function*() {
      const a = Endpoint.tcp("a:1")
      const { resolver, state } = scripted(answer([a], "b is left out"))
      const connection = yield* Connection.make(Resolver.map(Resolver.filter(resolver, () => false), (same) => same))
      assert.equal(
        yield* messageOf(connection),
        "no endpoints: 1 endpoint is left out by Resolver.filter; b is left out"
      )
      state.answer = answer([], "nothing is there", Resolver.version("2"))
      yield* TestClock.adjust("1 second")
      assert.equal(yield* messageOf(connection), "no endpoints: nothing is there")
    }))

  it.effect("to merged resolvers says what each of them does", () =>
    Effect.gen(function*() {
      const one = scripted(answer([], "one has nothing"))
      const other = scripted(answer([]))
      const merged = Resolver.merge(one.resolver, Resolver.constant(), other.resolver)
      const connection = yield* Connection.make(merged)
      assert.equal(yield* messageOf(connection), "no endpoints: one has nothing")
      other.state.answer = broken("the registry is away")
      yield* TestClock.adjust("1 second")
      assert.equal(
        yield* messageOf(connection),
        "no endpoints: one has nothing; a resolver of Resolver.merge failed: the registry is away"
      )
      one.state.answer = answer([], "one has less than nothing")
      other.state.answer = answer([])
      yield* TestClock.adjust("2 seconds")
      assert.equal(yield* messageOf(connection), "no endpoints: one has less than nothing")
    }))

  it.effect("to the endpoints of a stream says that it has failed, or ended with none", () =>
    Effect.gen(function*() {
      const queue = yield* Queue.unbounded<ReadonlyArray<Endpoint.Endpoint>, Error>()
      const failing = yield* Connection.make(
        yield* Effect.tap(Resolver.fromStream(Stream.fromQueue(queue)), () => Queue.offer(queue, []))
      )
      yield* Queue.fail(queue, new Error("the line is cut"))
      yield* settle
      assert.equal(
        yield* messageOf(failing),
        "no endpoints; the resolver failed: the stream of endpoints has failed: the line is cut"
      )
      const ended = yield* Connection.make(yield* Resolver.fromStream(Stream.make([])))
      yield* settle
      assert.equal(
        yield* messageOf(ended),
        "no endpoints: the stream of endpoints has ended, and its last element is empty"
      )
    }))

  it.live("to a file that does not exist says so, also after it could not be looked for", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const path = join(directory, "later", "ready")
      const way = join(directory, "later")
      const a = yield* start("a", (handlers) =>
        Effect.map(Listener.unix(join(directory, "a"), handlers), (listener) => ({
          listener,
          endpoint: Endpoint.unix(join(directory, "a"))
        })))
      const connection = yield* Connection.make(yield* Resolver.file(path, a.endpoint))
      const absent = `no endpoints: the file "${path}" does not exist yet`
      assert.equal(yield* messageOf(connection), absent)
      // Where a directory is to be is a file: so it cannot be checked whether the file exists.
      writeFileSync(way, "")
      const failing = yield* nextMessage(connection, absent)
      assert.ok(
        failing.startsWith(`${absent}; the resolver failed: cannot check whether the file "${path}" exists: `)
      )
      rmSync(way)
      assert.equal(yield* nextMessage(connection, failing), absent)
      mkdirSync(way)
      writeFileSync(path, "")
      assert.equal(yield* ask(connection, { waitForReady: true }), "a")
    }).pipe(Effect.provide(NodeFileSystem.layer)))

  it.live("to the sockets of a directory says that it does not exist, is empty, or that no server listens", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const path = join(directory, "cart")
      const connection = yield* Connection.make(yield* Resolver.directory(path, { interval: "20 millis" }))
      let message = yield* messageOf(connection)
      assert.equal(message, `no endpoints: the directory "${path}" does not exist`)
      mkdirSync(path)
      message = yield* nextMessage(connection, message)
      assert.equal(message, `no endpoints: there is no socket in the directory "${path}"`)
      // As when a server was killed: the file of its socket stays.
      const elsewhere = join(directory, "elsewhere")
      yield* Effect.scoped(
        Effect.andThen(
          Listener.unix(elsewhere, HandlerMap.empty),
          Effect.sync(() => linkSync(elsewhere, join(path, "killed")))
        )
      )
      message = yield* nextMessage(connection, message)
      assert.equal(message, `no endpoints: no server listens on the sockets in the directory "${path}"`)
      yield* start("a", (handlers) =>
        Effect.map(Listener.unix(join(path, "a"), handlers), (listener) => ({
          listener,
          endpoint: Endpoint.unix(join(path, "a"))
        })))
      assert.equal(yield* ask(connection, { waitForReady: true }), "a")
    }).pipe(Effect.provide(NodeFileSystem.layer)))
})
