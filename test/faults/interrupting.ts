/**
 * Interrupts an operation at every point that it goes through, and looks for what it has left behind each time.
 *
 * A point is a step of any fiber that takes part (it may be made to yield there, so that something else happens first),
 * or a callback that the event loop makes: of a socket, a timer, an immediate, a tick. The operation is run again and
 * again, each time from the beginning, and is struck one point later, until it has ended before it was struck.
 */
import { it } from "@effect/vitest"
import { Cause, Context, Effect, Exit, type Fiber, Layer, Scheduler, type Scope } from "effect"
import { type Connection, HandlerMap, MethodKey } from "effect-call"
import * as assert from "node:assert/strict"
import { AsyncResource, createHook, executionAsyncResource } from "node:async_hooks"
import * as v8 from "node:v8"
import * as vm from "node:vm"
import { turn } from "../Connection/support.ts"
import { makeRegistry } from "../internal/telemetry/support.ts"
import { makeLog } from "../support/log.ts"
import { bytesOf, component, textOf } from "../support/networks.ts"
import { makePatience, patience as longest } from "../support/patience.ts"

/**
 * How the fibers go: as they always do, but that one has to yield where the point is a step of it; each of them in
 * steps, with a turn of the event loop between any two, in which sockets, timers and other fibers have their say; or as
 * they always do, and only callbacks are points.
 */
export type Pace = "at its own pace" | "step by step" | "without a stop"

type AnyFiber = Fiber.Fiber<unknown, unknown>

const lastPoint = "the last point"

/** A scheduler that counts the points and strikes at one of them. */
class Points implements Scheduler.Scheduler {
  readonly executionMode = "async"
  /** Where it has struck; undefined where it has not. */
  struckAt: string | undefined = undefined
  private readonly pace: Pace
  private readonly scheduler = new Scheduler.MixedScheduler()
  /** The objects that were seen and had not ended when they were last looked at. */
  private readonly running = new Set<AnyFiber>()
  /** At how many operations since it was resumed a fiber yields, step by step. */
  private readonly limits = new WeakMap<AnyFiber, number>()
  private readonly yielded = new WeakSet<AnyFiber>()
  private left = Infinity
  private strike: () => void = () => {}
  private readonly hook = createHook({
    // Before, since the first tick that is asked for here comes right after the callback.
    before: () => {
      const resource = executionAsyncResource()
      // Fibers make one when they are resumed; their steps are points anyway.
      if (!(resource instanceof AsyncResource)) this.isHere(() => `a callback of ${resource.constructor.name}`)
    },
    trackPromises: false
  })

  constructor(pace: Pace) {
    this.pace = pace
  }

  /** Counts from now on, and strikes right after the point with this number. */
  arm(point: number, strike: () => void): void {
    this.struckAt = undefined
    this.left = point
    this.strike = strike
    this.hook.enable()
  }

  disarm(): void {
    this.left = Infinity
    this.hook.disable()
  }

  /** Strikes, if it has yet to: no further point is to be waited for. */
  strikeNow(): void {
    if (this.left === Infinity) return
    this.left = 0
    this.isHere(() => lastPoint)
  }

  /** The fibers that have not ended. */
  get fibers(): ReadonlySet<AnyFiber> {
    for (const fiber of this.running) {
      if (fiber.pollUnsafe() !== undefined) this.running.delete(fiber)
    }
    return this.running
  }

  makeDispatcher(): Scheduler.SchedulerDispatcher {
    return this.scheduler.makeDispatcher()
  }

  shouldYield(fiber: AnyFiber): boolean {
    this.running.add(fiber)
    if (this.pace === "without a stop") return false
    if (this.pace === "at its own pace") return this.isHere(() => `a step of fiber ${fiber.id}`)
    // The first operation is what it was resumed with. Where it had yielded that is nothing, and what it has yet to do
    // comes second.
    if (fiber.currentOpCount === 1) this.limits.set(fiber, this.yielded.delete(fiber) ? 3 : 2)
    if (fiber.currentOpCount < (this.limits.get(fiber) ?? 2)) return false
    this.yielded.add(fiber)
    return true
  }

  private isHere(where: () => string): boolean {
    if (this.left === Infinity || this.left-- > 0) return false
    this.disarm()
    this.struckAt = where()
    process.nextTick(this.strike)
    return true
  }
}

/** One run of the operation. */
export interface Attempt<A, E> {
  readonly run: Effect.Effect<A, E>
  /** Ends when the operation has come to where it stays until it is struck: the last point. */
  readonly stays?: Effect.Effect<unknown, unknown> | undefined
  /**
   * What is done at the point. Where this is left out, `run` is interrupted, and ends so unless it had succeeded by
   * then.
   */
  readonly strike?: (() => void) | undefined
  /** What else has to hold when it has ended. */
  readonly check?: ((exit: Exit.Exit<A, E>) => Effect.Effect<void, unknown>) | undefined
}

/** What is struck, and among what. */
export interface Operation<S, A, E> {
  /** Made once; it stays for all attempts. */
  readonly around: Effect.Effect<S, never, Scope.Scope>
  readonly attempt: (around: S) => Effect.Effect<Attempt<A, E>, never, Scope.Scope>
  /** Warnings that are to be expected in the log. */
  readonly mayWarn?: ReadonlyArray<string> | undefined
  /**
   * How many milliseconds something may take that happens by itself: as long as it takes, unless it is expected to be
   * left for good.
   */
  readonly patience?: number | undefined
}

/**
 * Strikes at every point of the operation, and gives their number.
 *
 * After each attempt there are no more fibers than before, nothing more keeps the event loop alive than before, no more
 * calls and connections are counted, and nothing has been logged that is worth a warning. In the end no reference to
 * the fibers that ran the operation is left.
 */
export const atEveryPoint = Effect.fnUntraced(function*<S, A, E>(
  pace: Pace,
  { around, attempt, mayWarn = [], patience }: Operation<S, A, E>
): Effect.fn.Return<number> {
  const points = new Points(pace)
  const log = makeLog()
  const metrics = makeRegistry()
  const context = Context.mergeAll(
    yield* Effect.scoped(Layer.build(log.layer)),
    metrics.context,
    Context.make(Scheduler.Scheduler, points)
  )
  const warnings: Array<string> = []
  const onWarning = (warning: Error) => void warnings.push(String(warning))
  // As many fibers as before, not the same: a connection's timer sleeps in one until something is due, and then, or
  // later, in another one. Of what an attempt leaves behind there are more each time.
  const census = () => ({ ...heldByLoop(), ...counted(metrics), fibers: points.fibers.size })
  const ran: Array<WeakRef<AnyFiber>> = []

  const runAt = Effect.fnUntraced(function*(made: S, point: number, before: Census | undefined) {
    yield* Effect.scoped(Effect.gen(function*() {
      const { check, run, stays, strike } = yield* Effect.provideContext(attempt(made), context)
      const exit = yield* Effect.callback<Exit.Exit<A, E>>((resume) => {
        const running: { fiber?: Fiber.Fiber<A, E> } = {}
        points.arm(point, strike ?? (() => running.fiber?.interruptUnsafe()))
        const fiber = Effect.runForkWith(context)(run)
        running.fiber = fiber
        ran.push(new WeakRef<AnyFiber>(fiber))
        const staying = stays === undefined
          ? undefined
          : Effect.runFork(Effect.andThen(stays, Effect.sync(() => points.strikeNow())))
        // Looking at each turn until then would make points of its own.
        const timer = setTimeout(() => {
          const isTooLong = makePatience(0)
          const look = () => {
            if (fiber.pollUnsafe() !== undefined) return
            if (isTooLong()) resume(Effect.die(new Error("it has not ended")))
            else setImmediate(look)
          }
          look()
        }, patience ?? longest)
        fiber.addObserver((exit) => {
          clearTimeout(timer)
          points.disarm()
          staying?.interruptUnsafe()
          resume(Effect.succeed(exit))
        })
      })
      if (Exit.isFailure(exit)) {
        const isStruck = Cause.hasInterruptsOnly(exit.cause) && points.struckAt !== undefined
        assert.ok(strike === undefined ? isStruck : !Cause.hasDies(exit.cause), Cause.pretty(exit.cause))
      }
      if (check !== undefined) yield* Effect.orDie(check(exit))
    }))
    if (before !== undefined) {
      yield* untilNothing(() => {
        const newest = [...points.fibers].slice(before.fibers)
        return [...newest.map(({ id }) => `fiber ${id}`), ...more(before, census())].join(", ")
      }, patience)
    }
    const lines = log.lines.filter(({ level, message }) =>
      level === "Error" || level === "Fatal" || (level === "Warn" && !mayWarn.includes(message))
    )
    assert.deepEqual([...warnings, ...lines.map(({ cause, message }) => `${message} ${cause}`)], [])
  })

  const everywhere = Effect.gen(function*() {
    const made = yield* Effect.provideContext(around, context)
    // One that is not struck: what the process keeps from then on is there already.
    yield* runAt(made, 1_000_000, undefined)
    const before = yield* steady(census)
    for (let point = 0;; point++) {
      yield* Effect.catchCause(
        runAt(made, point, before),
        (cause) => Effect.die(new Error(`struck at point ${point}, ${points.struckAt}: ${Cause.pretty(cause)}`))
      )
      if (points.struckAt !== undefined && points.struckAt !== lastPoint) continue
      yield* untilCollected(ran, patience)
      return point
    }
  })
  return yield* Effect.acquireUseRelease(
    Effect.sync(() => process.on("warning", onWarning)),
    () => Effect.scoped(everywhere),
    () => Effect.sync(() => process.off("warning", onWarning))
  )
})

/** A test for each pace, in which at least so many points are struck. */
export const eachPace = <S, A, E>(name: string, atLeast: number, operation: Operation<S, A, E>): void => {
  for (const pace of ["at its own pace", "step by step"] as const) {
    it.live(
      `${name}, ${pace}`,
      () => Effect.map(atEveryPoint(pace, operation), (points) => assert.ok(points >= atLeast, `only ${points} points`))
    )
  }
}

/** What there was before an attempt, and must not have become more. */
type Census = Readonly<Record<string, number>>

/** What keeps the event loop alive. */
const heldByLoop = (): Census => {
  const counts: Record<string, number> = {}
  for (const name of process.getActiveResourcesInfo()) {
    // An immediate is over in the next turn.
    if (name !== "Immediate") counts[name] = (counts[name] ?? 0) + 1
  }
  return counts
}

/**
 * What gauges show of calls, and of connections but those of clients that are open: such a one may have been what the
 * operation was to make.
 */
const counted = (metrics: ReturnType<typeof makeRegistry>): Census => {
  const counts: Record<string, number> = {}
  for (const { attributes, name, value } of metrics.series()) {
    const state = attributes["rpc.connection.state"] ?? ""
    if (!/active_requests|connection\.count/.test(name) || state === "idle" || state === "active") continue
    counts[`${name} ${state}`] = (counts[`${name} ${state}`] ?? 0) + value
  }
  return counts
}

const more = (before: Census, now: Census): ReadonlyArray<string> =>
  Object.keys(now).flatMap((name) => {
    const had = before[name] ?? 0
    return now[name]! > had ? [`${now[name]} ${name}, not ${had}`] : []
  })

/**
 * Waits until nothing is left, looking again at each turn of the event loop; a defect that says what is left when that
 * takes too long.
 */
export const untilNothing = (left: () => string, patience?: number, fewestTurns?: number): Effect.Effect<void> =>
  Effect.callback<void>((resume) => {
    const isTooLong = makePatience(patience, fewestTurns)
    const look = () => {
      const found = left()
      if (found === "") return resume(Effect.void)
      if (isTooLong()) return resume(Effect.die(new Error(`it has left behind: ${found}`)))
      next = setImmediate(look)
    }
    let next = setImmediate(look)
    return Effect.sync(() => clearImmediate(next))
  })

/** A census, once it does not change any more. */
const steady = (census: () => Census): Effect.Effect<Census> =>
  Effect.callback((resume) => {
    let last = ""
    let turns = 0
    const look = () => {
      const now = census()
      const text = JSON.stringify(now)
      turns = text === last ? turns + 1 : 0
      last = text
      if (turns === 10) resume(Effect.succeed(now))
      else setImmediate(look)
    }
    look()
  })

v8.setFlagsFromString("--expose-gc")
const collect: () => void = vm.runInNewContext("gc")

/** Waits until these are gone from memory, but for one or two that the stack may still know of. */
const untilCollected = (refs: ReadonlyArray<WeakRef<AnyFiber>>, patience: number | undefined): Effect.Effect<void> =>
  untilNothing(
    () => {
      collect()
      const held = refs.filter((ref) => ref.deref() !== undefined).length
      return held <= 2 ? "" : `${held} of ${refs.length} fibers, which something holds`
    },
    patience,
    10
  )

/** Some turns of the event loop: what is written is handed to the socket by then. */
export const turns = Effect.repeat(turn, { times: 3 })

/** Takes some steps and turns, holds something and forks a fiber in its Scope, and answers with its arguments. */
export const work = MethodKey.make(component, "work")

/** Arguments for {@link work}. */
export const args = bytesOf("some work")

/** Handlers of {@link work}, `echo` and `hang`, with what they have begun, and not ended. */
export const workers = () => {
  const state = { running: 0, hanging: 0, held: 0, begun: 0, done: 0 }
  const counting = (name: "running" | "hanging") => <A, E, R>(effect: Effect.Effect<A, E, R>) =>
    Effect.acquireUseRelease(
      Effect.sync(() => void state[name]++),
      () => effect,
      () => Effect.sync(() => void state[name]--)
    )
  const working = counting("running")(Effect.gen(function*() {
    state.begun++
    yield* Effect.acquireRelease(
      Effect.sync(() => void state.held++),
      () => Effect.andThen(Effect.yieldNow, Effect.sync(() => void state.held--))
    )
    yield* Effect.forkScoped(Effect.never)
    yield* Effect.yieldNow
    // What may not be interrupted half-way.
    yield* Effect.uninterruptible(Effect.andThen(
      Effect.sync(() => void state.held++),
      Effect.andThen(Effect.yieldNow, Effect.sync(() => void state.held--))
    ))
    state.done++
  }))
  const handlers = HandlerMap.empty.pipe(
    HandlerMap.set(component, "echo", (args) => Effect.succeed(args)),
    HandlerMap.set(component, "work", (args) => Effect.as(working, args)),
    HandlerMap.set(component, "hang", () => counting("hanging")(Effect.never))
  )
  /** None runs, and nothing is held. */
  const idle = untilNothing(() => state.running + state.hanging + state.held === 0 ? "" : JSON.stringify(state))
  return { handlers, idle, state, working }
}

/** Nothing of a call is left on its Connection and its server, and another one is answered. */
export const unharmed = Effect.fnUntraced(function*(connection: Connection.Connection, idle: Effect.Effect<void>) {
  yield* untilNothing(() => {
    const { endpoints } = Effect.runSync(connection.state)
    return endpoints.every(({ callsInFlight, state }) => callsInFlight === 0 && state !== "Dialing")
      ? ""
      : JSON.stringify(endpoints)
  })
  yield* idle
  assert.equal(textOf(yield* Effect.timeout(connection.call(work, args), longest)), "some work")
  yield* idle
})
