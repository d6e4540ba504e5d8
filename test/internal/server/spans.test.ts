import { describe, it } from "@effect/vitest"
import { type Cause, Effect, Exit, Tracer } from "effect"
import { HandlerMap, MethodKey } from "effect-call"
import * as assert from "node:assert/strict"
import { Spans } from "../../../src/internal/server/spans.ts"
import { routeIn } from "./support.ts"

const handlers = HandlerMap.empty.pipe(
  HandlerMap.set("test/Store", "get", Effect.succeed),
  HandlerMap.set("test/Store", "put", Effect.succeed)
)
const get = routeIn(handlers, MethodKey.make("test/Store", "get"))
const put = routeIn(handlers, MethodKey.make("test/Store", "put"))

const remote = { address: "10.0.0.7", port: 4711 }
const kindOf = (cause: Cause.Cause<unknown>) => `a cause of ${cause.reasons.length}`

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
  return { spans, record: Effect.withTracer(tracer) }
}

describe("the server span of a call", () => {
  it.effect("is a root that names the method and the client, where the caller sent no trace context", () =>
    Effect.gen(function*() {
      const { record, spans } = recorder()
      yield* record(new Spans(remote).within(get, undefined, Effect.void, kindOf))
      assert.equal(spans.length, 1)
      assert.deepEqual([spans[0]!.name, spans[0]!.kind, spans[0]!.parent._tag], ["test/Store/get", "server", "None"])
      assert.deepEqual(Object.fromEntries(spans[0]!.attributes), {
        "rpc.system.name": "effect_call",
        "rpc.service": "test/Store",
        "rpc.method": "get",
        "network.peer.address": "10.0.0.7",
        "network.peer.port": 4711
      })
    }))

  it.effect("says nothing of a client that the system does not know", () =>
    Effect.gen(function*() {
      const { record, spans } = recorder()
      yield* record(new Spans(undefined).within(get, undefined, Effect.void, kindOf))
      assert.deepEqual([...spans[0]!.attributes.keys()], ["rpc.system.name", "rpc.service", "rpc.method"])
    }))

  it.effect("names the method of each call, also when calls of another method came before", () =>
    Effect.gen(function*() {
      const { record, spans } = recorder()
      const own = new Spans(remote)
      for (const route of [get, put, get]) yield* record(own.within(route, undefined, Effect.void, kindOf))
      assert.deepEqual(spans.map(({ attributes }) => attributes.get("rpc.method")), ["get", "put", "get"])
    }))

  it.effect("is the child of the caller's span, and the parent of the spans of the handler", () =>
    Effect.gen(function*() {
      const { record, spans } = recorder()
      const caller = { traceId: "0af7651916cd43dd8448eb211c80319c", spanId: "b7ad6b7169203331", sampled: true }
      const handler = Effect.withSpan(Effect.succeed("result"), "work")
      const result = yield* record(new Spans(remote).within(get, Tracer.externalSpan(caller), handler, kindOf))
      assert.equal(result, "result")
      const [span, work] = spans
      assert.deepEqual(spans.map(({ traceId }) => traceId), [caller.traceId, caller.traceId])
      assert.deepEqual([span!.parent, work!.parent].map((parent) => parent._tag === "Some" && parent.value.spanId), [
        caller.spanId,
        span!.spanId
      ])
    }))

  it.effect("says of which kind the handler's failure is, and ends with it", () =>
    Effect.gen(function*() {
      const { record, spans } = recorder()
      const exit = yield* Effect.exit(record(new Spans(remote).within(get, undefined, Effect.fail("boom"), kindOf)))
      assert.deepEqual(exit, Exit.fail("boom"))
      const { attributes, status } = spans[0]!
      assert.equal(attributes.get("error.type"), "a cause of 1")
      assert.ok(status._tag === "Ended" && Exit.isFailure(status.exit))
    }))
})
