/**
 * A peer that knows streams, written by hand from the page of the wire: a client for our servers, and a server for our
 * clients. It sends what it is told, and checks all that comes against the page.
 *
 * ```ts
 * const peer = yield* streamClient(endpoint)            // hello with flags 9, and the server's answer
 * peer.open(1, key, 65_536, args)
 * assert.deepEqual(yield* peer.item(1), bytes)
 * yield* peer.next({ type: type.response, id: 1 })
 * ```
 */
import { Effect, type Scope } from "effect"
import { Endpoint, type Listener, type MethodKey } from "effect-call"
import * as net from "node:net"
import type { Duplex } from "node:stream"
import { patience } from "./patience.ts"
import { type Message, messagesOf } from "./raw.ts"
import { Rules, type Side } from "./streamRules.ts"
import * as Wire from "./streamWire.ts"
import { type } from "./streamWire.ts"

export interface StreamPeerOptions {
  /**
   * The flags of this peer's first version message: 9 unless something else is given, and `"none"` for a version as the
   * reference sends it. A client says it at once, a server as the answer to the client's.
   */
  readonly flags?: number | "none"
  /** Whether it says by itself what it has read of items and parts. It does, unless told otherwise. */
  readonly returns?: boolean
  /** Whether what breaks the page makes the test fail when its Scope closes. It does, unless told otherwise. */
  readonly strict?: boolean
  /** Whether payloads of items and parts are kept. They are, unless told otherwise. */
  readonly keeps?: boolean
  /** Whether the peer, a server, answers version messages. It does, unless told otherwise. */
  readonly answers?: boolean
}

/** What is waited for: a message of this type and with this id, where they are given. */
export interface Wanted {
  readonly id?: number
  readonly type?: number | ReadonlyArray<number>
}

const names = Object.entries(type)
const nameOf = (of: number): string => names.find(([, number]) => number === of)?.[0] ?? `type ${of}`
const textOf = ({ id, payload, type }: Message): string => `${nameOf(type)} ${id} (${payload.length} bytes)`

/** So much is read at most before the other side is told. */
const tellsAfter = 65_536

export class StreamPeer {
  readonly socket: Duplex
  readonly rules: Rules
  /** All that has come, in order: of what came in parts the whole message, beside its parts. */
  readonly messages: Array<Message> = []
  private readonly taken = new Set<Message>()
  private readonly itemsTaken = new Map<number, number>()
  private readonly watchers = new Set<() => void>()
  private readonly flags: number | undefined
  private readonly returns: boolean
  private readonly answers: boolean
  private chunks: Array<Buffer> = []
  private have = 0
  private wants = 16
  /** Bytes of items and parts that the other side was not told of yet. */
  private unreturned = 0

  constructor(socket: Duplex, side: Side, options: StreamPeerOptions = {}) {
    const { answers = true, flags = Wire.streamsFlags, keeps = true, returns = true } = options
    this.socket = socket
    this.rules = new Rules(side, keeps)
    this.flags = flags === "none" ? undefined : flags
    this.returns = returns
    this.answers = answers
    socket.on("error", () => {})
    socket.on("data", (chunk: Buffer) => this.data(chunk))
    socket.on("close", () => this.look())
    if (side === "client") this.hello()
  }

  // What it sends

  /**
   * Whatever bytes. Where they are whole messages, items and parts count as sent; what they say of credit and ends is
   * not known to the checks.
   */
  write(...bytes: ReadonlyArray<Uint8Array>): void {
    const all = Buffer.concat(bytes)
    for (const { payload, type: each } of messagesOf(all)) {
      if (each === type.items || each === type.part) this.rules.sentPiece(payload.length)
    }
    if (!this.socket.destroyed) this.socket.write(all)
  }

  /** Whatever bytes; ends when the socket has taken them, or is gone. */
  send(...bytes: ReadonlyArray<Uint8Array>): Effect.Effect<void> {
    return Effect.callback<void>((resume) => {
      const done = () => resume(Effect.void)
      this.socket.once("close", done)
      if (this.socket.destroyed) done()
      else this.socket.write(Buffer.concat(bytes), done)
      return Effect.sync(() => this.socket.off("close", done))
    })
  }

  hello(flags: number | undefined = this.flags): void {
    this.rules.sentVersion(flags ?? 0)
    this.write(Wire.version(flags))
  }

  request(id: number, key: MethodKey.MethodKey, args?: Uint8Array, deadlineMicros?: number): void {
    this.rules.sentRequest(id)
    this.write(Wire.request(id, key, args, deadlineMicros))
  }

  open(id: number, key: MethodKey.MethodKey, credit: number, args?: Uint8Array, deadlineMicros?: number): void {
    this.rules.sentOpen(id, credit)
    this.write(Wire.open(id, key, credit, args, deadlineMicros))
  }

  items(id: number, ...items: ReadonlyArray<Uint8Array>): void {
    this.rawItems(id, ...items.map(Wire.item))
  }

  /** A message of items with any payload. */
  rawItems(id: number, ...payload: ReadonlyArray<Uint8Array>): void {
    this.write(Wire.rawItems(id, ...payload))
  }

  /** A message in parts of at most `size` bytes, the last of which is a message of the type `of`. */
  inParts(id: number, of: number, payload: Uint8Array, size: number): void {
    this.begins(id, of, payload)
    this.write(...Wire.inParts(id, of, payload, size))
  }

  /** Of a message that is sent some other way: it begins an exchange, or ends it. */
  begins(id: number, of: number, payload: Uint8Array = new Uint8Array()): void {
    if (of === type.request) this.rules.sentRequest(id)
    if (of === type.open) this.rules.sentOpen(id, payload.length < 53 ? 0 : Buffer.from(payload).readUInt32LE(49))
    if (of === type.response || of === type.responseError) this.rules.sentEnd(id)
  }

  end(id: number): void {
    this.write(Wire.end(id))
  }

  credit(id: number, bytes: number): void {
    this.rules.sentCredit(id, bytes)
    this.write(Wire.credit(id, bytes))
  }

  cancel(id: number): void {
    this.write(Wire.cancel(id))
  }

  respond(id: number, payload?: Uint8Array): void {
    this.rules.sentEnd(id)
    this.write(Wire.response(id, payload))
  }

  fail(id: number, message: string, identity: string): void {
    this.rules.sentEnd(id)
    this.write(Wire.responseError(id, message, identity))
  }

  // What has come

  /** The next message like that which nobody has taken; ends with a defect that says what came instead. */
  next(wanted: Wanted = {}): Effect.Effect<Message> {
    const types = typeof wanted.type === "number" ? [wanted.type] : wanted.type
    const what = [
      types === undefined ? "a message" : types.map(nameOf).join(" or "),
      ...(wanted.id === undefined ? [] : [`for ${wanted.id}`])
    ].join(" ")
    const find = () =>
      this.messages.find((message) =>
        !this.taken.has(message) &&
        (wanted.id === undefined || message.id === wanted.id) &&
        (types === undefined || types.includes(message.type))
      )
    return this.until(what, find)
  }

  /** The response to an id, or its error. */
  answer(id: number): Effect.Effect<Message> {
    return this.next({ id, type: [type.response, type.responseError] })
  }

  /** The errors that the answer to an id says. */
  error(id: number): Effect.Effect<Wire.Link> {
    return Effect.map(this.next({ id, type: type.responseError }), ({ payload }) => {
      const [first = { message: "no error", identity: "" }] = Wire.readError(payload)
      return first
    })
  }

  /** The next item of a stream, put together of its pieces. */
  item(id: number): Effect.Effect<Buffer> {
    const at = this.itemsTaken.get(id) ?? 0
    this.itemsTaken.set(id, at + 1)
    return this.until(`item ${at} of ${id}`, () => this.rules.itemsOf(id)[at], false)
  }

  /** Waits until `find` gives something. */
  until<A>(what: string, find: () => A | undefined, takes = true): Effect.Effect<A> {
    return Effect.callback<A>((resume) => {
      const done = (answer: Effect.Effect<A>) => {
        this.watchers.delete(watch)
        clearTimeout(timer)
        resume(answer)
      }
      const vain = (why: string) =>
        done(Effect.die(
          new Error(
            `${why}, waiting for ${what}. It has sent: ${
              this.messages.slice(-20).map(textOf).join(", ") || "nothing"
            }` +
              `. Problems: ${this.rules.problems.join("; ") || "none"}`
          )
        ))
      const watch = () => {
        const found = find()
        if (found !== undefined) {
          if (takes && typeof found === "object" && found !== null) this.taken.add(found as unknown as Message)
          return done(Effect.succeed(found))
        }
        if (this.socket.closed) vain("the connection closed")
      }
      // The real one: a TestClock's time does not pass by itself.
      const timer = setTimeout(() => vain(`nothing came in ${patience} ms`), patience)
      this.watchers.add(watch)
      watch()
      return Effect.sync(() => {
        this.watchers.delete(watch)
        clearTimeout(timer)
      })
    })
  }

  /** Waits until something holds, which is looked at whenever bytes come. */
  holds(what: string, isSo: () => boolean): Effect.Effect<void> {
    return Effect.asVoid(this.until(what, () => isSo() ? true : undefined, false))
  }

  /** How much the other side has granted on a stream; with id 0, how much of what was sent it has read. */
  granted(id: number): number {
    return id === 0 ? this.rules.heardOf : this.rules.granted.get(id) ?? 0
  }

  /** Waits until the connection has closed. */
  readonly closed: Effect.Effect<void> = Effect.suspend(() =>
    this.socket.closed ? Effect.void : Effect.callback<void>((resume) => {
      const timer = setTimeout(
        () => resume(Effect.die(new Error(`it is not closed. It has sent: ${this.messages.map(textOf).join(", ")}`))),
        patience
      )
      this.socket.once("close", () => {
        clearTimeout(timer)
        resume(Effect.void)
      })
    })
  )

  get isClosed(): boolean {
    return this.socket.destroyed
  }

  /** Ends with a defect where something that has come breaks the page. */
  readonly kept: Effect.Effect<void> = Effect.suspend(() => {
    const { problems } = this.rules
    return problems.length === 0 ? Effect.void : Effect.die(new Error(problems.slice(0, 5).join("\n")))
  })

  /** Says now what was read. */
  tell(): void {
    if (this.unreturned === 0) return
    const bytes = this.unreturned
    this.unreturned = 0
    this.credit(0, bytes)
  }

  /** Breaks the connection off: over TCP with a reset. */
  reset(): void {
    if (this.socket instanceof net.Socket && this.socket.remotePort !== undefined) this.socket.resetAndDestroy()
    else this.socket.destroy(new Error("reset"))
  }

  private look(): void {
    for (const watch of [...this.watchers]) watch()
  }

  private data(chunk: Buffer): void {
    this.chunks.push(chunk)
    this.have += chunk.length
    if (this.have < this.wants) return
    const bytes = this.chunks.length === 1 ? chunk : Buffer.concat(this.chunks)
    const messages = messagesOf(bytes)
    let at = 0
    for (const message of messages) {
      at += 16 + message.payload.length
      this.message({ ...message, payload: Buffer.from(message.payload) })
    }
    const rest = Buffer.from(bytes.subarray(at))
    this.chunks = [rest]
    this.have = rest.length
    this.wants = rest.length < 16 ? 16 : 16 + rest.readUIntLE(9, 6)
    this.look()
  }

  private message(message: Message): void {
    const isPiece = message.type === type.items || message.type === type.part
    if (!isPiece || this.rules.keeps) this.messages.push(message)
    const whole = this.rules.received(message)
    if (whole !== message) this.messages[this.messages.length - 1] = whole
    if (message.type === type.version && this.rules.side === "server" && this.answers) {
      const flags = message.payload.length >= 8 ? message.payload.readUInt32LE(4) : 0
      // It is the answer to a question of this end.
      if ((flags & Wire.flag.areYouThere) === 0 && (flags & Wire.flag.noMoreRequests) === 0) this.hello()
    }
    if (!isPiece) return
    this.unreturned += message.payload.length
    if (this.returns && this.unreturned >= tellsAfter) this.tell()
  }
}

const withScope = (
  peer: StreamPeer,
  { strict = true }: StreamPeerOptions
): Effect.Effect<StreamPeer, never, Scope.Scope> =>
  Effect.acquireRelease(Effect.succeed(peer), () =>
    Effect.andThen(
      Effect.sync(() => peer.socket.destroy()),
      strict ? peer.kept : Effect.void
    ))

/** A peer on a Duplex that is there. */
export const streamPeerOn = (
  socket: Duplex,
  side: Side,
  options: StreamPeerOptions = {}
): Effect.Effect<StreamPeer, never, Scope.Scope> =>
  Effect.suspend(() => withScope(new StreamPeer(socket, side, options), options))

/** A client of a real server: it has said its version and has got the server's. */
export const streamClient = Effect.fnUntraced(function*(
  endpoint: Endpoint.Endpoint,
  options: StreamPeerOptions = {}
): Effect.fn.Return<StreamPeer, never, Scope.Scope> {
  const peer = yield* streamPeerOn(yield* Effect.orDie(endpoint.dial), "client", options)
  yield* peer.next({ type: type.version })
  return peer
})

/** The next connection of our clients to a listener that nothing serves: the peer is its server. */
export const streamAccepted = <R>(
  listener: Listener.Listener<R>,
  options: StreamPeerOptions = {}
): Effect.Effect<StreamPeer, never, Scope.Scope> =>
  Effect.flatMap(
    Effect.orDie(listener.accept),
    ({ connection }) => streamPeerOn(connection, "server", options)
  )

/** A plain TCP server, whose connections are served by hand. */
export interface StreamServer {
  readonly endpoint: Endpoint.Endpoint
  /** The next connection, in the order in which they come. */
  readonly accepted: Effect.Effect<StreamPeer>
  /** All so far. */
  readonly peers: ReadonlyArray<StreamPeer>
}

/** Closed with the Scope, and its connections with it. `serve` is given each connection before anything has come. */
export const streamServer = (
  options: StreamPeerOptions & { readonly serve?: (peer: StreamPeer) => void } = {}
): Effect.Effect<StreamServer, never, Scope.Scope> =>
  Effect.gen(function*() {
    const peers: Array<StreamPeer> = []
    const waiting: Array<(peer: StreamPeer) => void> = []
    let given = 0
    const server = net.createServer({ noDelay: true }, (socket) => {
      const peer = new StreamPeer(socket, "server", options)
      peers.push(peer)
      options.serve?.(peer)
      const next = waiting.shift()
      if (next === undefined) return
      given++
      next(peer)
    })
    yield* Effect.acquireRelease(
      Effect.callback<void>((resume) => {
        server.listen(0, "127.0.0.1", () => resume(Effect.void))
      }),
      () =>
        Effect.callback<void>((resume) => {
          for (const { socket } of peers) socket.destroy()
          server.close(() => resume(Effect.void))
        })
    )
    yield* Effect.addFinalizer(() =>
      options.strict === false ? Effect.void : Effect.forEach(peers, ({ kept }) => kept, { discard: true })
    )
    const address = server.address()
    return {
      endpoint: Endpoint.tcp(`127.0.0.1:${typeof address === "object" && address !== null ? address.port : 0}`),
      peers,
      accepted: Effect.callback<StreamPeer>((resume) => {
        const peer = peers[given]
        const take = (peer: StreamPeer) => resume(Effect.succeed(peer))
        if (peer === undefined) {
          waiting.push(take)
          return Effect.sync(() => {
            const index = waiting.indexOf(take)
            if (index !== -1) waiting.splice(index, 1)
          })
        }
        given++
        return take(peer)
      })
    }
  })
