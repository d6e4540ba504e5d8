/**
 * A Connection's entry: it starts calls, and sends them at once where that can be done.
 *
 * A call on a connection that is open is plain synchronous code inside one `Effect.callback`: that is the fast path,
 * and all of it is here. What has to wait, or fails, is left to {@link Failover}; which endpoints there are, and which
 * are excluded, is up to {@link Endpoints}. It must not know dials, backoffs and connections.
 */
import type * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import type { Balancer, PickOptions } from "../../Balancer.ts"
import type { CallError, Unreachable } from "../../CallError.ts"
import type { Endpoint } from "../../Endpoint.ts"
import type { MethodKey } from "../../MethodKey.ts"
import { type CallOptions, mergeOptions } from "../ambient/callOptions.ts"
import { Timeouts } from "../ambient/timeout.ts"
import { Turn } from "../ambient/turn.ts"
import { checkedBalancer } from "../balancer/checks.ts"
import { noAddresses } from "../balancer/excluded.ts"
import { type ImmediateBalancer, isImmediate, pickNow } from "../balancer/immediate.ts"
import { notAnEffect } from "../guard.ts"
import { LogQueue } from "../log.ts"
import { ownCopy } from "../memory/bytes.ts"
import { invalid } from "../options.ts"
import { requestHeaderSize } from "../protocol/request.ts"
import { uniform } from "../random.ts"
import { clientMetrics } from "../telemetry/metrics.ts"
import { tracedSpan } from "../telemetry/span.ts"
import { nowMillis } from "../time/clock.ts"
import { Warnings } from "../warnings.ts"
import { Call, misuse } from "./call.ts"
import { Endpoints } from "./endpoints.ts"
import { closedError } from "./errors.ts"
import { excludedFor, type Exclusions } from "./exclusions.ts"
import { Failover } from "./failover.ts"
import type { ConnectionState } from "./model.ts"
import type { ClientSettings } from "./options.ts"
import { refusal } from "./refusal.ts"
import { Retries } from "./retry.ts"
import { type OpenNow, Streams } from "./streams.ts"
import type { Resume, TypedRequest } from "./typed.ts"

/** The entry of a Connection: it starts calls, and sends them at once where possible. */
export class Client {
  readonly endpoints: Endpoints
  /** What {@link Endpoints.exclusions} is, without a step on the way of each call. */
  private readonly exclusions: Exclusions
  private readonly failover: Failover
  private readonly retries: Retries
  readonly streams: Streams
  private readonly clock: Clock.Clock
  private readonly scope: Scope.Closeable
  private readonly balancer: Balancer
  /** The Connection's own balancer, where it can pick at once: to ask whether it can took 14 ns of each call. */
  private readonly immediate: ImmediateBalancer | undefined
  private readonly plainPick: PickOptions = { avoid: noAddresses }
  private readonly turn = new Turn()
  private readonly logs: LogQueue
  private readonly timeouts: Timeouts
  /** The size of the largest arguments, in bytes. */
  private readonly maxArgs: number
  private readonly writeFlattenLimit: number
  /** Done when the Connection is closed. */
  private readonly shutdown = Deferred.makeUnsafe<void>()

  constructor(
    settings: ClientSettings,
    clock: Clock.Clock,
    context: Context.Context<never>,
    balancer: Balancer,
    scope: Scope.Closeable,
    onTrouble: () => void
  ) {
    const random = Context.get(context, Random.Random)
    const metrics = settings.metrics ? clientMetrics(context) : undefined
    this.clock = clock
    this.scope = scope
    this.logs = new LogQueue(context)
    const shared = {
      ...settings,
      clock,
      context,
      scope,
      metrics,
      onTrouble,
      turn: this.turn,
      logs: this.logs,
      warnings: new Warnings(clock),
      random: () => uniform(random)
    }
    this.balancer = balancer
    this.immediate = isImmediate(balancer) ? balancer : undefined
    this.timeouts = new Timeouts(clock)
    this.maxArgs = settings.maxMessageSize - requestHeaderSize
    this.writeFlattenLimit = settings.writeFlattenLimit
    this.endpoints = new Endpoints(shared, clock, balancer)
    this.exclusions = this.endpoints.exclusions
    this.failover = new Failover(this.endpoints, balancer, clock, metrics, this.maxArgs, this.shutdown)
    this.retries = new Retries(clock, settings.retryBudget, Deferred.await(this.shutdown))
    const { endpoints, failover, retries, timeouts } = this
    const open: OpenNow = (call, args, context) => this.openNow(call, args, context)
    this.streams = new Streams({ ...settings, endpoints, failover, retries, clock, timeouts, open })
  }

  /** Makes a call. `args` are copied before it suspends, unless they have `writeFlattenLimit` bytes or more. */
  call(key: MethodKey, args: Uint8Array, options: CallOptions | undefined): Effect.Effect<Uint8Array, CallError> {
    // The cast: the answer of a call that is not typed is bytes.
    return Effect.callback<Uint8Array, CallError>((resume) =>
      this.start(key, args, options, undefined, resume as Resume)
    )
  }

  /** Starts a typed call. Call it only in the register function of an `Effect.callback`. */
  startTyped<A, E>(request: TypedRequest<A, E>, resume: Resume<A, E | CallError>): Effect.Effect<void> | void {
    // The cast: `resume` gets what `decode` makes of the answer, or a CallError.
    return this.start(request.method.key, request.args, request.options, request, resume as Resume)
  }

  /** Closes everything, in whatever state it is. */
  readonly close: Effect.Effect<void> = Effect.suspend(() => {
    this.endpoints.close()
    Deferred.doneUnsafe(this.shutdown, Exit.void)
    this.logs.flush()
    return Scope.close(this.scope, Exit.void)
  })

  get state(): Effect.Effect<ConnectionState> {
    return this.endpoints.state
  }

  /** See {@link Endpoints.states}. */
  get states(): Stream.Stream<ConnectionState> {
    return this.endpoints.states
  }

  /** Makes a call of what is known when it starts, and submits it. */
  private start(
    key: MethodKey,
    args: Uint8Array,
    given: CallOptions | undefined,
    typed: TypedRequest<unknown, unknown> | undefined,
    resume: Resume
  ): Effect.Effect<void> | void {
    const misused = misuse(key, args)
    if (misused !== undefined) return resume(Effect.die(misused))
    // A callback runs inside a fiber.
    const fiber = Fiber.getCurrent() as Fiber.Fiber<unknown, unknown>
    const turn = this.turn
    turn.enter(fiber.context)
    const outer = turn.options
    const ambient = turn.deadline
    const options = outer === undefined ? given : given === undefined ? outer : mergeOptions(outer, given)
    const timeout = options?.timeout
    // Read once, and only where there is a deadline.
    const now = timeout === undefined && ambient === undefined ? 0 : nowMillis(this.clock)
    const deadlineAt = this.timeouts.deadlineAt(ambient, timeout, now)
    const trace = tracedSpan(typed?.span ?? fiber.cache.span)
    const call = new Call(key, options, deadlineAt, trace, typed, resume, this.failover)
    if (options?.retry !== undefined) {
      if (!Schedule.isSchedule(options.retry)) return invalid("retry", options.retry, "a Schedule")
      // The arguments of a typed call are ours, and in the format that the call has by then.
      const kept = typed === undefined ? this.keep(args) : args
      this.retries.watch(
        call,
        options.retry,
        (call) => this.submit(call, call.typed?.args ?? kept, fiber.context, nowMillis(this.clock))
      )
    }
    const sent = this.submit(call, args, fiber.context, now)
    // The context is forgotten with the flush that follows, or when the connection is lost before that.
    if (sent !== undefined) turn.keep(fiber.context, outer, ambient)
    return sent
  }

  /** Sends a call at once where that can be done, and returns it; else its failure or its failover goes on with it. */
  private submit(call: Call, args: Uint8Array, context: Context.Context<never>, now: number): Call | undefined {
    const { options, typed } = call
    const size = typed === undefined ? args.length : typed.lead.length + args.length
    const { endpoints } = this
    const refused = endpoints.isClosed ? closedError(undefined, false) : refusal(call, size, this.maxArgs, now)
    if (refused !== undefined) {
      this.failover.countUnsent(call, refused._tag)
      call.resume(Effect.fail(refused))
      return undefined
    }

    let balancer = this.balancer
    let immediate = this.immediate
    if (options?.balancer !== undefined) {
      balancer = checkedBalancer(options.balancer)
      immediate = isImmediate(balancer) ? balancer : undefined
      balancer.update(endpoints.list, endpoints.views)
    }
    const { roster } = endpoints
    call.since = roster.failures
    // Before `take`: the dial that it may begin runs a user's code, which may change the endpoints.
    const changes = endpoints.changes.version
    const { version } = roster
    let endpoint: Endpoint | undefined
    let picked: Effect.Effect<Endpoint, Unreachable> | undefined
    if (immediate !== undefined) {
      endpoint = immediate[pickNow](this.pickOptions(balancer, options?.shardKey), context)
    } else {
      // A user's balancer may return undefined, whatever its type says.
      picked = balancer.pick(this.pickOptions(balancer, options?.shardKey)) ??
        Effect.die(notAnEffect("the pick of the balancer", undefined))
      // What has succeeded already need not be run. `isExit` forgets the type of the value.
      if (Exit.isExit(picked) && Exit.isSuccess(picked)) endpoint = (picked.value as Endpoint | null) ?? undefined
    }
    const pool = endpoint === undefined ? undefined : roster.pools.get(endpoint.address)
    const calls = pool?.take()
    if (pool === undefined || calls === undefined || calls.needsJson(call)) {
      const first = endpoint === undefined ? picked : Effect.succeed(endpoint)
      const pick = first === undefined ? undefined : {
        endpoint: first,
        changes,
        failures: call.since,
        version,
        exclusion: this.exclusions.known,
        at: 0
      }
      this.failover.start(call, this.keep(args), pick)
      return undefined
    }
    endpoints.noteSent(pool)
    calls.send(call, args)
    return call
  }

  /**
   * Opens a stream at once where that can be done, and returns it; else its failover goes on with it. It is apart from
   * `submit`, so that calls need not look whether they are streams. Through the failover, the first item took twice as
   * long as a call.
   */
  private openNow(call: Call, args: Uint8Array, context: Context.Context<never>): Call | undefined {
    const { options } = call
    const { endpoints, immediate } = this
    const { roster } = endpoints
    call.since = roster.failures
    if (immediate === undefined || options?.balancer !== undefined) {
      this.failover.start(call, args, undefined)
      return undefined
    }
    const changes = endpoints.changes.version
    const { version } = roster
    const endpoint = immediate[pickNow](this.pickOptions(this.balancer, options?.shardKey), context)
    const pool = endpoint === undefined ? undefined : roster.pools.get(endpoint.address)
    const calls = pool?.takeForStream()
    if (pool !== undefined && calls !== undefined && calls.understandsStreams && !calls.needsJson(call)) {
      endpoints.noteSent(pool)
      calls.open(call, args)
      return call
    }
    const pick = endpoint === undefined ? undefined : {
      endpoint: Effect.succeed(endpoint),
      changes,
      failures: call.since,
      version,
      exclusion: this.exclusions.known,
      at: 0
    }
    this.failover.start(call, args, pick)
    return undefined
  }

  private pickOptions(balancer: Balancer, shardKey: bigint | undefined): PickOptions {
    const avoid = excludedFor(this.exclusions.now(), balancer, shardKey)
    if (shardKey !== undefined) return { shardKey, avoid }
    return avoid === noAddresses ? this.plainPick : { avoid }
  }

  /** Arguments that outlast the turn: a copy, unless they are so large that they are ours. */
  private keep(args: Uint8Array): Uint8Array {
    return args.length < this.writeFlattenLimit ? ownCopy(args, 0, args.length) : args
  }
}
