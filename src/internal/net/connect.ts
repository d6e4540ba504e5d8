/**
 * Connecting a `node:net` socket that lives as long as a Scope.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { LookupAddress } from "node:dns"
import * as net from "node:net"
import { attempt, clip, textOf } from "../userError.ts"
import { isUnspecified, type Target } from "./address.ts"

/** Keeps an `error` event from ending the process; whoever uses a socket learns of its end by its `close`. */
export const ignoreError = (): void => {}

const loopbacks: ReadonlyArray<LookupAddress> = [{ address: "127.0.0.1", family: 4 }, { address: "::1", family: 6 }]

/** Stands in for DNS where this host is meant, so that it is found without a hosts file too. */
const lookupThisHost = (family: 0 | 4 | 6): net.LookupFunction => {
  const [first, ...more] = loopbacks.filter((address) => family === 0 || address.family === family)
  return (_hostname, options, callback) => {
    if (first === undefined) return callback(new Error("this host has no loopback address"), "")
    if (options.all === true) return callback(null, [first, ...more])
    callback(null, first.address, first.family)
  }
}

/** What `net.connect` needs to reach a target. */
export const connectOptions = (target: Target): net.NetConnectOpts => {
  if (target._tag === "Unix") return { path: target.path }
  const { family, host, port } = target
  return isUnspecified(host)
    ? { host: "localhost", port, family, noDelay: true, lookup: lookupThisHost(family) }
    : { host, port, family, noDelay: true }
}

/** Connects. It listens before it begins to, since where a fiber yields in between the socket may be connected by the time it goes on. */
const connected = (socket: net.Socket, options: net.NetConnectOpts): Effect.Effect<void, unknown> =>
  Effect.callback((resume) => {
    const settle = (result: Effect.Effect<void, unknown>) => {
      off()
      resume(result)
    }
    const onConnect = () => settle(Effect.void)
    const onError = (error: unknown) => settle(Effect.fail(error))
    const off = () => {
      socket.off("connect", onConnect)
      socket.off("error", onError)
    }
    socket.once("connect", onConnect)
    socket.once("error", onError)
    try {
      socket.connect(options)
    } catch (error) {
      // It throws, instead of emitting an error, on options that it does not like; the socket is there all the same.
      onError(error)
    }
    return Effect.sync(off)
  })

/** A connected socket, destroyed with the Scope; when it fails or is interrupted, at once. */
export const connect = (options: net.NetConnectOpts): Effect.Effect<net.Socket, unknown, Scope.Scope> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.gen(function*() {
      const socket = new net.Socket(options)
      socket.on("error", ignoreError)
      const destroy = Effect.sync(() => socket.destroy())
      yield* Effect.onError(restore(connected(socket, options)), () => destroy)
      yield* Effect.addFinalizer(() => destroy)
      return socket
    })
  )

/**
 * What an error of `node:net` or `node:tls` says, or of a user's endpoint or options. One that sums up several attempts
 * is empty itself.
 */
export const describe = (error: unknown): string => {
  const attempts = attempt(
    (): ReadonlyArray<unknown> => error instanceof AggregateError && error.message === "" ? [...error.errors] : [],
    []
  )
  return attempts.length === 0 ? textOf(error) : clip(attempts.map(textOf).join("; "))
}
