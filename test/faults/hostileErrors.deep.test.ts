/**
 * Errors that throw when they are looked at, or are nothing like an error: each call that ends with one is answered and
 * counted as a failure, and the server goes on.
 */
import { describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Schema, Tracer } from "effect"
import { CallError, Component, HandlerMap, MethodKey } from "effect-call"
import { PrometheusMetrics } from "effect/observability"
import { Rpc, RpcGroup } from "effect/rpc"
import * as assert from "node:assert/strict"
import { clientOver } from "../Component/support.ts"
import { until } from "../Connection/support.ts"
import { hostileErrors } from "../support/hostileErrors.ts"
import { makeLog } from "../support/log.ts"
import { callsOf, metered } from "../support/metrics.ts"
import { component, connect, echo, handlers, tcp } from "../support/networks.ts"

const nothing = new Uint8Array()

/** A failure that a method declares, whose tag is looked up. */
class Problem extends Schema.Error<Problem>("Problem")({ kind: Schema.String }) {
  get _tag(): string {
    throw new Error(`no tag for ${this.kind}`)
  }
}

/** A failure that a method declares and that can be sent, but whose name throws, at the caller, too. */
class Lazy extends Schema.Error<Lazy>("Lazy")({ kind: Schema.String }) {
  override get name(): string {
    throw new Error(`no name for ${this.kind}`)
  }
}

const group = RpcGroup.make(
  Rpc.make("Fail", { error: Schema.String }),
  Rpc.make("FailLater", { error: Schema.String }),
  Rpc.make("FailUnknown", { error: Schema.Unknown }),
  Rpc.make("Die"),
  Rpc.make("DieLater"),
  Rpc.make("Problem", { error: Problem }),
  Rpc.make("ProblemLater", { error: Problem }),
  Rpc.make("Lazy", { error: Lazy })
)
const Typed = Component.make("test/Typed", group)

/** As a tracer that exports spans does: it reads what they end with. */
const readingTracer = () => {
  const ended: Array<Tracer.Span> = []
  class ReadingSpan extends Tracer.NativeSpan {
    override end(endTime: bigint, exit: Exit.Exit<unknown, unknown>): void {
      super.end(endTime, exit)
      if (Exit.isFailure(exit)) Cause.prettyErrors(exit.cause, { includeCauseInStack: true })
      ended.push(this)
    }
  }
  return { ended, tracer: Tracer.make({ span: (options) => new ReadingSpan(options) }) }
}

const later = <A, E>(effect: Effect.Effect<A, E>) => Effect.andThen(Effect.yieldNow, effect)

/** A server whose handlers end with what `make` gives, and a client of it. */
const open = Effect.fnUntraced(function*(make: () => unknown, tracing: boolean) {
  const fail = Effect.suspend(() => Effect.fail(make()))
  const die = Effect.suspend(() => Effect.die(make()))
  // Failures that a method does not declare, as JavaScript may have them.
  const undeclared = fail as Effect.Effect<never, never>
  const problem = Effect.suspend(() => new Problem({ kind: "new" }))
  const typed = yield* Component.handlers(
    Typed,
    group.toLayer({
      Fail: () => undeclared,
      FailLater: () => later(undeclared),
      FailUnknown: () => fail,
      Die: () => die,
      DieLater: () => later(die),
      Problem: () => problem,
      ProblemLater: () => later(problem),
      Lazy: () => Effect.suspend(() => new Lazy({ kind: "new" }))
    }),
    { disableTracing: !tracing }
  )
  const bytes = handlers.pipe(
    HandlerMap.set(component, "fail", () => fail),
    HandlerMap.set(component, "fail later", () => later(fail)),
    HandlerMap.set(component, "die", () => die),
    HandlerMap.set(component, "die later", () => later(die)),
    HandlerMap.set(component, "throw", (): Effect.Effect<Uint8Array> => {
      throw make()
    }),
    HandlerMap.set(component, "finalize", () => Effect.as(Effect.addFinalizer(() => die), nothing))
  )
  const { endpoint } = yield* tcp.serve(HandlerMap.merge(bytes, typed))
  const connection = yield* connect([endpoint])
  const client = yield* clientOver(connection, Typed, { disableTracing: !tracing })
  const call = (method: string) => connection.call(MethodKey.make(component, method), nothing)
  return { connection, client, call }
})

const labels = (scrape: string, name: string) =>
  Array.from(scrape.matchAll(new RegExp(`${name}="((?:[^"\\\\]|\\\\.)*)"`, "g")), ([, value]) => value ?? "")

for (const tracing of [true, false]) {
  describe(tracing ? "with spans, which a tracer reads" : "without spans", () => {
    for (const [what, make] of Object.entries(hostileErrors)) {
      it.live(
        `calls that end with ${what} fail at their callers, are counted as failures, and the server goes on`,
        metered((metrics) => {
          const log = makeLog()
          const { ended, tracer } = readingTracer()
          return Effect.gen(function*() {
            const { call, client, connection } = yield* open(make, tracing)
            const bytes = ["fail", "fail later", "die", "die later", "throw", "finalize"]
            const typed: Record<string, Effect.Effect<void, unknown>> = {
              Fail: client.Fail(),
              FailLater: client.FailLater(),
              Die: client.Die(),
              DieLater: client.DieLater(),
              Problem: client.Problem(),
              ProblemLater: client.ProblemLater()
            }
            for (
              const [name, called] of [...bytes.map((name) => [name, call(name)] as const), ...Object.entries(typed)]
            ) {
              const exit = yield* Effect.exit(tracing ? Effect.withSpan(called, "caller") : called)
              assert.ok(Exit.isFailure(exit), name)
              const [reason, ...others] = exit.cause.reasons
              // `Fail` declares a text, and some of these are one.
              const isDeclared = reason?._tag === "Fail" && name.startsWith("Fail") && reason.error === make()
              assert.ok(reason?._tag === "Fail" && (isDeclared || CallError.isCallError(reason.error)), name)
              assert.deepEqual(others, [])
            }
            // Whether it can be sent depends on what it is. It ends, and what it ends with is no defect of the server.
            const unknown = yield* Effect.exit(client.FailUnknown())
            assert.ok(Exit.isFailure(unknown))
            // Answered as soon as they start.
            yield* client.Fail(undefined, { discard: true })
            yield* client.DieLater(undefined, { discard: true })
            const args = new Uint8Array([1])
            assert.deepEqual(yield* connection.call(echo, args), args)

            const failed = () => callsOf(metrics, "server").filter((line) => !line.includes("echo"))
            const total = () => failed().reduce((sum, line) => sum + Number.parseInt(line), 0)
            yield* until(() => total() === bytes.length + Object.keys(typed).length + 3)
            for (const line of failed()) assert.doesNotMatch(line, /: (ok)?$/)
            const scrape = yield* PrometheusMetrics.format()
            for (const type of labels(scrape, "error_type")) {
              assert.ok(type.length > 0 && type.length < 500, `a type of ${type.length}`)
            }
            // Each defect was logged, and so was the end of each task that no fiber waited for.
            const logged = log.lines.map(({ message }) => message)
            assert.ok(logged.filter((message) => message === "a handler died").length >= 6, String(logged))
            assert.equal(logged.filter((message) => message === "the handler of a discarded call failed").length, 2)
            for (const { cause } of log.lines) assert.notEqual(cause, "")
            for (const span of ended) assert.notEqual(span.attributes.get("error.type"), "")
            if (tracing) {
              assert.equal(
                ended.filter(({ name }) => name === "caller").length,
                bytes.length + Object.keys(typed).length
              )
            }
          }).pipe(Effect.provide(log.layer), Effect.withTracer(tracer))
        })
      )
    }
  })
}

describe("a handler that succeeds with what is no bytes", () => {
  const { proxy, revoke } = Proxy.revocable(new Uint8Array(1), {})
  revoke()
  const results: Readonly<Record<string, object>> = {
    "a revoked proxy of bytes": proxy,
    "a proxy of bytes": new Proxy(new Uint8Array(1), {}),
    "an object with the prototype of bytes": Object.create(Uint8Array.prototype)
  }
  for (const [what, result] of Object.entries(results)) {
    it.live(`is answered as one that died, and logged, where it is ${what}`, () => {
      const log = makeLog()
      // Whatever its type says.
      const succeed = Effect.succeed(result as Uint8Array)
      return Effect.gen(function*() {
        const { endpoint } = yield* tcp.serve(handlers.pipe(
          HandlerMap.set(component, "give", () => succeed),
          HandlerMap.set(component, "give later", () => later(succeed))
        ))
        const connection = yield* connect([endpoint])
        for (const method of ["give", "give later"]) {
          const error = yield* Effect.flip(connection.call(MethodKey.make(component, method), nothing))
          assert.deepEqual([error._tag, error.message], ["RemoteError", "internal error: the handler died"])
        }
        assert.deepEqual(log.lines.map(({ message }) => message), ["a handler died", "a handler died"])
        assert.match(log.lines[0]!.cause, /the result of .*: expected a Uint8Array, got /)
      }).pipe(Effect.provide(log.layer))
    })
  }
})

describe("a failure that a method declares, and whose name throws", () => {
  for (const tracing of [true, false]) {
    it.live(
      `comes to its caller as it is, ${
        tracing ? "and both its spans end with what can be said of it" : "without spans"
      }`,
      metered((metrics) => {
        const { ended, tracer } = readingTracer()
        return Effect.gen(function*() {
          const { client } = yield* open(() => "unused", tracing)
          const error = yield* Effect.flip(client.Lazy())
          assert.ok(error instanceof Lazy && error.kind === "new")
          yield* until(() => callsOf(metrics, "server").length === 1)
          assert.match(callsOf(metrics, "server").join(), /^1 Lazy at 127\.0\.0\.1: failure$/)
          assert.match(callsOf(metrics, "client").join(), /^1 Lazy at 127\.0\.0\.1: failure$/)
          const spans = ended.map(({ attributes, name, status }) => {
            assert.ok(status._tag === "Ended" && Exit.isFailure(status.exit))
            return [name, attributes.get("error.type"), Cause.pretty(status.exit.cause).split("\n", 1)[0]]
          })
          const span = ["test/Typed/Lazy", "failure", "failure: an error whose message could not be read"]
          assert.deepEqual(spans, tracing ? [span, span] : [])
        }).pipe(Effect.withTracer(tracer))
      })
    )
  }
})
