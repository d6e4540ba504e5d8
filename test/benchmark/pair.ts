/**
 * A system's two halves in processes of their own, and what they are asked.
 */
import { type ChildProcess, fork } from "node:child_process"
import { Latencies } from "./meter.ts"
import type { SystemName } from "./systems.ts"
import type { BytesOptions } from "./systems/effectCall.ts"

/** What a client is asked to do. */
export type Command =
  /** Random payloads of these sizes have to come back as they were. */
  | { readonly _tag: "Check"; readonly sizes: ReadonlyArray<number> }
  /** Calls until the time is up. */
  | { readonly _tag: "Run"; readonly callers: number; readonly payloadBytes: number; readonly seconds: number }

/** What came of it. */
export type Report =
  | { readonly _tag: "Checked"; readonly problem: string | undefined }
  | { readonly _tag: "Ran"; readonly calls: number; readonly seconds: number; readonly latencies: Uint32Array }

/** What either half is asked. */
export type Question =
  | { readonly _tag: "Usage" }
  /**
   * To hold so many megabytes of live objects until it ends; the answer is how many bytes they take. Needs
   * `--expose-gc`.
   */
  | { readonly _tag: "FillHeap"; readonly megabytes: number }
  /** How late a timer of 1 ms fires while it does what else it does: the answer is the counts of {@link Latencies}. */
  | { readonly _tag: "TimerLateness"; readonly seconds: number }

/** What a process has used since it started (CPU in µs, its largest RSS in bytes), and its RSS now. */
export interface Usage {
  readonly cpuMicros: number
  readonly peakRss: number
  readonly rss: number
}

/** What a run has measured. */
export interface Figures {
  readonly calls: number
  readonly seconds: number
  readonly latencies: Uint32Array
  readonly clientCpuMicros: number
  readonly serverCpuMicros: number
}

const half = new URL("./child.ts", import.meta.url)

/** A child process. It answers one question after the other. */
export class Child {
  private readonly process: ChildProcess

  constructor(args: ReadonlyArray<string>, execArgv: ReadonlyArray<string> = [], program: URL = half) {
    this.process = fork(program, args, {
      execArgv: [...execArgv],
      serialization: "advanced",
      // What a child logs must not get in between the figures.
      stdio: ["ignore", 2, 2, "ipc"]
    })
  }

  /** The next message that it sends. */
  receive<A>(): Promise<A> {
    return new Promise((resolve, reject) => {
      const onExit = (code: number | null) => reject(new Error(`a process of the benchmark ended with code ${code}`))
      this.process.once("exit", onExit)
      this.process.once("message", (message) => {
        this.process.off("exit", onExit)
        // What it sends is known by what it was asked.
        resolve(message as A)
      })
    })
  }

  ask<A>(question: object): Promise<A> {
    const answer = this.receive<A>()
    this.process.send(question)
    return answer
  }

  usage(): Promise<Usage> {
    return this.ask<Usage>({ _tag: "Usage" } satisfies Question)
  }

  fillHeap(megabytes: number): Promise<number> {
    return this.ask<number>({ _tag: "FillHeap", megabytes } satisfies Question)
  }

  async timerLateness(seconds: number): Promise<Latencies> {
    const counts = await this.ask<Uint32Array>({ _tag: "TimerLateness", seconds } satisfies Question)
    return new Latencies(counts, counts.reduce((total, count) => total + count, 0))
  }

  kill(): void {
    this.process.kill("SIGKILL")
  }
}

/** A server and its client. */
export class Pair {
  readonly system: SystemName
  /** What further clients connect to. */
  readonly address: string
  readonly server: Child
  readonly client: Child

  private constructor(system: SystemName, address: string, server: Child, client: Child) {
    this.system = system
    this.address = address
    this.server = server
    this.client = client
  }

  /** Starts both. `execArgv` are options of Node; the others go to both halves as JSON, and `bytes` alone has any. */
  static async start(
    system: SystemName,
    execArgv?: ReadonlyArray<string>,
    options: BytesOptions = {}
  ): Promise<Pair> {
    const server = new Child(["server", system, "", JSON.stringify(options)], execArgv)
    const address = await server.receive<string>()
    const client = new Child(["client", system, address, JSON.stringify(options)], execArgv)
    await client.receive()
    return new Pair(system, address, server, client)
  }

  /** Fails where random payloads of these sizes do not come back as they were. */
  async check(sizes: ReadonlyArray<number>): Promise<void> {
    const report = await this.client.ask<Report>({ _tag: "Check", sizes } satisfies Command)
    if (report._tag !== "Checked") throw new Error("it did not do what it was asked to")
    if (report.problem !== undefined) throw new Error(report.problem)
  }

  async run(callers: number, payloadBytes: number, seconds: number): Promise<Figures> {
    const [serverBefore, clientBefore] = await Promise.all([this.server.usage(), this.client.usage()])
    const command: Command = { _tag: "Run", callers, payloadBytes, seconds }
    const report = await this.client.ask<Report>(command)
    if (report._tag !== "Ran") throw new Error("it did not do what it was asked to")
    const [server, client] = await Promise.all([this.server.usage(), this.client.usage()])
    return {
      calls: report.calls,
      seconds: report.seconds,
      latencies: report.latencies,
      clientCpuMicros: client.cpuMicros - clientBefore.cpuMicros,
      serverCpuMicros: server.cpuMicros - serverBefore.cpuMicros
    }
  }

  kill(): void {
    this.client.kill()
    this.server.kill()
  }
}
