/**
 * Who takes part in a soak: the network, the replicas, and the slots that call them.
 */
import { Effect } from "effect"
import { Endpoint } from "effect-call"
import { join } from "node:path"
import { makeAuthority } from "../../examples/support/certificates.ts"
import { FairClock } from "./fairClock.ts"
import type { Journal } from "./journal.ts"
import { Ledger } from "./ledger.ts"
import { limits } from "./limits.ts"
import type { Question } from "./network.ts"
import { addressOf, type Place } from "./place.ts"
import { Child } from "./process.ts"
import { Recovery } from "./recovery.ts"
import { Replica } from "./replicas.ts"
import { replicas as replicaSpecs, slots as slotSpecs } from "./settings.ts"
import { Slot } from "./slots.ts"
import { StreamCounts } from "./streamCounts.ts"
import type { Violations } from "./violations.ts"
import type { World } from "./world.ts"

export interface Cast {
  readonly world: World
  readonly ledger: Ledger
  readonly recovery: Recovery
  readonly streams: StreamCounts
  readonly replicas: ReadonlyArray<Replica>
  readonly slots: ReadonlyArray<Slot>
  /** Endpoints without a server. */
  readonly dead: ReadonlyArray<Endpoint.Endpoint>
}

const makeCertificates = Effect.gen(function*() {
  const authority = yield* makeAuthority()
  return {
    ca: authority.ca,
    server: yield* authority.server(),
    client: yield* authority.client({ commonName: "soak" })
  }
})

const startNetwork = (seed: number, directory: string) =>
  Effect.acquireRelease(
    Effect.sync(() =>
      new Child(new URL("./network.ts", import.meta.url), [String(seed)], join(directory, "network.log"))
    ),
    (network) => network.kill
  )

const startReplicas = Effect.fnUntraced(function*(world: World, recovery: Recovery) {
  const replicas = replicaSpecs.map((spec) => new Replica(spec, world, recovery))
  yield* Effect.addFinalizer(() => Effect.forEach(replicas, ({ kill }) => kill, { discard: true }))
  yield* Effect.forEach(replicas, ({ start }) => start, { concurrency: "unbounded", discard: true })
  return replicas
})

/** Starts all of it. It goes with the Scope. */
export const assemble = Effect.fnUntraced(function*(
  seed: number,
  directory: string,
  journal: Journal,
  violations: Violations
) {
  const certificates = yield* makeCertificates
  const network = yield* startNetwork(seed, directory)
  const world: World = { seed, directory, journal, violations, network, stopped: new Set(), certificates }
  const silent = yield* network.ask<Place>({ _tag: "BeSilent" } satisfies Question)
  const dead = [Endpoint.unix(join(directory, "nobody.sock")), yield* Endpoint.parse(addressOf(silent))]
  const recovery = new Recovery()
  const clock = new FairClock(performance.now())
  const ledger = new Ledger(violations, clock)
  yield* Effect.forkScoped(Effect.forever(Effect.andThen(
    Effect.sleep(limits.poll),
    Effect.sync(() => {
      clock.look(performance.now())
      ledger.checkLate()
    })
  )))
  const replicas = yield* startReplicas(world, recovery)
  const listed = replicas.map(({ endpoint }) => endpoint)
  const slots = yield* Effect.forEach(slotSpecs, (spec) => Slot.open(spec, listed, world, ledger))
  yield* Effect.addFinalizer(() => Effect.forEach(slots, ({ close }) => close, { discard: true }))
  const cast: Cast = { world, ledger, recovery, streams: new StreamCounts(), replicas, slots, dead }
  return cast
})
