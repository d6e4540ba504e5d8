/**
 * A replica of the soak: `node replica.ts SETTINGS`, with an IPC channel; the settings are a {@link ReplicaSettings} as
 * JSON.
 *
 * It serves until it is told to stop with SIGTERM. Then its process has to end by itself: nothing holds it but what the
 * server may have left.
 */
import { Deferred, Effect, Stream } from "effect"
import { Component, Endpoint, HandlerMap, Listener, Server } from "effect-call"
import { Chat, component, failureOf, Refused, Typed, Upload } from "./contract.ts"
import { ExecutionLog } from "./executions.ts"
import { activeResources, added } from "./leftovers.ts"
import { makeAnswer, type Payload, readPayload } from "./payload.ts"
import { answerDriver, leaveDriver, tellDriver } from "./process.ts"
import { makeHandlers } from "./streamHandlers.ts"

/** What a replica is told when it is started. */
export interface ReplicaSettings {
  /** The number of its process, which no other has. */
  readonly stamp: number
  /** Where it listens, such as `tcp://127.0.0.1:0`. */
  readonly address: string
  /** Certificates in PEM, where it is to speak mTLS. */
  readonly tls?: { readonly ca: string; readonly cert: string; readonly key: string } | undefined
  readonly server: Server.ServerOptions
  /** Where it notes what it executes. */
  readonly directory: string
}

/** What it says first. */
export type Greeting =
  | { readonly _tag: "Listening"; readonly address: string }
  | { readonly _tag: "CannotListen"; readonly message: string }

/** What it answers when it is asked, and says when it has stopped. */
export interface State {
  readonly _tag: "State"
  /** Calls that its handlers have seen. */
  readonly started: number
  /** Handlers that have not ended, by their method. */
  readonly running: Readonly<Record<string, number>>
  /** Arguments that were not what was sent. */
  readonly wrong: ReadonlyArray<string>
  /** What keeps its process alive, and did not when it began to listen. */
  readonly left: ReadonlyArray<string>
}

// What has started it has written this.
const settings = JSON.parse(process.argv[2] ?? "") as ReplicaSettings
const log = new ExecutionLog(settings.directory, settings.stamp)
const running: Record<string, number> = {}
const wrong: Array<string> = []
let started = 0
let idle: ReadonlyArray<string> = []

const state = (): State => ({ _tag: "State", started, running, wrong, left: added(idle, activeResources()) })

/** Notes that a call is executed, and reads its arguments. */
const begin = (bytes: Uint8Array): Payload => {
  started++
  const payload = readPayload(bytes)
  if (typeof payload === "string") {
    wrong.push(payload)
    return { id: 0, work: 0 }
  }
  if (payload.id !== 0) log.add(payload.id)
  return payload
}

const count = (name: string, change: 1 | -1) => {
  running[name] = (running[name] ?? 0) + change
}

/** A handler that takes its time counts as running until it has ended, however it does. */
const counted = <A, E>(name: string, effect: Effect.Effect<A, E>): Effect.Effect<A, E> =>
  Effect.uninterruptibleMask((restore) => {
    count(name, 1)
    return Effect.onExit(restore(effect), () => Effect.sync(() => count(name, -1)))
  })

/** What the methods do, the same with bytes and typed. */
const methods = {
  echo: (bytes: Uint8Array) => {
    begin(bytes)
    return Effect.succeed(makeAnswer(settings.stamp, bytes))
  },
  slow: (bytes: Uint8Array) => {
    const { work } = begin(bytes)
    return counted("slow", Effect.as(Effect.sleep(work), makeAnswer(settings.stamp, bytes)))
  },
  never: (bytes: Uint8Array) => {
    begin(bytes)
    return counted("never", Effect.never)
  },
  die: (bytes: Uint8Array) => {
    const { id } = begin(bytes)
    return Effect.die(new Error(`call ${id} was to die`))
  }
}

/** What the streams have in common, in bytes and typed. */
const serving = {
  stamp: settings.stamp,
  begin: (id: number) => {
    started++
    log.add(id)
  },
  wrong: (what: string) => void wrong.push(what),
  running: count
}
const streams = makeHandlers({ ...serving, failure: (id) => new Error(failureOf(id)) })
const typedStreams = makeHandlers({ ...serving, failure: (id) => new Refused({ id }) })

const inBytes = HandlerMap.empty.pipe(
  HandlerMap.set(component, "echo", methods.echo),
  HandlerMap.set(component, "slow", methods.slow),
  HandlerMap.set(component, "never", methods.never),
  HandlerMap.set(component, "die", methods.die),
  HandlerMap.set(component, "fail", (bytes) => {
    const { id } = begin(bytes)
    return Effect.fail(new Error(failureOf(id)))
  }),
  HandlerMap.setStream(component, "feed", streams.feed),
  HandlerMap.setStream(component, "upload", (args, items) => Stream.fromEffect(streams.upload(args, items))),
  HandlerMap.setStream(component, "chat", streams.chat)
)

const typed = Typed.group.toLayer({
  echo: ({ bytes }) => methods.echo(bytes),
  slow: ({ bytes }) => methods.slow(bytes),
  never: ({ bytes }) => methods.never(bytes),
  die: ({ bytes }) => methods.die(bytes),
  fail: ({ bytes }) => {
    const { id } = begin(bytes)
    return Effect.fail(new Refused({ id }))
  },
  note: ({ bytes }) => {
    const { work } = begin(bytes)
    return counted("note", Effect.sleep(work))
  },
  feed: ({ bytes }) => typedStreams.feed(bytes),
  queue: ({ bytes }) => typedStreams.queue(bytes),
  upload: ({ bytes }) => Effect.flatMap(Component.items(Upload), (items) => typedStreams.upload(bytes, items)),
  chat: ({ bytes }) => Stream.unwrap(Effect.map(Component.items(Chat), (items) => typedStreams.chat(bytes, items)))
})

const listen = Effect.gen(function*() {
  const { addr, network } = yield* Effect.orDie(Endpoint.parse(settings.address))
  const handlers = HandlerMap.merge(inBytes, yield* Component.handlers(Typed, typed))
  const listener = network === "unix" ? yield* Listener.unix(addr, handlers) : yield* Listener.tcp(addr, handlers)
  return settings.tls === undefined ? listener : yield* Listener.mtls(settings.tls, listener)
})

const stop = Deferred.makeUnsafe<void>()
process.once("SIGTERM", () => Deferred.doneUnsafe(stop, Effect.void))
answerDriver(state)

/** After so many ms a process that has nothing left to do is asked what keeps it. */
const patience = 2000

const main = Effect.gen(function*() {
  const listener = yield* listen
  yield* Effect.forkScoped(Server.serve(listener, settings.server), { startImmediately: true })
  idle = activeResources()
  yield* tell({ _tag: "Listening", address: listener.address })
  yield* Deferred.await(stop)
})

const tell = (message: Greeting | State) => Effect.promise(() => tellDriver(message))

Effect.runFork(
  main.pipe(
    Effect.scoped,
    Effect.catchTag("ListenerError", ({ message }) => tell({ _tag: "CannotListen", message })),
    Effect.andThen(Effect.suspend(() => tell(state()))),
    Effect.andThen(Effect.sync(() => {
      log.close()
      leaveDriver()
      setTimeout(() => console.error("still alive:", activeResources()), patience).unref()
    }))
  )
)
