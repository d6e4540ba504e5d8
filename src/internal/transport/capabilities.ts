/**
 * What a connection can do, so that clients, servers and the code around this file need not know what it is made of.
 *
 * The maker of a connection describes it with {@link describe}, where it knows more than its Duplex shows. The rest is
 * worked out here from the Duplex: this is the one file that asks whether it is a socket. It knows no frames, sessions
 * or endpoints.
 */
import { Socket } from "node:net"
import type { Duplex } from "node:stream"
import { attempt } from "../userError.ts"
import type { OnreadReceiver } from "./receiver.ts"
import { queuedBelow, showsTaken } from "./systemQueue.ts"

/** The other end of a connection, as the system knows it. */
export interface Remote {
  /** An IP address. */
  readonly address: string
  readonly port: number
}

/** What one connection can do. It is read once, when its transport is made, and does not change. */
export interface Capabilities {
  /**
   * Whether a buffer that was written is ours again as soon as the callback of its write has run. Where not, what is
   * written is a copy.
   */
  readonly writesByReference: boolean
  /** Whether no other code writes into the chunks that it delivers. Where not, what is kept of them is a copy. */
  readonly ownsChunks: boolean
  /** Whether {@link Capabilities.systemQueue} shows all that the system has yet to send. */
  readonly showsTaken: boolean
  /** How many bytes the system has yet to send; 0 where that cannot be seen. */
  readonly systemQueue: () => number
  /** Lets the system probe a peer that is silent. Times in milliseconds. Undefined where there is no system below. */
  readonly kernelKeepAlive: ((interval: number, timeout: number) => void) | undefined
  /** The other end, as it was when the transport was made: a closed socket does not know it any more. */
  readonly remote: Remote | undefined
  /** Whether the peer can vanish without a word, so that it is worth probing. Default: true. */
  readonly mayVanish: boolean
  /**
   * Whether the peer can refuse us after the dial has succeeded, and then just closes the connection, as with TLS 1.3.
   * Default: false.
   */
  readonly refusesSilently: boolean
  /** Receives what is read, on a connection that emits no `"data"`. Default: none. */
  readonly receiver: OnreadReceiver | undefined
  /** Whether TLS can read and write below the methods of the Duplex. */
  readonly hasHandle: boolean
}

/** What only the maker of a connection can know. */
export type Description = Partial<Pick<Capabilities, "mayVanish" | "refusesSilently" | "receiver">>

const descriptions = new WeakMap<Duplex, Description>()

/**
 * Describes a connection, before there is a transport for it. What was said of it before, and is not said now, stays.
 */
export const describe = <D extends Duplex>(duplex: D, description: Description): D => {
  descriptions.set(duplex, { ...descriptions.get(duplex), ...description })
  return duplex
}

/** Describes a connection that runs over another one: its peer can vanish if the other one's peer can. */
export const describeOver = <D extends Duplex>(duplex: D, below: Duplex, description: Description = {}): D =>
  describe(duplex, { mayVanish: descriptions.get(below)?.mayVanish ?? true, ...description })

/** What a connection can do. */
export const capabilitiesOf = (duplex: Duplex): Capabilities => ({
  mayVanish: true,
  refusesSilently: false,
  receiver: undefined,
  ...(duplex instanceof Socket ? ofSocket(duplex) : ofDuplex),
  showsTaken: showsTaken(duplex),
  systemQueue: () => queuedBelow(duplex),
  ...descriptions.get(duplex)
})

/** A Duplex of a user's own. `stream.duplexPair` hands the very bytes that one end writes to its other end. */
const ofDuplex = {
  writesByReference: false,
  ownsChunks: false,
  kernelKeepAlive: undefined,
  remote: undefined,
  hasHandle: false
} as const

/** A `net.Socket`, and so a `TLSSocket`. */
const ofSocket = (socket: Socket) => ({
  // A `write` of a user's own may run its callback twice, and one buffer would be given to two connections.
  writesByReference: socket.write === Socket.prototype.write,
  // Each chunk is a fresh buffer.
  ownsChunks: true,
  kernelKeepAlive: (interval: number, timeout: number) => keepAlive(socket, interval, timeout),
  remote: attempt(() => remoteOf(socket), undefined),
  // As Node finds it out. A socket of a user's own may have none.
  hasHandle: attempt(() => Boolean(Reflect.get(socket, "_handle")), false)
})

const remoteOf = ({ remoteAddress, remotePort }: Socket): Remote | undefined =>
  remoteAddress === undefined ? undefined : { address: remoteAddress, port: remotePort ?? 0 }

/** As the system takes it: in whole seconds, from 1 to 32767. Here in milliseconds. */
const inSeconds = (millis: number): number => Math.min(32_767, Math.max(1, Math.round(millis / 1000))) * 1000

/** How many probes of the system may stay without an answer. */
const probes = 10

const keepAlive = (socket: Socket, interval: number, timeout: number): void =>
  // Only newer versions of Node tell the system how long to wait for each answer; with others it waits 1 s.
  attempt(
    () => void socket.setKeepAlive(true, inSeconds(interval), inSeconds(timeout / probes), probes),
    undefined
  )
