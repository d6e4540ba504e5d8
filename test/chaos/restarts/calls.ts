/**
 * Calls at full load, with payloads that show whether the right answer has come back whole.
 */
import { Cause, Effect, Exit, Fiber, type Scope } from "effect"
import { randomFillSync } from "node:crypto"
import { crc32 } from "node:zlib"
import { type CallError, type Connection, HandlerMap, MethodKey } from "../../../src/index.ts"
import { Latencies } from "../../benchmark/meter.ts"

const component = "test/Chaos"
/** Answers its arguments. */
export const echo: MethodKey.MethodKey = MethodKey.make(component, "echo")
/** Answers its arguments after as many milliseconds as their first byte says. */
export const work: MethodKey.MethodKey = MethodKey.make(component, "work")

/** Serves both. */
export const handlers: HandlerMap.HandlerMap<never> = HandlerMap.empty.pipe(
  HandlerMap.set(component, echo.method, (args) => Effect.succeed(args)),
  HandlerMap.set(component, work.method, (args) => Effect.as(Effect.sleep(args[0] ?? 0), args))
)

/** How often payloads have so many bytes at most, of a hundred; what is left are those of several pieces. */
const sizes: ReadonlyArray<readonly [share: number, size: number]> = [[50, 256], [30, 4096], [15, 16_384], [
  4,
  131_072
], [0.9, 1_048_576]]
const largest = 3_145_728

/** Its first byte is for `work`, then come the call's number and the sum of what follows. */
const prefix = 16

const noise = randomFillSync(new Uint8Array(2 * largest))

const sizeOf = (): number => {
  let left = Math.random() * 100
  for (const [share, size] of sizes) {
    left -= share
    if (left < 0) return prefix + Math.floor(Math.random() * size)
  }
  return largest
}

/** A payload that is only right as the answer to the call with this number. */
const makePayload = (number: number, millis: number): Uint8Array => {
  const payload = new Uint8Array(sizeOf())
  const offset = Math.floor(Math.random() * largest)
  payload.set(noise.subarray(offset, offset + payload.length - prefix), prefix)
  const view = new DataView(payload.buffer)
  view.setUint8(0, millis)
  view.setUint32(4, number)
  view.setUint32(8, payload.length)
  view.setUint32(12, crc32(payload.subarray(prefix)))
  return payload
}

/** What is wrong with an answer, if anything is. */
const problemOf = (answer: Uint8Array, number: number, length: number): string | undefined => {
  const view = new DataView(answer.buffer, answer.byteOffset, answer.length)
  if (answer.length !== length || view.getUint32(8) !== length) return "an answer of another length"
  if (view.getUint32(4) !== number) return "the answer to another call"
  return view.getUint32(12) === crc32(answer.subarray(prefix)) ? undefined : "an answer with other bytes"
}

/** A failure in a word or two. */
const kindOf = (error: CallError.CallError): string =>
  error._tag === "CommunicationError" ? `${error._tag} ${error.reason._tag}` : error._tag

/** What has become of the calls so far. */
export class Tally {
  calls = 0
  readonly latencies = new Latencies()
  /** In milliseconds. */
  longest = 0
  readonly failures = new Map<string, number>()
  /** What one of each kind has said. */
  readonly messages = new Map<string, string>()
  /** Who is told of each failure, and when its call was made. */
  onFailure: (kind: string, startedAt: number) => void = () => {}

  get failed(): number {
    return [...this.failures.values()].reduce((sum, count) => sum + count, 0)
  }

  answered(startedAt: number): void {
    this.calls++
    const millis = performance.now() - startedAt
    this.latencies.add(millis)
    this.longest = Math.max(this.longest, millis)
  }

  failedWith(kind: string, message: string, startedAt: number): void {
    this.answered(startedAt)
    this.failures.set(kind, (this.failures.get(kind) ?? 0) + 1)
    if (!this.messages.has(kind)) this.messages.set(kind, message)
    this.onFailure(kind, startedAt)
  }
}

/** Makes one call after the other until it is told to stop, which it does between two calls. */
const caller = Effect.fnUntraced(function*(connection: Connection.Connection, tally: Tally, isOver: () => boolean) {
  let number = Math.floor(Math.random() * 2 ** 31)
  while (!isOver()) {
    number = (number + 1) >>> 0
    // Some take their time, so that there always are calls in flight.
    const millis = Math.random() < 0.2 ? 1 + Math.floor(Math.random() * 20) : 0
    const payload = makePayload(number, millis)
    // Larger ones are not ours any more once they are sent.
    const { length } = payload
    const startedAt = performance.now()
    const exit = yield* Effect.exit(connection.call(millis === 0 ? echo : work, payload))
    if (Exit.isSuccess(exit)) {
      const problem = problemOf(exit.value, number, length)
      if (problem === undefined) tally.answered(startedAt)
      else tally.failedWith("wrong answer", problem, startedAt)
    } else {
      const error = Cause.squash(exit.cause)
      // What a call fails with; anything else is a defect, and ends the script.
      if (Cause.hasDies(exit.cause)) return yield* Effect.die(error)
      const failure = error as CallError.CallError
      tally.failedWith(kindOf(failure), failure.message, startedAt)
    }
  }
})

/** So many callers at full load, for the ambient Scope; `stop` lets each of them finish its call. */
export const startCallers = Effect.fnUntraced(function*(
  connection: Connection.Connection,
  callers: number
): Effect.fn.Return<{ readonly tally: Tally; readonly stop: Effect.Effect<void> }, never, Scope.Scope> {
  const tally = new Tally()
  let over = false
  const fibers = yield* Effect.replicateEffect(
    Effect.forkScoped(caller(connection, tally, () => over)),
    callers
  )
  const stop = Effect.suspend(() => {
    over = true
    return Fiber.joinAll(fibers)
  })
  return { tally, stop: Effect.asVoid(stop) }
})
