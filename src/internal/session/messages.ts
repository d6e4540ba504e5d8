/**
 * Writes messages into a connection's {@link Writer}, for both ends: the header, the small parts, and the payload by
 * copy or by reference.
 *
 * It must not know calls, handlers or codecs: what goes before a payload (a typed call's format and fingerprint) is
 * some bytes for it.
 *
 * This is the hot path. A message that is copied allocates nothing.
 */
import type { MethodKey } from "../../MethodKey.ts"
import { copyInto, dataView } from "../memory/bytes.ts"
import { creditSize, headerSize, MessageType, writeHeader } from "../protocol/frame.ts"
import { openHeaderSize, requestHeaderSize, type TraceContext, writeRequestHeader } from "../protocol/request.ts"
import { encodeVersion, protocolVersion } from "../protocol/version.ts"
import type { Writer } from "../transport/writer.ts"

/** The lead of a message that has none. */
export const noLead = new Uint8Array(0)

const requestPrefix = headerSize + requestHeaderSize

/** The one writer of the messages of a connection. */
export class Messages {
  private readonly writer: Writer
  private readonly flattenLimit: number

  /** Payloads of `flattenLimit` bytes and more are queued by reference; they must not change after that. */
  constructor(writer: Writer, flattenLimit: number) {
    this.writer = writer
    this.flattenLimit = flattenLimit
  }

  /**
   * Queues the request `id`, the newest. `lead` goes before the arguments, and is always copied.
   *
   * The time left is written when the request leaves; until then the header only says that there is a deadline.
   */
  request(
    id: number,
    key: MethodKey,
    hasDeadline: boolean,
    trace: TraceContext | undefined,
    lead: Uint8Array,
    args: Uint8Array
  ): void {
    if (args.length >= this.flattenLimit) return this.largeRequest(id, key, hasDeadline, trace, lead, args)
    const { writer } = this
    const prefix = requestPrefix + lead.length
    const size = prefix + args.length
    const batch = writer.reserve(size)
    const { bytes, view } = batch
    const offset = batch.length - size
    writeHeader(view, offset, id, MessageType.request, size - headerSize)
    writeRequestHeader(view, offset + headerSize, key.bytes, hasDeadline ? 1 : 0, trace)
    if (lead.length > 0) copyInto(bytes, offset + requestPrefix, lead)
    copyInto(bytes, offset + prefix, args)
    writer.requestQueued(id, hasDeadline)
  }

  /** By itself, so that V8 inlines {@link request}: it inlines small functions only. */
  private largeRequest(
    id: number,
    key: MethodKey,
    hasDeadline: boolean,
    trace: TraceContext | undefined,
    lead: Uint8Array,
    args: Uint8Array
  ): void {
    const { writer } = this
    const prefix = requestPrefix + lead.length
    const head = new Uint8Array(prefix)
    const view = dataView(head)
    writeHeader(view, 0, id, MessageType.request, prefix - headerSize + args.length)
    writeRequestHeader(view, headerSize, key.bytes, hasDeadline ? 1 : 0, trace)
    copyInto(head, requestPrefix, lead)
    writer.reference(id, MessageType.request, head, args)
    writer.requestQueued(id, hasDeadline)
  }

  /**
   * Queues the open of stream `id`, the newest: the server may send `credit` bytes of items at first. `isAsked` says
   * that `onLeave` is called for it in any case.
   */
  open(
    id: number,
    key: MethodKey,
    hasDeadline: boolean,
    isAsked: boolean,
    trace: TraceContext | undefined,
    credit: number,
    lead: Uint8Array,
    args: Uint8Array
  ): void {
    const { writer } = this
    const prefix = headerSize + openHeaderSize + lead.length
    const isLarge = args.length >= this.flattenLimit
    const size = isLarge ? prefix : prefix + args.length
    const batch = isLarge ? undefined : writer.reserve(size)
    const bytes = batch === undefined ? new Uint8Array(prefix) : batch.bytes
    const view = batch === undefined ? dataView(bytes) : batch.view
    const offset = batch === undefined ? 0 : batch.length - size
    writeHeader(view, offset, id, MessageType.open, prefix - headerSize + args.length)
    writeRequestHeader(view, offset + headerSize, key.bytes, hasDeadline ? 1 : 0, trace)
    view.setUint32(offset + requestPrefix, credit, true)
    copyInto(bytes, offset + headerSize + openHeaderSize, lead)
    if (isLarge) writer.reference(id, MessageType.open, bytes, args)
    else copyInto(bytes, offset + prefix, args)
    writer.requestQueued(id, hasDeadline || isAsked)
  }

  /** Queues the credit of `bytes` more for stream `id`; of those read on the connection for 0. */
  credit(id: number, bytes: number): void {
    const size = headerSize + creditSize
    const batch = this.writer.reserve(size)
    const offset = batch.length - size
    writeHeader(batch.view, offset, id, MessageType.credit, creditSize)
    batch.view.setUint32(offset + headerSize, bytes, true)
  }

  /**
   * Queues the answer to request `id`, a message of `type`. `lead` goes before the payload, and is always copied.
   * Returns the size of the message in bytes.
   */
  response(id: number, type: number, lead: Uint8Array, payload: Uint8Array): number {
    if (payload.length >= this.flattenLimit) return this.largeResponse(id, type, lead, payload)
    const prefix = headerSize + lead.length
    const size = prefix + payload.length
    const batch = this.writer.reserve(size)
    const { bytes, view } = batch
    const offset = batch.length - size
    writeHeader(view, offset, id, type, size - headerSize)
    if (lead.length > 0) copyInto(bytes, offset + headerSize, lead)
    copyInto(bytes, offset + prefix, payload)
    return size
  }

  /** By itself, as {@link largeRequest} is. */
  private largeResponse(id: number, type: number, lead: Uint8Array, payload: Uint8Array): number {
    const prefix = headerSize + lead.length
    const head = new Uint8Array(prefix)
    writeHeader(dataView(head), 0, id, type, lead.length + payload.length)
    copyInto(head, headerSize, lead)
    this.writer.reference(id, type, head, payload)
    return prefix + payload.length
  }

  /**
   * Queues a version message, with flags where the peer is to know them. Returns the size of the message in bytes.
   */
  version(flags: number | undefined): number {
    const payload = encodeVersion(protocolVersion, flags)
    const size = headerSize + payload.length
    const batch = this.writer.reserve(size)
    const offset = batch.length - size
    writeHeader(batch.view, offset, 0, MessageType.version, payload.length)
    batch.bytes.set(payload, offset + headerSize)
    return size
  }
}
