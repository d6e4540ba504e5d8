/**
 * Conversations with streams, against servers and against clients: messages of all types in any order, most of them
 * right, some of them not.
 *
 * `node test/fuzz/streams.ts [--cases 200000] [--seconds N] [--seed N] [--direction server|client]`
 *
 * Each case has a connection in memory with a peer that is written by hand. Whatever that sends, its messages are
 * whole. So a call behind them is answered, or the connection is over. When it is closed, nothing runs any more. While
 * the peer keeps the rules, the other side keeps them, too, and ends no connection. The first violation ends the
 * program with the command that repeats it.
 */
import { Effect, Fiber, Logger, Stream } from "effect"
import { Connection, Resolver, Server } from "effect-call"
import type { Duplex } from "node:stream"
import { parseArgs } from "node:util"
import { make as duplexPair } from "../../src/internal/testing/duplexPair.ts"
import { echo, endless, feed, hang, makeStreams, mirror, silent, sink, u32s } from "../faults/streams.ts"
import { message } from "../support/raw.ts"
import { StreamPeer } from "../support/streamPeer.ts"
import * as Wire from "../support/streamWire.ts"

/** Random numbers that a seed repeats. */
class Random {
  private state: number

  constructor(seed: number) {
    this.state = seed >>> 0
  }

  next(): number {
    this.state = (this.state + 0x6d2b79f5) >>> 0
    let t = this.state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296
  }

  below(end: number): number {
    return Math.floor(this.next() * end)
  }

  chance(of: number): boolean {
    return this.next() < of
  }

  pick<A>(some: ReadonlyArray<A>): A {
    return some[this.below(some.length)]!
  }

  bytes(size: number): Buffer {
    return Buffer.alloc(size, this.below(256))
  }
}

/** Most are small, and some go in several messages. */
const sizes = [0, 1, 4, 16, 100, 1000, 5000, 20_000, 70_000]

/** Any whole message: right by accident only. */
const anything = (random: Random): Buffer =>
  message(
    random.below(6),
    random.pick([0, 1, 2, 3, 4, 5, 6, 6, 6, 7, 7, 8, 9, 9, 10]),
    random.chance(0.5)
      ? random.bytes(random.below(70))
      : Buffer.concat([Wire.u32(random.pick([0, 1, 5, 0x8000_0004, 0x7fff_ffff, 100])), random.bytes(random.below(60))])
  )

const within = <A, E>(what: string, effect: Effect.Effect<A, E>): Effect.Effect<A, E | Error> =>
  Effect.timeoutOrElse(effect, {
    duration: "20 seconds",
    orElse: () => Effect.fail(new Error(`${what}: not within 20 seconds`))
  })

/** The messages of the case so far, for the report. */
type Trace = Array<string>

const options = { maxMessageSize: 150_000, streamWindow: 30_000, maxStreamsPerConnection: 8 } as const

/** What a client may do, with the streams that it has opened. */
class Client {
  private nextId = 2
  /** The streams that it can still send on, with the credit that it has. */
  private readonly open = new Map<number, { credit: number; ended: boolean }>()
  private readonly peer: StreamPeer
  private readonly random: Random
  private readonly trace: Trace

  constructor(peer: StreamPeer, random: Random, trace: Trace) {
    this.peer = peer
    this.random = random
    this.trace = trace
  }

  act(): void {
    const { peer, random, trace } = this
    const some = [...this.open.keys()]
    const id = some.length === 0 ? undefined : random.pick(some)
    const stream = id === undefined ? undefined : this.open.get(id)
    const action = random.below(10)
    if (id === undefined || stream === undefined || action < 3) {
      const key = random.pick([mirror, mirror, sink, silent, feed, endless])
      const credit = random.pick([0, 1, 100, 16_384, 200_000])
      const args = key === feed ? u32s(random.below(20), random.pick(sizes)) : u32s(random.pick(sizes))
      trace.push(`open ${this.nextId} ${key.method} ${credit}`)
      peer.open(this.nextId, key, credit, args)
      this.open.set(this.nextId++, { credit: 16_384, ended: false })
    } else if (action < 6 && !stream.ended && stream.credit > 0) {
      const items: Array<Buffer> = []
      while (stream.credit > 0 && random.chance(0.7)) {
        const item = random.bytes(random.pick(sizes))
        stream.credit -= 4 + item.length
        items.push(item)
      }
      if (items.length === 0) return
      trace.push(`items ${id} ${items.map(({ length }) => length).join(",")}`)
      peer.items(id, ...items)
    } else if (action === 6 && !stream.ended) {
      trace.push(`end ${id}`)
      stream.ended = true
      peer.end(id)
    } else if (action === 7) {
      trace.push(`cancel ${id}`)
      this.open.delete(id)
      peer.cancel(id)
    } else if (action === 8) {
      const bytes = 1 + random.below(50_000)
      trace.push(`credit ${id} ${bytes}`)
      peer.credit(id, bytes)
    } else {
      trace.push(`request ${this.nextId}`)
      peer.request(this.nextId++, random.pick([echo, hang]), random.bytes(random.pick(sizes)))
    }
  }
}

const quiet = Effect.provide(Logger.layer([]))
const run = <A, E>(effect: Effect.Effect<A, E>) => quiet(effect)

/** One conversation with a server. */
const againstServer = (random: Random, trace: Trace): Effect.Effect<void, Error> =>
  Effect.gen(function*() {
    const { client: ours, server: theirs } = duplexPair()
    const { handlers, seen } = makeStreams()
    const serving = yield* Effect.forkChild(Server.serveOn(theirs, handlers, options), { startImmediately: true })
    const peer = new StreamPeer(ours, "client", { keeps: true })
    const isHostile = random.chance(0.5)
    yield* within("the version", peer.next({ type: Wire.type.version }))
    const client = new Client(peer, random, trace)
    for (let left = 1 + random.below(20); left > 0 && !peer.isClosed; left--) {
      if (isHostile && random.chance(0.2)) {
        const bytes = anything(random)
        trace.push(`any ${bytes.subarray(0, 40).toString("hex")}`)
        peer.write(bytes)
      } else {
        client.act()
      }
      if (random.chance(0.3)) yield* turn
    }
    const probe = random.bytes(10)
    peer.request(1_000_000, echo, probe)
    const answer = yield* within(
      "the answer to a call",
      // It dies where the connection is closed.
      Effect.raceFirst(
        Effect.catchCause(peer.next({ id: 1_000_000 }), () => Effect.succeed(undefined)),
        Effect.as(peer.closed, undefined)
      )
    )
    if (answer === undefined && !isHostile) return yield* Effect.fail(new Error("the server has ended the connection"))
    if (answer !== undefined && !answer.payload.equals(probe)) {
      return yield* Effect.fail(new Error(`a call was answered with ${answer.payload.toString("hex")}`))
    }
    const { problems } = peer.rules
    if (!isHostile && problems.length > 0) return yield* Effect.fail(new Error(problems.slice(0, 3).join("; ")))
    ours.destroy()
    theirs.destroy()
    yield* within("the end of the connection", Fiber.await(serving))
    if (seen.running !== 0 || seen.hanging !== 0) {
      return yield* Effect.fail(new Error(`${seen.running} streams and ${seen.hanging} calls run on`))
    }
  })

const turn = Effect.callback<void>((resume) => void setImmediate(() => resume(Effect.void)))

/** What a server may do with a stream of the client's. */
const serve = (peer: StreamPeer, id: number, credit: { left: number }, random: Random, trace: Trace): boolean => {
  const action = random.below(8)
  if (action < 4 && credit.left > 0) {
    const item = random.bytes(random.pick(sizes))
    credit.left -= 4 + item.length
    trace.push(`items ${id} ${item.length}`)
    peer.items(id, item)
  } else if (action < 6) {
    const bytes = 1 + random.below(50_000)
    trace.push(`credit ${id} ${bytes}`)
    peer.credit(id, bytes)
  } else if (action === 6) {
    trace.push(`response ${id}`)
    peer.respond(id)
    return false
  } else {
    trace.push(`error ${id}`)
    peer.fail(id, "no", "(test:no)")
    return false
  }
  return true
}

/** One conversation with a client. */
const againstClient = (random: Random, trace: Trace): Effect.Effect<void, Error> =>
  Effect.scoped(Effect.gen(function*() {
    const { client: theirs, server: ours } = duplexPair()
    const peer = new StreamPeer(ours, "server", { keeps: true })
    const isHostile = random.chance(0.5)
    const dials: Array<Duplex> = [theirs]
    const endpoint = {
      address: "fuzz://server",
      // Only once: afterwards it cannot be dialed.
      dial: Effect.suspend(() => {
        const duplex = dials.pop()
        return duplex === undefined ? Effect.never : Effect.succeed(duplex)
      })
    }
    const connection = yield* Effect.orDie(Connection.make(Resolver.constant(endpoint), {
      ...{ maxMessageSize: options.maxMessageSize, streamWindow: options.streamWindow },
      outlierEjection: false
    }))
    const stream = (index: number) => {
      const items = random.chance(0.5)
        ? {
          items: Stream.fromIterable(Array.from({ length: random.below(20) }, () => random.bytes(random.pick(sizes))))
        }
        : {}
      const results = connection.stream(mirror, u32s(index), { ...items, timeout: "30 seconds" })
      const taken = random.chance(0.3) ? Stream.take(results, 1 + random.below(4)) : results
      return random.chance(0.3)
        ? Stream.runForEach(taken, () => turn)
        : Stream.runDrain(taken)
    }
    const fibers = yield* Effect.forEach(
      Array.from({ length: 1 + random.below(4) }, (_, index) => index),
      (index) => Effect.forkChild(Effect.exit(stream(index)), { startImmediately: true })
    )
    const call = yield* Effect.forkChild(Effect.exit(connection.call(echo, random.bytes(10))), {
      startImmediately: true
    })
    yield* within("an open", peer.next({ type: Wire.type.open }))
    const credits = new Map<number, { left: number }>()
    for (let left = 1 + random.below(30); left > 0 && !peer.isClosed; left--) {
      for (const { id, payload, type } of peer.messages) {
        if (type === Wire.type.open && !credits.has(id)) credits.set(id, { left: payload.readUInt32LE(49) })
        if (type === Wire.type.cancel) credits.delete(id)
      }
      if (isHostile && random.chance(0.2)) {
        const bytes = anything(random)
        trace.push(`any ${bytes.subarray(0, 40).toString("hex")}`)
        peer.write(bytes)
      } else if (credits.size > 0) {
        const [id, credit] = random.pick([...credits])
        if (!serve(peer, id, credit, random, trace)) credits.set(id, { left: 0 })
      }
      if (random.chance(0.5)) yield* turn
    }
    for (const fiber of fibers) if (random.chance(0.3)) yield* Fiber.interrupt(fiber)
    const { problems } = peer.rules
    if (!isHostile && problems.length > 0) return yield* Effect.fail(new Error(problems.slice(0, 3).join("; ")))
    if (!isHostile && peer.isClosed) return yield* Effect.fail(new Error("the client has ended the connection"))
    ours.destroy()
    theirs.destroy()
    yield* within(
      "the end of the connection's streams",
      Effect.andThen(Fiber.interruptAll(fibers), Fiber.interrupt(call))
    )
    const { endpoints: [state] } = yield* connection.state
    if ((state?.streams ?? 0) + (state?.callsInFlight ?? 0) !== 0) {
      return yield* Effect.fail(new Error(`${state?.streams} streams and ${state?.callsInFlight} calls are open`))
    }
  }))

const directions = { server: againstServer, client: againstClient } as const
export type Direction = keyof typeof directions

/** How many cases run at the same time. */
const batch = 16

/** Runs cases; the seed of each is `seed` and its number. Returns what is wrong with the first that is violated. */
export const runCases = async (
  direction: Direction,
  seed: number,
  cases: number,
  seconds = Infinity
): Promise<{ readonly ran: number; readonly violation: string | undefined }> => {
  const until = performance.now() + seconds * 1000
  const violations: Array<string> = []
  let ran = 0
  const unhandled = (error: unknown) =>
    void violations.push(`unhandled: ${error instanceof Error ? error.stack : String(error)}`)
  process.on("unhandledRejection", unhandled)
  process.on("uncaughtException", unhandled)
  while (ran < cases && violations.length === 0 && performance.now() < until) {
    const first = seed + ran
    const some = Array.from({ length: Math.min(batch, cases - ran) }, (_, index) => first + index)
    await Promise.all(some.map(async (seed) => {
      const trace: Trace = []
      const exit = await Effect.runPromiseExit(run(directions[direction](new Random(seed), trace)))
      if (exit._tag === "Failure") violations.push(`seed ${seed}: ${exit.cause.toString()}\n${trace.join("\n")}`)
    }))
    ran += some.length
  }
  process.off("unhandledRejection", unhandled)
  process.off("uncaughtException", unhandled)
  return { ran, violation: violations[0] }
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      cases: { type: "string", default: "200000" },
      seconds: { type: "string", default: "Infinity" },
      seed: { type: "string", default: String(Date.now() % 1_000_000_000) },
      direction: { type: "string" }
    }
  })
  for (const direction of ["server", "client"] as const) {
    if (values.direction !== undefined && values.direction !== direction) continue
    const cases = Number(values.cases) / (values.direction === undefined ? 2 : 1)
    const start = performance.now()
    const { ran, violation } = await runCases(direction, Number(values.seed), cases, Number(values.seconds))
    const seconds = (performance.now() - start) / 1000
    console.log(
      `${direction}: ${ran} cases in ${seconds.toFixed(0)} s, seed ${values.seed}: ${violation ?? "nothing wrong"}`
    )
    if (violation === undefined) continue
    console.log(`node test/fuzz/streams.ts --direction ${direction} --cases 1 --seed N`)
    process.exitCode = 1
  }
  process.exit()
}
