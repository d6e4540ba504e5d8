/** Spans of calls: their names, attributes and kinds of failure. */
import { describe, it } from "@effect/vitest"
import { Cause, Context, Effect, Exit, Fiber, Option, Tracer } from "effect"
import { CallError, MethodKey } from "effect-call"
import * as assert from "node:assert/strict"
import {
  annotate,
  errorType,
  methodAttributes,
  recordFailure,
  serverAttributes,
  spanName
} from "../../../src/internal/telemetry/span.ts"

const key = MethodKey.make("shop/Cart", "get")

describe("a span of a call", () => {
  it("is named after the component and the method", () => {
    assert.equal(spanName(key), "shop/Cart/get")
    assert.deepEqual(methodAttributes(key), {
      "rpc.system.name": "effect_call",
      "rpc.service": "shop/Cart",
      "rpc.method": "get"
    })
  })

  it("has the host and the port of an endpoint, or its address as a whole", () => {
    assert.deepEqual(serverAttributes("tcp://10.0.0.1:80"), { "server.address": "10.0.0.1", "server.port": 80 })
    assert.deepEqual(serverAttributes("memory://a"), { "server.address": "memory://a" })
  })

  it("may throw when it is annotated, which fails nothing", () => {
    const throwing = {
      attribute: () => {
        throw new Error("no more attributes")
      }
    }
    annotate(throwing as never, "error.type", "defect")
    annotate(undefined, "error.type", "defect")
  })
})

describe("the kind of a failure", () => {
  it("is the tag of an error, or says that there was an interruption or a defect", () => {
    const lost = new CallError.CommunicationError({ reason: { _tag: "Lost" }, message: "lost", maybeExecuted: true })
    assert.equal(errorType(Cause.fail(lost)), "CommunicationError")
    assert.equal(errorType(Cause.interrupt(1)), "canceled")
    assert.equal(errorType(Cause.die(new Error("a bug"))), "defect")
  })

  const kindsOf = (effect: Effect.Effect<unknown, unknown>) =>
    Effect.gen(function*() {
      const span = new Tracer.NativeSpan({
        name: "shop/Cart/get",
        parent: Option.none(),
        annotations: Context.empty(),
        links: [],
        startTime: 0n,
        kind: "client",
        sampled: true
      })
      const fiber = yield* Effect.forkChild(recordFailure(span, effect), { startImmediately: true })
      yield* Fiber.interrupt(fiber)
      return [span.attributes.get("error.type"), Exit.isSuccess(yield* Fiber.await(fiber))]
    })

  it.effect("is written to the span, also for an interruption, and not for a success", () =>
    Effect.gen(function*() {
      assert.deepEqual(yield* kindsOf(Effect.fail({ _tag: "OutOfStock" })), ["OutOfStock", false])
      assert.deepEqual(yield* kindsOf(Effect.never), ["canceled", false])
      assert.deepEqual(yield* kindsOf(Effect.succeed(1)), [undefined, true])
    }))
})
