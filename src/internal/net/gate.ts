/**
 * How many connections a listener may have open at the same time: in all, and from one peer.
 */
import type * as Clock from "effect/Clock"
import type { Duplex } from "node:stream"
import { count } from "../options.ts"
import { nowMillis } from "../time/clock.ts"

/** How many connections there may be at the same time. */
export interface Connections {
  /** Default: 10 000. */
  readonly maxConnections?: number | undefined
  /** Of one peer. Default: 1000. */
  readonly maxConnectionsPerPeer?: number | undefined
}

/** How long a limit is not spoken of again: what floods the server must not flood its log. */
const silence = 1000

/** One limit, and what is said where it is reached. */
class Limit {
  readonly #clock: Clock.Clock
  readonly #warn: (message: string) => void
  #spoken = -Infinity
  #unspoken = 0

  constructor(clock: Clock.Clock, warn: (message: string) => void) {
    this.#clock = clock
    this.#warn = warn
  }

  /** Says that a connection was refused, unless that was said a moment ago; then it is counted, and said the next time. */
  refuse(reason: string): void {
    const now = nowMillis(this.#clock)
    if (now - this.#spoken < silence) return void this.#unspoken++
    const others = this.#unspoken === 0 ? "" : `; ${this.#unspoken} more have been refused since this was last said`
    this.#spoken = now
    this.#unspoken = 0
    this.#warn(`A connection was refused: ${reason}${others}`)
  }
}

/** Counts the connections that are open, and refuses those that are too many. */
export class Gate {
  readonly #maxConnections: number
  readonly #maxConnectionsPerPeer: number
  readonly #limit: Limit
  readonly #limitPerPeer: Limit
  readonly #perPeer = new Map<string, number>()
  #open = 0

  /** It throws a RangeError for limits that make no sense. `warn` is for the log. */
  constructor(
    limits: Connections,
    clock: Clock.Clock,
    warn: (message: string) => void
  ) {
    this.#maxConnections = count("maxConnections", limits.maxConnections, 10_000, 1)
    this.#maxConnectionsPerPeer = count("maxConnectionsPerPeer", limits.maxConnectionsPerPeer, 1000, 1)
    this.#limit = new Limit(clock, warn)
    this.#limitPerPeer = new Limit(clock, warn)
  }

  /** How many peers have a connection open. */
  get peers(): number {
    return this.#perPeer.size
  }

  /** Whether a connection may come in; it is counted until it has closed. Those of a peer without a name are only counted in all. */
  admits(connection: Duplex, peer: string | undefined): boolean {
    if (this.#open >= this.#maxConnections) {
      this.#limit.refuse(`maxConnections is ${this.#maxConnections}, and as many are open`)
      return false
    }
    if (peer !== undefined) {
      const open = this.#perPeer.get(peer) ?? 0
      if (open >= this.#maxConnectionsPerPeer) {
        this.#limitPerPeer.refuse(
          `maxConnectionsPerPeer is ${this.#maxConnectionsPerPeer}, and ${peer} has as many open`
        )
        return false
      }
      this.#perPeer.set(peer, open + 1)
    }
    this.#open++
    connection.once("close", () => this.#leave(peer))
    return true
  }

  #leave(peer: string | undefined): void {
    this.#open--
    if (peer === undefined) return
    const open = (this.#perPeer.get(peer) ?? 1) - 1
    if (open === 0) this.#perPeer.delete(peer)
    else this.#perPeer.set(peer, open)
  }
}
