/**
 * A health probe: what the server of one connection says of its health, asked for as long as calls may be sent on the
 * connection. Where both know streams, it is a stream of what changes; else the server is asked again and again.
 *
 * It is an entry of the connection's session, but no call and no stream that counts: a draining connection does not
 * stay open for it. It must not know what is done with what it learns.
 */
import type * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import { RemoteError } from "../../CallError.ts"
import type { MethodKey } from "../../MethodKey.ts"
import { u32At } from "../protocol/bytes.ts"
import { decodeErrorChain } from "../protocol/errorChain.ts"
import { MessageType } from "../protocol/frame.ts"
import { decodeAnswer, encodeComponent, encodeQuestion } from "../protocol/health.ts"
import { itemPrefix } from "../protocol/items.ts"
import { changesKey, watchKey } from "../session/healthKey.ts"
import type { ItemsReceiver, Violation } from "../session/incomingItems.ts"
import { noLead } from "../session/messages.ts"
import { sleepMillis } from "../time/clock.ts"
import { checkTransition, type Transitions } from "../transitions.ts"
import type { Pending, PendingStream, StreamEnds } from "./pending.ts"
import type { ClientSession } from "./session.ts"

export interface HealthSettings {
  readonly clock: Clock.Clock
  readonly context: Context.Context<never>
  readonly scope: Scope.Scope
}

/**
 * How long to wait before the next question where there was no answer or no news, or where a stream has ended, in
 * milliseconds.
 */
const pause = 1000

/**
 * ```
 *        ┌───────┐  an item; an answer that is news, and it is asked again at once
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
 * The server answers a question when it has news, or after a while. A server that has no stream of changes is asked by
 * the method from then on. The probe is in the session's table iff `Asked`.
 */
export type ProbeState = "Asked" | "Pausing" | "Done"

const allowed: Transitions<ProbeState> = {
  Asked: ["Asked", "Pausing", "Done"],
  Pausing: ["Asked", "Done"],
  Done: []
}

/** Asks the server of one connection for its health, again and again. */
export class HealthProbe implements Pending, PendingStream {
  id = 0
  readonly deadlineAt = Infinity
  readonly trace = undefined
  readonly lead = noLead
  readonly isCall = false
  readonly isCounted = false
  readonly hasItems = false
  readonly isOpened = true
  readonly keepsAnswer = false
  /** Whether it is a stream of changes, and not a question. */
  private streams: boolean
  private receiver: ItemsReceiver | undefined = undefined
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
    this.streams = session.understandsStreams
    this.ask()
  }

  get key(): MethodKey {
    return this.streams ? changesKey : watchKey
  }

  get stream(): PendingStream | undefined {
    return this.streams ? this : undefined
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
      if (decoded.ok && RemoteError.fromChain(decoded.chain).isUnknownMethod) this.unknown()
      else this.askLater()
      return
    }
    if (this.streams) return this.askLater()
    const answer = decodeAnswer(payload)
    if (answer === undefined || answer === this.known) return this.askLater()
    this.known = answer
    this.ask()
    this.onChange()
  }

  onEnd(): void {
    if (this.state === "Done") return
    if (this.session.isOver) this.transition("Done")
    else this.askLater()
  }

  begin({ receiver }: StreamEnds): void {
    this.receiver = receiver
  }

  onLeft(): void {}

  /** Each item is a status. None is kept, so the server may send as many again at once. */
  onItems(bytes: Uint8Array, start: number, end: number): Violation | undefined {
    for (let at = start; at < end; at += itemPrefix + 1) {
      const isWhole = end - at > itemPrefix && u32At(bytes, at) === 1
      const status = isWhole ? decodeAnswer(bytes.subarray(at + itemPrefix, at + itemPrefix + 1)) : undefined
      if (status === undefined) return notAStatus
      if (status !== this.known) this.learn(status)
      // Whoever hears of it may have stopped it.
      if (this.state !== "Asked") return undefined
    }
    this.receiver?.grant(this.id, end - start)
    return undefined
  }

  isStalled(): boolean {
    return false
  }

  /** It sends no items. */
  onCredit(): undefined {
    return undefined
  }

  private ask(): void {
    const { component, known, session } = this
    this.transition("Asked")
    if (this.streams) session.openStream(this, encodeComponent(component))
    else session.send(this, encodeQuestion({ component, known }))
  }

  /** The server does not have what was asked. */
  private unknown(): void {
    if (this.streams) {
      this.streams = false
      return this.ask()
    }
    // A server that says nothing of its health is there, and that is all there is to know.
    this.transition("Done")
    this.learn(true)
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

const notAStatus: Violation = { _tag: "FlowControl", problem: "an item that is no status, expected one byte, 0 or 1" }
