/** Endpoints and views of them for tests of balancers, and picks made with a seed. */
import { Effect, Random } from "effect"
import { type Balancer, Endpoint } from "effect-call"

/** A view that tests set as they like. */
export interface TestView extends Balancer.EndpointView {
  callsPending: number
  latency: number | undefined
  weight: number
}

export const endpoint = (index: number, attributes: Endpoint.Attributes = {}): Endpoint.Endpoint =>
  Endpoint.withAttributes(Endpoint.tcp(`10.0.${index >> 8}.${index & 255}:7000`), attributes)

export const endpointsOf = (count: number, attributes: Endpoint.Attributes = {}): ReadonlyArray<Endpoint.Endpoint> =>
  Array.from({ length: count }, (_, index) => endpoint(index, attributes))

const view = (of: Endpoint.Endpoint, over: Partial<TestView> = {}): TestView => ({
  endpoint: of,
  state: "Active",
  callsPending: 0,
  latency: undefined,
  failuresInARow: 0,
  weight: of.weight ?? 1,
  ...over
})

export const viewsOf = (endpoints: ReadonlyArray<Endpoint.Endpoint>, over: Partial<TestView> = {}) =>
  endpoints.map((endpoint) => view(endpoint, over))

/** Random numbers that are the same in each run (mulberry32). */
const seededRandom = (seed: number): Random.Random => {
  let state = seed >>> 0
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
  return { nextDoubleUnsafe: next, nextIntUnsafe: () => Math.floor(next() * 2 ** 53) }
}

export const makeBalancer = (make: Effect.Effect<Balancer.Balancer>): Balancer.Balancer => Effect.runSync(make)

const noneExcluded: ReadonlySet<string> = new Set()

export const addressesOf = (endpoints: ReadonlyArray<Endpoint.Endpoint>): ReadonlySet<string> =>
  new Set(endpoints.map(({ address }) => address))

/** A function that picks, one after the other, and gives the addresses. */
export const picker = (balancer: Balancer.Balancer, seed = 1) => {
  const random = seededRandom(seed)
  return (options: Partial<Balancer.PickOptions> = {}): string =>
    Effect.runSync(
      Effect.provideService(balancer.pick({ avoid: noneExcluded, ...options }), Random.Random, random)
    ).address
}

/** How often each address was picked. */
export const countPicks = (
  times: number,
  pick: (index: number) => string
): Map<string, number> => {
  const counts = new Map<string, number>()
  for (let i = 0; i < times; i++) {
    const address = pick(i)
    counts.set(address, (counts.get(address) ?? 0) + 1)
  }
  return counts
}

/** The message with which there is nothing to pick. */
export const whyNone = (balancer: Balancer.Balancer, options: Partial<Balancer.PickOptions> = {}): string =>
  Effect.runSync(Effect.flip(balancer.pick({ avoid: noneExcluded, ...options }))).message
