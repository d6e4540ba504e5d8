/**
 * Counts the calls of one endpoint or server, and their durations, by method and outcome.
 *
 * Peers can cause any number of methods and outcomes. So both have a limit, because backends for metrics can take only
 * a limited number of series. It does not know where the numbers are shown.
 */
import type { MethodKey } from "../../MethodKey.ts"
import { secondsBetween } from "../time/clock.ts"
import { type Attributes, type Described, Histogram, type SeriesSet } from "./series.ts"
import { systemName } from "./span.ts"

/**
 * Stands for methods past {@link maxMethods}, methods that a server does not have, and errors past {@link
 * maxErrorTypes}.
 */
export const otherMethod = "_OTHER"

/** The number of methods that are counted separately. */
export const maxMethods = 1000

/** The number of error types that are counted separately, for each method. */
export const maxErrorTypes = 32

/** Counts the calls of one method. */
export class CallStats {
  private readonly metric: Described
  private readonly series: SeriesSet
  private readonly attributes: Attributes
  private readonly settle: () => void
  private succeeded: Histogram | undefined = undefined
  private readonly failed = new Map<string, Histogram>()

  /** `settle` counts the noted calls before the numbers are shown. */
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

  /** The histogram of calls with this outcome. From now on it is exported. */
  histogram(errorType: string | undefined): Histogram {
    return errorType === undefined ? this.succeeded ??= this.add(this.attributes) : this.failedWith(errorType)
  }

  private failedWith(errorType: string): Histogram {
    const known = this.failed.get(errorType)
    if (known !== undefined) return known
    if (errorType !== otherMethod && this.failed.size >= maxErrorTypes) return this.failedWith(otherMethod)
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
 * The name of a method as a label. Code without types may give any value. A label that is no text would break every
 * scrape of all metrics.
 */
const labelOf = (name: unknown): string => String(name)

/** The labels of a method. */
export const methodLabels = ({ component, method }: MethodKey): Attributes => ({
  "rpc.service": labelOf(component),
  "rpc.method": labelOf(method)
})

/** Counts the calls of all methods. */
export class CallsByMethod {
  private readonly metric: Described
  private readonly series: SeriesSet
  private readonly attributes: Attributes
  private readonly methods = new Map<string, CallStats>()
  private otherMethods: CallStats | undefined = undefined
  private lastKey: MethodKey | undefined = undefined
  private lastStats: CallStats | undefined = undefined
  /** The tallies with noted calls that are not counted yet. */
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

  /** A tally has noted a call, and will count it later. */
  expect(tally: Tally, key: MethodKey, failure: string | undefined): void {
    this.tallies.add(tally)
    this.method(key).histogram(failure)
  }

  /** A tally has counted all calls that it has noted. */
  settled(tally: Tally): void {
    this.tallies.delete(tally)
  }

  private readonly settle = (): void => {
    for (const tally of this.tallies) tally.count()
  }

  /** The calls of methods that a server does not have, and of methods past the limit. */
  get other(): CallStats {
    return this.otherMethods ??= this.make({ "rpc.method": otherMethod })
  }

  private add(key: MethodKey): CallStats {
    if (this.methods.size >= maxMethods) return this.other
    const stats = this.make(methodLabels(key))
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
 * Notes the calls that end in one turn of the event loop. With many calls, most are alike. They are counted together
 * after the turn, or earlier if the metrics are read. To count each call by itself would cost a client some 5 % more
 * CPU.
 */
export class Tally {
  private readonly calls: CallsByMethod
  private readonly endedAt: () => number
  private groups: Array<Group> = []
  private last: Group | undefined = undefined

  /** `endedAt` gives the time in ticks at which the calls ended that were noted since the last count. */
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

  /** Counts the noted calls. */
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
