/**
 * The exchange of version messages: what each end knows of the other by them, and what it has to answer.
 *
 * It reads payloads and makes decisions; sessions act on those. It must not know a transport, calls or time.
 * The rules are the wire protocol's: a version message has the id 0, and flags mean something only from a peer that
 * sets `flagUnderstood`.
 */
import {
  decodeVersion,
  flagAreYouThere,
  flagGoingAway,
  flagNoMoreRequests,
  flagStreams,
  flagUnderstood
} from "../protocol/version.ts"
import { checkTransition, type Transitions } from "../transitions.ts"

/** The flags of a client's first version message. */
export const clientHello = flagUnderstood | flagStreams

/** A client's answer to a server that goes away: no request follows this message. */
const lastWord = flagUnderstood | flagNoMoreRequests

/** A client's answer to a server that asks whether it is there. */
const isThere = flagUnderstood | flagAreYouThere

/** What is wrong with a version message. Its sender must be refused. */
export interface BadVersion {
  readonly _tag: "Bad"
  readonly problem: string
}

/** The flags of a version message, 0 from a peer that does not understand them; or what is wrong with the message. */
const readFlags = (id: number, payload: Uint8Array): number | BadVersion => {
  if (id !== 0) return { _tag: "Bad", problem: `a version message with id ${id}, expected 0` }
  const version = decodeVersion(payload)
  if (version === undefined) {
    return { _tag: "Bad", problem: `a version message of ${payload.length} bytes, expected at least 4` }
  }
  // Of a peer that does not understand flags, whatever follows the version is something else.
  return (version.flags & flagUnderstood) === 0 ? 0 : version.flags
}

/**
 * What a client knows of its server.
 *
 * ```
 *  ┌─────────┐  a version message  ┌───────┐  it says that it goes away  ┌────────────┐
 *  │ Awaited │ ──────────────────▶ │ Ready │ ──────────────────────────▶ │ Going away │
 *  └─────────┘                     └───────┘                             └────────────┘
 *       │      it says that it goes away, or
 *       │      ends the connection without a reason   ┌───────────┐
 *       └───────────────────────────────────────────▶ │ Cut short │
 *                                                     └───────────┘
 * ```
 * No call is sent before `Ready`. In `GoingAway` no new call is sent. `CutShort`: the server was never ready, and has
 * been sent nothing.
 */
export type ServerKnownState = "Awaited" | "Ready" | "GoingAway" | "CutShort"

const serverAllowed: Transitions<ServerKnownState> = {
  Awaited: ["Ready", "CutShort"],
  Ready: ["GoingAway"],
  GoingAway: [],
  CutShort: []
}

/** What a version message of a server changes; and whether it asks if the client is there. */
export interface ServerSaid {
  readonly _tag: "Nothing" | "Ready" | "GoingAway" | "CutShort"
  readonly isQuestion: boolean
}

/** A client's part of the exchange. */
export class ClientVersions {
  private current: ServerKnownState = "Awaited"
  private streams = false

  get state(): ServerKnownState {
    return this.current
  }

  /** Whether the server understands streams. Once it has said so, no later message takes that back. */
  get understandsStreams(): boolean {
    return this.streams
  }

  /** The flags of the answer to a server that goes away. */
  get lastWord(): number {
    return this.streams ? lastWord | flagStreams : lastWord
  }

  /** The flags of the answer to a server that asks whether the client is there. */
  get isThere(): number {
    return this.streams ? isThere | flagStreams : isThere
  }

  /** Whether the server's version message has come. */
  get isReady(): boolean {
    return this.current === "Ready" || this.current === "GoingAway"
  }

  /**
   * A version message has come. At `Ready` calls may be sent; at `GoingAway` the client answers with
   * `lastWord`, behind all requests that were queued before; at `CutShort` it gives the connection up. To a
   * question it answers with `isThere`, unless it has no room to write: that it takes bytes is an answer,
   * too.
   */
  receive(id: number, payload: Uint8Array): ServerSaid | BadVersion {
    const flags = readFlags(id, payload)
    if (typeof flags !== "number") return flags
    const isQuestion = (flags & flagAreYouThere) !== 0
    const leaves = (flags & flagGoingAway) !== 0
    if ((flags & flagStreams) !== 0) this.streams = true
    // It has been sent nothing: for the client that dials it, it is not there.
    if (this.current === "Awaited") return this.transition(leaves ? "CutShort" : "Ready", isQuestion)
    if (this.current === "Ready" && leaves) return this.transition("GoingAway", isQuestion)
    return { _tag: "Nothing", isQuestion }
  }

  /** The connection is over, and no reason was given. */
  endedWithoutReason(): void {
    if (this.current === "Awaited") this.transition("CutShort", false)
  }

  private transition(state: Exclude<ServerKnownState, "Awaited">, isQuestion: boolean): ServerSaid {
    checkTransition("a server's version", serverAllowed, this.current, state)
    this.current = state
    return { _tag: state, isQuestion }
  }
}

/**
 * What a server knows of its client.
 *
 * ```
 *  ┌────────┐  any message  ┌────────┐  a version message with flags  ┌─────────────┐
 *  │ Silent │ ────────────▶ │ Spoken │ ─────────────────────────────▶ │ Understands │
 *  └────────┘               └────────┘                                └─────────────┘
 *      │             its first message is one with flags                     ▲
 *      └─────────────────────────────────────────────────────────────────────┘
 * ```
 * Only a client that understands flags gets any, and only such a client is asked whether it is there.
 */
export type ClientKnownState = "Silent" | "Spoken" | "Understands"

const clientAllowed: Transitions<ClientKnownState> = {
  Silent: ["Spoken", "Understands"],
  Spoken: ["Understands"],
  Understands: []
}

/** What a version message of a client says. */
export interface ClientSaid {
  readonly _tag: "Said"
  /** Whether it understands flags. */
  readonly understands: boolean
  /** Whether this is the first message that says so. */
  readonly isFirst: boolean
  /** Whether it says that it sends no more requests. It means that only where the server has said that it goes away. */
  readonly isLastWord: boolean
  /** Whether it answers a question of the server's, and so is not answered itself. */
  readonly isAnswer: boolean
}

/** A server's part of the exchange. */
export class ServerVersions {
  private current: ClientKnownState = "Silent"
  /** How often the client was asked whether it is there, and has not answered. */
  private unanswered = 0
  private streams = false

  get state(): ClientKnownState {
    return this.current
  }

  get understands(): boolean {
    return this.current === "Understands"
  }

  /** Whether the client understands streams. Once it has said so, no later message takes that back. */
  get understandsStreams(): boolean {
    return this.streams
  }

  /** A message has come that is no version message. */
  spoke(): void {
    if (this.current === "Silent") this.transition("Spoken")
  }

  /** A version message has come. It is answered, unless it `isAnswer`. */
  receive(id: number, payload: Uint8Array): ClientSaid | BadVersion {
    const flags = readFlags(id, payload)
    if (typeof flags !== "number") return flags
    const understands = flags !== 0
    if ((flags & flagStreams) !== 0) this.streams = true
    const isFirst = understands && this.current !== "Understands"
    const isAnswer = this.unanswered > 0 && (flags & flagAreYouThere) !== 0
    if (isAnswer) this.unanswered--
    if (isFirst) this.transition("Understands")
    else this.spoke()
    return { _tag: "Said", understands, isFirst, isLastWord: (flags & flagNoMoreRequests) !== 0, isAnswer }
  }

  /** The flags of a version message that says only what there is to say; undefined where the client gets none. */
  flags(isGoingAway: boolean): number | undefined {
    if (this.current !== "Understands") return undefined
    const flags = this.streams ? flagUnderstood | flagStreams : flagUnderstood
    return isGoingAway ? flags | flagGoingAway : flags
  }

  /** The flags of a version message that asks whether the client is there. It must understand flags. */
  ask(isGoingAway: boolean): number {
    const flags = this.flags(isGoingAway)
    if (flags === undefined) throw new Error("a client is asked whether it is there that does not understand flags")
    this.unanswered++
    return flags | flagAreYouThere
  }

  private transition(state: ClientKnownState): void {
    checkTransition("a client's version", clientAllowed, this.current, state)
    if (this.unanswered > 0) throw new Error("a client was asked whether it is there before it understood flags")
    this.current = state
  }
}
