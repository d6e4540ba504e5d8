/** Schemas that take their time and need services: on both sides, for payloads, results and failures. */
import { describe, it } from "@effect/vitest"
import { Cause, Context, Deferred, Effect, Exit, Fiber, Layer, Schema, SchemaGetter, SchemaIssue } from "effect"
import { Component } from "effect-call"
import { Rpc, RpcGroup, RpcMiddleware } from "effect/rpc"
import * as assert from "node:assert/strict"
import { makeLog } from "../support/log.ts"
import { clientOver, formats, open } from "./support.ts"

/** Where names are looked up: it takes a turn, and may not know one. */
class Names extends Context.Service<Names, {
  readonly idOf: (name: string) => Effect.Effect<number, string>
  readonly nameOf: (id: number) => Effect.Effect<string, string>
}>()("Names") {}

/** Knows these names. */
const knowing = (...names: ReadonlyArray<string>): Names["Service"] => {
  const find = <A>(found: A | undefined, expected: string) =>
    Effect.andThen(Effect.yieldNow, found === undefined ? Effect.fail(expected) : Effect.succeed(found))
  const ids = new Map(names.map((name, id) => [name, id]))
  return {
    idOf: (name) => find(ids.get(name), "a known name"),
    nameOf: (id) => find(names[id], "a known id")
  }
}

/** What a lookup did not find, as a schema's issue. */
const orIssue = <A, R>(input: unknown, lookup: Effect.Effect<A, string, R>) =>
  Effect.mapError(lookup, (expected) => new SchemaIssue.InvalidValue({ expected }, input))

/** A name, which is a number on the wire. */
const Name = Schema.Int.pipe(Schema.decodeTo(Schema.String, {
  decode: SchemaGetter.transformEffect((id: number) => orIssue(id, Names.use(({ nameOf }) => nameOf(id)))),
  encode: SchemaGetter.transformEffect((name: string) => orIssue(name, Names.use(({ idOf }) => idOf(name))))
}))
class Unwelcome extends Schema.TaggedError<Unwelcome>()("Unwelcome", { name: Name }) {}

const group = RpcGroup.make(
  Rpc.make("Greet", { payload: { name: Name }, success: Schema.Struct({ by: Name }), error: Unwelcome })
)
const Greeter = Component.make("test/Greeter", group)

const layer = group.toLayer({
  Greet: ({ name }) =>
    name === "Mallory" ? Effect.fail(new Unwelcome({ name })) : Effect.succeed({ by: name === "Ada" ? "Bob" : "Eve" })
})

const all = knowing("Ada", "Bob", "Mallory", "Eve")

for (const format of formats) {
  describe(`in ${format}, a schema with asynchronous steps`, () => {
    /** A client whose server knows these names. */
    const served = (names: Names["Service"]) =>
      open(Greeter, layer, { format }).pipe(Effect.provideService(Names, names))

    it.effect("is encoded and decoded with the services of its own side", () =>
      Effect.gen(function*() {
        const { client } = yield* served(all)
        const greet = (name: string) => Effect.provideService(client.Greet({ name }), Names, all)
        assert.deepEqual(yield* greet("Ada"), { by: "Bob" })
        const failure = yield* Effect.flip(greet("Mallory"))
        assert.ok(failure instanceof Unwelcome)
        assert.equal(failure.name, "Mallory")
        // The same numbers are other names here.
        const elsewhere = knowing("Zoë", "Bea", "Mia")
        assert.deepEqual(yield* Effect.provideService(client.Greet({ name: "Zoë" }), Names, elsewhere), { by: "Bea" })
      }).pipe(Effect.scoped))

    it.effect("refuses a payload that cannot be written as a defect of the caller", () =>
      Effect.gen(function*() {
        const { client } = yield* served(all)
        const exit = yield* Effect.exit(Effect.provideService(client.Greet({ name: "Nobody" }), Names, all))
        assert.ok(Exit.isFailure(exit) && Cause.hasDies(exit.cause))
        assert.match(
          String(Cause.squash(exit.cause)),
          /^TypeError: the payload of test\/Greeter\.Greet cannot be encoded: Expected a known name at \["name"\]/
        )
      }).pipe(Effect.scoped))

    it.effect("refuses what cannot be read, on either side", () =>
      Effect.gen(function*() {
        const { client } = yield* served(knowing("Ada"))
        const unread = yield* Effect.flip(Effect.provideService(client.Greet({ name: "Eve" }), Names, all))
        assert.ok(unread._tag === "RemoteError")
        assert.equal(
          unread.message,
          "cannot decode the payload of test/Greeter.Greet: Expected a known id at [\"name\"] (client and server may have different contracts)"
        )
        const { client: other } = yield* served(all)
        const unreadable = yield* Effect.flip(
          Effect.provideService(other.Greet({ name: "Ada" }), Names, knowing("Ada"))
        )
        assert.ok(unreadable._tag === "CommunicationError" && unreadable.reason._tag === "Protocol")
        assert.equal(
          unreadable.message,
          "cannot decode the result of test/Greeter.Greet: Expected a known id at [\"by\"] (client and server may have different contracts)"
        )
        assert.equal(unreadable.endpoint, "memory://server")
      }).pipe(Effect.scoped))

    it.effect("refuses a result that cannot be written as a defect of the handler", () =>
      Effect.gen(function*() {
        const log = makeLog()
        const { client } = yield* served(knowing("Ada")).pipe(Effect.provide(log.layer))
        const error = yield* Effect.flip(Effect.provideService(client.Greet({ name: "Ada" }), Names, all))
        assert.ok(error._tag === "RemoteError")
        assert.equal(error.message, "internal error: the handler died")
        assert.match(
          log.lines[0]!.cause,
          /the result of test\/Greeter\.Greet cannot be encoded: Expected a known name at \["by"\]/
        )
      }).pipe(Effect.scoped))

    it.effect("ends with its caller, while a payload is written and while a result is read", () =>
      Effect.gen(function*() {
        const { client } = yield* served(all)
        for (const step of ["idOf", "nameOf"] as const) {
          const waiting = yield* Deferred.make<void>()
          const interrupted = yield* Deferred.make<void>()
          const stuck = () =>
            Deferred.succeed(waiting, undefined).pipe(
              Effect.andThen(Effect.never),
              Effect.onInterrupt(() => Deferred.succeed(interrupted, undefined))
            )
          const calling = yield* Effect.forkChild(
            Effect.provideService(client.Greet({ name: "Ada" }), Names, { ...all, [step]: stuck })
          )
          yield* Deferred.await(waiting)
          yield* Fiber.interrupt(calling)
          const exit = yield* Fiber.await(calling)
          assert.ok(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause))
          assert.equal(yield* Deferred.isDone(interrupted), true)
        }
      }).pipe(Effect.scoped))
  })
}

describe("a payload that is being read", () => {
  it.effect("is given up when its call is cancelled, and its handler never runs", () =>
    Effect.gen(function*() {
      let calls = 0
      const reading = yield* Deferred.make<void>()
      const interrupted = yield* Deferred.make<void>()
      const { client } = yield* open(
        Greeter,
        group.toLayer({ Greet: () => Effect.sync(() => (calls++, { by: "Bob" })) })
      ).pipe(Effect.provideService(Names, {
        ...all,
        nameOf: () =>
          Deferred.succeed(reading, undefined).pipe(
            Effect.andThen(Effect.never),
            Effect.onInterrupt(() => Deferred.succeed(interrupted, undefined))
          )
      }))
      const calling = yield* Effect.forkChild(Effect.provideService(client.Greet({ name: "Ada" }), Names, all))
      yield* Deferred.await(reading)
      yield* Fiber.interrupt(calling)
      yield* Deferred.await(interrupted)
      assert.equal(calls, 0)
    }).pipe(Effect.scoped))
})

class Seeing extends RpcMiddleware.Service<Seeing>()("Seeing") {}
const Region = Context.Reference<string>("Region", { defaultValue: () => "nowhere" })

describe("the context of a call", () => {
  it.effect("is there for its schemas and its middleware", () =>
    Effect.gen(function*() {
      const seen: Array<string> = []
      const Placed = Schema.String.pipe(Schema.decodeTo(Schema.String, {
        decode: SchemaGetter.passthrough(),
        encode: SchemaGetter.transformEffect((text: string) => Effect.map(Region, (region) => `${text} in ${region}`))
      }))
      const placed = RpcGroup.make(Rpc.make("Say", { payload: Placed, success: Schema.String }).middleware(Seeing))
      const component = Component.make("test/Placed", placed)
      const { connection } = yield* open(component, placed.toLayer({ Say: (text) => Effect.succeed(text) })).pipe(
        Effect.provideService(Seeing, (effect) => effect)
      )
      const middleware = yield* Layer.build(
        RpcMiddleware.layerClient(Seeing, ({ next, request }) =>
          Effect.flatMap(Region, (region) => {
            seen.push(region)
            return next(request)
          }))
      )
      const client = yield* Effect.provideContext(clientOver(connection, component), middleware)
      assert.equal(yield* client.Say("I am", { context: Context.make(Region, "Rome") }), "I am in Rome")
      assert.equal(yield* Effect.provideService(client.Say("I am"), Region, "Oslo"), "I am in Oslo")
      assert.deepEqual(seen, ["Rome", "Oslo"])
    }).pipe(Effect.scoped))
})
