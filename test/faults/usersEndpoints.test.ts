/**
 * Endpoints of users' own that go wrong, at first: the dial has failed, with a reason and a backoff as any that fails,
 * and the next one is made. Nothing of that harms another endpoint.
 */
import { describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Scope } from "effect"
import { Connection, Endpoint, Resolver } from "effect-call"
import * as assert from "node:assert/strict"
import * as net from "node:net"
import { Duplex, Readable } from "node:stream"
import { ask, start, startOn, turn, untilState } from "../Connection/support.ts"
import { memory, tcp } from "../support/networks.ts"
import {
  dies,
  failsWrong,
  makeReadableLog,
  never,
  succeedsWrong,
  unreadable,
  type Way,
  way,
  wrongAtFirst
} from "./misbehaving.ts"

/** A dial that ends by itself may take as long as it takes. */
const options = { dialTimeout: "1 hour", backoff: { initial: 1, max: 1 } } as const

/** The reason of one that never does. */
const tooLate = /within 150ms/

/** Such dials are made once more at once: they may have met a server that goes away. */
const cutShort = /closed the connection/

interface Row extends Way {
  /** What is said of it. */
  readonly reason: RegExp
}

const row = (reason: RegExp, { give, how }: Way): Row => ({ give, how, reason })

const destroyed = () => new Duplex({ read() {}, write: (_chunk, _encoding, done) => done() }).destroy()
const ended = () => {
  const duplex = new Duplex({ read() {}, write: (_chunk, _encoding, done) => done() })
  duplex.push(null)
  duplex.resume()
  return duplex
}
const finished = () => new Duplex({ read() {}, write: (_chunk, _encoding, done) => done() }).end()

const rows: ReadonlyArray<Row> = [
  ...dies.map((way) => row(/boom|expected an Effect|Not a valid effect|could not be read|was interrupted/, way)),
  ...failsWrong.map((way) => row(/undefined|boom|could not be read/, way)),
  ...succeedsWrong.map((way) => row(/expected a Duplex, got/, way)),
  row(/expected a Duplex, got/, way("succeeds with a Readable", () => Effect.sync(() => Readable.from([])))),
  row(
    /expected a Duplex, got/,
    way("succeeds with what throws when it is looked at", () =>
      Effect.succeed(
        new Proxy({}, {
          has() {
            throw new Error("boom")
          }
        })
      ))
  ),
  row(cutShort, way("succeeds with a Duplex that is destroyed", () => Effect.sync(destroyed))),
  row(cutShort, way("succeeds with a Duplex that has ended", () => Effect.sync(ended))),
  row(cutShort, way("succeeds with a Duplex that was finished", () => Effect.sync(finished))),
  row(tooLate, never),
  row(
    tooLate,
    way("succeeds with a Duplex that does nothing", () => Effect.sync(() => new Duplex({ read() {}, write() {} })))
  )
]

describe("the dial of an endpoint that", () => {
  for (const { give, how, reason } of rows) {
    for (const eager of [false, true]) {
      it.live(`${how} has failed, and the next one is made${eager ? ", by an eager Connection, too" : ""}`, () =>
        Effect.gen(function*() {
          const [a, other] = [yield* startOn(tcp)("a"), yield* startOn(tcp)("other")]
          const waits = reason === tooLate
          // Short, since each of these waits for it.
          const own = waits ? { ...options, dialTimeout: "150 millis", eager } as const : { ...options, eager }
          const wrongOnce = wrongAtFirst<Endpoint.Endpoint["dial"]>(give, () => a.endpoint.dial)
          const next = reason === cutShort ? wrongAtFirst(give, wrongOnce) : wrongOnce
          const endpoint: Endpoint.Endpoint = {
            address: a.endpoint.address,
            get dial() {
              return next()
            }
          }
          const failures: Array<string | undefined> = []
          const log = makeReadableLog()
          const connection = yield* Connection.make(Resolver.constant(endpoint), own).pipe(
            Effect.provide(log.layer)
          )
          if (!eager) {
            const error = yield* Effect.flip(ask(connection))
            assert.ok(error._tag === "Unreachable", error._tag)
            failures.push(error.attempts[0]!.message)
          }
          yield* log.until(1)
          assert.deepEqual(log.lines.map(({ message }) => message), ["an endpoint could not be dialed"])
          failures.push(String(log.lines[0]!.annotations["reason"]))
          for (const failure of failures) assert.match(failure!, reason)
          // An eager one is dialed without a call.
          if (eager) yield* untilState(connection, ({ endpoints }) => endpoints[0]!.state === "Active")
          assert.equal(yield* ask(connection, { waitForReady: true }), "a")
          assert.equal((yield* connection.state).endpoints[0]!.lastFailure, undefined)

          const wrong: Endpoint.Endpoint = {
            address: "user://1",
            get dial() {
              return give()
            }
          }
          const both = yield* Connection.make(Resolver.constant(wrong, other.endpoint), own).pipe(
            Effect.provide(log.layer)
          )
          // On a busy machine a good dial may be late, too.
          assert.equal(yield* ask(both, { waitForReady: waits }), "other")
        }))
    }
  }

  it.live("fails when it is read in passing is a failed dial anyway", () =>
    Effect.gen(function*() {
      const a = yield* startOn(tcp)("a")
      // By the key under which endpoints of this package are dialed.
      const next = wrongAtFirst(() => true, () => false)
      const endpoint = new Proxy(a.endpoint, {
        has(target, key) {
          if (next()) throw new Error("boom")
          return key in target
        }
      })
      const connection = yield* Connection.make(Resolver.constant(endpoint), options)
      assert.match((yield* Effect.flip(ask(connection))).message, /boom/)
      assert.equal(yield* ask(connection, { waitForReady: true }), "a")
    }))

  it.live("gives the same Duplex twice has failed the second time, and no call hears another's answer", () =>
    Effect.gen(function*() {
      const a = yield* startOn(tcp)("a")
      const scope = yield* Scope.make()
      const socket = yield* Scope.provide(a.endpoint.dial, scope)
      const dials: Array<Endpoint.Endpoint["dial"]> = [Effect.succeed(socket), Effect.succeed(socket)]
      const dial = Effect.suspend(() => dials.shift() ?? a.endpoint.dial)
      const [one, two] = [
        yield* Connection.make(Resolver.constant({ address: "user://1", dial }), options),
        yield* Connection.make(Resolver.constant({ address: "user://2", dial }), options)
      ]
      assert.equal(yield* ask(one), "a")
      assert.match((yield* Effect.flip(ask(two))).message, /expected a Duplex of its own/)
      assert.deepEqual([yield* ask(one), yield* ask(two, { waitForReady: true })], ["a", "a"])
      yield* Scope.close(scope, Exit.void)
    }))

  for (
    const [what, dirty] of [
      ["dies when it is to be cleaned up", Effect.die(new Error("boom"))],
      ["dies of what cannot be read when it is to be cleaned up", Effect.die(unreadable())],
      [
        "goes on with what is no effect when it is to be cleaned up",
        Effect.flatMap(turn, (): Effect.Effect<void> => undefined as never)
      ]
    ] as const
  ) {
    it.live(`${what} does not keep its endpoint from being dialed again, or the Connection from closing`, () =>
      Effect.gen(function*() {
        const a = yield* startOn(tcp)("a")
        const next = wrongAtFirst<Endpoint.Endpoint["dial"]>(
          () =>
            Effect.andThen(Effect.addFinalizer(() => dirty), Effect.fail(new Endpoint.DialError({ message: "no" }))),
          () => a.endpoint.dial
        )
        const log = makeReadableLog()
        const connection = yield* Connection.make(
          Resolver.constant({ address: a.endpoint.address, dial: Effect.suspend(next) }),
          options
        ).pipe(Effect.provide(log.layer))
        assert.match((yield* Effect.flip(ask(connection))).message, /: no$/)
        assert.equal(yield* ask(connection, { waitForReady: true }), "a")
        yield* connection.close
        const line = log.lines.find(({ message }) => message === "what a dial had opened could not be closed")
        assert.match(line!.cause, /boom|valid effect|an error whose message could not be read/)
      }))
  }

  it.live("never ends its cleanup has failed in time, and the next dial does not wait for it", () =>
    Effect.gen(function*() {
      const a = yield* startOn(tcp)("a")
      const [cleaning, release] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
      const next = wrongAtFirst<Endpoint.Endpoint["dial"]>(
        () =>
          Effect.onInterrupt(
            Effect.never,
            () => Effect.andThen(Deferred.succeed(cleaning, undefined), Deferred.await(release))
          ),
        () => a.endpoint.dial
      )
      const connection = yield* Connection.make(
        Resolver.constant({ address: a.endpoint.address, dial: Effect.suspend(next) }),
        { ...options, dialTimeout: "20 millis", eager: true }
      )
      assert.match((yield* Effect.flip(ask(connection))).message, /within 20ms/)
      yield* Deferred.await(cleaning)
      yield* untilState(connection, ({ endpoints }) => endpoints[0]!.state === "Active")
      assert.equal(yield* ask(connection), "a")
      // What has been opened is waited for when it closes.
      const closing = yield* Effect.forkChild(connection.close, { startImmediately: true })
      yield* turn
      assert.equal(closing.pollUnsafe(), undefined)
      yield* Deferred.succeed(release, undefined)
      yield* Fiber.join(closing)
    }))
})

describe("an endpoint whose", () => {
  const attributes: ReadonlyArray<readonly [what: string, wrong: object, reason: RegExp]> = [
    ["address is a number", { address: 5 }, /the address of an endpoint: expected a text, got 5/],
    ["address is missing", { address: undefined }, /the address of an endpoint: expected a text, got undefined/],
    ["weight is a text", { weight: "3" }, /the weight of tcp:.* expected a number above 0, got "3"/],
    ["weight is null", { weight: null }, /the weight of tcp:.* expected a number above 0, got null/],
    ["weight is NaN", { weight: Number.NaN }, /the weight of tcp:.* expected a number above 0, got NaN/],
    ["weight is a symbol", { weight: Symbol("3") }, /the weight of tcp:.* expected a number above 0/],
    ["priority is a text", { priority: "1" }, /the priority of tcp:.* expected a whole number, 0 or more, got "1"/],
    ["priority is negative", { priority: -1 }, /the priority of tcp:.* expected a whole number, 0 or more, got -1/],
    ["zone is a number", { zone: 5 }, /the zone of tcp:.* expected the name of a zone, got 5/]
  ]
  for (const name of ["address", "weight", "priority", "zone"] as const) {
    it.live(`${name} throws is a defect of who lists it, and harms no other`, () =>
      Effect.gen(function*() {
        const a = yield* startOn(tcp)("a")
        const wrong = Object.defineProperty({ ...a.endpoint }, name, {
          get: () => {
            throw new Error(`no ${name}`)
          }
        })
        yield* isRefused(wrong, new RegExp(`no ${name}`), a.endpoint)
      }))
  }
  for (const [what, wrong, reason] of attributes) {
    it.live(`${what} is a defect of who lists it, and harms no other`, () =>
      Effect.gen(function*() {
        const a = yield* startOn(tcp)("a")
        yield* isRefused({ ...a.endpoint, ...wrong }, reason, a.endpoint)
      }))
  }
})

/** It can be listed neither at first nor later, where the last endpoints stay until others are listed. */
const isRefused = Effect.fnUntraced(function*(wrong: Endpoint.Endpoint, reason: RegExp, good: Endpoint.Endpoint) {
  const exit = yield* Effect.exit(Connection.make(Resolver.constant(wrong)))
  assert.match(String(exit), /Die/)
  assert.match(String(exit), reason)

  const b = yield* startOn(memory)("b")
  const lists: Array<ReadonlyArray<Endpoint.Endpoint>> = [[good], [good, wrong], [b.endpoint]]
  const log = makeReadableLog()
  let asked = 0
  const connection = yield* Connection.make({
    isConstant: false,
    resolve: () =>
      Effect.suspend(() => {
        const endpoints = lists[asked]
        return endpoints === undefined
          ? Effect.never
          : Effect.succeed({ endpoints, version: Resolver.version(`${asked++}`) })
      })
  }).pipe(Effect.provide(log.layer))
  yield* untilState(connection, ({ endpoints }) => endpoints.some(({ address }) => address === b.endpoint.address))
  assert.equal(yield* ask(connection), "b")
  assert.equal(log.lines.length, 1)
  assert.match(log.lines[0]!.cause, reason)
})

it.live("a socket of a user's own that reads texts costs its connection", () =>
  Effect.gen(function*() {
    const a = yield* start("a", (handlers) => tcp.listen(handlers))
    const address = new URL(a.endpoint.address)
    const next = wrongAtFirst<Endpoint.Endpoint["dial"]>(
      () =>
        Effect.acquireRelease(
          Effect.sync(() => net.connect(Number(address.port), address.hostname).setEncoding("utf8")),
          (socket) => Effect.sync(() => socket.destroy())
        ),
      () => a.endpoint.dial
    )
    const connection = yield* Connection.make(
      Resolver.constant({ address: "user://a", dial: Effect.suspend(next) }),
      options
    )
    assert.match((yield* Effect.flip(ask(connection))).message, /expected bytes, got/)
    assert.equal(yield* ask(connection, { waitForReady: true }), "a")
  }))
