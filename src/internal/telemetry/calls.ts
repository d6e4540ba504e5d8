/**
 * The calls of one endpoint or server: how many there were of each method and with what outcome, and how long they took.
 *
 * Both methods and outcomes may be made from what users send, so that there are no more of either than a metrics backend can bear.
 */
import type { MethodKey } from "../../MethodKey.ts"
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
  private succeeded: Histogram | undefined = undefined
  private readonly failed = new Map<string, Histogram>()

  constructor(metric: Described, series: SeriesSet, attributes: Attributes) {
    this.metric = metric
    this.series = series
    this.attributes = attributes
  }

  /** Counts a call, or several, that took so long and failed with `errorType`, or succeeded. */
  record(seconds: number, errorType: string | undefined, times = 1): void {
    const histogram = errorType === undefined
      ? this.succeeded ??= this.add(this.attributes)
      : this.failedWith(errorType)
    histogram.record(seconds, times)
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
    this.series.histogram(this.metric, attributes, histogram)
    return histogram
  }
}

/** The calls of all methods. */
export class CallsByMethod {
  private readonly metric: Described
  private readonly series: SeriesSet
  private readonly attributes: Attributes
  private readonly methods = new Map<string, CallStats>()
  private otherMethods: CallStats | undefined = undefined
  private lastKey: MethodKey | undefined = undefined
  private lastStats: CallStats | undefined = undefined

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

  /** The calls of methods that a server does not have, and of those that are too many to tell apart. */
  get other(): CallStats {
    return this.otherMethods ??= this.make({ "rpc.method": other })
  }

  private add(key: MethodKey): CallStats {
    if (this.methods.size >= maxMethods) return this.other
    const stats = this.make({ "rpc.service": key.component, "rpc.method": key.method })
    this.methods.set(key.hex, stats)
    return stats
  }

  private make(attributes: Attributes): CallStats {
    return new CallStats(this.metric, this.series, { ...this.attributes, ...attributes })
  }
}
