/**
 * Replicas that fall silent under load: how long it takes until their calls fail and others are called, and until they
 * are used again.
 *
 * `node test/chaos/silence.ts [--how frozen,proxy,network] [--keep-alive default,short] [--callers 64] [--seconds 10]
 * [--json]`
 *
 * Of three replicas, each a process, that are called in turn at full load, one falls silent: `frozen`, its process is
 * stopped with SIGSTOP; `proxy`, a proxy before it goes on accepting connections, and neither reads nor writes;
 * `network`, the cable is cut between its network and ours, which are namespaces of their own (with `unshare`,
 * `nsenter` and `ip`; it needs a system that lets its users have namespaces, and no other privileges). So many seconds
 * after the first call has failed it is there again. `default` is `keepAlive` as it is where nothing is given, 10 and
 * 10 seconds; `short` is 1 and 1, with a `dialTimeout` of 1 second.
 *
 * It ends with 1 where a call fails with anything but `Lost`, none does, or the replica is not used again.
 */
import { Effect, Logger, type Scope } from "effect"
import { execFile, spawnSync } from "node:child_process"
import * as net from "node:net"
import { fileURLToPath } from "node:url"
import { Connection, Endpoint, Resolver } from "../../src/index.ts"
import { count, fail, number, parse } from "../benchmark/support.ts"
import { startCallers } from "./restarts/calls.ts"
import { freePorts, startReplica } from "./restarts/process.ts"

const ways = ["frozen", "proxy", "network"] as const
type Way = typeof ways[number]
// any text may be looked for
const isWay = (text: string): text is Way => (ways as ReadonlyArray<string>).includes(text)

const keepAlives = {
  default: {},
  short: { keepAlive: { interval: "1 second", timeout: "1 second" }, dialTimeout: "1 second" }
} as const satisfies Record<string, Connection.ClientOptions>
type KeepAliveName = keyof typeof keepAlives
const isKeepAlive = (text: string): text is KeepAliveName => Object.hasOwn(keepAlives, text)

/** A replica that can be made to fall silent. */
interface Victim {
  readonly address: string
  readonly silence: Effect.Effect<void>
  readonly heal: Effect.Effect<void>
}

const tcp = (port: number, host = "127.0.0.1") => `tcp://${host}:${port}`

const frozen = Effect.gen(function*() {
  const { address, signal } = yield* startReplica("tcp://127.0.0.1:0")
  const victim: Victim = {
    address,
    silence: Effect.sync(() => signal("SIGSTOP")),
    heal: Effect.sync(() => signal("SIGCONT"))
  }
  return victim
})

/**
 * A proxy that carries bytes as long as it is told to. What it does not carry stays where it is, as on a network that
 * will be back.
 */
const proxied = Effect.gen(function*() {
  const replica = yield* Endpoint.parse((yield* startReplica("tcp://127.0.0.1:0")).address)
  const [host, port] = replica.addr.split(":")
  const sockets = new Set<net.Socket>()
  let silent = false
  const server = net.createServer({ noDelay: true, pauseOnConnect: true }, (near) => {
    const far = net.connect({ host: host ?? "", port: Number(port), noDelay: true })
    for (const [from, to] of [[near, far], [far, near]] as const) {
      sockets.add(from)
      from.on("error", () => {}).on("close", () => {
        sockets.delete(from)
        to.destroy()
      })
      from.on("data", (chunk) => {
        if (to.write(chunk)) return
        from.pause()
        to.once("drain", () => silent || from.resume())
      })
      if (silent) from.pause()
      else from.resume()
    }
  })
  const proxyPort = yield* Effect.acquireRelease(
    Effect.callback<number>((resume) => {
      server.listen(0, "127.0.0.1", () => {
        const address = server.address()
        resume(Effect.succeed(typeof address === "object" && address !== null ? address.port : 0))
      })
    }),
    () =>
      Effect.sync(() => {
        for (const socket of sockets) socket.destroy()
        server.close()
      })
  )
  const carry = (does: boolean) =>
    Effect.sync(() => {
      silent = !does
      for (const socket of sockets) {
        if (does) socket.resume()
        else socket.pause()
      }
    })
  const victim: Victim = { address: tcp(proxyPort), silence: carry(false), heal: carry(true) }
  return victim
})

const command = (file: string, ...args: ReadonlyArray<string>) =>
  Effect.callback<void>((resume) => {
    execFile(file, args, (error, _stdout, stderr) =>
      resume(error === null ? Effect.void : Effect.die(new Error(`${file} ${args.join(" ")}: ${stderr}`))))
  })

/** A replica in a network of its own, with a cable to this one. */
const remote = Effect.gen(function*() {
  const [ours, theirs, port] = ["10.77.0.1", "10.77.0.2", 9000]
  // For the other replicas, which stay here.
  yield* command("ip", "link", "set", "lo", "up")
  const { pid } = yield* startReplica(tcp(port, "0.0.0.0"), { within: ["unshare", "-n"] })
  const there = (...args: ReadonlyArray<string>) => command("nsenter", "-t", String(pid), "-n", "ip", ...args)
  yield* command("ip", "link", "add", "cable", "type", "veth", "peer", "name", "end", "netns", String(pid))
  yield* command("ip", "addr", "add", `${ours}/24`, "dev", "cable")
  yield* command("ip", "link", "set", "cable", "up")
  yield* there("addr", "add", `${theirs}/24`, "dev", "end")
  yield* there("link", "set", "end", "up")
  const victim: Victim = {
    address: tcp(port, theirs),
    silence: there("link", "set", "end", "down"),
    heal: there("link", "set", "end", "up")
  }
  return victim
})

const victims: Readonly<Record<Way, Effect.Effect<Victim, Endpoint.InvalidEndpoint, Scope.Scope>>> = {
  frozen,
  proxy: proxied,
  network: remote
}

interface Extent {
  readonly callers: number
  /** For so long calls go on after the first has failed, until the replica is there again. */
  readonly seconds: number
}

const since = (startedAt: number) => performance.now() - startedAt

/** Polls until it holds; false where it does not within so many milliseconds. */
const within = Effect.fnUntraced(function*(millis: number, holds: Effect.Effect<boolean>) {
  const startedAt = performance.now()
  while (since(startedAt) < millis) {
    if (yield* holds) return true
    yield* Effect.sleep(1)
  }
  return false
})

const run = Effect.fnUntraced(function*(way: Way, keepAlive: KeepAliveName, { callers, seconds }: Extent) {
  const victim = yield* victims[way]
  const others = yield* Effect.forEach(yield* freePorts(2), (port) => startReplica(tcp(port)))
  const addresses = [victim.address, ...others.map(({ address }) => address)]
  const endpoints = yield* Effect.forEach(addresses, (address) => Endpoint.parse(address))
  const connection = yield* Effect.provide(
    Connection.make(Resolver.constant(...endpoints), keepAlives[keepAlive]),
    Logger.layer([])
  )
  const isActive = Effect.map(
    connection.state,
    ({ endpoints }) => endpoints.some(({ address, state }) => address === victim.address && state === "Active")
  )
  const { stop, tally } = yield* startCallers(connection, callers)
  yield* within(10_000, isActive)

  // How fast it is when all is well.
  const calmCalls = tally.calls
  const calmAt = performance.now()
  yield* Effect.sleep(2000)
  const rateBefore = (tally.calls - calmCalls) / since(calmAt) * 1000

  const failedAt: Array<number> = []
  tally.onFailure = () => failedAt.push(performance.now())
  const silentAt = performance.now()
  yield* victim.silence
  const someLost = yield* within(120_000, Effect.sync(() => failedAt.length > 0))
  // Calls that went elsewhere, and how long none of them was answered.
  const succeededAtLoss = tally.calls - tally.failed
  const lossAt = performance.now()
  let succeeded = succeededAtLoss
  let elsewhereMillis = NaN
  let stalledMillis = 0
  let lastAt = lossAt
  while (since(lossAt) < seconds * 1000) {
    yield* Effect.sleep(1)
    const now = tally.calls - tally.failed
    if (now > succeeded) {
      if (Number.isNaN(elsewhereMillis)) elsewhereMillis = since(silentAt)
      succeeded = now
      lastAt = performance.now()
    }
    stalledMillis = Math.max(stalledMillis, since(lastAt))
  }
  const rateDuring = (succeeded - succeededAtLoss) / since(lossAt) * 1000
  const healedAt = performance.now()
  yield* victim.heal
  const isBack = yield* within(60_000, isActive)
  const backMillis = since(healedAt)
  yield* Effect.sleep(500)
  yield* stop
  return {
    how: way,
    keepAlive,
    callers,
    seconds,
    calls: tally.calls,
    failures: Object.fromEntries(tally.failures),
    messages: Object.fromEntries(tally.messages),
    someLost,
    lostMillis: { first: (failedAt[0] ?? NaN) - silentAt, last: (failedAt.at(-1) ?? NaN) - silentAt },
    elsewhereMillis,
    stalledMillis,
    rateBefore,
    rateDuring,
    isBack,
    backMillis
  }
}, Effect.scoped)

type Result = Effect.Success<ReturnType<typeof run>>

const isGood = ({ failures, isBack, someLost }: Result): boolean =>
  someLost && isBack && Object.keys(failures).every((kind) => kind === "CommunicationError Lost")

const inSeconds = (millis: number): string => `${(millis / 1000).toFixed(2)} s`

const print = (result: Result): void => {
  const { backMillis, callers, calls, elsewhereMillis, failures, how, isBack, keepAlive, lostMillis } = result
  console.log(`${how}, keepAlive ${keepAlive}: ${callers} callers, ${calls} calls`)
  for (const [kind, count] of Object.entries(failures)) {
    console.log(`  ${count} failed with ${kind}: ${result.messages[kind]}`)
  }
  console.log(`  they failed ${inSeconds(lostMillis.first)} to ${inSeconds(lostMillis.last)} after the silence began`)
  console.log(`  the first call after that was answered elsewhere ${inSeconds(elsewhereMillis)} after it`)
  console.log(
    `  calls a second: ${result.rateBefore.toFixed(0)} before, ${
      result.rateDuring.toFixed(0)
    } in the ${result.seconds} s ` +
      `after the loss, in which none was answered for up to ${inSeconds(result.stalledMillis)}`
  )
  console.log(
    isBack ? `  it was used again ${inSeconds(backMillis)} after it was there again` : "  it was NOT used again"
  )
}

/** Whether this system lets us have networks of our own. */
const hasNamespaces = (): string | undefined => {
  const { error, status, stderr } = spawnSync("unshare", ["-rn", "ip", "link", "set", "lo", "up"], { encoding: "utf8" })
  return error !== undefined ? error.message : status === 0 ? undefined : stderr.trim()
}

const main = Effect.gen(function*() {
  const values = parse({
    how: { type: "string", default: ways.join(",") },
    "keep-alive": { type: "string", default: "default,short" },
    callers: { type: "string", default: "64" },
    seconds: { type: "string", default: "10" },
    json: { type: "boolean", default: false },
    // This is the process in a network of its own.
    inside: { type: "boolean", default: false }
  })
  const extent: Extent = { callers: count("callers", values.callers), seconds: number("seconds", values.seconds) }
  const results: Array<Result> = []
  for (const way of values.how.split(",")) {
    if (!isWay(way)) return fail(`--how: expected ${ways.join(", ")}, got "${way}"`)
    const without = way === "network" && !values.inside ? hasNamespaces() : undefined
    if (without !== undefined) {
      console.error(`network: left out, since this system gives us none of our own: ${without}`)
      continue
    }
    for (const keepAlive of values["keep-alive"].split(",")) {
      if (!isKeepAlive(keepAlive)) return fail(`--keep-alive: expected default, short; got "${keepAlive}"`)
      const result = way === "network" && !values.inside
        ? inside(keepAlive, extent)
        : yield* run(way, keepAlive, extent)
      results.push(result)
      if (!values.json) print(result)
    }
  }
  if (values.json) console.log(JSON.stringify(results))
  if (!results.every(isGood)) process.exitCode = 1
})

/** The same in a process that has a network of its own, and may cut its cables. */
const inside = (keepAlive: KeepAliveName, { callers, seconds }: Extent): Result => {
  const args = ["--how", "network", "--keep-alive", keepAlive, "--callers", `${callers}`, "--seconds", `${seconds}`]
  const { stderr, stdout } = spawnSync(
    "unshare",
    ["-rn", process.execPath, fileURLToPath(import.meta.url), ...args, "--inside", "--json"],
    { encoding: "utf8" }
  )
  try {
    // It is this very program that has written it: one result.
    return (JSON.parse(stdout) as readonly [Result])[0]
  } catch {
    return fail(`network: ${stderr}`)
  }
}

await Effect.runPromise(main)
