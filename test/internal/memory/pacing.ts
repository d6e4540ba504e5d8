/**
 * What notes of fresh buffers do to the young generation, measured in a thread of its own: in the process of other
 * tests V8 may have learned to put such arrays elsewhere.
 */
import { constants, PerformanceObserver } from "node:perf_hooks"
import { getHeapSpaceStatistics } from "node:v8"
import { parentPort } from "node:worker_threads"
import { noteFresh, noteFreshShared } from "../../../src/internal/memory/gcPacing.ts"

/** What the thread has measured. */
export interface Pacing {
  /** The bytes that a note of 256 KiB, of 256 KiB that are shared, and of 16 bytes leaves in the young generation. */
  readonly whole: number
  readonly shared: number
  readonly small: number
  /** The CPU time of a note of the largest buffer, in µs. */
  readonly largest: number
  /** Whether the young generation has been collected. */
  readonly isCollected: boolean
}

const minor = constants.NODE_PERFORMANCE_GC_MINOR

/** How much has been allocated in the young generation, where nothing was collected meanwhile. */
const youngBytes = () =>
  getHeapSpaceStatistics().find(({ space_name }) => space_name === "new_space")?.space_used_size ?? 0

/** The most of several measurements: a collection in between makes one of them less. */
const filledBy = (note: () => void): number =>
  Math.max(...Array.from({ length: 5 }, () => {
    const before = youngBytes()
    note()
    return youngBytes() - before
  }))

const cpuOf = (note: () => void): number => {
  const start = process.threadCpuUsage()
  note()
  const { system, user } = process.threadCpuUsage(start)
  return system + user
}

const collected = new Promise<boolean>((resolve) => {
  const observer = new PerformanceObserver((list) => {
    // `detail` of such an entry is documented, and not typed.
    const isYoung = (entry: object) => (entry as { readonly detail: { readonly kind: number } }).detail.kind === minor
    if (!list.getEntries().some(isYoung)) return
    observer.disconnect()
    resolve(true)
  })
  observer.observe({ entryTypes: ["gc"] })
})

const whole = filledBy(() => noteFresh(262_144))
const shared = filledBy(() => noteFreshShared(262_144))
const small = filledBy(() => noteFresh(16))
const largest = cpuOf(() => noteFresh(Number.MAX_SAFE_INTEGER))
for (let i = 0; i < 1000; i++) noteFresh(262_144)
const pacing: Pacing = { whole, shared, small, largest, isCollected: await collected }
// oxlint-disable-next-line unicorn/require-post-message-target-origin -- a port of a thread has no origin
parentPort?.postMessage(pacing)
