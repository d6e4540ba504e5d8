/**
 * Series of Effect's metrics whose values are kept here, in plain numbers, and are read when somebody asks for them: a scrape, an export, a
 * snapshot. What happens at every call costs an addition, and not an update of a metric.
 */
import * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import { logIn } from "../log.ts"
import { attempt } from "../userError.ts"

export type Attributes = Metric.Metric.AttributeSet

/** What is the same for all series of a metric. */
export interface Described {
  readonly name: string
  readonly description: string
  /** As Effect's exporters read it from the attributes, to say `s` and `By`. */
  readonly unit?: "seconds" | "bytes"
}

const withUnit = ({ unit }: Described, attributes: Attributes): Attributes =>
  unit === undefined ? attributes : { ...attributes, unit }

// Registered series take no updates.
const nothing = () => {}

/** Series that go together. */
export class SeriesSet {
  private readonly context: Context.Context<never>
  private readonly registrations: Array<Metric.Registration> = []
  private removed = false
  /** Whether one could not be added: it is logged once. */
  private failed = false

  /** `context` says in which registry, and which attributes all have besides their own. */
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

  /** Removes them for good. What is added later is shown nowhere: a call may end when nobody remembers its endpoint any more. */
  remove(): void {
    this.removed = true
    for (const registration of this.registrations.splice(0)) attempt(() => registration.remove(), undefined)
  }

  private add<Input, State>(metric: Metric.Metric<Input, State>, get: () => State): void {
    if (this.removed) return
    try {
      this.registrations.push(Metric.registerUnsafe(metric, this.context, { get, update: nothing, modify: nothing }))
    } catch (defect) {
      // A registry may be a user's own, and so are the ambient attributes. It is in the middle of a call that a series
      // is added.
      if (this.failed) return
      this.failed = true
      const cause = Cause.die(defect)
      logIn(this.context, Effect.logError(`the metric ${metric.id} cannot be registered`, cause))
    }
  }
}

/** In seconds: OpenTelemetry's advice for the durations of calls. */
const boundaries = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10]

/** Where a histogram's values are: in one array, since a field that holds a fraction is a box of its own. */
const sumAt = boundaries.length + 1
const minAt = sumAt + 1
const maxAt = minAt + 1

/** A distribution of durations. It is empty only until it has been made. */
export class Histogram {
  /**
   * How many there were up to each boundary and above the one before it, how many above the last, and then their sum, the least and the
   * greatest of them.
   */
  private readonly values = new Float64Array(maxAt + 1)

  constructor() {
    this.values[minAt] = Infinity
    this.values[maxAt] = -Infinity
  }

  record(seconds: number, times: number): void {
    const { values } = this
    let bucket = 0
    // From below, one by one: most calls are in the first of them.
    while (bucket < boundaries.length && seconds > at(boundaries, bucket)) bucket++
    values[bucket] = at(values, bucket) + times
    values[sumAt] = at(values, sumAt) + seconds * times
    if (seconds < at(values, minAt)) values[minAt] = seconds
    if (seconds > at(values, maxAt)) values[maxAt] = seconds
  }

  /** As Effect has it: the buckets' counts include those of the buckets below, and the last, which has no boundary, is not there. */
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
