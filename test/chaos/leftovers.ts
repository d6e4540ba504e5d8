/**
 * What a process has left: what keeps its event loop alive, and fibers that have not ended.
 */
import type { Metric } from "effect"

/**
 * What keeps the event loop alive: sockets, servers, timers, requests to the system. (An immediate is the caller's
 * own.)
 */
export const activeResources = (): ReadonlyArray<string> =>
  process.getActiveResourcesInfo().filter((name) => name !== "Immediate")

/** What there is now and was not before, as often as it is more. */
export const added = (before: ReadonlyArray<string>, now: ReadonlyArray<string>): ReadonlyArray<string> => {
  const left = [...before]
  return now.filter((name) => {
    const at = left.indexOf(name)
    if (at >= 0) left.splice(at, 1)
    return at < 0
  })
}

/** Counts all fibers that have it as their `Metric.FiberRuntimeMetrics`: callers' fibers, and those of Connections. */
export class FiberCount implements Metric.FiberRuntimeMetricsService {
  active = 0
  started = 0

  readonly recordFiberStart = (): void => {
    this.active++
    this.started++
  }

  readonly recordFiberEnd = (): void => {
    this.active--
  }
}
