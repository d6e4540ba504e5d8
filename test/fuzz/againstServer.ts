/**
 * Hostile clients against servers: each sends its stream, and what comes back is held against the model of it.
 */
import { Effect, Metric, type Scope } from "effect"
import { Component, HandlerMap, Server } from "effect-call"
import * as net from "node:net"
import { sendPieces } from "./conversation.ts"
import { count, countCalls, Log, Planned, serveBoth, type Target, until, Violation } from "./harness.ts"
import { inOnePiece, MemoryPeer, type Peer, type PeerOwner, SocketPeer, turn } from "./peer.ts"
import {
  type ByteMethod,
  byteMethods,
  type Case,
  cases,
  component,
  type Expected,
  largeAnswer,
  largestOf,
  limits,
  type Model,
  modelOf,
  refusal,
  streamOf,
  turnsOf
} from "./toServer.ts"
import * as Typed from "./typed.ts"
import { clientTypes, describeStream, type Frame, Reader, readVersion, serverTypes, type, typeName } from "./wire.ts"

/** How many handlers of each kind have been called, and how many of the slow ones run. */
class Handlers {
  readonly called = new Map<string, number>()
  running = 0

  private call(kind: string): void {
    this.called.set(kind, (this.called.get(kind) ?? 0) + 1)
  }

  private run<A, E>(effect: Effect.Effect<A, E>): Effect.Effect<A, E> {
    return Effect.suspend(() => {
      this.running++
      return effect
    }).pipe(Effect.ensuring(Effect.sync(() => void this.running--)))
  }

  private readonly bytes: Record<ByteMethod, HandlerMap.Handler> = {
    echo: (args) => Effect.succeed(args),
    slow: (args) => this.run(Effect.as(turns(turnsOf(args)), args)),
    fail: (args) => Effect.fail(new Error(refusal(args))),
    die: () => this.run(Effect.die(new Planned())),
    throw: () => {
      throw new Planned()
    },
    large: (args) => Effect.succeed(largeAnswer(args)),
    never: () => this.run(Effect.never)
  }

  readonly map: Effect.Effect<HandlerMap.HandlerMap<never>, never, Scope.Scope> = Effect.gen(
    { self: this },
    function*() {
      const typed = Typed.handlers(() => this.call("typed"))
      let map = HandlerMap.merge(
        yield* Component.handlers(Typed.Typed, typed, { disableTracing: true }),
        yield* Component.handlers(Typed.Traced, typed)
      )
      for (const method of byteMethods) {
        map = HandlerMap.set(map, component, method, (args) => {
          this.call(method)
          return this.bytes[method](args)
        })
      }
      return map
    }
  )
}

const turns = (count: number): Effect.Effect<void> =>
  Effect.callback((resume) => {
    const next = (left: number) => {
      if (left === 0) resume(Effect.void)
      else immediate = setImmediate(next, left - 1)
    }
    let immediate = setImmediate(next, count)
    return Effect.sync(() => clearImmediate(immediate))
  })

/** Where the servers are. */
interface Servers {
  readonly port: number
  /** Gives a connection to the server in memory, */
  readonly accept: (peer: MemoryPeer) => void
  /** or to one of its own, with {@link limits}; it ends when that does. */
  readonly serveOn: (peer: MemoryPeer) => Promise<void>
}

/** One client. */
class Visit implements PeerOwner {
  readonly model: Model
  private readonly input: Case
  private readonly servers: Servers
  private readonly seen: Map<string, number>
  private readonly bytes: Buffer
  private readonly reader = new Reader(clientTypes, (frame) => this.onFrame(frame))
  private readonly answers: Array<{ readonly answer: Frame; readonly expected: Expected }> = []
  /** How many answers there are to each id. */
  private readonly answered = new Map<bigint, number>()
  private versions = 0
  /** How many answers have to come, and have not. */
  private owed = 0
  private left = false
  private closed = false
  private problem: string | undefined = undefined

  constructor(input: Case, servers: Servers, seen: Map<string, number>) {
    this.seen = seen
    this.input = input
    this.servers = servers
    this.bytes = streamOf(input)
    this.model = modelOf(this.bytes, input)
    if (this.isCertain) {
      this.owed = this.model.versions.length
      for (const expected of this.requests()) if (expected.certain) this.owed++
    }
  }

  /** All requests that a handler may see or that are answered without one. */
  *requests(): Generator<Expected> {
    for (const sameId of this.model.requests.values()) yield* sameId
  }

  get answerCount(): number {
    return this.answers.length
  }

  /** Whether all answers that are certain will come. */
  private get isCertain(): boolean {
    if (this.model.closes !== "no") return false
    // Where there are few places, calls that never end keep others from theirs.
    return this.input.over !== "limited" || [...this.requests()].every(({ kind }) => kind !== "never")
  }

  onBytes(bytes: Buffer): void {
    this.reader.read(bytes)
    if (this.reader.refused && !this.model.hasStreams) this.fail("sent what a client never gets")
  }

  onClosed(): void {
    this.closed = true
    if (!this.left) count(this.seen, "connection closed")
    // What a socket, or a client that is slow, has not taken yet is lost with the connection.
    const isLossless = this.input.over !== "tcp" && !this.input.slow
    const { partial } = this.reader
    if (isLossless && partial > 0 && partial < inOnePiece) this.fail("broke off amid a message")
  }

  private fail(problem: string): void {
    this.problem ??= `the server ${problem}`
  }

  private onFrame(answer: Frame): void {
    count(this.seen, typeName(answer.type))
    if (answer.type === type.version) return this.onVersion(answer)
    const index = this.answered.get(answer.id) ?? 0
    this.answered.set(answer.id, index + 1)
    const expected = this.model.requests.get(answer.id)?.[index]
    if (expected === undefined) {
      return this.model.hasStreams ? undefined : this.fail(`answered ${answer.id} ${index + 1} times`)
    }
    if (expected.certain) this.owed--
    // It is looked at later: it was handed over, and must not change any more.
    this.answers.push({ answer, expected })
  }

  private onVersion(answer: Frame): void {
    const expected = this.model.versions[this.versions++]
    if (expected === undefined) {
      return this.model.hasStreams ? undefined : this.fail("answered more version messages than there are")
    }
    this.owed--
    const { payload } = answer
    const version = readVersion(answer)
    const isFlagged = expected.flags !== 0 && payload.length === 8 && version?.flags === expected.flags
    if (version?.version !== 0 || (payload.length !== 4 && !isFlagged)) {
      this.fail(`answered a version message with ${payload.toString("hex")}`)
    }
  }

  /** Says what is not as it should be. */
  async run(): Promise<string | undefined> {
    const { over, peer } = await this.connect()
    await sendPieces(peer, this.bytes, this.input.mutation, 0, this.bytes.length)
    if (this.input.leaves === "last") await this.stay()
    this.left = true
    if (this.input.leaves === "resets") peer.reset()
    else peer.finish()
    if (!await until(() => this.closed)) this.fail("did not close a connection that its client has ended")
    await over
    for (const { answer, expected } of this.answers) {
      if (expected.isAnswer(answer)) continue
      const { deadline, kind } = expected
      const text = answer.payload.toString("latin1", 0, 200)
      this.fail(`answered ${answer.id} (${kind}, deadline ${deadline}) with type ${answer.type}: ${text}`)
    }
    return this.problem === undefined ? undefined : `${this.problem}\n${this.describe()}`
  }

  private async connect(): Promise<{ readonly peer: Peer; readonly over: Promise<void> }> {
    if (this.input.over === "tcp") {
      const socket = net.connect({ port: this.servers.port, host: "127.0.0.1" })
      const peer = new SocketPeer(socket, this)
      await new Promise((resolve) => socket.once("connect", resolve))
      return { peer, over: Promise.resolve() }
    }
    const peer = new MemoryPeer(this, this.input.slow)
    if (this.input.over === "limited") return { peer, over: this.servers.serveOn(peer) }
    this.servers.accept(peer)
    return { peer, over: Promise.resolve() }
  }

  /** Waits for what has to come, and a little for what must not. */
  private async stay(): Promise<void> {
    const { closes } = this.model
    if (closes === "yes" && !await until(() => this.closed)) this.fail("did not close the connection")
    if (closes === "no" && !await until(() => this.closed || this.owed <= 0)) this.fail(`owes ${this.owed} answers`)
    await turn()
    await turn()
    if (closes === "no" && this.closed) this.fail("closed the connection without a reason")
  }

  private describe(): string {
    const sent = describeStream(this.bytes, serverTypes, largestOf(this.input))
    return `${this.input.over}, what was sent:\n${sent}`
  }
}

/** What is wrong with all of them together, when they are over. */
const together = (visits: ReadonlyArray<Visit>, handlers: Handlers, log: Log): string | undefined => {
  const requests = new Map<string, number>()
  for (const visit of visits) {
    for (const { kind, runs } of visit.requests()) if (runs) requests.set(kind, (requests.get(kind) ?? 0) + 1)
  }
  for (const [kind, called] of handlers.called) {
    const most = requests.get(kind) ?? 0
    if (called > most) return `handlers "${kind}" were called ${called} times for ${most} requests`
  }
  // There may be fewer: a flood is not to flood the log.
  const refused = visits.filter(({ model }) => model.closes !== "no").length
  if (log.refused > refused) return `it is logged that ${log.refused} connections were refused, which may be ${refused}`
  return undefined
}

/** Servers in memory and over TCP, until the Scope ends. */
export const serverTarget: Effect.Effect<Target<Case>, never, Scope.Scope> = Effect.suspend(() => {
  const log = new Log((text, error) =>
    text === "a handler died"
      ? error instanceof Planned
      : text === "the handler of a discarded call failed" && error instanceof Typed.Refused
  )
  return Effect.gen(function*() {
    const handlers = new Handlers()
    const map = yield* handlers.map
    const { audit, memory, neighbours, port } = yield* serveBoth(map)
    const context = yield* Effect.context<never>()
    const calls = countCalls(context, "server")
    const servers: Servers = {
      port,
      accept: ({ duplex }) => memory.connect(duplex),
      serveOn: ({ duplex }) => Effect.runPromiseWith(context)(Server.serveOn(duplex, map, limits))
    }
    const seen = new Map<string, number>()
    let answers = 0
    let requests = 0
    const run = async (cases: ReadonlyArray<Case>) => {
      handlers.called.clear()
      log.refused = 0
      const visits = cases.map((input) => new Visit(input, servers, seen))
      const problems = await Promise.all(visits.map((visit) => visit.run()))
      const problem = problems.find((problem) => problem !== undefined) ??
        (await until(() => handlers.running === 0) ? undefined : `${handlers.running} handlers run on`) ??
        log.take() ?? together(visits, handlers, log)
      for (const visit of visits) {
        answers += visit.answerCount
        requests += [...visit.requests()].length
      }
      if (problem !== undefined) throw new Violation(problem)
    }
    return {
      cases,
      run,
      neighbours,
      seen,
      audit: async () => {
        const counted = calls()
        return counted < answers || counted > requests
          ? `${counted} calls were counted, for ${answers} answers to ${requests} requests`
          : await audit()
      }
    }
    // A registry of its own: what others have counted must not be in it.
  }).pipe(Effect.provide(log.layer), Effect.provideService(Metric.MetricRegistry, new Map()))
})
