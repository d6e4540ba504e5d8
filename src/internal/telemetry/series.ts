/**
 * Series of Effect's metrics. Their values are plain numbers here, which are read for a scrape, an export or a
 * snapshot. So a call costs an addition instead of an update of a metric.
 *
 * It does not know what the series mean.
 */
import * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import { logIn } from "../log.ts"
import { attempt } from "../userError.ts"

export type Attributes = Metric.Metric.AttributeSet

/** The parts that all series of a metric have in common. */
export interface Described {
  readonly name: string
  readonly description: string
  /** Effect's exporters read the unit from the attributes, and write `s` and `By`. */
  readonly unit?: "seconds" | "bytes"
}

const withUnit = ({ unit }: Described, attributes: Attributes): Attributes =>
  unit === undefined ? attributes : { ...attributes, unit }

// Registered series get no updates.
const nothing = () => {}

/** Series that are removed together. */
export class SeriesSet {
  private readonly context: Context.Context<never>
  private readonly registrations: Array<Metric.Registration> = []
  private removed = false
  /** Whether a series could not be registered. It is logged once. */
  private failed = false

  /** `context` has the registry, and the attributes that all series have in addition to their own. */
  constructor(context: Context.Context<never>) {
    this.context = context
  }

  counter(metric: Described, attributes: Attributes, read: () => number): void {
    const { description, name } = metric
    const counter = Metric.counter(name, {
      description,
      attributes: withUnit(metric, attributes),
      incremental: true
    })
    this.add(counter, () => ({ count: read(), incremental: true }))
  }

  gauge(metric: Described, attributes: Attributes, read: () => number): void {
    const { description, name } = metric
    const gauge = Metric.gauge(name, { description, attributes: withUnit(metric, attributes) })
    this.add(gauge, () => ({ value: read() }))
  }

  histogram(metric: Described, attributes: Attributes, read: () => Metric.HistogramState): void {
    const { description, name } = metric
    const histogram = Metric.histogram(name, { description, attributes: withUnit(metric, attributes), boundaries })
    this.add(histogram, read)
  }

  /**
   * Removes all series for good. A series that is added later is not shown: a call may end after its endpoint is
   * forgotten.
   */
  remove(): void {
    this.removed = true
    for (const registration of this.registrations.splice(0)) attempt(() => registration.remove(), undefined)
  }

  private add<Input, State>(metric: Metric.Metric<Input, State>, get: () => State): void {
    if (this.removed) return
    try {
      this.registrations.push(Metric.registerUnsafe(metric, this.context, { get, update: nothing, modify: nothing }))
    } catch (defect) {
      // A registry and the ambient attributes may be custom ones, and throw. A series is added in the middle of a call,
      // which must go on.
      if (this.failed) return
      this.failed = true
      const cause = Cause.die(defect)
      logIn(this.context, Effect.logError(`the metric ${metric.id} cannot be registered`, cause))
    }
  }
}

/** In seconds: the boundaries that OpenTelemetry recommends for calls. */
const boundaries = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10]

/** The values of a histogram are in one array: a field with a fraction would be a separate object. */
const sumAt = boundaries.length + 1
const minAt = sumAt + 1
const maxAt = minAt + 1

/** A distribution of durations. It gets its first value right after its creation. */
export class Histogram {
  /**
   * For each boundary, the number of values up to it and above the one before; the number of values above the last
   * boundary; and then the sum, the smallest and the largest value.
   */
  private readonly values = new Float64Array(maxAt + 1)

  constructor() {
    this.values[minAt] = Infinity
    this.values[maxAt] = -Infinity
  }

  record(seconds: number, times: number): void {
    const { values } = this
    let bucket = 0
    // A linear search from below: most calls are in the first buckets.
    while (bucket < boundaries.length && seconds > at(boundaries, bucket)) bucket++
    values[bucket] = at(values, bucket) + times
    values[sumAt] = at(values, sumAt) + seconds * times
    if (seconds < at(values, minAt)) values[minAt] = seconds
    if (seconds > at(values, maxAt)) values[maxAt] = seconds
  }

  /**
   * In the form of Effect: the count of a bucket includes the buckets below it, and the last one, which has no
   * boundary, is left out.
   */
  get state(): Metric.HistogramState {
    const { values } = this
    let count = 0
    const buckets = boundaries.map((boundary, i): [number, number] => [boundary, count += at(values, i)])
    count += at(values, boundaries.length)
    return { buckets, count, sum: at(values, sumAt), min: at(values, minAt), max: at(values, maxAt) }
  }
}

/** The number at an index that is known to be in bounds. */
const at = (values: ArrayLike<number>, index: number): number => values[index] as number
