/** A Connection to a {@link HandNetwork}, what can be done to it, and what can be seen of it. */
import {
  Cause,
  Clock,
  Context,
  Effect,
  Equal,
  Exit,
  type Fiber,
  Logger,
  Option,
  References,
  Schedule,
  Scope
} from "effect"
import { Balancer, CallError, Connection, type Endpoint, MethodKey, Resolver } from "effect-call"
import * as assert from "node:assert/strict"
import { handClock } from "../support/clock.ts"
import { answerOf, argsOf, HandNetwork, type Line, type Word } from "./handNetwork.ts"
import { type Action, dialTimeout, type Glance, type Snapshot } from "./modelParts.ts"
import { addresses, type Step } from "./modelSteps.ts"

const key = MethodKey.make("test/Model", "call")

/** From so many bytes on arguments are sent from where they are. */
const large = 32

/** The turns of the event loop after which nothing happens any more; half of them would do. */
const restTurns = { strict: 10, loose: 40 }

const turns = (count: number) =>
  new Promise<void>((resolve) => {
    const turn = (left: number) => left === 0 ? resolve() : void setImmediate(turn, left - 1)
    turn(count)
  })

type PickFunction = Parameters<typeof Balancer.make>[0]

/** The first eligible endpoint, or the only one that is allowed. */
const first = (only?: string): PickFunction => (endpoints, { avoid }) => {
  const found = endpoints.find(({ address }) => !avoid.has(address) && (only === undefined || address === only))
  return found === undefined
    ? Effect.fail(new CallError.Unreachable({ message: "none", attempts: [] }))
    : Effect.succeed(found)
}

/** A balancer whose picks need not be run, so that its calls go the fast way. */
const fast = (pick: PickFunction): Balancer.Balancer => {
  let current: ReadonlyArray<Endpoint.Endpoint> = []
  return {
    update: (endpoints) => {
      current = endpoints
    },
    pick: (options) => pick(current, options)
  }
}

/** The pick of a turn ago. */
const late = (pick: PickFunction): PickFunction => (endpoints, options) => {
  const picked = pick(endpoints, options)
  return Effect.callback((resume) => {
    const immediate = setImmediate(() => resume(picked))
    return Effect.sync(() => clearImmediate(immediate))
  })
}

/** A call that was made. */
interface Called {
  /** Undefined while it is being started. */
  fiber: Fiber.Fiber<Uint8Array, CallError.CallError> | undefined
  readonly only: string | undefined
  readonly waitForReady: boolean
}

const neither = { isFast: true, isLarge: false, retries: false }

/** How the Connection is made, and called. */
export interface Ways {
  readonly connections: number
  /**
   * For what there is no model of: endpoints are taken in turn, or ejected where calls fail; some calls are made again,
   * some picks come a turn late, and some dials take a turn to clean up.
   */
  readonly isLoose: boolean
}

export class World {
  /** What was done to it. */
  readonly trace: Array<Action> = []
  private readonly network: HandNetwork
  private readonly clock = handClock()
  private readonly calls: Array<Called> = []
  private readonly ways: Ways
  private readonly connection: Connection.Connection
  private readonly context: Context.Context<never>
  private readonly scope = Scope.makeUnsafe()
  private listed: ReadonlyArray<string> = []
  private closing: Fiber.Fiber<void> | undefined = undefined
  private resolution: Resolver.Resolution = { endpoints: [], version: Resolver.version("0") }
  /** Tells the Connection, which waits for other endpoints. */
  private tell: ((resolution: Effect.Effect<Resolver.Resolution>) => void) | undefined = undefined
  private edition = 0
  /** What is done when something is logged. */
  private whenLogged: Step | undefined = undefined
  private isClosed = false
  /** The lines that have said something in this turn: what they said next would arrive later than what others say. */
  private readonly speakers = new Set<Line>()

  constructor(ways: Ways) {
    this.ways = ways
    this.network = new HandNetwork(ways.isLoose)
    const logger = Logger.make(() => {
      const step = this.whenLogged
      this.whenLogged = undefined
      if (step !== undefined) this.network.check(() => void this.do(step))
    })
    this.context = Context.make(Clock.Clock, this.clock).pipe(
      Context.add(References.MinimumLogLevel, ways.isLoose ? "Debug" : "None"),
      Context.add(Logger.CurrentLoggers, new Set([logger]))
    )
    const resolver: Resolver.Resolver = {
      isConstant: false,
      resolve: (version) =>
        Effect.suspend(() =>
          version === undefined || !Equal.equals(version, this.resolution.version)
            ? Effect.succeed(this.resolution)
            : Effect.callback<Resolver.Resolution>((resume) => {
              this.tell = resume
              return Effect.sync(() => {
                this.tell = undefined
              })
            })
        )
    }
    const making = Connection.make(resolver, {
      balancer: ways.isLoose ? Balancer.roundRobin : Effect.succeed(fast(first())),
      connectionsPerEndpoint: ways.connections,
      backoff: { initial: 0 },
      dialTimeout,
      keepAlive: false,
      metrics: false,
      outlierEjection: ways.isLoose ? { failures: 1, duration: 10, maxDuration: 30 } : false,
      writeFlattenLimit: large
    })
    this.connection = Effect.runSyncWith(this.context)(Scope.provide(making, this.scope))
  }

  /**
   * Does a step, and says what that was; undefined where there was nothing to do it to. Its `reaction` is done in the
   * midst of what the Connection does: where a call ends, or else where something is logged.
   */
  do(step: Step, reaction?: Step): Action | undefined {
    const action = this.actionOf(step)
    if (action === undefined) return undefined
    if (action._tag !== "Call") this.whenLogged = reaction ?? this.whenLogged
    this.trace.push(action)
    switch (action._tag) {
      case "List": {
        this.listed = action.addresses
        const endpoints = action.addresses.map((address, index) =>
          // Of several with one address the first counts.
          this.network.endpoint(address, action.addresses.indexOf(address) === index ? action.edition : -1)
        )
        this.resolution = { endpoints, version: Resolver.version(`${action.edition}`) }
        const { tell } = this
        this.tell = undefined
        tell?.(Effect.succeed(this.resolution))
        break
      }
      case "Call": {
        const { only, timeout, waitForReady } = action
        const { isFast, isLarge, retries } = step._tag === "Call" ? step : neither
        const pick = this.ways.isLoose && !isFast ? late(first(only)) : first(only)
        const calling = this.connection.call(key, argsOf(action.call, isLarge ? large : 0), {
          waitForReady,
          timeout,
          balancer: isFast ? only === undefined ? undefined : fast(pick) : Effect.runSync(Balancer.make(pick)),
          retry: this.ways.isLoose && retries ? Schedule.recurs(2) : undefined
        })
        const called: Called = { fiber: undefined, only, waitForReady }
        this.calls.push(called)
        called.fiber = Effect.runForkWith(this.context)(calling)
        if (reaction !== undefined) called.fiber.addObserver(() => this.network.check(() => void this.do(reaction)))
        break
      }
      case "Interrupt":
        this.calls[action.call]?.fiber?.interruptUnsafe()
        break
      case "Connect":
        this.connect(this.line(action.line), action.words)
        break
      case "Preset": {
        const { address, as } = action
        this.network.presets.set(address, (line) => {
          if ("how" in as) line.refuse(as.how)
          else this.connect(line, as.words)
        })
        break
      }
      case "Refuse":
        this.line(action.line).refuse(action.how)
        break
      case "Say":
        this.say(this.line(action.line), action.words)
        break
      case "Cut":
        this.line(action.line).cut()
        break
      case "Hangup":
        this.line(action.line).close(action.how)
        break
      case "Pass":
        this.clock.pass(action.millis)
        break
      case "Close":
        this.closing = Effect.runForkWith(this.context)(this.connection.close)
        this.isClosed = true
        this.listed = []
    }
    return action
  }

  /** Lets that many turns pass, or as many as it takes until nothing happens any more. */
  async rest(count = this.ways.isLoose ? restTurns.loose : restTurns.strict): Promise<void> {
    await turns(count)
    this.speakers.clear()
  }

  /** Ends it all, however it was left. */
  end(): void {
    Effect.runForkWith(this.context)(Scope.close(this.scope, Exit.void))
    for (const { fiber } of this.calls) fiber?.interruptUnsafe()
  }

  get glance(): Glance {
    const { closed, endpoints } = this.state
    return {
      closed,
      endpoints: endpoints.map(({ address, callsInFlight, lastFailure, state }) => ({
        address,
        state,
        callsInFlight,
        hasFailed: lastFailure !== undefined
      })),
      ends: this.calls.map((_, number) => this.endOf(number))
    }
  }

  get snapshot(): Snapshot {
    return {
      ...this.glance,
      lines: this.lines.filter(({ isDialing, isOpen }) => isDialing || isOpen).map((line) => ({
        name: line.name,
        edition: line.edition,
        isDialing: line.isDialing,
        requests: line.requests.map(({ call }) => call).toSorted((a, b) => a - b),
        cancels: line.cancels.toSorted((a, b) => a - b),
        saidLast: line.saidLast
      })),
      inFlight: this.calls.map((_, number) =>
        this.endOf(number) === undefined ? this.lines.find((line) => this.isOn(line, number))?.name : undefined
      )
    }
  }

  /** What holds whenever nothing is going on, whatever has happened. */
  assertInvariants(): void {
    if (this.network.wrong !== undefined) {
      throw new Error("something threw in a callback of a socket", { cause: this.network.wrong })
    }
    const { closed, endpoints } = this.state
    assert.equal(closed, this.isClosed)
    const table = new Map(endpoints.map((endpoint) => [endpoint.address, endpoint]))
    assert.equal(table.size, endpoints.length, "an address is there twice")
    const pending = [...this.calls.keys()].filter((call) => this.endOf(call) === undefined)
    const inFlight = new Map(this.lines.map((line) => [line, pending.filter((call) => this.isOn(line, call))]))
    for (const address of addresses) {
      const lines = this.lines.filter((line) => line.address === address)
      const dialed = lines.filter(({ isDialing, isGreeted, isOpen }) => isDialing || (isOpen && !isGreeted))
      const open = lines.filter(({ isGreeted, isOpen }) => isOpen && isGreeted)
      const used = open.filter(({ isGoingAway }) => !isGoingAway)
      const isListed = this.listed.includes(address)
      const calls = open.flatMap((line) => inFlight.get(line) ?? [])
      // It is in the table iff it is not gone.
      assert.equal(table.has(address), isListed || calls.length > 0, `${address} is in the table`)
      const expected = !isListed
        ? "Draining"
        : used.length > 0
        ? "Active"
        : dialed.length > 0
        ? "Dialing"
        : open.length > 0
        ? "Draining"
        : "Idle"
      if (table.has(address)) assert.equal(table.get(address)?.state, expected, `the state of ${address}`)
      assert.equal(table.get(address)?.callsInFlight ?? 0, calls.length, `calls in flight to ${address}`)
      // No more sockets than expected, except for connections that have calls to finish.
      assert.ok(
        (isListed ? used.length : 0) + dialed.length <= (isListed ? this.ways.connections : 0),
        `sockets of ${address}`
      )
      for (const line of open) {
        if (line.isGoingAway || !isListed) assert.notEqual(inFlight.get(line)?.length, 0, `${line.name} is of no use`)
      }
    }
    // Who waits, waits for a dial that there is, or for an endpoint.
    for (const number of pending) {
      if (this.lines.some((line) => this.isOn(line, number))) continue
      const { only, waitForReady } = this.calls[number]!
      const may = this.listed.filter((address) => only === undefined || address === only)
      const isDialed = may.some((address) => table.get(address)?.state === "Dialing")
      assert.ok(may.length === 0 ? waitForReady : isDialed, `call ${number} waits for nothing`)
    }
    assert.ok(
      endpoints.filter(({ isEjected }) => isEjected).length * 2 <= this.listed.length,
      "too many are ejected"
    )
    assert.equal(this.network.scopes, this.lines.filter(({ isDialing, isOpen }) => isDialing || isOpen).length)
    if (this.isClosed) this.assertNothingIsLeft()
  }

  private assertNothingIsLeft(): void {
    assert.deepEqual(this.state, { closed: true, endpoints: [] })
    assert.deepEqual(this.lines.filter(({ isClosed, isDialing }) => isDialing || !isClosed), [])
    assert.deepEqual(this.calls.filter(({ fiber }) => fiber?.pollUnsafe() === undefined), [])
    assert.deepEqual(this.closing?.pollUnsafe(), Exit.void)
    assert.equal(this.tell, undefined, "the resolver is watched")
    assert.equal(this.clock.sleepers(), 0)
  }

  private get state(): Connection.ConnectionState {
    return Effect.runSync(this.connection.state)
  }

  private get lines(): ReadonlyArray<Line> {
    return this.network.lines
  }

  private connect(line: Line, words: ReadonlyArray<Word>): void {
    line.connect()
    if (words.length > 0) this.say(line, words)
  }

  private say(line: Line, words: ReadonlyArray<Word>): void {
    this.speakers.add(line)
    line.say(words)
  }

  /** How a call has ended; undefined where it has not. */
  private endOf(number: number): string | undefined {
    const exit = this.calls[number]?.fiber?.pollUnsafe()
    if (exit === undefined) return undefined
    if (Exit.isSuccess(exit)) {
      assert.deepEqual(exit.value, answerOf(number))
      return "answered"
    }
    if (Cause.hasInterruptsOnly(exit.cause)) return "interrupted"
    const error = Option.getOrUndefined(Cause.findErrorOption(exit.cause))
    if (error === undefined) throw Cause.squash(exit.cause)
    if (error._tag === "Unreachable") {
      return [error._tag, ...error.attempts.map(({ endpoint }) => endpoint).toSorted()].join(" ")
    }
    if (error._tag !== "CommunicationError") return error._tag
    return `${error.reason._tag}, ${error.maybeExecuted ? "maybe" : "not"} executed`
  }

  private isOn(line: Line, number: number): boolean {
    return line.isOpen && line.requests.some(({ call }) => call === number)
  }

  private line(name: string): Line {
    const line = this.lines.find((line) => line.name === name)
    assert.ok(line !== undefined)
    return line
  }

  private list(addresses: ReadonlyArray<string>): Action | undefined {
    return this.isClosed ? undefined : { _tag: "List", addresses, edition: ++this.edition }
  }

  private actionOf(step: Step): Action | undefined {
    const one = <A>(all: ReadonlyArray<A>, which: number): A | undefined => all[which % all.length]
    switch (step._tag) {
      case "List":
        return this.list(step.addresses)
      case "Unlist": {
        const address = one(this.listed, step.which)
        return address === undefined ? undefined : this.list(this.listed.filter((other) => other !== address))
      }
      case "Relist": {
        const others = addresses.filter((address) => !this.listed.includes(address))
        // One that drains, if any does: that is seldom so for long.
        const draining = others.filter((address) => this.lines.some((line) => line.address === address && line.isOpen))
        const address = one(draining.length > 0 ? draining : others, step.which)
        return address === undefined ? undefined : this.list([...this.listed, address])
      }
      case "Call":
        return {
          _tag: "Call",
          call: this.calls.length,
          only: step.only,
          waitForReady: step.waitForReady,
          timeout: step.timeout
        }
      case "Interrupt": {
        // The newest first, whose request may not have left.
        const pending = [...this.calls.keys()].reverse().filter((number) => this.endOf(number) === undefined)
        const call = one(pending, step.which)
        return call === undefined ? undefined : { _tag: "Interrupt", call }
      }
      case "Connect":
      case "Refuse": {
        const line = one(this.lines.filter(({ isDialing }) => isDialing), step.which)
        if (line === undefined) return undefined
        return step._tag === "Connect"
          ? { _tag: "Connect", line: line.name, words: step.words }
          : { _tag: "Refuse", line: line.name, how: step.how }
      }
      case "Say": {
        const line = one(this.lines.filter((line) => line.isOpen && !this.speakers.has(line)), step.which)
        if (line === undefined) return undefined
        const words: Array<Word> = []
        for (const { _tag, which } of step.words) {
          if (_tag === "Answer" || _tag === "Failure" || _tag === "TimeIsUp") {
            const said = new Set(words.map((word) => "call" in word ? word.call : undefined))
            const request = one(line.requests.filter(({ call, isOver }) => !isOver && !said.has(call)), which)
            if (request !== undefined) words.push({ _tag, call: request.call })
          } else {
            words.push({ _tag })
          }
        }
        return words.length === 0 ? undefined : { _tag: "Say", line: line.name, words }
      }
      case "Cut":
      case "Hangup": {
        const line = one(this.lines.filter(({ isOpen }) => isOpen), step.which)
        if (line === undefined) return undefined
        return step._tag === "Cut"
          ? { _tag: "Cut", line: line.name }
          : { _tag: "Hangup", line: line.name, how: step.how }
      }
      case "Pass":
      case "Preset":
      case "Close":
        return step
    }
  }
}
