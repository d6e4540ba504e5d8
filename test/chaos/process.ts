/**
 * Processes of the soak: how the driver starts and asks them, and how they answer.
 */
import { Deferred, Effect } from "effect"
import { type ChildProcess, fork } from "node:child_process"
import { closeSync, openSync } from "node:fs"

/** A question with the number by which its answer is known. */
interface Numbered {
  readonly number: number
  readonly body: unknown
}

/** How a process has ended. */
export interface Ended {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

/** A process that the driver has started. It answers questions, and may say something by itself. */
export class Child {
  readonly ended: Deferred.Deferred<Ended> = Deferred.makeUnsafe()
  private readonly process: ChildProcess
  private readonly asked = new Map<number, (answer: unknown) => void>()
  private readonly said: Array<unknown> = []
  private readonly listeners: Array<(message: unknown) => void> = []
  private last = 0

  /** What it prints goes to the end of the file `log`. */
  constructor(program: URL, args: ReadonlyArray<string>, log: string) {
    const output = openSync(log, "a")
    this.process = fork(program, args, { serialization: "advanced", stdio: ["ignore", output, output, "ipc"] })
    closeSync(output)
    this.process.on("message", (message) => this.receive(message))
    this.process.on("error", ignore)
    this.process.on("exit", (code, signal) => Deferred.doneUnsafe(this.ended, Effect.succeed({ code, signal })))
  }

  get pid(): number | undefined {
    return this.process.pid
  }

  /** The next message that is no answer; it waits for as long as the process lives. */
  receiveNext<A>(): Effect.Effect<A, Error> {
    const next = Effect.callback<A>((resume) => {
      // What a process says is known by when it says it.
      const take = (message: unknown) => resume(Effect.succeed(message as A))
      if (this.said.length > 0) take(this.said.shift())
      else this.listeners.push(take)
    })
    return Effect.raceFirst(next, this.failWhenEnded)
  }

  /** Asks a question, whose answer is known by what was asked. */
  ask<A>(question: object): Effect.Effect<A, Error> {
    const answer = Effect.callback<A>((resume) => {
      const number = ++this.last
      this.asked.set(number, (answer) => resume(Effect.succeed(answer as A)))
      this.process.send({ number, body: question } satisfies Numbered, ignore)
      return Effect.sync(() => this.asked.delete(number))
    })
    return Effect.raceFirst(answer, this.failWhenEnded)
  }

  /** Sends a signal; a process that has ended has no use for it. */
  signal(signal: NodeJS.Signals): void {
    this.process.kill(signal)
  }

  /** Kills it, also where it is frozen; ends when it is gone. */
  readonly kill: Effect.Effect<void> = Effect.suspend(() => {
    this.signal("SIGKILL")
    return Effect.asVoid(Deferred.await(this.ended))
  })

  private get failWhenEnded(): Effect.Effect<never, Error> {
    return Effect.flatMap(
      Deferred.await(this.ended),
      ({ code, signal }) => Effect.fail(new Error(`process ${this.pid} ended with ${signal ?? `code ${code}`}`))
    )
  }

  private receive(message: unknown): void {
    if (isNumbered(message)) {
      this.asked.get(message.number)?.(message.body)
      this.asked.delete(message.number)
      return
    }
    const listener = this.listeners.shift()
    if (listener === undefined) this.said.push(message)
    else listener(message)
  }
}

/** A process that cannot be told something has ended, or is about to: its end says so. */
const ignore = () => {}

const isNumbered = (message: unknown): message is Numbered =>
  typeof message === "object" && message !== null && "number" in message && "body" in message

/** A started process's side: answers the questions of the driver, and ends with it. */
export const answerDriver = <Question>(answer: (question: Question) => object | Promise<object>): void => {
  process.on("disconnect", goWithDriver)
  process.on("message", (message) => {
    if (!isNumbered(message)) return
    // It is the driver that says what it asks.
    void Promise.resolve(answer(message.body as Question)).then((body) =>
      process.send?.({ number: message.number, body } satisfies Numbered)
    )
  })
}

const goWithDriver = () => process.exit(1)

/** Tells the driver something that it has not asked for. */
export const tellDriver = (message: object): Promise<void> =>
  new Promise((resolve) => void process.send?.(message, () => resolve()))

/** Closes the channel to the driver: only what the process itself has left keeps it alive from then on. */
export const leaveDriver = (): void => {
  process.off("disconnect", goWithDriver)
  process.disconnect()
}
