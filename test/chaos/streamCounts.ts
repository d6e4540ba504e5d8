/**
 * How many streams there were of each method, and what they carried.
 */
import type { StreamPlan } from "./streamPlan.ts"

/** What all streams of a soak carried, from the client's side. */
export interface StreamFigures {
  /** How many there were of each method, in bytes and typed. */
  readonly opened: Readonly<Record<string, number>>
  readonly itemsReceived: number
  readonly bytesReceived: number
  /** What was made for sending: some of it may not have left. */
  readonly itemsMade: number
  readonly bytesMade: number
  /** The most items of one stream, and the largest item, in bytes. */
  readonly mostItems: number
  readonly largestItem: number
}

export class StreamCounts {
  private readonly opened = new Map<string, number>()
  private itemsReceived = 0
  private bytesReceived = 0
  private itemsMade = 0
  private bytesMade = 0
  private mostItems = 0
  private largestItem = 0

  /** Items were made that the client is to send. */
  readonly made = (items: ReadonlyArray<Uint8Array>): void => {
    this.itemsMade += items.length
    this.bytesMade += this.bytesOf(items)
  }

  /** Items have come to the client. */
  readonly received = (items: ReadonlyArray<Uint8Array>): void => {
    this.itemsReceived += items.length
    this.bytesReceived += this.bytesOf(items)
  }

  /** A stream has ended, with so many items for its client. */
  ended({ api, method }: StreamPlan, items: number): void {
    const name = `${api} ${method}`
    this.opened.set(name, (this.opened.get(name) ?? 0) + 1)
    this.mostItems = Math.max(this.mostItems, items)
  }

  get figures(): StreamFigures {
    const { bytesMade, bytesReceived, itemsMade, itemsReceived, largestItem, mostItems } = this
    return {
      opened: Object.fromEntries(this.opened),
      itemsReceived,
      bytesReceived,
      itemsMade,
      bytesMade,
      mostItems,
      largestItem
    }
  }

  private bytesOf(items: ReadonlyArray<Uint8Array>): number {
    let bytes = 0
    for (const { length } of items) {
      bytes += length
      this.largestItem = Math.max(this.largestItem, length)
    }
    return bytes
  }
}
