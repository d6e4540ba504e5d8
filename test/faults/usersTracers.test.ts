/**
 * Tracers, spans, metrics, call options and clocks of users' own, on both sides: the place × how it misbehaves → calls
 * end as they would without it, or one call dies of it; and the next one goes well.
 */
import { describe, it } from "@effect/vitest"
import { Cause, Clock, Context, Effect, Exit, Fiber, Metric, Option, Schema, type Scope, Tracer } from "effect"
import { Component, Connection, HandlerMap, MethodKey } from "effect-call"
import { Rpc, RpcGroup } from "effect/rpc"
import * as assert from "node:assert/strict"
import { makeLog } from "../support/log.ts"
import { bytesOf, component, connect, echo, handlers, type Served, tcp, textOf } from "../support/networks.ts"
import { die, dying } from "./ambientSupport.ts"
import { boom, errorsIn, hostile, inLog, isDeath, throwing, works, wrong } from "./usersCode.ts"

const Traced = Component.make(
  "test/Traced",
  RpcGroup.make(
    Rpc.make("Do", { success: Schema.String }),
    Rpc.make("Fail", { success: Schema.String, error: Schema.String })
  )
)

/** The trace that a handler's span goes on with. */
const parent = Effect.map(Effect.option(Effect.currentParentSpan), (span) => {
  if (Option.isNone(span) || span.value._tag !== "Span") return "none"
  return Option.match(span.value.parent, { onNone: () => "none", onSome: ({ traceId }) => traceId })
})

const tracedHandlers = Component.handlers(
  Traced,
  Traced.group.toLayer({ Do: () => Effect.succeed("done"), Fail: () => Effect.fail("so") })
)

/** A server and a client, each in an ambience of its own. */
const traced = Effect.fnUntraced(function*(ofServer: Context.Context<never> = Context.empty()) {
  const made = HandlerMap.merge(handlers, yield* tracedHandlers)
  const serving: Effect.Effect<Served, never, Scope.Scope> = tcp.serve(made, { maxConcurrentCalls: 1 })
  const { endpoint } = yield* Effect.provideContext(serving, ofServer)
  const connection = yield* connect([endpoint])
  const client = yield* Effect.provideService(Component.client(Traced), Connection.Connection, connection)
  return { client, connection }
})

/** A tracer whose spans have these members in place of their own. */
const tracerOf = (members: () => PropertyDescriptorMap): Tracer.Tracer =>
  Tracer.make({ span: (options) => Object.defineProperties(new Tracer.NativeSpan(options), members()) })

const method = (value: (...args: ReadonlyArray<never>) => unknown): PropertyDescriptor => ({ value })

/** Throws, but for the attributes that a span is made with. */
const laterAttributes = () => ({
  attribute: method((name: string) => {
    if (name === "error.type" || name === "server.address") boom()
  })
})

/** `die`: a call dies of it. Otherwise it ends as if nothing were. */
const tracers: Readonly<Record<string, { readonly tracer: Tracer.Tracer; readonly end: "die" | "well" | "told" }>> = {
  "throws": { tracer: Tracer.make({ span: boom }), end: "die" },
  "throws what is hostile": {
    tracer: Tracer.make({
      span: throwing(hostile)
    }),
    end: "die"
  },
  "gives undefined": { tracer: Tracer.make({ span: () => wrong(undefined) }), end: "die" },
  "gives an empty object": { tracer: Tracer.make({ span: () => wrong({}) }), end: "die" },
  "gives what is hostile": { tracer: Tracer.make({ span: () => wrong(hostile) }), end: "die" },
  "gives spans whose attribute throws": { tracer: tracerOf(() => ({ attribute: method(boom) })), end: "die" },
  "gives spans whose attribute throws later": { tracer: tracerOf(laterAttributes), end: "well" },
  "gives spans whose event throws": { tracer: tracerOf(() => ({ event: method(boom) })), end: "well" },
  "gives spans whose end throws": { tracer: tracerOf(() => ({ end: method(boom) })), end: "told" }
}

describe("a tracer that", () => {
  for (const [name, { end, tracer }] of Object.entries(tracers)) {
    it.live(`${name}, of a client`, () =>
      inLog(() =>
        Effect.gen(function*() {
          const { client, connection } = yield* traced()
          for (const call of [client.Do(), client.Fail()]) {
            const exit = yield* Effect.exit(Effect.withTracer(call, tracer))
            if (end === "well") assert.ok(Exit.isSuccess(exit) || Cause.squash(exit.cause) === "so")
            else assert.ok(Exit.isFailure(exit) && Cause.hasDies(exit.cause))
          }
          // Given up while it waits.
          const fiber = yield* Effect.forkChild(Effect.withTracer(client.Do(), tracer), { startImmediately: true })
          yield* Fiber.interrupt(fiber)
          assert.equal(yield* client.Do(), "done")
          yield* works(connection)
          assert.equal((yield* connection.state).endpoints[0]!.callsInFlight, 0)
        })
      ))

    it.live(`${name}, of a server`, () =>
      inLog((log) =>
        Effect.gen(function*() {
          const { client, connection } = yield* traced(Context.make(Tracer.Tracer, tracer))
          for (const call of [client.Do(), client.Fail(), client.Do(), client.Do()]) {
            const exit = yield* Effect.exit(call)
            if (end === "die") {
              assert.ok(Exit.isFailure(exit) && /the handler died/.test(String(Cause.squash(exit.cause))))
            } else assert.ok(Exit.isSuccess(exit) || Cause.squash(exit.cause) === "so")
          }
          yield* works(connection)
          if (end === "told") assert.match(errorsIn(log.lines).join("\n"), /the span of a call died/)
        })
      ))
  }
})

describe("a span of a caller's, whose", () => {
  const good = { traceId: "0123456789abcdef0123456789abcdef", spanId: "0123456789abcdef" }
  const ids: Readonly<Record<string, readonly [ids: PropertyDescriptorMap, seen: string]>> = {
    "ids are good": [{}, good.traceId],
    "trace id is in capitals": [{ traceId: { value: good.traceId.toUpperCase() } }, good.traceId],
    "trace id is too short": [{ traceId: { value: "0123" } }, "none"],
    "trace id is too long": [{ traceId: { value: `${good.traceId}00` } }, "none"],
    "trace id is no hex": [{ traceId: { value: "x".repeat(32) } }, "none"],
    "trace id is no ASCII": [{ traceId: { value: "é".repeat(32) } }, "none"],
    "trace id is zero": [{ traceId: { value: "0".repeat(32) } }, "none"],
    "trace id is undefined": [{ traceId: { value: undefined } }, "none"],
    "trace id is a number": [{ traceId: { value: 7 } }, "none"],
    "trace id is as long an array": [{ traceId: { value: Array(32).fill("0") } }, "none"],
    "trace id throws": [{ traceId: { get: boom } }, "none"],
    "span id is too short": [{ spanId: { value: "0123" } }, "none"],
    "span id is no hex": [{ spanId: { value: "no hex at all..." } }, "none"],
    "span id is null": [{ spanId: { value: null } }, "none"],
    "span id is hostile": [{ spanId: { value: hostile } }, "none"],
    "span id throws": [{ spanId: { get: boom } }, "none"],
    "sampled throws": [{ sampled: { get: boom } }, "none"],
    "sampled is a text": [{ sampled: { value: "yes" } }, good.traceId]
  }
  const what = MethodKey.make(component, "parent")
  const served = HandlerMap.set(handlers, component, "parent", () => Effect.map(parent, bytesOf))

  for (const [name, [members, seen]] of Object.entries(ids)) {
    it.live(`${name}: the call is made, with the context that can be sent, and so are concurrent calls`, () =>
      inLog(() =>
        Effect.gen(function*() {
          const { endpoint } = yield* tcp.serve(served)
          const connection = yield* connect([endpoint])
          const span = Object.defineProperties(
            Object.create(null),
            {
              _tag: { value: "ExternalSpan" },
              annotations: { value: Context.empty() },
              sampled: { value: true },
              traceId: { value: good.traceId },
              spanId: { value: good.spanId },
              ...members
            }
          )
          const call = Effect.provideService(
            connection.call(what, new Uint8Array()),
            Tracer.ParentSpan,
            wrong<Tracer.AnySpan>(span)
          )
          const [answer] = yield* Effect.all([call, works(connection, "concurrent")], { concurrency: "unbounded" })
          assert.equal(textOf(answer), seen)
          yield* works(connection)
        })
      ))
  }
})

describe("metrics:", () => {
  class Broken extends Map<string, Metric.Metric.Metadata<unknown, unknown>> {
    private readonly what: "get" | "set" | "delete"
    private left: number
    constructor(what: Broken["what"], left: number) {
      super()
      this.what = what
      this.left = left
    }
    private spend(what: Broken["what"]): void {
      if (what === this.what && this.left-- <= 0) boom()
    }
    override get(key: string) {
      this.spend("get")
      return super.get(key)
    }
    override set(key: string, value: Metric.Metric.Metadata<unknown, unknown>) {
      this.spend("set")
      return super.set(key, value)
    }
    override delete(key: string) {
      this.spend("delete")
      return super.delete(key)
    }
  }

  const ambient: Readonly<Record<string, () => Context.Context<never>>> = {
    "a registry that throws": () => Context.make(Metric.MetricRegistry, wrong(new Broken("set", 0))),
    "a registry that throws after some series": () => Context.make(Metric.MetricRegistry, wrong(new Broken("set", 8))),
    "a registry that throws where series are looked up": () =>
      Context.make(Metric.MetricRegistry, wrong(new Broken("get", 3))),
    "a registry that throws where series are removed": () =>
      Context.make(Metric.MetricRegistry, wrong(new Broken("delete", 0))),
    "attributes that are bigints": () => Context.make(Metric.CurrentMetricAttributes, wrong({ a: 1n })),
    "attributes that are symbols": () => Context.make(Metric.CurrentMetricAttributes, wrong({ a: Symbol("a") })),
    "attributes that are objects": () => Context.make(Metric.CurrentMetricAttributes, wrong({ a: { b: 1 } })),
    "attributes that are undefined": () => Context.make(Metric.CurrentMetricAttributes, wrong({ a: undefined }))
  }
  for (const [name, context] of Object.entries(ambient)) {
    it.live(`${name}: calls are made and served`, () =>
      inLog(() =>
        Effect.provideContext(
          Effect.scoped(Effect.gen(function*() {
            const { endpoint } = yield* tcp.serve(dying)
            const connection = yield* connect([endpoint])
            yield* works(connection)
            isDeath(yield* Effect.flip(connection.call(die, bytesOf(""))))
            const unknown = yield* Effect.flip(connection.call(MethodKey.make("no", "such"), bytesOf("")))
            assert.equal(unknown._tag, "RemoteError")
            yield* connection.close
            yield* works(yield* connect([endpoint]))
          })),
          context()
        )
      ))
  }
})

describe("call options of a region that make no sense: they end one call, and the next is made:", () => {
  const options: Readonly<Record<string, unknown>> = {
    "none": undefined,
    "a text": "1 second",
    "hostile": hostile,
    "a timeout that is a text": { timeout: "nonsense" },
    "a timeout that is NaN": { timeout: NaN },
    "a timeout that is hostile": { timeout: hostile },
    "a balancer that is a text": { balancer: "roundRobin" },
    "a balancer that is hostile": { balancer: hostile },
    "a balancer without a pick": { balancer: { update: () => {} } },
    "a retry that is no Schedule": { retry: 3 },
    "a retry that is hostile": { retry: hostile },
    "a shard key that is a text": { shardKey: "one" },
    "a shard key that is negative": { shardKey: -1n },
    "a shard key that is hostile": { shardKey: hostile }
  }
  for (const [name, given] of Object.entries(options)) {
    it.live(name, () =>
      inLog(() =>
        Effect.gen(function*() {
          const { endpoint } = yield* tcp.serve(handlers)
          const connection = yield* connect([endpoint])
          for (const _ of ["before it is dialed", "when it is open"]) {
            const exit = yield* Effect.exit(
              Connection.withOptions(connection.call(echo, bytesOf("one")), wrong<Connection.CallOptions>(given))
            )
            assert.ok(Exit.isFailure(exit), "expected that it is refused")
            yield* works(connection)
          }
          assert.equal((yield* connection.state).endpoints[0]!.callsInFlight, 0)
        })
      ))
  }
})

describe("a clock whose time of day", () => {
  for (
    const [name, read] of Object.entries<() => number>({
      "throws": boom,
      "is NaN": () => NaN
    })
  ) {
    it.live(`${name}: calls are made and served`, () =>
      inLog(() =>
        Effect.gen(function*() {
          const clock = yield* Clock.Clock
          const own: Clock.Clock = Object.create(clock, { currentTimeMillisUnsafe: { value: read } })
          const log = makeLog()
          yield* Effect.scoped(Effect.gen(function*() {
            const { endpoint } = yield* tcp.serve(dying)
            const connection = yield* connect([endpoint])
            isDeath(yield* Effect.flip(connection.call(die, bytesOf(""))))
            yield* works(connection)
          })).pipe(Effect.provideService(Clock.Clock, own), Effect.provide(log.layer))
        })
      ))
  }
})
