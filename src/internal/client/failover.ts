/**
 * The slow path of a call: picks, dials and sends, again and again with another endpoint, until one has taken the
 * request, none is left, or its deadline passes.
 *
 * ```
 *                  ┌────── none is left, and the call waits: a change ◀───────┐
 *                  ▼                                                          │
 *  ──▶ pick an endpoint ──▶ wait for a connection ──▶ send ──▶ the answer     │
 *       ▲  │                      │                    │                      │
 *       │  └──────────────────────┼────────────────────┼───▶ Unreachable ─────┘
 *       └─────────────────────────┴────────────────────┘
 *            it failed             the request was not sent, or was refused
 * ```
 *
 * It is an Effect, and may take its time: what can be done at once the client does itself. Its only state are the
 * {@link Attempts} of each call. It must not know how endpoints are excluded, or how a connection is made.
 */
import type * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type * as Result from "effect/Result"
import type { Balancer } from "../../Balancer.ts"
import { type CallError, DeadlineExceeded, Unreachable } from "../../CallError.ts"
import type { Endpoint } from "../../Endpoint.ts"
import { pickOf } from "../balancer/checks.ts"
import { isSticky } from "../balancer/model.ts"
import { effectOf, unexpected } from "../guard.ts"
import type { ClientMetrics } from "../telemetry/metrics.ts"
import { errorType } from "../telemetry/span.ts"
import { nowMillis, nowTicks, secondsBetween, sleepMillis } from "../time/clock.ts"
import { Attempts } from "./attempts.ts"
import type { Call, CalledEndpoint, CallOwner } from "./call.ts"
import type { Endpoints } from "./endpoints.ts"
import { closedError } from "./errors.ts"
import { excludedFor, type Exclusion, stableFor } from "./exclusions.ts"
import type { LinkCalls } from "./linkCalls.ts"
import type { Pool } from "./pool.ts"
import { tooLarge } from "./refusal.ts"
import { unreachableOf } from "./unreachable.ts"

/** A balancer's pick, and what was known when it was asked. */
export interface Pick {
  readonly endpoint: Effect.Effect<Endpoint, Unreachable>
  /** The version of {@link Endpoints.changes}. */
  readonly changes: number
  /** The number of the last failure of an endpoint, and the version of the roster. */
  readonly failures: number
  readonly version: number
  /** What was excluded. */
  readonly exclusion: Exclusion
  /** When it was asked, in milliseconds of the clock; 0 on the fast path, which does not read the clock. */
  readonly at: number
}

/** A request that has not been sent: its connection was lost before, or its server has refused it. */
class Unsent {
  readonly args: Uint8Array
  readonly isLost: boolean
  constructor(args: Uint8Array, isLost: boolean) {
    this.args = args
    this.isLost = isLost
  }
}

/** Takes calls to their end, if they could not be sent at once. */
export class Failover implements CallOwner {
  private readonly endpoints: Endpoints
  private readonly balancer: Balancer
  private readonly clock: Clock.Clock
  private readonly metrics: ClientMetrics | undefined
  /** The size of the largest arguments, in bytes. */
  private readonly maxArgs: number
  /** Done when the Connection is closed. */
  private readonly shutdown: Deferred.Deferred<void>

  constructor(
    endpoints: Endpoints,
    balancer: Balancer,
    clock: Clock.Clock,
    metrics: ClientMetrics | undefined,
    maxArgs: number,
    shutdown: Deferred.Deferred<void>
  ) {
    this.endpoints = endpoints
    this.balancer = balancer
    this.clock = clock
    this.metrics = metrics
    this.maxArgs = maxArgs
    this.shutdown = shutdown
  }

  /** Goes on with a call that could not be sent at once. `first` is the pick of its balancer, if there was one. */
  start(call: Call, args: Uint8Array, first: Pick | undefined): void {
    call.resume(this.run(call, args, first, Attempts.of(call)))
  }

  /** A call comes back from the fast path: its connection was lost before its request was sent. */
  onUnsent(call: Call, endpoint: CalledEndpoint, args: Uint8Array): void {
    const attempts = Attempts.of(call)
    attempts.noteLost(endpoint)
    call.resume(this.run(call, args, undefined, attempts))
  }

  /** A call comes back from the fast path: its server has refused it, since its contract of the method differs. */
  onRefused(call: Call): void {
    // A typed call has its arguments with it, and so has a stream.
    const args = call.ownArgs
    if (args === undefined) return
    const attempts = Attempts.of(call)
    attempts.isRefused = true
    call.resume(this.run(call, args, undefined, attempts))
  }

  /** Counts the end of a call that was never sent. */
  countUnsent(call: Call, failure: string): void {
    if (call.counted) return
    const seconds = call.startedAt === -1 ? 0 : secondsBetween(call.startedAt, nowTicks(this.clock))
    this.metrics?.unreachable.method(call.key).record(seconds, failure)
  }

  /** Takes a call to its end from wherever it is, within its deadline. */
  private run(
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
        () => Effect.fail(new DeadlineExceeded({ message: this.endpoints.errors.lateMessage(call.method, attempts) }))
      )
    )
    if (this.metrics === undefined) return timed
    return Effect.onExit(timed, (exit) =>
      Effect.sync(() => {
        if (Exit.isFailure(exit)) this.countUnsent(call, errorType(exit.cause))
      }))
  }

  private readonly attempt = Effect.fnUntraced({ self: this }, function*(
    call: Call,
    initial: Uint8Array,
    first: Pick | undefined,
    attempts: Attempts
  ): Effect.fn.Return<unknown, unknown> {
    let args = initial
    let pick = first
    while (true) {
      if (this.endpoints.isClosed) return yield* closedError(undefined, false)
      pick ??= this.pick(call, attempts)
      const pool = yield* this.choose(call, pick, attempts)
      pick = undefined
      if (pool === undefined) continue
      // Before it waits for a connection: meanwhile other calls go elsewhere.
      this.endpoints.noteSent(pool)
      const taken = call.stream === undefined ? pool.take() : pool.takeForStream()
      const calls = taken ?? (yield* this.ready(call, pool, attempts))
      if (calls === undefined) continue
      if (call.stream !== undefined && !calls.understandsStreams) {
        attempts.noteWithoutStreams(pool)
        continue
      }
      if (attempts.isRefused || calls.needsJson(call)) args = yield* this.inJson(call, args)
      const outcome = yield* this.send(calls, call, args, attempts)
      if (!(outcome instanceof Unsent)) return outcome
      if (outcome.isLost) attempts.noteLost(pool)
      else attempts.isRefused = true
      args = outcome.args
    }
  })

  /** Asks the balancer. With `any` it may also pick endpoints that have better alternatives. */
  private pick(call: Call, attempts: Attempts, any = false): Pick {
    const { endpoints } = this
    const balancer = call.options?.balancer ?? this.balancer
    if (call.options?.balancer !== undefined) balancer.update(endpoints.list, endpoints.views)
    const at = nowMillis(this.clock)
    const exclusion = endpoints.exclusions.look(attempts.since, attempts.tried)
    const shardKey = call.options?.shardKey
    const avoid = any ? stableFor(balancer, exclusion.unavailable) : excludedFor(exclusion, balancer, shardKey)
    const endpoint = pickOf(balancer, shardKey === undefined ? { avoid } : { shardKey, avoid })
    const { failures, version } = endpoints.roster
    return { endpoint, changes: endpoints.changes.version, failures, version, exclusion, at }
  }

  /**
   * The endpoint for the next attempt; undefined where the balancer must be asked again. It fails where no endpoint is
   * left, unless the call waits for one.
   */
  private readonly choose = Effect.fnUntraced({ self: this }, function*(
    call: Call,
    pick: Pick,
    attempts: Attempts
  ): Effect.fn.Return<Pool | undefined, CallError> {
    const { endpoints } = this
    let picked = yield* this.picked(pick)
    // An endpoint that has better alternatives is better than none, unless the balancer has no other to begin with.
    if (picked._tag === "Failure" && this.hasWorse(call, pick)) {
      picked = yield* this.picked(this.pick(call, attempts, true))
    }
    if (picked._tag === "Failure") return yield* this.noneLeft(call, unreachableOf(picked.failure), pick, attempts)
    const endpoint = picked.success
    // Whatever its type says, it may be anything.
    if (typeof (endpoint as Endpoint | undefined)?.address !== "string") {
      return yield* Effect.die(unexpected("the pick of the balancer", "an Endpoint", endpoint))
    }
    const pool = endpoints.get(endpoint.address)
    // It has failed while the balancer took its time: there may be others.
    if (pool !== undefined && pool.failureNumber > pick.failures) return undefined
    // A balancer that picks what was tried has nothing else to offer.
    if (attempts.tried.has(endpoint.address) || (pool !== undefined && attempts.hasTried(pool))) {
      return yield* this.noneLeft(call, Unreachable.fromAttempts([]), pick, attempts)
    }
    if (pool === undefined || !pool.listed) {
      // The endpoints have changed since the balancer got them: it could not know.
      if (endpoints.changes.version !== pick.changes || endpoints.isClosed) return undefined
      const { length } = endpoints.list
      return yield* Effect.die(
        new Error(`the balancer picked ${endpoint.address}, which is none of the ${length} endpoints it was given`)
      )
    }
    if (pool.backoffUntil > nowMillis(this.clock)) {
      attempts.noteBackoff(pool)
      return undefined
    }
    return !this.hasNoAlternative(call) && endpoints.dialDue(pool) ? undefined : pool
  })

  /** What a balancer picks. A user's balancer may take its time, or never end: closing the Connection ends that. */
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

  /** Whether available endpoints were excluded, and the call may go to them. */
  private hasWorse(call: Call, { exclusion }: Pick): boolean {
    return exclusion.all !== exclusion.unavailable && !this.hasNoAlternative(call)
  }

  /** Whether there is only one endpoint that a call can go to. */
  private hasNoAlternative({ options }: Call): boolean {
    return options?.shardKey !== undefined && isSticky(options.balancer ?? this.balancer)
  }

  /** No endpoint is left for a call: it fails, or it waits for a change. */
  private noneLeft(
    call: Call,
    error: Unreachable,
    pick: Pick,
    attempts: Attempts
  ): Effect.Effect<undefined, Unreachable> {
    if (call.options?.waitForReady !== true) {
      const { exclusion, version } = pick
      return Effect.fail(this.endpoints.errors.make(error, attempts, exclusion.unavailable, version))
    }
    return Effect.map(this.waitForChange(pick, attempts), () => {
      attempts.beginAnew()
      return undefined
    })
  }

  /** Waits until something is other than when the balancer was asked: the endpoints, or which of them are excluded. */
  private waitForChange(pick: Pick, attempts: Attempts): Effect.Effect<void> {
    return Effect.suspend(() => {
      const { changes, isClosed, roster } = this.endpoints
      if (changes.version !== pick.changes || roster.version !== pick.version || isClosed) return Effect.void
      const until = this.endpoints.eligibleAt(pick.at, attempts.tried)
      const change = changes.after(pick.changes)
      if (until === Infinity) return change
      return Effect.raceFirst(change, sleepMillis(this.clock, Math.max(0, until - nowMillis(this.clock))))
    })
  }

  /** Waits for a connection of an endpoint that has room for a call; undefined where there is none, which is noted. */
  private ready(call: Call, pool: Pool, attempts: Attempts): Effect.Effect<LinkCalls | undefined, CallError> {
    attempts.beginWaiting(pool)
    const waiting = Effect.flatMap(pool.acquire(), (dialed): Effect.Effect<LinkCalls | undefined, CallError> => {
      attempts.endWaiting()
      switch (dialed._tag) {
        case "Ready": {
          const { calls } = dialed
          if (calls.hasRoom()) return Effect.succeed(calls)
          attempts.beginWaiting(pool)
          // By then the endpoint may be listed no longer, or have no connection.
          return Effect.map(pool.room.whenRoom(), () => {
            attempts.endWaiting()
            return pool.take()
          })
        }
        case "Failed":
          attempts.noteDialFailed(pool, dialed.message)
          return Effect.succeed(undefined)
        case "Withdrawn":
          return Effect.succeed(undefined)
        case "Closed":
          return Effect.fail(closedError(undefined, false))
      }
    })
    if (call.deadlineAt === Infinity) return waiting
    // The deadline interrupts this. A clock may read a little less than it was asked to sleep until, by rounding.
    return Effect.onInterrupt(waiting, () =>
      Effect.sync(() => {
        if (nowMillis(this.clock) - call.deadlineAt > -0.001) pool.onCallFailed()
      }))
  }

  /** Puts a typed call into JSON, which a server with another contract reads by its names. Returns its arguments. */
  private inJson(call: Call, args: Uint8Array): Effect.Effect<Uint8Array, CallError> {
    return Effect.flatMap(call.inJson(args), (args) => {
      const refused = tooLarge(call, call.lead.length + args.length, this.maxArgs)
      return refused === undefined ? Effect.succeed(args) : Effect.fail(refused)
    })
  }

  /** Sends a call and waits for its end. A request that was not sent is given back. */
  private send(
    calls: LinkCalls,
    call: Call,
    args: Uint8Array,
    attempts: Attempts
  ): Effect.Effect<unknown, unknown> {
    return Effect.callback<unknown, unknown>((resume) => {
      if (!calls.isOpen) return resume(Effect.succeed(new Unsent(args, true)))
      attempts.wasSent = true
      call.resume = resume
      // From now on the call comes back to this loop.
      call.owner = {
        onUnsent: (_call, _endpoint, args) => resume(Effect.succeed(new Unsent(args, true))),
        onRefused: ({ typed }) => resume(Effect.succeed(new Unsent(typed?.args ?? args, false)))
      }
      if (call.stream === undefined) calls.send(call, args)
      else calls.open(call, args)
      return call
    })
  }
}
