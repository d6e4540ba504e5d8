/**
 * What of a caller's context crosses to the handler (its trace), and what of it must not reach work that others share.
 */
import { describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Option, References, Scope, SubscriptionRef, Tracer } from "effect"
import { Connection, Deadline, type Endpoint, HandlerMap, MethodKey, Resolver } from "effect-call"
import type { Headers } from "effect/http"
import { RpcClient } from "effect/rpc"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { bytesOf, component, connect, eachWay, echo, handlers, memory, textOf } from "../support/networks.ts"
import { message, messagesOf, rawServer, version } from "../support/raw.ts"

const nothing = new Uint8Array()
const method = (name: string) => MethodKey.make(component, name)

const currentSpan = Effect.option(Effect.currentSpan)

describe("the trace context", () => {
  /** Handlers that keep the span they run in. */
  const keeping = () => {
    const spans: Array<Option.Option<Tracer.Span>> = []
    return {
      spans,
      handlers: HandlerMap.set(handlers, component, "span", (args) =>
        Effect.map(currentSpan, (span) => {
          spans.push(span)
          return args
        }))
    }
  }

  eachWay((way) => {
    it.live("crosses: same trace id, the caller's span as remote parent, and its sampling", () =>
      Effect.gen(function*() {
        const { handlers, spans } = keeping()
        const connection = yield* way.open(handlers)
        for (const sampled of [true, false]) {
          const caller = yield* Effect.gen(function*() {
            yield* connection.call(method("span"), nothing)
            return yield* Effect.currentSpan
          }).pipe(Effect.withSpan("caller", { sampled }))
          const span = Option.getOrThrow(spans.pop()!)
          assert.equal(span.name, "test/Echo/span")
          assert.equal(span.kind, "server")
          assert.equal(span.traceId, caller.traceId)
          assert.notEqual(span.spanId, caller.spanId)
          assert.equal(span.sampled, sampled)
          const parent = Option.getOrThrow(span.parent)
          assert.equal(parent._tag, "ExternalSpan")
          assert.deepEqual([parent.traceId, parent.spanId, parent.sampled], [caller.traceId, caller.spanId, sampled])
          // It ended with its handler.
          assert.equal(span.status._tag, "Ended")
        }
        yield* connection.call(method("span"), nothing)
        assert.deepEqual(spans, [Option.none()])
      }).pipe(Effect.scoped))
  })

  it.effect("is separate for each of several concurrent calls", () =>
    Effect.gen(function*() {
      const connection = yield* connect([
        (yield* memory.serve(HandlerMap.set(handlers, component, "trace", () =>
          Effect.map(Effect.currentSpan, ({ traceId }) =>
            bytesOf(traceId))))).endpoint
      ])
      yield* Effect.forEach(
        Array.from({ length: 100 }),
        () =>
          Effect.gen(function*() {
            const { traceId } = yield* Effect.currentSpan
            assert.equal(textOf(yield* connection.call(method("trace"), nothing)), traceId)
          }).pipe(Effect.withSpan("caller", { root: true })),
        { concurrency: "unbounded", discard: true }
      )
    }).pipe(Effect.scoped))

  it.effect("is that of the handler's function too, also where the call has waited for its turn", () =>
    Effect.gen(function*() {
      const traces: Array<string | undefined> = []
      const running = yield* Deferred.make<void>()
      const release = yield* Deferred.make<void>()
      const { endpoint } = yield* memory.serve(
        HandlerMap.set(HandlerMap.empty, component, "span", (args) => {
          // Before its effect runs.
          traces.push(Fiber.getCurrent()?.cache.span?.traceId)
          return Deferred.succeed(running, undefined).pipe(Effect.andThen(Deferred.await(release)), Effect.as(args))
        }),
        { maxConcurrentCalls: 1 }
      )
      const connection = yield* connect([endpoint])
      const call = Effect.andThen(connection.call(method("span"), nothing), Effect.currentSpan).pipe(
        Effect.withSpan("caller", { root: true })
      )
      const first = yield* Effect.forkChild(call, { startImmediately: true })
      yield* Deferred.await(running)
      const second = yield* Effect.forkChild(call, { startImmediately: true })
      const refused = yield* Effect.forkChild(connection.call(method("none"), nothing), { startImmediately: true })
      // Answered at once, and read after the second one.
      yield* Effect.flip(Fiber.join(refused))
      assert.equal(traces.length, 1)
      yield* Deferred.succeed(release, undefined)
      assert.deepEqual(traces, [(yield* Fiber.join(first)).traceId, (yield* Fiber.join(second)).traceId])
      assert.notEqual(traces[0], traces[1])
    }).pipe(Effect.scoped))

  it.effect("goes on through the calls that a handler makes", () =>
    Effect.gen(function*() {
      const { handlers, spans } = keeping()
      const back = yield* connect([(yield* memory.serve(handlers)).endpoint])
      const front = yield* connect([
        (yield* memory.serve(HandlerMap.set(HandlerMap.empty, component, "forward", (args) =>
          Effect.andThen(
            Effect.map(currentSpan, (span) => spans.push(span)),
            back.call(method("span"), args)
          )))).endpoint
      ])
      const caller = yield* Effect.andThen(front.call(method("forward"), nothing), Effect.currentSpan).pipe(
        Effect.withSpan("caller")
      )
      const [first, second] = spans.map(Option.getOrThrow)
      assert.deepEqual([first!.traceId, second!.traceId], [caller.traceId, caller.traceId])
      assert.equal(Option.getOrThrow(second!.parent).spanId, first!.spanId)
    }).pipe(Effect.scoped))

  it.effect("goes through where tracing is off, in the caller's part or in a server on the way", () =>
    Effect.gen(function*() {
      const { handlers, spans } = keeping()
      const back = yield* connect([(yield* memory.serve(handlers)).endpoint])
      const front = yield* connect([
        (yield* memory.serve(
          HandlerMap.set(HandlerMap.empty, component, "forward", (args) => back.call(method("span"), args))
        ).pipe(Effect.withTracerEnabled(false))).endpoint
      ])
      const caller = yield* front.call(method("forward"), nothing).pipe(
        Effect.withSpan("off"),
        Effect.withTracerEnabled(false),
        Effect.andThen(Effect.currentSpan),
        Effect.withSpan("caller")
      )
      const span = Option.getOrThrow(spans[0]!)
      assert.equal(span.traceId, caller.traceId)
      assert.equal(Option.getOrThrow(span.parent).spanId, caller.spanId)
    }).pipe(Effect.scoped))

  it.live("leaves no bytes in the header where there is no span, or none with W3C's ids", () =>
    Effect.gen(function*() {
      const contexts: Array<string> = []
      const endpoint = yield* rawServer((raw) => {
        let answered = 0
        raw.socket.on("data", () => {
          for (const { id, payload, type } of messagesOf(raw.received()).slice(answered)) {
            answered++
            if (type === 1) contexts.push(payload.subarray(24, 49).toString("hex"))
            raw.write(type === 0 ? version : message(id, 2))
          }
        })
      })
      const connection = yield* connect([endpoint])
      const none = "00".repeat(25)
      const traceId = "0102030405060708090a0b0c0d0e0f10"
      const spanId = "1112131415161718"
      const call = connection.call(echo, nothing)
      const within = (ids: { readonly traceId: string; readonly spanId: string; readonly sampled?: boolean }) =>
        Effect.withParentSpan(call, Tracer.externalSpan(ids))

      yield* call
      yield* within({ traceId: "an id", spanId })
      yield* within({ traceId, spanId: "17" })
      yield* within({ traceId: "0".repeat(32), spanId })
      yield* within({ traceId, spanId: "0".repeat(16) })
      yield* within({ traceId: traceId.replace("f", "g"), spanId })
      assert.deepEqual(contexts.splice(0), [none, none, none, none, none, none])

      yield* within({ traceId, spanId })
      yield* within({ traceId, spanId, sampled: false })
      assert.deepEqual(contexts, [`${traceId}${spanId}01`, `${traceId}${spanId}00`])
    }).pipe(Effect.scoped))
})

describe("work in the background", () => {
  /** What of a caller is in the context. */
  const traces = Effect.gen(function*() {
    const fiber = yield* Effect.fiber
    return {
      deadline: Option.isSome(yield* Deadline.remaining),
      span: Option.isSome(yield* currentSpan),
      annotations: Object.keys(fiber.getRef(References.CurrentLogAnnotations)).length > 0
    }
  })
  const noTraces = { deadline: false, span: false, annotations: false }

  /** As a handler runs that has a deadline and a trace, and says so in its logs. */
  const asCaller = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
    effect.pipe(Effect.annotateLogs("request", 1), Effect.withSpan("caller"), Deadline.within("1 second"))

  /** An endpoint whose dials wait until they are let through, and note what they see of their caller. */
  const gated = Effect.fnUntraced(function*(inner: Endpoint.Endpoint) {
    const seen: Array<typeof noTraces> = []
    const dialing = yield* Deferred.make<void>()
    const gate = yield* Deferred.make<void>()
    const endpoint: Endpoint.Endpoint = {
      address: "test://gated",
      dial: Effect.map(traces, (found) => seen.push(found)).pipe(
        Effect.andThen(Deferred.succeed(dialing, undefined)),
        Effect.andThen(Deferred.await(gate)),
        Effect.andThen(inner.dial)
      )
    }
    return { endpoint, seen, dialing: Deferred.await(dialing), open: Deferred.succeed(gate, undefined) }
  })

  it.effect("a dial that several callers share goes on after the deadline of the caller that started it", () =>
    Effect.gen(function*() {
      const { dialing, endpoint, open, seen } = yield* gated((yield* memory.serve(handlers)).endpoint)
      const connection = yield* connect([endpoint])
      const first = yield* Effect.forkChild(asCaller(connection.call(echo, nothing)))
      yield* dialing
      const second = yield* Effect.forkChild(connection.call(echo, bytesOf("second")), { startImmediately: true })
      yield* TestClock.adjust("2 seconds")
      assert.equal((yield* Effect.flip(Fiber.join(first)))._tag, "DeadlineExceeded")
      yield* open
      assert.equal(textOf(yield* Fiber.join(second)), "second")
      assert.deepEqual(seen, [noTraces])
    }).pipe(Effect.scoped))

  it.effect("a dial that several callers share goes on when the caller that started it is interrupted", () =>
    Effect.gen(function*() {
      const { dialing, endpoint, open, seen } = yield* gated((yield* memory.serve(handlers)).endpoint)
      const connection = yield* connect([endpoint])
      const first = yield* Effect.forkChild(connection.call(echo, nothing))
      yield* dialing
      const second = yield* Effect.forkChild(connection.call(echo, bytesOf("second")), { startImmediately: true })
      yield* Fiber.interrupt(first)
      yield* open
      assert.equal(textOf(yield* Fiber.join(second)), "second")
      assert.equal(seen.length, 1)
    }).pipe(Effect.scoped))

  it.effect("a Connection first made inside a handler outlives its deadline: its watch, its dials and its calls", () =>
    Effect.gen(function*() {
      const scope = yield* Effect.scope
      const remaining = HandlerMap.set(
        handlers,
        component,
        "remaining",
        () => Effect.map(traces, ({ deadline, span }) => bytesOf(`${deadline} ${span}`))
      )
      const inner = yield* gated((yield* memory.serve(remaining)).endpoint)
      yield* inner.open
      const endpoints = yield* SubscriptionRef.make<ReadonlyArray<Endpoint.Endpoint>>([])
      const resolver = Resolver.fromSubscriptionRef(endpoints)
      const watched: Array<typeof noTraces> = []
      const watching: Resolver.Resolver = {
        isConstant: false,
        resolve: (version) =>
          Effect.andThen(
            Effect.map(traces, (found) => version === undefined || watched.push(found)),
            resolver.resolve(version)
          )
      }

      let connection: Connection.Connection | undefined
      const { endpoint } = yield* memory.serve(
        HandlerMap.set(HandlerMap.empty, component, "first", (args) =>
          Effect.gen(function*() {
            assert.deepEqual(yield* traces, { deadline: true, span: true, annotations: false })
            connection = yield* Effect.orDie(Connection.make(watching)).pipe(Scope.provide(scope))
            return args
          }))
      )
      yield* asCaller((yield* connect([endpoint])).call(method("first"), nothing))

      yield* TestClock.adjust("1 minute")
      const calling = yield* Effect.forkChild(
        connection!.call(method("remaining"), nothing, { waitForReady: true }),
        { startImmediately: true }
      )
      yield* SubscriptionRef.set(endpoints, [inner.endpoint])
      assert.equal(textOf(yield* Fiber.join(calling)), "false false")
      assert.ok(watched.length > 0)
      assert.deepEqual([...watched, ...inner.seen].filter((found) => Object.values(found).includes(true)), [])
    }).pipe(Effect.scoped))

  it.effect("the headers of the region that a Connection was made in stay out of what its resolver calls", () =>
    Effect.gen(function*() {
      const seen: Array<Headers.Headers> = []
      const { endpoint } = yield* memory.serve(handlers)
      const asked = yield* Deferred.make<void>()
      const resolver: Resolver.Resolver = {
        isConstant: false,
        resolve: (version) =>
          Effect.gen(function*() {
            if (version !== undefined) {
              seen.push(yield* RpcClient.CurrentHeaders)
              yield* Deferred.succeed(asked, undefined)
            }
            return { endpoints: [endpoint], version: Resolver.version("1") }
          })
      }
      yield* Connection.make(resolver).pipe(RpcClient.withHeaders({ authorization: "of the one who made it" }))
      yield* Deferred.await(asked)
      assert.deepEqual(seen.map((headers) => ({ ...headers })), [{}])
    }).pipe(Effect.scoped))

  it.effect("a server first started inside a handler gives its own handlers nothing of that one", () =>
    Effect.gen(function*() {
      const scope = yield* Effect.scope
      const { endpoint } = yield* asCaller(Scope.provide(
        memory.serve(
          HandlerMap.set(
            HandlerMap.empty,
            component,
            "traces",
            () => Effect.map(traces, (found) => bytesOf(JSON.stringify(found)))
          )
        ),
        scope
      ))
      const connection = yield* connect([endpoint])
      yield* TestClock.adjust("1 minute")
      assert.deepEqual(JSON.parse(textOf(yield* connection.call(method("traces"), nothing))), noTraces)
    }).pipe(Effect.scoped))

  it.effect("the options of a region do not reach the calls of a handler", () =>
    Effect.gen(function*() {
      const { endpoint } = yield* memory.serve(HandlerMap.set(HandlerMap.empty, component, "remaining", () =>
        Effect.map(Deadline.remaining, (left) =>
          bytesOf(left._tag))))
      const back = yield* connect([endpoint])
      const front = yield* memory.serve(HandlerMap.set(HandlerMap.empty, component, "forward", (args) =>
        back.call(method("remaining"), args))).pipe(Connection.withOptions({ timeout: "1 second" }))
      const connection = yield* connect([front.endpoint])
      assert.equal(textOf(yield* connection.call(method("forward"), nothing)), "None")
    }).pipe(Effect.scoped))
})
