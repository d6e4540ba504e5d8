/**
 * The 49 bytes before the arguments of a request: method key, deadline, trace context. They are written and read in
 * place, on every call. It does not know what the arguments are.
 */
import { i32At, i64At, u8At } from "./bytes.ts"

/** The size of a request's header in bytes. The arguments follow. */
export const requestHeaderSize = 49

/** The size of the header of an open in bytes: that of a request, and the credit for the server's items (u32). */
export const openHeaderSize = requestHeaderSize + 4

/** The offsets of the parts. */
const deadlineOffset = 16
const traceIdOffset = 24
const spanIdOffset = 40
const flagsOffset = 48

/** The caller's span: the ids of W3C in hex (32 and 16 digits), neither of them all zeros. */
export interface TraceContext {
  readonly traceId: string
  readonly spanId: string
  readonly sampled: boolean
}

/**
 * Writes all bytes of a request's header at `offset`.
 *
 * `deadlineMicros` is the time left in microseconds, 0 for no deadline. It is never rounded to 0, which would remove
 * the deadline. A negative deadline has passed; such a request should not be sent at all. If the ids of `trace` do not
 * have the form of W3C, no trace context is written.
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

/**
 * Overwrites the deadline of the header at `offset`: the time left is only known when the frame goes to the socket.
 */
export const writeDeadline = (target: DataView, offset: number, deadlineMicros: number): void => {
  const micros = wholeMicros(deadlineMicros)
  target.setInt32(offset + deadlineOffset, micros, true)
  target.setInt32(offset + deadlineOffset + 4, Math.floor(micros / twoTo32), true)
}

const twoTo32 = 4_294_967_296

/**
 * The time left of the request whose header is at `offset`, in microseconds: 0 for no deadline, negative for one that
 * has passed, and `Number.MAX_SAFE_INTEGER` (285 years) for any longer time.
 */
export const readDeadlineMicros = (bytes: Uint8Array, offset: number): number => i64At(bytes, offset + deadlineOffset)

const wholeMicros = (micros: number): number => {
  if (micros > 0) return micros >= Number.MAX_SAFE_INTEGER ? Number.MAX_SAFE_INTEGER : Math.max(1, Math.floor(micros))
  return micros < 0 ? Math.max(-Number.MAX_SAFE_INTEGER, Math.floor(micros)) : 0
}

/** The trace context of the request whose header is at `offset`; undefined if it has none. */
export const readTraceContext = (bytes: Uint8Array, offset: number): TraceContext | undefined =>
  // The shorter id first: most requests have neither.
  isZero(bytes, offset + spanIdOffset, 8) || isZero(bytes, offset + traceIdOffset, 16)
    ? undefined
    : traceContextAt(bytes, offset)

const traceContextAt = (bytes: Uint8Array, offset: number): TraceContext => ({
  traceId: hexAt(bytes, offset + traceIdOffset) + hexAt(bytes, offset + traceIdOffset + 8),
  spanId: hexAt(bytes, offset + spanIdOffset),
  sampled: (u8At(bytes, offset + flagsOffset) & 1) === 1
})

/**
 * Eight bytes from `offset` in lower-case hex. The string is made in one step: to join it byte by byte took five times
 * as long.
 */
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

/** The value of a hex digit by its character code; `notHex` for all others below 128. */
const digitValue = new Uint8Array(128).fill(notHex)
for (let i = 0; i < 16; i++) {
  digitValue[i.toString(16).charCodeAt(0)] = i
  digitValue[i.toString(16).toUpperCase().charCodeAt(0)] = i
}

/**
 * Writes both ids and the flags. Returns false if an id does not have the form of W3C. The bytes may then have been
 * written in part.
 */
const writeTraceContext = (target: DataView, offset: number, trace: TraceContext): boolean => {
  try {
    if (!writeHex(target, offset + traceIdOffset, trace.traceId, 16)) return false
    if (!writeHex(target, offset + spanIdOffset, trace.spanId, 8)) return false
    target.setUint8(offset + flagsOffset, trace.sampled ? 1 : 0)
    return true
  } catch {
    // The span of a custom tracer may throw, or have no ids. The request must then not stay half-written.
    return false
  }
}

/** Writes exactly `length` bytes from hex digits. Returns false if `hex` is anything else, or all zeros. */
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
