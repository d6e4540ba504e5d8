/**
 * Calls that are interrupted at every point, whatever they wait for.
 */
import { describe, it } from "@effect/vitest"
import { Cause, Context, Effect, Exit, Fiber, Queue, Schema, SchemaGetter, SubscriptionRef, Tracer } from "effect"
import {
  Balancer,
  Component,
  Connection,
  Deadline,
  Endpoint,
  HandlerMap,
  MethodKey,
  Resolver,
  Server
} from "effect-call"
import { Rpc, RpcGroup, RpcMiddleware } from "effect/rpc"
import * as assert from "node:assert/strict"
import type { Duplex } from "node:stream"
import { formats, open } from "../Component/support.ts"
import { untilState } from "../Connection/support.ts"
import * as Networks from "../support/networks.ts"
import {
  args,
  atEveryPoint,
  eachPace,
  type Operation,
  turns,
  unharmed,
  untilNothing,
  work,
  workers
} from "./interrupting.ts"
import { until } from "./wire.ts"

/** A server, and a Connection to it. */
const served = Effect.fnUntraced(function*(network: Networks.Network, options?: Connection.ClientOptions) {
  const { handlers, idle, state } = workers()
  const { endpoint } = yield* network.serve(handlers)
  const connection = yield* Networks.connect([endpoint], options)
  return { connection, endpoint, idle, state }
})

describe("a call on an open connection", () => {
  Networks.eachNetwork((network) => {
    eachPace("is interrupted", 30, {
      around: served(network),
      attempt: ({ connection, idle }) =>
        Effect.succeed({ run: connection.call(work, args), check: () => unharmed(connection, idle) })
    })

    eachPace("is interrupted, and its handler with it", 10, {
      around: served(network),
      attempt: ({ connection, idle, state }) =>
        Effect.succeed({
          run: connection.call(Networks.hang, args),
          stays: Effect.andThen(until("the handler to run", () => state.hanging === 1), turns),
          check: () => unharmed(connection, idle)
        })
    })
  })

  Networks.eachNetwork((network) => {
    eachPace("is interrupted within a timeout and a deadline", 30, {
      around: served(network),
      attempt: ({ connection, idle }) =>
        Effect.succeed({
          run: Deadline.within(connection.call(work, args, { timeout: "1 hour" }), "2 hours"),
          check: () => unharmed(connection, idle)
        })
    })
  }, [Networks.tcp, Networks.memory])

  Networks.eachNetwork((network) => {
    eachPace("is interrupted while large arguments and a large result are on their way", 30, {
      around: served(network),
      attempt: ({ connection, idle }) =>
        Effect.succeed({
          run: connection.call(work, new Uint8Array(300_000)),
          check: () => unharmed(connection, idle)
        })
    })
  }, [Networks.tcp, Networks.mtlsOverUnix, Networks.memory])

  const slowly = Balancer.make(([first]) => Effect.as(Effect.repeat(Effect.yieldNow, { times: 2 }), first!))

  eachPace("is interrupted while its balancer, or its Connection's, is slow", 50, {
    around: Effect.gen(function*() {
      return { ...(yield* served(Networks.memory, { balancer: slowly })), own: yield* slowly }
    }),
    attempt: ({ connection, idle, own }) =>
      Effect.succeed({
        run: Effect.andThen(
          connection.call(Networks.echo, args, { balancer: own }),
          connection.call(Networks.echo, args)
        ),
        check: () => unharmed(connection, idle)
      })
  })
})

describe("a call that waits for a dial", () => {
  Networks.eachNetwork((network) => {
    // With mTLS more than a second: there are some 280 points, and two handshakes for each.
    eachPace("is interrupted", 50, {
      around: served(network),
      attempt: Effect.fnUntraced(function*({ endpoint, idle }) {
        const connection = yield* Networks.connect([endpoint], { dialTimeout: "1 hour" })
        return { run: connection.call(work, args, { timeout: "1 hour" }), check: () => unharmed(connection, idle) }
      })
    })
  }, [Networks.tcp, Networks.unix, Networks.mtlsOverTcp, Networks.memory])

  Networks.eachNetwork((network) => {
    eachPace("is interrupted with all others that do, and the dial goes on", 50, {
      around: Effect.gen(function*() {
        const { endpoint, listener } = yield* network.listen(HandlerMap.empty)
        const greeted = yield* Queue.unbounded<void>()
        // It takes every connection and what is said on it, and never says anything.
        yield* listener.accept.pipe(
          Effect.tap(({ connection }) =>
            Effect.sync(() => void connection.on("data", () => Queue.offerUnsafe(greeted, undefined)))
          ),
          Effect.forever,
          Effect.forkScoped
        )
        return { endpoint, greeted }
      }),
      attempt: Effect.fnUntraced(function*({ endpoint, greeted }) {
        yield* Queue.clear(greeted)
        const connection = yield* Networks.connect([endpoint], { dialTimeout: "1 hour" })
        return {
          run: Effect.all([connection.call(work, args), connection.call(work, args, { timeout: "1 hour" })], {
            concurrency: "unbounded"
          }),
          stays: Effect.andThen(Queue.take(greeted), turns),
          // Where it was interrupted before it dialed there is none.
          check: () =>
            Effect.map(
              connection.state,
              ({ endpoints: [endpoint] }) => assert.match(endpoint!.state, /^(Idle|Dialing)$/)
            )
        }
      })
    })
  }, [Networks.tcp, Networks.unix, Networks.memory])

  eachPace("of one of several connections is interrupted, and so it is while an additional one is dialed", 50, {
    around: served(Networks.tcp),
    attempt: Effect.fnUntraced(function*({ endpoint, idle }) {
      const connection = yield* Networks.connect([endpoint], { connectionsPerEndpoint: 3, dialTimeout: "1 hour" })
      return {
        run: Effect.andThen(connection.call(Networks.echo, args), connection.call(Networks.echo, args)),
        check: () => unharmed(connection, idle)
      }
    })
  })
})

describe("a call that waits for room", () => {
  const swallow = MethodKey.make(Networks.component, "swallow")
  // Together more than the system's buffers take for a server that does not read, and than a writer takes in addition.
  const tooMany = Array.from({ length: 8 }, () => new Uint8Array(250_000))

  /** A Connection whose writer is full, and how to let it drain. */
  const full = Effect.fnUntraced(function*(network: Networks.Network) {
    const { handlers, idle } = workers()
    const { endpoint, listener } = yield* network.listen(
      HandlerMap.set(handlers, swallow.component, swallow.method, () => Effect.succeed(args))
    )
    let server: Duplex | undefined
    const accept = Effect.tap(listener.accept, (accepted) => Effect.sync(() => void (server = accepted.connection)))
    yield* Effect.forkScoped(Server.serve({ ...listener, accept }, { shutdownGrace: 0 }), { startImmediately: true })
    const connection = yield* Networks.connect([endpoint])
    yield* Effect.orDie(connection.call(swallow, args))
    const inFlight = Effect.map(connection.state, ({ endpoints }) => endpoints[0]!.callsInFlight)
    let sent = 0
    const fill = Effect.gen(function*() {
      server!.pause()
      // A call that had just yielded to others goes on by itself.
      server!.resume = () => server!
      const calls = Effect.forEach(tooMany, (args) => connection.call(swallow, args), { concurrency: "unbounded" })
      const filling = yield* Effect.forkScoped(calls, { startImmediately: true })
      yield* turns
      sent = yield* inFlight
      assert.ok(sent > 0 && sent < tooMany.length, `${sent} calls were sent`)
      return filling
    })
    const drain = Effect.gen(function*() {
      // Any other call has not been sent: it waits, or is over.
      assert.equal(yield* inFlight, sent)
      Reflect.deleteProperty(server!, "resume")
      server!.resume()
    })
    return { connection, drain, fill, idle }
  })

  Networks.eachNetwork((network) => {
    eachPace("is interrupted before and after there is some", 50, {
      around: full(network),
      attempt: Effect.fnUntraced(function*({ connection, drain, fill, idle }) {
        const filling = yield* fill
        const draining = yield* Effect.forkScoped(Effect.andThen(turns, drain))
        return {
          run: connection.call(work, args),
          check: Effect.fnUntraced(function*() {
            yield* Fiber.joinAll([draining, filling])
            yield* unharmed(connection, idle)
          })
        }
      })
    })
  }, [Networks.unix, Networks.memory])

  eachPace("finds it at whichever point it comes", 10, {
    around: full(Networks.memory),
    attempt: Effect.fnUntraced(function*({ connection, drain, fill, idle }) {
      const filling = yield* fill
      return {
        run: connection.call(work, args),
        stays: turns,
        strike: () => void Effect.runFork(drain),
        check: Effect.fnUntraced(function*(exit: Exit.Exit<unknown, unknown>) {
          assert.ok(Exit.isSuccess(exit))
          yield* Fiber.join(filling)
          yield* unharmed(connection, idle)
        })
      }
    })
  })
})

describe("a call that waits for endpoints", () => {
  /** A Connection that has none yet. */
  const unlisted = Effect.gen(function*() {
    const endpoints = yield* SubscriptionRef.make<ReadonlyArray<Endpoint.Endpoint>>([])
    const connection = yield* Effect.orDie(Connection.make(Resolver.fromSubscriptionRef(endpoints)))
    return { connection, list: (endpoint: Endpoint.Endpoint) => SubscriptionRef.set(endpoints, [endpoint]) }
  })

  Networks.eachNetwork((network) => {
    eachPace("is interrupted before and after there are any", 50, {
      around: served(network),
      attempt: Effect.fnUntraced(function*({ endpoint, idle }) {
        const { connection, list } = yield* unlisted
        const listing = yield* Effect.forkScoped(Effect.andThen(turns, list(endpoint)))
        return {
          run: connection.call(work, args, { waitForReady: true, timeout: "1 hour" }),
          check: Effect.fnUntraced(function*() {
            yield* Fiber.join(listing)
            yield* untilState(connection, ({ endpoints }) => endpoints.length === 1)
            yield* unharmed(connection, idle)
          })
        }
      })
    })
  }, [Networks.tcp, Networks.memory])

  eachPace("finds them at whichever point they come", 20, {
    around: served(Networks.memory),
    attempt: Effect.fnUntraced(function*({ endpoint, idle }) {
      const { connection, list } = yield* unlisted
      return {
        run: connection.call(work, args, { waitForReady: true }),
        stays: turns,
        strike: () => void Effect.runFork(list(endpoint)),
        check: Effect.fnUntraced(function*(exit: Exit.Exit<unknown, unknown>) {
          assert.ok(Exit.isSuccess(exit))
          yield* unharmed(connection, idle)
        })
      }
    })
  })

  eachPace("is interrupted while the only one is in backoff", 50, {
    around: served(Networks.memory),
    mayWarn: ["an endpoint could not be dialed"],
    attempt: Effect.fnUntraced(function*({ endpoint, idle }) {
      let dials = 0
      const notYet = new Endpoint.DialError({ message: "not yet" })
      const late: Endpoint.Endpoint = {
        address: endpoint.address,
        dial: Effect.suspend(() => dials++ === 0 ? Effect.fail(notYet) : endpoint.dial)
      }
      const connection = yield* Networks.connect([late], { backoff: { initial: 1, jitter: 0 }, dialTimeout: "1 hour" })
      return {
        run: connection.call(work, args, { waitForReady: true, timeout: "1 hour" }),
        check: Effect.fnUntraced(function*() {
          yield* connection.call(work, args, { waitForReady: true })
          yield* unharmed(connection, idle)
        })
      }
    })
  })
})

describe("a typed call", () => {
  /** Names are numbers on the wire, and looking them up takes a turn. */
  class Names extends Context.Service<Names, ReadonlyArray<string>>()("Names") {}
  const Name = Schema.Int.pipe(Schema.decodeTo(Schema.String, {
    decode: SchemaGetter.transformEffect((id: number) =>
      Names.use((names) => Effect.as(Effect.yieldNow, names[id] ?? "nobody"))
    ),
    encode: SchemaGetter.transformEffect((name: string) =>
      Names.use((names) => Effect.as(Effect.yieldNow, names.indexOf(name)))
    )
  }))
  class Around extends RpcMiddleware.Service<Around>()("Around", { requiredForClient: true }) {}
  const group = RpcGroup.make(Rpc.make("Greet", { payload: { name: Name }, success: Schema.Struct({ by: Name }) }))
    .middleware(Around)
  const Greeter = Component.make("test/Greeter", group)
  const knowing = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
    Effect.provideService(effect, Names, ["Ada", "Bob", "Eve"])

  /** Keeps the spans that have not ended. */
  const tracing = () => {
    const spans = new Set<Tracer.Span>()
    const tracer = Tracer.make({
      span: (options) => {
        const span = new Tracer.NativeSpan(options)
        const end = span.end.bind(span)
        spans.add(span)
        span.end = (time, exit) => {
          spans.delete(span)
          end(time, exit)
        }
        return span
      }
    })
    return { spans, trace: Effect.withTracer(tracer) }
  }

  const greeting = Effect.fnUntraced(function*(network: Networks.Network, format: "binary" | "json") {
    const inside = { middleware: 0, handler: 0 }
    const counting = (where: "middleware" | "handler") => <A, E, R>(effect: Effect.Effect<A, E, R>) =>
      Effect.acquireUseRelease(
        Effect.sync(() => void inside[where]++),
        () => Effect.andThen(Effect.yieldNow, effect),
        () => Effect.sync(() => void inside[where]--)
      )
    const { spans, trace } = tracing()
    const around = counting("middleware")
    const { client, connection } = yield* open(
      Greeter,
      group.toLayer({
        Greet: ({ name }) => counting("handler")(Effect.succeed({ by: name === "Ada" ? "Bob" : "Eve" }))
      }),
      { network, format }
    ).pipe(
      Effect.provideService(Around, around),
      Effect.provide(RpcMiddleware.layerClient(Around, ({ next, request }) => around(next(request)))),
      knowing,
      trace
    )
    const greet = trace(knowing(client.Greet({ name: "Ada" })))
    const idle = untilNothing(() =>
      inside.middleware + inside.handler + spans.size === 0
        ? ""
        : `${JSON.stringify(inside)}, ${spans.size} spans that have not ended`
    )
    return { connection, greet, idle }
  })

  for (const format of formats) {
    Networks.eachNetwork((network) => {
      eachPace(`with effectful schemas and middleware is interrupted, in ${format}`, 100, {
        around: greeting(network, format),
        attempt: ({ connection, greet, idle }) =>
          Effect.succeed({
            run: greet,
            check: Effect.fnUntraced(function*() {
              yield* untilState(connection, ({ endpoints: [endpoint] }) => endpoint!.callsInFlight === 0)
              yield* idle
              assert.deepEqual(yield* greet, { by: "Bob" })
              yield* idle
            })
          })
      })
    }, format === "binary" ? [Networks.tcp, Networks.memory] : [Networks.memory])
  }
})

describe("the search for what is left", () => {
  /**
   * What it says of an operation. What is left is left for good, and need not be waited for as long as what is only
   * late.
   */
  const found = <S, A, E>(operation: Operation<S, A, E>, patience?: number) =>
    Effect.map(
      Effect.exit(atEveryPoint("at its own pace", { ...operation, patience })),
      (exit) => Exit.isSuccess(exit) ? `nothing at ${exit.value} points` : Cause.pretty(exit.cause)
    )
  const running = <A, E>(run: Effect.Effect<A, E>, stays?: Effect.Effect<unknown>) => ({
    around: Effect.void,
    attempt: () => Effect.succeed({ run, stays })
  })

  it.live("finds the point between what is acquired and what would release it", () =>
    Effect.gen(function*() {
      const timers: Array<NodeJS.Timeout> = []
      const acquire = Effect.sync(() => {
        const timer = setInterval(() => {}, 1_000_000)
        timers.push(timer)
        return timer
      })
      const release = (timer: NodeJS.Timeout) => Effect.sync(() => clearInterval(timer))
      const right = Effect.acquireRelease(acquire, release)
      const wrong = Effect.tap(acquire, (timer) => Effect.addFinalizer(() => release(timer)))
      assert.match(yield* found(running(Effect.scoped(Effect.andThen(right, turns)))), /^nothing at \d+ points$/)
      assert.match(
        yield* found(running(Effect.scoped(Effect.andThen(wrong, turns))), 300),
        /struck at point \d+, a step of fiber \d+.*left behind: \d+ Timeout, not \d+/
      )
      for (const timer of timers) clearInterval(timer)
    }))

  it.live("finds the step between looking whether something is there and listening for it", () =>
    Effect.gen(function*() {
      const ringing = (looksAgain: boolean) => ({
        around: Effect.void,
        attempt: () => {
          let hasRung = false
          let wake = () => {}
          const listens = Effect.callback<void>((resume) => {
            if (looksAgain && hasRung) return resume(Effect.void)
            wake = () => resume(Effect.void)
          })
          return Effect.succeed({
            run: Effect.suspend(() => hasRung ? Effect.void : listens),
            stays: turns,
            strike: () => {
              hasRung = true
              wake()
            }
          })
        }
      })
      assert.match(yield* found(ringing(true)), /^nothing at \d+ points$/)
      assert.match(yield* found(ringing(false), 300), /struck at point 1, a step of fiber \d+.*it has not ended/)
    }))

  it.live("finds a fiber that goes on", () =>
    Effect.gen(function*() {
      const forked: Array<Fiber.Fiber<never>> = []
      const forks = Effect.map(Effect.forkDetach(Effect.never), (fiber) => void forked.push(fiber))
      assert.match(yield* found(running(forks), 300), /left behind: fiber \d+/)
      yield* Fiber.interruptAll(forked)
    }))

  it.live("finds one that is remembered by what it waited for", () =>
    Effect.gen(function*() {
      const waiting = new Set<() => void>()
      const waits = (forgets: boolean) =>
        Effect.callback<void>((resume) => {
          const wake = () => resume(Effect.void)
          waiting.add(wake)
          return Effect.sync(() => forgets && waiting.delete(wake))
        })
      assert.match(yield* found(running(waits(true), turns)), /^nothing at \d+ points$/)
      assert.match(yield* found(running(waits(false), turns), 300), /left behind: \d+ of \d+ fibers/)
    }))

  it.live("finds what was logged", () =>
    Effect.map(
      found(running(Effect.andThen(Effect.logError("a handler died"), turns))),
      (says) => assert.match(says, /a handler died/)
    ))
})
