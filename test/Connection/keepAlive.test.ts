/**
 * `keepAlive`: servers that vanish without a word are found, and those that are alive are left alone.
 */
import { describe, it } from "@effect/vitest"
import { Clock, Effect, Fiber, SubscriptionRef } from "effect"
import { type CallError, type Connection, Endpoint, MethodKey } from "effect-call"
import { TestNetwork } from "effect-call/testing"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import type { Socket } from "node:net"
import { Duplex } from "node:stream"
import { Worker } from "node:worker_threads"
import * as DuplexPair from "../../src/internal/testing/duplexPair.ts"
import { dialOnread, isOnreadDialable, type OnreadDialable } from "../../src/internal/transport/onread.ts"
import { byHand } from "../support/byHand.ts"
import { makeLog } from "../support/log.ts"
import {
  bytesOf,
  component,
  connect,
  eachNetwork,
  handlers,
  mtlsOverTcp,
  tcp,
  textOf,
  unix
} from "../support/networks.ts"
import {
  clientVersion,
  message,
  messagesOf,
  type Raw,
  rawAccepted,
  rawOf,
  receives,
  request,
  version,
  versionWith
} from "../support/raw.ts"
import { ask, connectToListed, settle, startInMemory, turn, until } from "./support.ts"

const nothing = new Uint8Array()
const mebibyte = 1_048_576
const understood = versionWith(0)
const put = MethodKey.make(component, "put")

const onNetwork = Effect.provide(TestNetwork.layer)
const fork = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.forkChild(effect, { startImmediately: true })

const keepAlive = { interval: "10 seconds", timeout: "5 seconds" } as const

const isLost = (error: CallError.CallError, message: string) => {
  assert.ok(error._tag === "CommunicationError", error.message)
  assert.deepEqual([error.reason._tag, error.maybeExecuted, error.message], ["Lost", true, message])
}

const silence = (how: string) =>
  `the connection was lost: memory://a: nothing was heard of it for ${how}, and it has not answered when it was asked`

/** A client with a call in flight to a server by hand, which has said its version at this moment. */
const calling = Effect.fnUntraced(function*(options: Connection.ClientOptions = { keepAlive }, greeting = understood) {
  const a = yield* byHand("a")
  const connection = yield* connect([a.endpoint], options)
  const call = yield* fork(connection.call(put, bytesOf("one")))
  const raw = yield* a.accepted(greeting)
  const sent = [clientVersion, request(1, put, bytesOf("one"))]
  yield* receives(raw, ...sent)
  return { a, raw, connection, call, sent }
})

/** The same, and the endpoints can be changed. */
const callingListed = Effect.fnUntraced(function*() {
  const a = yield* byHand("a")
  const { connection, endpoints } = yield* connectToListed([a], { keepAlive })
  const call = yield* fork(connection.call(put, bytesOf("one")))
  const raw = yield* a.accepted()
  yield* raw.until((bytes) => messagesOf(bytes).length === 2)
  return { a, call, connection, endpoints, raw }
})

/** A clock's own methods, which a copy of it does not have. */
const bound = (clock: Clock.Clock): Omit<Clock.Clock, "sleep"> => ({
  currentTimeMillisUnsafe: () => clock.currentTimeMillisUnsafe(),
  currentTimeMillis: clock.currentTimeMillis,
  currentTimeNanosUnsafe: () => clock.currentTimeNanosUnsafe(),
  currentTimeNanos: clock.currentTimeNanos,
  monotonicTimeNanosUnsafe: () => clock.monotonicTimeNanosUnsafe(),
  monotonicTimeNanos: clock.monotonicTimeNanos
})

const kindsOf = (bytes: Buffer) => messagesOf(bytes).map(({ id, type }) => [id, type])

const stateOf = (connection: Connection.Connection) =>
  Effect.map(connection.state, ({ endpoints }) => endpoints[0]!.state)

describe("a server that says nothing", () => {
  it.effect("is asked when it has said nothing for the interval, with a plain version message", () =>
    Effect.gen(function*() {
      const { raw, sent } = yield* calling()
      yield* TestClock.adjust(9999)
      yield* settle
      yield* receives(raw, ...sent)
      yield* TestClock.adjust(1)
      yield* receives(raw, ...sent, version)
    }).pipe(onNetwork))

  it.effect("is asked also where the interval is of many hours", () =>
    Effect.gen(function*() {
      const { raw, sent } = yield* calling({ keepAlive: { interval: "12 hours", timeout: "1 hour" } })
      yield* TestClock.adjust("12 hours")
      yield* receives(raw, ...sent, version)
    }).pipe(onNetwork))

  it.effect("is asked no earlier because of what else is due", () =>
    Effect.gen(function*() {
      const { connection, raw } = yield* calling()
      const late = yield* fork(Effect.flip(connection.call(put, nothing, { timeout: "9999 millis" })))
      yield* raw.until((bytes) => messagesOf(bytes).length === 3)
      yield* TestClock.adjust(9999)
      assert.equal((yield* Fiber.join(late))._tag, "DeadlineExceeded")
      yield* settle
      assert.deepEqual(kindsOf(raw.received()), [[0, 0], [1, 1], [2, 1]])
      yield* TestClock.adjust(1)
      yield* raw.until((bytes) => messagesOf(bytes).length === 4)
    }).pipe(onNetwork))

  it.effect("is given up when it has said nothing for the timeout after that, and is dialed again by the next call", () =>
    Effect.gen(function*() {
      const log = makeLog()
      yield* Effect.gen(function*() {
        const { a, call, connection, raw } = yield* calling()
        yield* TestClock.adjust(10_000)
        yield* TestClock.adjust(4999)
        yield* settle
        assert.deepEqual([call.pollUnsafe(), raw.socket.closed], [undefined, false])
        yield* TestClock.adjust(1)
        isLost(yield* Effect.flip(Fiber.join(call)), silence("15s"))
        yield* raw.closed
        const again = yield* fork(connection.call(put, bytesOf("two")))
        const anew = yield* a.accepted()
        yield* receives(anew, clientVersion, request(1, put, bytesOf("two")))
        anew.write(message(1, 2, bytesOf("second")))
        assert.equal(textOf(yield* Fiber.join(again)), "second")
      }).pipe(Effect.provide(log.layer))
      assert.deepEqual(log.lines.map(({ level, message }) => [level, message]), [["Warn", "a connection was lost"]])
    }).pipe(onNetwork))

  it.effect("is given up also where no call is in flight, so that none has to find out", () =>
    Effect.gen(function*() {
      const { call, connection, raw } = yield* calling()
      raw.write(message(1, 2))
      yield* Fiber.join(call)
      yield* TestClock.adjust("15 seconds")
      yield* raw.closed
      assert.equal(yield* stateOf(connection), "Idle")
    }).pipe(onNetwork))

  it.effect("is asked for ever, as long as it answers", () =>
    Effect.gen(function*() {
      const { call, raw, sent } = yield* calling()
      for (let asked = 1; asked <= 50; asked++) {
        yield* TestClock.adjust(10_000)
        yield* receives(raw, ...sent, ...new Array<Buffer>(asked).fill(version))
        // At the last moment.
        yield* TestClock.adjust(4999)
        raw.write(understood)
        yield* settle
      }
      assert.equal(call.pollUnsafe(), undefined)
    }).pipe(onNetwork))

  it.effect("is alive with any byte that comes, whole message or not", () =>
    Effect.gen(function*() {
      const { call, raw, sent } = yield* calling({ keepAlive, messageTimeout: "1 hour" })
      const answer = message(1, 2, bytesOf("in small pieces"))
      let asked = 0
      for (const byte of answer) {
        yield* TestClock.adjust(10_000)
        yield* receives(raw, ...sent, ...new Array<Buffer>(++asked).fill(version))
        yield* TestClock.adjust(4999)
        raw.write(Buffer.of(byte))
        yield* settle
      }
      assert.equal(textOf(yield* Fiber.join(call)), "in small pieces")
      // From the last byte on it has the whole interval again.
      yield* TestClock.adjust(9999)
      yield* settle
      yield* receives(raw, ...sent, ...new Array<Buffer>(asked).fill(version))
      yield* TestClock.adjust(1)
      yield* receives(raw, ...sent, ...new Array<Buffer>(asked + 1).fill(version))
    }).pipe(onNetwork))

  it.effect("is asked after each silence of the interval, also where it would have much longer for its answer", () =>
    Effect.gen(function*() {
      const { call, raw, sent } = yield* calling({ keepAlive: { interval: "10 seconds", timeout: "1 minute" } })
      yield* TestClock.adjust(10_000)
      yield* receives(raw, ...sent, version)
      yield* TestClock.adjust("10 seconds")
      yield* TestClock.adjust("3 seconds")
      raw.write(understood)
      yield* settle
      yield* TestClock.adjust(9999)
      yield* settle
      yield* receives(raw, ...sent, version)
      yield* TestClock.adjust(1)
      yield* receives(raw, ...sent, version, version)
      yield* TestClock.adjust(59_999)
      yield* settle
      assert.equal(call.pollUnsafe(), undefined)
      yield* TestClock.adjust(1)
      isLost(yield* Effect.flip(Fiber.join(call)), silence("1m 10s"))
      yield* receives(raw, ...sent, version, version)
    }).pipe(onNetwork))

  it.effect("is not asked as long as it answers calls, though it says no more versions", () =>
    Effect.gen(function*() {
      const { call, connection, raw } = yield* calling(undefined, version)
      raw.write(message(1, 2))
      yield* Fiber.join(call)
      for (let id = 2; id <= 20; id++) {
        yield* TestClock.adjust(9999)
        const call = yield* fork(connection.call(put, nothing))
        yield* raw.until((bytes) => messagesOf(bytes).some((message) => message.id === id))
        raw.write(message(id, 2))
        yield* Fiber.join(call)
      }
      assert.equal(messagesOf(raw.received()).filter(({ type }) => type === 0).length, 1)
      // The first silence that is long enough is its last.
      yield* TestClock.adjust("15 seconds")
      yield* raw.closed
    }).pipe(onNetwork))

  it.effect("is alive where it answers as one of the Go package does", () =>
    Effect.gen(function*() {
      const { call, raw, sent } = yield* calling(undefined, version)
      for (let asked = 1; asked <= 20; asked++) {
        yield* TestClock.adjust(10_000)
        yield* receives(raw, ...sent, ...new Array<Buffer>(asked).fill(version))
        raw.write(version)
        yield* settle
      }
      assert.equal(call.pollUnsafe(), undefined)
    }).pipe(onNetwork))

  it.effect("is alive where it is one of ours that has nothing to say", () =>
    Effect.gen(function*() {
      const a = yield* startInMemory("a")
      const connection = yield* connect([a.endpoint], { keepAlive })
      yield* ask(connection)
      for (let i = 0; i < 100; i++) {
        yield* TestClock.adjust("10 seconds")
        yield* settle
      }
      assert.equal(yield* stateOf(connection), "Active")
      yield* ask(connection)
      assert.equal(a.accepted, 1)
    }).pipe(onNetwork))

  it.effect("is asked also while it goes away", () =>
    Effect.gen(function*() {
      const { a, call, connection, raw, sent } = yield* calling()
      yield* TestClock.adjust("5 seconds")
      yield* a.leave(raw)
      yield* receives(raw, ...sent, versionWith(4))
      yield* TestClock.adjust("10 seconds")
      yield* receives(raw, ...sent, versionWith(4), version)
      // It says again that it goes away, as it does in all its answers by then.
      raw.write(versionWith(2))
      yield* settle
      yield* TestClock.adjust("10 seconds")
      yield* receives(raw, ...sent, versionWith(4), version, version)
      assert.equal(yield* stateOf(connection), "Draining")
      yield* TestClock.adjust("4999 millis")
      assert.equal(call.pollUnsafe(), undefined)
      yield* TestClock.adjust(1)
      isLost(yield* Effect.flip(Fiber.join(call)), silence("15s"))
      yield* raw.closed
    }).pipe(onNetwork))

  it.effect("costs no call that was not sent to it: that goes elsewhere", () =>
    Effect.gen(function*() {
      const { a, call, connection, endpoints, raw } = yield* callingListed()
      raw.socket.pause()
      // More than is taken by one that does not read: what comes after it waits here.
      const plug = yield* fork(connection.call(put, new Uint8Array(mebibyte)))
      yield* settle
      const queued = yield* fork(ask(connection))
      yield* settle
      const b = yield* startInMemory("b")
      yield* SubscriptionRef.set(endpoints, [a.endpoint, b.endpoint])
      yield* settle
      yield* TestClock.adjust("14999 millis")
      assert.deepEqual([call, plug, queued].map((call) => call.pollUnsafe()), [undefined, undefined, undefined])
      yield* TestClock.adjust(1)
      isLost(yield* Effect.flip(Fiber.join(call)), silence("15s"))
      isLost(yield* Effect.flip(Fiber.join(plug)), silence("15s"))
      // It may have tried the first again, which accepts, and says nothing.
      yield* TestClock.adjust("5 seconds")
      assert.equal(yield* Fiber.join(queued), "b")
    }).pipe(onNetwork))
})

describe("a server that is slow to take a large message, and says nothing meanwhile", () => {
  /** An upload of 8 MiB to a server that reads only when it is told to. */
  const uploading = Effect.gen(function*() {
    const listener = yield* TestNetwork.listener("a", handlers)
    const connection = yield* connect([yield* TestNetwork.endpoint("a")], { keepAlive })
    const args = new Uint8Array(8 * mebibyte)
    const call = yield* fork(connection.call(put, args))
    const { connection: socket } = yield* listener.accept
    socket.on("error", () => {})
    socket.write(understood)
    let taken = 0
    /** Takes so many bytes, or what there is until nothing more comes. */
    const take = Effect.fnUntraced(function*(bytes: number) {
      const until = taken + bytes
      for (let idle = 0; taken < until && idle < 20;) {
        const chunk: Buffer | null = socket.read()
        if (chunk === null) {
          idle++
          yield* turn
        } else {
          idle = 0
          taken += chunk.length
        }
      }
    })
    yield* settle
    return { call, socket, take, size: clientVersion.length + 65 + args.length, taken: () => taken }
  })

  it.effect("is alive as long as it takes some of it", () =>
    Effect.gen(function*() {
      const { call, size, socket, take, taken } = yield* uploading
      while (taken() < size) {
        yield* TestClock.adjust(4999)
        assert.equal(call.pollUnsafe(), undefined, `given up after ${taken()} bytes`)
        yield* take(mebibyte)
      }
      socket.write(message(1, 2, bytesOf("taken")))
      assert.equal(textOf(yield* Fiber.join(call)), "taken")
    }).pipe(onNetwork))

  it.effect("is dead as soon as it has taken nothing for the interval and the timeout", () =>
    Effect.gen(function*() {
      const { call } = yield* uploading
      yield* TestClock.adjust(14_999)
      yield* settle
      assert.equal(call.pollUnsafe(), undefined)
      yield* TestClock.adjust(1)
      isLost(yield* Effect.flip(Fiber.join(call)), silence("15s"))
    }).pipe(onNetwork))

  it.effect("is dead as soon as it has taken nothing for the timeout after it had taken some", () =>
    Effect.gen(function*() {
      const { call, take } = yield* uploading
      yield* TestClock.adjust(12_000)
      yield* take(3 * mebibyte)
      // It is only looked at when the timeout is over.
      yield* TestClock.adjust(3000)
      yield* settle
      yield* TestClock.adjust(4999)
      yield* settle
      assert.equal(call.pollUnsafe(), undefined)
      yield* TestClock.adjust(1)
      isLost(yield* Effect.flip(Fiber.join(call)), silence("20s"))
    }).pipe(onNetwork))
})

describe("a server that is dead, while its system takes what comes", () => {
  it.effect("is given up all the same, however much it is sent", () =>
    Effect.gen(function*() {
      const socket = new Duplex({
        writableHighWaterMark: 1024,
        read: () => {},
        write: (_chunk, _encoding, done) => void setImmediate(done)
      })
      socket.push(understood)
      const connection = yield* connect([{ address: "memory://a", dial: Effect.succeed(socket) }], { keepAlive })
      const call = yield* fork(Effect.flip(connection.call(put, bytesOf("one"))))
      yield* settle
      for (let second = 0; second < 15; second++) {
        yield* fork(Effect.exit(connection.call(put, new Uint8Array(2048), { timeout: "1 second" })))
        yield* settle
        assert.equal(call.pollUnsafe(), undefined)
        yield* TestClock.adjust("1 second")
      }
      yield* settle
      assert.notEqual(call.pollUnsafe(), undefined)
      isLost(yield* Fiber.join(call), silence("15s"))
    }))
})

describe("a server that asks whether the client is there", () => {
  const there = versionWith(16)

  for (
    const [what, options] of [["", { keepAlive }], [", also by a client that asks nobody", {
      keepAlive: false
    }]] as const
  ) {
    it.effect(`is answered at once, each time${what}`, () =>
      Effect.gen(function*() {
        const { raw, sent } = yield* calling(options)
        for (let asked = 1; asked <= 3; asked++) {
          raw.write(there)
          yield* receives(raw, ...sent, ...new Array<Buffer>(asked).fill(there))
        }
        raw.write(Buffer.concat([there, there]))
        yield* receives(raw, ...sent, ...new Array<Buffer>(5).fill(there))
      }).pipe(onNetwork))
  }

  it.effect("is answered also while it goes away", () =>
    Effect.gen(function*() {
      const { call, raw, sent } = yield* calling()
      raw.write(versionWith(2))
      yield* receives(raw, ...sent, versionWith(4))
      raw.write(versionWith(2 | 16))
      yield* receives(raw, ...sent, versionWith(4), there)
      raw.write(message(1, 2, bytesOf("done")))
      assert.equal(textOf(yield* Fiber.join(call)), "done")
      yield* raw.closed
    }).pipe(onNetwork))

  it.effect("is answered also where it asks in its greeting", () =>
    Effect.gen(function*() {
      const a = yield* byHand("a")
      const connection = yield* connect([a.endpoint], { keepAlive })
      yield* fork(connection.call(put, bytesOf("one")))
      const raw = yield* a.accepted(there)
      yield* raw.until((bytes) => messagesOf(bytes).length === 3)
      assert.deepEqual(
        new Set(messagesOf(raw.received()).map(({ payload, type }) => `${type} ${payload.toString("hex")}`).slice(1)),
        new Set([
          `0 ${there.subarray(16).toString("hex")}`,
          `1 ${request(1, put, bytesOf("one")).subarray(16).toString("hex")}`
        ])
      )
    }).pipe(onNetwork))

  it.effect("is not answered where it does not say that it understands flags: it means something else", () =>
    Effect.gen(function*() {
      const { call, raw, sent } = yield* calling()
      raw.write(Buffer.concat([message(0, 0, Buffer.from([0, 0, 0, 0, 16, 0, 0, 0])), message(1, 2, bytesOf("done"))]))
      assert.equal(textOf(yield* Fiber.join(call)), "done")
      yield* settle
      yield* receives(raw, ...sent)
    }).pipe(onNetwork))

  it.effect("is not answered without end while it takes none of the answers", () =>
    Effect.gen(function*() {
      const { raw, sent } = yield* calling({ keepAlive: false, maxUnsentBytes: 10_000 })
      raw.socket.pause()
      const before = Buffer.concat(sent).length
      const many = Buffer.concat(new Array<Buffer>(1000).fill(there))
      for (let i = 0; i < 20; i++) {
        raw.write(many)
        yield* settle
      }
      raw.socket.resume()
      yield* settle
      // What is on its way in memory, and what may wait.
      const answers = raw.received().length - before
      assert.ok(answers >= 10_000 && answers < 200_000, `${answers} bytes of answers`)
      // It has room again, and is answered.
      raw.write(there)
      yield* raw.until(({ length }) => length === before + answers + there.length)
    }).pipe(onNetwork))
})

describe("keepAlive", () => {
  const askedWithin = Effect.fnUntraced(function*(options: Connection.ClientOptions | undefined) {
    const { raw, sent } = yield* calling(options ?? {})
    yield* TestClock.adjust("1 hour")
    yield* settle
    return raw.received().length - Buffer.concat(sent).length
  })

  it.effect("is off where it is false", () =>
    Effect.gen(function*() {
      assert.equal(yield* askedWithin({ keepAlive: false }), 0)
    }).pipe(onNetwork))

  it.effect("is off in memory where it is not given, so that a test may let hours pass", () =>
    Effect.gen(function*() {
      assert.equal(yield* askedWithin(undefined), 0)
    }).pipe(onNetwork))

  /** An endpoint that is not of our network in memory: this is what one of a user's own looks like. */
  const ownEndpoint = Effect.gen(function*() {
    const pair = DuplexPair.make()
    yield* Effect.addFinalizer(() => Effect.sync(pair.close))
    const raw = rawOf(pair.server)
    raw.write(understood)
    return { raw, endpoint: { address: "test://pair", dial: Effect.succeed(pair.client) } }
  })

  it.effect("is ten seconds and ten seconds where it is not given", () =>
    Effect.gen(function*() {
      const { endpoint, raw } = yield* ownEndpoint
      const connection = yield* connect([endpoint])
      const call = yield* fork(Effect.exit(connection.call(put, nothing)))
      const sent = [clientVersion, request(1, put, nothing)]
      yield* receives(raw, ...sent)
      yield* TestClock.adjust(9999)
      yield* settle
      yield* receives(raw, ...sent)
      yield* TestClock.adjust(1)
      yield* receives(raw, ...sent, version)
      yield* TestClock.adjust(9999)
      yield* settle
      assert.equal(call.pollUnsafe(), undefined)
      yield* TestClock.adjust(1)
      yield* Fiber.join(call)
    }))

  it.effect("asks at once, however long the turn of the event loop takes", () =>
    Effect.gen(function*() {
      const clock = yield* Clock.Clock
      const { endpoint, raw } = yield* ownEndpoint
      const socket = yield* endpoint.dial
      let bytes = 0
      const write = socket.write.bind(socket)
      socket.write = (chunk: Uint8Array) => {
        bytes += chunk.length
        return write(chunk)
      }
      const atTheEnd: Array<number> = []
      const noting: Clock.Clock = {
        ...bound(clock),
        // Whatever is put off to the end of the turn from then on comes after this.
        sleep: (duration) =>
          Effect.andThen(
            clock.sleep(duration),
            Effect.sync(() => void setImmediate(() => void atTheEnd.push(bytes)))
          )
      }
      const connection = yield* Effect.provideService(connect([endpoint], { keepAlive }), Clock.Clock, noting)
      yield* fork(Effect.exit(connection.call(put, nothing)))
      yield* raw.until((received) => messagesOf(received).length === 2)
      const before = bytes
      yield* TestClock.adjust("10 seconds")
      yield* raw.until((received) => messagesOf(received).length === 3)
      assert.deepEqual(atTheEnd, [before + version.length])
    }))

  it.effect("has no timer once its connection is over, whoever ended it", () =>
    Effect.gen(function*() {
      const clock = yield* Clock.Clock
      let sleepers = 0
      const counting: Clock.Clock = {
        ...bound(clock),
        sleep: (duration) =>
          Effect.suspend(() => {
            sleepers++
            return clock.sleep(duration)
          }).pipe(Effect.onExit(() => Effect.sync(() => sleepers--)))
      }
      const opened = Effect.gen(function*() {
        const { endpoint, raw } = yield* ownEndpoint
        const connection = yield* connect([endpoint], { keepAlive })
        const call = yield* fork(connection.call(put, nothing))
        yield* raw.until((bytes) => messagesOf(bytes).length === 2)
        raw.write(message(1, 2))
        yield* Fiber.join(call)
        yield* settle
        assert.equal(sleepers, 1)
        return { connection, raw }
      }).pipe(Effect.provideService(Clock.Clock, counting))
      const ends = {
        "the client closes it": ({ connection }) => connection.close,
        "the server closes it": ({ raw }) => Effect.sync(() => void raw.socket.end()),
        "it breaks": ({ raw }) => Effect.sync(() => void raw.socket.destroy(new Error("broken"))),
        "the server goes away": ({ raw }) => Effect.sync(() => raw.write(versionWith(2))),
        "the server breaks the protocol": ({ raw }) => Effect.sync(() => raw.write(message(1, 9))),
        "it is given up": () => TestClock.adjust("15 seconds")
      } satisfies Record<string, (opened: { connection: Connection.Connection; raw: Raw }) => Effect.Effect<void>>
      for (const [how, end] of Object.entries(ends)) {
        const connected = yield* opened
        yield* end(connected)
        yield* connected.raw.closed
        yield* settle
        assert.equal(sleepers, 0, how)
      }
    }).pipe(Effect.scoped))
})

/**
 * A server in a thread of its own, which goes on while this one stands still. It answers whatever it gets with its version, but only while
 * `state[0]` is 1, and counts that in `state[1]`.
 */
const answeringThread = Effect.gen(function*() {
  const state = new Int32Array(new SharedArrayBuffer(8))
  const code = `
    const net = require("node:net")
    const { parentPort, workerData: { state, version } } = require("node:worker_threads")
    const server = net.createServer({ noDelay: true }, (socket) => {
      socket.on("error", () => {})
      socket.on("data", () => {
        Atomics.wait(state, 0, 0)
        socket.write(version, () => Atomics.add(state, 1, 1))
      })
    })
    server.listen(0, "127.0.0.1", () => parentPort.postMessage(server.address().port))`
  const answer = (does: boolean) => {
    Atomics.store(state, 0, does ? 1 : 0)
    Atomics.notify(state, 0)
  }
  const worker = yield* Effect.acquireRelease(
    Effect.sync(() => new Worker(code, { eval: true, workerData: { state, version } })),
    (worker) =>
      Effect.promise(() => {
        answer(true)
        return worker.terminate()
      })
  )
  const port = yield* Effect.callback<number>((resume) => {
    worker.once("message", (port: number) => resume(Effect.succeed(port)))
  })
  return { port, answer, answered: () => Atomics.load(state, 1) }
})

/** The socket, and what is to be done before it hands over a message that only asks. */
const beforeProbes = (socket: Socket, f: () => void): Socket => {
  const write = socket.write.bind(socket)
  socket.write = (bytes: unknown, ...rest: ReadonlyArray<unknown>) => {
    if (bytes instanceof Uint8Array && version.equals(bytes)) f()
    const wrote: boolean = Reflect.apply(write, undefined, [bytes, ...rest])
    return wrote
  }
  return socket
}

describe("over real sockets", () => {
  const brief = { interval: 20, timeout: 50 } as const

  eachNetwork((network) => {
    it.live("a server that falls silent is given up", () =>
      Effect.gen(function*() {
        const { endpoint, listener } = yield* network.listen(handlers)
        const connection = yield* connect([endpoint], { keepAlive: brief })
        const call = yield* fork(Effect.flip(connection.call(put, nothing)))
        const raw = yield* rawAccepted(listener)
        raw.write(understood)
        const error = yield* Fiber.join(call)
        assert.match(error.message, /: nothing was heard of it for \d/)
        yield* raw.closed
        assert.deepEqual(kindsOf(raw.received()), [[0, 0], [1, 1], [0, 0]])
      }).pipe(Effect.scoped))

    it.live("a server that is there is asked again and again, and kept", () =>
      Effect.gen(function*() {
        const { endpoint, listener } = yield* network.listen(handlers)
        // A busy machine may be slow to answer.
        const connection = yield* connect([endpoint], { keepAlive: { interval: 5, timeout: "10 seconds" } })
        const call = yield* fork(Effect.exit(connection.call(put, nothing)))
        const raw = yield* rawAccepted(listener)
        for (let asked = 1; asked <= 10; asked++) {
          yield* raw.until((bytes) => messagesOf(bytes).filter(({ type }) => type === 0).length === asked)
          raw.write(understood)
        }
        assert.deepEqual([yield* stateOf(connection), call.pollUnsafe()], ["Active", undefined])
      }).pipe(Effect.scoped))
  }, [tcp, unix, mtlsOverTcp])

  // Twenty times 100 ms.
  it.live("no server is given up because this process has stood still, with the answer in the kernel", () =>
    Effect.gen(function*() {
      const { answer, answered, port } = yield* answeringThread
      answer(true)
      let stalls = 0
      const stall = () => {
        const before = answered()
        const begun = performance.now()
        answer(true)
        // Nothing is read meanwhile, and the server's time is over by then.
        while (performance.now() < begun + 100 || answered() === before);
        stalls++
      }
      const stallSoon = () => {
        answer(false)
        // When its time is measured already, and in the phase of the event loop after which timers come before what can be read.
        setTimeout(() => setImmediate(stall), 1)
      }
      const inner = Endpoint.tcp(`127.0.0.1:${port}`)
      assert.ok(isOnreadDialable(inner))
      const endpoint: Endpoint.Endpoint & OnreadDialable<Endpoint.DialError> = {
        address: inner.address,
        dial: inner.dial,
        [dialOnread]: (onread) => Effect.map(inner[dialOnread](onread), (socket) => beforeProbes(socket, stallSoon))
      }
      const connection = yield* connect([endpoint], { keepAlive: brief })
      const call = yield* fork(Effect.flip(connection.call(put, nothing)))
      yield* until(() => stalls === 20 || call.pollUnsafe() !== undefined)
      yield* settle
      assert.deepEqual([stalls, call.pollUnsafe()], [20, undefined])
    }).pipe(Effect.scoped))
})
