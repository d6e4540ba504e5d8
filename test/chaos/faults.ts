/**
 * What befalls a replica: one fault after the other, until it is over; then it is left in good health.
 */
import { Effect } from "effect"
import type { FaultName } from "./faultName.ts"
import type { Fault } from "./proxy.ts"
import type { Random } from "./random.ts"
import type { Recovery } from "./recovery.ts"
import type { Replica } from "./replicas.ts"
import { faultWeights, proxyFaultWeights, respite } from "./settings.ts"
import type { Phase, World } from "./world.ts"

/** What a fate has at hand. */
interface Fate {
  readonly replica: Replica
  readonly random: Random
  readonly phase: Phase
}

/** How long a replica is down before it is started again, in ms; often it is restarted at once. */
const downTime = (random: Random): number => random.chance(0.3) ? 0 : random.magnitude(50, 1500)

const kill = Effect.fnUntraced(function*({ phase, random, replica }: Fate) {
  yield* replica.kill
  yield* phase.pause(downTime(random))
  yield* replica.start
})

const stop = Effect.fnUntraced(function*({ phase, random, replica }: Fate) {
  yield* replica.stop
  yield* phase.pause(downTime(random))
  yield* replica.start
})

const move = Effect.fnUntraced(function*(fate: Fate) {
  fate.replica.move()
  yield* fate.random.chance(0.5) ? kill(fate) : stop(fate)
})

const freeze = Effect.fnUntraced(function*(fate: Fate) {
  const { phase, random, replica } = fate
  yield* replica.freeze
  yield* phase.pause(random.magnitude(50, 3000))
  if (random.chance(0.2)) return yield* kill(fate)
  yield* replica.thaw
})

/** Something that the proxy does until it is healed. */
const disturb = (most: number, faultOf: (random: Random) => Fault) =>
  Effect.fnUntraced(function*({ phase, random, replica }: Fate) {
    yield* replica.disturb(faultOf(random))
    yield* phase.pause(random.magnitude(50, most))
    yield* replica.heal
  })

const direction = (random: Random) => random.pick(["toServer", "toClient"])

const faults: Readonly<Record<FaultName, (fate: Fate) => Effect.Effect<void, Error>>> = {
  kill,
  stop,
  freeze,
  move,
  cut: disturb(500, (random) => ({
    _tag: "Cut",
    direction: direction(random),
    // In a header, or in the middle of a large payload.
    after: random.chance(0.2) ? 0 : random.magnitude(1, 200_000),
    how: random.pick(["reset", "end", "half-close"])
  })),
  delay: disturb(2000, (random) => ({ _tag: "Delay", millis: random.magnitude(1, 300) })),
  split: disturb(1500, (random) => ({ _tag: "Split", largest: random.magnitude(1, 100) })),
  blackHole: disturb(3000, (random) => ({
    _tag: "BlackHole",
    directions: random.chance(0.5) ? ["toServer", "toClient"] : [direction(random)],
    healedBy: random.pick(["release", "reset"])
  })),
  refuse: disturb(1000, () => ({ _tag: "Refuse" })),
  vanish: disturb(1000, () => ({ _tag: "Vanish" }))
}

/** Lets faults befall a replica until the phase is over. Counts them by their names. */
export const fateOf = Effect.fnUntraced(function*(
  replica: Replica,
  random: Random,
  phase: Phase,
  { journal }: World,
  recovery: Recovery,
  counts: Map<FaultName, number>
) {
  const weights = replica.spec.proxied ? proxyFaultWeights : faultWeights
  const { name } = replica.spec
  while (true) {
    yield* phase.pause(random.between(respite.least, respite.most))
    if (phase.isOver) return
    const fault = random.weighted(weights)
    counts.set(fault, (counts.get(fault) ?? 0) + 1)
    journal.add("fault", { replica: name, stamp: replica.stamp, fault })
    recovery.disturbed(name, performance.now())
    yield* faults[fault]({ replica, random, phase })
    recovery.healed(name, performance.now())
    journal.add("healed", { replica: name, stamp: replica.stamp, fault })
  }
})
