/**
 * Random numbers that can be repeated: each depends on a seed and a name alone. Every user has a source of its own, so
 * that none disturbs what the others draw.
 */
import { crc32 } from "node:zlib"

/** A list with at least one item. */
export type NonEmpty<A> = readonly [A, ...ReadonlyArray<A>]

export class Random {
  private state: number

  constructor(seed: number, name: string) {
    this.state = crc32(name, seed)
  }

  /** From 0 on, below 1. (The generator is mulberry32.) */
  next(): number {
    this.state = (this.state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(this.state ^ (this.state >>> 15), this.state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }

  chance(probability: number): boolean {
    return this.next() < probability
  }

  between(least: number, most: number): number {
    return least + (most - least) * this.next()
  }

  /** A whole number, both ends included. */
  whole(least: number, most: number): number {
    return least + Math.floor((most - least + 1) * this.next())
  }

  /** A whole number such that each order of magnitude is as likely as the others. */
  magnitude(least: number, most: number): number {
    return Math.round(least * (most / least) ** this.next())
  }

  pick<const A>(items: NonEmpty<A>): A {
    return items[this.whole(0, items.length - 1)] ?? items[0]
  }

  /** One of the names, by their weights. */
  weighted<Name extends string>(weights: Readonly<Partial<Record<Name, number>>>): Name {
    // The keys of a record are of its type, unless a cast has changed that.
    const entries = Object.entries(weights) as Array<[Name, number]>
    let left = this.next() * entries.reduce((sum, [, weight]) => sum + weight, 0)
    for (const [name, weight] of entries) {
      left -= weight
      if (left < 0) return name
    }
    throw new Error("there is nothing to choose from")
  }

  shuffled<A>(items: ReadonlyArray<A>): Array<A> {
    return items.map((item) => ({ item, at: this.next() })).sort((a, b) => a.at - b.at).map(({ item }) => item)
  }
}
