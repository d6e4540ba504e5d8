/**
 * `keepAlive` of a server: clients that vanish are found, clients that are alive keep their connections, and clients
 * that know no flags see nothing of it.
 */
import { describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { Endpoint, Listener, Server } from "effect-call"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { readFileSync } from "node:fs"
import * as net from "node:net"
import { serverSettings } from "../../src/internal/server/options.ts"
import { settle, until } from "../Connection/support.ts"
import { makeLog } from "../support/log.ts"
import { bytesOf as trafficOf, callsOf, metered } from "../support/metrics.ts"
import {
  bytesOf,
  connect,
  eachNetwork,
  echo,
  handlers,
  memory,
  mtlsOverMemory,
  mtlsOverTcp,
  mtlsOverUnix,
  type Network,
  tcp,
  unix
} from "../support/networks.ts"
import { message, type Raw, rawClient, rawOf, receives, request, version, versionWith } from "../support/raw.ts"
import { hold, stoppable } from "../support/stoppable.ts"

const nothing = new Uint8Array()
const understood = versionWith(0)
/** A probe, or the answer to one. */
const there = versionWith(16)
const keepAlive = { interval: "10 seconds", timeout: "5 seconds" } as const

const fork = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.forkChild(effect, { startImmediately: true })
const isOpen = ({ socket }: Raw) => !socket.readableEnded && !socket.closed
const answer = (id: number, text: string) => message(id, 2, bytesOf(text))
const times = (count: number, bytes: Buffer) => new Array<Buffer>(count).fill(bytes)

/** A server that looks after its clients, and one of these, which has said hello. */
const greeted = Effect.fnUntraced(function*(
  options?: Server.ServerOptions & { readonly greeting?: Buffer; readonly network?: Network }
) {
  const { greeting = understood, network = memory, ...rest } = options ?? {}
  const server = yield* stoppable({ keepAlive, ...rest }, network.listen)
  const raw = yield* rawClient(server.endpoint)
  raw.write(greeting)
  yield* raw.until(({ length }) => length >= version.length)
  return { ...server, raw, hello: raw.received() }
})

describe("a client that says nothing", () => {
  it.effect("is probed when it has said nothing for the interval", () =>
    Effect.gen(function*() {
      const { raw } = yield* greeted()
      yield* TestClock.adjust(9999)
      yield* settle
      yield* receives(raw, understood)
      yield* TestClock.adjust(1)
      yield* receives(raw, understood, there)
    }).pipe(Effect.scoped))

  it.effect("is given up when it has said nothing for the timeout after that, and its handlers are interrupted", () =>
    Effect.gen(function*() {
      const { calls, raw } = yield* greeted()
      raw.write(Buffer.concat([request(1, hold, nothing), request(2, hold, nothing)]))
      yield* until(() => calls.running === 2)
      yield* TestClock.adjust(10_000)
      yield* TestClock.adjust(4999)
      yield* settle
      assert.deepEqual([calls.running, isOpen(raw)], [2, true])
      yield* TestClock.adjust(1)
      yield* raw.closed
      yield* until(() => calls.running === 0)
      assert.equal(calls.interrupted, 2)
      yield* receives(raw, understood, there)
    }).pipe(Effect.scoped))

  it.effect("is given up also where no call is in flight", () =>
    Effect.gen(function*() {
      const { raw } = yield* greeted()
      yield* TestClock.adjust("15 seconds")
      yield* raw.closed
    }).pipe(Effect.scoped))

  it.effect("is probed and given up also while the server goes away and waits for its calls", () =>
    Effect.gen(function*() {
      const { calls, raw, stop } = yield* greeted()
      raw.write(request(1, hold, nothing))
      yield* until(() => calls.running === 1)
      const stopped = yield* stop
      yield* receives(raw, understood, versionWith(2))
      yield* TestClock.adjust("10 seconds")
      yield* receives(raw, understood, versionWith(2), versionWith(2 | 16))
      yield* TestClock.adjust("5 seconds")
      yield* Fiber.join(stopped)
      assert.equal(calls.interrupted, 1)
    }).pipe(Effect.scoped))

  it.effect("is neither probed nor given up once the server has ended its side", () => {
    const log = makeLog()
    return Effect.gen(function*() {
      const { endpoint, stop } = yield* stoppable({ keepAlive }, tcp.listen)
      const { hostname, port } = new URL(endpoint.address)
      const socket = net.connect({ host: hostname, port: Number(port), allowHalfOpen: true })
      yield* Effect.addFinalizer(() => Effect.sync(() => void socket.destroy()))
      const raw = rawOf(socket)
      raw.write(understood)
      yield* receives(raw, understood)
      const stopped = yield* stop
      raw.write(versionWith(4))
      yield* until(() => socket.readableEnded)
      yield* TestClock.adjust("59 seconds")
      yield* settle
      assert.deepEqual([stopped.pollUnsafe(), log.lines.map(({ message }) => message)], [undefined, []])
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(stopped)
    }).pipe(Effect.scoped, Effect.provide(log.layer))
  })

  it.effect("is logged once, as a warning, and only some of many at once", () => {
    const log = makeLog()
    return Effect.gen(function*() {
      const { endpoint, raw } = yield* greeted()
      const others = yield* Effect.replicateEffect(rawClient(endpoint), 149)
      for (const other of others) other.write(understood)
      for (const other of others) yield* receives(other, understood)
      yield* TestClock.adjust("15 seconds")
      for (const each of [raw, ...others]) yield* each.closed
      const warnings = log.lines.filter(({ level }) => level === "Warn")
      assert.equal(warnings.length, 100)
      assert.deepEqual(
        new Set(warnings.map(({ message }) => message)),
        new Set([
          "a connection was closed: its peer sent nothing for 15s, and has not answered when it was asked whether it is there"
        ])
      )
      assert.equal(warnings[0]?.annotations["peer"], "a local peer")
    }).pipe(Effect.scoped, Effect.provide(log.layer))
  })

  it.effect(
    "is counted as any client that is lost: its calls as canceled, and its connection no longer",
    metered((metrics) =>
      Effect.gen(function*() {
        const { calls, raw } = yield* greeted()
        raw.write(request(1, hold, nothing))
        yield* until(() => calls.running === 1)
        assert.deepEqual(metrics.values("rpc.server.connection.count"), [1])
        yield* TestClock.adjust("15 seconds")
        yield* raw.closed
        yield* until(() => calls.running === 0)
        yield* settle
        assert.deepEqual(metrics.values("rpc.server.connection.count"), [0])
        assert.deepEqual(metrics.values("rpc.server.active_requests"), [0])
        assert.deepEqual(callsOf(metrics, "server"), ["1 hold at memory://server: canceled"])
      }).pipe(Effect.scoped)
    )
  )

  it.effect("no longer takes a place among the calls that the server runs at once", () =>
    Effect.gen(function*() {
      const { calls, endpoint, raw } = yield* greeted({ maxConcurrentCalls: 1 })
      raw.write(request(1, hold, nothing))
      yield* until(() => calls.running === 1)
      const connection = yield* connect([endpoint])
      const waiting = yield* fork(connection.call(echo, nothing))
      yield* settle
      assert.equal(waiting.pollUnsafe(), undefined)
      yield* TestClock.adjust("15 seconds")
      yield* Fiber.join(waiting)
    }).pipe(Effect.scoped))

  it.effect("no longer takes a place among the connections of its address", () =>
    Effect.gen(function*() {
      const listener = yield* Listener.tcp("127.0.0.1:0", handlers, { maxConnectionsPerPeer: 1 })
      yield* Effect.forkScoped(Server.serve(listener, { keepAlive, shutdownGrace: 0 }))
      const dialed = rawClient(yield* Endpoint.parse(listener.address))
      const first = yield* dialed
      first.write(understood)
      yield* receives(first, understood)
      yield* (yield* dialed).closed
      yield* TestClock.adjust("15 seconds")
      yield* first.closed
      const next = yield* dialed
      next.write(understood)
      yield* receives(next, understood)
    }).pipe(Effect.scoped))
})

describe("a client that is there", () => {
  it.effect("is probed again and again as long as it answers, and gets no answer to its answers", () =>
    Effect.gen(function*() {
      const { raw } = yield* greeted()
      for (let asked = 1; asked <= 50; asked++) {
        yield* TestClock.adjust("10 seconds")
        yield* receives(raw, understood, ...times(asked, there))
        // At the last moment.
        yield* TestClock.adjust(4999)
        raw.write(there)
        yield* settle
      }
      yield* receives(raw, understood, ...times(50, there))
      raw.write(request(1, echo, bytesOf("one")))
      yield* receives(raw, understood, ...times(50, there), answer(1, "one"))
    }).pipe(Effect.scoped))

  it.effect("may answer with any message", () =>
    Effect.gen(function*() {
      const { raw } = yield* greeted()
      const sent = [understood]
      for (let id = 1; id <= 10; id++) {
        yield* TestClock.adjust("10 seconds")
        sent.push(there)
        yield* receives(raw, ...sent)
        raw.write(id % 2 === 0 ? understood : request(id, echo, bytesOf("one")))
        sent.push(id % 2 === 0 ? understood : answer(id, "one"))
        yield* receives(raw, ...sent)
      }
    }).pipe(Effect.scoped))

  it.effect("is not probed as long as it says something by itself", () =>
    Effect.gen(function*() {
      const { raw } = yield* greeted()
      for (let said = 1; said <= 20; said++) {
        yield* TestClock.adjust(9999)
        raw.write(understood)
        yield* receives(raw, ...times(said + 1, understood))
      }
    }).pipe(Effect.scoped))

  it.effect("may answer late: that is not taken for a probe of its own, though it has said something else meanwhile", () =>
    Effect.gen(function*() {
      const { raw } = yield* greeted()
      yield* TestClock.adjust("10 seconds")
      yield* receives(raw, understood, there)
      raw.write(request(1, echo, bytesOf("one")))
      yield* receives(raw, understood, there, answer(1, "one"))
      yield* TestClock.adjust("9 seconds")
      raw.write(Buffer.concat([there, request(2, echo, bytesOf("two"))]))
      yield* receives(raw, understood, there, answer(1, "one"), answer(2, "two"))
    }).pipe(Effect.scoped))

  it.effect("is answered with any flags, where it was not probed", () =>
    Effect.gen(function*() {
      // All flags but that it understands streams.
      const garbage = message(0, 0, Buffer.alloc(12, 0xff).fill(0xf7, 4, 5))
      const { raw } = yield* greeted({ greeting: garbage })
      yield* receives(raw, understood)
      raw.write(garbage)
      yield* receives(raw, understood, understood)
      yield* TestClock.adjust("10 seconds")
      yield* receives(raw, understood, understood, there)
      // The first is taken for its answer.
      raw.write(garbage)
      raw.write(garbage)
      yield* receives(raw, understood, understood, there, understood)
    }).pipe(Effect.scoped))

  it.effect("is not given up because we do not read its answer, since it is slow to take what else we have for it", () =>
    Effect.gen(function*() {
      const { calls, gate, raw } = yield* greeted({ maxUnsentBytes: 100_000 })
      const large = new Uint8Array(300_000)
      raw.write(request(1, hold, large))
      yield* until(() => calls.running === 1)
      yield* TestClock.adjust("10 seconds")
      yield* receives(raw, understood, there)
      raw.socket.pause()
      yield* gate.open
      yield* settle
      raw.write(there)
      yield* settle
      yield* TestClock.adjust("20 seconds")
      yield* settle
      raw.socket.resume()
      yield* receives(raw, understood, there, message(1, 2, large))
      yield* TestClock.adjust("9999 millis")
      yield* settle
      assert.ok(isOpen(raw))
    }).pipe(Effect.scoped))

  it.effect("is alive while it sends a large message slowly", () =>
    Effect.gen(function*() {
      const { raw } = yield* greeted({ messageTimeout: "1 hour" })
      const sent = [understood]
      for (const byte of request(1, echo, bytesOf("one"))) {
        yield* TestClock.adjust("10 seconds")
        sent.push(there)
        yield* receives(raw, ...sent)
        yield* TestClock.adjust(4999)
        raw.write(Buffer.of(byte))
        yield* settle
      }
      yield* receives(raw, ...sent, answer(1, "one"))
    }).pipe(Effect.scoped))
})

describe("a client that knows no flags", () => {
  eachNetwork((network) => {
    it.effect("is never probed and never given up", () =>
      Effect.gen(function*() {
        const { calls, gate, raw } = yield* greeted({ greeting: version, network })
        raw.write(request(1, hold, bytesOf("one")))
        yield* until(() => calls.running === 1)
        for (let minute = 0; minute < 60; minute++) {
          yield* TestClock.adjust("1 minute")
          yield* settle
        }
        yield* gate.open
        yield* receives(raw, version, answer(1, "one"))
        raw.write(version)
        yield* receives(raw, version, answer(1, "one"), version)
      }).pipe(Effect.scoped))
  })

  /**
   * What the system's timer at the server's end of a connection is for, in its own numbers (0 is none, 1 is that it
   * waits for an acknowledgement, 2 is keepalive), and the seconds until then.
   */
  const timerOf = (address: string, { socket }: Raw) => {
    assert.ok("localPort" in socket)
    const [server, client] = [address.split(":").at(-1), socket.localPort].map((port) =>
      `:${Number(port).toString(16).toUpperCase().padStart(4, "0")}`
    )
    const found = readFileSync("/proc/net/tcp", "utf8").split("\n").map((line) => line.trim().split(/\s+/))
      .filter(([, local, remote]) => local?.endsWith(server!) === true && remote?.endsWith(client!) === true)
    assert.equal(found.length, 1)
    const [timer, hundredths] = found[0]![5]!.split(":")
    return { timer: Number(timer), seconds: Number.parseInt(hundredths!, 16) / 100 }
  }

  /** The same, once what was sent is acknowledged. */
  const idleTimerOf = (address: string, raw: Raw) =>
    Effect.andThen(until(() => timerOf(address, raw).timer !== 1), Effect.sync(() => timerOf(address, raw)))

  describe.skipIf(process.platform !== "linux")("over TCP", () => {
    eachNetwork((network) => {
      it.live("is asked by the system, after the interval in whole seconds", () =>
        Effect.gen(function*() {
          for (const [interval, least, most] of [["1 hour", 3500, 3600], ["10 seconds", 8, 10], [1, 0, 1]] as const) {
            const { endpoint, raw } = yield* greeted({ keepAlive: { interval }, greeting: version, network })
            const { seconds, timer } = yield* idleTimerOf(endpoint.address, raw)
            assert.equal(timer, 2)
            assert.ok(seconds >= least && seconds <= most, `after ${seconds} s`)
          }
        }).pipe(Effect.scoped))

      it.live("is not probed where it is false, or the interval never ends", () =>
        Effect.gen(function*() {
          for (const keepAlive of [false, { interval: Infinity }] as const) {
            const { endpoint, raw } = yield* greeted({ keepAlive, greeting: version, network })
            assert.equal((yield* idleTimerOf(endpoint.address, raw)).timer, 0)
          }
        }).pipe(Effect.scoped))
    }, [tcp, mtlsOverTcp])
  })
})

describe("keepAlive", () => {
  const askedWithin = Effect.fnUntraced(function*(network: Network, options: Server.ServerOptions) {
    const { endpoint } = yield* network.serve(handlers, options)
    const raw = yield* rawClient(endpoint)
    raw.write(understood)
    yield* receives(raw, understood)
    yield* TestClock.adjust("1 hour")
    yield* settle
    yield* receives(raw, understood)
    assert.ok(isOpen(raw))
  })

  it.effect("is off where it is false", () => askedWithin(tcp, { keepAlive: false }).pipe(Effect.scoped))

  it.effect("is off in memory where it is not given, so that a test may let hours pass", () =>
    askedWithin(memory, {}).pipe(Effect.scoped))

  it.effect("is off in memory also below TLS", () => askedWithin(mtlsOverMemory, {}).pipe(Effect.scoped))

  eachNetwork((network) => {
    it.effect("is ten seconds and ten seconds where it is not given", () =>
      Effect.gen(function*() {
        const { endpoint } = yield* network.serve(handlers)
        const raw = yield* rawClient(endpoint)
        raw.write(understood)
        yield* receives(raw, understood)
        yield* TestClock.adjust(9999)
        yield* settle
        yield* receives(raw, understood)
        yield* TestClock.adjust(1)
        yield* receives(raw, understood, there)
        yield* TestClock.adjust(9999)
        yield* settle
        assert.ok(isOpen(raw))
        yield* TestClock.adjust(1)
        yield* raw.closed
      }).pipe(Effect.scoped))
  }, [tcp, unix, mtlsOverTcp, mtlsOverUnix])

  it("names the option that is invalid", () => {
    assert.throws(
      () => serverSettings({ keepAlive: { interval: 0 } }),
      /^RangeError: option keepAlive\.interval: expected a duration of more than zero, got 0$/
    )
    assert.throws(() => serverSettings({ keepAlive: { timeout: NaN } }), /option keepAlive\.timeout: .* got NaN/)
  })

  it.effect("sends no probes where the interval never ends", () =>
    askedWithin(memory, { keepAlive: { interval: Infinity } }).pipe(Effect.scoped))

  it.effect("also finds a client that has vanished where metrics are turned off", () =>
    Effect.gen(function*() {
      const { raw } = yield* greeted({ metrics: false })
      yield* TestClock.adjust("4 seconds")
      raw.write(understood)
      yield* receives(raw, understood, understood)
      yield* TestClock.adjust(9999)
      yield* settle
      yield* receives(raw, understood, understood)
      yield* TestClock.adjust(1)
      yield* receives(raw, understood, understood, there)
      yield* TestClock.adjust("5 seconds")
      yield* raw.closed
    }).pipe(Effect.scoped))
})

describe("one of our clients", () => {
  eachNetwork((network) => {
    for (
      const [who, client] of [["that sends probes, too,", { keepAlive }], ["that sends no probes", {
        keepAlive: false
      }]] as const
    ) {
      it.effect(
        `${who} keeps its connection, idle or with a call in flight`,
        metered((metrics) => {
          const log = makeLog()
          return Effect.gen(function*() {
            const { calls, endpoint, gate } = yield* stoppable({ keepAlive, shutdownGrace: 0 }, network.listen)
            const connection = yield* connect([endpoint], client)
            yield* connection.call(echo, nothing)
            const minutes = Effect.gen(function*() {
              for (let i = 0; i < 20; i++) {
                const { received } = trafficOf(metrics, "server")
                yield* TestClock.adjust("10 seconds")
                yield* until(() => trafficOf(metrics, "server").received > received)
              }
            })
            yield* minutes
            const held = yield* fork(connection.call(hold, bytesOf("held")))
            yield* until(() => calls.running === 1)
            yield* minutes
            yield* gate.open
            assert.deepEqual(yield* Fiber.join(held), bytesOf("held"))
            assert.deepEqual(log.lines, [])
          }).pipe(Effect.scoped, Effect.provide(log.layer))
        })
      )
    }
  })
})
