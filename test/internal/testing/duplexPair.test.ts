import { describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import * as assert from "node:assert/strict"
import * as net from "node:net"
import type { Duplex } from "node:stream"
import * as DuplexPair from "../../../src/internal/testing/duplexPair.ts"
import { unimpaired } from "../../../src/internal/testing/wire.ts"

const event = (socket: Duplex, name: string) =>
  Effect.callback<unknown>((resume) => {
    socket.once(name, (value) => resume(Effect.succeed(value)))
  })

const bothClose = ({ client, server }: { readonly client: Duplex; readonly server: Duplex }) =>
  Effect.all([event(client, "close"), event(server, "close")], { concurrency: 2 })

/** Collects everything that arrives, and says when so many bytes have. */
const collect = (socket: Duplex) => {
  const chunks: Array<Buffer> = []
  let waiting: (() => void) | undefined
  socket.on("data", (chunk: Buffer) => {
    chunks.push(chunk)
    waiting?.()
  })
  const bytes = () => Buffer.concat(chunks)
  const received = (count: number) =>
    Effect.callback<Buffer>((resume) => {
      const check = () => {
        if (bytes().length >= count) resume(Effect.succeed(bytes()))
      }
      waiting = check
      check()
    })
  return { bytes, received }
}

const write = (socket: Duplex, bytes: Uint8Array) =>
  Effect.callback<void, Error>((resume) => {
    socket.write(bytes, (error) => resume(error ? Effect.fail(error) : Effect.void))
  })

/** What a socket lives through, in order. */
const lifeOf = (socket: Duplex): Array<string> => {
  const events: Array<string> = []
  socket.on("end", () => events.push("end"))
  socket.on("finish", () => events.push("finish"))
  socket.on("error", (error: NodeJS.ErrnoException) => events.push(`error ${error.code ?? error.message}`))
  socket.on("close", () => events.push("close"))
  return events
}

/** Lets everything that can arrive arrive: bytes take a turn of the event loop each way. */
const turns = Effect.callback<void>((resume) => {
  let left = 20
  const turn = () => {
    if (--left === 0) resume(Effect.void)
    else setImmediate(turn)
  }
  setImmediate(turn)
})

/** The same connection over the loopback interface, for comparison. */
const overTcp = Effect.callback<{ readonly client: Duplex; readonly server: Duplex }>((resume) => {
  const listener = net.createServer((server) => {
    listener.close()
    resume(Effect.succeed({ client, server }))
  })
  let client: net.Socket
  listener.listen(0, "127.0.0.1", () => {
    const address = listener.address()
    assert.ok(address !== null && typeof address === "object")
    client = net.connect(address.port, "127.0.0.1")
  })
})
const inMemory = Effect.sync(() => DuplexPair.make())

describe("an in-memory pair of sockets", () => {
  it.live("delivers what is written in order, in both directions", () =>
    Effect.gen(function*() {
      const { client, server } = DuplexPair.make()
      const atServer = collect(server)
      const atClient = collect(client)
      for (let i = 0; i < 100; i++) {
        client.write(Buffer.from(`${i},`))
        server.write(Buffer.from(`${-i},`))
      }
      const expected = Array.from({ length: 100 }, (_, i) => `${i},`).join("")
      assert.equal((yield* atServer.received(expected.length)).toString(), expected)
      const back = Array.from({ length: 100 }, (_, i) => `${-i},`).join("")
      assert.equal((yield* atClient.received(back.length)).toString(), back)
    }))

  it.live("never delivers from within the write", () =>
    Effect.gen(function*() {
      const { client, server } = DuplexPair.make()
      const atServer = collect(server)
      yield* turns
      client.write("now")
      assert.equal(atServer.bytes().length, 0)
      assert.equal((yield* atServer.received(3)).toString(), "now")
    }))

  it.live("copies what is written, so that the writer may reuse its buffer at once", () =>
    Effect.gen(function*() {
      const { client, server } = DuplexPair.make()
      const buffer = Buffer.from("before")
      yield* write(client, buffer)
      buffer.fill("x")
      const atServer = collect(server)
      assert.equal((yield* atServer.received(6)).toString(), "before")
    }))

  it.live("gives the reader memory of its own", () =>
    Effect.gen(function*() {
      const { client, server } = DuplexPair.make()
      client.write("a")
      client.write("b")
      const chunk = yield* event(server, "data")
      assert.ok(Buffer.isBuffer(chunk))
      assert.equal(chunk.buffer.byteLength, chunk.length)
    }))

  it.live("holds a writer whose reader has stopped, and lets it go on when the reader does", () =>
    Effect.gen(function*() {
      const { client, server } = DuplexPair.make()
      server.pause()
      let accepted = 0
      const total = 64
      for (let i = 0; i < total; i++) client.write(Buffer.alloc(16 * 1024, i), () => accepted++)
      yield* turns
      const held = accepted
      assert.ok(held < total, `${held} of ${total} writes were accepted`)
      assert.ok(client.writableNeedDrain)
      yield* turns
      assert.equal(accepted, held)
      const atServer = collect(server)
      server.resume()
      const bytes = yield* atServer.received(total * 16 * 1024)
      assert.deepEqual(
        Array.from({ length: total }, (_, i) => bytes[i * 16 * 1024]),
        Array.from({ length: total }, (_, i) => i)
      )
      yield* turns
      assert.equal(accepted, total)
    }))

  it.live("delivers a large write in chunks of at most 64 KiB, as a socket does", () =>
    Effect.gen(function*() {
      const { client, server } = DuplexPair.make()
      const sizes: Array<number> = []
      server.on("data", (chunk: Buffer) => sizes.push(chunk.length))
      yield* write(client, Buffer.alloc(1024 * 1024))
      assert.ok(Math.max(...sizes) <= 64 * 1024)
      assert.equal(sizes.reduce((a, b) => a + b, 0), 1024 * 1024)
    }))

  it.live("can be read with read() as well", () =>
    Effect.gen(function*() {
      const { client, server } = DuplexPair.make()
      const text: Array<string> = []
      server.on("readable", () => {
        for (let chunk = server.read(); chunk !== null; chunk = server.read()) text.push(String(chunk))
      })
      client.write("one ")
      client.end("two")
      yield* event(server, "end")
      assert.equal(text.join(""), "one two")
    }))

  for (const [name, connect] of [["over TCP", overTcp], ["in memory", inMemory]] as const) {
    it.live(`${name}: an end is seen after all bytes, answered with one's own, and closes both`, () =>
      Effect.gen(function*() {
        const { client, server } = yield* connect
        const clientLife = lifeOf(client)
        const serverLife = lifeOf(server)
        const atServer = collect(server)
        client.resume()
        client.write("a")
        client.end("b")
        yield* bothClose({ client, server })
        assert.equal(atServer.bytes().toString(), "ab")
        assert.deepEqual(clientLife, ["finish", "end", "close"])
        assert.deepEqual(serverLife, ["end", "finish", "close"])
      }))

    it.live(`${name}: the end is seen also without a reader, if there is nothing to read`, () =>
      Effect.gen(function*() {
        const { client, server } = yield* connect
        server.pause()
        client.end()
        yield* event(server, "end")
      }))

    it.live(`${name}: a socket that is destroyed ends its peer, after what it had written`, () =>
      Effect.gen(function*() {
        const { client, server } = yield* connect
        const clientLife = lifeOf(client)
        const serverLife = lifeOf(server)
        const atServer = collect(server)
        yield* write(client, Buffer.from("last words"))
        client.destroy()
        yield* event(server, "close")
        assert.equal(atServer.bytes().toString(), "last words")
        assert.deepEqual(clientLife, ["close"])
        assert.deepEqual(serverLife, ["end", "finish", "close"])
      }))

    it.live(`${name}: what is written to a peer that has closed is answered with a reset`, () =>
      Effect.gen(function*() {
        const { client, server } = yield* connect
        const serverLife = lifeOf(server)
        // Paused and with something to read, so that it has not seen the end when it writes.
        server.pause()
        client.write("unread")
        yield* Effect.callback<void>((resume) => {
          const check = () => server.readableLength > 0 ? resume(Effect.void) : void setImmediate(check)
          server.read(0)
          check()
        })
        client.destroy()
        yield* event(client, "close")
        // The first reaches a closed peer, which resets; TCP reports it with the next.
        const writing = setInterval(() => server.write("anybody?"), 1)
        yield* event(server, "close").pipe(Effect.ensuring(Effect.sync(() => clearInterval(writing))))
        assert.match(serverLife[0] ?? "", /^error (ECONNRESET|EPIPE)$/)
        assert.equal(serverLife.at(-1), "close")
      }))

    it.live(`${name}: a write that is waiting is called back when its socket is destroyed`, () =>
      Effect.gen(function*() {
        const { client, server } = yield* connect
        server.pause()
        const outcomes: Array<string> = []
        const size = 16 * 1024 * 1024
        client.write(Buffer.alloc(size), (error) => outcomes.push(error ? "failed" : "done"))
        client.write(Buffer.alloc(size), (error) => outcomes.push(error ? "failed" : "done"))
        yield* turns
        assert.deepEqual(outcomes, [])
        client.destroy()
        yield* event(client, "close")
        assert.equal(outcomes.length, 2)
        assert.equal(outcomes[1], "failed")
        server.destroy()
      }))
  }

  it.live("a socket that is destroyed with an error resets its peer", () =>
    Effect.gen(function*() {
      const { client, server } = DuplexPair.make()
      const clientLife = lifeOf(client)
      const serverLife = lifeOf(server)
      server.resume()
      client.destroy(new Error("mine"))
      yield* event(server, "close")
      assert.deepEqual(clientLife, ["error mine", "close"])
      assert.deepEqual(serverLife, ["error ECONNRESET", "close"])
    }))

  it.live("a reset reaches a peer that is not reading", () =>
    Effect.gen(function*() {
      const { client, server } = DuplexPair.make()
      const serverLife = lifeOf(server)
      server.pause()
      client.write(Buffer.alloc(256 * 1024))
      yield* turns
      client.destroy(new Error("mine"))
      yield* event(server, "close")
      assert.deepEqual(serverLife, ["error ECONNRESET", "close"])
    }))

  it.live("errors without a listener are dropped", () =>
    Effect.gen(function*() {
      const pair = DuplexPair.make()
      const uncaught: Array<unknown> = []
      const listener = (error: unknown) => uncaught.push(error)
      process.on("uncaughtException", listener)
      pair.cut()
      yield* turns
      process.off("uncaughtException", listener)
      assert.deepEqual(uncaught, [])
      assert.ok(pair.client.closed && pair.server.closed)
    }))

  it.live("cut, both ends see a reset and a waiting write fails", () =>
    Effect.gen(function*() {
      const pair = DuplexPair.make()
      const clientLife = lifeOf(pair.client)
      const serverLife = lifeOf(pair.server)
      pair.server.pause()
      const written = yield* Effect.forkChild(Effect.flip(write(pair.client, Buffer.alloc(1024 * 1024))), {
        startImmediately: true
      })
      yield* turns
      pair.cut()
      yield* bothClose(pair)
      assert.deepEqual(clientLife, ["error ECONNRESET", "close"])
      assert.deepEqual(serverLife, ["error ECONNRESET", "close"])
      assert.equal((yield* Fiber.join(written)).message, "read ECONNRESET")
    }))

  it.live("says when both ends are closed, once", () =>
    Effect.gen(function*() {
      let closed = 0
      const { client, server } = DuplexPair.make(() => closed++)
      server.pause()
      client.end("unread")
      yield* turns
      assert.equal(closed, 0)
      server.resume()
      yield* bothClose({ client, server })
      assert.equal(closed, 1)
    }))

  for (let at = 0; at <= 5; at++) {
    it.live(`cut after ${at} bytes, the reader has got exactly ${at}, and both ends see a reset`, () =>
      Effect.gen(function*() {
        const pair = DuplexPair.make()
        const clientLife = lifeOf(pair.client)
        const serverLife = lifeOf(pair.server)
        const atServer = collect(pair.server)
        pair.client.resume()
        pair.impair({ toServer: { ...unimpaired, cutAfter: at }, toClient: unimpaired })
        pair.client.write("ab")
        pair.client.write("cde")
        pair.client.write("fgh")
        yield* bothClose(pair)
        assert.equal(atServer.bytes().toString(), "abcdefgh".slice(0, at))
        assert.deepEqual(clientLife, ["error ECONNRESET", "close"])
        assert.deepEqual(serverLife, ["error ECONNRESET", "close"])
      }))
  }
})
