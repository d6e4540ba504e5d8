/**
 * What slow and hostile peers can do to a server and to its other clients.
 *
 * `node test/chaos/hostile.ts [--attacks garbage,versions] [--seconds 5] [--scale 1] [--json]`
 *
 * A well-behaved client makes one call after the other, with a pause of 1 ms in between, before, during and after each
 * attack: how long those take is what the attack does to others. The server, with its defaults, is looked at as well:
 * its memory (RSS, and what is alive in and outside of its heap), before and after the attack once all garbage is
 * collected, and at its worst in between; and how late its event loop was. All three are processes of their own, new
 * ones for each attack: with less than four free cores they also wait for each other. For comparison there is a flood
 * of calls that are all well and good.
 *
 * Floods last for `--seconds`; attacks of a number last until it is reached, which `--scale` multiplies.
 */
import { Effect, Logger } from "effect"
import { Connection, Endpoint, HandlerMap, Listener, MethodKey, Resolver, Server } from "effect-call"
import { once } from "node:events"
import * as net from "node:net"
import { monitorEventLoopDelay } from "node:perf_hooks"
import { setTimeout as sleep } from "node:timers/promises"
import { Latencies } from "../benchmark/meter.ts"
import { Child } from "../benchmark/pair.ts"
import { answerParent, fail, liveMemory, type Memory, number, parse, table } from "../benchmark/support.ts"
import { message, request, type, version } from "../faults/wire.ts"

const echo = MethodKey.make("chaos/Victim", "echo")
const large = MethodKey.make("chaos/Victim", "large")
const hang = MethodKey.make("chaos/Victim", "hang")
const unknown = MethodKey.make("chaos/Victim", "no such method")

const largeSize = 65_536

/** What an attack is given, and notes. */
interface Battle {
  readonly port: number
  /** How long it is to last, where it has no end of its own. */
  readonly seconds: number
  /** What the numbers of attacks are multiplied by. */
  readonly scale: number
  /** How often it has done what it does. */
  count: number
}

const connect = (port: number): net.Socket => {
  const socket = net.connect({ port, host: "127.0.0.1", noDelay: true })
  socket.on("error", () => {})
  return socket
}

/** So many connections at once, or all that the server takes. */
const connectAll = (port: number, count: number): Promise<ReadonlyArray<net.Socket>> =>
  Promise.all(Array.from({ length: count }, async () => {
    const socket = connect(port)
    await Promise.race([once(socket, "connect"), once(socket, "close")])
    return socket
  }))

const destroyAll = (sockets: ReadonlyArray<net.Socket>) => {
  for (const socket of sockets) socket.destroy()
}

/** Writes, and goes on when the socket takes more, or is gone. */
const write = (socket: net.Socket, bytes: Uint8Array): Promise<void> =>
  new Promise((resolve) => {
    if (socket.destroyed || socket.write(bytes)) return resolve()
    const done = () => {
      socket.off("drain", done)
      socket.off("close", done)
      resolve()
    }
    socket.on("drain", done)
    socket.on("close", done)
  })

/** So many of a message, as one piece; their ids are written again each time that it is sent. */
const chunkOf = (each: Buffer, count: number) => {
  const bytes = Buffer.concat(Array.from({ length: count }, () => each))
  return (firstId: number) => {
    for (let i = 0; i < count; i++) bytes.writeUInt32LE(firstId + i, i * each.length)
    return Buffer.from(bytes)
  }
}

const perChunk = 1000

/** Sends a message over and over as fast as the server takes it, and reads what comes back or does not. */
const flood = (each: Buffer, { connections = 1, ids = true, reads = true } = {}) => async (battle: Battle) => {
  const sockets = await connectAll(battle.port, connections)
  setTimeout(() => destroyAll(sockets), battle.seconds * 1000)
  const same = Buffer.concat(Array.from({ length: perChunk }, () => each))
  await Promise.all(sockets.map(async (socket) => {
    if (reads) socket.resume()
    else socket.pause()
    socket.write(version)
    const chunk = chunkOf(each, perChunk)
    for (let id = 1; !socket.destroyed; id += perChunk) {
      await write(socket, ids ? chunk(id) : same)
      battle.count += perChunk
    }
  }))
}

/** Counts the messages that come in. */
const countMessages = (socket: net.Socket) => {
  const seen = { messages: 0 }
  let rest: Buffer = Buffer.alloc(0)
  socket.on("data", (chunk: Buffer) => {
    let bytes = rest.length === 0 ? chunk : Buffer.concat([rest, chunk])
    while (bytes.length >= 16) {
      const end = 16 + bytes.readUIntLE(9, 6)
      if (bytes.length < end) break
      seen.messages++
      bytes = bytes.subarray(end)
    }
    rest = bytes
  })
  return seen
}

/** Holds these connections until the time is up. */
const hold = async (battle: Battle, sockets: ReadonlyArray<net.Socket>) => {
  battle.count = sockets.length
  await sleep(battle.seconds * 1000)
  destroyAll(sockets)
}

const attacks = {
  "calls, for comparison": flood(request(0, echo, Buffer.alloc(16))),
  "calls on 20 connections, for comparison": flood(request(0, echo, Buffer.alloc(16)), { connections: 20 }),
  "reads no answers of 64 KiB, 10 times": flood(request(0, large), { connections: 10, reads: false }),
  "sends a byte a second, 500 times": async (battle: Battle) => {
    const sockets = await connectAll(battle.port, 500)
    const until = performance.now() + battle.seconds * 1000
    const bytes = request(1, echo, Buffer.alloc(100))
    for (const socket of sockets) socket.write(version)
    for (let at = 0; performance.now() < until; at++) {
      for (const socket of sockets) {
        if (!socket.destroyed) socket.write(bytes.subarray(at, at + 1))
      }
      battle.count += sockets.length
      await sleep(1000)
    }
    destroyAll(sockets)
  },
  "sends nothing, 1 000 times": async (battle: Battle) =>
    hold(battle, await connectAll(battle.port, Math.ceil(1000 * battle.scale))),
  "makes 100 000 calls and cancels all": async (battle: Battle) => {
    const calls = Math.ceil(100_000 * battle.scale)
    const [socket] = await connectAll(battle.port, 1)
    if (socket === undefined) return
    const seen = countMessages(socket)
    socket.write(version)
    for (const each of [request(0, hang), message(0, type.cancel)]) {
      const chunk = chunkOf(each, perChunk)
      for (let id = 1; id <= calls; id += perChunk) {
        await write(socket, chunk(id))
        battle.count += perChunk
      }
    }
    while (seen.messages <= calls && !socket.destroyed) await sleep(10)
    socket.destroy()
  },
  "claims lengths up to 2^56 - 1, 10 000 times": async (battle: Battle) => {
    const lengths = [2n ** 56n - 1n, 2n ** 53n, 2n ** 48n, 2n ** 32n, 2n ** 31n, 2n ** 30n + 1n]
    const one = async (n: number) => {
      const socket = connect(battle.port)
      socket.resume()
      socket.write(message(1, type.request, Buffer.alloc(100), lengths[n % lengths.length]))
      await once(socket, "close")
      battle.count++
    }
    for (let n = 0; n < 10_000 * battle.scale; n += 50) {
      await Promise.all(Array.from({ length: 50 }, (_, i) => one(n + i)))
    }
  },
  "promises 100 MiB and sends 1 KiB, 1 000 times": async (battle: Battle) => {
    const sockets = await connectAll(battle.port, Math.ceil(1000 * battle.scale))
    for (const socket of sockets) socket.write(message(1, type.request, Buffer.alloc(1024), 104_857_600n))
    await hold(battle, sockets)
  },
  "sends requests of 1 GiB, without end": async (battle: Battle) => {
    const [socket] = await connectAll(battle.port, 1)
    if (socket === undefined) return
    socket.resume()
    setTimeout(() => socket.destroy(), battle.seconds * 1000)
    const piece = Buffer.alloc(1_048_576)
    for (let id = 1; !socket.destroyed; id++) {
      await write(socket, message(id, type.request, new Uint8Array(), 2n ** 30n))
      for (let sent = 0; sent < 2 ** 30 && !socket.destroyed; sent += piece.length) await write(socket, piece)
      battle.count++
    }
  },
  "calls 100 000 unknown methods": async (battle: Battle) => {
    const calls = Math.ceil(100_000 * battle.scale)
    const [socket] = await connectAll(battle.port, 1)
    if (socket === undefined) return
    const seen = countMessages(socket)
    const chunk = chunkOf(request(0, unknown), perChunk)
    for (let id = 1; id <= calls; id += perChunk) {
      await write(socket, chunk(id))
      battle.count += perChunk
    }
    while (seen.messages < calls && !socket.destroyed) await sleep(10)
    socket.destroy()
  },
  "unknown methods without end": flood(request(0, unknown)),
  "100 000 connections with garbage": async (battle: Battle) => {
    const one = async (n: number) => {
      // Of what a system takes for one address there is an end: it gets addresses of its own.
      const localAddress = `127.0.${1 + n % 200}.1`
      const socket = net.connect({ port: battle.port, host: "127.0.0.1", localAddress })
      socket.on("error", () => {})
      socket.resume()
      socket.write(Buffer.from(`GET /${n} HTTP/1.1\r\nHost: example.com\r\n\r\n`))
      await once(socket, "close")
      battle.count++
    }
    let next = 0
    const total = Math.ceil(100_000 * battle.scale)
    await Promise.all(Array.from({ length: 50 }, async () => {
      while (next < total) await one(next++)
    }))
  },
  "versions without end": flood(version, { ids: false }),
  "versions without end, and reads no answers": flood(version, { ids: false, reads: false }),
  "calls whose deadlines are over, without end": flood(request(0, echo, Buffer.alloc(16), -1n))
} satisfies Record<string, (battle: Battle) => Promise<void>>

type AttackName = keyof typeof attacks
const attackNames = Object.keys(attacks) as ReadonlyArray<AttackName> // the keys of a literal

type Question =
  /** The server: what is alive, with all garbage collected. */
  | { readonly _tag: "Memory" }
  /** The server: what was worst since it was asked the last time. */
  | { readonly _tag: "Worst" }
  /** The client: begins with its calls; answers at once. */
  | { readonly _tag: "Begin" }
  /** The client: ends with them, and answers with the counts of {@link Latencies} and how many have failed. */
  | { readonly _tag: "End" }
  /** The attacker: answers when it is over. */
  | { readonly _tag: "Attack"; readonly name: AttackName; readonly seconds: number; readonly scale: number }

/** In bytes, and ms. */
interface Worst {
  readonly rss: number
  readonly alive: number
  readonly late: number
}

const runServer = async () => {
  const handlers = HandlerMap.empty.pipe(
    HandlerMap.set(echo.component, echo.method, (args) => Effect.succeed(args)),
    HandlerMap.set(large.component, large.method, () => Effect.sync(() => new Uint8Array(largeSize).fill(1))),
    HandlerMap.set(hang.component, hang.method, () => Effect.never)
  )
  const late = monitorEventLoopDelay({ resolution: 1 })
  late.enable()
  let worst = { rss: 0, alive: 0 }
  const look = () => {
    const { external, heapUsed, rss } = process.memoryUsage()
    worst = { rss: Math.max(worst.rss, rss), alive: Math.max(worst.alive, heapUsed + external) }
  }
  setInterval(look, 20)
  let logged = 0
  answerParent<Question>(async (question) => {
    if (question._tag === "Memory") return liveMemory({ shrink: true })
    look()
    const answer = { ...worst, late: late.max / 1e6, logged }
    worst = { rss: 0, alive: 0 }
    logged = 0
    late.reset()
    return answer
  })
  const serving = Effect.gen(function*() {
    const listener = yield* Listener.tcp("127.0.0.1:0", handlers)
    process.send?.(listener.address)
    return yield* Server.serve(listener)
  })
  const counting = Logger.layer([Logger.make(() => void logged++)])
  await Effect.runPromise(Effect.scoped(serving).pipe(Effect.provide(counting)))
}

const runClient = async (address: string) => {
  const args = new Uint8Array(16)
  await Effect.runPromise(Effect.scoped(Effect.gen(function*() {
    const connection = yield* Connection.make(Resolver.constant(yield* Endpoint.parse(address)))
    const call = connection.call(echo, args)
    yield* call
    const state = { going: false }
    let done = Promise.resolve({ counts: new Latencies().counts, failed: 0 })
    const loop = async () => {
      const latencies = new Latencies()
      let failed = 0
      while (state.going) {
        const start = performance.now()
        const exit = await Effect.runPromiseExit(call)
        if (exit._tag === "Success") latencies.add(performance.now() - start)
        else failed++
        await sleep(1)
      }
      return { counts: latencies.counts, failed }
    }
    answerParent<Question>(async (question) => {
      if (question._tag === "Begin") {
        state.going = true
        done = loop()
        return {}
      }
      state.going = false
      return done
    })
    process.send?.("ready")
    return yield* Effect.never
  })))
}

const runAttacker = (port: number) => {
  answerParent<Question>(async (question) => {
    if (question._tag !== "Attack") return {}
    const battle: Battle = { port, seconds: question.seconds, scale: question.scale, count: 0 }
    const start = performance.now()
    await attacks[question.name](battle)
    return { count: battle.count, seconds: (performance.now() - start) / 1000 }
  })
  process.send?.("ready")
}

/** What the well-behaved client has seen, in µs. */
interface Seen {
  readonly p50: number
  readonly p99: number
  readonly calls: number
  readonly failed: number
}

interface Row {
  readonly attack: AttackName
  readonly count: number
  readonly seconds: number
  readonly before: Seen
  readonly during: Seen
  readonly after: Seen
  readonly memoryBefore: Memory
  readonly memoryAfter: Memory
  readonly worst: Worst & { readonly logged: number }
}

/** How long the client is looked at before and after, in seconds. */
const quiet = 2

const measure = async (attack: AttackName, seconds: number, scale: number): Promise<Row> => {
  const program = new URL(import.meta.url)
  const server = new Child(["server"], ["--expose-gc"], program)
  const address = await server.receive<string>()
  const client = new Child(["client", address], [], program)
  const attacker = new Child(["attacker", address.slice(address.lastIndexOf(":") + 1)], [], program)
  await Promise.all([client.receive(), attacker.receive()])
  const ask = <A>(whom: Child, question: Question) => whom.ask<A>(question)
  const watch = async (meanwhile: () => Promise<unknown>): Promise<Seen> => {
    await ask(client, { _tag: "Begin" })
    await meanwhile()
    const { counts, failed } = await ask<{ readonly counts: Uint32Array; readonly failed: number }>(client, {
      _tag: "End"
    })
    const latencies = new Latencies(counts, counts.reduce((total, count) => total + count, 0))
    return { p50: latencies.percentile(0.5), p99: latencies.percentile(0.99), calls: latencies.total, failed }
  }
  // The first calls are slow.
  await watch(() => sleep(1000))
  const before = await watch(() => sleep(quiet * 1000))
  const memoryBefore = await ask<Memory>(server, { _tag: "Memory" })
  await ask(server, { _tag: "Worst" })
  let fought = { count: 0, seconds: 0 }
  const during = await watch(async () => {
    fought = await ask(attacker, { _tag: "Attack", name: attack, seconds, scale })
  })
  const worst = await ask<Row["worst"]>(server, { _tag: "Worst" })
  const after = await watch(() => sleep(quiet * 1000))
  const memoryAfter = await ask<Memory>(server, { _tag: "Memory" })
  for (const child of [server, client, attacker]) child.kill()
  return { attack, ...fought, before, during, after, memoryBefore, memoryAfter, worst }
}

const main = async () => {
  const values = parse({
    attacks: { type: "string", default: "" },
    seconds: { type: "string", default: "5" },
    scale: { type: "string", default: "1" },
    json: { type: "boolean", default: false }
  })
  const seconds = number("seconds", values.seconds)
  const scale = number("scale", values.scale)
  const chosen = attackNames.filter((name) => values.attacks.split(",").some((part) => name.includes(part)))
  if (chosen.length === 0) {
    fail(`--attacks: expected parts of these names, separated by commas: ${attackNames.join("; ")}`)
  }
  const rows: Array<Row> = []
  for (const attack of chosen) rows.push(await measure(attack, seconds, scale))
  if (values.json) return console.log(JSON.stringify({ seconds, scale, rows }))
  console.log(
    "calls of the well-behaved client and lateness in ms, memory in MiB: before / during / after, or the most of all\n"
  )
  const millis = (micros: number) => (micros / 1000).toFixed(2)
  const mebibytes = (bytes: number) => (bytes / 2 ** 20).toFixed(0)
  const alive = ({ external, heapUsed }: Memory) => external + heapUsed
  console.log(table(
    ["attack", "how often", "in s", "p50", "p99", "failed", "late", "RSS", "alive", "log lines"],
    rows.map(({ after, attack, before, count, during, memoryAfter, memoryBefore, seconds, worst }) => [
      attack,
      String(count),
      seconds.toFixed(1),
      [before, during, after].map(({ p50 }) => millis(p50)).join(" / "),
      [before, during, after].map(({ p99 }) => millis(p99)).join(" / "),
      `${during.failed} of ${during.calls + during.failed}`,
      worst.late.toFixed(0),
      [memoryBefore.rss, worst.rss, memoryAfter.rss].map(mebibytes).join(" / "),
      [alive(memoryBefore), worst.alive, alive(memoryAfter)].map(mebibytes).join(" / "),
      String(worst.logged)
    ])
  ))
}

const [role, argument = ""] = process.argv.slice(2)
if (role === "server") await runServer()
else if (role === "client") await runClient(argument)
else if (role === "attacker") runAttacker(Number(argument))
else await main()
