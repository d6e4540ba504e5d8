/**
 * What becomes of a call at the server: its handler's result, failure or end, its Scope and its services.
 */
import { describe, it } from "@effect/vitest"
import { Cause, Context, Deferred, Effect, Exit, Fiber, Layer } from "effect"
import { type CallError, Endpoint, HandlerMap, Listener, MethodKey, Server } from "effect-call"
import * as assert from "node:assert/strict"
import { duplexPair } from "node:stream"
import { makeLog } from "./support/log.ts"
import {
  bytesOf,
  component,
  connect,
  eachNetwork,
  eachWay,
  echo,
  handlers,
  memory,
  someWays,
  textOf,
  type Way
} from "./support/networks.ts"

const nothing = new Uint8Array()
const method = (name: string) => MethodKey.make(component, name)
const plain = (text: string) => ({ message: text, identity: `(:&errors.errorString{s:${JSON.stringify(text)}})` })

const remote = (error: CallError.CallError): CallError.RemoteError => {
  assert.ok(error._tag === "RemoteError", `expected a RemoteError, got ${error._tag}: ${error.message}`)
  return error
}

/** Handlers that end in every way but well. */
const failing = handlers.pipe(
  HandlerMap.set(
    component,
    "wrapped",
    () => Effect.fail(new Error("cannot load the cart", { cause: new TypeError("no such row", { cause: "disk" }) }))
  ),
  HandlerMap.set(component, "text", () => Effect.fail("just a text")),
  HandlerMap.set(component, "object", () => Effect.fail({ code: 7 })),
  HandlerMap.set(component, "defect", () => Effect.die(new Error("secret detail"))),
  HandlerMap.set(
    component,
    "late defect",
    () => Effect.andThen(Effect.yieldNow, Effect.die(new Error("secret detail")))
  ),
  HandlerMap.set(component, "throws", (): Effect.Effect<Uint8Array> => {
    throw new Error("secret detail")
  }),
  // What JavaScript, or a cast, may do.
  HandlerMap.set(component, "string", () => Effect.succeed("secret detail" as unknown as Uint8Array)),
  HandlerMap.set(component, "late string", () => Effect.as(Effect.yieldNow, "secret detail" as unknown as Uint8Array)),
  HandlerMap.set(component, "interrupted", () => Effect.interrupt),
  HandlerMap.set(
    component,
    "finalizer",
    () => Effect.as(Effect.addFinalizer(() => Effect.die(new Error("secret detail"))), nothing)
  )
)

describe("a handler that fails", () => {
  const failOver = (way: Way) => (name: string) => {
    const log = makeLog()
    return Effect.gen(function*() {
      const connection = yield* way.open(failing)
      const error = remote(yield* Effect.flip(connection.call(method(name), bytesOf("boom"))))
      // Whatever happened, the server and the connection live.
      assert.equal(textOf(yield* connection.call(echo, bytesOf("next"))), "next")
      return { error, lines: log.lines }
    }).pipe(Effect.scoped, Effect.provide(log.layer))
  }

  const bug = (way: Way, name: string) =>
    it.live(`with a bug (${name}): no details to the caller, all of them to the log`, () =>
      Effect.gen(function*() {
        const { error, lines } = yield* failOver(way)(name)
        assert.deepEqual(error.chain, [plain("internal error: the handler died")])
        assert.equal(lines.length, 1)
        assert.equal(lines[0]!.level, "Error")
        assert.equal(lines[0]!.message, "a handler died")
        assert.deepEqual(lines[0]!.annotations, { component, method: name })
        const expected = name.endsWith("string")
          ? `the result of ${component}.${name}: expected a Uint8Array, got`
          : "secret detail"
        assert.ok(lines[0]!.cause.includes(expected), lines[0]!.cause)
      }))

  eachWay((way) => {
    const fail = failOver(way)

    it.live("with an Error: a RemoteError with its text and identity", () =>
      Effect.gen(function*() {
        const { error, lines } = yield* fail("error")
        assert.equal(error.message, "boom")
        assert.deepEqual(error.chain, [plain("boom")])
        assert.ok(error.is(plain("boom").identity))
        assert.ok(!error.isUnknownMethod && !error.isOverloaded)
        assert.deepEqual(lines, [])
      }))

    bug(way, "defect")

    it.live("because the method has none: isUnknownMethod", () =>
      Effect.gen(function*() {
        const { error } = yield* fail("no such method")
        assert.ok(error.isUnknownMethod)
        assert.equal(error.message, "internal error: unknown function")
      }))
  })

  eachWay((way) => {
    const fail = failOver(way)

    it.live("with causes: the causes are the rest of the chain", () =>
      Effect.gen(function*() {
        const { error } = yield* fail("wrapped")
        assert.equal(error.message, "cannot load the cart")
        assert.deepEqual(error.chain, [plain("cannot load the cart"), plain("no such row"), plain("disk")])
      }))

    it.live("with something that is no Error: its text", () =>
      Effect.gen(function*() {
        assert.equal((yield* fail("text")).error.message, "just a text")
        assert.equal((yield* fail("object")).error.message, "{\"code\":7}")
      }))

    for (const name of ["late defect", "throws", "string", "late string", "finalizer"]) bug(way, name)

    it.live("with an interruption of its own making: context canceled", () =>
      Effect.gen(function*() {
        const { error } = yield* fail("interrupted")
        assert.deepEqual(error.chain, [{
          message: "context canceled",
          identity: "(:&errors.errorString{s:\"context canceled\"})"
        }])
      }))
  }, someWays)

  eachNetwork((network) => {
    it.live("with the RemoteError of a call of its own: the chain goes on to the caller", () =>
      Effect.gen(function*() {
        const back = yield* connect([(yield* network.serve(failing)).endpoint])
        const front = yield* network.serve(HandlerMap.empty.pipe(
          HandlerMap.set(component, "forward", (args) => back.call(method(textOf(args)), nothing)),
          HandlerMap.set(component, "wrap", (args) =>
            back.call(method(textOf(args)), nothing).pipe(
              Effect.mapError((cause) => new Error("the back end failed", { cause }))
            ))
        ))
        const connection = yield* connect([front.endpoint])
        const failure = (name: string, args: string) =>
          Effect.map(Effect.flip(connection.call(method(name), bytesOf(args))), remote)
        const chain = [plain("cannot load the cart"), plain("no such row"), plain("disk")]
        assert.deepEqual((yield* failure("forward", "wrapped")).chain, chain)
        assert.deepEqual((yield* failure("wrap", "wrapped")).chain, [plain("the back end failed"), ...chain])
        // The method that was called is known here; only the one behind it is not.
        const unknown = yield* failure("forward", "nowhere")
        assert.ok(!unknown.isUnknownMethod)
        assert.ok(unknown.is("(:&errors.errorString{s:\"internal error: unknown function\"})"))
      }).pipe(Effect.scoped))

    it.live("with a text that does not fit a message: an error that says so, and the connection lives", () =>
      Effect.gen(function*() {
        const { endpoint } = yield* network.serve(
          HandlerMap.set(handlers, component, "long", () => Effect.fail(new Error("x".repeat(5000)))),
          { maxMessageSize: 2048 }
        )
        const connection = yield* connect([endpoint], { maxMessageSize: 2048 })
        const error = yield* Effect.flip(connection.call(method("long"), nothing))
        assert.ok(error._tag === "CommunicationError", error.message)
        assert.deepEqual([error.reason._tag, error.maybeExecuted], ["TooLarge", true])
        assert.match(
          error.message,
          /^the call of test\/Echo\.long failed, with an error of 10044 bytes, expected at most 2048$/
        )
        assert.equal(textOf(yield* connection.call(echo, bytesOf("next"))), "next")
      }).pipe(Effect.scoped))
  })
})

describe("an answer that is too large", () => {
  const answers: ReadonlyArray<readonly [string, HandlerMap.Handler]> = [
    ["result", () => Effect.succeed(new Uint8Array(1025))],
    ["error", () => Effect.fail(new Error("x".repeat(1025)))]
  ]
  for (const [what, handler] of answers) {
    it.effect(`fails its call also with the smallest limit and the longest name: a ${what}`, () =>
      Effect.gen(function*() {
        const name = "methode-ä-".repeat(500)
        const { endpoint } = yield* memory.serve(HandlerMap.set(handlers, component, name, handler), {
          maxMessageSize: 1024
        })
        const connection = yield* connect([endpoint], { maxMessageSize: 1024 })
        const error = yield* Effect.flip(connection.call(method(name), nothing))
        assert.ok(error._tag === "CommunicationError", error.message)
        assert.deepEqual([error.reason._tag, error.maybeExecuted], ["TooLarge", true])
        assert.match(error.message, / of test\/Echo\.methode-ä-.*….* expected at most 1024$/)
      }).pipe(Effect.scoped))
  }
})

describe("a handler's Scope", () => {
  eachNetwork((network) => {
    it.live("belongs to the call, and is closed before the call is answered", () =>
      Effect.gen(function*() {
        const events: Array<string> = []
        const { endpoint } = yield* network.serve(
          HandlerMap.set(HandlerMap.empty, component, "scoped", (args) =>
            Effect.gen(function*() {
              const name = textOf(args)
              yield* Effect.addFinalizer((exit) =>
                Effect.andThen(Effect.sleep(5), Effect.sync(() => events.push(`${name} closed: ${exit._tag}`)))
              )
              if (name === "b") return yield* Effect.fail(new Error("b fails"))
              return args
            }))
        )
        const connection = yield* connect([endpoint])
        yield* connection.call(method("scoped"), bytesOf("a"))
        events.push("a answered")
        yield* Effect.flip(connection.call(method("scoped"), bytesOf("b")))
        events.push("b answered")
        assert.deepEqual(events, ["a closed: Success", "a answered", "b closed: Failure", "b answered"])
      }).pipe(Effect.scoped))

    it.live("is closed when the call is cancelled, and the fibers in it are interrupted", () =>
      Effect.gen(function*() {
        const started = yield* Deferred.make<void>()
        const released = yield* Deferred.make<Exit.Exit<unknown, unknown>>()
        const child = yield* Deferred.make<void>()
        const { endpoint } = yield* network.serve(
          HandlerMap.set(HandlerMap.empty, component, "scoped", () =>
            Effect.gen(function*() {
              yield* Effect.addFinalizer((exit) => Deferred.succeed(released, exit))
              yield* Effect.forkScoped(Effect.onInterrupt(Effect.never, () => Deferred.succeed(child, undefined)), {
                startImmediately: true
              })
              yield* Deferred.succeed(started, undefined)
              return yield* Effect.never
            }))
        )
        const connection = yield* connect([endpoint])
        const calling = yield* Effect.forkChild(connection.call(method("scoped"), nothing))
        yield* Deferred.await(started)
        yield* Fiber.interrupt(calling)
        const exit = yield* Deferred.await(released)
        assert.ok(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause))
        yield* Deferred.await(child)
      }).pipe(Effect.scoped))
  })
})

describe("what handlers need", () => {
  const Greeting = Context.Service<{ readonly text: string }>("test/Greeting")
  const greeter = HandlerMap.set(
    HandlerMap.empty,
    component,
    "greet",
    () => Effect.map(Greeting, ({ text }) => bytesOf(text))
  )

  it.effect("comes from the environment of serve, not from the caller's", () =>
    Effect.gen(function*() {
      const { endpoint } = yield* memory.serve(greeter).pipe(Effect.provideService(Greeting, { text: "hello" }))
      const connection = yield* connect([endpoint])
      const result = yield* connection.call(method("greet"), nothing).pipe(
        Effect.provideService(Greeting, { text: "the caller's" })
      )
      assert.equal(textOf(result), "hello")
    }).pipe(Effect.scoped))

  it.live("comes from the layers that a server layer is given", () =>
    Effect.gen(function*() {
      const { address } = yield* Server.Server
      const connection = yield* connect([yield* Endpoint.parse(address)])
      assert.equal(textOf(yield* connection.call(method("greet"), nothing)), "ahoy")
    }).pipe(
      Effect.scoped,
      Effect.provide(
        Server.layer(Listener.tcp("127.0.0.1:0", greeter)).pipe(
          Layer.provide(Layer.succeed(Greeting, { text: "ahoy" }))
        )
      )
    ))
})

describe("overload", () => {
  eachNetwork((network) => {
    it.live("one call runs, one waits, a third is refused and never executed; cancels still get through", () =>
      Effect.gen(function*() {
        const events: Array<string> = []
        let noted = () => {}
        const note = (event: string) =>
          Effect.sync(() => {
            events.push(event)
            noted()
          })
        const until = (event: string) =>
          Effect.callback<void>((resume) => {
            noted = () => events.includes(event) && resume(Effect.void)
            noted()
          })
        const { endpoint } = yield* network.serve(
          HandlerMap.set(handlers, component, "work", (args) => {
            const name = textOf(args)
            return Effect.andThen(note(`${name} started`), name === "last" ? Effect.succeed(args) : Effect.never).pipe(
              Effect.onInterrupt(() => note(`${name} interrupted`))
            )
          }),
          { maxConcurrentCalls: 1, maxQueuedCalls: 1 }
        )
        // Two connections: the limits are the server's.
        const connection = yield* connect([endpoint])
        const another = yield* connect([endpoint])
        const work = (name: string) => connection.call(method("work"), bytesOf(name))

        const first = yield* Effect.forkChild(work("first"), { startImmediately: true })
        yield* until("first started")
        const second = yield* Effect.forkChild(work("second"), { startImmediately: true })
        // Sent after the second, which takes the only place in the queue.
        const third = remote(yield* Effect.flip(work("third")))
        assert.ok(third.isOverloaded)
        assert.deepEqual(third.chain, [{ message: "overloaded", identity: "(effect-call:overloaded)" }])
        assert.ok(remote(yield* Effect.flip(another.call(echo, nothing))).isOverloaded)
        // A method that is not there is no work.
        assert.ok(remote(yield* Effect.flip(another.call(method("missing"), nothing))).isUnknownMethod)

        // A call that waits leaves the queue when it is cancelled, and makes room.
        yield* Fiber.interrupt(second)
        const last = yield* Effect.forkChild(work("last"), { startImmediately: true })
        assert.ok(remote(yield* Effect.flip(work("fourth"))).isOverloaded)
        yield* Fiber.interrupt(first)
        yield* until("first interrupted")
        assert.equal(textOf(yield* Fiber.join(last)), "last")
        assert.deepEqual(events, ["first started", "first interrupted", "last started"])
      }).pipe(Effect.scoped))
  })

  it.live("calls that wait are started in the order in which they came", () =>
    Effect.gen(function*() {
      const order: Array<string> = []
      const { endpoint } = yield* memory.serve(
        HandlerMap.set(HandlerMap.empty, component, "work", (args) =>
          Effect.map(Effect.yieldNow, () => {
            order.push(textOf(args))
            return args
          })),
        { maxConcurrentCalls: 1 }
      )
      const connection = yield* connect([endpoint])
      const names = Array.from({ length: 100 }, (_, i) => `call ${i}`)
      yield* Effect.forEach(names, (name) => connection.call(method("work"), bytesOf(name)), {
        concurrency: "unbounded"
      })
      assert.deepEqual(order, names)
    }).pipe(Effect.scoped))

  it.live("never more than maxConcurrentCalls run at once, and all queued calls get their turn", () =>
    Effect.gen(function*() {
      let running = 0
      let most = 0
      const { endpoint } = yield* memory.serve(
        HandlerMap.set(HandlerMap.empty, component, "work", (args) =>
          Effect.gen(function*() {
            most = Math.max(most, ++running)
            yield* Effect.sleep(1)
            running--
            return args
          })),
        { maxConcurrentCalls: 7, inlineHandlerDuration: 0 }
      )
      const connection = yield* connect([endpoint])
      const results = yield* Effect.forEach(
        Array.from({ length: 100 }, (_, i) => i),
        (i) => connection.call(method("work"), Uint8Array.of(i)),
        { concurrency: "unbounded" }
      )
      assert.deepEqual(results.map(([n]) => n), Array.from({ length: 100 }, (_, i) => i))
      assert.equal(most, 7)
    }).pipe(Effect.scoped))
})

describe("a server", () => {
  for (
    const [options, message] of [
      [{ maxConcurrentCalls: 0 }, "option maxConcurrentCalls: expected a whole number, 1 or more, or Infinity, got 0"],
      [{ maxQueuedCalls: -1 }, "option maxQueuedCalls: expected a whole number, 0 or more, or Infinity, got -1"],
      [
        { keepAlive: { interval: -1 } },
        "option keepAlive.interval: expected a duration of more than zero, got -1"
      ],
      [{ keepAlive: true as never }, "option keepAlive: expected an object, or false, got true"],
      [{ unsentTimeout: 0 }, "option unsentTimeout: expected a duration of more than zero, got 0"],
      [{ shutdownGrace: -1 }, "option shutdownGrace: expected a duration of zero or more, got -1"],
      [
        { maxMessageSize: 1e12 },
        "option maxMessageSize: expected a whole number of bytes from 1024 to 104857600, got 1000000000000"
      ]
    ] as ReadonlyArray<[Server.ServerOptions, string]>
  ) {
    it.effect(`refuses options that make no sense: ${JSON.stringify(options)}`, () =>
      Effect.gen(function*() {
        const { listener } = yield* memory.listen(handlers)
        const [duplex] = duplexPair()
        for (
          const refusing of [
            Server.serve(listener, options),
            Server.serveOn(duplex, handlers, options),
            Layer.build(Server.layer(Effect.succeed(listener), options))
          ]
        ) {
          const defect = yield* Effect.catchDefect(refusing, (defect) => Effect.succeed(defect))
          assert.ok(defect instanceof RangeError)
          assert.equal(defect.message, message)
        }
      }).pipe(Effect.scoped))
  }
})

describe("layer", () => {
  it.live("with options that make no sense is a defect that names the option, before anything listens", () =>
    Effect.gen(function*() {
      let listened = 0
      const listener = Effect.andThen(Effect.sync(() => listened++), Listener.tcp("127.0.0.1:0", handlers))
      const layer = Server.layer(listener, { maxMessageSize: -1 })
      const defect = yield* Effect.catchDefect(Layer.build(layer), (defect) => Effect.succeed(defect))
      assert.ok(defect instanceof RangeError)
      assert.match(defect.message, /^option maxMessageSize: expected a whole number of bytes .*, got -1$/)
      assert.equal(listened, 0)
    }).pipe(Effect.scoped))

  for (
    const [how, accept] of [
      ["dies", Effect.die(new Error("boom"))],
      ["fails", Effect.fail(new Listener.ListenerError({ message: "boom", address: "test://broken" }))]
    ] as const
  ) {
    it.live(`logs that it serves no longer where its listener's accept ${how}, and closes the listener`, () => {
      const log = makeLog()
      return Effect.gen(function*() {
        const closed = yield* Deferred.make<void>()
        const listener: Listener.Listener = {
          address: "test://broken",
          accept,
          close: Effect.asVoid(Deferred.succeed(closed, undefined))
        }
        yield* Layer.build(Server.layer(Effect.succeed(listener)))
        yield* log.until(1)
        yield* Deferred.await(closed)
        assert.deepEqual(log.lines.map(({ level, message }) => [level, message]), [
          ["Error", "the server has stopped: its listener broke"]
        ])
        assert.match(log.lines[0]!.cause, /boom/)
      }).pipe(Effect.scoped, Effect.provide(log.layer))
    })
  }
})
