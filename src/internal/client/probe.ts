/**
 * A health probe: what the server of one connection says of its health, asked for as long as calls may be sent on the
 * connection.
 *
 * It is an entry of the connection's session, but no call: a draining connection does not stay open for it. It must not
 * know what is done with what it learns.
 */
import type * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import { RemoteError } from "../../CallError.ts"
import { decodeErrorChain } from "../protocol/errorChain.ts"
import { MessageType } from "../protocol/frame.ts"
import { decodeAnswer, encodeQuestion } from "../protocol/health.ts"
import { watchKey } from "../session/healthKey.ts"
import { noLead } from "../session/messages.ts"
import { sleepMillis } from "../time/clock.ts"
import { checkTransition, type Transitions } from "../transitions.ts"
import type { Pending } from "./pending.ts"
import type { ClientSession } from "./session.ts"

export interface HealthSettings {
  readonly clock: Clock.Clock
  readonly context: Context.Context<never>
  readonly scope: Scope.Scope
}

/** How long to wait before the next question where there was no answer or no news, in milliseconds. */
const pause = 1000

/**
 * ```
 *        ┌───────┐  an answer that is news: asked again at once
 *   ───▶ │ Asked │ ◀─┐
 *        └───────┘ ──┘
 *          │    ▲
 *          │    │ a second later          ┌─────────┐
 *          │    └──────────────────────── │ Pausing │
 *          │  no news, or no answer       └─────────┘
 *          ├───────────────────────────────▶  │
 *          │ the server says nothing          │ the connection drains,
 *          │ of its health, or the end        │ or is over
 *          ▼                                  ▼
 *        Done ◀────────────────────────────────
 * ```
 * The server answers a question when it has news, or after a while. The probe is in the session's table iff `Asked`.
 */
export type ProbeState = "Asked" | "Pausing" | "Done"

const allowed: Transitions<ProbeState> = {
  Asked: ["Asked", "Pausing", "Done"],
  Pausing: ["Asked", "Done"],
  Done: []
}

/** Asks the server of one connection for its health, again and again. */
export class HealthProbe implements Pending {
  id = 0
  readonly key = watchKey
  readonly deadlineAt = Infinity
  readonly trace = undefined
  readonly lead = noLead
  readonly isCall = false
  readonly stream = undefined
  readonly keepsAnswer = false
  private state: ProbeState = "Pausing"
  /** What the server has said; undefined before. */
  private known: boolean | undefined = undefined
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

  /** No more calls are sent on the connection. */
  stop(): void {
    const { state } = this
    if (state === "Done") return
    this.transition("Done")
    if (state === "Asked" && !this.session.isOver) this.session.giveUp(this, true)
  }

  onMessage(type: number, bytes: Uint8Array, start: number, end: number): void {
    const payload = bytes.subarray(start, end)
    if (type !== MessageType.response) {
      const decoded = decodeErrorChain(payload)
      // A server that says nothing of its health is there, and that is all there is to know.
      if (decoded.ok && RemoteError.fromChain(decoded.chain).isUnknownMethod) this.learn(true, "Done")
      else this.askLater()
      return
    }
    const answer = decodeAnswer(payload)
    if (answer === undefined || answer === this.known) this.askLater()
    else this.learn(answer, "Asked")
  }

  onEnd(): void {
    if (this.state === "Done") return
    if (this.session.isOver) this.transition("Done")
    else this.askLater()
  }

  private ask(): void {
    const { component, known } = this
    this.transition("Asked")
    this.session.send(this, encodeQuestion({ component, known }))
  }

  private learn(isServing: boolean, next: "Asked" | "Done"): void {
    this.known = isServing
    if (next === "Asked") this.ask()
    else this.transition("Done")
    this.onChange()
  }

  private askLater(): void {
    const { clock, context, scope } = this.settings
    const later = Effect.andThen(
      sleepMillis(clock, pause),
      Effect.sync(() => {
        this.pausing = undefined
        if (this.state === "Pausing" && this.session.isOpen) this.ask()
      })
    )
    this.transition("Pausing")
    this.pausing = Fiber.runIn(Effect.runForkWith(context)(later), scope)
  }

  private transition(state: ProbeState): void {
    checkTransition("a health probe", allowed, this.state, state)
    this.state = state
    if (state === "Pausing") return
    this.pausing?.interruptUnsafe()
    this.pausing = undefined
  }
}
