/**
 * Servers that do nothing by themselves: a test decides each dial, and says each word of theirs. They keep what they
 * are told.
 */
import { Effect } from "effect"
import { Endpoint } from "effect-call"
import * as assert from "node:assert/strict"
import { encodeErrorChain, plainError } from "../../src/internal/protocol/errorChain.ts"
import * as Identities from "../../src/internal/protocol/identities.ts"
import * as DuplexPair from "../../src/internal/testing/duplexPair.ts"
import { bytesOf } from "../support/networks.ts"
import { clientVersion, message, messagesOf, version, versionWith } from "../support/raw.ts"
import { turn } from "./support.ts"

/**
 * One message of a server: its version, which may say that it goes away; how a call ends; or what no server may send.
 */
export type Word =
  | { readonly _tag: "Version" | "GoingAway" | "GoingAwayUnflagged" | "Nonsense" }
  | { readonly _tag: "Answer" | "Failure" | "TimeIsUp"; readonly call: number }

/** How a dial ends without a connection. */
export type Refusal = "fails" | "dies" | "is interrupted" | "gives a closed socket"

interface Request {
  readonly id: number
  readonly call: number
  /** Whether it was answered. */
  isOver: boolean
}

/** The arguments of a call: its number, and in a large one something behind it. */
export const argsOf = (call: number, size: number): Uint8Array => {
  const args = Buffer.alloc(Math.max(size, 4))
  args.writeUInt32LE(call)
  return args
}

/** What a call of this number is answered. */
export const answerOf = (call: number): Uint8Array => bytesOf(`answer ${call}`)

/** A dial, and the connection that it may become. */
export class Line {
  readonly name: string
  readonly address: string
  /** The number of the endpoint that was dialed. */
  readonly edition: number
  readonly requests: Array<Request> = []
  /** The calls that were canceled. */
  readonly cancels: Array<number> = []
  /** Whether the client has said that no request follows. */
  saidLast = false
  /** Whether the server's version is on its way, or there. */
  isGreeted = false
  isGoingAway = false
  /** Whether its dial has been decided, or given up. */
  decided = false
  private pair: DuplexPair.DuplexPair | undefined = undefined
  private closed = false
  private readonly network: HandNetwork
  private readonly resume: (dialed: Effect.Effect<DuplexPair.DuplexPair["client"], Endpoint.DialError>) => void

  constructor(network: HandNetwork, name: string, address: string, edition: number, resume: Line["resume"]) {
    this.network = network
    this.name = name
    this.address = address
    this.edition = edition
    this.resume = resume
  }

  get isDialing(): boolean {
    return !this.decided
  }

  /** Whether the client's socket is open. */
  get isOpen(): boolean {
    return this.pair !== undefined && !this.pair.client.destroyed
  }

  /** Whether both sockets are closed, or there are none. */
  get isClosed(): boolean {
    return this.pair === undefined || this.closed
  }

  connect(): void {
    this.decided = true
    const pair = this.pair = this.makePair()
    this.resume(Effect.succeed(pair.client))
  }

  refuse(how: Refusal): void {
    this.decided = true
    if (how === "fails") this.resume(Effect.fail(new Endpoint.DialError({ message: "no" })))
    else if (how === "dies") this.resume(Effect.die("no"))
    else if (how === "is interrupted") this.resume(Effect.interrupt)
    else {
      this.pair = this.makePair()
      this.pair.client.destroy()
      this.resume(Effect.succeed(this.pair.client))
    }
  }

  /** Says all of this in one segment. */
  say(words: ReadonlyArray<Word>): void {
    this.pair?.server.write(Buffer.concat(words.map((word) => this.bytesOf(word))))
  }

  /** Both ends see a reset, before anything that is on its way. */
  cut(): void {
    this.pair?.cut()
  }

  /** The server closes it, in order or not. */
  close(how: "end" | "reset"): void {
    if (how === "end") this.pair?.server.end()
    else this.pair?.server.destroy(new Error("reset"))
  }

  private makePair(): DuplexPair.DuplexPair {
    const pair = DuplexPair.make(() => {
      this.closed = true
    })
    let bytes: Buffer = Buffer.alloc(0)
    let isFirst = true
    let lastId = 0
    pair.server.on("data", (chunk: Buffer) => {
      bytes = Buffer.concat([bytes, chunk])
      for (const { id, payload, type } of messagesOf(bytes)) {
        bytes = bytes.subarray(16 + payload.length)
        this.network.check(() => {
          if (isFirst) assert.deepEqual(message(id, type, payload), clientVersion)
          else if (type === 0) {
            assert.deepEqual(message(id, type, payload), versionWith(4))
            assert.ok(this.isGoingAway && !this.saidLast)
            this.saidLast = true
          } else if (type === 1) {
            assert.ok(this.isGreeted && !this.saidLast)
            // Not the next one: a call may be given up before it has left.
            assert.ok(id > lastId)
            lastId = id
            const call = payload.readUInt32LE(49)
            assert.ok(!this.network.seen.has(call), `call ${call} was sent twice`)
            this.network.seen.add(call)
            this.requests.push({ id, call, isOver: false })
          } else {
            assert.equal(type, 4)
            const canceled = this.requests.find((request) => request.id === id)
            assert.ok(canceled !== undefined && !this.cancels.includes(canceled.call))
            this.cancels.push(canceled.call)
          }
        })
        isFirst = false
      }
    })
    return pair
  }

  private bytesOf(word: Word): Uint8Array {
    switch (word._tag) {
      case "Version":
        this.isGreeted = true
        return version
      case "GoingAway":
        this.isGreeted = true
        this.isGoingAway = true
        return versionWith(2)
      case "GoingAwayUnflagged":
        this.isGreeted = true
        return message(0, 0, Buffer.from([0, 0, 0, 0, 2, 0, 0, 0]))
      case "Nonsense":
        return message(1, 1)
      case "Answer":
      case "Failure":
      case "TimeIsUp": {
        const request = this.requests.find(({ call }) => call === word.call)
        assert.ok(request !== undefined)
        request.isOver = true
        if (word._tag === "Answer") return message(request.id, 2, answerOf(word.call))
        const link = word._tag === "TimeIsUp" ? Identities.deadlineExceeded : plainError("no")
        return message(request.id, 3, encodeErrorChain([link]))
      }
    }
  }
}

export class HandNetwork {
  /** All dials that there have been. */
  readonly lines: Array<Line> = []
  /** The calls whose request has arrived anywhere. */
  readonly seen = new Set<number>()
  /** The first thing that was not as it must be. */
  wrong: unknown = undefined
  /** How many Scopes of dials and connections are open. */
  scopes = 0
  /** What is done with the next dial of an address as soon as it is begun. */
  readonly presets = new Map<string, (line: Line) => void>()
  /** Whether every other Scope takes a turn of the event loop to close. */
  private readonly isSlow: boolean
  private readonly dials = new Map<string, number>()

  constructor(isSlow: boolean) {
    this.isSlow = isSlow
  }

  /** An endpoint. All those with one address are the same to a client, and it dials the one that it was given last. */
  endpoint(address: string, edition: number): Endpoint.Endpoint {
    const dial = Effect.callback<DuplexPair.DuplexPair["client"], Endpoint.DialError>((resume) => {
      const n = (this.dials.get(address) ?? 0) + 1
      this.dials.set(address, n)
      const line = new Line(this, `${address}${n}`, address, edition, resume)
      this.lines.push(line)
      const preset = this.presets.get(address)
      this.presets.delete(address)
      preset?.(line)
      return Effect.sync(() => {
        line.decided = true
      })
    })
    const scope = Effect.acquireRelease(
      Effect.sync(() => this.scopes++),
      (n) => Effect.andThen(this.isSlow && n % 2 === 1 ? turn : Effect.void, Effect.sync(() => this.scopes--))
    )
    return { address, dial: Effect.andThen(scope, dial) }
  }

  /** Does what may throw in a callback of a socket. */
  check(f: () => void): void {
    try {
      f()
    } catch (error) {
      this.wrong ??= error
    }
  }
}
