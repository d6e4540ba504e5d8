/**
 * The payload of the version message: a version, and the flags of this package after it. It does not know when such a
 * message is sent.
 */
import { putU32, u32At } from "./bytes.ts"

/** The version of the protocol that this package speaks. */
export const protocolVersion = 0

/** Bit 0: the sender understands flags. */
export const flagUnderstood = 1

/** Bit 1, server to client, unsolicited: going away, start no more calls here. */
export const flagGoingAway = 2

/** Bit 2, client to server: understood, no request follows this message. */
export const flagNoMoreRequests = 4

/** Bit 3: the sender understands streams: the types of messages from 5 to 9. */
export const flagStreams = 8

/**
 * Bit 4, server to client, only if the client understands flags: are you there? The client answers at once with a
 * version message that has this bit, too. The server does not answer that one.
 */
export const flagAreYouThere = 16

/** The content of a version message. `flags` is 0 from a peer that sent none. */
export interface VersionPayload {
  readonly version: number
  readonly flags: number
}

/** The payload: 4 bytes as the reference sends it, 8 bytes with `flags`. */
export const encodeVersion = (version: number, flags?: number): Uint8Array => {
  const payload = new Uint8Array(flags === undefined ? 4 : 8)
  putU32(payload, 0, version)
  if (flags !== undefined) putU32(payload, 4, flags)
  return payload
}

/**
 * Reads a payload; undefined if it is too short for a version. Bytes after the flags belong to later versions, and are
 * ignored.
 */
export const decodeVersion = (payload: Uint8Array): VersionPayload | undefined =>
  payload.length < 4
    ? undefined
    : { version: u32At(payload, 0), flags: payload.length < 8 ? 0 : u32At(payload, 4) }
