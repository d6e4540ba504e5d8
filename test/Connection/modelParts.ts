/** The data of the model of a Connection: what happens to it, what it consists of, and what can be seen of it. */
import type { Refusal, Word } from "./handNetwork.ts"

/** Milliseconds. Its fraction keeps it apart from deadlines, which are whole. */
export const dialTimeout = 20 + 1 / 64

export type Preset = { readonly words: ReadonlyArray<Word> } | { readonly how: Refusal }

/** What happens to a Connection. */
export type Action =
  | { readonly _tag: "List"; readonly addresses: ReadonlyArray<string>; readonly edition: number }
  | {
    readonly _tag: "Call"
    readonly call: number
    /** The only endpoint for it; without one it goes to the first that is listed. */
    readonly only: string | undefined
    readonly waitForReady: boolean
    readonly timeout: number | undefined
  }
  | { readonly _tag: "Interrupt"; readonly call: number }
  | { readonly _tag: "Connect"; readonly line: string; readonly words: ReadonlyArray<Word> }
  | { readonly _tag: "Refuse"; readonly line: string; readonly how: Refusal }
  /** The next dial of an address ends as soon as it is begun: with a connection, or without. */
  | { readonly _tag: "Preset"; readonly address: string; readonly as: Preset }
  | { readonly _tag: "Say"; readonly line: string; readonly words: ReadonlyArray<Word> }
  | { readonly _tag: "Cut"; readonly line: string }
  | { readonly _tag: "Hangup"; readonly line: string; readonly how: "end" | "reset" }
  | { readonly _tag: "Pass"; readonly millis: number }
  | { readonly _tag: "Close" }

export interface Call {
  readonly number: number
  readonly only: string | undefined
  readonly waitForReady: boolean
  readonly deadlineAt: number
  /** The dial that it waits for, or the connection that it is in flight on; neither where it waits for a change. */
  line: Line | undefined
  /** Whether its request has not left. */
  isQueued: boolean
  /** How it has ended. */
  end: string | undefined
  /**
   * The number of the last failed dial before it began; endpoints that have failed since count as tried, for all calls.
   */
  readonly since: number
  readonly tried: Set<string>
  /** The endpoints that an `Unreachable` names. */
  readonly failed: Set<string>
  readonly losses: Map<string, number>
}

/** A dial, and the connection that it may become. */
export interface Line {
  readonly name: string
  readonly address: string
  readonly edition: number
  readonly failsAt: number
  state: "Dialing" | "Greeting" | "Open" | "Closed"
  isGoingAway: boolean
  /** The calls that wait for it, or are in flight on it, in their order. */
  calls: Array<Call>
  /** The calls whose requests were sent, and the calls whose cancels were sent. */
  readonly requests: Array<number>
  readonly cancels: Array<number>
}

/** What there is at an address. */
export interface Entry {
  readonly address: string
  edition: number
  isListed: boolean
  /** Whether its last dial failed, or its last connection was lost. */
  hasFailed: boolean
  /**
   * The number of its last failed dial, 0 where it was connected since; and whether one was repeated that was cut
   * short.
   */
  failure: number
  hasRepeated: boolean
  /** What is being dialed or used. */
  current: Line | undefined
  /** Connections that only finish their calls. */
  draining: Array<Line>
}

/** What can be seen of it at any time. */
export interface Glance {
  readonly closed: boolean
  readonly endpoints: ReadonlyArray<{
    readonly address: string
    readonly state: string
    readonly callsInFlight: number
    readonly hasFailed: boolean
  }>
  /** How the calls have ended, by number. */
  readonly ends: ReadonlyArray<string | undefined>
}

/** What can be seen of it while nothing is going on. */
export interface Snapshot extends Glance {
  /** What is being dialed, and the sockets that are open. */
  readonly lines: ReadonlyArray<{
    readonly name: string
    readonly edition: number
    readonly isDialing: boolean
    readonly requests: ReadonlyArray<number>
    readonly cancels: ReadonlyArray<number>
    readonly saidLast: boolean
  }>
  /** Where the calls are in flight, by number. */
  readonly inFlight: ReadonlyArray<string | undefined>
}
