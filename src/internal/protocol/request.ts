/**
 * The 49 bytes before a request's arguments: method key, deadline, trace context. Written and read in place, for every call.
 */
import { i32At, i64At, u8At } from "./bytes.ts"

/** The bytes of a request's header; the arguments follow. */
export const requestHeaderSize = 49

/** Where the parts of the header begin. */
const deadlineOffset = 16
const traceIdOffset = 24
const spanIdOffset = 40
const flagsOffset = 48

/** The caller's span: W3C ids in hex (32 and 16 digits), neither of them all zero. */
export interface TraceContext {
  readonly traceId: string
  readonly spanId: string
  readonly sampled: boolean
}

/**
 * Writes a request's header at `offset`, every one of its bytes.
 *
 * `deadlineMicros` is the time left in microseconds, 0 for none. A time left never rounds to 0, which would lift the deadline. A negative
 * one says that it has passed; such a request should not be sent at all. Ids in `trace` that are not W3C's send no trace context.
 */
export const writeRequestHeader = (
  target: DataView,
  offset: number,
  key: Uint8Array,
  deadlineMicros: number,
  trace: TraceContext | undefined
): void => {
  for (let i = 0; i < 16; i += 4) target.setInt32(offset + i, i32At(key, i), true)
  writeDeadline(target, offset, deadlineMicros)
  if (trace === undefined || !writeTraceContext(target, offset, trace)) {
    for (let i = traceIdOffset; i < flagsOffset; i += 4) target.setInt32(offset + i, 0)
    target.setUint8(offset + flagsOffset, 0)
  }
}

/** Writes the deadline of the header at `offset` again: the time left is known only when the frame is handed to the socket. */
export const writeDeadline = (target: DataView, offset: number, deadlineMicros: number): void => {
  const micros = wholeMicros(deadlineMicros)
  target.setInt32(offset + deadlineOffset, micros, true)
  target.setInt32(offset + deadlineOffset + 4, Math.floor(micros / twoTo32), true)
}

const twoTo32 = 4_294_967_296

/**
 * The time left of the request whose header is at `offset`, in microseconds: 0 for no deadline, negative for one that has passed, and
 * `Number.MAX_SAFE_INTEGER` (285 years) for anything longer than that.
 */
export const readDeadlineMicros = (bytes: Uint8Array, offset: number): number => i64At(bytes, offset + deadlineOffset)

const wholeMicros = (micros: number): number => {
  if (micros > 0) return micros >= Number.MAX_SAFE_INTEGER ? Number.MAX_SAFE_INTEGER : Math.max(1, Math.floor(micros))
  return micros < 0 ? Math.max(-Number.MAX_SAFE_INTEGER, Math.floor(micros)) : 0
}

/** The trace context of the request whose header is at `offset`, where it has one. */
export const readTraceContext = (bytes: Uint8Array, offset: number): TraceContext | undefined => {
  if (isZero(bytes, offset + traceIdOffset, 16) || isZero(bytes, offset + spanIdOffset, 8)) return undefined
  return {
    traceId: hexAt(bytes, offset + traceIdOffset) + hexAt(bytes, offset + traceIdOffset + 8),
    spanId: hexAt(bytes, offset + spanIdOffset),
    sampled: (u8At(bytes, offset + flagsOffset) & 1) === 1
  }
}

/** Eight bytes from `offset` on in lower-case hex, made in one piece: strings that are put together byte by byte took five times as long. */
const hexAt = (bytes: Uint8Array, offset: number): string => {
  const b0 = u8At(bytes, offset)
  const b1 = u8At(bytes, offset + 1)
  const b2 = u8At(bytes, offset + 2)
  const b3 = u8At(bytes, offset + 3)
  const b4 = u8At(bytes, offset + 4)
  const b5 = u8At(bytes, offset + 5)
  const b6 = u8At(bytes, offset + 6)
  const b7 = u8At(bytes, offset + 7)
  // dprint-ignore
  return String.fromCharCode(
    high(b0), low(b0), high(b1), low(b1), high(b2), low(b2), high(b3), low(b3),
    high(b4), low(b4), high(b5), low(b5), high(b6), low(b6), high(b7), low(b7)
  )
}

const digitCodes = Uint8Array.from("0123456789abcdef", (digit) => digit.charCodeAt(0))
const high = (byte: number): number => u8At(digitCodes, byte >> 4)
const low = (byte: number): number => u8At(digitCodes, byte & 15)

const notHex = 0xff

/** The value of a hex digit by its character code, `notHex` for every other one below 128. */
const digitValue = new Uint8Array(128).fill(notHex)
for (let i = 0; i < 16; i++) {
  digitValue[i.toString(16).charCodeAt(0)] = i
  digitValue[i.toString(16).toUpperCase().charCodeAt(0)] = i
}

/** Writes both ids and the flags; false, with the bytes in no particular state, where an id is not one of W3C's. */
const writeTraceContext = (target: DataView, offset: number, trace: TraceContext): boolean => {
  try {
    if (!writeHex(target, offset + traceIdOffset, trace.traceId, 16)) return false
    if (!writeHex(target, offset + spanIdOffset, trace.spanId, 8)) return false
    target.setUint8(offset + flagsOffset, trace.sampled ? 1 : 0)
    return true
  } catch {
    // A span of a tracer that is a user's own may throw, or have no ids: the request is not to be left half-written for
    // that.
    return false
  }
}

/** Writes exactly `length` bytes from hex digits; false where `hex` is anything else, or zero throughout. */
const writeHex = (target: DataView, offset: number, hex: string, length: number): boolean => {
  if (typeof hex !== "string" || hex.length !== length * 2) return false
  let any = 0
  for (let i = 0; i < length; i++) {
    const high = digitAt(hex, 2 * i)
    const low = digitAt(hex, 2 * i + 1)
    if (high === notHex || low === notHex) return false
    const byte = (high << 4) | low
    target.setUint8(offset + i, byte)
    any |= byte
  }
  return any !== 0
}

const digitAt = (hex: string, index: number): number => {
  const code = hex.charCodeAt(index)
  return code < 128 ? u8At(digitValue, code) : notHex
}

const isZero = (bytes: Uint8Array, offset: number, length: number): boolean => {
  for (let i = 0; i < length; i++) {
    if (u8At(bytes, offset + i) !== 0) return false
  }
  return true
}
