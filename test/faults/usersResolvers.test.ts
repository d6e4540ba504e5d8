/**
 * Resolvers of users' own that go wrong: `Connection.make` ends with a defect, and a Connection that is there keeps its
 * endpoints, logs it once, and goes on asking.
 */
import { NodeFileSystem } from "@effect/platform-node"
import { describe, it } from "@effect/vitest"
import { Deferred, Effect, Equal, Exit, Fiber, FileSystem, Hash, Layer, Random, Stream, SubscriptionRef } from "effect"
import { Connection, type Endpoint, Resolver } from "effect-call"
import { TestNetwork } from "effect-call/testing"
import { Dns } from "effect/net"
import * as assert from "node:assert/strict"
import { ask, startInMemory, turn, until, untilState } from "../Connection/support.ts"
import {
  dies,
  failsWrong,
  makeReadableLog,
  never,
  succeedsWrong,
  throws,
  type Way,
  way,
  wrongAtFirst
} from "./misbehaving.ts"

const onNetwork = Effect.provide(TestNetwork.layer)

const answers = (how: string, answer: unknown): Way => way(`answers ${how}`, () => Effect.succeed(answer))

const version = Resolver.version("wrong")

/** How `resolve` may go wrong, whatever its answers are for. */
const wrong: ReadonlyArray<Way> = [
  ...dies,
  ...failsWrong,
  ...succeedsWrong,
  answers("without endpoints", { version }),
  answers("with null for endpoints", { endpoints: null, version }),
  answers("with a text for endpoints", { endpoints: "tcp://a:1", version }),
  answers("with a Set of endpoints", { endpoints: new Set(), version }),
  answers("with an endpoint that is undefined", { endpoints: [undefined], version }),
  answers("with an endpoint that is a text", { endpoints: ["tcp://a:1"], version }),
  answers("with an endpoint without an address", { endpoints: [{ dial: Effect.never }], version }),
  answers("with what throws when it is read", Object.defineProperty({ version }, "endpoints", { get: throws }))
]

const set = (endpoints: ReadonlyArray<Endpoint.Endpoint>, text: string) =>
  Effect.succeed({ endpoints, version: Resolver.version(text) })

/** Answers one after the other; there is nothing newer after the last. */
const scripted = (...answers: ReadonlyArray<() => ReturnType<Resolver.Resolver["resolve"]>>) => {
  const state = { asked: 0 }
  const resolver: Resolver.Resolver = {
    isConstant: false,
    resolve: () => (answers[state.asked++] ?? (() => Effect.never))()
  }
  return { resolver, state }
}

const isListed = (endpoint: Endpoint.Endpoint) => ({ endpoints }: Connection.ConnectionState) =>
  endpoints.some(({ address, state }) => address === endpoint.address && state !== "Draining")

describe("a resolver whose resolve", () => {
  for (const { give, how } of wrong) {
    it.live(`${how} ends make, and harms no Connection that is there`, () =>
      Effect.gen(function*() {
        const [a, b] = [yield* startInMemory("a"), yield* startInMemory("b")]
        for (const isConstant of [false, true]) {
          // Interrupting itself, it would interrupt us.
          const exit = yield* Fiber.await(
            yield* Effect.forkChild(Connection.make({ isConstant, resolve: () => give() }), { startImmediately: true })
          )
          assert.ok(Exit.isFailure(exit))
          assert.match(String(exit), /boom|expected|Not a valid effect|toString threw|Interrupt|undefined/)
        }

        const log = makeReadableLog()
        const { resolver } = scripted(() => set([a.endpoint], "0"), () =>
          give(), () =>
          give(), () =>
          set([b.endpoint], "1"))
        const connection = yield* Connection.make(resolver).pipe(Effect.provide(log.layer))
        assert.equal(yield* ask(connection), "a")
        yield* untilState(connection, isListed(b.endpoint))
        assert.equal(yield* ask(connection), "b")
        assert.deepEqual(log.lines.map(({ level, message }) => [level, message]), [
          ["Warn", "the resolver failed; its last endpoints stay in use"]
        ])
      }).pipe(onNetwork))

    it.live(`${how} keeps no other that it is merged with from being heard, and comes back`, () =>
      Effect.gen(function*() {
        const replicas = yield* Effect.forEach(["a", "b", "c", "d"], startInMemory)
        const [a, b, c, d] = replicas.map(({ endpoint }) => endpoint)
        const heard = yield* Deferred.make<void>()
        const { resolver } = scripted(
          () => set([a!], "0"),
          () => give(),
          () => Effect.andThen(Deferred.await(heard), set([b!], "1"))
        )
        const ref = yield* SubscriptionRef.make<ReadonlyArray<Endpoint.Endpoint>>([c!])
        const log = makeReadableLog()
        const connection = yield* Connection.make(
          Resolver.merge(resolver, Resolver.fromSubscriptionRef(ref))
        ).pipe(Effect.provide(log.layer))
        yield* log.until(1)
        yield* SubscriptionRef.set(ref, [d!])
        yield* untilState(connection, isListed(d!))
        assert.deepEqual((yield* connection.state).endpoints.map(({ address }) => address), [a!.address, d!.address])
        yield* Deferred.succeed(heard, undefined)
        yield* untilState(connection, isListed(b!))
        assert.deepEqual(log.lines.map(({ message }) => message), [
          "the resolver failed; its last endpoints stay in use"
        ])
      }).pipe(onNetwork))
  }

  it.live("never ends lets make be interrupted, and a Connection that waits for news be used and closed", () =>
    Effect.gen(function*() {
      const a = yield* startInMemory("a")
      const making = yield* Effect.forkChild(Connection.make({ isConstant: false, resolve: never.give }), {
        startImmediately: true
      })
      yield* Fiber.interrupt(making)
      const { resolver, state } = scripted(() => set([a.endpoint], "0"), never.give)
      const connection = yield* Connection.make(resolver)
      yield* until(() => state.asked === 2)
      assert.equal(yield* ask(connection), "a")
      yield* connection.close
    }).pipe(onNetwork))

  it.live("gives versions of any type is followed anyway", () =>
    Effect.gen(function*() {
      const [a, b] = [yield* startInMemory("a"), yield* startInMemory("b")]
      const evil: Equal.Equal = { [Equal.symbol]: throws, [Hash.symbol]: throws }
      for (const odd of [5, "1", null, {}, Number.NaN, Symbol("1")]) {
        const { resolver } = scripted(
          () => set([a.endpoint], "0"),
          () => Effect.succeed({ endpoints: [b.endpoint], version: odd as never })
        )
        const connection = yield* Connection.make(resolver)
        yield* untilState(connection, isListed(b.endpoint))
        assert.equal(yield* ask(connection), "b")
      }
      const log = makeReadableLog()
      const { resolver } = scripted(
        () => set([a.endpoint], "0"),
        () => Effect.succeed({ endpoints: [b.endpoint], version: evil as never }),
        () => set([b.endpoint], "1")
      )
      const connection = yield* Connection.make(resolver).pipe(Effect.provide(log.layer))
      yield* untilState(connection, isListed(b.endpoint))
      assert.equal(yield* ask(connection), "b")
    }).pipe(onNetwork))

  it.live("is a getter that throws, or is missing, or belongs to nothing, is a defect of make", () =>
    Effect.gen(function*() {
      const throwing = Object.defineProperty({ isConstant: false }, "resolve", { get: throws })
      for (const resolver of [throwing, { isConstant: true }, undefined, "dns://a:1"]) {
        const exit = yield* Effect.exit(Connection.make(resolver as never))
        assert.match(String(exit), /Die.*(boom|the resolver: expected an object with resolve, got)/)
      }
      const a = yield* startInMemory("a")
      const fickle: Resolver.Resolver = {
        get isConstant() {
          return throws()
        },
        resolve: () => set([a.endpoint], "0")
      }
      assert.match(String(yield* Effect.exit(Connection.make(fickle))), /Die.*boom/)
    }).pipe(onNetwork))
})

describe("the refresh of a resolver that", () => {
  const rows = [
    ...dies.filter(({ how }) => how !== "throws" && !how.startsWith("gives")),
    way("fails", () => Effect.fail("boom"))
  ]
  for (const { give, how } of rows) {
    for (const merged of [false, true]) {
      it.live(`${how} is asked for again the next time${merged ? ", and so are the resolvers that it is merged with" : ""}`, () =>
        Effect.gen(function*() {
          const a = yield* startInMemory("a")
          const gone = yield* TestNetwork.endpoint("gone")
          const told = { wrong: 0, other: 0 }
          const resolver: Resolver.Resolver = {
            isConstant: false,
            resolve: (version) => version === undefined ? set([gone, a.endpoint], "0") : Effect.never,
            // It is read once, and run each time.
            refresh: Effect.suspend(() => {
              told.wrong++
              return give()
            })
          }
          const other: Resolver.Resolver = {
            isConstant: true,
            resolve: () => Effect.succeed({ endpoints: [] }),
            refresh: Effect.sync(() => void told.other++)
          }
          const log = makeReadableLog()
          const connection = yield* Connection.make(merged ? Resolver.merge(other, resolver) : resolver, {
            backoff: { initial: 1, max: 1 },
            eager: true
          }).pipe(Effect.provide(log.layer))
          yield* until(() => told.wrong > 2 && (!merged || told.other > 2))
          assert.equal(yield* ask(connection), "a")
          if (how !== "is interrupted") {
            assert.ok(log.lines.some(({ message }) => message === "the resolver could not be refreshed"))
          }
        }).pipe(onNetwork))
    }
  }

  for (const { give, how } of dies.filter(({ how }) => how.startsWith("gives"))) {
    it.live(`${how} is logged, and harms nothing`, () =>
      Effect.gen(function*() {
        const a = yield* startInMemory("a")
        const gone = yield* TestNetwork.endpoint("gone")
        const log = makeReadableLog()
        const resolver = {
          isConstant: false,
          resolve: (version?: Resolver.Version) => version === undefined ? set([gone, a.endpoint], "0") : Effect.never,
          // An undefined refresh is allowed, so the wrong value is null.
          refresh: how.includes("undefined") ? null as never : give()
        }
        const connection = yield* Connection.make(resolver).pipe(Effect.provide(log.layer))
        assert.equal(yield* ask(connection), "a")
        yield* log.until(2)
        assert.ok(log.lines.some(({ cause }) => /the refresh of the resolver: expected an Effect, got/.test(cause)))
      }).pipe(onNetwork))
  }

  it.live("is a getter that throws is a defect of make", () =>
    Effect.gen(function*() {
      const a = yield* startInMemory("a")
      const resolver = Object.defineProperty({ ...Resolver.constant(a.endpoint) }, "refresh", { get: throws })
      assert.match(String(yield* Effect.exit(Connection.make(resolver))), /Die.*boom/)
    }).pipe(onNetwork))

  it.live("never ends is asked for once, and ends with the Connection", () =>
    Effect.gen(function*() {
      const a = yield* startInMemory("a")
      const gone = yield* TestNetwork.endpoint("gone")
      const state = { told: 0, ended: 0 }
      const refresh = Effect.suspend(() => {
        state.told++
        return Effect.onInterrupt(Effect.never, () => Effect.sync(() => void state.ended++))
      })
      const connection = yield* Connection.make(
        {
          isConstant: false,
          resolve: (version) => version === undefined ? set([gone, a.endpoint], "0") : Effect.never,
          refresh
        },
        { backoff: { initial: 1, max: 1 }, eager: true }
      )
      assert.equal(yield* ask(connection), "a")
      // Long enough for a number of dials to have failed.
      for (let failures = 0; failures < 3; failures++) {
        yield* untilState(connection, ({ endpoints }) => endpoints[0]!.state === "Dialing" || endpoints[0]!.inBackoff)
        yield* untilState(connection, ({ endpoints }) => !endpoints[0]!.inBackoff)
      }
      assert.equal(state.told, 1)
      yield* connection.close
      assert.equal(state.ended, 1)
    }).pipe(onNetwork))
})

describe("a function of a combinator that", () => {
  const functions: ReadonlyArray<readonly [how: string, f: () => never, reason: RegExp]> = [
    ["throws", throws, /boom/],
    ["gives undefined", () => undefined as never, /what the resolver lists: expected an Endpoint, got undefined/],
    ["gives a number", () => 5 as never, /what the resolver lists: expected an Endpoint, got 5/],
    ["gives a promise that is rejected", () => Promise.reject(new Error("boom")) as never, /the address of an endpoint/]
  ]
  for (const [how, f, reason] of functions) {
    it.live(`${how} is a defect of that resolve: the last endpoints stay, and the next ones come`, () =>
      Effect.gen(function*() {
        const [a, b] = [yield* startInMemory("a"), yield* startInMemory("b")]
        const list = yield* SubscriptionRef.make<ReadonlyArray<Endpoint.Endpoint>>([a.endpoint])
        let isWrong = false
        const log = makeReadableLog()
        const connection = yield* Connection.make(
          Resolver.map(Resolver.fromSubscriptionRef(list), (endpoint) => isWrong ? f() : endpoint)
        ).pipe(Effect.provide(log.layer))
        isWrong = true
        yield* SubscriptionRef.set(list, [a.endpoint, b.endpoint])
        yield* log.until(1)
        assert.match(log.lines[0]!.cause, reason)
        assert.equal(yield* ask(connection), "a")
        isWrong = false
        yield* untilState(connection, isListed(b.endpoint))

        const exit = yield* Effect.exit(Connection.make(Resolver.map(Resolver.constant(a.endpoint), f)))
        assert.match(String(exit), reason)
      }).pipe(onNetwork))
  }

  it.live("is the condition of a filter and throws is one, too", () =>
    Effect.gen(function*() {
      const a = yield* startInMemory("a")
      const filtered = Resolver.filter(Resolver.constant(a.endpoint), throws)
      assert.match(String(yield* Effect.exit(Connection.make(filtered))), /Die.*boom/)
      assert.equal(yield* ask(yield* Connection.make(Resolver.constant(a.endpoint))), "a")
    }).pipe(onNetwork))
})

describe("a source of endpoints that", () => {
  for (
    const { give, how } of [...dies.filter(({ how }) => how !== "throws" && !how.startsWith("gives")), ...failsWrong]
  ) {
    it.live(`is a stream and ${how} fails who waits for it; the last endpoints stay`, () =>
      Effect.gen(function*() {
        const a = yield* startInMemory("a")
        const empty = yield* Resolver.fromStream(Stream.fromEffect(Effect.suspend((): Effect.Effect<never> => give())))
        assert.ok(Exit.isFailure(yield* Effect.exit(Connection.make(empty))))
        const log = makeReadableLog()
        const resolver = yield* Resolver.fromStream(
          Stream.concat(
            Stream.succeed([a.endpoint]),
            Stream.fromEffect(Effect.suspend((): Effect.Effect<never> => give()))
          )
        )
        const connection = yield* Connection.make(resolver).pipe(Effect.provide(log.layer))
        yield* log.until(1)
        assert.match(log.lines[0]!.cause, /the stream of endpoints has failed|cannot be read/)
        assert.equal(yield* ask(connection), "a")
      }).pipe(onNetwork))
  }

  it.live("gives what is no list is refused, and followed", () =>
    Effect.gen(function*() {
      const [a, b] = [yield* startInMemory("a"), yield* startInMemory("b")]
      for (const odd of [undefined, null, 5, "tcp://a:1", [undefined], {}]) {
        const list = yield* SubscriptionRef.make<ReadonlyArray<Endpoint.Endpoint>>([a.endpoint])
        const log = makeReadableLog()
        const connections = yield* Effect.provide(
          Effect.all([
            Connection.make(Resolver.fromSubscriptionRef(list)),
            Effect.flatMap(Resolver.fromStream(SubscriptionRef.changes(list)), (resolver) => Connection.make(resolver))
          ]),
          log.layer
        )
        yield* SubscriptionRef.set(list, odd as never)
        yield* log.until(2)
        for (const connection of connections) assert.equal(yield* ask(connection), "a")
        yield* SubscriptionRef.set(list, [b.endpoint])
        for (const connection of connections) {
          yield* untilState(connection, isListed(b.endpoint))
          assert.equal(yield* ask(connection), "b")
        }
      }
    }).pipe(onNetwork))

  for (const { give, how } of [...dies, ...failsWrong, ...succeedsWrong]) {
    it.live(`is a Dns and ${how} fails that look, and is asked again`, () =>
      Effect.gen(function*() {
        const next = wrongAtFirst<Effect.Effect<never>>(give, () => Effect.succeed([]) as never)
        const service = {
          ...Dns.make({ lookup: () => Effect.succeed([]), resolve: () => Effect.succeed([]) }),
          resolve: () => next()
        }
        const resolver = yield* Resolver.dns("cart.internal:7000", { interval: { min: "5 millis" } }).pipe(
          Effect.provideService(Dns.Dns, service as never)
        )
        yield* Effect.exit(resolver.resolve())
        while (Exit.isFailure(yield* Effect.exit(resolver.resolve()))) yield* turn
      }))
  }

  const system = Effect.provide(FileSystem.FileSystem, NodeFileSystem.layer)

  for (const { give, how } of dies) {
    it.live(`is a directory of a FileSystem whose watch ${how} is read again anyway`, () =>
      Effect.gen(function*() {
        const fs = { ...(yield* system), watch: give }
        const resolver = yield* Effect.provideService(Resolver.directory("/nowhere"), FileSystem.FileSystem, fs)
        assert.equal((yield* resolver.resolve()).problem, `the directory "/nowhere" does not exist`)
      }))

    it.live(`is a directory of a FileSystem whose readDirectory ${how} fails that look, and is looked at again`, () =>
      Effect.gen(function*() {
        const fs = { ...(yield* system), readDirectory: wrongAtFirst<never>(give, () => Effect.succeed([]) as never) }
        const resolver = yield* Effect.provideService(
          Resolver.directory("/nowhere", { interval: "5 millis" }),
          FileSystem.FileSystem,
          fs
        )
        assert.ok(Exit.isFailure(yield* Fiber.await(yield* Effect.forkChild(resolver.resolve()))))
        while (Exit.isFailure(yield* Effect.exit(resolver.resolve()))) yield* turn
      }))

    if (how.startsWith("throws") || how.startsWith("gives") || how.startsWith("dies")) {
      it.live(`is a kubeconfig of a FileSystem whose readFileString ${how} is one that cannot be read`, () =>
        Effect.gen(function*() {
          const fs = { ...(yield* system), exists: () => Effect.succeed(true), readFileString: give }
          const making = Effect.provideService(
            Resolver.kubernetes({ service: "cart", kubeconfig: "/nowhere" }),
            FileSystem.FileSystem,
            fs
          )
          const error = yield* Effect.flip(making)
          assert.equal(error._tag, "ResolverError")
          assert.match(error.message, /cannot read \/nowhere: /)
        }))
    }

    it.live(`is a file of a FileSystem whose exists ${how} fails that look, and its recovery is heard of`, () =>
      Effect.gen(function*() {
        let exists: () => Effect.Effect<boolean, never> = () => Effect.succeed(false)
        const fs = { ...(yield* system), exists: () => exists() }
        const resolver = yield* Effect.provideService(Resolver.file("/nowhere"), FileSystem.FileSystem, fs)
        const { version } = yield* resolver.resolve()
        exists = give
        const asking = yield* Effect.forkChild(resolver.resolve(version), { startImmediately: true })
        assert.ok(Exit.isFailure(yield* Fiber.await(asking)))
        exists = () => Effect.succeed(false)
        if (how !== "is interrupted") assert.ok(Equal.equals((yield* resolver.resolve(version)).version, version))
      }))
  }

  for (const { give, how } of [...dies, ...succeedsWrong]) {
    it.live(`is a scheme of a user's own and ${how} fails that parse, and no other`, () =>
      Effect.gen(function*() {
        const next = wrongAtFirst<Effect.Effect<never>>(
          give,
          () => Effect.succeed(Resolver.constant()) as never
        )
        yield* Effect.gen(function*() {
          const parsing = yield* Effect.forkChild(Resolver.parse("mine://x"), { startImmediately: true })
          const exit = yield* Fiber.await(parsing)
          assert.match(
            String(exit),
            /boom|expected an Effect|expected an object with resolve|Not a valid effect|toString threw|Interrupt/
          )
          assert.equal((yield* Resolver.parse("mine://x")).isConstant, true)
          assert.equal((yield* Resolver.parse("tcp://a:1")).isConstant, true)
        }).pipe(
          Effect.provide(Layer.mergeAll(
            Resolver.layerSchemes({ mine: () => next() }),
            Dns.layerStatic({ records: {} })
          ))
        )
      }) as Effect.Effect<void>)
  }
})

it.live("a Random that throws, or gives what is no number, does not end the watch of a resolver", () =>
  Effect.gen(function*() {
    const [a, b] = [yield* startInMemory("a"), yield* startInMemory("b")]
    for (const nextDoubleUnsafe of [throws, () => Number.NaN, () => -1, () => "x" as never]) {
      const { resolver } = scripted(
        () => set([a.endpoint], "0"),
        () => set([a.endpoint], "0"),
        () => set([b.endpoint], "1")
      )
      const gone = yield* TestNetwork.endpoint("gone")
      const random = { nextDoubleUnsafe, nextIntUnsafe: throws }
      const connection = yield* Effect.provideService(Connection.make(resolver), Random.Random, random)
      yield* untilState(connection, isListed(b.endpoint))
      assert.equal(yield* ask(connection), "b")
      // Nor does it keep a dial that has failed from being told.
      const unreachable = yield* Effect.provideService(
        Connection.make(Resolver.constant(gone)),
        Random.Random,
        random
      )
      assert.equal((yield* Effect.flip(ask(unreachable)))._tag, "Unreachable")
      // Whether it is still in backoff depends on how busy the machine is.
      assert.notEqual((yield* unreachable.state).endpoints[0]!.lastFailure, undefined)
    }
  }).pipe(onNetwork))
