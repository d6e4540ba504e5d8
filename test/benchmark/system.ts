/**
 * What is measured: systems that all do the same job, and the loops that call them.
 */
import type { Meter } from "./meter.ts"

/** One way to call an echo server. Each of its halves runs in a process of its own. */
export interface System {
  /**
   * Starts an echo server on this machine, and gives what `connect` needs to know. It serves until the process ends.
   */
  readonly serve: () => Promise<string>
  readonly connect: (address: string) => Promise<Client>
}

/** How calls are made. */
export interface Job {
  readonly callers: number
  readonly payload: Uint8Array
}

export interface Client {
  /** One call: what has come back. */
  readonly echo: (payload: Uint8Array) => Promise<Uint8Array>
  /** Closed loops, each of which calls again when it is answered, until the meter is over. */
  readonly run: (job: Job, meter: Meter) => Promise<void>
}

/** An answer is looked at while the time runs, too: a system that drops bytes must not be fast for it. */
export const checkLength = (length: number, { payload }: Job): void => {
  if (length !== payload.length) throw new Error(`expected ${payload.length} bytes back, got ${length}`)
}

/** Loops over calls that call back. */
export const runCallbacks = (
  call: (payload: Uint8Array, done: (length: number) => void) => void
): Client["run"] =>
(job, meter) =>
  new Promise((resolve) => {
    let running = job.callers
    const loop = () => {
      let startedAt = performance.now()
      const done = (length: number) => {
        checkLength(length, job)
        startedAt = meter.answered(startedAt)
        if (!meter.isOver) call(job.payload, done)
        else if (--running === 0) resolve()
      }
      call(job.payload, done)
    }
    for (let i = 0; i < job.callers; i++) loop()
  })

/** Loops over calls that return promises of what has come back, or of how much. */
export const runPromises = (call: (payload: Uint8Array) => Promise<number>): Client["run"] => async (job, meter) => {
  const loop = async () => {
    let startedAt = performance.now()
    while (!meter.isOver) {
      checkLength(await call(job.payload), job)
      startedAt = meter.answered(startedAt)
    }
  }
  await Promise.all(Array.from({ length: job.callers }, loop))
}
