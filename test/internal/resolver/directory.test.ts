import { NodeFileSystem } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Exit, Fiber, FileSystem, Schedule, Scope, Stream } from "effect"
import { Connection, HandlerMap, Listener, MethodKey, Resolver, Server } from "effect-call"
import { spawn } from "node:child_process"
import { linkSync, mkdirSync, rmSync, unlinkSync, writeFileSync } from "node:fs"
import { createServer, type Server as NetServer } from "node:net"
import { join } from "node:path"
import { passing } from "../../Resolver/kubernetesSupport.ts"
import { temporaryDirectory } from "../../support/networks.ts"
import { addresses, next, until, waits } from "../../support/resolve.ts"

/** Listens on a socket, for the ambient Scope or until it is closed; its file goes then. */
const listen = (path: string) =>
  Effect.acquireRelease(
    Effect.callback<{ readonly server: NetServer; readonly connections: () => number }>((resume) => {
      let connections = 0
      const server = createServer((socket) => {
        connections++
        socket.on("error", () => {}).resume()
      })
      server.listen(path, () => resume(Effect.succeed({ server, connections: () => connections })))
    }),
    ({ server }) => close(server)
  )

const close = (server: NetServer) =>
  Effect.callback<void>((resume) => {
    server.close(() => resume(Effect.void))
  })

/** Binds a socket without listening on it, which Node does in one step otherwise. */
const bind = (path: string) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      // It is not in the types, as it is an internal one.
      const { binding } = process as unknown as { readonly binding: (name: string) => PipeWrap }
      const { Pipe, constants } = binding("pipe_wrap")
      const pipe = new Pipe(constants.SERVER)
      pipe.onconnection = (_status, connection) => connection?.close()
      pipe.bind(path)
      return pipe
    }),
    (pipe) => Effect.sync(() => pipe.close())
  )

interface Pipe {
  onconnection: (status: number, connection: Pipe | undefined) => void
  readonly bind: (path: string) => number
  readonly listen: (backlog: number) => number
  readonly close: () => void
}

interface PipeWrap {
  readonly Pipe: new(type: number) => Pipe
  readonly constants: { readonly SERVER: number }
}

/**
 * A directory, and a resolver of it that finds changes by being told of them, unless they come to be looked for after
 * `interval`.
 */
const start = Effect.fnUntraced(function*(options?: Resolver.DirectoryOptions) {
  const path = join(yield* temporaryDirectory, "cart")
  mkdirSync(path)
  const resolver = yield* Resolver.directory(path, options ?? { interval: "1 hour" })
  const socket = (name: string) => join(path, name)
  const found = (...names: ReadonlyArray<string>) => names.map((name) => `unix://${socket(name)}`)
  return { path, resolver, socket, found }
})

const live = (name: string, test: Effect.Effect<void, unknown, Scope.Scope | FileSystem.FileSystem>) =>
  it.live(name, () => test.pipe(Effect.provide(NodeFileSystem.layer)))

describe("directory", () => {
  live(
    "lists the sockets by name, and nothing else that is there",
    Effect.gen(function*() {
      const { found, resolver, socket } = yield* start()
      for (const name of ["b", "a", ".hidden", "c"]) yield* listen(socket(name))
      writeFileSync(socket("file"), "")
      mkdirSync(socket("directory"))
      assert.isFalse(resolver.isConstant)
      assert.deepStrictEqual(addresses(yield* resolver.resolve()), found("a", "b", "c"))
    })
  )

  live(
    "notices a socket that appears, and one that goes",
    Effect.gen(function*() {
      const { found, resolver, socket } = yield* start()
      yield* listen(socket("a"))
      let resolution = yield* resolver.resolve()
      const waiting = yield* next(resolver, resolution)
      const b = yield* listen(socket("b"))
      resolution = yield* Fiber.join(waiting)
      assert.deepStrictEqual(addresses(resolution), found("a", "b"))
      yield* close(b.server)
      yield* until(resolver, found("a"))
    })
  )

  live(
    "follows a directory that is not there yet, is removed, and is made again",
    Effect.gen(function*() {
      const { found, path, resolver, socket } = yield* start({ interval: "50 millis" })
      rmSync(path, { recursive: true })
      assert.deepStrictEqual(addresses(yield* resolver.resolve()), [])
      for (let i = 0; i < 2; i++) {
        mkdirSync(path)
        yield* listen(socket("a"))
        yield* until(resolver, found("a"))
        rmSync(path, { recursive: true })
        yield* until(resolver, [])
      }
    })
  )

  live(
    "reads a directory that cannot be watched",
    Effect.gen(function*() {
      const path = yield* temporaryDirectory
      const fs = yield* FileSystem.FileSystem
      let watched = 0
      const unwatchable = {
        ...fs,
        watch: () => {
          watched++
          return Stream.fail(new Error("too many") as never)
        }
      }
      const resolver = yield* Effect.provideService(
        Resolver.directory(path, { interval: "50 millis" }),
        FileSystem.FileSystem,
        unwatchable
      )
      const waiting = yield* next(resolver, yield* resolver.resolve())
      yield* listen(join(path, "a"))
      assert.deepStrictEqual(addresses(yield* Fiber.join(waiting)), [`unix://${join(path, "a")}`])
      assert.isAbove(watched, 0)
    })
  )

  live(
    "does not list the socket of a server that was killed, and lists that of the next one",
    Effect.gen(function*() {
      const { found, resolver, socket } = yield* start()
      const { server } = yield* listen(socket(".a"))
      linkSync(socket(".a"), socket("a"))
      yield* close(server)
      const empty = yield* resolver.resolve()
      assert.deepStrictEqual(addresses(empty), [])
      const waiting = yield* next(resolver, empty)
      unlinkSync(socket("a"))
      yield* listen(socket("a"))
      assert.deepStrictEqual(addresses(yield* Fiber.join(waiting)), found("a"))
    })
  )

  live(
    "lists a socket soon after its server has begun to listen, which no event tells",
    Effect.gen(function*() {
      const { found, resolver, socket } = yield* start()
      const server = yield* bind(socket("a"))
      const empty = yield* resolver.resolve()
      assert.deepStrictEqual(addresses(empty), [])
      const waiting = yield* next(resolver, empty)
      server.listen(8)
      assert.deepStrictEqual(addresses(yield* Fiber.join(waiting)), found("a"))
    })
  )

  it.effect("lists it as soon where the socket of a server that was killed has long been there", () =>
    Effect.gen(function*() {
      const { found, resolver, socket } = yield* start()
      const { server } = yield* listen(socket(".a"))
      linkSync(socket(".a"), socket("a"))
      yield* close(server)
      const empty = yield* resolver.resolve()
      const waiting = yield* next(resolver, empty)
      yield* passing(Effect.sleep("10 minutes"), "10 seconds")

      const late = yield* bind(socket("b"))
      // Time for the event, and for the first try, which is refused.
      yield* passing(Effect.sleep("20 millis"), "1 milli")
      assert.isTrue(waits(waiting))
      late.listen(8)
      const [took] = yield* passing(Effect.timed(Fiber.join(waiting)), "10 millis")
      assert.isBelow(Duration.toMillis(took), 1000)
      assert.deepStrictEqual(addresses(yield* Fiber.join(waiting)), found("b"))
    }).pipe(Effect.provide(NodeFileSystem.layer)))

  live(
    "tries a new socket once, and all of them when an endpoint was lost",
    Effect.gen(function*() {
      const { found, resolver, socket } = yield* start()
      const a = yield* listen(socket("a"))
      const b = yield* listen(socket("b"))
      // A second name for the second socket, which its server does not remove.
      linkSync(socket("b"), socket("c"))
      const first = yield* resolver.resolve()
      assert.deepStrictEqual(addresses(first), found("a", "b", "c"))
      const waiting = yield* next(resolver, first)
      writeFileSync(socket("other"), "")
      yield* close(b.server)
      const second = yield* Fiber.join(waiting)
      assert.deepStrictEqual(addresses(second), found("a", "c"))
      assert.strictEqual(a.connections(), 1)

      const later = yield* next(resolver, second)
      yield* resolver.refresh!
      assert.deepStrictEqual(addresses(yield* Fiber.join(later)), found("a"))
    })
  )

  live(
    "fails with the path where it cannot be read",
    Effect.gen(function*() {
      const { path } = yield* start()
      writeFileSync(join(path, "file"), "")
      const error = yield* Effect.flip((yield* Resolver.directory(join(path, "file"))).resolve())
      assert.include(error.message, `the directory "${join(path, "file")}" cannot be read`)
      const empty = yield* Effect.flip((yield* Resolver.directory("")).resolve())
      assert.strictEqual(empty.message, "the path of the directory is empty")
      assert.isTrue(Exit.isFailure(yield* Effect.exit(Resolver.directory(path, { interval: 0 }))))
    })
  )

  live(
    "takes a path with a slash at its end",
    Effect.gen(function*() {
      const { found, path, socket } = yield* start()
      yield* listen(socket("a"))
      const resolver = yield* Resolver.directory(`${path}/`)
      assert.deepStrictEqual(addresses(yield* resolver.resolve()), found("a"))
    })
  )

  live(
    "watches only while a caller waits",
    Effect.gen(function*() {
      const path = yield* temporaryDirectory
      const fs = yield* FileSystem.FileSystem
      let watches = 0
      const counted: FileSystem.FileSystem = {
        ...fs,
        watch: (path, options) =>
          Stream.unwrap(Effect.acquireRelease(
            Effect.sync(() => {
              watches++
              return fs.watch(path, options)
            }),
            () => Effect.sync(() => watches--)
          ))
      }
      const resolver = yield* Effect.provideService(Resolver.directory(path), FileSystem.FileSystem, counted)
      const waiting = yield* next(resolver, yield* resolver.resolve())
      assert.isTrue(waits(waiting))
      assert.strictEqual(watches, 1)
      yield* Fiber.interrupt(waiting)
      assert.strictEqual(watches, 0)
    })
  )

  live(
    "brings calls to new replicas, and away from replicas that were stopped or killed",
    Effect.gen(function*() {
      const { found, resolver, socket } = yield* start()
      const name = MethodKey.make("test/Names", "name")
      const serve = Effect.fnUntraced(function*(server: string) {
        const handlers = HandlerMap.set(
          HandlerMap.empty,
          "test/Names",
          "name",
          () => Effect.succeed(new TextEncoder().encode(server))
        )
        yield* Effect.forkScoped(
          Server.serve(yield* Listener.unix(socket(server), handlers), { shutdownGrace: 0 }),
          { startImmediately: true }
        )
      })
      const connection = yield* Connection.make(resolver)
      const ask = connection.call(name, new Uint8Array(), { waitForReady: true }).pipe(
        Effect.map((answer) => new TextDecoder().decode(answer))
      )
      const endpointsAre = (...names: ReadonlyArray<string>) =>
        Effect.repeat(connection.state, {
          until: ({ endpoints }) => endpoints.map(({ address }) => address).join() === found(...names).join(),
          schedule: Schedule.spaced("5 millis")
        })

      yield* serve("a")
      assert.strictEqual(yield* ask, "a")
      const scope = yield* Scope.make()
      yield* Scope.provide(serve("b"), scope)
      yield* Effect.repeat(ask, { until: (answer) => answer === "b" })
      yield* Scope.close(scope, Exit.void)
      yield* endpointsAre("a")

      // One whose socket stays.
      const child = yield* Effect.acquireRelease(
        Effect.sync(() =>
          spawn(process.execPath, ["-e", `require("node:net").createServer().listen(${JSON.stringify(socket("c"))})`], {
            stdio: "ignore"
          })
        ),
        (child) => Effect.sync(() => child.kill("SIGKILL"))
      )
      yield* endpointsAre("a", "c")
      child.kill("SIGKILL")
      // As a Connection does that has lost it.
      yield* Effect.repeat(Effect.andThen(resolver.refresh!, connection.state), {
        until: ({ endpoints }) => endpoints.length === 1,
        schedule: Schedule.spaced("5 millis")
      })
      assert.deepStrictEqual(new Set(yield* Effect.replicateEffect(ask, 4)), new Set(["a"]))
    })
  )
})
