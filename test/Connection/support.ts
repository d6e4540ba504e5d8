/**
 * Replicas that say who they are and count their connections, endpoints that count their dials, and waiting for what
 * happens by itself.
 */
import { Effect, Exit, type Fiber, Latch, Scope, SubscriptionRef } from "effect"
import { Connection, type Endpoint, HandlerMap, type Listener, MethodKey, Resolver, Server } from "effect-call"
import { TestNetwork } from "effect-call/testing"
import { TestClock } from "effect/testing"
import type { Duplex } from "node:stream"
import { type Bound, bytesOf, component, echo, type Network, textOf } from "../support/networks.ts"

/** Answers with the replica's name. */
export const who = MethodKey.make(component, "who")
/** Answers with the replica's name once its gate is open. */
const hold = MethodKey.make(component, "hold")
export { echo }

const none = new Uint8Array()

/** A server with a name. */
export interface Replica {
  readonly name: string
  readonly endpoint: Endpoint.Endpoint
  /** How many connections it has accepted, and how many of them are open. */
  readonly accepted: number
  readonly open: number
  /** How many calls of `hold` wait, and how many were interrupted. */
  readonly holding: number
  readonly interrupted: number
  /** How many calls of `who` and `echo` it has answered. */
  readonly answered: number
  /** Lets `hold` answer. */
  readonly gate: Latch.Latch
  /** Stops it, and frees its address. */
  readonly stop: Effect.Effect<void>
}

/** Starts a replica, for the ambient Scope, where `listen` does. */
export const start = Effect.fnUntraced(function*<E, R>(
  name: string,
  listen: (handlers: HandlerMap.HandlerMap<never>) => Effect.Effect<Bound<never>, E, R>
): Effect.fn.Return<Replica, E, R | Scope.Scope> {
  const gate = yield* Latch.make(false)
  const open = new Set<Duplex>()
  let accepted = 0
  let holding = 0
  let interrupted = 0
  let answered = 0
  const handlers = HandlerMap.empty.pipe(
    HandlerMap.set(component, "who", () =>
      Effect.sync(() => {
        answered++
        return bytesOf(name)
      })),
    HandlerMap.set(component, "echo", (args) =>
      Effect.sync(() => {
        answered++
        return args
      })),
    HandlerMap.set(component, "hold", () =>
      Effect.suspend(() => {
        holding++
        return Effect.as(gate.await, bytesOf(name))
      }).pipe(
        Effect.onInterrupt(() => Effect.sync(() => interrupted++)),
        Effect.ensuring(Effect.sync(() => holding--))
      ))
  )
  const scope = yield* Scope.fork(yield* Effect.scope)
  const { endpoint, listener } = yield* Scope.provide(listen(handlers), scope)
  const counting: Listener.Listener = {
    address: listener.address,
    close: listener.close,
    accept: Effect.map(listener.accept, (arrived) => {
      const { connection } = arrived
      accepted++
      open.add(connection)
      connection.once("close", () => open.delete(connection))
      return arrived
    })
  }
  const serving = Server.serve(counting, { shutdownGrace: 0 })
  yield* Effect.forkIn(serving, scope, { startImmediately: true })
  return {
    name,
    endpoint,
    get accepted() {
      return accepted
    },
    get open() {
      return open.size
    },
    get holding() {
      return holding
    },
    get interrupted() {
      return interrupted
    },
    get answered() {
      return answered
    },
    gate,
    stop: Scope.close(scope, Exit.void)
  }
})

/** Starts replicas of a network, each at an address of its own. */
export const startOn = (network: Network) => (name: string) =>
  Effect.flatMap(network.place(name), (listen) => start(name, listen))

/** Starts a replica on the ambient {@link TestNetwork}, by its name. */
export const startInMemory = (name: string) =>
  start(name, (handlers) =>
    Effect.orDie(
      Effect.all({ listener: TestNetwork.listener(name, handlers), endpoint: TestNetwork.endpoint(name) })
    ))

/** The endpoint, and how often it was dialed. */
export interface Counted extends Endpoint.Endpoint {
  readonly dials: number
}

/** An endpoint that counts its dials. */
export const counted = (endpoint: Endpoint.Endpoint): Counted => {
  let dials = 0
  return {
    address: endpoint.address,
    dial: Effect.suspend(() => {
      dials++
      return endpoint.dial
    }),
    get dials() {
      return dials
    }
  }
}

/** Asks who answers. */
export const ask = (connection: Connection.Connection, options?: Connection.CallOptions) =>
  Effect.map(connection.call(who, none, options), textOf)

/** Asks who answers, which takes until the replica's gate is open. */
export const askSlowly = (connection: Connection.Connection, options?: Connection.CallOptions) =>
  Effect.map(connection.call(hold, none, options), textOf)

/** A turn of the event loop, in which bytes can arrive. */
export const turn = Effect.callback<void>((resume) => {
  const immediate = setImmediate(() => resume(Effect.void))
  return Effect.sync(() => clearImmediate(immediate))
})

/** Enough turns for all that was started in memory to end. */
export const settle = Effect.repeat(turn, { times: 20 })

/** Waits for what is going to be true by itself. */
export const until = Effect.fnUntraced(function*(condition: () => boolean) {
  while (!condition()) yield* turn
})

/** Waits until the Connection's state is as wanted, and gives it. */
export const untilState = Effect.fnUntraced(function*(
  connection: Connection.Connection,
  condition: (state: Connection.ConnectionState) => boolean
) {
  while (true) {
    const state = yield* connection.state
    if (condition(state)) return state
    yield* turn
  }
})

/** Advances the TestClock until the fiber is done, and tells how many milliseconds that took. */
export const elapse = Effect.fnUntraced(function*<A, E>(fiber: Fiber.Fiber<A, E>, step = 1) {
  let millis = 0
  while (true) {
    // What has been set going must have happened before time goes on.
    yield* settle
    if (fiber.pollUnsafe() !== undefined) return millis
    yield* TestClock.adjust(step)
    millis += step
  }
})

/** A Connection to endpoints that can be changed, by naming replicas. */
export const connectToListed = Effect.fnUntraced(function*(
  first: ReadonlyArray<{ readonly endpoint: Endpoint.Endpoint }>,
  options?: Connection.ClientOptions
) {
  const endpoints = yield* SubscriptionRef.make<ReadonlyArray<Endpoint.Endpoint>>(first.map(({ endpoint }) => endpoint))
  const connection = yield* Connection.make(Resolver.fromSubscriptionRef(endpoints), options)
  const list = (...replicas: ReadonlyArray<{ readonly endpoint: Endpoint.Endpoint }>) => {
    const addresses = new Set(replicas.map(({ endpoint }) => endpoint.address))
    return Effect.andThen(
      SubscriptionRef.set(endpoints, replicas.map(({ endpoint }) => endpoint)),
      // Until the watch has brought it here.
      untilState(connection, ({ endpoints }) => {
        const listed = endpoints.filter(({ state }) => state !== "Draining")
        return listed.length === addresses.size && listed.every(({ address }) => addresses.has(address))
      })
    )
  }
  return { connection, endpoints, list }
})
