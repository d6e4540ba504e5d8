/**
 * Counts the items of one endpoint's or server's streams, and their bytes, by method and direction.
 *
 * Nothing is done for an item: a stream has its own numbers, which are read when the metrics are exported, so that
 * streams without an end show up, too. It does not know what a stream is for.
 */
import type { MethodKey } from "../../MethodKey.ts"
import { maxMethods, methodLabels, otherMethod } from "./calls.ts"
import type { Attributes, Described, SeriesSet } from "./series.ts"
import { systemName } from "./span.ts"

/** What one end of a stream has sent and received so far. */
export interface CountedStream {
  readonly itemsSent: number
  readonly itemsReceived: number
  /** With the lengths of items on the wire. */
  readonly bytesSent: number
  readonly bytesReceived: number
}

const numbers = ["itemsSent", "itemsReceived", "bytesSent", "bytesReceived"] as const
type Name = typeof numbers[number]

/** The streams of one method. */
class MethodStreams {
  private readonly open = new Set<CountedStream>()
  /** Of the streams that have ended. */
  private readonly ended: Record<Name, number> = { itemsSent: 0, itemsReceived: 0, bytesSent: 0, bytesReceived: 0 }

  begin(stream: CountedStream): void {
    this.open.add(stream)
  }

  end(stream: CountedStream): void {
    if (!this.open.delete(stream)) return
    for (const name of numbers) this.ended[name] += stream[name]
  }

  total(name: Name): number {
    let sum = this.ended[name]
    for (const stream of this.open) sum += stream[name]
    return sum
  }
}

/** The streams of all methods. */
export class StreamsByMethod {
  private readonly items: Described
  private readonly bytes: Described
  private readonly series: SeriesSet
  private readonly attributes: Attributes
  private readonly methods = new Map<string, MethodStreams>()

  constructor(items: Described, bytes: Described, series: SeriesSet, attributes: Attributes) {
    this.items = items
    this.bytes = bytes
    this.series = series
    this.attributes = { ...attributes, "rpc.system.name": systemName }
  }

  /** A stream begins. From now on its numbers are shown. */
  begin(key: MethodKey, stream: CountedStream): void {
    const name = this.nameOf(key)
    let streams = this.methods.get(name)
    if (streams === undefined) {
      streams = new MethodStreams()
      this.methods.set(name, streams)
      this.show(streams, name === otherMethod ? { "rpc.method": otherMethod } : methodLabels(key))
    }
    streams.begin(stream)
  }

  /** A stream has ended: its numbers do not change any more. It can be repeated. */
  end(key: MethodKey, stream: CountedStream): void {
    this.methods.get(this.nameOf(key))?.end(stream)
  }

  /** Methods past the limit are counted together. */
  private nameOf({ hex }: MethodKey): string {
    return this.methods.has(hex) || this.methods.size < maxMethods ? hex : otherMethod
  }

  private show(streams: MethodStreams, method: Attributes): void {
    const sent = { ...this.attributes, ...method, "network.io.direction": "transmit" }
    const received = { ...this.attributes, ...method, "network.io.direction": "receive" }
    this.series.counter(this.items, sent, () => streams.total("itemsSent"))
    this.series.counter(this.items, received, () => streams.total("itemsReceived"))
    this.series.counter(this.bytes, sent, () => streams.total("bytesSent"))
    this.series.counter(this.bytes, received, () => streams.total("bytesReceived"))
  }
}
