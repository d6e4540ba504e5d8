import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Endpoint, Listener } from "effect-call"
import * as fs from "node:fs"
import { join } from "node:path"
import { plainServer, read, temporaryDirectory, write } from "../internal/net/sockets.ts"
import { connect, failure, handlers } from "./support.ts"

describe("Listener.unix", () => {
  const socketPath = Effect.map(temporaryDirectory, (directory) => join(directory, "server.sock"))

  it.effect("has unix:// and the path as its address, makes the file, and removes it when it closes", () =>
    Effect.gen(function*() {
      const path = yield* socketPath
      const listener = yield* Listener.unix(path, handlers)
      assert.strictEqual(listener.address, `unix://${path}`)
      assert.isTrue(fs.lstatSync(path).isSocket())
      assert.deepStrictEqual(fs.readdirSync(join(path, "..")), ["server.sock"])
      yield* listener.close
      assert.deepStrictEqual(fs.readdirSync(join(path, "..")), [])
    }))

  it.effect.each([0o600, 0o660, 0o777])("gives the file its mode: %o", (mode) =>
    Effect.gen(function*() {
      const path = yield* socketPath
      yield* Listener.unix(path, handlers, { mode })
      assert.strictEqual(fs.lstatSync(path).mode & 0o777, mode)
    }))

  it.effect("leaves the mode to the umask otherwise", () =>
    Effect.gen(function*() {
      const path = yield* socketPath
      yield* Listener.unix(path, handlers)
      yield* plainServer({ path: `${path}.plain` })
      assert.strictEqual(fs.lstatSync(path).mode, fs.lstatSync(`${path}.plain`).mode)
    }))

  /** The socket file of a server that has died without removing it. */
  const leaveStale = Effect.fnUntraced(function*(path: string) {
    yield* Effect.scoped(Effect.gen(function*() {
      yield* plainServer({ path: `${path}.1` })
      fs.linkSync(`${path}.1`, path)
    }))
    assert.isTrue(fs.lstatSync(path).isSocket())
    assert.include((yield* Effect.flip(Endpoint.unix(path).dial)).message, "ECONNREFUSED")
  })

  it.effect("replaces the file that a dead server has left", () =>
    Effect.gen(function*() {
      const path = yield* socketPath
      yield* leaveStale(path)
      const listener = yield* Listener.unix(path, handlers)
      yield* connect(listener)
    }))

  it.effect("does not replace the file of a live server", () =>
    Effect.gen(function*() {
      const path = yield* socketPath
      const live = yield* Listener.unix(path, handlers)
      assert.strictEqual(
        yield* failure(Listener.unix(path, handlers)),
        `cannot listen on unix://${path}: another server listens on ${path}`
      )
      // The one connection that asked whether a server is there is gone.
      const { client, connection } = yield* connect(live)
      yield* write(client, "hi")
      assert.strictEqual(yield* read(connection, 2), "hi")
      assert.deepStrictEqual(fs.readdirSync(join(path, "..")), ["server.sock"])
    }))

  it.effect("does not touch a file that is no socket", () =>
    Effect.gen(function*() {
      const path = yield* socketPath
      fs.writeFileSync(path, "precious")
      assert.strictEqual(
        yield* failure(Listener.unix(path, handlers)),
        `cannot listen on unix://${path}: ${path} exists and is not a socket`
      )
      assert.strictEqual(fs.readFileSync(path, "utf8"), "precious")
      assert.deepStrictEqual(fs.readdirSync(join(path, "..")), ["server.sock"])
    }))

  it.effect("lets only one of many that start at once on a stale file have it", () =>
    Effect.gen(function*() {
      const path = yield* socketPath
      yield* leaveStale(path)
      const outcomes = yield* Effect.all(
        Array.from({ length: 10 }, () => Effect.result(Listener.unix(path, handlers))),
        { concurrency: "unbounded" }
      )
      const winners = outcomes.filter((outcome) => outcome._tag === "Success")
      assert.strictEqual(winners.length, 1)
      for (const outcome of outcomes) {
        if (outcome._tag === "Failure") assert.include(outcome.failure.message, "another server listens")
      }
      yield* connect(winners[0]!.success)
    }))

  it.effect("does not remove the file of a server that has taken its place", () =>
    Effect.gen(function*() {
      const path = yield* socketPath
      const first = yield* Listener.unix(path, handlers)
      fs.unlinkSync(path)
      const second = yield* Listener.unix(path, handlers)
      yield* first.close
      yield* connect(second)
      yield* second.close
      assert.isFalse(fs.existsSync(path))
      // The number of its file may have been given to the next one by now.
      const third = yield* Listener.unix(path, handlers)
      yield* first.close
      yield* second.close
      yield* connect(third)
    }))

  it.effect("says what is wrong with a path", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      assert.strictEqual(
        yield* failure(Listener.unix("", handlers)),
        "cannot listen on unix://: the path of the Unix socket is empty"
      )
      const missing = join(directory, "missing", "server.sock")
      assert.strictEqual(
        yield* failure(Listener.unix(missing, handlers)),
        `cannot listen on unix://${missing}: there is no directory ${join(directory, "missing")}`
      )
      const long = join(directory, "x".repeat(120))
      assert.match(
        yield* failure(Listener.unix(long, handlers)),
        /is too long for a Unix socket: it has \d+ bytes, expected at most 10[37]/
      )
      assert.deepStrictEqual(fs.readdirSync(directory), [])
    }))

  const longest = process.platform === "linux" ? 107 : 103
  /** A path of that many bytes, whose file has a name of that many. */
  const pathOf = Effect.fnUntraced(function*(length: number, nameLength: number) {
    const directory = yield* temporaryDirectory
    const between = length - Buffer.byteLength(directory) - nameLength - 2
    // Bytes count, and not characters.
    const path = join(directory, "é".repeat(between / 2) + "d".repeat(between % 2), "s".repeat(nameLength))
    fs.mkdirSync(join(path, ".."))
    return path
  })

  it.effect.each([1, 2, 3, 4, 5, 9, 20])(
    "takes the longest path that the system does, with a file name of %i bytes",
    (nameLength) =>
      Effect.gen(function*() {
        const path = yield* pathOf(longest, nameLength)
        assert.strictEqual(Buffer.byteLength(path), longest)
        const listener = yield* Listener.unix(path, handlers)
        assert.strictEqual(listener.address, `unix://${path}`)
        yield* connect(listener)
        assert.deepStrictEqual(fs.readdirSync(join(path, "..")), ["s".repeat(nameLength)])
        assert.include(yield* failure(Listener.unix(path, handlers)), "another server listens on")
        yield* listener.close
        assert.deepStrictEqual(fs.readdirSync(join(path, "..")), [])
      })
  )

  it.effect("finds another name for the socket that is not ready where one is taken", () =>
    Effect.gen(function*() {
      const path = yield* pathOf(longest, 1)
      const odd = "~+=,%#^:;!$&'()*?{}<>|"
      // All but one of the names that are possible there.
      for (const name of odd.slice(1)) fs.writeFileSync(join(path, "..", name), "")
      yield* connect(yield* Listener.unix(path, handlers))
      assert.isTrue(fs.lstatSync(path).isSocket())
      fs.writeFileSync(join(path, "..", "~"), "")
      const other = `${path.slice(0, -1)}t`
      assert.match(yield* failure(Listener.unix(other, handlers)), /EADDRINUSE/)
    }))

  it.effect("takes a path that is short from the working directory, wherever that is", () =>
    Effect.gen(function*() {
      const directory = yield* pathOf(200, 60)
      fs.mkdirSync(directory)
      const before = process.cwd()
      yield* Effect.acquireRelease(
        Effect.sync(() => process.chdir(directory)),
        () => Effect.sync(() => process.chdir(before))
      )
      // Often: one name in 30 that consists of hexadecimal digits is a number, which Node takes for a port.
      for (let i = 0; i < 100; i++) yield* Effect.scoped(Listener.unix("s.sock", handlers))
      const listener = yield* Listener.unix("s.sock", handlers)
      yield* connect(listener)
      // It asks whether a server is there by the short path, too.
      assert.include(yield* failure(Listener.unix("s.sock", handlers)), "another server listens on s.sock")
    }))

  it.effect("refuses a path that is one byte longer, and says how long it may be", () =>
    Effect.gen(function*() {
      const path = yield* pathOf(longest + 1, 4)
      const why = `${JSON.stringify(path)} is too long for a Unix socket: `
        + `it has ${longest + 1} bytes, expected at most ${longest}`
      assert.strictEqual(yield* failure(Listener.unix(path, handlers)), `cannot listen on unix://${path}: ${why}`)
      assert.strictEqual((yield* Effect.flip(Endpoint.unix(path).dial)).message, `cannot dial unix://${path}: ${why}`)
    }))

  it.effect.skipIf(process.platform !== "linux")(
    "takes a name of 108 bytes in the abstract namespace, and no more",
    () =>
      Effect.gen(function*() {
        const name = `@effect-call-${process.pid}-`.padEnd(108, "x")
        yield* connect(yield* Listener.unix(name, handlers))
        assert.include(yield* failure(Listener.unix(`${name}x`, handlers)), "it has 109 bytes, expected at most 108")
      })
  )

  it.effect.skipIf(process.platform !== "linux")(
    "listens in the abstract namespace, without a file",
    () =>
      Effect.gen(function*() {
        const name = `@effect-call-${process.pid}-${Math.random()}`
        const listener = yield* Listener.unix(name, handlers)
        assert.strictEqual(listener.address, `unix://${name}`)
        yield* connect(listener)
        assert.match(yield* failure(Listener.unix(name, handlers)), /EADDRINUSE/)
      })
  )
})
