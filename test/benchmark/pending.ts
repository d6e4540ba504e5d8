/**
 * Many calls in flight on one connection, each in a fiber: the CPU of starting and ending them, and the memory of each
 * while it waits.
 *
 * `node test/benchmark/pending.ts [--calls 10000] [--rounds 5] [--json] [--save]`
 *
 * The handlers wait for a signal, and another method gives it. As a fiber takes memory itself, the same number of
 * fibers is also measured waiting for nothing: in an `Effect.callback` whose `resume` is kept and that has something to
 * do when it is interrupted, which is what a call is to its fiber; in one that has not; and in `Effect.never`. What a
 * call takes beyond the first is the Connection's own share. What it takes beyond the others is Effect's, too. Memory
 * is `heapUsed` after garbage collection; the server's is for information, with its handler and its fiber. Each round
 * has a connection of its own, whose tables have to grow; the kinds take turns, and medians are printed.
 *
 * Target: the Connection's own share is at most 500 bytes a call.
 */
import { Deferred, Effect, Exit, Fiber, Scope } from "effect"
import { Connection, Endpoint, HandlerMap, Listener, MethodKey, Resolver, Server } from "effect-call"
import { setImmediate as turn } from "node:timers/promises"
import { Child } from "./pair.ts"
import { block, save } from "./results.ts"
import { answerParent, count, cpuMicros, liveMemory, median, parse, table } from "./support.ts"

const kinds = ["call", "interruptible", "callback", "never"] as const
type Kind = (typeof kinds)[number]

const names: Record<Kind, string> = {
  call: "connection.call",
  interruptible: "Effect.callback, interruptible",
  callback: "Effect.callback",
  never: "Effect.never"
}

/** What the children are asked. */
type Question =
  | { readonly _tag: "Cpu" }
  | { readonly _tag: "Memory" }
  /** The server: answers when so many calls wait. */
  | { readonly _tag: "AwaitCalls"; readonly calls: number }
  /** The client: a new connection. */
  | { readonly _tag: "Connect" }
  /** The client: fibers that wait. */
  | { readonly _tag: "Start"; readonly kind: Kind; readonly count: number }
  /** The client: lets them end, and waits for that. */
  | { readonly _tag: "End" }

/** What one fiber has cost. */
interface Cost {
  readonly clientBytes: number
  readonly serverBytes: number
  readonly clientMicros: number
  readonly serverMicros: number
}

const done = { _tag: "Done" }

const wait = MethodKey.make("benchmark/Signal", "wait")
const signal = MethodKey.make("benchmark/Signal", "give")

/** So many fibers are started in one turn: their requests fit into what may wait to be sent. */
const startedPerTurn = 1000

/** What both sides answer alike. */
const answerCommon = async (question: Question): Promise<object> => {
  if (question._tag === "Cpu") return { micros: cpuMicros() }
  if (question._tag === "Memory") return { bytes: (await liveMemory()).heapUsed }
  throw new Error(`this process does not answer ${question._tag}`)
}

const runServer = async () => {
  let given = Deferred.makeUnsafe<Uint8Array>()
  let waiting = 0
  let awaited: { readonly calls: number; readonly reached: () => void } | undefined
  const check = () => {
    if (awaited === undefined || waiting < awaited.calls) return
    awaited.reached()
    awaited = undefined
  }
  const handlers = HandlerMap.empty.pipe(
    HandlerMap.set("benchmark/Signal", "wait", () => {
      waiting++
      check()
      return Deferred.await(given)
    }),
    HandlerMap.set("benchmark/Signal", "give", (args) =>
      Effect.suspend(() => {
        const all = given
        given = Deferred.makeUnsafe()
        waiting = 0
        return Effect.as(Deferred.succeed(all, args), args)
      }))
  )
  const serving = Effect.gen(function*() {
    const listener = yield* Listener.tcp("127.0.0.1:0", handlers)
    process.send?.(listener.address)
    return yield* Server.serve(listener, { maxConcurrentCalls: Infinity })
  })
  answerParent<Question>(async (question) => {
    if (question._tag !== "AwaitCalls") return answerCommon(question)
    await new Promise<void>((reached) => {
      awaited = { calls: question.calls, reached }
      check()
    })
    return done
  })
  await Effect.runPromise(Effect.scoped(serving))
}

/** Fibers that wait, and what ends them. */
interface Waiting {
  readonly effect: Effect.Effect<unknown, unknown>
  readonly end: (fibers: ReadonlyArray<Fiber.Fiber<unknown, unknown>>) => Effect.Effect<unknown, unknown>
}

const callsOn = (connection: Connection.Connection, args: Uint8Array): Waiting => ({
  effect: Effect.suspend(() => connection.call(wait, args)),
  end: (fibers) => Effect.andThen(connection.call(signal, args), Fiber.joinAll(fibers))
})

const callbacks = (interruptible: boolean): Waiting => {
  const resumes: Array<(result: Effect.Effect<void>) => void> = []
  const effect = interruptible
    ? Effect.suspend(() =>
      Effect.callback<void>((resume) => {
        const index = resumes.push(resume) - 1
        return Effect.sync(() => {
          resumes[index] = () => {}
        })
      })
    )
    : Effect.suspend(() =>
      Effect.callback<void>((resume) => {
        resumes.push(resume)
      })
    )
  return {
    effect,
    end: (fibers) =>
      Effect.suspend(() => {
        for (const resume of resumes) resume(Exit.void)
        return Fiber.joinAll(fibers)
      })
  }
}

const nothing: Waiting = {
  effect: Effect.suspend(() => Effect.never),
  end: (fibers) => Fiber.interruptAll(fibers)
}

const runClient = (address: string) => {
  const args = new Uint8Array(16)
  let scope = Scope.makeUnsafe()
  let connection: Connection.Connection | undefined
  let fibers: Array<Fiber.Fiber<unknown, unknown>> = []
  let waiting = nothing

  const connect = Effect.gen(function*() {
    yield* Scope.close(scope, Exit.void)
    scope = Scope.makeUnsafe()
    const resolver = Resolver.constant(yield* Endpoint.parse(address))
    connection = yield* Scope.provide(Connection.make(resolver), scope)
    // It is dialed by that.
    yield* connection.call(signal, args)
  })

  const waitingOf = (kind: Kind): Waiting => {
    if (kind === "never") return nothing
    if (kind !== "call") return callbacks(kind === "interruptible")
    if (connection === undefined) throw new Error("there is no connection yet")
    return callsOn(connection, args)
  }

  const start = async (kind: Kind, count: number) => {
    waiting = waitingOf(kind)
    while (fibers.length < count) {
      for (let i = 0; i < startedPerTurn && fibers.length < count; i++) fibers.push(Effect.runFork(waiting.effect))
      await turn()
    }
  }

  answerParent<Question>(async (question) => {
    if (question._tag === "Connect") {
      await Effect.runPromise(connect)
    } else if (question._tag === "Start") {
      await start(question.kind, question.count)
    } else if (question._tag === "End") {
      await Effect.runPromise(waiting.end(fibers))
      fibers = []
      waiting = nothing
    } else {
      return answerCommon(question)
    }
    return done
  })
  process.send?.("ready")
}

const measure = async (server: Child, client: Child, kind: Kind, calls: number): Promise<Cost> => {
  const ask = <A>(whom: Child, question: Question) => whom.ask<A>(question)
  const both = async <A>(question: Question) => {
    const [ofClient, ofServer] = await Promise.all([ask<A>(client, question), ask<A>(server, question)])
    return { client: ofClient, server: ofServer }
  }
  const cpu = () => both<{ readonly micros: number }>({ _tag: "Cpu" })
  const memory = () => both<{ readonly bytes: number }>({ _tag: "Memory" })

  await ask(client, { _tag: "Connect" })
  const idle = await memory()
  const starting = await cpu()
  const arrived = kind === "call" ? ask(server, { _tag: "AwaitCalls", calls }) : undefined
  await ask(client, { _tag: "Start", kind, count: calls })
  await arrived
  const started = await cpu()
  const full = await memory()
  const ending = await cpu()
  await ask(client, { _tag: "End" })
  const ended = await cpu()
  const bytes = (side: "client" | "server") => (full[side].bytes - idle[side].bytes) / calls
  const micros = (side: "client" | "server") =>
    (started[side].micros - starting[side].micros + ended[side].micros - ending[side].micros) / calls
  return {
    clientBytes: bytes("client"),
    serverBytes: bytes("server"),
    clientMicros: micros("client"),
    serverMicros: micros("server")
  }
}

const main = async () => {
  const values = parse({
    calls: { type: "string", default: "10000" },
    rounds: { type: "string", default: "5" },
    json: { type: "boolean", default: false },
    save: { type: "boolean", default: false }
  })
  const calls = count("calls", values.calls)
  const rounds = count("rounds", values.rounds)
  const program = new URL(import.meta.url)
  const server = new Child(["server"], ["--expose-gc"], program)
  const client = new Child(["client", await server.receive<string>()], ["--expose-gc"], program)
  await client.receive()
  const costs: Record<Kind, Array<Cost>> = { call: [], interruptible: [], callback: [], never: [] }
  // The first round warms up and is not counted.
  for (let round = 0; round <= rounds; round++) {
    for (const kind of kinds) {
      const cost = await measure(server, client, kind, calls)
      if (round > 0) costs[kind].push(cost)
    }
  }
  client.kill()
  server.kill()

  const results = kinds.map((kind) => {
    const of = (name: keyof Cost) => median(costs[kind].map((cost) => cost[name]))
    return {
      kind,
      clientBytes: of("clientBytes"),
      beyondBytes: median(costs.call.map(({ clientBytes }, i) => clientBytes - (costs[kind][i]?.clientBytes ?? NaN))),
      clientMicros: of("clientMicros"),
      ...(kind === "call" ? { serverBytes: of("serverBytes"), serverMicros: of("serverMicros") } : {})
    }
  })
  const shareBytes = results.find(({ kind }) => kind === "interruptible")?.beyondBytes
  if (values.json) return console.log(JSON.stringify({ calls, rounds, shareBytes, results }))
  const title = `${calls} fibers at once; all figures are for each of them`
  const figures = table(
    ["what they wait in", "client bytes", "a call's beyond that", "client µs", "server bytes", "server µs"],
    results.map(({ beyondBytes, clientBytes, clientMicros, kind, serverBytes, serverMicros }) => [
      names[kind],
      clientBytes.toFixed(0),
      kind === "call" ? "" : beyondBytes.toFixed(0),
      clientMicros.toFixed(2),
      serverBytes?.toFixed(0) ?? "",
      serverMicros?.toFixed(2) ?? ""
    ])
  )
  const text = `${title}\n\n${figures}`
  console.log(text)
  if (values.save) save("pending", block(text))
}

const [role, address = ""] = process.argv.slice(2)
if (role === "server") await runServer()
else if (role === "client") runClient(address)
else await main()
