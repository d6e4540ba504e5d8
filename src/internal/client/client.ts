/**
 * A Connection: endpoints from a resolver, a {@link Pool} of connections to each, a balancer that picks, and calls.
 *
 * A call on a connection that is open is plain synchronous code inside one `Effect.callback`. Everything else (dialing, failing over,
 * waiting) is the slow path, an Effect that ends on the same code.
 */
import * as Cause from "effect/Cause"
import type * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import type * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Tracer from "effect/Tracer"
import type { Balancer, PickOptions } from "../../Balancer.ts"
import { type CallError, CommunicationError, DeadlineExceeded, Unreachable } from "../../CallError.ts"
import type { Endpoint } from "../../Endpoint.ts"
import type { MethodKey } from "../../MethodKey.ts"
import type { Resolution, ResolverError } from "../../Resolver.ts"
import { type CallOptions, mergeOptions } from "../ambient/callOptions.ts"
import { remainingMillis, type Value as Deadline } from "../ambient/deadline.ts"
import { Region } from "../ambient/turn.ts"
import { nothing } from "../balancer/free.ts"
import {
  checkedBalancer,
  type ImmediateBalancer,
  isImmediate,
  isShardKey,
  isSticky,
  maxShardKey,
  pickNow,
  pickOf
} from "../balancer/model.ts"
import { listFailures } from "../failures.ts"
import { effectOf, notAnEffect, shown, unexpected } from "../guard.ts"
import { LogQueue } from "../log.ts"
import { ownCopy } from "../memory/bytes.ts"
import { invalid } from "../options.ts"
import { requestHeaderSize } from "../protocol/request.ts"
import { uniform } from "../random.ts"
import { distinct } from "../resolver/endpoints.ts"
import type { Audience } from "../resolver/watch.ts"
import { clientMetrics } from "../telemetry/metrics.ts"
import { errorType } from "../telemetry/span.ts"
import { nowMillis, nowTicks, secondsBetween, sleepMillis } from "../time/clock.ts"
import { isInstance, textOf } from "../userError.ts"
import { Warnings } from "../warnings.ts"
import { avoid, type Avoided, nothingAvoided } from "./avoidance.ts"
import { Call, type CalledEndpoint, type CallOwner, misuse } from "./call.ts"
import { Changes } from "./changes.ts"
import { Down } from "./down.ts"
import { closedError } from "./errors.ts"
import type { LinkCalls } from "./linkCalls.ts"
import type { ConnectionState } from "./model.ts"
import type { ClientSettings } from "./options.ts"
import { Outliers } from "./outliers.ts"
import { Pool, type PoolOwner, type PoolSettings } from "./pool.ts"
import { Retries } from "./retry.ts"
import { Roster } from "./roster.ts"
import type { Resume, TypedRequest } from "./typed.ts"

/** The span that a call is part of. Those of code whose tracing is off are passed over, as Effect does where it looks for a span's parent. */
const tracedSpan = (current: Tracer.AnySpan | undefined): Tracer.AnySpan | undefined => {
  let span = current
  while (span !== undefined && Context.get(span.annotations, Tracer.DisablePropagation)) {
    span = span._tag === "Span" ? Option.getOrUndefined(span.parent) : undefined
  }
  return span
}

/**
 * A call is still ours, with these arguments: its connection was lost before its request had left, or its server has
 * refused it, since its contract differs.
 */
class Unsent {
  readonly args: Uint8Array
  readonly isLost: boolean
  constructor(args: Uint8Array, isLost: boolean) {
    this.args = args
    this.isLost = isLost
  }
}

/** A balancer's pick, and what was known when it was asked. */
interface Pick {
  readonly endpoint: Effect.Effect<Endpoint, Unreachable>
  /** How often something had changed. */
  readonly changes: number
  /** The number of the last failure of an endpoint, and how often anything had changed about which can be dialed. */
  readonly failures: number
  readonly version: number
  /** What there was to avoid. */
  readonly avoided: Avoided
  /** When that was looked up, in milliseconds of the clock; 0 where that was not noted. */
  readonly at: number
}

/** What a call has been through on the slow path. */
interface Attempts {
  /**
   * The number of the last failure of an endpoint before it began: those that have failed since then count as tried.
   */
  readonly since: number
  /** Another one where it begins anew: balancers may keep what they were given. */
  tried: Set<string>
  readonly failures: Map<string, string>
  /** How many connections to an endpoint were lost before the request left. */
  readonly losses: Map<string, number>
  /**
   * Whether a server has refused it, since its contract differs. From then on it goes in JSON, which any of them reads.
   */
  isRefused: boolean
  /** The endpoint whose connection, or room on it, it waits for now. */
  waitsFor: Pool | undefined
}

const noAttempts = (since: number, isRefused = false): Attempts => ({
  since,
  tried: new Set(),
  failures: new Map(),
  losses: new Map(),
  isRefused,
  waitsFor: undefined
})

/** Whether an endpoint counts as tried for a call. */
const isTried = ({ since, tried }: Attempts, { address, failureNumber }: Pool): boolean =>
  failureNumber > since || tried.has(address)

/** An error that calls share. */
interface SharedError {
  readonly error: Unreachable
  /** Whether it is of all endpoints, or else of those in backoff. */
  readonly isOfAll: boolean
  /** Until when it holds, in milliseconds of the clock. */
  readonly until: number
}

/** What a balancer is to avoid: for a key that has one endpoint only what there is no way round. */
const choose = (avoided: Avoided, balancer: Balancer, shardKey: bigint | undefined): ReadonlySet<string> =>
  given(
    balancer,
    avoided.all === avoided.forShards || shardKey === undefined || !isSticky(balancer)
      ? avoided.all
      : avoided.forShards
  )

/** A balancer of a user's own may keep what it is given: it gets what stays as it is. */
const given = (balancer: Balancer, avoid: ReadonlySet<string>): ReadonlySet<string> =>
  avoid instanceof Down && !isImmediate(balancer) ? avoid.all : avoid

export class Client implements PoolOwner, CallOwner, Audience {
  private readonly settings: PoolSettings & Omit<ClientSettings, "metrics">
  private readonly clock: Clock.Clock
  private readonly balancer: Balancer
  private readonly scope: Scope.Closeable
  private readonly maxArgs: number
  private readonly roster = new Roster()
  private readonly pools = this.roster.pools
  private endpoints: ReadonlyArray<Endpoint> = []
  /** Why there are no endpoints, or fewer than there should be, as the resolver has said last. */
  private problem: string | undefined = undefined
  /** Why the resolver failed the last time; undefined where it has answered since. */
  private resolverFailure: string | undefined = undefined
  /** What calls may wait for: other endpoints, endpoints that are no longer left alone, or the end of it all. */
  private readonly changes = new Changes()
  /** What is known of the endpoints, in their order. */
  private views: ReadonlyArray<Pool> = []
  /**
   * The error of calls that had no endpoint left, and for whom it is the same; undefined where something has changed
   * since.
   */
  private unreachableNow: SharedError | undefined = undefined
  /** What balancers are to avoid; undefined where that is to be found out anew. */
  private avoidedNow: Avoided | undefined = nothingAvoided
  /** What calls were to avoid that began after the failure `since`, in a version of the roster. */
  private lastSeen: { readonly avoided: Avoided; readonly since: number; readonly version: number } | undefined =
    undefined
  /** Whether some of them have another priority than others. */
  private hasPriorities = false
  /** What can be seen of the state. */
  private readonly stateChanges = new Changes()
  private closed = false
  /** For calls that wait to be made again. */
  private readonly shutdown = Deferred.makeUnsafe<void>()
  private readonly plainPick: PickOptions = { avoid: nothing }
  private readonly region = new Region()
  private readonly logs: LogQueue
  private readonly outliers: Outliers | undefined
  private readonly retries: Retries
  private lastTimeout: string | undefined = undefined
  private lastMillis = 0
  /** The Connection's own balancer, where it can pick at once: to ask whether it can took 14 ns of each call. */
  private readonly immediate: ImmediateBalancer | undefined

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
    this.logs = new LogQueue(context)
    this.settings = {
      ...settings,
      clock,
      context,
      scope,
      metrics,
      onTrouble,
      turn: this.region,
      logs: this.logs,
      warnings: new Warnings(clock),
      random: () => uniform(random)
    }
    this.clock = clock
    this.balancer = balancer
    this.immediate = isImmediate(balancer) ? balancer : undefined
    this.scope = scope
    const { outlierEjection } = settings
    // Not even counted where nobody would go by it.
    this.outliers = outlierEjection === undefined || (isSticky(balancer) && !outlierEjection.ejectsShards)
      ? undefined
      : new Outliers(outlierEjection)
    this.retries = new Retries(clock, settings.retryBudget, Deferred.await(this.shutdown))
    this.maxArgs = settings.maxMessageSize - requestHeaderSize
  }

  /** Makes a call. `args` are copied before this suspends, unless they are as large as `writeFlattenLimit` or larger. */
  call(key: MethodKey, args: Uint8Array, options: CallOptions | undefined): Effect.Effect<Uint8Array, CallError> {
    // An answer is bytes where nobody has asked for it to be decoded.
    return Effect.callback<Uint8Array, CallError>((resume) =>
      this.start(key, args, options, undefined, resume as Resume)
    )
  }

  /** Starts a typed call. It is to be called where `Effect.callback` registers. */
  startTyped<A, E>(request: TypedRequest<A, E>, resume: Resume<A, E | CallError>): Effect.Effect<void> | void {
    // It is resumed with what `decode` makes of the answer, or with a CallError.
    return this.start(request.method.key, request.args, request.options, request, resume as Resume)
  }

  /** Begins with what the resolver has answered first. */
  begin(resolution: Resolution): void {
    this.unchanged(resolution)
    this.update(resolution.endpoints)
  }

  /** Takes over what the resolver has answered anew. */
  readonly changed = (resolution: Resolution): void => {
    this.begin(resolution)
    // Without a version nobody knows whether anything has changed.
    if (resolution.version !== undefined && this.settings.metrics !== undefined) this.settings.metrics.resolverUpdates++
  }

  /** Takes over nothing but what the resolver says of its endpoints. */
  readonly unchanged = ({ problem }: Resolution): void => {
    this.problem = problem === undefined ? undefined : textOf(problem)
    this.resolverFailure = undefined
    this.unreachableNow = undefined
  }

  /** The resolver has failed; its last endpoints stay in use. */
  readonly failed = (cause: Cause.Cause<ResolverError>): void => {
    this.resolverFailure = textOf(Cause.squash(cause))
    this.unreachableNow = undefined
    if (this.settings.metrics !== undefined) this.settings.metrics.resolverFailures++
  }

  /** Takes over a new set of endpoints, which was checked; of several with one address the first counts. */
  update(listed: ReadonlyArray<Endpoint>): void {
    if (this.closed) return
    const endpoints = distinct(listed)
    const hasPriorities = endpoints.some(({ priority = 0 }) => priority !== (endpoints[0]?.priority ?? 0))
    const views = endpoints.map((endpoint) =>
      this.pools.get(endpoint.address) ?? new Pool(endpoint, this.settings, this)
    )
    // First, since it is the only one that is not ours and may fail.
    this.balancer.update(endpoints, views)
    this.endpoints = endpoints
    this.views = views
    this.hasPriorities = hasPriorities
    for (const pool of views) this.roster.add(pool)
    for (const [index, pool] of views.entries()) {
      const endpoint = endpoints[index]
      if (endpoint !== undefined) pool.list(endpoint)
    }
    const isListed = new Set(views)
    const others = [...this.pools.values()].filter((pool) => !isListed.has(pool))
    // Before any call hears of it.
    for (const pool of others) this.roster.remove(pool)
    for (const pool of others) {
      this.outliers?.forget(pool)
      pool.unlist()
    }
    this.outliers?.limitTo(endpoints.length)
    this.avoidedNow = undefined
    this.unreachableNow = undefined
    this.stateChanges.noteForLater()
    this.changes.note()
  }

  /** Ends calls, dials and waits, and refuses what comes later. */
  shut(): void {
    if (this.closed) return
    this.closed = true
    for (const pool of [...this.pools.values()]) pool.close()
    this.changes.note()
    this.stateChanges.noteForLater()
    Deferred.doneUnsafe(this.shutdown, Exit.void)
  }

  readonly close: Effect.Effect<void> = Effect.suspend(() => {
    this.shut()
    this.logs.flush()
    return Scope.close(this.scope, Exit.void)
  })

  readonly state: Effect.Effect<ConnectionState> = Effect.sync(() => ({
    closed: this.closed,
    endpoints: [...this.pools.values()].map((pool) => ({
      address: pool.address,
      state: pool.state,
      callsInFlight: pool.callsInFlight,
      inBackoff: pool.backoffUntil > nowMillis(this.clock),
      isEjected: this.outliers?.isLeftAlone(pool, nowMillis(this.clock)) ?? false,
      isServing: pool.isServing,
      latency: pool.latency,
      lastFailure: pool.lastFailure
    }))
  }))

  /** The state, and the next one whenever an endpoint comes, goes, or is in another state; ends when it is closed. */
  readonly changesOfState: Stream.Stream<ConnectionState> = Stream.unfold(
    -1,
    (seen: number | undefined) =>
      seen === undefined ? Effect.succeed(undefined) : Effect.map(
        Effect.andThen(this.stateChanges.after(seen), this.state),
        (state) => [state, state.closed ? undefined : this.stateChanges.count] as const
      )
  )

  onOpen(pool: Pool): void {
    if (this.outliers?.connected(pool, nowMillis(this.clock)) === true) {
      this.avoidedNow = undefined
      // For calls that wait because their balancer has no other.
      this.changes.note()
    }
    if (!this.settings.eager) return
    // Calls that were made before any endpoint was connected need not wait for one whose dial takes longer.
    for (const other of this.views) if (other !== pool && !other.isOpen) other.withdraw()
  }

  onHealth(pool: Pool): void {
    this.avoidedNow = undefined
    this.stateChanges.noteForLater()
    // For calls that wait because their balancer has no other.
    this.changes.note()
    pool.log.debug(pool.isServing ? "an endpoint serves" : "an endpoint does not serve", "it says so")
  }

  onChange(pool: Pool): void {
    this.unreachableNow = undefined
    // Else it only matters which are open where there is a choice.
    if (this.roster.noteChange(pool) || this.hasChoice) this.avoidedNow = undefined
    this.stateChanges.noteForLater()
  }

  onFailed(pool: Pool): void {
    this.roster.noteFailure(pool)
    this.onDown(pool)
  }

  onDown(pool: Pool): void {
    if (this.outliers?.down(pool, nowMillis(this.clock)) === true) this.avoidedNow = undefined
  }

  onBackoff(pool: Pool): void {
    this.roster.noteBackoff(pool)
    this.avoidedNow = undefined
    this.unreachableNow = undefined
  }

  onGone(pool: Pool): void {
    if (this.pools.get(pool.address) === pool) this.pools.delete(pool.address)
    this.roster.remove(pool)
    this.avoidedNow = undefined
    this.unreachableNow = undefined
    this.outliers?.forget(pool)
    this.stateChanges.noteForLater()
  }

  onAnswered(pool: Pool): void {
    if (this.outliers?.forget(pool) !== true) return
    this.avoidedNow = undefined
    this.stateChanges.noteForLater()
    pool.log.debug("an endpoint is used again", "a call was answered")
    // For those that wait because their balancer has no other.
    this.changes.note()
  }

  onCallFailed(pool: Pool): void {
    if (!pool.listed || this.closed || this.outliers === undefined) return
    const isNew = !this.outliers.has(pool)
    if (!this.outliers.failed(pool, this.endpoints.length, nowMillis(this.clock))) return
    this.avoidedNow = undefined
    this.stateChanges.noteForLater()
    const reason = isNew ? `${pool.failuresInARow} of its calls in a row have failed` : "the next one has failed, too"
    if (isNew) pool.log.warn("an endpoint is ejected", reason)
    else pool.log.debug("an endpoint is ejected", reason)
    // Those who wait for it need not any more, where there are others.
    if (isNew) pool.withdraw()
  }

  onUnsent(call: Call, endpoint: CalledEndpoint, args: Uint8Array): void {
    const attempts = this.begun(call)
    noteUnsent(attempts, endpoint)
    call.resume(this.slow(call, args, undefined, attempts))
  }

  onRefused(call: Call): void {
    // A typed call has its arguments with it.
    const args = call.typed?.args
    if (args === undefined) return
    call.resume(this.slow(call, args, undefined, this.begun(call, true)))
  }

  /** The fast path: everything that can be done at once is done here, the rest is left to {@link slow}. */
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
    const region = this.region
    region.enter(fiber.context)
    const outer = region.options
    const ambient = region.deadline
    const options = outer === undefined ? given : given === undefined ? outer : mergeOptions(outer, given)
    const timeout = options?.timeout
    // Read once, and only where there is a deadline.
    const now = timeout === undefined && ambient === undefined ? 0 : nowMillis(this.clock)
    const deadlineAt = this.deadlineOf(ambient, timeout, now)
    const trace = tracedSpan(typed?.span ?? fiber.cache.span)
    const call = new Call(key, options, deadlineAt, trace, typed, resume, this)
    if (options?.retry !== undefined) {
      if (!Schedule.isSchedule(options.retry)) return invalid("retry", options.retry, "a Schedule")
      // Those of a typed call are ours, and go with the format that it has come to be in.
      const kept = typed === undefined ? this.keep(args) : args
      this.retries.watch(
        call,
        options.retry,
        (call) => this.submit(call, call.typed?.args ?? kept, fiber.context, nowMillis(this.clock))
      )
    }
    const sent = this.submit(call, args, fiber.context, now)
    // What was sent is flushed, or lost with its connection: either way it is let go of.
    if (sent !== undefined) region.keep(fiber.context, outer, ambient)
    return sent
  }

  /** Sends a call at once, if that can be done, and gives it back; else it is resumed with what is to be done. */
  private submit(call: Call, args: Uint8Array, context: Context.Context<never>, now: number): Call | undefined {
    const { options, typed } = call
    const refused = this.refusal(call, typed === undefined ? args.length : typed.lead.length + args.length, now)
    if (refused !== undefined) {
      this.countUnsent(call, refused._tag)
      call.resume(Effect.fail(refused))
      return undefined
    }

    let balancer = this.balancer
    let immediate = this.immediate
    if (options?.balancer !== undefined) {
      balancer = checkedBalancer(options.balancer)
      immediate = isImmediate(balancer) ? balancer : undefined
      balancer.update(this.endpoints, this.views)
    }
    call.since = this.roster.failures
    const changes = this.changes.count
    const { version } = this.roster
    let endpoint: Endpoint | undefined
    let picked: Effect.Effect<Endpoint, Unreachable> | undefined
    if (immediate !== undefined) {
      endpoint = immediate[pickNow](this.pickOptions(options), context)
    } else {
      // Whatever its type says, it may be nothing.
      picked = balancer.pick(this.pickOptions(options)) ??
        Effect.die(notAnEffect("the pick of the balancer", undefined))
      // What has succeeded already need not be run. `isExit` forgets the type of the value.
      if (Exit.isExit(picked) && Exit.isSuccess(picked)) endpoint = (picked.value as Endpoint | null) ?? undefined
    }
    const pool = endpoint === undefined ? undefined : this.pools.get(endpoint.address)
    const calls = pool?.take()
    if (pool === undefined || calls === undefined || calls.needsJson(call)) {
      const first = endpoint === undefined ? picked : Effect.succeed(endpoint)
      const avoided = this.avoidedNow ?? nothingAvoided
      const pick = first === undefined ? undefined : {
        endpoint: first,
        changes,
        failures: call.since,
        version,
        avoided,
        at: 0
      }
      call.resume(this.slow(call, this.keep(args), pick, this.begun(call)))
      return undefined
    }
    if (this.outliers !== undefined && this.outliers.size > 0) this.noteSent(pool, this.outliers)
    calls.send(call, args)
    return call
  }

  /** What a call has been through that comes to the slow path. */
  private begun({ options, since }: Call, isRefused = false): Attempts {
    // One that waits for endpoints goes by their backoffs.
    return noAttempts(options?.waitForReady === true ? Infinity : since, isRefused)
  }

  /** A call is about to be sent, while some endpoints are left alone. */
  private noteSent(pool: Pool, outliers: Outliers): void {
    if (outliers.sent(pool, nowMillis(this.clock))) this.avoidedNow = undefined
  }

  private deadlineOf(ambient: Deadline | undefined, timeout: Duration.Input | undefined, now: number): number {
    let deadlineAt = Infinity
    if (ambient !== undefined) {
      deadlineAt = ambient.clock === this.clock ? ambient.at : now + remainingMillis(ambient)
    }
    return timeout === undefined ? deadlineAt : Math.min(deadlineAt, now + this.millisOf(timeout))
  }

  /** A timeout in milliseconds. Nearly always it is the text that it was the last time: to read it took a third of a call. */
  private millisOf(timeout: Duration.Input): number {
    if (timeout === this.lastTimeout) return this.lastMillis
    const parsed = Duration.fromInput(timeout)
    if (parsed._tag === "None" || Number.isNaN(timeout)) return invalid("timeout", timeout, "a duration")
    const millis = Duration.toMillis(parsed.value)
    if (typeof timeout === "string") {
      this.lastTimeout = timeout
      this.lastMillis = millis
    }
    return millis
  }

  /** Why a call fails before anything is tried. */
  private refusal(call: Call, size: number, now: number): CallError | undefined {
    if (this.closed) return closedError(undefined, false)
    const tooLarge = this.tooLarge(call, size)
    if (tooLarge !== undefined) return tooLarge
    if (call.deadlineAt <= now) {
      return new DeadlineExceeded({ message: `deadline exceeded: ${call.method} was not sent, since no time was left` })
    }
    const shardKey = call.options?.shardKey
    if (shardKey !== undefined && !isShardKey(shardKey)) {
      return new Unreachable({
        message: `shard key ${
          typeof shardKey === "bigint" ? shardKey : shown(shardKey)
        } of ${call.method} is not a u64: expected a bigint from 0 to ${maxShardKey}`,
        attempts: []
      })
    }
    return undefined
  }

  private tooLarge(call: Call, size: number): CommunicationError | undefined {
    return size <= this.maxArgs ? undefined : new CommunicationError({
      reason: { _tag: "TooLarge" },
      message: `the arguments of ${call.method} are ${size} bytes, expected at most ${this.maxArgs}`,
      maybeExecuted: false
    })
  }

  private pickOptions(options: CallOptions | undefined): PickOptions {
    const shardKey = options?.shardKey
    const avoid = this.avoided(options?.balancer ?? this.balancer, shardKey)
    if (shardKey !== undefined) return { shardKey, avoid }
    return avoid === nothing ? this.plainPick : { avoid }
  }

  /** The addresses that a balancer is to avoid now. Nearly always there are none, and the clock is not read. */
  private avoided(balancer: Balancer, shardKey: bigint | undefined): ReadonlySet<string> {
    let avoided = this.avoidedNow
    if (avoided === undefined || (avoided.until !== Infinity && avoided.until <= nowMillis(this.clock))) {
      avoided = this.avoidedNow = this.lookAround(Infinity, nothing)
    }
    return choose(avoided, balancer, shardKey)
  }

  /**
   * Finds out what is to be avoided, by a call that has begun after the failure `since` and has tried some endpoints
   * itself.
   */
  private lookAround(since: number, tried: ReadonlySet<string>): Avoided {
    const { outliers, roster } = this
    const now = nowMillis(this.clock)
    roster.settle(now)
    const isPlain = tried.size === 0 && !this.hasChoice && (outliers === undefined || outliers.size === 0)
    const last = this.lastSeen
    // Many calls may fail at a time, and balancers find out once what it means for them.
    if (isPlain && last !== undefined && last.since === since && last.version === roster.version) return last.avoided
    const avoided = this.lookAroundAt(now, since, tried)
    this.lastSeen = isPlain ? { avoided, since, version: roster.version } : undefined
    return avoided
  }

  private lookAroundAt(now: number, since: number, tried: ReadonlySet<string>): Avoided {
    const { outliers, roster } = this
    const hard = since >= roster.failures && tried.size === 0 && !roster.hasBackoff
      ? nothing
      : new Down(roster, since, tried, now)
    const ejected = new Set<string>()
    let { until } = roster
    if (outliers !== undefined && outliers.size > 0) until = Math.min(until, outliers.addTo(ejected, now))
    if (hard === nothing && ejected.size === 0 && !this.hasChoice) return nothingAvoided
    const forShards = ejected.size === 0 || this.settings.outlierEjection?.ejectsShards !== true
      ? hard
      : new Set([...hard, ...ejected])
    const all = ejected.size === 0 && !this.hasChoice
      ? hard
      : avoid(this.views, hard, ejected, this.settings.eager)
    return { hard, forShards, all, until }
  }

  /** Whether some of the endpoints may be better than others though all can be called. */
  private get hasChoice(): boolean {
    return this.settings.eager || this.settings.health !== undefined || this.hasPriorities
  }

  /** Arguments that outlast the turn: a copy, unless they are so large that they are ours. */
  private keep(args: Uint8Array): Uint8Array {
    return args.length < this.settings.writeFlattenLimit ? ownCopy(args, 0, args.length) : args
  }

  /** Takes a call to its end from wherever it is, within its deadline. */
  private slow(
    call: Call,
    args: Uint8Array,
    first: Pick | undefined,
    attempts: Attempts
  ): Effect.Effect<unknown, unknown> {
    if (call.startedAt === -1) call.startedAt = nowTicks(this.clock)
    const body = this.attempt(call, args, first, attempts)
    const timed = call.deadlineAt === Infinity ? body : Effect.raceFirst(
      body,
      Effect.flatMap(
        Effect.suspend(() => sleepMillis(this.clock, call.deadlineAt - nowMillis(this.clock))),
        () => Effect.fail(new DeadlineExceeded({ message: this.deadlineMessage(call, attempts) }))
      )
    )
    if (this.settings.metrics === undefined) return timed
    return Effect.onExit(timed, (exit) =>
      Effect.sync(() => {
        if (Exit.isFailure(exit)) this.countUnsent(call, errorType(exit.cause))
      }))
  }

  /** Counts the end of a call that was given up without having been sent. */
  private countUnsent(call: Call, failure: string): void {
    if (call.counted) return
    const seconds = call.startedAt === -1 ? 0 : secondsBetween(call.startedAt, nowTicks(this.clock))
    this.settings.metrics?.unreachable.method(call.key).record(seconds, failure)
  }

  private deadlineMessage(call: Call, attempts: Attempts): string {
    const late = `deadline exceeded: no answer to ${call.method} in time`
    const wasSent = call.owner !== this
    if (this.endpoints.length === 0 && !wasSent) return this.withResolver(`${late}; there are no endpoints`)
    const all = new Map(attempts.failures)
    const { waitsFor } = attempts
    if (waitsFor !== undefined && !wasSent) {
      // It may have come back to one that has failed: what counts is the last.
      all.delete(waitsFor.address)
      all.set(waitsFor.address, waitsFor.isOpen ? "there was no room on its connection" : "it was still being dialed")
    }
    const failures = listFailures([...all].map(([endpoint, message]) => ({ endpoint, message })))
    return failures === "" ? late : this.withResolver(`${late}; ${failures}`)
  }

  /** What there is to say of a call that has no endpoint, and what the resolver has to do with that. */
  private withResolver(message: string): string {
    const { endpoints, problem, resolverFailure } = this
    const why = problem === undefined ? "" : `${endpoints.length === 0 ? ":" : ";"} ${problem}`
    return resolverFailure === undefined
      ? `${message}${why}`
      : `${message}${why}; the resolver failed: ${resolverFailure}`
  }

  /** Picks, dials, sends; and again with another endpoint until one has taken the request or none is left. */
  private readonly attempt = Effect.fnUntraced({ self: this }, function*(
    call: Call,
    given: Uint8Array,
    first: Pick | undefined,
    attempts: Attempts
  ): Effect.fn.Return<unknown, unknown> {
    let args = given
    let next = first
    while (true) {
      if (this.closed) return yield* closedError(undefined, false)
      const pick: Pick = next ?? this.pick(call, attempts)
      next = undefined
      let picked = yield* this.picked(pick)
      // Better one that is left alone than none, unless whoever picks had no other to begin with.
      if (picked._tag === "Failure" && this.mayTakeAny(call, pick)) {
        picked = yield* this.picked(this.pick(call, attempts, true))
      }
      // Whatever its type says, it may be anything.
      if (picked._tag === "Success" && typeof (picked.success as Endpoint | undefined)?.address !== "string") {
        return yield* Effect.die(unexpected("the pick of the balancer", "an Endpoint", picked.success))
      }
      const pool = picked._tag === "Failure" ? undefined : this.pools.get(picked.success.address)
      // It has failed while the balancer took its time: no fault of it, and there may be others.
      if (pool !== undefined && pool.failureNumber > pick.failures) continue
      // A balancer that does not avoid what was tried has nothing else to offer.
      if (
        picked._tag === "Failure" || attempts.tried.has(picked.success.address) ||
        (pool !== undefined && isTried(attempts, pool))
      ) {
        const error = picked._tag === "Failure" ? unreachableOf(picked.failure) : Unreachable.fromAttempts([])
        if (call.options?.waitForReady !== true) return yield* this.unreachable(error, attempts, pick)
        yield* this.waitForChange(pick, attempts)
        attempts.tried = new Set()
        continue
      }
      const endpoint = picked.success
      if (pool === undefined || !pool.listed) {
        // The endpoints have changed since they were given to the balancer: no fault of it.
        if (this.changes.count !== pick.changes || this.closed) continue
        return yield* Effect.die(
          new Error(
            `the balancer picked ${endpoint.address}, which is none of the ${this.endpoints.length} endpoints it was given`
          )
        )
      }
      if (pool.backoffUntil > nowMillis(this.clock)) {
        attempts.tried.add(pool.address)
        attempts.failures.set(pool.address, pool.lastFailure ?? "it is in backoff")
        continue
      }
      if (this.outliers !== undefined && this.outliers.size > 0) {
        if (!pool.isOpen && !this.hasOne(call) && this.outliers.dialed(pool, nowMillis(this.clock))) {
          this.avoidedNow = undefined
          pool.dial()
          continue
        }
        // Before it waits: meanwhile others leave it alone.
        this.noteSent(pool, this.outliers)
      }
      const calls = pool.take() ?? (yield* this.ready(call, pool, attempts))
      if (calls === undefined) continue
      if (attempts.isRefused || calls.needsJson(call)) args = yield* this.inJson(call, args)
      const outcome = yield* this.sendOn(calls, call, args)
      if (!(outcome instanceof Unsent)) return outcome
      if (outcome.isLost) noteUnsent(attempts, pool)
      else attempts.isRefused = true
      args = outcome.args
    }
  })

  /** What a balancer picks. One of a user's own may take its time, or never be done: that ends with the Connection. */
  private picked({ endpoint }: Pick): Effect.Effect<Result.Result<Endpoint, Unreachable>, CallError> {
    return Effect.flatMap(
      Effect.forkChild(Effect.result(effectOf("the pick of the balancer", () => endpoint)), { startImmediately: true }),
      (picking) =>
        // Nearly always it is done at once.
        picking.pollUnsafe() ?? Effect.raceFirst(
          Fiber.join(picking),
          Effect.andThen(
            Deferred.await(this.shutdown),
            Effect.suspend(() => Effect.fail(closedError(undefined, false)))
          )
        ).pipe(Effect.ensuring(Effect.sync(() => picking.interruptUnsafe())))
    )
  }

  /** Whether there is more for a call than the balancer was offered, and it may go where it had better not. */
  private mayTakeAny(call: Call, { avoided }: Pick): boolean {
    return avoided.all !== avoided.hard && !this.hasOne(call)
  }

  /** Whether there is but one endpoint that a call can go to. */
  private hasOne({ options }: Call): boolean {
    return options?.shardKey !== undefined && isSticky(options.balancer ?? this.balancer)
  }

  private pick(call: Call, attempts: Attempts, any = false): Pick {
    const balancer = call.options?.balancer ?? this.balancer
    if (call.options?.balancer !== undefined) balancer.update(this.endpoints, this.views)
    const at = nowMillis(this.clock)
    const avoided = this.lookAround(attempts.since, attempts.tried)
    const shardKey = call.options?.shardKey
    const avoid = any ? given(balancer, avoided.hard) : choose(avoided, balancer, shardKey)
    const endpoint = pickOf(balancer, shardKey === undefined ? { avoid } : { shardKey, avoid })
    const { failures, version } = this.roster
    return { endpoint, changes: this.changes.count, failures, version, avoided, at }
  }

  /** Waits for a connection of the pool, with room for a call; undefined where there was none to be had, which is noted. */
  private ready(call: Call, pool: Pool, attempts: Attempts): Effect.Effect<LinkCalls | undefined, CallError> {
    attempts.waitsFor = pool
    const waiting = Effect.flatMap(pool.acquire(), (dialed): Effect.Effect<LinkCalls | undefined, CallError> => {
      attempts.waitsFor = undefined
      switch (dialed._tag) {
        case "Ready": {
          const { calls } = dialed
          if (calls.hasRoom()) return Effect.succeed(calls)
          attempts.waitsFor = pool
          // By then the endpoint may be listed no longer, or have no connection.
          return Effect.map(pool.room.whenRoom(), () => {
            attempts.waitsFor = undefined
            return pool.take()
          })
        }
        case "Failed":
          // Else its failure says so itself.
          if (!isTried(attempts, pool)) attempts.tried.add(pool.address)
          attempts.failures.set(pool.address, dialed.message)
          return Effect.succeed(undefined)
        case "Withdrawn":
          return Effect.succeed(undefined)
        case "Closed":
          return Effect.fail(closedError(undefined, false))
      }
    })
    if (call.deadlineAt === Infinity) return waiting
    // Whoever waits for the deadline interrupts this. A clock may say a little less than it was asked to sleep, by
    // rounding.
    return Effect.onInterrupt(waiting, () =>
      Effect.sync(() => {
        if (nowMillis(this.clock) - call.deadlineAt > -0.001) pool.onCallFailed()
      }))
  }

  /**
   * Puts a typed call into JSON, which a server with another contract reads by the names in it. Gives back its
   * arguments.
   */
  private inJson(call: Call, args: Uint8Array): Effect.Effect<Uint8Array, CallError> {
    const { typed } = call
    if (typed?.method.inJson === undefined) return Effect.succeed(args)
    return Effect.flatMap(typed.method.inJson(typed), (typed) => {
      call.typed = typed
      const refused = this.tooLarge(call, typed.lead.length + typed.args.length)
      return refused === undefined ? Effect.succeed(typed.args) : Effect.fail(refused)
    })
  }

  /** Sends a call and waits for its end; a request that never left comes back. */
  private sendOn(calls: LinkCalls, call: Call, args: Uint8Array): Effect.Effect<unknown, unknown> {
    return Effect.callback<unknown, unknown>((resume) => {
      if (!calls.isOpen) return resume(Effect.succeed(new Unsent(args, true)))
      call.resume = resume
      call.owner = {
        onUnsent: (_call, _endpoint, args) => resume(Effect.succeed(new Unsent(args, true))),
        onRefused: ({ typed }) => resume(Effect.succeed(new Unsent(typed?.args ?? args, false)))
      }
      calls.send(call, args)
      return call
    })
  }

  /**
   * The error of a call that has no endpoint left: the last failure of each, or else what the balancer said; and what
   * the resolver says. To make one for a thousand endpoints takes as long as the rest of some hundred calls.
   */
  private unreachable(error: Unreachable, attempts: Attempts, { avoided: { hard }, version }: Pick): Unreachable {
    const now = nowMillis(this.clock)
    const { roster, unreachableNow: known } = this
    roster.settle(now)
    const isOfAll = !roster.hasFree(attempts.since)
    const isOfBackoffs = attempts.since >= roster.failures && attempts.tried.size === 0
    if (hard === nothing || !(isOfAll || isOfBackoffs) || !this.saysTheSame(attempts)) {
      return this.ownUnreachable(error, attempts, hard)
    }
    if (known !== undefined && (isOfAll ? known.isOfAll : !known.isOfAll && now < known.until)) return known.error
    const made = this.ownUnreachable(error, attempts, hard)
    // Where its balancer has taken its time, others are told more by now than this one was.
    if (made.attempts.length > 0 && version === roster.version) {
      this.unreachableNow = { error: made, isOfAll, until: roster.until }
    }
    return made
  }

  /** Whether a call has met nothing but what is known of the endpoints. */
  private saysTheSame({ failures }: Attempts): boolean {
    for (const [address, message] of failures) {
      const pool = this.pools.get(address)
      if (pool?.listed !== true || pool.lastFailure !== message) return false
    }
    return true
  }

  private ownUnreachable(error: Unreachable, attempts: Attempts, hard: ReadonlySet<string>): Unreachable {
    const failures = new Map(attempts.failures)
    for (const address of hard) {
      const failure = this.pools.get(address)?.lastFailure
      if (failure !== undefined && !failures.has(address)) failures.set(address, failure)
    }
    const known = failures.size === 0
      ? error
      : Unreachable.fromAttempts([...failures].map(([endpoint, message]) => ({ endpoint, message })))
    const message = this.withResolver(known.message)
    return message === known.message ? known : new Unreachable({ message, attempts: known.attempts })
  }

  /** Waits for something to be other than it was when the balancer was asked: the endpoints, or which of them are to be avoided. */
  private waitForChange(pick: Pick, attempts: Attempts): Effect.Effect<void> {
    return Effect.suspend(() => {
      const { changes, closed, roster } = this
      if (changes.count !== pick.changes || roster.version !== pick.version || closed) return Effect.void
      const now = nowMillis(this.clock)
      let until = Infinity
      for (const pool of this.pools.values()) {
        const { address, backoffUntil, listed } = pool
        if (!listed) continue
        // Either may have ended since.
        const aloneUntil = this.outliers?.aloneUntil(pool) ?? 0
        if (aloneUntil > pick.at) until = Math.min(until, aloneUntil)
        if (backoffUntil > pick.at) until = Math.min(until, backoffUntil)
        // An endpoint that took no request, but could be dialed: soon again, not at once.
        else if (attempts.tried.has(address)) until = Math.min(until, now + this.settings.backoff.initial)
      }
      const change = changes.after(pick.changes)
      return until === Infinity ? change : Effect.raceFirst(change, sleepMillis(this.clock, Math.max(0, until - now)))
    })
  }
}

/** What a balancer fails with. Whatever its type says, one of a user's may fail with anything. */
const unreachableOf = (failure: unknown): Unreachable =>
  isInstance(failure, Unreachable)
    ? failure
    : new Unreachable({ message: `the balancer failed: ${textOf(failure)}`, attempts: [] })

/**
 * Notes that a connection was lost before the request left. It was open and others may be, or may be again, so the endpoint counts as tried
 * only when more of them were lost than it has: a peer that closes every connection it accepts must not be dialed for ever.
 */
const noteUnsent = (attempts: Attempts, { address, lastFailure, size }: CalledEndpoint): void => {
  const losses = (attempts.losses.get(address) ?? 0) + 1
  attempts.losses.set(address, losses)
  if (losses > size) attempts.tried.add(address)
  const why = lastFailure === undefined ? "" : `: ${lastFailure}`
  attempts.failures.set(address, `the connection was lost before the request was sent${why}`)
}
