/** A registry of a test's own, and the series in it. */
import { Context, Metric } from "effect"

export const boundaries = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10]

export type Attributes = Metric.Metric.AttributeSet

export interface Series {
  readonly name: string
  readonly attributes: Attributes
  /** A counter's count, a gauge's value, or how many values a histogram has. */
  readonly value: number
  readonly state: Metric.Metric.Snapshot["state"]
}

/** A registry that has nothing in it yet; `attributes` are what all series in this context have. */
export const makeRegistry = (attributes: Attributes = {}, registry: Metric.MetricRegistry = new Map()) => {
  const context: Context.Context<never> = Context.make(Metric.MetricRegistry, registry).pipe(
    Context.add(Metric.CurrentMetricAttributes, attributes)
  )
  /** The series of a metric (or of all) that have these attributes, among others. */
  const series = (name?: string, some: Attributes = {}): ReadonlyArray<Series> =>
    Metric.snapshotUnsafe(context)
      .filter(({ id }) => name === undefined || id === name)
      .map(({ attributes = {}, id, state }) => ({
        name: id,
        attributes,
        state,
        value: Number("value" in state ? state.value : "count" in state ? state.count : NaN)
      }))
      .filter(({ attributes }) => Object.entries(some).every(([key, value]) => attributes[key] === value))
  const values = (name: string, some?: Attributes) => series(name, some).map(({ value }) => value)
  const histograms = (name: string, some?: Attributes) =>
    series(name, some).map(({ attributes, state }) => ({ attributes, state: state as Metric.HistogramState }))
  return { context, registry, series, values, histograms }
}
