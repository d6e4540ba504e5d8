/** Calls and connections that ask for admission, and note when they start. */
import { Effect } from "effect"
import * as assert from "node:assert/strict"
import {
  Admission,
  type AdmissionLimits,
  type AdmittedConnection,
  type Startable
} from "../../../src/internal/server/admission.ts"

export const turn = Effect.callback<void>((resume) => {
  setImmediate(() => resume(Effect.void))
})

/** The connections that calls come in on. */
export const one = { running: 0, paused: false }

export const other = { running: 0, paused: false }

/** More time than any turn takes. */
export const forever = 1_000_000

/** A call that waits, and is pressed for time from when it is told so. */
class Waiting implements Startable {
  readonly connection: AdmittedConnection
  readonly start: () => void
  pressed = false
  refused = false

  constructor(connection: AdmittedConnection, start: () => void) {
    this.connection = connection
    this.start = start
  }

  isPressed(): boolean {
    return this.pressed
  }

  refuse(): void {
    assert.ok(!this.refused)
    this.refused = true
  }
}

/** Connections of their own, with limits, and one way to ask for a call and to note it when it starts. */
export const limited = (limits: Partial<AdmissionLimits>, turnMillis = forever) => {
  const admission = new Admission({
    maxConcurrentCalls: Infinity,
    maxQueuedCalls: Infinity,
    maxConcurrentCallsPerConnection: Infinity,
    maxQueuedCallsPerConnection: Infinity,
    ...limits
  }, turnMillis)
  const started: Array<string> = []
  const connect = (name: string) => {
    const connection = { running: 0, paused: false }
    let made = 0
    /** Asks for a call, as a batch that has just been read; gives it where it waits. */
    const ask = () => {
      const text = `${name}${++made}`
      if (admission.tryStart(connection)) {
        started.push(text)
        return "started"
      }
      const call = new Waiting(connection, () => started.push(text))
      return admission.tryQueue(call) ? call : "refused"
    }
    /** What becomes of so many calls. */
    const asks = (count: number) => {
      const became = { started: 0, waiting: 0, refused: 0 }
      for (let i = 0; i < count; i++) {
        const outcome = ask()
        became[typeof outcome === "string" ? outcome : "waiting"]++
      }
      return became
    }
    const end = () => admission.ended(connection)
    return { connection, ask, asks, end }
  }
  return { admission, started, connect }
}

/** A call that waits. */
export const waits = <A>(outcome: A): Exclude<A, string> => {
  assert.notEqual(typeof outcome, "string", String(outcome))
  return outcome as Exclude<A, string>
}
