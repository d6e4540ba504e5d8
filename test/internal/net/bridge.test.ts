import { describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as assert from "node:assert/strict"
import { Socket } from "node:net"
import { Duplex, duplexPair } from "node:stream"
import { belowTls } from "../../../src/internal/net/bridge.ts"
import { until } from "../../Connection/support.ts"
import { closed, plainServer, read, write } from "./sockets.ts"

/** What a stream is destroyed with. */
const errorOf = (duplex: Duplex) => {
  const seen: { error?: Error } = {}
  duplex.on("error", (error) => void (seen.error = error))
  return seen
}

describe("what TLS gets for a connection", () => {
  it.live("is a socket of the system itself", () =>
    Effect.gen(function*() {
      const server = yield* plainServer({ port: 0, host: "127.0.0.1" })
      const socket = new Socket().connect(server.port, "127.0.0.1")
      yield* until(() => server.sockets.length === 1)
      assert.equal(belowTls(socket), socket)
      socket.destroy()
      assert.notEqual(belowTls(new Socket()), socket)
    }).pipe(Effect.scoped))

  it.live("is a stream over a Duplex of a user's own, in both directions and to its end", () =>
    Effect.gen(function*() {
      const [near, far] = duplexPair()
      const bridge = belowTls(near)
      assert.notEqual(bridge, near)
      yield* write(bridge, "there")
      assert.equal(yield* read(far, 5), "there")
      yield* write(far, "back")
      assert.equal(yield* read(bridge, 4), "back")
      bridge.resume()
      far.resume()
      far.end()
      bridge.end()
      yield* closed(bridge)
      assert.ok(near.destroyed)
    }))

  it.live("waits for a Duplex that has yet to drain", () =>
    Effect.gen(function*() {
      let done: (() => void) | undefined
      const below = new Duplex({
        read() {},
        writableHighWaterMark: 1,
        write(_chunk, _encoding, callback) {
          done = callback
        }
      })
      const bridge = belowTls(below)
      let written = false
      bridge.write("more than one", () => void (written = true))
      yield* until(() => done !== undefined)
      assert.equal(written, false)
      done?.()
      yield* until(() => written)
    }))

  it.each(["write", "end", "pause", "resume"] as const)("fails, and ends no process, where %s throws", (method) => {
    const below = new Duplex({ read() {}, write: (_chunk, _encoding, callback) => callback() })
    const bridge = belowTls(below)
    const seen = errorOf(bridge)
    below[method] = () => {
      throw new Error(`${method} threw`)
    }
    if (method === "write") bridge.write("bytes")
    else if (method === "end") bridge.end()
    else if (method === "resume") bridge.read()
    else for (let i = 0; i < 10; i++) below.emit("data", Buffer.alloc(100_000))
    return Effect.runPromise(Effect.map(until(() => seen.error !== undefined), () => {
      assert.equal(seen.error?.message, `${method} threw`)
    }))
  })

  it.live("fails where the Duplex delivers something other than bytes", () =>
    Effect.gen(function*() {
      const below = new Duplex({ read() {} })
      const seen = errorOf(belowTls(below))
      below.emit("data", "text")
      yield* until(() => seen.error !== undefined)
      assert.match(String(seen.error), /expected bytes from the Duplex, got "text"/)
    }))
})
