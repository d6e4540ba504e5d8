/** A call that a case of the fuzz test makes, and whether its end fits what the server has sent. */
import { Cause, type Context, Effect, Exit, type Fiber } from "effect"
import { type CallError, type Component, Connection, MethodKey } from "effect-call"
import type { Server } from "./clientServer.ts"
import { type Arguments, type Call, limits } from "./toClient.ts"
import * as Typed from "./typed.ts"
import { answerTooLarge, argumentsTooLarge, type Frame, known, readErrorChain, type Request, type } from "./wire.ts"

const key = MethodKey.make("fuzz/Bytes", "echo")

/** What the endpoint of a Connection is, for the case that is run on it. */
export interface Place {
  /** A server for each connection that is made; undefined where no dial is expected. */
  accept: (() => Server) | undefined
  slow: boolean
}

/** A Connection, on which one case is run after the other. */
export interface Slot {
  readonly place: Place
  readonly connection: Connection.Connection
  readonly clients: {
    readonly plain: Component.Client<typeof Typed.Typed>["Plain"]
    readonly checked: Component.Client<typeof Typed.Traced>["Checked"]
  }
  readonly context: Context.Context<never>
}

/** A call that was made. */
export class Made {
  readonly call: Call
  readonly args: Arguments
  /** How it has ended. */
  exit: Exit.Exit<unknown, unknown> | undefined = undefined
  /** Where its request came, and with which id. */
  readonly places: Array<{ readonly server: Server; readonly id: bigint }> = []
  private readonly fiber: Fiber.Fiber<unknown, unknown>

  constructor(call: Call, args: Arguments, { clients, connection, context }: Slot) {
    this.call = call
    this.args = args
    const given = Uint8Array.from(args.bytes)
    const { payload } = args
    const timeout = call.timeout === "none" ? undefined : call.timeout === "long" ? "1 hour" : "1 millis"
    const calling: Effect.Effect<unknown, unknown> = payload === undefined
      ? connection.call(key, given)
      : payload.method === "Plain"
      ? clients.plain(payload.payload)
      : clients.checked(payload.payload)
    this.fiber = Effect.runForkWith(context)(Connection.withOptions(calling, { timeout }))
    this.fiber.addObserver((exit) => {
      this.exit = exit
    })
    // They were copied, where they are small.
    if (given.length < limits.writeFlattenLimit) given.fill(0xa5)
  }

  giveUp(): void {
    this.fiber.interruptUnsafe()
  }

  /** Whether a request is that of this call. */
  isIn({ args, deadline, key }: Request): boolean {
    if ((deadline > 0n) !== (this.call.timeout !== "none") || !key.equals(this.args.key)) return false
    return this.args.payload === undefined ? args.equals(this.args.bytes) : Typed.isCallOf(this.args.payload, args)
  }

  /** How it has ended, in a word. */
  get end(): string {
    const { error, exit } = this
    if (exit === undefined) return "open"
    if (Exit.isSuccess(exit)) return "success"
    if (Cause.hasInterruptsOnly(exit.cause)) return "interrupted"
    if (!(error instanceof Error) || !("_tag" in error)) return "died"
    // All errors with a tag are these.
    const known = error as CallError.CallError | Typed.Refused
    return known._tag === "CommunicationError" ? known.reason._tag : known._tag
  }

  get error(): unknown {
    return this.exit !== undefined && Exit.isFailure(this.exit) ? Cause.squash(this.exit.cause) : undefined
  }

  /** Whether a call of bytes was answered with its arguments. */
  get isEchoed(): boolean {
    const { args, exit } = this
    return exit !== undefined && Exit.isSuccess(exit) && args.bytes.equals(exit.value as Uint8Array) // bytes they are
  }

  /** Whether it has ended because something of it was too large, as this text says. */
  private isTooLarge(maybeExecuted: boolean, text: string): boolean {
    if (this.end !== "TooLarge") return false
    const error = this.error as CallError.CommunicationError // by its end
    return error.maybeExecuted === maybeExecuted && error.message.includes(text)
  }

  /** Whether it has ended as an answer says. */
  endsWith(answer: Frame): boolean {
    const { end, error, exit } = this
    if (exit === undefined) return false
    const { tooLarge } = answer
    if (tooLarge !== undefined) return this.isTooLarge(true, `${tooLarge} bytes, expected at most `)
    if (answer.type === type.responseError) {
      const chain = readErrorChain(answer.payload)
      const [only] = chain?.length === 1 ? chain : []
      if (only?.identity === argumentsTooLarge(0, 0).identity) return this.isTooLarge(false, only.message)
      if (only?.identity === answerTooLarge("", 0, 0).identity) return this.isTooLarge(true, only.message)
      const isDeadline = chain?.length === 1 && chain[0]?.identity === known.deadlineExceeded.identity
      if (isDeadline && this.call.timeout !== "none") return end === "DeadlineExceeded"
      if (chain === undefined) return isUndecodable(this)
      if (end !== "RemoteError") return false
      const links = (error as CallError.RemoteError).chain // by its tag
      return links.length === chain.length &&
        chain.every(({ identity, message }, i) => links[i]?.identity === identity && links[i]?.message === message)
    }
    const { payload } = this.args
    // Bytes, where the call did not ask for a value.
    if (payload === undefined) return Exit.isSuccess(exit) && answer.payload.equals(exit.value as Uint8Array)
    const outcome = Typed.outcomeOf(payload.method, answer.payload)
    return outcome === undefined ? isUndecodable(this) : Typed.isSameOutcome(outcome, exit)
  }
}

/** Whether it was only a call's answer that could not be decoded. */
const isUndecodable = ({ end, error }: Made): boolean =>
  end === "Protocol" && error instanceof Error && error.message.startsWith("cannot decode the ")
