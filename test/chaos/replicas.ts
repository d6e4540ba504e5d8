/**
 * The replicas, as the driver sees them: processes that it starts, kills, freezes, stops, and moves to another place.
 */
import { Deferred, Effect, Option } from "effect"
import { Endpoint, type Server } from "effect-call"
import { join } from "node:path"
import { eventually } from "./eventually.ts"
import { limits } from "./limits.ts"
import type { Question } from "./network.ts"
import { addressOf, type Place, placeOf } from "./place.ts"
import { Child } from "./process.ts"
import type { Fault } from "./proxy.ts"
import type { Recovery } from "./recovery.ts"
import type { Greeting, ReplicaSettings, State } from "./replica.ts"
import type { Check } from "./violations.ts"
import type { World } from "./world.ts"

export interface ReplicaSpec {
  readonly name: string
  readonly transport: "tcp" | "unix" | "mtls"
  /** Whether clients reach it through a proxy. */
  readonly proxied: boolean
  readonly server: Server.ServerOptions
}

const program = new URL("./replica.ts", import.meta.url)

/** How many places a replica moves among. */
const homes = 3

let lastStamp = 0

export class Replica {
  readonly spec: ReplicaSpec
  /** The number of its process. */
  stamp = 0
  private readonly world: World
  private readonly recovery: Recovery
  private readonly places = new Map<number, Place>()
  private home = 0
  private child: Child | undefined = undefined
  /** Where clients reach it. */
  private door: Place | undefined = undefined

  constructor(spec: ReplicaSpec, world: World, recovery: Recovery) {
    this.spec = spec
    this.world = world
    this.recovery = recovery
  }

  /** What clients dial. */
  get endpoint(): Endpoint.Endpoint {
    const address = addressOf(this.door ?? { port: 0 })
    const plain = Effect.runSync(Effect.orDie(Endpoint.parse(address)))
    if (this.spec.transport !== "mtls") return plain
    const { ca, client } = this.world.certificates
    return Endpoint.mtls({ ca, ...client, servername: "localhost" }, plain)
  }

  /** Starts its process where it was before, or elsewhere if it cannot listen there any more. It is not running. */
  readonly start: Effect.Effect<void, Error> = Effect.gen({ self: this }, function*() {
    const { name, proxied, server, transport } = this.spec
    const { certificates, directory, journal } = this.world
    const stamp = ++lastStamp
    const settings: ReplicaSettings = {
      stamp,
      address: addressOf(this.places.get(this.home) ?? this.freshPlace()),
      tls: transport === "mtls" ? { ca: certificates.ca, ...certificates.server } : undefined,
      server,
      directory
    }
    const child = new Child(program, [JSON.stringify(settings)], join(directory, `replica-${name}.log`))
    this.child = child
    const greeting = yield* child.receiveNext<Greeting>()
    if (greeting._tag === "CannotListen") {
      // Another process has taken the port in the meantime.
      journal.add("cannot listen", { replica: name, stamp, message: greeting.message })
      yield* Deferred.await(child.ended)
      this.places.delete(this.home)
      return yield* this.start
    }
    const place = placeOf(greeting.address)
    this.places.set(this.home, place)
    this.stamp = stamp
    if (!proxied) this.door = place
    else if (this.door === undefined) this.door = yield* this.addProxy(place)
    else yield* this.tellNetwork({ _tag: "Aim", name, target: place })
    this.recovery.started(stamp, name, performance.now())
    journal.add("listening", { replica: name, stamp, pid: child.pid, at: greeting.address })
  })

  /** Kills its process. It is gone when this has ended. */
  readonly kill: Effect.Effect<void> = Effect.suspend(() => this.child?.kill ?? Effect.void)

  /** Tells its process to stop. It has to do so by itself, having ended all of its handlers. */
  readonly stop: Effect.Effect<void> = Effect.gen({ self: this }, function*() {
    const { child } = this
    const { stopped, violations } = this.world
    if (child === undefined) return
    stopped.add(this.stamp)
    child.signal("SIGTERM")
    const last = yield* child.receiveNext<State>().pipe(
      Effect.option,
      Effect.timeoutOption(limits.stop),
      Effect.map(Option.flatten)
    )
    if (Option.isSome(last)) this.checkLast(last.value)
    const ended = yield* Effect.timeoutOption(Deferred.await(child.ended), limits.stop)
    if (Option.isNone(ended)) {
      violations.add("notStopped", `${this.name} was still there ${limits.stop} ms after SIGTERM`)
      yield* this.kill
    } else if (ended.value.code !== 0) {
      violations.add(
        "notStopped",
        `${this.name} ended with ${ended.value.signal ?? `code ${ended.value.code}`} after SIGTERM`
      )
    }
  })

  /** It goes on existing and does nothing. */
  readonly freeze: Effect.Effect<void> = Effect.sync(() => this.child?.signal("SIGSTOP"))

  readonly thaw: Effect.Effect<void> = Effect.sync(() => this.child?.signal("SIGCONT"))

  /** It is to be started elsewhere the next time. */
  move(): void {
    this.home = (this.home + 1) % homes
  }

  disturb(fault: Fault): Effect.Effect<void, Error> {
    return this.tellNetwork({ _tag: "Fault", name: this.spec.name, fault })
  }

  readonly heal: Effect.Effect<void, Error> = Effect.suspend(() =>
    this.tellNetwork({ _tag: "Heal", name: this.spec.name })
  )

  /** Waits until no handler runs any more, while clients are still there. */
  readonly checkHandlersEnded: Effect.Effect<void, Error> = Effect.suspend(() =>
    this.checkNone("handlersLeft", handlersOf)
  )

  /** Waits until it has nothing left of clients that are gone: no socket, no timer. */
  readonly checkIdle: Effect.Effect<void, Error> = Effect.suspend(() =>
    this.checkNone("socketsLeft", ({ left }) => left)
  )

  private readonly checkNone = Effect.fnUntraced({ self: this }, function*(
    check: Check,
    of: (state: State) => ReadonlyArray<string>
  ) {
    const { child } = this
    if (child === undefined) return
    const left = yield* eventually(
      Effect.map(child.ask<State>({}), (state) => {
        const left = of(state)
        return left.length > 0 ? left : undefined
      }),
      limits.stop
    )
    if (left !== undefined) this.world.violations.add(check, `${this.name}: ${left.join(", ")}`)
  })

  /** For people. */
  private get name(): string {
    return `replica ${this.spec.name} (process ${this.stamp})`
  }

  /** What it says when it has stopped. */
  private checkLast(state: State): void {
    const { violations } = this.world
    const left = handlersOf(state)
    if (left.length > 0) violations.add("handlersLeft", `${this.name}, when it had stopped: ${left.join(", ")}`)
    for (const wrong of state.wrong) violations.add("wrongAnswers", `${this.name} has got ${wrong}`)
  }

  private freshPlace(): Place {
    const { name, transport } = this.spec
    return transport === "unix" ? { path: join(this.world.directory, `${name}${this.home}.sock`) } : { port: 0 }
  }

  private addProxy(target: Place): Effect.Effect<Place, Error> {
    const { name, transport } = this.spec
    const place: Place = transport === "unix" ? { path: join(this.world.directory, `${name}.proxy.sock`) } : { port: 0 }
    return this.world.network.ask<Place>({ _tag: "Add", name, place, target } satisfies Question)
  }

  private tellNetwork(question: Question): Effect.Effect<void, Error> {
    return Effect.asVoid(this.world.network.ask(question))
  }
}

const handlersOf = ({ running }: State): ReadonlyArray<string> =>
  Object.entries(running).filter(([, count]) => count !== 0).map(([name, count]) => `${count} of ${name}`)
