/**
 * The account of all calls: which are open and until when they have to end, how they ended, and what that says about
 * their execution.
 *
 * It keeps a byte for each call that has ended, so that millions of them are no matter.
 */
import type { Executions } from "./executions.ts"
import { type AnyPlan, describe as describePlan } from "./streamPlan.ts"
import type { Violations } from "./violations.ts"

/** How often a call was executed, by what its caller was told. */
export type Executed = "once" | "perhaps" | "never" | "unknown"

/** How a call ended. */
export interface Ending {
  /** What is counted. */
  readonly kind: string
  readonly executed: Executed
  /** Why it must not have ended like this. */
  readonly problem?: string | undefined
}

/** A call that has not ended. */
export interface OpenCall {
  readonly id: number
  readonly plan: AnyPlan
  /** The number of the Connection it was made on. */
  readonly connection: number
  /** When it has to have ended, by the ledger's clock; Infinity where nothing limits it yet. */
  endsBy: number
  /** Whether it has been told of that it is late. */
  late: boolean
}

const codes: Readonly<Record<Executed, number>> = { unknown: 1, once: 2, perhaps: 3, never: 4 }

const describe = ({ id, plan }: OpenCall): string => `${id} (${describePlan(plan)})`

export class Ledger {
  /** The calls that were made. The last one's id, too: they are numbered from 1 on. */
  started = 0
  readonly open = new Map<number, OpenCall>()
  /** How many ended in which way. */
  readonly endings = new Map<string, number>()
  private ended = new Uint8Array(1024)
  private readonly violations: Violations
  private readonly clock: { readonly now: number }

  constructor(violations: Violations, clock: { readonly now: number }) {
    this.violations = violations
    this.clock = clock
  }

  /** A call begins that has to end within so many ms. */
  begin(plan: AnyPlan, connection: number, millis: number): OpenCall {
    const id = ++this.started
    const call: OpenCall = { id, plan, connection, endsBy: this.clock.now + millis, late: false }
    this.open.set(id, call)
    return call
  }

  end(call: OpenCall, ending: Ending): void {
    const { id } = call
    if (!this.open.delete(id)) {
      return this.violations.add("endedTwice", `call ${describe(call)} ended once more, with ${ending.kind}`, id)
    }
    if (id >= this.ended.length) {
      const longer = new Uint8Array(2 * Math.max(id, this.ended.length))
      longer.set(this.ended)
      this.ended = longer
    }
    this.ended[id] = codes[ending.executed]
    this.endings.set(ending.kind, (this.endings.get(ending.kind) ?? 0) + 1)
    if (ending.problem !== undefined) {
      this.violations.add("wrongAnswers", `call ${describe(call)} ended with ${ending.kind}: ${ending.problem}`, id)
    }
  }

  /** A call has to end within so many ms now, if it had not to before. */
  limit(call: OpenCall, millis: number): void {
    call.endsBy = Math.min(call.endsBy, this.clock.now + millis)
  }

  /** As {@link limit}, for the open calls of a Connection, or for all. */
  limitAll(millis: number, connection?: number): void {
    for (const call of this.open.values()) {
      if (connection === undefined || call.connection === connection) this.limit(call, millis)
    }
  }

  /** Notes the open calls whose time is up. */
  checkLate(): void {
    this.noteLate((call) => this.clock.now > call.endsBy)
  }

  /** Notes all that are open: none should be. */
  checkOpen(): void {
    this.noteLate(() => true)
  }

  private noteLate(isLate: (call: OpenCall) => boolean): void {
    for (const call of this.open.values()) {
      if (call.late || !isLate(call)) continue
      call.late = true
      this.violations.add("neverEnded", `call ${describe(call)} is still open`, call.id)
    }
  }

  /** Holds what callers were told against what was executed. */
  checkExecutions(executions: Executions): void {
    const counts = executions.counts(this.started)
    const by = (id: number) => `by the processes ${executions.whoExecuted(id).join(", ")}`
    for (let id = 1; id <= this.started; id++) {
      const count = counts[id] ?? 0
      const told = this.ended[id]
      if (count > 1) this.violations.add("executedTwice", `call ${id} was executed ${count} times, ${by(id)}`, id)
      if (told === codes.never && count > 0) {
        this.violations.add("executedAfterAll", `call ${id} was executed ${by(id)}`, id)
      }
      if (told === codes.once && count === 0) {
        this.violations.add("answeredUnexecuted", `call ${id} was not executed`, id)
      }
    }
  }
}
