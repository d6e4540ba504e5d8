/**
 * Slots: each has a Connection at any time, which is closed now and then and made again, and callers that call over it.
 */
import { Effect, Exit, Scope, SubscriptionRef } from "effect"
import { Component, Connection, type Endpoint, Resolver } from "effect-call"
import { Typed } from "./contract.ts"
import type { Ledger } from "./ledger.ts"
import { limits } from "./limits.ts"
import type { Habits } from "./plan.ts"
import type { Random } from "./random.ts"
import type { Recovery } from "./recovery.ts"
import type { Replica } from "./replicas.ts"
import type { Phase, World } from "./world.ts"

export interface SlotSpec {
  readonly name: string
  readonly habits: Habits
  readonly options: Connection.ClientOptions
  /** How long a Connection lives, in ms. */
  readonly lifetime: { readonly least: number; readonly most: number }
  /** How typed calls are written. */
  readonly format: "binary" | "json"
}

/** A Connection, and what calls over it need. */
export interface Client {
  /** Which Connection it is, of all that there were. */
  readonly number: number
  readonly connection: Connection.Connection
  readonly typed: Component.Client<typeof Typed>
  readonly scope: Scope.Closeable
  /** Whether it is being closed, or was. */
  closing: boolean
}

let lastNumber = 0

export class Slot {
  readonly spec: SlotSpec
  /** What its resolver says. */
  readonly endpoints: SubscriptionRef.SubscriptionRef<ReadonlyArray<Endpoint.Endpoint>>
  client: Client
  private readonly world: World
  private readonly ledger: Ledger
  /** The longest that a close took, in ms. */
  slowestClose = 0

  private constructor(spec: SlotSpec, endpoints: Slot["endpoints"], client: Client, world: World, ledger: Ledger) {
    this.spec = spec
    this.endpoints = endpoints
    this.client = client
    this.world = world
    this.ledger = ledger
  }

  static readonly open = Effect.fnUntraced(function*(
    spec: SlotSpec,
    listed: ReadonlyArray<Endpoint.Endpoint>,
    world: World,
    ledger: Ledger
  ) {
    const endpoints = yield* SubscriptionRef.make(listed)
    return new Slot(spec, endpoints, yield* connect(spec, endpoints), world, ledger)
  })

  /** Closes its Connection, which ends all calls on it. */
  readonly close: Effect.Effect<void> = Effect.suspend(() => this.closeClient(this.client))

  private closeClient(client: Client): Effect.Effect<void> {
    const { spec } = this
    const start = performance.now()
    client.closing = true
    this.ledger.limitAll(limits.slack, client.number)
    const closed = Effect.andThen(client.connection.close, Scope.close(client.scope, Exit.void))
    return Effect.map(Effect.timeoutOption(closed, limits.close), ({ _tag }) => {
      const millis = performance.now() - start
      this.slowestClose = Math.max(this.slowestClose, millis)
      if (_tag === "None") {
        this.world.violations.add(
          "slowCloses",
          `Connection ${client.number} (${spec.name}) after ${millis.toFixed(0)} ms`
        )
      }
    })
  }

  /** Makes its Connection again now and then, until the phase is over. The last one stays open. */
  readonly renew = Effect.fnUntraced({ self: this }, function*(
    random: Random,
    phase: Phase,
    replicas: ReadonlyArray<Replica>,
    recovery: Recovery
  ) {
    const { endpoints, spec, world } = this
    while (true) {
      yield* phase.pause(random.between(spec.lifetime.least, spec.lifetime.most))
      if (phase.isOver) return
      const old = this.client
      // Callers that come in between are refused.
      const isFirst = random.chance(0.3)
      if (isFirst) yield* this.close
      this.client = yield* connect(spec, endpoints)
      const now = performance.now()
      for (const replica of replicas) recovery.listed(spec.name, replica.spec.name, now)
      world.journal.add("connection", { slot: spec.name, number: this.client.number })
      if (!isFirst) yield* this.closeClient(old)
    }
  })
}

const connect = Effect.fnUntraced(function*(spec: SlotSpec, endpoints: Slot["endpoints"]) {
  const scope = yield* Scope.make()
  // A resolver whose endpoints may change never lets this fail.
  const connection = yield* Effect.orDie(
    Scope.provide(Connection.make(Resolver.fromSubscriptionRef(endpoints), spec.options), scope)
  )
  const typed = yield* Effect.provideService(
    Component.client(Typed, { format: spec.format }),
    Connection.Connection,
    connection
  )
  const client: Client = { number: ++lastNumber, connection, typed, scope, closing: false }
  return client
})

/** How many Connections there were. */
export const connectionsMade = (): number => lastNumber
