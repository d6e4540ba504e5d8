/**
 * EndpointSlices as the Kubernetes API sends them, and the endpoints of all slices of a Service together.
 *
 * Pure: it does not know where the slices come from. Only the fields that are used are checked.
 */
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { isIPv4, isIPv6 } from "node:net"
import { formatTcp } from "../net/address.ts"

/** Go leaves a field out if it has no value, or writes null for it. */
const absent = <S extends Schema.Constraint>(schema: S) => Schema.optionalKey(Schema.NullOr(schema))

const SliceEndpoint = Schema.Struct({
  addresses: Schema.Array(Schema.String),
  conditions: absent(Schema.Struct({
    ready: absent(Schema.Boolean),
    serving: absent(Schema.Boolean),
    terminating: absent(Schema.Boolean)
  })),
  hints: absent(Schema.Struct({ forZones: absent(Schema.Array(Schema.Struct({ name: Schema.String }))) })),
  targetRef: absent(Schema.Struct({ uid: absent(Schema.String) })),
  zone: absent(Schema.String)
})

const SlicePort = Schema.Struct({
  name: absent(Schema.String),
  protocol: absent(Schema.String),
  port: absent(Schema.Int)
})

type SlicePort = typeof SlicePort.Type

/** `discovery.k8s.io/v1` EndpointSlice. */
export const Slice = Schema.Struct({
  metadata: Schema.Struct({ name: Schema.String, resourceVersion: Schema.String }),
  addressType: Schema.String,
  endpoints: absent(Schema.Array(SliceEndpoint)),
  ports: absent(Schema.Array(SlicePort))
})

export type Slice = typeof Slice.Type

/** A page of a list. */
export const SliceList = Schema.Struct({
  metadata: Schema.Struct({ resourceVersion: Schema.String, continue: absent(Schema.String) }),
  items: absent(Schema.Array(Slice))
})

/** One endpoint of the slices. */
export interface Found {
  /** `host:port`, the address of a TCP endpoint. */
  readonly address: string
  readonly zone: string | undefined
}

/** The endpoints, and one sentence for each problem with a slice that was left out. */
export interface Merged {
  readonly endpoints: ReadonlyArray<Found>
  readonly problems: ReadonlyArray<string>
}

/** How good an endpoint is. An endpoint without a rank gets no calls. */
type Rank = "ready" | "terminating"

/** The rank, as kube-proxy defines it: if conditions are missing, an endpoint is ready, serving and not terminating. */
const rankOf = (conditions: typeof SliceEndpoint.Type.conditions): Rank | undefined => {
  if (conditions?.ready ?? true) return "ready"
  return (conditions?.terminating ?? false) && (conditions?.serving ?? true) ? "terminating" : undefined
}

const families: ReadonlyMap<string, (address: string) => boolean> = new Map([["IPv4", isIPv4], ["IPv6", isIPv6]])

const describePort = ({ name, port }: SlicePort): string => {
  const number = String(port ?? "any number")
  return name === undefined || name === null || name === "" ? number : `${JSON.stringify(name)} (${number})`
}

/** The number of the wanted port in a slice. Each slice has its own ports, because pods can differ in theirs. */
const portIn = (slice: Slice, wanted: string | number | undefined): Result.Result<number, string> => {
  const all = slice.ports ?? []
  const ports = all.filter(({ protocol }) => (protocol ?? "TCP") === "TCP")
  const has = ports.length === 0 ? "it has none" : `it has ${ports.map(describePort).join(", ")}`
  if (typeof wanted === "number") {
    // A slice without ports, as a headless Service has it, allows any port. So does a port without a number.
    const listed = all.length === 0 || ports.some(({ port }) => (port ?? wanted) === wanted)
    return listed ? Result.succeed(wanted) : Result.fail(`has no TCP port ${wanted} on its pods: ${has}`)
  }
  const named = wanted === undefined ? ports : ports.filter(({ name }) => (name ?? "") === wanted)
  const [first, ...more] = named
  if (first === undefined) {
    return Result.fail(
      wanted === undefined ? "has no TCP port" : `has no TCP port named ${JSON.stringify(wanted)}: ${has}`
    )
  }
  if (more.length > 0) return Result.fail(`has several TCP ports, and the option "port" is not set: ${has}`)
  const { port } = first
  return port === undefined || port === null
    ? Result.fail(`has a TCP port without a number: set the option "port" to one`)
    : Result.succeed(port)
}

interface Candidate extends Found {
  /** The zones whose clients call it; undefined if it has no hints. */
  readonly forZones: ReadonlyArray<string> | undefined
  readonly rank: Rank
  readonly addressType: string
  readonly pod: string | undefined
}

/**
 * The endpoints for clients of a zone. If some endpoints have no hints, the cluster has not decided on all of them yet,
 * and the hints do not count.
 */
const forZone = (all: ReadonlyArray<Candidate>, zone: string | undefined): ReadonlyArray<Candidate> => {
  if (zone === undefined || all.some(({ forZones }) => forZones === undefined)) return all
  const near = all.filter(({ forZones }) => forZones?.includes(zone))
  return near.length === 0 ? all : near
}

/** Compares by code units, so that the order does not depend on the language of a client. */
const byText = (a: string, b: string): number => a < b ? -1 : a > b ? 1 : 0

/**
 * The endpoints of all slices, each address once, sorted by address.
 *
 * - Terminating endpoints count only if none is ready, as with kube-proxy.
 * - The first address of an endpoint counts. Kubernetes defines no meaning for the others.
 * - With a zone, the cluster's hints choose the endpoints, as with kube-proxy: this applies if all endpoints have
 *   hints, and at least one hint is for this zone.
 * - A pod of a dual-stack Service is in two slices, one for each family. It is one endpoint, with the IPv4 address.
 */
export const merge = (
  slices: Iterable<Slice>,
  wanted: string | number | undefined,
  ownZone?: string
): Merged => {
  const problems: Array<string> = []
  const candidates = new Map<string, Candidate>()
  for (const slice of [...slices].sort((a, b) => byText(a.metadata.name, b.metadata.name))) {
    const used = (slice.endpoints ?? []).flatMap((endpoint) => {
      const rank = rankOf(endpoint.conditions)
      return rank === undefined ? [] : [{ ...endpoint, rank }]
    })
    // A Service without pods has a slice without endpoints and without ports.
    if (used.length === 0) continue
    const name = `the EndpointSlice ${JSON.stringify(slice.metadata.name)}`
    const isAddress = families.get(slice.addressType)
    if (isAddress === undefined) {
      problems.push(`${name} has addresses of the type ${JSON.stringify(slice.addressType)}: expected IPv4 or IPv6`)
      continue
    }
    const port = portIn(slice, wanted)
    if (Result.isFailure(port)) {
      problems.push(`${name} ${port.failure}`)
      continue
    }
    for (const { addresses, hints, rank, targetRef, zone } of used) {
      const host = addresses[0] ?? ""
      if (!isAddress(host)) {
        problems.push(`${name} has the address ${JSON.stringify(host)}: expected an ${slice.addressType} address`)
        continue
      }
      const address = formatTcp(host, port.success)
      const known = candidates.get(address)
      // While an endpoint moves from one slice to another, it is in both, and one of the two is out of date.
      if (known !== undefined && (known.rank === rank || known.rank === "ready")) continue
      candidates.set(address, {
        address,
        zone: zone ?? undefined,
        forZones: hints?.forZones?.map(({ name }) => name),
        rank,
        addressType: slice.addressType,
        pod: targetRef?.uid ?? undefined
      })
    }
  }
  const all = [...candidates.values()]
  const ready = all.filter(({ rank }) => rank === "ready")
  const best = ready.length > 0 ? ready : all
  const withIPv4 = new Set(best.flatMap(({ addressType, pod }) => addressType === "IPv4" ? [pod] : []))
  const single = best
    .filter(({ addressType, pod }) => addressType === "IPv4" || pod === undefined || !withIPv4.has(pod))
  const endpoints = forZone(single, ownZone)
    .map(({ address, zone }) => ({ address, zone }))
    .sort((a, b) => byText(a.address, b.address))
  return { endpoints, problems }
}
