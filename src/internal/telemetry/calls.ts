/**
 * The calls of one endpoint or server: how many there were of each method and with what outcome, and how long they took.
 *
 * Both methods and outcomes may be made from what users send, so that there are no more of either than a metrics backend can bear.
 */
import type { MethodKey } from "../../MethodKey.ts"
import { secondsBetween } from "../time/clock.ts"
import { type Attributes, type Described, Histogram, type SeriesSet } from "./series.ts"
import { systemName } from "./span.ts"

/** What is counted together: the methods past {@link maxMethods}, those a server does not have, the errors past {@link maxErrorTypes}. */
const other = "_OTHER"

/** How many methods are told apart. */
export const maxMethods = 1000

/** How many types of errors are told apart, for each method. */
export const maxErrorTypes = 32

/** The calls of one method. */
export class CallStats {
  private readonly metric: Described
  private readonly series: SeriesSet
  private readonly attributes: Attributes
  private readonly settle: () => void
  private succeeded: Histogram | undefined = undefined
  private readonly failed = new Map<string, Histogram>()

  /** Before what is counted is shown, `settle` counts what is still to be. */
  constructor(metric: Described, series: SeriesSet, attributes: Attributes, settle: () => void) {
    this.metric = metric
    this.series = series
    this.attributes = attributes
    this.settle = settle
  }

  /** Counts a call, or several, that took so long and failed with `errorType`, or succeeded. */
  record(seconds: number, errorType: string | undefined, times = 1): void {
    this.histogram(errorType).record(seconds, times)
  }

  /** What calls with this outcome are counted in; it is shown from then on. */
  histogram(errorType: string | undefined): Histogram {
    return errorType === undefined ? this.succeeded ??= this.add(this.attributes) : this.failedWith(errorType)
  }

  private failedWith(errorType: string): Histogram {
    const known = this.failed.get(errorType)
    if (known !== undefined) return known
    if (errorType !== other && this.failed.size >= maxErrorTypes) return this.failedWith(other)
    const histogram = this.add({ ...this.attributes, "error.type": errorType })
    this.failed.set(errorType, histogram)
    return histogram
  }

  private add(attributes: Attributes): Histogram {
    const histogram = new Histogram()
    this.series.histogram(this.metric, attributes, () => {
      this.settle()
      return histogram.state
    })
    return histogram
  }
}

/** A user's name as a label. Whatever its type says: one that is no text would break every scrape of all metrics. */
const labelOf = (name: unknown): string => String(name)

/** The calls of all methods. */
export class CallsByMethod {
  private readonly metric: Described
  private readonly series: SeriesSet
  private readonly attributes: Attributes
  private readonly methods = new Map<string, CallStats>()
  private otherMethods: CallStats | undefined = undefined
  private lastKey: MethodKey | undefined = undefined
  private lastStats: CallStats | undefined = undefined
  /** Those that have noted what they have yet to count. */
  private readonly tallies = new Set<Tally>()

  constructor(metric: Described, series: SeriesSet, attributes: Attributes) {
    this.metric = metric
    this.series = series
    this.attributes = { ...attributes, "rpc.system.name": systemName }
  }

  /** The calls of a method. It is asked for with every call, and often the same. */
  method(key: MethodKey): CallStats {
    if (this.lastKey === key && this.lastStats !== undefined) return this.lastStats
    const stats = this.methods.get(key.hex) ?? this.add(key)
    this.lastKey = key
    this.lastStats = stats
    return stats
  }

  /** A tally has noted a call that it will count. */
  expect(tally: Tally, key: MethodKey, failure: string | undefined): void {
    this.tallies.add(tally)
    this.method(key).histogram(failure)
  }

  /** It has counted all. */
  settled(tally: Tally): void {
    this.tallies.delete(tally)
  }

  private readonly settle = (): void => {
    for (const tally of this.tallies) tally.count()
  }

  /** The calls of methods that a server does not have, and of those that are too many to tell apart. */
  get other(): CallStats {
    return this.otherMethods ??= this.make({ "rpc.method": other })
  }

  private add(key: MethodKey): CallStats {
    if (this.methods.size >= maxMethods) return this.other
    const stats = this.make({ "rpc.service": labelOf(key.component), "rpc.method": labelOf(key.method) })
    this.methods.set(key.hex, stats)
    return stats
  }

  private make(attributes: Attributes): CallStats {
    return new CallStats(this.metric, this.series, { ...this.attributes, ...attributes }, this.settle)
  }
}

/** Calls of one method that were made together and have ended alike. */
interface Group {
  readonly key: MethodKey
  readonly startedAt: number
  readonly failure: string | undefined
  times: number
}

/**
 * Calls that end in one turn. Most of them are alike where there are many, and are counted together when the turn is over, or before that
 * where somebody looks: by itself, each would cost a client some 5 % more.
 */
export class Tally {
  private readonly calls: CallsByMethod
  private readonly endedAt: () => number
  private groups: Array<Group> = []
  private last: Group | undefined = undefined

  /** `endedAt` says in ticks when those that have been noted since the last count have ended. */
  constructor(calls: CallsByMethod, endedAt: () => number) {
    this.calls = calls
    this.endedAt = endedAt
  }

  /** Notes a call that has ended. It was made at a moment in ticks. */
  add(key: MethodKey, startedAt: number, failure: string | undefined): void {
    const last = this.last
    if (last !== undefined && last.startedAt === startedAt && last.key === key && last.failure === failure) {
      last.times++
      return
    }
    this.calls.expect(this, key, failure)
    this.groups.push(this.last = { key, startedAt, failure, times: 1 })
  }

  /** Counts what has been noted. */
  count(): void {
    if (this.last === undefined) return
    const groups = this.groups
    this.groups = []
    this.last = undefined
    this.calls.settled(this)
    const now = this.endedAt()
    for (const { failure, key, startedAt, times } of groups) {
      this.calls.method(key).record(secondsBetween(startedAt, now), failure, times)
    }
  }
}
