/**
 * What both directions have in common: waiting, what may be logged, what the process says of itself, and the
 * well-behaved neighbours.
 */
import { Cause, type Context, Effect, Fiber, Logger, Metric, type Scope } from "effect"
import { Connection, Endpoint, HandlerMap, Listener, MethodKey, Resolver, Server } from "effect-call"
import type * as fc from "fast-check"
import { duplexPair } from "node:stream"
import type { Duplex } from "node:stream"
import { crc32 } from "node:zlib"
import { bytesOf } from "./conversation.ts"
import { turn } from "./peer.ts"

/** What the package is put up against. */
export interface Target<Case> {
  readonly cases: fc.Arbitrary<Case>
  /** Runs some at the same time. It fails with a {@link Violation}. */
  readonly run: (cases: ReadonlyArray<Case>) => Promise<void>
  readonly neighbours: ReadonlyArray<Neighbour>
  /** Says what is wrong with what all have left behind, when none is under way. */
  readonly audit: () => Promise<string | undefined>
  /** What the package has done, and how often: if it were always the same, little would be tried. */
  readonly seen: Map<string, number>
}

/** Counts one more. */
export const count = (seen: Map<string, number>, what: string): void => void seen.set(what, (seen.get(what) ?? 0) + 1)

/** Something that must never be. */
export class Violation extends Error {
  override readonly name = "Violation"
}

/** For how long something that must happen may take, in milliseconds. */
let patience = 3000

/**
 * From now on a wait may take no longer than this: a failing case is made smaller by many runs that each wait to their
 * end.
 */
export const hurry = (): void => {
  patience = 500
}

/** So many turns of the event loop have to be over, too: on a machine that is busy, a few may take all that time. */
const fewestTurns = 1000

/** Waits until something holds; false where it never does. */
export const until = async (holds: () => boolean): Promise<boolean> => {
  const end = performance.now() + patience
  for (let turns = 0; !holds(); turns++) {
    if (turns > fewestTurns && performance.now() > end) return false
    await turn()
  }
  return true
}

/** What a handler dies of on purpose. */
export class Planned extends Error {
  override readonly name = "Planned"
}

/** What has been logged, and what of it should not have been. */
export class Log {
  /** How often a peer was refused. */
  refused = 0
  readonly problems: Array<string> = []
  readonly layer = Logger.layer([
    Logger.make(({ cause, logLevel, message }) => {
      // Without how many more there were: each of those was one of the expected, too.
      const text = String(message).replace(/ \(\d+ more such warnings were left out before\)$/, "")
      if (logLevel === "Debug" || logLevel === "Trace") return
      if (text.startsWith("a connection was closed: its peer sent ")) this.refused++
      else if (!this.isExpected(text, Cause.squash(cause))) {
        this.problems.push(`${logLevel}: ${text} ${Cause.pretty(cause)}`)
      }
    })
  ])
  private readonly isExpected: (text: string, error: unknown) => boolean

  /** `isExpected` says of a line and its cause whether it is fine. */
  constructor(isExpected: (text: string, error: unknown) => boolean) {
    this.isExpected = isExpected
  }

  take(): string | undefined {
    const problems = this.problems.splice(0)
    return problems.length === 0 ? undefined : `logged:\n${problems.slice(0, 3).join("\n")}`
  }
}

/** What Node says of the process: warnings, such as of too many listeners, and failures that were not caught. */
export class ProcessWatch {
  private readonly problems: Array<string> = []
  private readonly onWarning = (warning: Error) => this.note("a warning of Node", warning)
  private readonly onRejection = (error: unknown) => this.note("an unhandled rejection", error)
  private readonly onException = (error: unknown) => this.note("an uncaught exception", error)

  private note(what: string, error: unknown): void {
    this.problems.push(`${what}: ${error instanceof Error ? error.stack ?? error.message : String(error)}`)
  }

  /** A test runner has an eye on uncaught exceptions itself. */
  start({ exceptions }: { readonly exceptions: boolean }): void {
    process.on("warning", this.onWarning)
    process.on("unhandledRejection", this.onRejection)
    if (exceptions) process.on("uncaughtException", this.onException)
  }

  stop(): void {
    process.off("warning", this.onWarning)
    process.off("unhandledRejection", this.onRejection)
    process.off("uncaughtException", this.onException)
  }

  take(): string | undefined {
    const problems = this.problems.splice(0)
    return problems.length === 0 ? undefined : problems.slice(0, 3).join("\n")
  }
}

const component = "fuzz/Neighbour"
const checksummed = MethodKey.make(component, "checksummed")

/** What neighbours call: a checksum of the arguments, and the arguments. */
export const neighbourHandlers = HandlerMap.empty.pipe(
  HandlerMap.set(component, checksummed.method, (args) => {
    const checksum = Buffer.alloc(4)
    checksum.writeUInt32LE(crc32(args))
    return Effect.succeed(Buffer.concat([checksum, args]))
  })
)

/** A client that behaves, and calls all the time on a connection of its own. */
export class Neighbour {
  readonly name: string
  calls = 0
  readonly problems: Array<string> = []

  constructor(name: string) {
    this.name = name
  }

  /**
   * Calls until it is interrupted: one call after the other, some of them large, and never two within a millisecond.
   */
  callForever(connection: Connection.Connection): Effect.Effect<never> {
    return Effect.forever(Effect.gen({ self: this }, function*() {
      const n = this.calls++
      const args = bytesOf(n % 50 === 49 ? 40_000 : n % 300, n)
      const answer = yield* Effect.result(
        connection.call(checksummed, Uint8Array.from(args), { timeout: "10 seconds" })
      )
      if (answer._tag === "Failure") this.problems.push(answer.failure.message)
      else if (!isChecksummed(Buffer.from(answer.success), args)) this.problems.push(`call ${n} had a wrong answer`)
      yield* Effect.sleep(1)
    }))
  }

  take(): string | undefined {
    const problems = this.problems.splice(0)
    return problems.length === 0 ? undefined : `the neighbour ${this.name}: ${problems[0]}`
  }
}

const isChecksummed = (answer: Buffer, args: Buffer): boolean =>
  answer.length === args.length + 4 && answer.readUInt32LE(0) === crc32(args) && answer.subarray(4).equals(args)

/** Lets a neighbour call an endpoint until the Scope ends. */
const neighbour = Effect.fnUntraced(
  function*(name: string, endpoint: Endpoint.Endpoint): Effect.fn.Return<Neighbour, never, Scope.Scope> {
    const neighbour = new Neighbour(name)
    const connection = yield* Effect.orDie(Connection.make(Resolver.constant(endpoint)))
    const calling = yield* Effect.forkScoped(neighbour.callForever(connection))
    calling.addObserver((exit) => {
      if (exit._tag === "Failure" && !Cause.hasInterruptsOnly(exit.cause)) {
        neighbour.problems.push(Cause.pretty(exit.cause))
      }
    })
    // Before the Connection is closed.
    yield* Effect.addFinalizer(() => Fiber.interrupt(calling))
    return neighbour
  }
)

/** A listener for connections that are there already. */
class MemoryListener implements Listener.Listener {
  readonly address = "fuzz://memory"
  readonly accept: Effect.Effect<Listener.Accepted, Listener.ListenerError>
  readonly close = Effect.void
  readonly endpoint: Endpoint.Endpoint
  private readonly arrived: Array<Duplex> = []
  private taker: (() => void) | undefined = undefined

  constructor(handlers: HandlerMap.HandlerMap<never>) {
    this.accept = Effect.callback((resume) => {
      const take = () => {
        const connection = this.arrived.shift()
        if (connection === undefined) return false
        resume(Effect.succeed({ connection, handlers }))
        return true
      }
      if (take()) return
      this.taker = () => void take()
      return Effect.sync(() => {
        this.taker = undefined
      })
    })
    this.endpoint = {
      address: this.address,
      dial: Effect.sync(() => {
        const [client, server] = duplexPair()
        this.connect(server)
        return client
      })
    }
  }

  connect(duplex: Duplex): void {
    this.arrived.push(duplex)
    const taker = this.taker
    this.taker = undefined
    taker?.()
  }
}

/** The sum of what a metric shows, over the series that have these attributes and are none of the neighbours'. */
const sumOf = (context: Context.Context<never>, name: string): number =>
  Metric.snapshotUnsafe(context).reduce((sum, series) => {
    if (series.id !== name || series.attributes?.["rpc.service"] === component) return sum
    return sum +
      (series.type === "Histogram" ? series.state.count : series.type === "Gauge" ? Number(series.state.value) : 0)
  }, 0)

/** How many calls have been counted on a side since this was made, without the neighbours'. */
export const countCalls = (context: Context.Context<never>, side: "client" | "server"): () => number => {
  const count = () => sumOf(context, `rpc.${side}.call.duration`)
  const before = count()
  return () => count() - before
}

/** Serves handlers over TCP and in memory until the Scope ends, with a neighbour at each. */
export const serveBoth = Effect.fnUntraced(function*(handlers: HandlerMap.HandlerMap<never>) {
  const served = HandlerMap.merge(handlers, neighbourHandlers)
  const memory = new MemoryListener(served)
  const tcp = yield* Effect.orDie(Listener.tcp("127.0.0.1:0", served))
  const context = yield* Effect.context<never>()
  const open = () => sumOf(context, "rpc.server.connection.count")
  const before = open()
  for (const listener of [memory, tcp]) {
    yield* Effect.forkScoped(Server.serve(listener, { shutdownGrace: 0 }), { startImmediately: true })
  }
  const endpoint = yield* Effect.orDie(Endpoint.parse(tcp.address))
  const neighbours = [yield* neighbour("in memory", memory.endpoint), yield* neighbour("over TCP", endpoint)]
  return {
    memory,
    port: Number(endpoint.addr.split(":").at(-1)),
    neighbours,
    /** All that is left are the neighbours' connections. */
    audit: async () =>
      await until(() => open() - before === neighbours.length)
        ? undefined
        : `${open() - before} connections are open, ${neighbours.length} of them the neighbours'`
  }
})
