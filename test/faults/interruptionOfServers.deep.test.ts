/**
 * Listeners, servers and their shutdown, interrupted at every point.
 */
import { describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Scope } from "effect"
import { Endpoint, HandlerMap, Listener, Server } from "effect-call"
import * as assert from "node:assert/strict"
import { linkSync, readdirSync, unlinkSync } from "node:fs"
import * as net from "node:net"
import { join } from "node:path"
import * as Networks from "../support/networks.ts"
import { args, atEveryPoint, eachPace, turns, work, workers } from "./interrupting.ts"
import { until } from "./wire.ts"

/** Listens in a Scope that closes some turns later; then the place is free. */
const opening = <E>(
  open: Effect.Effect<unknown, E, Scope.Scope>,
  isFree: Effect.Effect<void, E> = Effect.asVoid(Effect.scoped(open))
) => Effect.succeed({ run: Effect.scoped(Effect.andThen(open, turns)), check: () => isFree })

describe("a listener that is opened", () => {
  /** An address of its own to listen on: no other program uses this host. */
  const freePort = Effect.map(
    Effect.scoped(Effect.orDie(Listener.tcp("127.0.0.77:0", HandlerMap.empty))),
    ({ address }) => address.slice("tcp://".length)
  )

  eachPace("on TCP is interrupted", 10, {
    around: freePort,
    attempt: (address: string) => opening(Listener.tcp(address, HandlerMap.empty))
  })

  eachPace("on TCP by a name is interrupted", 10, {
    around: Effect.map(freePort, (address) => address.replace("127.0.0.77", "localhost")),
    attempt: (address: string) => opening(Listener.tcp(address, HandlerMap.empty))
  })

  eachPace("on a Unix socket is interrupted, and leaves no file", 10, {
    around: Networks.temporaryDirectory,
    attempt: (directory) => {
      const path = join(directory, "socket")
      return opening(
        Listener.unix(path, HandlerMap.empty, { mode: 0o600 }),
        Effect.sync(() => assert.deepEqual(readdirSync(directory), []))
      )
    }
  })

  eachPace(
    "in place of a dead server's socket is interrupted, and leaves no file of its own",
    10,
    {
      around: Effect.gen(function*() {
        const directory = yield* Networks.temporaryDirectory
        const live = join(directory, "live")
        const dead = join(directory, "dead")
        // The server removes its own name, and the other one stays.
        yield* Effect.callback<void>((resume) => {
          const server = net.createServer().listen(live, () => {
            linkSync(live, dead)
            server.close(() => resume(Effect.void))
          })
        })
        return directory
      }),
      attempt: (directory) => {
        const path = join(directory, "socket")
        linkSync(join(directory, "dead"), path)
        return opening(
          Listener.unix(path, HandlerMap.empty),
          Effect.sync(() => {
            const files = readdirSync(directory)
            if (files.includes("socket")) unlinkSync(path)
            assert.deepEqual(files.filter((file) => file !== "socket"), ["dead"])
          })
        )
      }
    }
  )

  eachPace("with mTLS is interrupted", 10, {
    around: Effect.all({ address: freePort, certificates: Networks.certificates }),
    attempt: ({ address, certificates: { ca, server } }) => {
      const options = Effect.as(turns, { ca, ...server })
      return opening(
        Effect.flatMap(Listener.tcp(address, HandlerMap.empty), (below) => Listener.mtls(options, below))
      )
    }
  })
})

describe("accepting", () => {
  Networks.eachNetwork((network) => {
    // As for anything that gives something to be released: between its end and what its caller does with that, a fiber
    // must not yield.
    it.live("is interrupted, and no connection is lost", () =>
      atEveryPoint("without a stop", {
        around: network.listen(HandlerMap.empty),
        attempt: Effect.fnUntraced(function*({ endpoint, listener }) {
          const dialed = yield* Effect.forkScoped(Effect.orDie(endpoint.dial))
          return {
            run: listener.accept,
            check: Effect.fnUntraced(function*(exit: Exit.Exit<Listener.Accepted, unknown>) {
              const { connection } = Exit.isSuccess(exit) ? exit.value : yield* listener.accept
              assert.equal(connection.destroyed, false)
              yield* Fiber.join(dialed)
              connection.destroy()
            })
          }
        })
      }).pipe(Effect.map((points) => assert.ok(points > 0))))
  })

  eachPace("gets the connection at whichever point it comes", 10, {
    around: Networks.memory.listen(HandlerMap.empty),
    attempt: Effect.fnUntraced(function*({ endpoint, listener }) {
      const scope = yield* Effect.scope
      return {
        run: listener.accept,
        stays: turns,
        strike: () => void Effect.runFork(Scope.provide(Effect.orDie(endpoint.dial), scope)),
        check: (exit: Exit.Exit<Listener.Accepted, unknown>) =>
          Effect.sync(() => {
            assert.ok(Exit.isSuccess(exit))
            exit.value.connection.destroy()
          })
      }
    })
  })
})

/** A client that works, and then hangs until it is told to end. */
const client = Effect.fnUntraced(function*(endpoint: Endpoint.Endpoint) {
  const connection = yield* Networks.connect([endpoint])
  const worked = yield* Effect.forkScoped(Effect.exit(connection.call(work, args)))
  const hung = yield* Effect.forkScoped(Effect.exit(connection.call(Networks.hang, args)))
  return { worked, hung }
})

const mayWarn = ["an endpoint could not be dialed", "a connection was lost"]

describe("a server", () => {
  Networks.eachNetwork((network) => {
    // With mTLS up to three seconds, since there are some 300 points, each with a handshake.
    eachPace("is interrupted, and everything ends with it", 100, {
      around: network.place("server"),
      mayWarn,
      attempt: Effect.fnUntraced(function*(listen) {
        const { handlers, idle, state } = workers()
        const scope = yield* Scope.make()
        const { endpoint, listener } = yield* Scope.provide(listen(handlers), scope)
        const calls = yield* client(endpoint)
        return {
          run: Server.serve(listener, { shutdownGrace: 0 }),
          stays: Effect.andThen(until("a call to hang", () => state.hanging === 1 && state.running === 0), turns),
          check: Effect.fnUntraced(function*() {
            // Where it has begun, it has closed its listener, and the next one can be opened.
            if (state.begun > 0) yield* Effect.scoped(listen(handlers))
            yield* Scope.close(scope, Exit.void)
            assert.ok(Exit.isFailure(yield* Fiber.join(calls.hung)))
            yield* Fiber.join(calls.worked)
            yield* idle
          })
        }
      })
    })
  }, [Networks.tcp, Networks.mtlsOverUnix, Networks.memory])

  Networks.eachNetwork((network) => {
    eachPace("on one connection is interrupted, and closes it where it has begun", 30, {
      around: network.place("server"),
      mayWarn,
      attempt: Effect.fnUntraced(function*(listen) {
        const { handlers, idle, state } = workers()
        const scope = yield* Scope.make()
        const { endpoint, listener } = yield* Scope.provide(listen(HandlerMap.empty), scope)
        const calls = yield* client(endpoint)
        const { connection } = yield* Effect.orDie(listener.accept)
        return {
          run: Server.serveOn(connection, handlers, { shutdownGrace: 0 }),
          stays: Effect.andThen(until("a call to hang", () => state.hanging === 1 && state.running === 0), turns),
          check: Effect.fnUntraced(function*() {
            if (state.begun > 0) assert.ok(connection.destroyed)
            connection.destroy()
            // What was not sent may have been dialed for again.
            yield* Scope.close(scope, Exit.void)
            assert.ok(Exit.isFailure(yield* Fiber.join(calls.hung)))
            yield* Fiber.join(calls.worked)
            yield* idle
          })
        }
      })
    })
  }, [Networks.tcp, Networks.memory])

  eachPace(
    "as a layer is interrupted while it is built, while it serves, and while it is released",
    100,
    {
      around: Effect.void,
      mayWarn,
      attempt: () => {
        const { handlers, idle } = workers()
        const serving = Server.layer(Listener.tcp("127.0.0.1:0", handlers), { shutdownGrace: 0 })
        const calling = Effect.gen(function*() {
          const { address } = yield* Server.Server
          const connection = yield* Networks.connect([yield* Effect.orDie(Endpoint.parse(address))])
          yield* Effect.forkScoped(Effect.exit(connection.call(Networks.hang, args)))
          yield* connection.call(Networks.echo, args)
        })
        return Effect.succeed({
          run: Effect.scoped(calling).pipe(Effect.provide(serving)),
          check: () => idle
        })
      }
    }
  )
})

describe("a server that stops", () => {
  /** A server whose calls are in flight, and which is being stopped as soon as that begins to run. */
  const stopping = Effect.fnUntraced(function*(network: Networks.Network, shutdownGrace: "1 hour" | 1) {
    const { handlers, idle, state } = workers()
    const { endpoint, serving } = yield* network.serve(handlers, { shutdownGrace })
    const connection = yield* Networks.connect([endpoint])
    const call = yield* Effect.forkScoped(
      Effect.exit(connection.call(shutdownGrace === 1 ? Networks.hang : work, args))
    )
    yield* until("the call to be there", () => state.begun + state.hanging === 1)
    return { call, idle, serving }
  })

  Networks.eachNetwork((network) => {
    eachPace(
      "is interrupted once more, and its calls in flight are answered anyway",
      10,
      {
        around: Effect.void,
        mayWarn,
        attempt: Effect.fnUntraced(function*() {
          const { call, idle, serving } = yield* stopping(network, "1 hour")
          return {
            run: Fiber.interrupt(serving),
            strike: () => serving.interruptUnsafe(),
            check: Effect.fnUntraced(function*() {
              const exit = yield* Fiber.join(call)
              assert.ok(Exit.isSuccess(exit), String(exit))
              yield* idle
            })
          }
        })
      }
    )

    eachPace("goes on to do so where who waits for that is interrupted", 3, {
      around: Effect.void,
      mayWarn,
      attempt: Effect.fnUntraced(function*() {
        const { call, idle, serving } = yield* stopping(network, "1 hour")
        return {
          run: Fiber.interrupt(serving),
          check: Effect.fnUntraced(function*() {
            // It may have been struck before that had begun.
            serving.interruptUnsafe()
            const exit = yield* Fiber.join(call)
            assert.ok(Exit.isSuccess(exit), String(exit))
            yield* Fiber.await(serving)
            yield* idle
          })
        }
      })
    })

    eachPace(
      "is interrupted once more while its grace runs out, and ends what is left",
      10,
      {
        around: Effect.void,
        mayWarn,
        attempt: Effect.fnUntraced(function*() {
          const { call, idle, serving } = yield* stopping(network, 1)
          return {
            run: Fiber.interrupt(serving),
            strike: () => serving.interruptUnsafe(),
            check: Effect.fnUntraced(function*() {
              assert.ok(Exit.isFailure(yield* Fiber.join(call)))
              yield* idle
            })
          }
        })
      }
    )
  }, [Networks.tcp, Networks.memory])
})
