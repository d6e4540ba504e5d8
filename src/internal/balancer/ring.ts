/**
 * A ring of hashes: every endpoint has a number of points on it, and a key belongs to the endpoint of the next point.
 *
 * ```
 *     key ─┐
 *  ────────▼───A──────B───A─────────C────B──▶   A; if A is not accepted, B; and then C
 * ```
 *
 * The points of an endpoint do not depend on the other endpoints. An endpoint that joins takes over the keys in front
 * of its points, and no other key moves.
 *
 * Points do not depend on weights either. Weights count in the search for the endpoint of a key: the distance to a
 * point is divided by the weight of its endpoint, and the smallest quotient wins. With equal weights that is the next
 * point. Otherwise a few more points are looked at: their number is the largest weight divided by the mean. The shares
 * of the keys follow the weights. If all weights change by the same factor, as with a resolver that gives percentages,
 * no key moves. With more points for larger weights, nearly all keys would move. This file does not know why an
 * endpoint is not accepted.
 */
import type { Endpoint } from "../../Endpoint.ts"
import { hashText, mix } from "./hash.ts"

/** On average, the shares of the keys are off by 1/√128, some 9 %. */
const pointsEach = 128

/** Whether the endpoint at an index can take the key. */
export interface Accepts {
  (index: number): boolean
}

/** The points of all endpoints, and the search for the endpoint of a key. */
export class Ring {
  /** The points, in order. */
  private points = new Uint32Array(0)
  /** The endpoint of each point, as an index in the list of endpoints. */
  private owners = new Int32Array(0)
  /** The ring in equal parts, and the first point of each: a key is searched for in its own part only. */
  private firsts = new Uint32Array(2)
  private shift = 31
  private addresses: ReadonlyArray<string> = []
  private weights = new Float64Array(0)
  /** The largest weight; undefined if all are equal. */
  private heaviest: number | undefined

  update(endpoints: ReadonlyArray<Endpoint>, weights: Float64Array<ArrayBuffer>): void {
    const before = this.addresses
    const addresses = endpoints.map(({ address }) => address)
    this.weights = weights
    const heaviest = weights.reduce((most, weight) => Math.max(most, weight), 0)
    this.heaviest = weights.every((weight) => weight === heaviest) ? undefined : heaviest
    if (addresses.length === before.length && addresses.every((address, index) => address === before[index])) return
    this.addresses = addresses

    // The points of endpoints that stay are in order already. Only new points are sorted.
    const indices = new Map(addresses.map((address, index) => [address, index]))
    const moved = Int32Array.from(before, (address) => indices.get(address) ?? -1)
    for (const address of before) indices.delete(address)
    const added = pointsOf(indices)
    const length = addresses.length * pointsEach
    const points = new Uint32Array(length)
    const owners = new Int32Array(length)
    let at = 0
    let old = 0
    for (let i = 0; i <= added.length; i++) {
      const packed = added[i]
      const point = packed === undefined ? Infinity : Math.floor(packed / maxEndpoints)
      for (; old < this.points.length && (this.points[old] ?? 0) <= point; old++) {
        const owner = moved[this.owners[old] ?? 0] ?? -1
        if (owner < 0) continue
        points[at] = this.points[old] ?? 0
        owners[at++] = owner
      }
      if (packed === undefined) break
      points[at] = point
      owners[at++] = packed % maxEndpoints
    }
    // Some points coincide. Their order must not depend on which endpoint came first: other clients may have seen
    // another order.
    for (let i = 1; i < at; i++) {
      for (let j = i; j > 0 && points[j] === points[j - 1]; j--) {
        const one = owners[j - 1] ?? 0
        const other = owners[j] ?? 0
        if ((addresses[one] ?? "") <= (addresses[other] ?? "")) break
        owners[j - 1] = other
        owners[j] = one
      }
    }
    this.points = points
    this.owners = owners

    const bits = Math.max(1, Math.ceil(Math.log2(length + 1)))
    this.shift = 32 - bits
    this.firsts = new Uint32Array(2 ** bits)
    for (let part = 0, point = 0; part < 2 ** bits; part++) {
      while (point < length && (points[point] ?? 0) >>> this.shift < part) point++
      this.firsts[part] = point
    }
  }

  /** The index of the accepted endpoint that a key with this hash belongs to; -1 if no endpoint is accepted. */
  find(hash: number, accepts: Accepts): number {
    const { heaviest, owners, points, weights } = this
    const { length } = points
    let at = this.firsts[hash >>> this.shift] ?? 0
    while (at < length && (points[at] ?? 0) < hash) at++
    let found = -1
    let least = Infinity
    for (let i = 0; i < length; i++, at++) {
      if (at >= length) at = 0
      const owner = owners[at] ?? 0
      if (heaviest === undefined) {
        if (accepts(owner)) return owner
        continue
      }
      const distance = ((points[at] ?? 0) - hash) >>> 0
      // From here on, even the heaviest endpoint would be farther away.
      if (distance >= least * heaviest) return found
      const scaled = distance / (weights[owner] ?? 1)
      if (scaled < least && accepts(owner)) {
        found = owner
        least = scaled
      }
    }
    return found
  }
}

/** A point and the index of its endpoint are sorted as one number of 53 bits. */
const maxEndpoints = 2 ** 21

const pointsOf = (indices: ReadonlyMap<string, number>): Float64Array => {
  const packed = new Float64Array(indices.size * pointsEach)
  let at = 0
  for (const [address, index] of indices) {
    const hash = hashText(address)
    for (let i = 1; i <= pointsEach; i++) packed[at++] = mix(hash ^ Math.imul(i, 0x9e3779b1)) * maxEndpoints + index
  }
  return packed.sort()
}
