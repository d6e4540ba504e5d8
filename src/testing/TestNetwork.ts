/**
 * An in-memory network for tests: servers with names, endpoints to them, and faults on command.
 *
 * It does not know the protocol. Everything above the socket is real: servers run handler maps behind `Server.serve`,
 * clients are `Connection`s, and the bytes of the protocol go over two Duplexes that behave as the ends of a TCP
 * connection. Only the operating system is missing: there are no ports and no files, and bytes take time only with a
 * {@link Faults.delay}.
 *
 * **When to use**
 *
 * Use it in tests of failover, retries, deadlines and restarts. `CallTest` is enough for one server without faults.
 *
 * **Example** (Failover)
 *
 * ```ts
 * import { assert, it } from "@effect/vitest"
 * import { Effect } from "effect"
 * import { Connection, HandlerMap, MethodKey, Resolver } from "effect-call"
 * import { TestNetwork } from "effect-call/testing"
 *
 * const echo = HandlerMap.empty.pipe(HandlerMap.set("example/Echo", "echo", (args) => Effect.succeed(args)))
 *
 * it.effect("calls go on when one of two servers is cut off", () =>
 *   Effect.gen(function*() {
 *     yield* TestNetwork.listen("a", echo)
 *     yield* TestNetwork.listen("b", echo)
 *     const resolver = Resolver.constant(yield* TestNetwork.endpoint("a"), yield* TestNetwork.endpoint("b"))
 *     const connection = yield* Connection.make(resolver)
 *     yield* TestNetwork.fault("a", { dial: "refuse" })
 *     const answer = yield* connection.call(MethodKey.make("example/Echo", "echo"), new Uint8Array([1]))
 *     assert.deepEqual(answer, new Uint8Array([1]))
 *   }).pipe(Effect.provide(TestNetwork.layer)))
 * ```
 *
 * @module
 * @since 0.1.0
 */
import type * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type { Duplex } from "node:stream"
import { DialError, type Endpoint } from "../Endpoint.ts"
import { background } from "../internal/ambient/background.ts"
import { shown, unexpected } from "../internal/guard.ts"
import { checkHandlers, fromArrivals } from "../internal/net/accept.ts"
import { ArrivalQueue } from "../internal/net/arrivals.ts"
import { cannotListen, listenerClosed } from "../internal/net/model.ts"
import { healthy, Host, type Impairment } from "../internal/testing/host.ts"
import type { Timer } from "../internal/testing/wire.ts"
import { nowMillis, sleepMillis } from "../internal/time/clock.ts"
import { attempt } from "../internal/userError.ts"
import type { Handlers, Listener, ListenerError } from "../Listener.ts"
import * as Server from "../Server.ts"

/**
 * A direction of a connection: from the client to the server or back.
 *
 * @category models
 * @since 0.1.0
 */
export type Direction = "toServer" | "toClient"

/**
 * The faults between a server and all its clients. A field that is left out means no such fault.
 *
 * **Details**
 *
 * `dial` is about new connections. The other faults affect all connections, open and new ones. They do not affect
 * dials: a dial connects without a delay.
 *
 * **Example** (A replica that has died)
 *
 * ```ts
 * import { TestNetwork } from "effect-call/testing"
 *
 * // Its connections break, and it cannot be dialed.
 * const kill = (name: string) => TestNetwork.fault(name, { dial: "refuse", cutAfter: { toServer: 0 } })
 * ```
 *
 * @category models
 * @since 0.1.0
 */
export interface Faults {
  /**
   * What happens to dials. `"refuse"` fails them at once with a `DialError`. `"hang"` lets them wait until the faults
   * change or the dialer gives up. Open connections stay. Default: dials connect.
   */
  readonly dial?: "refuse" | "hang"
  /**
   * How many bytes are delivered until a connection breaks, in each direction. Default: connections do not break.
   *
   * **Details**
   *
   * When exactly this many bytes were delivered in a direction, the connection breaks: both ends see `ECONNRESET`, and
   * bytes in transit are lost. A whole number; 0 breaks a connection at once. Each connection has its own count. It
   * starts when the fault is set, or when the connection starts. The version message of each end counts, too.
   */
  readonly cutAfter?: {
    /** The number of bytes from the client to the server. Default: no limit. */
    readonly toServer?: number
    /** The number of bytes from the server to the client. Default: no limit. */
    readonly toClient?: number
  }
  /**
   * How long bytes, and the end of a connection, take in each direction. Default: no time.
   *
   * **Details**
   *
   * A finite duration; a number is in milliseconds. The order of the bytes is kept. At most 64 KiB, and the write that
   * exceeds them, are in transit at a time. The delay passes on the `Clock` of the fiber that sets the fault, so a
   * `TestClock` drives it. It applies to bytes that are sent after the fault was set. Bytes in transit keep their time
   * of arrival, if that is earlier.
   */
  readonly delay?: Duration.Input
  /**
   * Whether bytes are held back, in both directions (`true`) or in one, as when a network is partitioned. Default:
   * false.
   *
   * **Details**
   *
   * Bytes are accepted but not delivered. The end of a connection is not delivered either. A writer waits when 64 KiB
   * are in transit. Nothing is lost: when the fault ends, everything arrives in order.
   */
  readonly blackHole?: boolean | Direction
}

/**
 * A value in {@link Faults} is invalid. The message names the value and says what was expected.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidFaults
  extends Schema.TaggedError<InvalidFaults>("effect-call/testing/InvalidFaults")("InvalidFaults", {
    /** Names the field and its value, and says what was expected. */
    message: Schema.String
  })
{}

/**
 * An in-memory network. Each network has its own names: the same name in two networks means two servers.
 *
 * @category models
 * @since 0.1.0
 */
export interface TestNetwork {
  /** The endpoint of a name; see {@link endpoint}. */
  readonly endpoint: (name: string) => Endpoint
  /** A listener on a name; see {@link listener}. */
  readonly listener: <R>(name: string, handlers: Handlers<R>) => Effect.Effect<Listener<R>, ListenerError, Scope.Scope>
  /** Sets the faults of a name; see {@link fault}. */
  readonly fault: (name: string, faults: Faults) => Effect.Effect<void, InvalidFaults>
  /** Ends all faults of a name; see {@link heal}. */
  readonly heal: (name: string) => Effect.Effect<void>
}

/**
 * The in-memory network of a test, as a service. {@link layer} provides it.
 *
 * **Example** (What a test does with it)
 *
 * ```ts
 * import { assert, it } from "@effect/vitest"
 * import { Effect, Fiber } from "effect"
 * import { Connection, HandlerMap, MethodKey, Resolver } from "effect-call"
 * import { TestNetwork } from "effect-call/testing"
 * import { TestClock } from "effect/testing"
 *
 * const echo = HandlerMap.empty.pipe(HandlerMap.set("example/Echo", "echo", (args) => Effect.succeed(args)))
 *
 * it.effect("a call ends at its deadline when the network is partitioned", () =>
 *   Effect.gen(function*() {
 *     yield* TestNetwork.listen("a", echo, { shutdownGrace: 0 })
 *     const connection = yield* Connection.make(Resolver.constant(yield* TestNetwork.endpoint("a")))
 *     yield* TestNetwork.fault("a", { blackHole: true })
 *     const call = connection.call(MethodKey.make("example/Echo", "echo"), new Uint8Array(), { timeout: "1 minute" })
 *     const calling = yield* Effect.forkChild(Effect.flip(call))
 *     yield* TestClock.adjust("1 minute")
 *     assert.strictEqual((yield* Fiber.join(calling))._tag, "DeadlineExceeded")
 *   }).pipe(Effect.provide(TestNetwork.layer)))
 * ```
 *
 * @category services
 * @since 0.1.0
 */
export const TestNetwork: Context.Service<TestNetwork, TestNetwork> = Context.Service<TestNetwork>(
  "effect-call/testing/TestNetwork"
)

const addressOf = (name: string) => `memory://${name}`

const invalid = (what: string, value: unknown, expected: string) =>
  Effect.fail(new InvalidFaults({ message: `${what} is ${shown(value)}, expected ${expected}` }))

const checkBytes = (what: string, value: number | undefined): Effect.Effect<number, InvalidFaults> => {
  if (value === undefined) return Effect.succeed(Infinity)
  if (Number.isSafeInteger(value) && value >= 0) return Effect.succeed(value)
  return invalid(what, value, "a whole number of bytes, 0 or more")
}

const checkDelay = (input: Duration.Input | undefined): Effect.Effect<number, InvalidFaults> => {
  if (input === undefined) return Effect.succeed(0)
  const millis = Option.map(attempt(() => Duration.fromInput(input), Option.none()), Duration.toMillis)
  // NaN would be taken for a duration of zero.
  if (Option.isSome(millis) && Number.isFinite(millis.value) && millis.value >= 0 && !Number.isNaN(input)) {
    return Effect.succeed(millis.value)
  }
  return invalid("delay", input, "a finite duration, 0 or more")
}

const check = Effect.fnUntraced(function*(faults: Faults, timer: Timer): Effect.fn.Return<Impairment, InvalidFaults> {
  if (typeof faults !== "object" || faults === null) return yield* invalid("a fault", faults, "an object of Faults")
  const { blackHole = false, cutAfter = {}, dial } = faults
  if (dial !== undefined && dial !== "refuse" && dial !== "hang") {
    return yield* invalid("dial", dial, "\"refuse\" or \"hang\"")
  }
  if (typeof blackHole !== "boolean" && blackHole !== "toServer" && blackHole !== "toClient") {
    return yield* invalid("blackHole", blackHole, "true, false, \"toServer\" or \"toClient\"")
  }
  if (typeof cutAfter !== "object" || cutAfter === null) {
    return yield* invalid("cutAfter", cutAfter, "an object with toServer, toClient or both")
  }
  const millis = yield* checkDelay(faults.delay)
  const delay = millis === 0 ? undefined : { millis, timer }
  const conditions = (direction: Direction, cutAfter: number) => ({
    blackHole: blackHole === true || blackHole === direction,
    delay,
    cutAfter
  })
  return {
    dial: dial ?? "connect",
    toServer: conditions("toServer", yield* checkBytes("cutAfter.toServer", cutAfter.toServer)),
    toClient: conditions("toClient", yield* checkBytes("cutAfter.toClient", cutAfter.toClient))
  }
})

/** Waits while dials hang. They may hang again when it returns. */
const whileHanging = (host: Host): Effect.Effect<void> =>
  Effect.callback((resume) => {
    if (!host.isHanging) return resume(Effect.void)
    const cancel = host.awaitChange(() => resume(Effect.void))
    return Effect.sync(cancel)
  })

const dial = Effect.fnUntraced(function*(host: Host): Effect.fn.Return<Duplex, DialError, Scope.Scope> {
  while (true) {
    yield* whileHanging(host)
    const outcome = yield* Effect.acquireRelease(
      Effect.sync(() => host.dial()),
      (outcome) => Effect.sync(() => outcome._tag === "Connected" && outcome.connection.destroy())
    )
    if (outcome._tag === "Connected") return outcome.connection
    if (outcome._tag === "Refused") {
      const endpoint = addressOf(host.name)
      return yield* new DialError({ message: `cannot dial ${endpoint}: connection refused: ${outcome.why}`, endpoint })
    }
  }
})

const listenerOf = Effect.fnUntraced(function*<R>(
  host: Host,
  handlers: Handlers<R>
): Effect.fn.Return<Listener<R>, ListenerError, Scope.Scope> {
  checkHandlers(handlers)
  const address = addressOf(host.name)
  const arrivals = new ArrivalQueue<R>()
  let connections = 0
  const open = Effect.suspend(() => {
    const stop = host.listen((connection) =>
      arrivals.offer({ connection, handlers, peer: { address: `${address}#${++connections}` } })
    )
    if (typeof stop === "string") {
      return Effect.fail(cannotListen(address, stop))
    }
    return Effect.succeed(Effect.sync(() => {
      stop()
      arrivals.close(listenerClosed(address))
    }))
  })
  const close = yield* Effect.acquireRelease(open, (close) => close)
  return fromArrivals({ address, arrivals, close })
})

/**
 * Makes a new network. Its connections, dials and timers end with the Scope.
 *
 * **When to use**
 *
 * Use it for two networks in one program. Otherwise use {@link layer}.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make: Effect.Effect<TestNetwork, never, Scope.Scope> = Effect.gen(function*() {
  const hosts = new Map<string, Host>()
  let closed = false
  const timers = yield* FiberSet.make<void>()
  const fork = yield* Effect.provideContext(FiberSet.runtime(timers)(), yield* background)
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      closed = true
      for (const host of hosts.values()) host.close()
    })
  )

  const hostOf = (name: string): Host => {
    if (typeof name !== "string") throw unexpected("the name of a host", "a text", name)
    const existing = hosts.get(name)
    if (existing !== undefined) return existing
    const host = new Host(name)
    if (closed) host.close()
    hosts.set(name, host)
    return host
  }

  const timerOn = (clock: Clock.Clock): Timer => ({
    now: () => nowMillis(clock),
    after: (millis, wake) => {
      const fiber = fork(Effect.andThen(sleepMillis(clock, millis), Effect.sync(wake)))
      return () => fiber.interruptUnsafe()
    }
  })

  return {
    endpoint: (name) => ({ address: addressOf(name), dial: dial(hostOf(name)) }),
    listener: (name, handlers) => Effect.suspend(() => listenerOf(hostOf(name), handlers)),
    // The `Clock` of the test may differ from the `Clock` of the layer.
    fault: (name, faults) =>
      Effect.clockWith((clock) =>
        Effect.map(check(faults, timerOn(clock)), (impairment) => hostOf(name).impair(impairment))
      ),
    heal: (name) => Effect.sync(() => hostOf(name).impair(healthy))
  }
})

/**
 * Provides a new {@link TestNetwork}. When it ends, all its connections are closed and dials are refused.
 *
 * **Gotchas**
 *
 * A layer is built once, even if it is provided several times. `Layer.fresh(TestNetwork.layer)` is another network.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<TestNetwork> = Layer.effect(TestNetwork, make)

/**
 * Starts a server on a name: `Server.serve` over an in-memory listener, which is ready when this effect is done.
 *
 * **Details**
 *
 * It ends with the Scope: its connections are closed, dials are refused, and the name is free again. If the name is
 * empty or taken, it fails with a `ListenerError` that names the address.
 *
 * **Gotchas**
 *
 * At the end, calls in flight get the `shutdownGrace` of the options, 2 seconds by default. With a `TestClock`, that
 * time passes only when the test adjusts the clock. So a test hangs at its end if a call is still in flight, for
 * example because a fault holds back the news that its caller is gone. With 0 calls in flight end at once.
 *
 * @category accessors
 * @since 0.1.0
 */
export const listen = Effect.fnUntraced(function*<R>(
  name: string,
  handlers: Handlers<R>,
  options?: Server.ServerOptions
): Effect.fn.Return<void, ListenerError, Exclude<R, Scope.Scope> | TestNetwork | Scope.Scope> {
  const opened = yield* listener(name, handlers)
  yield* Effect.forkScoped(Server.serve(opened, options), { startImmediately: true })
})

/**
 * The endpoint of a name. The name needs no listener yet. Its address is `memory://name`.
 *
 * **Gotchas**
 *
 * Without a listener, dialing fails with a `DialError`. The endpoint has no host name to check a TLS certificate
 * against, so `Endpoint.mtls` over it needs a `servername`.
 *
 * @category accessors
 * @since 0.1.0
 */
export const endpoint = (name: string): Effect.Effect<Endpoint, never, TestNetwork> =>
  TestNetwork.useSync((network) => network.endpoint(name))

/**
 * A listener on a name. It closes with the Scope, or earlier by `close`.
 *
 * **When to use**
 *
 * Use it for `Server.layer`, or to put `Listener.mtls` over it. {@link listen} starts a server at once.
 *
 * **Details**
 *
 * Dials succeed from now on, and wait until they are accepted. The address of a peer is `memory://name#n`, where n
 * counts the connections. If the name is empty or taken, it fails with a `ListenerError` that names the address.
 *
 * @category accessors
 * @since 0.1.0
 */
export const listener = <R>(
  name: string,
  handlers: Handlers<R>
): Effect.Effect<Listener<R>, ListenerError, Scope.Scope | TestNetwork> =>
  TestNetwork.use((network) => network.listener(name, handlers))

/**
 * Sets the faults between a server and its clients. They replace the previous faults. `fault(name, {})` is {@link
 * heal}.
 *
 * **Details**
 *
 * The name needs no listener yet. Its faults stay when another server takes the place of its server.
 *
 * **Gotchas**
 *
 * With a `TestClock`, time passes only when the test adjusts the clock. The bytes of a request are sent in a later turn
 * of the event loop than the call. So adjust the clock in steps until the expected event has happened, and not by the
 * sum of all delays at once.
 *
 * @category accessors
 * @since 0.1.0
 */
export const fault = (name: string, faults: Faults): Effect.Effect<void, InvalidFaults, TestNetwork> =>
  TestNetwork.use((network) => network.fault(name, faults))

/**
 * Ends all faults of a name: hanging dials connect, and held or delayed bytes arrive at once. Connections that were cut
 * stay closed.
 *
 * @category accessors
 * @since 0.1.0
 */
export const heal = (name: string): Effect.Effect<void, never, TestNetwork> =>
  TestNetwork.use((network) => network.heal(name))
