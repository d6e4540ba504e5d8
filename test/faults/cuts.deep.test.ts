/**
 * Connections that break: after every number of bytes, in both directions, in memory and through a proxy on real
 * sockets.
 *
 * What a caller is told is held against what the handlers saw: nothing ran twice, nothing that was called unexecuted
 * ran at all.
 */
import { describe, it } from "@effect/vitest"
import { Effect, Fiber, Logger, type Scope } from "effect"
import { Connection, Endpoint, HandlerMap, MethodKey, Resolver, Server } from "effect-call"
import { TestNetwork } from "effect-call/testing"
import * as assert from "node:assert/strict"
import * as net from "node:net"
import { join } from "node:path"
import * as Networks from "../support/networks.ts"
import { type CutPlan, cuttingProxy, portOf, RawPeer, untilEffect, version } from "./wire.ts"

const key = MethodKey.make("test/Tag", "echo")

/** A dial that is cut short is made once more at once. */
const dialsAtOnce = 2

/** A backoff that is soon over, so that the next call need not wait for long. */
const backoff = { initial: 1, max: 1, jitter: 0 }

/** Echoes, and counts how often it ran for each tag: the first four bytes of the arguments. */
const counting = () => {
  const runs = new Map<number, number>()
  const handlers = HandlerMap.empty.pipe(
    HandlerMap.set("test/Tag", "echo", (args) =>
      Effect.sync(() => {
        const tag = new DataView(args.buffer, args.byteOffset).getUint32(0)
        runs.set(tag, (runs.get(tag) ?? 0) + 1)
        return args
      }))
  )
  return { handlers, runsOf: (tag: number) => runs.get(tag) ?? 0 }
}

const tagged = (tag: number, size: number): Uint8Array => {
  const args = new Uint8Array(size).fill(tag)
  new DataView(args.buffer).setUint32(0, tag)
  return args
}

type Outcome = "answer" | "Lost, maybe executed" | "Lost, not executed" | "Unreachable"

let lastTag = 0

/** Calls, and holds what the caller is told against what the handler saw. */
const outcomeOf = (
  connection: Connection.Connection,
  runsOf: (tag: number) => number,
  size: number,
  options?: Connection.CallOptions
): Effect.Effect<Outcome> =>
  Effect.suspend(() => {
    const tag = ++lastTag
    // What is sent by reference is the connection's: the answer is compared with a copy.
    const args = tagged(tag, size)
    return Effect.match(connection.call(key, args.slice(), options), {
      onSuccess: (answer): Outcome => {
        assert.ok(Buffer.from(answer).equals(args), "the answer is this call's")
        assert.equal(runsOf(tag), 1)
        return "answer"
      },
      onFailure: (error): Outcome => {
        if (error._tag === "Unreachable") {
          assert.equal(runsOf(tag), 0, error.message)
          return "Unreachable"
        }
        assert.ok(error._tag === "CommunicationError", error.message)
        assert.equal(error.reason._tag, "Lost", error.message)
        assert.ok(runsOf(tag) <= (error.maybeExecuted ? 1 : 0), error.message)
        return error.maybeExecuted ? "Lost, maybe executed" : "Lost, not executed"
      }
    })
  })

/**
 * The next call is answered. One that is made before the break has been noticed may still be lost with it, but not a
 * second one.
 */
const worksAgain = Effect.fnUntraced(function*(
  connection: Connection.Connection,
  runsOf: (tag: number) => number
) {
  const outcome = yield* outcomeOf(connection, runsOf, 8, { waitForReady: true })
  if (outcome === "answer") return
  assert.equal(outcome, "Lost, maybe executed")
  assert.equal(yield* outcomeOf(connection, runsOf, 8, { waitForReady: true }), "answer")
})

/** How connections to a server are broken. */
interface Breakage {
  readonly name: string
  /** The number of bytes from one cut to the next, and the largest arguments: real sockets take their time. */
  readonly step: number
  readonly largest: number
  /** Whether what was sent before the break still arrives. */
  readonly orderly: boolean
  /** Serves, and gives the endpoint, how to have its connections cut, and how to stop that. */
  readonly serve: (handlers: HandlerMap.HandlerMap<never>) => Effect.Effect<
    {
      readonly endpoint: Endpoint.Endpoint
      readonly cut: (direction: CutPlan["direction"], after: number) => Effect.Effect<void>
      readonly heal: Effect.Effect<void>
    },
    never,
    Scope.Scope
  >
}

const inMemory: Breakage = {
  name: "in memory",
  step: 1,
  largest: 250_000,
  orderly: true,
  serve: Effect.fnUntraced(function*(handlers) {
    const network = yield* TestNetwork.make
    const listener = yield* Effect.orDie(network.listener("server", handlers))
    yield* Effect.forkScoped(Server.serve(listener, { shutdownGrace: 0 }), { startImmediately: true })
    return {
      endpoint: network.endpoint("server"),
      cut: (direction, after) => Effect.orDie(network.fault("server", { cutAfter: { [direction]: after } })),
      heal: network.heal("server")
    }
  })
}

const throughProxy = (how: CutPlan["how"], name: string, step: number, largest: number): Breakage => ({
  name,
  step,
  largest,
  // A reset takes along what has arrived and was not read yet.
  orderly: how !== "reset",
  serve: Effect.fnUntraced(function*(handlers) {
    const { listener } = yield* Networks.tcp.serve(handlers)
    const proxy = yield* cuttingProxy(portOf(listener.address))
    return {
      endpoint: Endpoint.tcp(`127.0.0.1:${proxy.port}`),
      cut: (direction, after) =>
        Effect.sync(() => proxy.plan = { direction, after, how, times: after < versionSize ? dialsAtOnce : 1 }),
      heal: Effect.sync(() => proxy.plan = undefined)
    }
  })
})

const breakages: ReadonlyArray<Breakage> = [
  inMemory,
  throughProxy("reset", "over TCP, by a reset", 1, 250_000),
  throughProxy("end", "over TCP, by an end of both directions", 1, 20_000),
  throughProxy("half-close", "over TCP, by an end of one direction", 3, 8)
]

/** Of the version messages that two ends of this package send. */
const versionSize = 24
/** The size of the message that travels in a direction for a call with so many bytes of arguments. */
const messageSize = (direction: CutPlan["direction"], size: number): number =>
  direction === "toServer" ? 16 + 49 + size : 16 + size

/**
 * What two calls in a row must have come to on a connection that is cut after `after` bytes; undefined where it is a
 * race.
 */
const expected = (direction: CutPlan["direction"], after: number, size: number): [Outcome?, Outcome?] => {
  const message = messageSize(direction, size)
  if (after < versionSize) return ["Unreachable"]
  // A cut right behind our version races the peer's.
  if (after === versionSize && direction === "toServer") return []
  if (after < versionSize + message) return ["Lost, maybe executed"]
  // A cut right behind a request races its answer; one right behind an answer races the next call.
  if (after === versionSize + message) return direction === "toServer" ? [] : ["answer"]
  if (after < versionSize + 2 * message) return ["answer", "Lost, maybe executed"]
  return after === versionSize + 2 * message && direction === "toServer" ? ["answer"] : ["answer", "answer"]
}

/** Positions at and around all that begins or ends in two messages, and in the middle of their arguments. */
const telling = (direction: CutPlan["direction"], size: number): ReadonlyArray<number> => {
  const message = messageSize(direction, size)
  const first = versionSize
  const second = first + message
  return [
    ...[first, second].flatMap((
      start
    ) => [start + 1, start + 16, start + 17, start + message - size, start + message / 2]),
    ...[second, second + message].flatMap((end) => [end - 1, end, end + 1])
  ].map(Math.floor)
}

const every = (step: number, direction: CutPlan["direction"], size: number): ReadonlyArray<number> =>
  Array.from(
    { length: Math.ceil((versionSize + 2 * messageSize(direction, size) + 2) / step) },
    (_, index) => index * step
  )

describe("a connection that is cut", () => {
  for (const breakage of breakages) {
    describe(breakage.name, () => {
      const cutAt = Effect.fnUntraced(function*(
        direction: CutPlan["direction"],
        positions: ReadonlyArray<number>,
        size: number,
        options?: Connection.ClientOptions
      ) {
        const { handlers, runsOf } = counting()
        const { cut, endpoint, heal } = yield* breakage.serve(handlers)
        const seen = new Set<Outcome>()
        for (const after of positions) {
          yield* cut(direction, after)
          const connection = yield* Connection.make(Resolver.constant(endpoint), { ...options, backoff })
          const outcomes = [
            yield* outcomeOf(connection, runsOf, size),
            yield* outcomeOf(connection, runsOf, size)
          ]
          const [first, second] = breakage.orderly ? expected(direction, after, size) : []
          if (first !== undefined) assert.equal(outcomes[0], first, `cut after ${after} bytes`)
          if (second !== undefined) assert.equal(outcomes[1], second, `cut after ${after} bytes`)
          for (const outcome of outcomes) seen.add(outcome)
          yield* heal
          yield* worksAgain(connection, runsOf)
          yield* connection.close
        }
        return [...seen].toSorted()
      }, Effect.scoped)

      for (const direction of ["toServer", "toClient"] as const) {
        it.live(`after any number of bytes ${direction}, calls end truthfully and the next one works`, () =>
          Effect.gen(function*() {
            const seen = yield* cutAt(direction, every(breakage.step, direction, 8), 8)
            assert.deepEqual(seen, ["Lost, maybe executed", "Unreachable", "answer"])
          }))

        if (breakage.largest < 20_000) continue

        it.live(`anywhere in arguments sent by reference ${direction}, too`, () =>
          cutAt(direction, telling(direction, 20_000), 20_000))

        if (breakage.largest < 250_000) continue

        it.live(`anywhere in a message larger than a batch ${direction}, too`, () =>
          cutAt(direction, telling(direction, 250_000), 250_000))

        it.live(`anywhere in one that was copied ${direction}, too`, () =>
          cutAt(direction, telling(direction, 250_000), 250_000, { writeFlattenLimit: 1_000_000 }))

        it.live(`while many calls of all sizes are under way ${direction}, each ends truthfully`, () =>
          Effect.gen(function*() {
            const { handlers, runsOf } = counting()
            const { cut, endpoint, heal } = yield* breakage.serve(handlers)
            const sizes = [8, 100, 20_000, 8, 5000, 250_000, 8, 8, 40_000, 100, 100_000, 8]
            const total = sizes.reduce((sum, size) => sum + messageSize(direction, size), versionSize)
            const seen = new Set<Outcome>()
            for (let step = 0; step <= 13; step++) {
              yield* cut(direction, Math.floor(total * step / 12) + (step % 3))
              const connection = yield* Connection.make(Resolver.constant(endpoint), { backoff })
              const outcomes = yield* Effect.forEach(sizes, (size) => outcomeOf(connection, runsOf, size), {
                concurrency: "unbounded"
              })
              for (const outcome of outcomes) seen.add(outcome)
              yield* heal
              yield* worksAgain(connection, runsOf)
              yield* connection.close
            }
            assert.deepEqual([...seen].toSorted(), ["Lost, maybe executed", "Unreachable", "answer"])
          }).pipe(Effect.scoped))
      }
    })
  }
})

describe("a connection that is cut below TLS", () => {
  for (const how of ["reset", "end"] as const) {
    for (const direction of ["toServer", "toClient"] as const) {
      // In the handshake, in the versions, in calls; up to a second, since each position takes two handshakes.
      it.live(`by ${how === "end" ? "an end" : "a reset"} anywhere ${direction}, calls end truthfully and the next one works`, () =>
        Effect.gen(function*() {
          const { handlers, runsOf } = counting()
          const { ca, client } = yield* Networks.certificates
          const { listener } = yield* Networks.mtlsOverTcp.serve(handlers)
          const proxy = yield* cuttingProxy(portOf(listener.address))
          const endpoint = Endpoint.mtls(
            { ca, ...client, servername: "localhost" },
            Endpoint.tcp(`127.0.0.1:${proxy.port}`)
          )
          const seen = new Set<Outcome>()
          const step = 149
          for (let after = 0, over = false; !over; after += step) {
            proxy.plan = { direction, after, how, times: dialsAtOnce }
            const connection = yield* Connection.make(Resolver.constant(endpoint), { backoff })
            const outcomes = [
              yield* outcomeOf(connection, runsOf, 600),
              yield* outcomeOf(connection, runsOf, 600)
            ]
            for (const outcome of outcomes) seen.add(outcome)
            over = outcomes.every((outcome) => outcome === "answer")
            proxy.plan = undefined
            yield* worksAgain(connection, runsOf)
            yield* connection.close
          }
          assert.deepEqual([...seen].toSorted(), ["Lost, maybe executed", "Unreachable", "answer"])
        }).pipe(Effect.scoped, Effect.provide(Logger.layer([]))))
    }
  }
})

describe("a connection that breaks while it takes no more", () => {
  const size = 64 * 1024
  const count = 40

  /** A server on a Unix socket that takes one connection, says its version, and then reads nothing. */
  const stuckServer = Effect.gen(function*() {
    const path = join(yield* Networks.temporaryDirectory, "stuck")
    const peers: Array<RawPeer> = []
    yield* Effect.acquireRelease(
      Effect.callback<net.Server>((resume) => {
        const server = net.createServer((socket) => {
          server.close()
          socket.write(version)
          const peer = new RawPeer(socket)
          socket.pause()
          peers.push(peer)
        })
        server.listen(path, () => resume(Effect.succeed(server)))
      }),
      (server) =>
        Effect.sync(() => {
          for (const { socket } of peers) socket.destroy()
          server.close()
        })
    )
    return { endpoint: Endpoint.unix(path), peers }
  })

  const inFlight = (connection: Connection.Connection, address: string) =>
    Effect.map(
      connection.state,
      ({ endpoints }) => endpoints.find((endpoint) => endpoint.address === address)?.callsInFlight ?? 0
    )

  it.live("sends the requests that never left to another server, and no handler sees one twice", () =>
    Effect.gen(function*() {
      const { handlers, runsOf } = counting()
      const stuck = yield* stuckServer
      const { endpoint } = yield* Networks.unix.serve(handlers)
      const connection = yield* Networks.connect([stuck.endpoint, endpoint])
      const calls = yield* Effect.forkChild(
        Effect.forEach(Array.from({ length: 2 * count }), () => outcomeOf(connection, runsOf, size), {
          concurrency: "unbounded"
        }),
        { startImmediately: true }
      )
      // Every second call went to the stuck one. Once the others have been answered, it has taken what it takes.
      yield* untilEffect(
        "one server to be stuck, the other to be done",
        Effect.map(
          connection.state,
          ({ endpoints }) => endpoints[0]!.callsInFlight > 0 && endpoints[1]!.callsInFlight === 0
        )
      )
      const [peer] = stuck.peers
      const underWay = yield* inFlight(connection, stuck.endpoint.address)
      assert.ok(underWay > 0)
      peer!.socket.destroy()
      const outcomes = yield* Fiber.join(calls)
      const lost = outcomes.filter((outcome) => outcome === "Lost, maybe executed").length
      assert.ok(lost > 0 && lost < count, `${lost} of ${count} had been handed to the socket`)
      assert.equal(outcomes.filter((outcome) => outcome === "answer").length, 2 * count - lost)
    }).pipe(Effect.scoped))

  it.live("sends nothing twice where there is no other server: what never left is Unreachable, or sent when the server is back", () =>
    Effect.gen(function*() {
      const { handlers, runsOf } = counting()
      const network = yield* TestNetwork.make
      const listener = yield* Effect.orDie(network.listener("server", handlers))
      yield* Effect.forkScoped(Server.serve(listener, { shutdownGrace: 0 }), { startImmediately: true })
      const connection = yield* Networks.connect([network.endpoint("server")], { backoff })
      for (const waitForReady of [false, true]) {
        assert.equal(yield* outcomeOf(connection, runsOf, 8, { waitForReady: true }), "answer")
        yield* network.fault("server", { blackHole: "toServer" })
        const calls = yield* Effect.forkChild(
          Effect.forEach(Array.from({ length: count }), () => outcomeOf(connection, runsOf, size, { waitForReady }), {
            concurrency: "unbounded"
          }),
          { startImmediately: true }
        )
        yield* Effect.yieldNow
        assert.equal(yield* inFlight(connection, "memory://server"), 16, "a MiB of arguments; the others wait for room")
        yield* network.fault("server", { cutAfter: { toServer: 0 }, ...(waitForReady ? {} : { dial: "refuse" }) })
        yield* untilEffect(
          "the loss",
          Effect.map(connection.state, ({ endpoints }) => endpoints[0]!.state !== "Active")
        )
        yield* network.heal("server")
        const outcomes = yield* Fiber.join(calls)
        const lost = outcomes.filter((outcome) => outcome === "Lost, maybe executed").length
        const otherwise = outcomes.filter((outcome) => outcome === (waitForReady ? "answer" : "Unreachable")).length
        assert.ok(lost > 0 && lost < count)
        assert.equal(otherwise, count - lost)
      }
    }).pipe(Effect.scoped))
})
