/**
 * What the server of one connection says of its health, asked for as long as calls may be sent on the connection.
 */
import type * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import type { CallError } from "../../CallError.ts"
import { decodeAnswer, encodeQuestion } from "../protocol/health.ts"
import { watchKey } from "../session/healthKey.ts"
import { sleepMillis } from "../time/clock.ts"
import type { ClientSession } from "./session.ts"

export interface HealthSettings {
  readonly clock: Clock.Clock
  readonly context: Context.Context<never>
  readonly scope: Scope.Scope
}

/** How long it takes to ask again after what is no answer, and after one that says nothing new, in milliseconds. */
const pause = 1000

export class HealthWatch {
  /** What it has said; undefined before. */
  private known: boolean | undefined = undefined
  private stopped = false
  private pausing: Fiber.Fiber<void> | undefined = undefined
  private readonly session: ClientSession
  private readonly component: string
  private readonly settings: HealthSettings
  private readonly onChange: () => void

  constructor(session: ClientSession, component: string, settings: HealthSettings, onChange: () => void) {
    this.session = session
    this.component = component
    this.settings = settings
    this.onChange = onChange
    this.ask()
  }

  /** Before its first answer a server is not known to serve. */
  get isServing(): boolean {
    return this.known === true
  }

  stop(): void {
    this.stopped = true
    this.session.stopInquiring()
    this.pausing?.interruptUnsafe()
  }

  private ask(): void {
    const { component, known } = this
    this.session.inquire(watchKey, encodeQuestion({ component, known }), (result) => this.answered(result))
  }

  private answered(result: Result.Result<Uint8Array, CallError>): void {
    if (this.stopped || this.session.isOver) return
    const { known } = this
    if (Result.isFailure(result)) {
      const error = result.failure
      // A server that says nothing of its health is there, and that is all there is to know.
      if (error._tag === "RemoteError" && error.isUnknownMethod) this.learn(true)
      else this.askLater()
      return
    }
    const answer = decodeAnswer(result.success)
    if (answer === undefined || answer === known) return this.askLater()
    this.learn(answer)
    // Whoever has heard of it may have stopped this.
    if (!this.stopped) this.ask()
  }

  private learn(isServing: boolean): void {
    this.known = isServing
    this.onChange()
  }

  private askLater(): void {
    const { clock, context, scope } = this.settings
    const later = Effect.andThen(
      sleepMillis(clock, pause),
      Effect.sync(() => {
        if (!this.stopped && this.session.isOpen) this.ask()
      })
    )
    this.pausing = Fiber.runIn(Effect.runForkWith(context)(later), scope)
  }
}
