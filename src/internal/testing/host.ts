/**
 * One name of the in-memory network: its listener, its connections, and the faults between it and its clients.
 *
 * It is plain state without Effect: every change is one synchronous step. It knows no other names.
 */
import type { Duplex } from "node:stream"
import { describe } from "../transport/capabilities.ts"
import * as DuplexPair from "./duplexPair.ts"
import { type Conditions, unimpaired } from "./wire.ts"

/** Faults, checked and with a clock. */
export interface Impairment {
  readonly dial: "connect" | "refuse" | "hang"
  readonly toServer: Conditions
  readonly toClient: Conditions
}

/** No faults. */
export const healthy: Impairment = { dial: "connect", toServer: unimpaired, toClient: unimpaired }

/** The outcome of a dial. */
export type DialOutcome =
  | { readonly _tag: "Connected"; readonly connection: Duplex }
  | { readonly _tag: "Refused"; readonly why: string }
  | { readonly _tag: "Hanging" }

/** Gets the connections of a name. */
export type Acceptor = (connection: Duplex) => void

/** One name. */
export class Host {
  readonly name: string
  #impairment = healthy
  #acceptor: Acceptor | undefined
  #closed = false
  readonly #connections = new Set<DuplexPair.DuplexPair>()
  readonly #waiting = new Set<() => void>()

  constructor(name: string) {
    this.name = name
  }

  /** Whether a dial would hang. */
  get isHanging(): boolean {
    return !this.#closed && this.#impairment.dial === "hang"
  }

  /** From now on `acceptor` gets the connections. Returns a function that stops this, or why it is not possible. */
  listen(acceptor: Acceptor): (() => void) | string {
    if (this.name === "") return "a name is expected"
    if (this.#closed) return "the network has been closed"
    if (this.#acceptor !== undefined) return "the name is taken"
    this.#acceptor = acceptor
    return () => {
      if (this.#acceptor === acceptor) this.#acceptor = undefined
    }
  }

  /** Dials under the current faults. */
  dial(): DialOutcome {
    if (this.#closed) return { _tag: "Refused", why: "the network has been closed" }
    if (this.#impairment.dial === "hang") return { _tag: "Hanging" }
    if (this.#impairment.dial === "refuse") return { _tag: "Refused", why: "a fault refuses it" }
    if (this.#acceptor === undefined) {
      return { _tag: "Refused", why: `no server listens on ${JSON.stringify(this.name)}` }
    }
    const pair = DuplexPair.make(() => this.#connections.delete(pair))
    this.#connections.add(pair)
    pair.impair(this.#impairment)
    // A test may move its clock by an hour: a peer that had no turn meanwhile must not be considered dead.
    describe(pair.client, { mayVanish: false })
    describe(pair.server, { mayVanish: false })
    this.#acceptor(pair.server)
    return { _tag: "Connected", connection: pair.client }
  }

  /** Calls `retry` once, when dials may no longer hang. Returns a function that cancels this. */
  awaitChange(retry: () => void): () => void {
    this.#waiting.add(retry)
    return () => this.#waiting.delete(retry)
  }

  /** Replaces the faults of all connections, present and future. */
  impair(impairment: Impairment): void {
    this.#impairment = impairment
    for (const pair of this.#connections) pair.impair(impairment)
    this.#changed()
  }

  /** Closes the connections, and refuses all dials from now on. */
  close(): void {
    this.#closed = true
    this.#acceptor = undefined
    for (const pair of this.#connections) pair.close()
    this.#changed()
  }

  #changed(): void {
    const waiting = [...this.#waiting]
    this.#waiting.clear()
    for (const retry of waiting) retry()
  }
}
