/**
 * A resolver that flaps: what it says of the endpoints is not always true.
 */
import { Effect, SubscriptionRef } from "effect"
import type { Endpoint } from "effect-call"
import type { Random } from "./random.ts"
import type { Recovery } from "./recovery.ts"
import type { Replica } from "./replicas.ts"
import type { Phase } from "./world.ts"

/** What a resolver says, and for how long, in ms. */
export interface View<A> {
  readonly items: ReadonlyArray<A>
  readonly millis: number
}

/** Changes the truth in one way or another, or not at all. `dead` is an endpoint without a server. */
export const viewOf = <A>(random: Random, truth: ReadonlyArray<A>, dead: ReadonlyArray<A>): View<A> => {
  const shuffled = random.shuffled(truth)
  const millis = random.magnitude(20, 1000)
  switch (random.weighted({ truth: 5, reordered: 3, some: 3, doubled: 2, dead: 2, none: 1 })) {
    case "truth":
      return { items: truth, millis }
    case "reordered":
      return { items: shuffled, millis }
    case "some":
      return { items: shuffled.slice(0, random.whole(1, truth.length)), millis }
    case "doubled":
      return { items: [...truth, ...shuffled.slice(0, 2)], millis }
    case "dead":
      return { items: random.shuffled([...truth, ...random.shuffled(dead).slice(0, 1)]), millis }
    case "none":
      return { items: [], millis: Math.min(millis, 100) }
  }
}

type Endpoints = SubscriptionRef.SubscriptionRef<ReadonlyArray<Endpoint.Endpoint>>

/** Sets what a slot's resolver says, and notes which replicas it has not known of before. */
export const list = Effect.fnUntraced(function*(
  ref: Endpoints,
  endpoints: ReadonlyArray<Endpoint.Endpoint>,
  replicas: ReadonlyArray<Replica>,
  slot: string,
  recovery: Recovery
) {
  const addresses = (endpoints: ReadonlyArray<Endpoint.Endpoint>) => new Set(endpoints.map(({ address }) => address))
  const before = addresses(SubscriptionRef.getUnsafe(ref))
  const now = addresses(endpoints)
  for (const { endpoint: { address }, spec } of replicas) {
    if (now.has(address) && !before.has(address)) recovery.listed(slot, spec.name, performance.now())
  }
  yield* SubscriptionRef.set(ref, endpoints)
})

/** Lets a slot's resolver flap until the phase is over; then it says the truth. */
export const flap = Effect.fnUntraced(function*(
  ref: Endpoints,
  replicas: ReadonlyArray<Replica>,
  dead: ReadonlyArray<Endpoint.Endpoint>,
  slot: string,
  random: Random,
  phase: Phase,
  recovery: Recovery
) {
  while (!phase.isOver) {
    const view = viewOf(random, replicas.map(({ endpoint }) => endpoint), dead)
    yield* list(ref, view.items, replicas, slot, recovery)
    yield* phase.pause(view.millis)
  }
})
