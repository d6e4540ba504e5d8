/** The two spans of a typed call, what they say, and how the trace goes on from the caller to what the handler does. */
import { describe, it } from "@effect/vitest"
import { Cause, Deferred, Effect, Exit, Fiber, Layer, Option, Schema, Stream, Tracer } from "effect"
import { Component, Deadline } from "effect-call"
import { Rpc, RpcGroup, RpcMiddleware } from "effect/rpc"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { eachNetwork, memory, mtlsOverTcp, tcp, unix } from "../support/networks.ts"
import { clientOver, open, type OpenOptions } from "./support.ts"

class NotFound extends Schema.TaggedError<NotFound>()("NotFound", {}) {}
class Denied extends Schema.TaggedError<Denied>()("Denied", {}) {}
class Guard extends RpcMiddleware.Service<Guard>()("Guard", { error: Denied }) {}

const group = RpcGroup.make(
  Rpc.make("Do", { payload: Schema.String, success: Schema.String, error: NotFound }),
  Rpc.make("Guarded").middleware(Guard)
)
const Traced = Component.make("test/Traced", group)

/** A tracer that keeps its spans. */
const recorder = () => {
  const spans: Array<Tracer.NativeSpan> = []
  const tracer = Tracer.make({
    span: (options) => {
      const span = new Tracer.NativeSpan(options)
      spans.push(span)
      return span
    }
  })
  return {
    spans,
    named: (name: string) => spans.filter((span) => span.name === name),
    record: Effect.withTracer(tracer)
  }
}

/** A component whose server and callers each have a tracer of their own. */
const traced = Effect.fnUntraced(function*(options?: OpenOptions) {
  const server = recorder()
  const client = recorder()
  const started = yield* Deferred.make<void>()
  const opened = yield* open(
    Traced,
    group.toLayer({
      Do: (how) =>
        how === "fail"
          ? Effect.fail(new NotFound())
          : how === "die"
          ? Effect.die(new Error("dead"))
          : how === "hang"
          ? Effect.andThen(Deferred.succeed(started, undefined), Effect.never)
          : Effect.withSpan(Effect.succeed(how), "work"),
      Guarded: () => Effect.void
    }),
    options
  ).pipe(
    Effect.provideService(Guard, (effect) => Effect.andThen(Effect.withSpan(Effect.void, "guard"), effect)),
    server.record
  )
  return { ...opened, server, caller: client, started: Deferred.await(started) }
})

const attributesOf = (span: Tracer.NativeSpan) => Object.fromEntries(span.attributes)
const parentOf = (span: Tracer.Span) => Option.getOrUndefined(span.parent)
const exitOf = (span: Tracer.Span) => {
  assert.ok(span.status._tag === "Ended", `${span.name} has not ended`)
  return span.status.exit
}
/** The only one. */
const only = <A>(values: ReadonlyArray<A>): A => {
  assert.equal(values.length, 1)
  return values[0]!
}

const name = "test/Traced/Do"
const method = { "rpc.system.name": "effect_call", "rpc.service": "test/Traced", "rpc.method": "Do" }

eachNetwork((network) => {
  it.live("a call has a client span, and as its child a server span of the same name", () =>
    Effect.gen(function*() {
      const { caller, client, server } = yield* traced({ network })
      yield* client.Do("it").pipe(Effect.withSpan("caller"), caller.record)
      const [outer, called] = caller.spans
      const [served, work] = server.spans
      assert.deepEqual([outer?.name, called?.name, served?.name, work?.name], ["caller", name, name, "work"])
      assert.equal(caller.spans.length + server.spans.length, 4)
      assert.deepEqual([called!.kind, served!.kind], ["client", "server"])
      assert.equal(parentOf(called!), outer)
      const parent = parentOf(served!)
      assert.deepEqual([parent?._tag, parent?.spanId, parent?.traceId], [
        "ExternalSpan",
        called!.spanId,
        outer!.traceId
      ])
      assert.equal(parentOf(work!), served)
      assert.deepEqual([served!.traceId, work!.traceId], [outer!.traceId, outer!.traceId])
      assert.ok(Exit.isSuccess(exitOf(called!)) && Exit.isSuccess(exitOf(served!)))
    }).pipe(Effect.scoped))
}, [tcp, unix, mtlsOverTcp, memory])

describe("the attributes of a call's spans", () => {
  it.live("name the method and both ends, over TCP", () =>
    Effect.gen(function*() {
      const { caller, client, endpoint, server } = yield* traced({ network: tcp })
      yield* caller.record(client.Do("it"))
      const port = Number(endpoint.address.split(":").at(-1))
      assert.deepEqual(attributesOf(only(caller.named(name))), {
        ...method,
        "server.address": "127.0.0.1",
        "server.port": port,
        "network.peer.address": "127.0.0.1",
        "network.peer.port": port
      })
      const { "network.peer.port": peerPort, ...rest } = attributesOf(only(server.named(name)))
      assert.deepEqual(rest, { ...method, "network.peer.address": "127.0.0.1" })
      assert.ok(typeof peerPort === "number" && peerPort > 0 && peerPort !== port)
    }).pipe(Effect.scoped))

  it.live("name the socket's path, over a Unix socket", () =>
    Effect.gen(function*() {
      const { caller, client, endpoint, server } = yield* traced({ network: unix })
      yield* caller.record(client.Do("it"))
      const path = endpoint.address.replace("unix://", "")
      assert.deepEqual(attributesOf(only(caller.named(name))), { ...method, "server.address": path })
      assert.deepEqual(attributesOf(only(server.named(name))), method)
    }).pipe(Effect.scoped))
})

describe("a failure", () => {
  /** Calls, and gives the spans of both sides. */
  const call = Effect.fnUntraced(function*(how: string) {
    const { caller, client, server } = yield* traced()
    yield* Effect.exit(caller.record(client.Do(how)))
    const [called, served] = [only(caller.named(name)), only(server.named(name))]
    return {
      errors: [called.attributes.get("error.type"), served.attributes.get("error.type")],
      exits: [exitOf(called), exitOf(served)]
    }
  })

  it.effect("of the method is in both spans, by its tag", () =>
    Effect.gen(function*() {
      const { errors, exits } = yield* call("fail")
      assert.deepEqual(errors, ["NotFound", "NotFound"])
      assert.deepEqual(exits.map(Exit.findErrorOption), [Option.some(new NotFound()), Option.some(new NotFound())])
    }).pipe(Effect.scoped))

  it.effect("of the handler itself is a defect in the server's span, and a RemoteError in the client's", () =>
    Effect.gen(function*() {
      const { errors, exits } = yield* call("die")
      assert.deepEqual(errors, ["RemoteError", "defect"])
      const [, served] = exits
      assert.ok(Exit.isFailure(served!) && String(Cause.squash(served.cause)) === "Error: dead")
    }).pipe(Effect.scoped))

  it.effect("of a result that cannot be sent is in the server's span, as its caller gets it", () =>
    Effect.gen(function*() {
      const server = recorder()
      const Positive = Schema.Int.check(Schema.isGreaterThan(0))
      const Checked = Component.make("test/Checked", RpcGroup.make(Rpc.make("Do", { success: Positive })))
      const { client } = yield* open(Checked, Checked.group.toLayer({ Do: () => Effect.succeed(-1) })).pipe(
        server.record
      )
      yield* Effect.flip(client.Do())
      const served = only(server.named("test/Checked/Do"))
      assert.equal(served.attributes.get("error.type"), "defect")
      assert.ok(Exit.isFailure(exitOf(served)))
    }).pipe(Effect.scoped))

  it.effect("is in neither span where the call succeeds", () =>
    Effect.gen(function*() {
      const { errors, exits } = yield* call("it")
      assert.deepEqual(errors, [undefined, undefined])
      assert.ok(exits.every(Exit.isSuccess))
    }).pipe(Effect.scoped))

  it.effect("of the call is in the client's span, by its tag", () =>
    Effect.gen(function*() {
      const { caller, client, connection } = yield* traced()
      const late = yield* Effect.forkChild(caller.record(Effect.exit(Deadline.within(client.Do("hang"), "1 second"))))
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(late)
      yield* connection.close
      yield* Effect.exit(caller.record(client.Do("it")))
      assert.deepEqual(caller.named(name).map(({ attributes }) => attributes.get("error.type")), [
        "DeadlineExceeded",
        "CommunicationError"
      ])
      assert.ok(caller.named(name).every((span) => Exit.isFailure(exitOf(span))))
    }).pipe(Effect.scoped))

  for (const side of ["connection", "server"] as const) {
    it.effect(`of a call whose answer is too large for the ${side} is in the client's span`, () =>
      Effect.gen(function*() {
        const caller = recorder()
        const Large = Component.make("test/Large", RpcGroup.make(Rpc.make("Do", { success: Schema.String })))
        const layer = Large.group.toLayer({ Do: () => Effect.succeed("x".repeat(2000)) })
        const { client } = yield* open(Large, layer, { [side]: { maxMessageSize: 1024 } })
        yield* Effect.flip(caller.record(client.Do()))
        const called = only(caller.named("test/Large/Do"))
        assert.equal(called.attributes.get("error.type"), "CommunicationError")
        assert.ok(Exit.isFailure(exitOf(called)))
      }).pipe(Effect.scoped))
  }

  it.effect("of a handler that the deadline has ended is that in the server's span", () =>
    Effect.gen(function*() {
      const { caller, client, server, started } = yield* traced()
      const late = yield* Effect.forkChild(caller.record(Effect.exit(Deadline.within(client.Do("hang"), "1 second"))))
      yield* started
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(late)
      // What comes after the end of the one has come: that has, too.
      yield* client.Do("it")
      assert.equal(server.named(name)[0]!.attributes.get("error.type"), "DeadlineExceeded")
    }).pipe(Effect.scoped))

  it.effect("of a payload that cannot be sent is a defect in the client's span", () =>
    Effect.gen(function*() {
      const { caller, client } = yield* traced()
      yield* Effect.exit(caller.record(client.Do(1 as never)))
      assert.equal(only(caller.named(name)).attributes.get("error.type"), "defect")
    }).pipe(Effect.scoped))

  it.effect("of a caller that has given up is shown as canceled", () =>
    Effect.gen(function*() {
      const { caller, client, server, started } = yield* traced()
      // So that the connection is there.
      yield* client.Do("it")
      server.spans.length = 0
      const calling = yield* Effect.forkChild(caller.record(client.Do("hang")))
      yield* started
      yield* Fiber.interrupt(calling)
      const called = only(caller.named(name))
      assert.equal(called.attributes.get("error.type"), "canceled")
      assert.ok(Exit.hasInterrupts(exitOf(called)))
      // What comes after the cancel has come: that has, too.
      yield* client.Do("it")
      const served = server.named(name)[0]!
      assert.equal(served.attributes.get("error.type"), "canceled")
      assert.ok(Exit.hasInterrupts(exitOf(served)))
    }).pipe(Effect.scoped))
})

describe("the trace", () => {
  it.effect("begins with the call where its caller has none", () =>
    Effect.gen(function*() {
      const { caller, client, server } = yield* traced()
      yield* caller.record(client.Do("it"))
      const called = only(caller.named(name))
      assert.equal(parentOf(called), undefined)
      assert.equal(parentOf(only(server.named(name)))?.spanId, called.spanId)
    }).pipe(Effect.scoped))

  it.effect("begins with the server's span where the client makes none and its caller has none", () =>
    Effect.gen(function*() {
      const { caller, client, server } = yield* traced({ disableTracing: true })
      yield* caller.record(client.Do("it"))
      assert.deepEqual(caller.spans, [])
      const served = only(server.named(name))
      assert.equal(parentOf(served), undefined)
      assert.equal(served.kind, "server")
      assert.equal(parentOf(only(server.named("work"))), served)
    }).pipe(Effect.scoped))

  it.effect("goes on from the caller's own span where the client makes none", () =>
    Effect.gen(function*() {
      const { caller, client, server } = yield* traced({ disableTracing: true })
      yield* client.Do("it").pipe(Effect.withSpan("caller"), caller.record)
      const outer = only(caller.spans)
      assert.equal(parentOf(only(server.named(name)))?.spanId, outer.spanId)
      assert.equal(only(server.named("work")).traceId, outer.traceId)
    }).pipe(Effect.scoped))

  it.effect("goes on to what the handler does where the server makes no span", () =>
    Effect.gen(function*() {
      const { caller, client, server } = yield* traced({ handlers: { disableTracing: true } })
      yield* caller.record(client.Do("it"))
      assert.deepEqual(server.spans.map(({ name }) => name), ["work"])
      const parent = parentOf(only(server.spans))
      const called = only(caller.spans)
      assert.deepEqual([parent?.spanId, parent?.traceId], [called.spanId, called.traceId])
    }).pipe(Effect.scoped))

  it.effect("goes on through both", () =>
    Effect.gen(function*() {
      const { caller, client, server } = yield* traced({ disableTracing: true, handlers: { disableTracing: true } })
      yield* client.Do("it").pipe(Effect.withSpan("caller"), caller.record)
      yield* caller.record(client.Do("it"))
      const [inTrace, without] = server.named("work")
      assert.equal(parentOf(inTrace!)?.spanId, only(caller.spans).spanId)
      assert.equal(parentOf(without!), undefined)
      assert.equal(server.spans.length, 2)
    }).pipe(Effect.scoped))

  it.effect("is sampled as the caller's is", () =>
    Effect.gen(function*() {
      const { caller, client, server } = yield* traced()
      for (const sampled of [true, false]) {
        yield* client.Do("it").pipe(Effect.withSpan("caller", { sampled }), caller.record)
        assert.equal(server.named(name).at(-1)?.sampled, sampled)
      }
    }).pipe(Effect.scoped))

  it.effect("has middleware in it, on either side", () =>
    Effect.gen(function*() {
      const { caller, connection, server } = yield* traced()
      const requests: Array<unknown> = []
      const context = yield* Layer.build(
        RpcMiddleware.layerClient(Guard, ({ next, request }) => {
          requests.push([request.traceId, request.spanId, request.sampled])
          return Effect.withSpan(next(request), "client guard")
        })
      )
      const client = yield* Effect.provideContext(clientOver(connection, Traced), context)
      yield* caller.record(client.Guarded())
      const called = only(caller.named("test/Traced/Guarded"))
      assert.equal(parentOf(only(caller.named("client guard"))), called)
      assert.deepEqual(requests, [[called.traceId, called.spanId, called.sampled]])
      const served = only(server.named("test/Traced/Guarded"))
      assert.equal(parentOf(only(server.named("guard"))), served)
      assert.equal(parentOf(served)?.spanId, called.spanId)
    }).pipe(Effect.scoped))

  it.effect("that was active when client and handlers were made does not continue in the calls", () =>
    Effect.gen(function*() {
      const { caller, client, server } = yield* Effect.withSpan(traced({ disableTracing: true }), "made")
      yield* caller.record(client.Do("it"))
      assert.equal(parentOf(only(server.named(name))), undefined)
      yield* client.Do("it").pipe(Effect.withSpan("caller"), caller.record)
      assert.equal(parentOf(server.named(name)[1]!)?.spanId, only(caller.spans).spanId)
    }).pipe(Effect.scoped))

  it.effect("is separate for each of several concurrent calls", () =>
    Effect.gen(function*() {
      const { caller, client, server } = yield* traced()
      yield* Effect.forEach(
        ["a", "b", "c", "d"],
        (how) => client.Do(how).pipe(Effect.withSpan("caller", { root: true })),
        { concurrency: "unbounded" }
      ).pipe(caller.record)
      const served = server.named(name)
      assert.equal(new Set(served.map(({ traceId }) => traceId)).size, 4)
      assert.deepEqual(
        new Set(served.map((span) => parentOf(span)?.spanId)),
        new Set(caller.named(name).map(({ spanId }) => spanId))
      )
    }).pipe(Effect.scoped))
})

describe("the spans of a stream", () => {
  it.effect("cover it from its open to its end, and count the items of both directions", () =>
    Effect.gen(function*() {
      const Double = Rpc.make("Double", { success: Schema.Int, error: NotFound, stream: true }).pipe(
        Component.accepts(Schema.Int)
      )
      const streams = RpcGroup.make(Double)
      const server = recorder()
      const client = recorder()
      const { client: calls } = yield* open(
        Component.make("test/Streams", streams),
        streams.toLayer({
          Double: () =>
            Stream.concat(
              Stream.unwrap(Component.items(Double)).pipe(Stream.flatMap((n) => Stream.make(n, n))),
              Stream.fail(new NotFound())
            )
        })
      ).pipe(server.record)
      const error = yield* Stream.runDrain(calls.Double(undefined, Stream.make(1, 2, 3))).pipe(
        client.record,
        Effect.flip
      )
      assert.deepEqual(error, new NotFound())
      const counts = { sent: 3, received: 6 }
      for (const [spans, { received, sent }] of [[client, counts], [server, { sent: 6, received: 3 }]] as const) {
        const [span] = spans.named("test/Streams/Double")
        assert.ok(span !== undefined && span.status._tag === "Ended")
        assert.equal(span.attributes.get("rpc.effect_call.items_sent"), sent)
        assert.equal(span.attributes.get("rpc.effect_call.items_received"), received)
        assert.equal(span.attributes.get("error.type"), "NotFound")
        const names = span.events.map(([name, , attributes]) => `${name} ${String(attributes?.["rpc.message.type"])}`)
        assert.deepEqual(
          new Set(names),
          new Set(["rpc.message RECEIVED", "rpc.message SENT", "rpc.stream.end undefined"])
        )
        assert.equal(names.length, 3)
      }
      assert.equal(server.named("test/Streams/Double")[0]?.traceId, client.named("test/Streams/Double")[0]?.traceId)
    }).pipe(Effect.scoped))
})

describe("without a tracer", () => {
  it.effect("nothing breaks on the client, and the trace goes on from the last span before", () =>
    Effect.gen(function*() {
      const { caller, client, server } = yield* traced()
      yield* caller.record(Effect.withTracerEnabled(client.Do("it"), false))
      yield* client.Do("it").pipe(Effect.withTracerEnabled(false), Effect.withSpan("caller"), caller.record)
      assert.deepEqual(caller.spans.map(({ name }) => name), ["caller"])
      const [first, second] = server.named(name)
      assert.equal(parentOf(first!), undefined)
      assert.equal(parentOf(second!)?.spanId, only(caller.spans).spanId)
    }).pipe(Effect.scoped))

  it.effect("nothing breaks on the server", () =>
    Effect.gen(function*() {
      const { caller, client, server } = yield* Effect.withTracerEnabled(traced(), false)
      assert.equal(yield* caller.record(client.Do("it")), "it")
      assert.deepEqual(yield* Effect.flip(client.Do("fail")), new NotFound())
      assert.deepEqual(server.spans, [])
    }).pipe(Effect.scoped))
})

describe("a call that is discarded", () => {
  it.effect("has a client span that ends with the call, and a server span that ends with the handler", () =>
    Effect.gen(function*() {
      const { caller, client, serving, server, started } = yield* traced({ server: { shutdownGrace: 0 } })
      yield* caller.record(client.Do("hang", { discard: true }))
      yield* started
      assert.ok(Exit.isSuccess(exitOf(only(caller.named(name)))))
      const served = only(server.named(name))
      assert.equal(served.status._tag, "Started")
      assert.equal(parentOf(served)?.spanId, only(caller.named(name)).spanId)
      yield* Fiber.interrupt(serving)
      assert.ok(Exit.hasInterrupts(exitOf(served)))
    }).pipe(Effect.scoped))
})
