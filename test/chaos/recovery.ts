/**
 * How soon replicas that were down are used again: the time from when a process could be called, by the Connections of
 * a slot, until it has answered one of their calls for the first time.
 */

/** How long it took until the process was used. */
export interface Recovered {
  readonly replica: string
  readonly stamp: number
  readonly millis: number
}

interface Life {
  readonly replica: string
  readonly since: number
  readonly usedBy: Set<string>
  /** The shortest time that a slot took. */
  first: number
}

export class Recovery {
  private readonly lives = new Map<number, Life>()
  private readonly disturbedAt = new Map<string, number>()
  private readonly healedAt = new Map<string, number>()
  private readonly listedAt = new Map<string, Map<string, number>>()
  private largest: Recovered | undefined = undefined
  private largestFirst: Recovered | undefined = undefined
  /** How many processes were used. */
  used = 0

  /** A process listens. */
  started(stamp: number, replica: string, now: number): void {
    for (const [other, life] of this.lives) {
      if (life.replica === replica) this.forget(other)
    }
    this.lives.set(stamp, { replica, since: now, usedBy: new Set(), first: Infinity })
  }

  /** Something is wrong with the replica, or with the way to it. */
  disturbed(replica: string, now: number): void {
    this.disturbedAt.set(replica, now)
  }

  /** That is over. */
  healed(replica: string, now: number): void {
    this.disturbedAt.delete(replica)
    this.healedAt.set(replica, now)
  }

  /** A slot has come to know of the replica (again), or has a new Connection. */
  listed(slot: string, replica: string, now: number): void {
    let slots = this.listedAt.get(slot)
    if (slots === undefined) this.listedAt.set(slot, slots = new Map())
    slots.set(replica, now)
  }

  /** A process has answered a call of a slot. */
  answered(stamp: number, slot: string, now: number): void {
    const life = this.lives.get(stamp)
    if (life === undefined || life.usedBy.has(slot)) return
    life.usedBy.add(slot)
    const { replica } = life
    const since = Math.max(life.since, this.healedAt.get(replica) ?? 0, this.listedAt.get(slot)?.get(replica) ?? 0)
    // What comes in a fault comes as late as that wants it to.
    const millis = Math.max(0, Math.min(now, this.disturbedAt.get(replica) ?? now) - since)
    life.first = Math.min(life.first, millis)
    if (millis > (this.largest?.millis ?? -1)) this.largest = { replica, stamp, millis }
  }

  /** The longest until the first slot used a process, and until any slot did. */
  finish(): { readonly first: Recovered | undefined; readonly any: Recovered | undefined } {
    for (const stamp of [...this.lives.keys()]) this.forget(stamp)
    return { first: this.largestFirst, any: this.largest }
  }

  private forget(stamp: number): void {
    const life = this.lives.get(stamp)
    this.lives.delete(stamp)
    if (life === undefined || life.usedBy.size === 0) return
    this.used++
    if (life.first > (this.largestFirst?.millis ?? -1)) {
      this.largestFirst = { replica: life.replica, stamp, millis: life.first }
    }
  }
}
