/**
 * The same frames with nothing around them: a minimal parser, `"data"` events, one coalesced write per turn of the
 * event loop, callers as callbacks. What the baselines have in common.
 */
import type { Duplex } from "node:stream"
import { type Client, runCallbacks } from "../system.ts"

const header = 16
const requestPrefix = header + 49
const bufferSize = 262_144

/** Splits a stream into messages; a message that is split over chunks is put together by concatenation. */
const reader = (onMessage: (id: number, bytes: Buffer, start: number, end: number) => void) => {
  let rest: Buffer | undefined
  let parts: Array<Buffer> = []
  let have = 0
  let need = 0
  return (chunk: Buffer) => {
    if (rest !== undefined) {
      parts.push(chunk)
      have += chunk.length
      if (have < need) return
      chunk = Buffer.concat(parts)
      rest = undefined
      parts = []
    }
    let position = 0
    while (chunk.length - position >= header) {
      const length = chunk.readUInt32LE(position + 9)
      const end = position + header + length
      if (end > chunk.length) break
      onMessage(chunk.readUInt32LE(position), chunk, position + header, end)
      position = end
    }
    if (position < chunk.length) {
      rest = position === 0 ? chunk : chunk.subarray(position)
      parts = [rest]
      have = rest.length
      need = have >= header ? header + rest.readUInt32LE(9) : header
    }
  }
}

/** Copies messages into one buffer, which is written once per turn. */
const writer = (socket: Duplex) => {
  const free: Array<Buffer> = []
  let buffer: Buffer = Buffer.allocUnsafeSlow(bufferSize)
  let length = 0
  let scheduled = false
  const flush = () => {
    scheduled = false
    if (length === 0) return
    const written = buffer
    socket.write(written.subarray(0, length), () => {
      if (written.length === bufferSize) free.push(written)
    })
    buffer = free.pop() ?? Buffer.allocUnsafeSlow(bufferSize)
    length = 0
  }
  return (id: number, type: number, prefix: number, payload: Uint8Array) => {
    const size = header + prefix + payload.length
    if (length + size > buffer.length) flush()
    // A message that is larger than that has a buffer of its own.
    if (size > buffer.length) buffer = Buffer.allocUnsafeSlow(size)
    buffer.fill(0, length, length + header + prefix)
    buffer.writeUInt32LE(id, length)
    buffer[length + 8] = type
    buffer.writeUInt32LE(prefix + payload.length, length + 9)
    buffer.set(payload, length + header + prefix)
    length += size
    if (!scheduled) {
      scheduled = true
      process.nextTick(flush)
    }
  }
}

/** Answers every request with its arguments. */
export const answer = (socket: Duplex): void => {
  socket.on("error", () => {})
  const write = writer(socket)
  socket.on("data", reader((id, bytes, start, end) => write(id, 2, 0, bytes.subarray(start + 49, end))))
}

/** Takes an answer: `bytes` from `start` to `end`, which are valid until it returns. */
type Done = (bytes: Uint8Array, start: number, end: number) => void

/** Makes a call. */
type Caller = (args: Uint8Array, done: Done) => void

/** A connection that makes calls. */
const makeCaller = (socket: Duplex): Caller => {
  const write = writer(socket)
  const pending = new Map<number, Done>()
  let nextId = 1
  socket.on(
    "data",
    reader((id, bytes, start, end) => {
      const done = pending.get(id)
      pending.delete(id)
      done?.(bytes, start, end)
    })
  )
  return (args, done) => {
    const id = nextId++
    pending.set(id, done)
    write(id, 1, requestPrefix - header, args)
  }
}

/** What is measured of a connection. */
export const rawClient = (socket: Duplex): Client => {
  const call = makeCaller(socket)
  return {
    echo: (payload) => new Promise((resolve) => call(payload, (bytes, start, end) => resolve(bytes.slice(start, end)))),
    run: runCallbacks((payload, done) => call(payload, (_bytes, start, end) => done(end - start)))
  }
}
