/**
 * The baselines: `node:net` with the frames of effect-call's streams and nothing around them. A chunk of items is one
 * message; a server fills buffers with those of its streams in turn, and writes them as the socket takes them.
 *
 * Without flow control, a consumer that stops can only stop to read the socket. With it, streams have credit, and
 * what is in flight is limited, as effect-call's wire has it: 256 KiB each. Large answers are then cut into parts.
 */
import * as net from "node:net"
import {
  type Feed,
  feedFromBytes,
  feedToBytes,
  itemOf,
  served,
  sizeFromBytes,
  sizeToBytes,
  type StreamClient,
  type StreamSystem,
  type Take
} from "../system.ts"

const header = 16
const requestHeader = 49
const batchSize = 262_144
const writesPerTurn = 4

const request = 1
const response = 2
const cancel = 4
const open = 5
const items = 6
const part = 7
const credit = 9

const window = 262_144
const inFlightLimit = 262_144
const readNotice = 65_536
const partSize = 65_536
const largeAnswer = 262_144

type OnMessage = (id: number, type: number, bytes: Buffer, start: number, end: number) => void

/** Splits what comes into messages; one that is split over chunks is put together by concatenation. */
const reader = (onMessage: OnMessage) => {
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
      const end = position + header + chunk.readUInt32LE(position + 9)
      if (end > chunk.length) break
      onMessage(chunk.readUInt32LE(position), chunk[position + 8] ?? 0, chunk, position + header, end)
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

const writeHeader = (buffer: Buffer, at: number, id: number, type: number, length: number): number => {
  buffer.writeUInt32LE(id, at)
  buffer.writeUInt32LE(0, at + 4)
  buffer[at + 8] = type
  buffer.writeUInt32LE(length, at + 9)
  buffer[at + 13] = 0
  buffer[at + 14] = 0
  buffer[at + 15] = 0
  return at + header
}

const message = (id: number, type: number, prefix: number, payload: Uint8Array): Buffer => {
  const buffer = Buffer.alloc(header + prefix + payload.length)
  writeHeader(buffer, 0, id, type, prefix + payload.length)
  buffer.set(payload, header + prefix)
  return buffer
}

/** What goes out in pieces. */
interface Source {
  readonly id: number
  /** The bytes of the next piece. */
  next: number
  credit: number
  /** Writes the next piece, and says whether there are more. */
  readonly write: (buffer: Buffer, at: number) => boolean
}

const itemsSource = (id: number, { chunk, chunks, itemBytes }: Feed, granted: number): Source => {
  const item = itemOf(itemBytes)
  const size = chunk * (4 + itemBytes)
  let left = chunks
  return {
    id,
    next: size,
    credit: granted,
    write(buffer, at) {
      at = writeHeader(buffer, at, id, items, size)
      for (let i = 0; i < chunk; i++) {
        buffer.writeUInt32LE(itemBytes, at)
        buffer.set(item, at + 4)
        at += 4 + itemBytes
      }
      served.items += chunk
      return --left > 0
    }
  }
}

const partsSource = (id: number, answer: Uint8Array): Source => {
  let written = 0
  return {
    id,
    next: 4 + partSize,
    credit: Infinity,
    write(buffer, at) {
      const first = written === 0
      const piece = answer.subarray(written, written + partSize)
      at = writeHeader(buffer, at, id, part, piece.length + (first ? 4 : 0))
      if (first) at = buffer.writeUInt32LE(answer.length, at)
      buffer.set(piece, at)
      written += piece.length
      this.next = Math.min(partSize, answer.length - written)
      return written < answer.length
    }
  }
}

const serveSocket = (socket: net.Socket, withCredit: boolean): void => {
  const sources: Array<Source> = []
  const byId = new Map<number, Source>()
  const free: Array<Buffer> = []
  let inFlight = 0
  let scheduled = false
  let turn = 0
  const remove = (id: number) => {
    const source = byId.get(id)
    if (source === undefined) return
    byId.delete(id)
    sources.splice(sources.indexOf(source), 1)
  }
  /** Fills a buffer from the sources in turn, and says how far. */
  const fill = (buffer: Buffer): number => {
    let length = 0
    let stuck = 0
    while (stuck < sources.length) {
      if (withCredit && inFlight >= inFlightLimit) break
      const source = sources[turn++ % sources.length]
      if (source === undefined) break
      if (withCredit && source.credit <= 0) {
        stuck++
        continue
      }
      const { next } = source
      // Behind the last piece there is room for the answer.
      if (length + 2 * header + next > batchSize) break
      stuck = 0
      const goesOn = source.write(buffer, length)
      length += header + next
      source.credit -= next
      inFlight += next
      if (!goesOn) {
        remove(source.id)
        length = writeHeader(buffer, length, source.id, response, 0)
      }
    }
    return length
  }
  const pump = () => {
    scheduled = false
    if (socket.writableNeedDrain || socket.destroyed) return
    for (let writes = 0; writes < writesPerTurn; writes++) {
      const buffer = free.pop() ?? Buffer.allocUnsafeSlow(batchSize)
      const length = fill(buffer)
      if (length === 0) {
        free.push(buffer)
        return
      }
      if (!socket.write(buffer.subarray(0, length), () => free.push(buffer))) return
    }
    schedule()
  }
  const schedule = () => {
    if (scheduled || sources.length === 0) return
    scheduled = true
    setImmediate(pump)
  }
  const add = (source: Source) => {
    sources.push(source)
    byId.set(source.id, source)
  }
  const call = (id: number, size: number) => {
    const answer = itemOf(size)
    if (size <= largeAnswer) {
      socket.write(message(id, response, 0, answer))
    } else if (withCredit) {
      add(partsSource(id, answer))
    } else {
      const head = Buffer.alloc(header)
      writeHeader(head, 0, id, response, size)
      socket.write(head)
      socket.write(answer)
    }
  }
  socket.on("error", () => {})
  socket.on("drain", pump)
  socket.on(
    "data",
    reader((id, type, bytes, start, end) => {
      if (type === request) {
        call(id, sizeFromBytes(bytes.subarray(start + requestHeader, end)))
      } else if (type === open) {
        const feed = feedFromBytes(bytes.subarray(start + requestHeader + 4, end))
        served.streams++
        if (feed.chunks > 0) add(itemsSource(id, feed, bytes.readUInt32LE(start + requestHeader)))
      } else if (type === cancel) {
        remove(id)
      } else if (id === 0) {
        inFlight -= bytes.readUInt32LE(start)
      } else {
        const source = byId.get(id)
        if (source !== undefined) source.credit += bytes.readUInt32LE(start)
      }
      schedule()
    })
  )
}

/** A stream on its client. */
interface Incoming {
  readonly take: Take
  readonly end: () => void
  taken: number
  stopped: boolean
}

const makeClient = (socket: net.Socket, withCredit: boolean): StreamClient => {
  let nextId = 1
  const streams = new Map<number, Incoming>()
  const calls = new Map<number, (bytes: number) => void>()
  /** Large answers, as far as they have come. */
  const answers = new Map<number, { readonly bytes: Buffer; length: number }>()
  let grants: Array<readonly [id: number, bytes: number]> = []
  let read = 0

  const onItems = (stream: Incoming, id: number, bytes: Buffer, start: number, end: number) => {
    if (stream.stopped) return
    let count = 0
    let first: Uint8Array | undefined
    for (let at = start; at < end; count++) {
      const length = bytes.readUInt32LE(at)
      // As a consumer gets them, a view of each.
      const item = bytes.subarray(at + 4, at + 4 + length)
      first ??= item
      at += 4 + length
    }
    if (first === undefined) return
    if (!stream.take(count, first)) {
      stream.stopped = true
      if (!withCredit) socket.pause()
      return
    }
    stream.taken += end - start
    if (withCredit && stream.taken >= window / 2) {
      grants.push([id, stream.taken])
      stream.taken = 0
    }
  }
  const onPart = (id: number, bytes: Buffer, start: number, end: number) => {
    let answer = answers.get(id)
    if (answer === undefined) {
      answer = { bytes: Buffer.allocUnsafeSlow(bytes.readUInt32LE(start)), length: 0 }
      answers.set(id, answer)
      start += 4
    }
    answer.length += bytes.copy(answer.bytes, answer.length, start, end)
  }
  const onData = reader((id, type, bytes, start, end) => {
    if (type === items || type === part) read += end - start
    if (type === part) return onPart(id, bytes, start, end)
    const stream = streams.get(id)
    if (type === items) {
      if (stream !== undefined) onItems(stream, id, bytes, start, end)
      return
    }
    streams.delete(id)
    stream?.end()
    const done = calls.get(id)
    calls.delete(id)
    done?.(answers.get(id)?.length ?? end - start)
    answers.delete(id)
  })
  socket.on("data", (chunk: Buffer) => {
    onData(chunk)
    if (!withCredit) return
    if (read >= readNotice) {
      grants.push([0, read])
      read = 0
    }
    if (grants.length === 0) return
    const buffer = Buffer.alloc((header + 4) * grants.length)
    let at = 0
    for (const [id, bytes] of grants) at = buffer.writeUInt32LE(bytes, writeHeader(buffer, at, id, credit, 4))
    grants = []
    socket.write(buffer)
  })

  const call = (bytes: number) =>
    new Promise<number>((resolve) => {
      const id = nextId++
      calls.set(id, resolve)
      socket.write(message(id, request, requestHeader, sizeToBytes(bytes)))
    })
  const openOne = (feed: Feed, take: Take, end: () => void): number => {
    const id = nextId++
    streams.set(id, { take, end, taken: 0, stopped: false })
    const opening = message(id, open, requestHeader + 4, feedToBytes(feed))
    opening.writeUInt32LE(window, header + requestHeader)
    socket.write(opening)
    return id
  }
  return {
    call,
    open: (feed, count, take) => {
      const ids: Array<number> = []
      const ended = Promise.all(
        Array.from({ length: count }, () => new Promise<void>((end) => ids.push(openOne(feed, take, end))))
      )
      return {
        ended: ended.then(() => {}),
        stop: async () => {
          for (const id of ids) {
            streams.delete(id)
            socket.write(message(id, cancel, 0, new Uint8Array(0)))
          }
          socket.resume()
          // Its answer comes behind what was sent before.
          await call(0)
        }
      }
    }
  }
}

export const raw = ({ withCredit }: { readonly withCredit: boolean }): StreamSystem => ({
  serve: () =>
    new Promise((resolve) => {
      const server = net.createServer({ noDelay: true }, (socket) => serveSocket(socket, withCredit))
      server.listen(0, "127.0.0.1", () => {
        const address = server.address()
        resolve(String(typeof address === "object" && address !== null ? address.port : 0))
      })
    }),
  connect: (port) =>
    new Promise((resolve, reject) => {
      const socket = net.connect(
        { port: Number(port), host: "127.0.0.1", noDelay: true },
        () => resolve(makeClient(socket, withCredit))
      )
      socket.once("error", reject)
    })
})
