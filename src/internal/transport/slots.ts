/**
 * A table by id, for ids that are given in ascending order, as those of calls are. It knows nothing else of its
 * entries.
 *
 * A `Map` keeps garbage alive through scavenges, and each access costs a hash. Here the low bits of an id are the index
 * of its slot. Where an old entry is still in that slot, the new one goes into a Map. This halved a client's CPU at 256
 * callers.
 */

const firstSize = 16
const largestSize = 65_536

/** The entries of one connection. */
export class Slots<A extends { readonly id: number }> {
  private slots: Array<A | undefined> = new Array<A | undefined>(firstSize).fill(undefined)
  private mask = firstSize - 1
  private overflow: Map<number, A> | undefined = undefined
  /** How many entries there are. */
  size = 0

  get(id: number): A | undefined {
    const found = this.slots[id & this.mask]
    if (found !== undefined && found.id === id) return found
    return this.overflow === undefined ? undefined : this.overflow.get(id)
  }

  /** Adds an entry whose id is not in the table. */
  add(call: A): void {
    if (this.size >= this.slots.length && this.slots.length < largestSize) this.grow()
    this.size++
    this.place(call)
  }

  /** Removes the entry with this id and returns it. */
  remove(id: number): A | undefined {
    const index = id & this.mask
    const found = this.slots[index]
    if (found !== undefined && found.id === id) {
      this.slots[index] = undefined
      this.size--
      return found
    }
    if (this.overflow === undefined) return undefined
    const other = this.overflow.get(id)
    if (other !== undefined) {
      this.overflow.delete(id)
      if (this.overflow.size === 0) this.overflow = undefined
      this.size--
    }
    return other
  }

  /** Removes this entry. Returns whether it was there. */
  delete(entry: A): boolean {
    const index = entry.id & this.mask
    if (this.slots[index] === entry) {
      this.slots[index] = undefined
      this.size--
      return true
    }
    return this.overflow?.get(entry.id) === entry && this.remove(entry.id) === entry
  }

  /** The entries, as they are now: a list of its own. */
  values(): Array<A> {
    const all: Array<A> = []
    if (this.size === 0) return all
    for (const call of this.slots) {
      if (call !== undefined) all.push(call)
    }
    if (this.overflow !== undefined) {
      for (const call of this.overflow.values()) all.push(call)
    }
    return all
  }

  /** Removes all entries and returns them. */
  clear(): Array<A> {
    const all = this.values()
    this.slots = new Array<A | undefined>(firstSize).fill(undefined)
    this.mask = firstSize - 1
    this.overflow = undefined
    this.size = 0
    return all
  }

  private place(call: A): void {
    const index = call.id & this.mask
    if (this.slots[index] === undefined) this.slots[index] = call
    else (this.overflow ??= new Map()).set(call.id, call)
  }

  private grow(): void {
    const all = this.values()
    const size = this.slots.length * 2
    this.slots = new Array<A | undefined>(size).fill(undefined)
    this.mask = size - 1
    this.overflow = undefined
    for (const call of all) this.place(call)
  }
}
