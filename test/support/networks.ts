/**
 * The transports that behaviour is tested over, and small helpers to serve and call over each of them.
 */
import { describe } from "@effect/vitest"
import { Deferred, Effect, type Fiber, type Scope, SubscriptionRef } from "effect"
import { Connection, Endpoint, HandlerMap, Listener, MethodKey, Resolver, Server } from "effect-call"
import { TestNetwork } from "effect-call/testing"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { makeAuthority } from "../../examples/support/certificates.ts"

/** A server that runs. */
export interface Served {
  readonly endpoint: Endpoint.Endpoint
  readonly listener: Listener.Listener<unknown>
  /** The fiber of `Server.serve`: interrupting it stops the server. */
  readonly serving: Fiber.Fiber<never, Listener.ListenerError>
}

/** A listener, and how to reach it. */
export interface Bound<R> {
  readonly endpoint: Endpoint.Endpoint
  readonly listener: Listener.Listener<R>
}

type Listen = <R>(handlers: Listener.Handlers<R>) => Effect.Effect<Bound<R>, never, Scope.Scope>
type Place = (name: string) => Effect.Effect<Listen, never, Scope.Scope>

/** One kind of transport. */
export interface Network {
  readonly name: "tcp" | "unix" | "mtls over tcp" | "mtls over unix" | "memory" | "mtls over memory"
  /** An address of its own, to listen at once or one after another; in memory it is called so. */
  readonly place: Place
  /** Listens, for the ambient Scope; nothing is served yet. */
  readonly listen: Listen
  /** Serves for the ambient Scope. A server that is stopped does not wait for its calls, unless the options say so. */
  readonly serve: <R>(
    handlers: Listener.Handlers<R>,
    options?: Server.ServerOptions
  ) => Effect.Effect<Served, never, Exclude<R, Scope.Scope> | Scope.Scope>
}

/** A fresh directory, removed with the Scope. */
export const temporaryDirectory: Effect.Effect<string, never, Scope.Scope> = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "effect-call-"))),
  (path) => Effect.sync(() => rmSync(path, { recursive: true, force: true }))
)

/** The certificates of both sides, signed by one authority; made once a process. */
export const certificates = Effect.runSync(Effect.cached(Effect.gen(function*() {
  const authority = yield* makeAuthority()
  return {
    ca: authority.ca,
    server: yield* authority.server(),
    client: yield* authority.client({ commonName: "client" })
  }
})))

const onTcp: Place = () =>
  Effect.sync(() => {
    let addr = "127.0.0.1:0"
    return Effect.fnUntraced(function*(handlers) {
      const listener = yield* Effect.orDie(Listener.tcp(addr, handlers))
      const endpoint = yield* Effect.orDie(Endpoint.parse(listener.address))
      addr = endpoint.addr
      return { listener, endpoint }
    })
  })

const onUnix: Place = () =>
  Effect.map(temporaryDirectory, (directory): Listen => {
    const path = join(directory, "socket")
    return Effect.fnUntraced(function*(handlers) {
      return { listener: yield* Effect.orDie(Listener.unix(path, handlers)), endpoint: Endpoint.unix(path) }
    })
  })

const inMemory: Place = (name) =>
  Effect.map(TestNetwork.make, (network): Listen =>
    Effect.fnUntraced(function*(handlers) {
      return { listener: yield* Effect.orDie(network.listener(name, handlers)), endpoint: network.endpoint(name) }
    }))

const withMtls = (below: Place): Place => (name) =>
  Effect.map(below(name), (listen): Listen =>
    Effect.fnUntraced(function*(handlers) {
      const { ca, client, server } = yield* certificates
      const inner = yield* listen(handlers)
      return {
        listener: yield* Effect.orDie(Listener.mtls({ ca, ...server }, inner.listener)),
        endpoint: Endpoint.mtls({ ca, ...client, servername: "localhost" }, inner.endpoint)
      }
    }))

const makeNetwork = (name: Network["name"], place: Place): Network => {
  const listen: Listen = (handlers) => Effect.flatMap(place("server"), (listen) => listen(handlers))
  return {
    name,
    place,
    listen,
    serve: Effect.fnUntraced(function*(handlers, options) {
      const { endpoint, listener } = yield* listen(handlers)
      const serving = yield* Effect.forkScoped(Server.serve(listener, { shutdownGrace: 0, ...options }), {
        startImmediately: true
      })
      return { endpoint, listener, serving }
    })
  }
}

export const tcp: Network = makeNetwork("tcp", onTcp)
export const unix: Network = makeNetwork("unix", onUnix)
export const mtlsOverTcp: Network = makeNetwork("mtls over tcp", withMtls(onTcp))
export const mtlsOverUnix: Network = makeNetwork("mtls over unix", withMtls(onUnix))
export const memory: Network = makeNetwork("memory", inMemory)
export const mtlsOverMemory: Network = makeNetwork("mtls over memory", withMtls(inMemory))

/** All of them but TLS in memory, which only the tests of TLS itself need. */
const networks: ReadonlyArray<Network> = [tcp, unix, mtlsOverTcp, mtlsOverUnix, memory]

/** A `describe` for each network. */
export const eachNetwork = (tests: (network: Network) => void, which: ReadonlyArray<Network> = networks): void => {
  for (const network of which) describe(`over ${network.name}`, () => tests(network))
}

/** Connects to endpoints that never change, or that could. */
export const connect = Effect.fnUntraced(function*(
  endpoints: ReadonlyArray<Endpoint.Endpoint>,
  options?: Connection.ClientOptions & { readonly resolver?: "constant" | "changing" }
): Effect.fn.Return<Connection.Connection, never, Scope.Scope> {
  const { resolver = "constant", ...rest } = options ?? {}
  return yield* Effect.orDie(Connection.make(
    resolver === "constant"
      ? Resolver.constant(...endpoints)
      : Resolver.fromSubscriptionRef(yield* SubscriptionRef.make(endpoints)),
    rest
  ))
})

/** How a call gets to its server. */
export interface Way {
  readonly network: Network
  readonly resolver: "constant" | "changing"
  /**
   * A connection without a call so far and without a socket, or one on which another call is in flight all the time.
   */
  readonly use: "fresh" | "shared"
  /** Serves `handlers` and connects to them, both for the ambient Scope. */
  readonly open: <R>(
    handlers: HandlerMap.HandlerMap<R>,
    options?: { readonly client?: Connection.ClientOptions; readonly server?: Server.ServerOptions }
  ) => Effect.Effect<Connection.Connection, never, Exclude<R, Scope.Scope> | Scope.Scope>
}

const other = MethodKey.make("test/Other", "wait")

const makeWay = (network: Network, resolver: Way["resolver"], use: Way["use"]): Way => ({
  network,
  resolver,
  use,
  open: Effect.fnUntraced(function*(handlers, options) {
    const waiting = yield* Deferred.make<void>()
    const wait = () => Effect.andThen(Deferred.succeed(waiting, undefined), Effect.never)
    const served = HandlerMap.set(handlers, other.component, other.method, wait)
    const { endpoint } = yield* network.serve(served, options?.server)
    const connection = yield* connect([endpoint], { ...options?.client, resolver })
    if (use === "shared") {
      yield* Effect.forkScoped(Effect.exit(connection.call(other, new Uint8Array())))
      yield* Deferred.await(waiting)
    }
    return connection
  })
})

/** Every network, with a constant and a changing resolver, on a fresh and on a shared connection. */
const ways: ReadonlyArray<Way> = networks.flatMap((network) =>
  (["constant", "changing"] as const).flatMap((resolver) =>
    (["fresh", "shared"] as const).map((use) => makeWay(network, resolver, use))
  )
)

/** Every network once, and every kind of resolver and connection: for what does not depend on all of them at once. */
export const someWays: ReadonlyArray<Way> = ways.filter((_, i) => i % 4 === Math.floor(i / 4) % 4)

/** A `describe` for each way. */
export const eachWay = (tests: (way: Way) => void, which: ReadonlyArray<Way> = ways): void => {
  for (const way of which) {
    describe(`over ${way.network.name}, ${way.resolver} resolver, ${way.use} connection`, () => tests(way))
  }
}

/** The component of the handlers below. */
export const component = "test/Echo"
/** Answers its arguments. */
export const echo: MethodKey.MethodKey = MethodKey.make(component, "echo")
/** Never answers. */
export const hang: MethodKey.MethodKey = MethodKey.make(component, "hang")

export const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text)
export const textOf = (bytes: Uint8Array): string => new TextDecoder().decode(bytes)

/** Serves {@link echo}, {@link hang}, and "error", which fails with an Error whose message is its arguments. */
export const handlers: HandlerMap.HandlerMap<never> = HandlerMap.empty.pipe(
  HandlerMap.set(component, "echo", (args) => Effect.succeed(args)),
  HandlerMap.set(component, "error", (args) => Effect.fail(new Error(textOf(args)))),
  HandlerMap.set(component, "hang", () => Effect.never)
)
