/**
 * effect-call itself: with bytes, and with typed methods; over TCP, Unix sockets and mTLS.
 */
import { Effect, Schema, type Scope } from "effect"
import { Component, Connection, Endpoint, HandlerMap, Listener, MethodKey, Resolver, Server } from "effect-call"
import { Rpc, RpcGroup } from "effect/rpc"
import { rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import type { Client, System } from "../system.ts"
import { effectClient } from "./effects.ts"
import type { TlsAddress } from "./rawTls.ts"

type Transport = "tcp" | "unix" | "mtls"

type Listen = (handlers: HandlerMap.HandlerMap<never>) => Effect.Effect<
  { readonly listener: Listener.Listener; readonly address: string },
  Listener.ListenerError,
  Scope.Scope
>

const listenOn: Record<Transport, Listen> = {
  tcp: (handlers) =>
    Effect.map(Listener.tcp("127.0.0.1:0", handlers), (listener) => ({ listener, address: listener.address })),
  unix: (handlers) => {
    const path = join(tmpdir(), `effect-call-benchmark-${process.pid}.sock`)
    // The benchmark kills its processes when it is done.
    rmSync(path, { force: true })
    return Effect.map(Listener.unix(path, handlers), (listener) => ({ listener, address: listener.address }))
  },
  mtls: Effect.fnUntraced(function*(handlers) {
    const { makeCertificates } = yield* Effect.promise(() => import("./certificates.ts"))
    const { ca, client, server } = yield* Effect.promise(makeCertificates)
    const below = yield* Listener.tcp("127.0.0.1:0", handlers)
    const listener = yield* Listener.mtls({ ca, ...server }, below)
    return { listener, address: JSON.stringify({ address: below.address, ca, ...client } satisfies TlsAddress) }
  })
}

const endpointOf = (transport: Transport, address: string) => {
  if (transport !== "mtls") return Endpoint.parse(address)
  // What `listenOn` has written.
  const { address: below, ...tls } = JSON.parse(address) as TlsAddress
  return Effect.map(Endpoint.parse(below), (endpoint) => Endpoint.mtls(tls, endpoint))
}

/** Serves, or stays connected, until the process ends; gives what is known at the beginning. */
const forever = <A, E>(program: Effect.Effect<readonly [A, Effect.Effect<unknown, unknown>], E, Scope.Scope>) =>
  new Promise<A>((resolve, reject) => {
    const running = Effect.scoped(Effect.flatMap(program, ([known, run]) => {
      resolve(known)
      return run
    }))
    Effect.runPromise(running).catch(reject)
  })

const serve = (
  transport: Transport,
  handlers: Effect.Effect<HandlerMap.HandlerMap<never>, never, Scope.Scope>,
  options?: Server.ServerOptions
) =>
  forever(Effect.gen(function*() {
    const { address, listener } = yield* listenOn[transport](yield* handlers)
    return [address, Server.serve(listener, options)] as const
  }))

const connect = (
  transport: Transport,
  address: string,
  makeClient: (connection: Connection.Connection) => Effect.Effect<Client>,
  options?: Connection.ClientOptions
) =>
  forever(Effect.gen(function*() {
    const endpoint = yield* endpointOf(transport, address)
    const connection = yield* Connection.make(Resolver.constant(endpoint), options)
    return [yield* makeClient(connection), Effect.never] as const
  }))

/** What the options of both sides and of calls are set to, where that is what is measured. */
export interface BytesOptions {
  /** For how long the handler keeps the event loop before it answers, in µs. */
  readonly burnMicros?: number
  readonly metrics?: boolean
  readonly timeout?: Connection.CallOptions["timeout"]
  readonly client?: Connection.ClientOptions
  readonly server?: Server.ServerOptions
}

const burn = (micros: number) => {
  const end = performance.now() + micros / 1000
  while (performance.now() < end);
}

/** The bytes API. */
export const bytes = (transport: Transport, options: BytesOptions = {}): System => {
  const metrics = options.metrics ?? true
  const echo = MethodKey.make("benchmark/Echo", "echo")
  const { burnMicros } = options
  const handle = burnMicros === undefined
    ? (args: Uint8Array) => Effect.succeed(args)
    : (args: Uint8Array) => {
      burn(burnMicros)
      return Effect.succeed(args)
    }
  const handlers = HandlerMap.empty.pipe(HandlerMap.set("benchmark/Echo", "echo", handle))
  const callOptions = options.timeout === undefined ? undefined : { timeout: options.timeout }
  return {
    serve: () => serve(transport, Effect.succeed(handlers), { metrics, ...options.server }),
    connect: (address) =>
      connect(
        transport,
        address,
        (connection) =>
          Effect.succeed(effectClient((payload) => connection.call(echo, payload, callOptions), (answer) => answer)),
        { metrics, ...options.client }
      )
  }
}

const group = RpcGroup.make(
  Rpc.make("Echo", { payload: { bytes: Schema.Uint8Array }, success: Schema.Struct({ bytes: Schema.Uint8Array }) })
)
const EchoComponent = Component.make("benchmark/Echo", group)

/** Typed methods, with and without spans on both sides. */
export const typed = (transport: Transport, { tracing }: { readonly tracing: boolean }): System => {
  const options = { disableTracing: !tracing }
  return {
    serve: () =>
      serve(
        transport,
        Component.handlers(EchoComponent, group.toLayer({ Echo: (payload) => Effect.succeed(payload) }), options)
      ),
    connect: (address) =>
      connect(transport, address, (connection) =>
        Effect.map(
          Effect.provideService(Component.client(EchoComponent, options), Connection.Connection, connection),
          (client) => effectClient((bytes) => client.Echo({ bytes }), ({ bytes }) => bytes)
        ))
  }
}
