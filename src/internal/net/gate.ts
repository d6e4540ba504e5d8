/**
 * Limits how many connections a listener has open at the same time: in all, and from one peer. It knows no sockets.
 */
import type * as Clock from "effect/Clock"
import type { Duplex } from "node:stream"
import { count } from "../options.ts"
import { nowMillis } from "../time/clock.ts"

/** The largest numbers of connections at the same time. */
export interface Connections {
  /** Default: 10 000. */
  readonly maxConnections?: number | undefined
  /** For one peer. Default: 1000. */
  readonly maxConnectionsPerPeer?: number | undefined
}

/** In milliseconds: each limit warns at most this often, so that a flood of connections does not flood the log. */
const warningInterval = 1000

/** Warns of one limit. */
class Limit {
  readonly #clock: Clock.Clock
  readonly #warn: (message: string) => void
  #warnedAt = -Infinity
  #unreported = 0

  constructor(clock: Clock.Clock, warn: (message: string) => void) {
    this.#clock = clock
    this.#warn = warn
  }

  /** Warns that a connection was refused. If there was a warning a moment ago, it only counts the connection. */
  refuse(reason: string): void {
    const now = nowMillis(this.#clock)
    if (now - this.#warnedAt < warningInterval) return void this.#unreported++
    const others = this.#unreported === 0 ? "" : `; ${this.#unreported} more were refused since the last such warning`
    this.#warnedAt = now
    this.#unreported = 0
    this.#warn(`A connection was refused: ${reason}${others}`)
  }
}

/** Counts the open connections of a listener, and refuses new ones over the limits. */
export class Gate {
  readonly #maxConnections: number
  readonly #maxConnectionsPerPeer: number
  readonly #limit: Limit
  readonly #limitPerPeer: Limit
  readonly #perPeer = new Map<string, number>()
  #open = 0

  /** It throws a RangeError for invalid limits. `warn` writes to the log. */
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

  /** The number of peers with an open connection. */
  get peers(): number {
    return this.#perPeer.size
  }

  /**
   * Whether a connection is admitted. It is then counted until it has closed. A connection without a peer's name counts
   * only towards the limit for all.
   */
  admits(connection: Duplex, peer: string | undefined): boolean {
    if (this.#open >= this.#maxConnections) {
      this.#limit.refuse(`maxConnections is ${this.#maxConnections}, and that many connections are open`)
      return false
    }
    if (peer !== undefined) {
      const open = this.#perPeer.get(peer) ?? 0
      if (open >= this.#maxConnectionsPerPeer) {
        this.#limitPerPeer.refuse(
          `maxConnectionsPerPeer is ${this.#maxConnectionsPerPeer}, and ${peer} has that many connections open`
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
