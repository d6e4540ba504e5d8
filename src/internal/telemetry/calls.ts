/**
 * The calls of one endpoint or server: how many there were of each method and with each outcome, and how long they
 * took.
 *
 * Users may make methods and outcomes from what they send. So both have a limit, for metrics backends can take only so
 * many. Where the numbers are shown is not known here.
 */
import type { MethodKey } from "../../MethodKey.ts"
import { secondsBetween } from "../time/clock.ts"
import { type Attributes, type Described, Histogram, type SeriesSet } from "./series.ts"
import { systemName } from "./span.ts"

/**
 * Stands for methods past {@link maxMethods}, methods that a server does not have, and errors past {@link
 * maxErrorTypes}.
 */
const other = "_OTHER"

/** The number of methods that are counted apart. */
export const maxMethods = 1000

/** The number of error types that are counted apart, for each method. */
export const maxErrorTypes = 32

/** Counts the calls of one method. */
export class CallStats {
  private readonly metric: Described
  private readonly series: SeriesSet
  private readonly attributes: Attributes
  private readonly settle: () => void
  private succeeded: Histogram | undefined = undefined
  private readonly failed = new Map<string, Histogram>()

  /** `settle` counts what was noted, before the numbers are shown. */
  constructor(metric: Described, series: SeriesSet, attributes: Attributes, settle: () => void) {
    this.metric = metric
    this.series = series
    this.attributes = attributes
    this.settle = settle
  }

  /**
   * Counts one call, or `times` calls, that took `seconds`. They failed with `errorType`, or succeeded if that is
   * undefined.
   */
  record(seconds: number, errorType: string | undefined, times = 1): void {
    this.histogram(errorType).record(seconds, times)
  }

  /** The histogram of calls with this outcome. It is shown from now on. */
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

/**
 * The name of a method as a label. Code without types may give any value, and a label that is no text would break every
 * scrape of all metrics.
 */
const labelOf = (name: unknown): string => String(name)

/** Counts the calls of all methods. */
export class CallsByMethod {
  private readonly metric: Described
  private readonly series: SeriesSet
  private readonly attributes: Attributes
  private readonly methods = new Map<string, CallStats>()
  private otherMethods: CallStats | undefined = undefined
  private lastKey: MethodKey | undefined = undefined
  private lastStats: CallStats | undefined = undefined
  /** The tallies that have noted calls and not counted them. */
  private readonly tallies = new Set<Tally>()

  constructor(metric: Described, series: SeriesSet, attributes: Attributes) {
    this.metric = metric
    this.series = series
    this.attributes = { ...attributes, "rpc.system.name": systemName }
  }

  /** The calls of a method. This runs on every call, often for the same method. */
  method(key: MethodKey): CallStats {
    if (this.lastKey === key && this.lastStats !== undefined) return this.lastStats
    const stats = this.methods.get(key.hex) ?? this.add(key)
    this.lastKey = key
    this.lastStats = stats
    return stats
  }

  /** A tally has noted a call, and will count it. */
  expect(tally: Tally, key: MethodKey, failure: string | undefined): void {
    this.tallies.add(tally)
    this.method(key).histogram(failure)
  }

  /** A tally has counted all that it has noted. */
  settled(tally: Tally): void {
    this.tallies.delete(tally)
  }

  private readonly settle = (): void => {
    for (const tally of this.tallies) tally.count()
  }

  /** The calls of methods that a server does not have, and of methods past the limit. */
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

/** Calls of one method that started together and have the same outcome. */
interface Group {
  readonly key: MethodKey
  readonly startedAt: number
  readonly failure: string | undefined
  times: number
}

/**
 * Notes the calls that end in one turn. With many calls, most are alike. They are counted together after the turn, or
 * earlier when the metrics are read. To count each one by itself would cost a client some 5 % more.
 */
export class Tally {
  private readonly calls: CallsByMethod
  private readonly endedAt: () => number
  private groups: Array<Group> = []
  private last: Group | undefined = undefined

  /** `endedAt` gives, in ticks, the end of the calls that were noted since the last count. */
  constructor(calls: CallsByMethod, endedAt: () => number) {
    this.calls = calls
    this.endedAt = endedAt
  }

  /** Notes a call that has ended. `startedAt` is in ticks. */
  add(key: MethodKey, startedAt: number, failure: string | undefined): void {
    const last = this.last
    if (last !== undefined && last.startedAt === startedAt && last.key === key && last.failure === failure) {
      last.times++
      return
    }
    this.calls.expect(this, key, failure)
    this.groups.push(this.last = { key, startedAt, failure, times: 1 })
  }

  /** Counts what was noted. */
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
