/**
 * Hostile servers against clients: a Connection calls, each server sends its stream, and how the calls end is held
 * against the model of it.
 */
import { Effect, Metric, type Scope } from "effect"
import { type CallError, Component, Connection, Endpoint, Resolver } from "effect-call"
import * as net from "node:net"
import { Made, type Place, type Slot } from "./clientCall.ts"
import { Server } from "./clientServer.ts"
import { sendPieces } from "./conversation.ts"
import { count, countCalls, Log, neighbourHandlers, serveBoth, type Target, until, Violation } from "./harness.ts"
import { inOnePiece, MemoryPeer, SocketPeer, turn } from "./peer.ts"
import {
  type Arguments,
  argumentsOf,
  type Call,
  type Case,
  cases,
  largestOf,
  limits,
  type Model,
  modelOf,
  type Sent,
  sentBy
} from "./toClient.ts"
import * as Typed from "./typed.ts"
import { clientTypes, describeStream } from "./wire.ts"

/** How many calls have been made, all in all. */
let made = 0

/** One case. */
class Visit {
  private readonly input: Case
  private readonly slot: Slot
  private readonly seen: Map<string, number>
  private readonly args: ReadonlyArray<Arguments>
  private readonly sent: Sent
  private readonly servers: Array<Server> = []
  /** The calls of the case, and the calls that try the connections. */
  private readonly calls: Array<Made> = []
  private problem: string | undefined = undefined

  constructor(input: Case, slot: Slot, seen: Map<string, number>) {
    this.seen = seen
    this.input = input
    this.slot = slot
    this.args = input.calls.map((call) => argumentsOf(call, ++made, input.over))
    this.sent = sentBy(input, this.args)
  }

  /** Says what is not as it should be. */
  async run(): Promise<string | undefined> {
    const { place } = this.slot
    place.accept = () => this.accept()
    place.slow = this.input.slow
    for (const [i, call] of this.input.calls.entries()) {
      const args = this.args[i]
      if (args !== undefined) this.calls.push(new Made(call, args, this.slot))
    }
    const calls = [...this.calls]
    if (await until(() => this.servers[0]?.peer !== undefined)) await this.converse(calls)
    else this.fail("the client did not connect")
    place.accept = undefined
    for (const server of this.servers) if (server.problem !== undefined) this.fail(server.problem)
    return this.problem === undefined ? undefined : `${this.problem}\n${this.describe(calls)}`
  }

  private fail(problem: string): void {
    this.problem ??= problem
  }

  /** The first server is hostile; if the client connects again, it is to a good one. */
  private accept(): Server {
    const isLossless = this.input.over !== "tcp" && !this.input.slow
    const server = new Server(this.calls, this.servers.length > 0, isLossless)
    this.servers.push(server)
    return server
  }

  private async converse(calls: ReadonlyArray<Made>): Promise<void> {
    const [server] = this.servers
    const peer = server?.peer
    if (server === undefined || peer === undefined) return
    const { bytes, readyAt } = this.sent
    for (const made of calls) if (made.call.givenUp === "early") made.giveUp()
    const first = this.input.blind || readyAt === undefined ? bytes.length : readyAt
    await sendPieces(peer, bytes, this.input.mutation, 0, first)
    if (first === readyAt) await this.requested(server, calls)
    const pending = this.pendingOn(server, calls)
    const model = modelOf(this.sent, pending, this.input.blind)
    await sendPieces(peer, bytes, this.input.mutation, first, bytes.length)
    await this.answered(server, model, pending)
    if (this.isUsable(model)) await this.probe(server, model)
    if (this.input.leaves === "ends") peer.finish()
    else peer.reset()
    if (!await until(() => server.closed)) this.fail("the client did not close the connection")
    if (!await until(() => calls.every(({ exit }) => exit !== undefined))) {
      this.fail("a call did not end with its connection")
    }
    for (const made of calls) {
      count(this.seen, made.end)
      this.check(made, server, model)
    }
    if (this.input.again) await this.callAgain("a call on the next connection")
    await this.leave()
  }

  /**
   * Waits until the server has the requests of all calls that go on, and gives up the calls that are to be given up
   * then.
   */
  private async requested(server: Server, calls: ReadonlyArray<Made>): Promise<void> {
    const isThere = ({ exit, places }: Made) => exit !== undefined || places.length > 0
    if (!await until(() => server.closed || calls.every(isThere))) this.fail("a request was not sent")
    const late = calls.filter(({ call }) => call.givenUp === "late")
    for (const made of late) made.giveUp()
    if (!await until(() => late.every(({ exit }) => exit !== undefined))) this.fail("a call could not be given up")
    // One whose time is up is not canceled: its server knows.
    const canceled = late.filter(({ call, end }) => call.timeout !== "short" && end === "interrupted")
    const isCanceled = ({ places }: Made) => places.every(({ id, server }) => server.closed || !server.open.has(id))
    if (!await until(() => canceled.every(isCanceled))) this.fail("a call that was given up was not canceled")
  }

  private pendingOn(server: Server, calls: ReadonlyArray<Made>) {
    const pending = new Map<bigint, Made>()
    for (const made of calls) {
      if (made.exit !== undefined) continue
      const place = made.places.find((place) => place.server === server)
      if (place !== undefined) pending.set(place.id, made)
    }
    return pending
  }

  /** Waits for what has to come of the answers, and a little for what must not. */
  private async answered(
    server: Server,
    { answers, closes, leaving }: Model,
    pending: ReadonlyMap<bigint, Made>
  ): Promise<void> {
    if (closes) {
      if (!await until(() => server.closed)) this.fail("the client did not close the connection")
    } else if (!this.input.blind) {
      const due = [...pending].flatMap(([id, made]) => answers.has(id) ? made : [])
      if (!await until(() => server.closed || due.every(({ exit }) => exit !== undefined))) {
        this.fail("a call did not end with its answer")
      }
    }
    await turn()
    await turn()
    if (!closes && server.closed && !leaving) {
      this.fail("the client closed the connection without a reason")
    }
  }

  /** Whether the connection is to be tried, and has to be as good as new. */
  private isUsable({ closes }: Model): boolean {
    const { readyAt, stream } = this.sent
    return this.input.probed && !this.input.blind && readyAt !== undefined && !closes && stream.partial === 0
  }

  /** One more call, which the server answers as it should. */
  private async probe(server: Server, { leaving }: Model): Promise<void> {
    server.improve()
    const probe = await this.callAgain("a call that tries the connection")
    if (probe.places[0]?.server !== server && !leaving) this.fail("the connection is not used any more")
  }

  /** A call that must succeed. */
  private async callAgain(what: string): Promise<Made> {
    const call: Call = { method: "bytes", size: 10, seed: made, timeout: "none", givenUp: "no" }
    const again = new Made(call, argumentsOf(call, ++made, this.input.over), this.slot)
    this.calls.push(again)
    if (!await until(() => again.exit !== undefined)) this.fail(`${what} did not end`)
    if (!again.isEchoed) this.fail(`${what} ended with ${again.end}: ${String(again.error)}`)
    return again
  }

  /** The good servers leave, and nothing is left. */
  private async leave(): Promise<void> {
    const left = new Set<Server>()
    const endpoint = () => Effect.runSync(this.slot.connection.state).endpoints[0]
    const isLeft = () => {
      // A dial that was cut short is made once more, also where no call waits for it any more: its server may come
      // late.
      for (const server of this.servers.slice(1)) {
        if (server.peer === undefined || left.has(server)) continue
        left.add(server)
        server.peer.finish()
      }
      return this.servers.every(({ closed }) => closed) && endpoint()?.state === "Idle" &&
        endpoint()?.callsInFlight === 0
    }
    if (await until(isLeft)) return
    if (!this.servers.every(({ closed }) => closed)) this.fail("a connection stayed open")
    this.fail(`the endpoint is ${endpoint()?.state} at the end, with ${endpoint()?.callsInFlight} calls`)
  }

  /** Looks at how a call has ended. */
  private check(made: Made, server: Server, model: Model): void {
    const { call, end, error, places } = made
    const wrong = (why: string) =>
      this.fail(`${made.args.bytes.toString("latin1", 0, 20)} ended with ${end} ${why}: ${String(error)}`)
    const [place] = places
    if (places.length > 1) return wrong("and was sent twice")
    if (end === "interrupted") return call.givenUp === "no" ? wrong("and was not given up") : undefined
    if (call.givenUp === "early") return wrong("and was given up before")
    if (end === "DeadlineExceeded" && call.timeout === "short") return
    if (place === undefined) {
      if (!this.isPlausible(made, model)) wrong("and was never sent")
    } else if (place.server !== server) {
      // By a good one, which sends arguments back: only a call of bytes can make sense of that for certain.
      if (made.args.payload === undefined ? !made.isEchoed : end !== "success" && end !== "Protocol") {
        wrong("and was answered elsewhere")
      }
    } else {
      this.checkAnswered(made, model, place.id, wrong)
    }
  }

  /** Whether a call may have ended like this whose request has not come. */
  private isPlausible(made: Made, { answers, closes, leaving }: Model): boolean {
    const { end } = made
    const { blind, over, slow } = this.input
    // What is sent blindly may be there before the request has left, or before a server has taken all of it.
    if (blind && [...answers.values()].flat().some((answer) => made.endsWith(answer))) return true
    if (blind && end === "Lost") {
      return slow || over === "tcp" || made.args.bytes.length > inOnePiece
    }
    return end === "Unreachable" && (blind || leaving || closes || this.sent.readyAt === undefined)
  }

  private checkAnswered(
    made: Made,
    { answers, closes }: Model,
    id: bigint,
    wrong: (why: string) => void
  ): void {
    const { end, error } = made
    const own = answers.get(id) ?? []
    if (own.some((answer) => made.endsWith(answer))) return
    // An answer before what is refused has ended its call.
    const isOpen = own.length === 0 || this.input.blind
    if (isOpen && end === "Lost") {
      const { maybeExecuted, message } = error as CallError.CommunicationError // by its end
      const saysWhy = !closes || this.input.blind || / sent (a|an) /.test(message)
      if (maybeExecuted && saysWhy) return
    }
    const texts = own.map(({ payload, type }) => `type ${type}: ${payload.toString("hex", 0, 100)}`)
    wrong(`and has these answers: ${texts.join(" or ") || "none"}`)
  }

  private describe(calls: ReadonlyArray<Made>): string {
    const lines = calls.map(({ call, end }) => `    ${JSON.stringify(call)}: ${end}`)
    const sent = describeStream(this.sent.bytes, clientTypes, largestOf(this.input))
    return `${this.input.over}, calls:\n${lines.join("\n")}\nwhat was sent:\n${sent}`
  }
}

/** A Connection to the servers of a place. */
const makeSlot = Effect.fnUntraced(
  function*(place: Place, endpoint: Endpoint.Endpoint, options: Connection.ClientOptions) {
    // It has no backoff after a failed dial, which every second case comes to.
    const connection = yield* Effect.orDie(
      Connection.make(Resolver.constant(endpoint), { ...options, backoff: { initial: 0 } })
    )
    const clients = Effect.all({
      plain: Effect.map(Component.client(Typed.Typed, { disableTracing: true }), ({ Plain }) => Plain),
      checked: Effect.map(Component.client(Typed.Traced), ({ Checked }) => Checked)
    })
    const slot: Slot = {
      place,
      connection,
      clients: yield* Effect.provideService(clients, Connection.Connection, connection),
      context: yield* Effect.context<never>()
    }
    return slot
  }
)

let addresses = 0

const inMemory = (options: Connection.ClientOptions) =>
  Effect.suspend(() => {
    const place: Place = { accept: undefined, slow: false }
    const dial = Effect.suspend(() => {
      const server = place.accept?.()
      if (server === undefined) return Effect.die(new Error("dialed without a call"))
      const peer = new MemoryPeer(server, place.slow)
      server.peer = peer
      return Effect.succeed(peer.duplex)
    })
    return makeSlot(place, { address: `fuzz://${addresses++}`, dial }, options)
  })

const overTcp = Effect.gen(function*() {
  const place: Place = { accept: undefined, slow: false }
  const listening = net.createServer((socket) => {
    const server = place.accept?.()
    if (server === undefined) socket.destroy()
    else server.peer = new SocketPeer(socket, server)
  })
  yield* Effect.acquireRelease(
    Effect.callback<void>((resume) => {
      listening.listen(0, "127.0.0.1", () => resume(Effect.void))
    }),
    () => Effect.sync(() => listening.close())
  )
  const { port } = listening.address() as net.AddressInfo // a TCP server's address is no text
  return yield* makeSlot(place, Endpoint.tcp(`127.0.0.1:${port}`), {})
})

/** Connections to hostile servers, until the Scope ends. */
export const clientTarget: Effect.Effect<Target<Case>, never, Scope.Scope> = Effect.suspend(() => {
  const log = new Log((text) => text === "an endpoint could not be dialed" || text === "a connection was lost")
  return Effect.gen(function*() {
    const { audit, neighbours } = yield* serveBoth(neighbourHandlers)
    const context = yield* Effect.context<Scope.Scope>()
    const counted = countCalls(context, "client")
    const before = made
    const seen = new Map<string, number>()
    const make: Record<Case["over"], Effect.Effect<Slot, never, Scope.Scope>> = {
      memory: inMemory({}),
      limited: inMemory(limits),
      tcp: overTcp
    }
    const slots: Record<Case["over"], Array<Slot>> = { memory: [], limited: [], tcp: [] }
    const run = async (cases: ReadonlyArray<Case>) => {
      const used = { memory: 0, limited: 0, tcp: 0 }
      const visits: Array<Visit> = []
      for (const input of cases) {
        const slot = slots[input.over][used[input.over]] ??= await Effect.runPromiseWith(context)(make[input.over])
        used[input.over]++
        visits.push(new Visit(input, slot, seen))
      }
      const problems = await Promise.all(visits.map((visit) => visit.run()))
      const problem = problems.find((problem) => problem !== undefined) ?? log.take()
      if (problem !== undefined) throw new Violation(problem)
    }
    return {
      cases,
      run,
      neighbours,
      seen,
      audit: async () =>
        counted() === made - before ? await audit() : `${counted()} calls were counted, and ${made - before} were made`
    }
    // A registry of its own: what others have counted must not be in it.
  }).pipe(Effect.provide(log.layer), Effect.provideService(Metric.MetricRegistry, new Map()))
})
