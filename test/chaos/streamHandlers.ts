/**
 * What a replica of the soak serves as streams, the same with bytes and typed. What comes is checked: a handler's items
 * are those that its client was to send, and end only where they were to.
 */
import { type Cause, Effect, Queue, Stream } from "effect"
import { Server } from "effect-call"
import { ItemReader, itemsOf, type Order, pausing, readOrder } from "./order.ts"
import { headerSize, makeAnswer, makePayload } from "./payload.ts"

/** What the handlers of streams have at hand. */
export interface Serving<E> {
  /** The number of the process. */
  readonly stamp: number
  /** Notes that a stream is served. */
  readonly begin: (id: number) => void
  /** Notes what is not as it was sent. */
  readonly wrong: (what: string) => void
  /** Notes that a handler begins or ends: more or fewer of this name run. */
  readonly running: (name: string, change: 1 | -1) => void
  /** How the handler of stream `id` fails that is to. */
  readonly failure: (id: number) => E
}

type Bytes = Uint8Array<ArrayBuffer>

/** What remains of a stream whose replica leaves, as it was ordered. */
const untilLeaving = ({ leaving }: Order) => <A, E, R>(self: Stream.Stream<A, E, R>): Stream.Stream<A, E, R> => {
  switch (leaving) {
    case "goesOn":
      return self
    case "fails":
      return Server.untilLeaving(self)
    case "ends":
      return Stream.interruptWhen(self, Server.leaving)
  }
}

export const makeHandlers = <E>({ begin, failure, running, stamp, wrong }: Serving<E>) => {
  /** Runs as long as its Scope is open. */
  const counted = (name: string) =>
    Effect.acquireRelease(Effect.sync(() => running(name, 1)), () => Effect.sync(() => running(name, -1)))

  const open = (args: Uint8Array) => {
    const read = readOrder(args)
    if (typeof read === "string") {
      wrong(read)
      return Effect.die(new Error(read))
    }
    begin(read.id)
    return Effect.succeed(read)
  }

  const stamped = Stream.mapArray((items: readonly [Uint8Array, ...ReadonlyArray<Uint8Array>]) =>
    [makeAnswer(stamp, items[0]), ...items.slice(1).map((item) => makeAnswer(stamp, item))] as const
  )

  /** What follows the last item. */
  const end = (id: number, { down }: Order): Stream.Stream<never, E> => {
    switch (down.end) {
      case "clean":
        return Stream.empty
      case "fail":
        return Stream.fail(failure(id))
      case "die":
        return Stream.die(new Error(`stream ${id} was to die`))
    }
  }

  /** A client's items as far as they are taken, checked. */
  const taken = (
    id: number,
    order: Order,
    items: Stream.Stream<Uint8Array>
  ) => {
    const { takes, up, work } = order
    const reader = new ItemReader(id, up, false)
    const pause = order.stops ? Effect.never : pausing(work)
    const checked = Stream.mapArrayEffect(items, (chunk) => {
      reader.take(chunk)
      if (reader.problem !== undefined) wrong(`stream ${id}: ${reader.problem}`)
      return Effect.as(pause, chunk)
    })
    const ended = Effect.sync(() => {
      if (reader.count !== up.count || up.end !== "clean") {
        wrong(`stream ${id}: an end of its items after ${reader.count} of ${up.count}, then ${up.end}`)
      }
    })
    const whole = Stream.concat(checked, Stream.fromEffectDrain(ended))
    return takes === undefined ? whole : Stream.take(whole, takes)
  }

  const feed = (args: Uint8Array): Stream.Stream<Bytes, E> =>
    Stream.unwrap(Effect.gen(function*() {
      const { id, order } = yield* open(args)
      yield* counted("feed")
      return itemsOf(id, order.down).pipe(stamped, Stream.concat(end(id, order)), untilLeaving(order))
    }))

  /** As `feed`, with a Dequeue in the call's Scope. */
  const queue = Effect.fnUntraced(function*(args: Uint8Array) {
    const { id, order } = yield* open(args)
    yield* counted("queue")
    const queue = yield* Queue.bounded<Bytes, E | Cause.Done>(16)
    const items = itemsOf(id, order.down).pipe(stamped, Stream.concat(end(id, order)), untilLeaving(order))
    yield* Effect.forkScoped(Stream.runIntoQueue(items, queue))
    return Queue.asDequeue(queue)
  })

  const upload = Effect.fnUntraced(function*(args: Uint8Array, items: Stream.Stream<Uint8Array>) {
    const { id, order } = yield* open(args)
    yield* counted("upload")
    const count = yield* Stream.runCount(untilLeaving(order)(taken(id, order, items)))
    yield* Stream.runDrain(end(id, order))
    return makeAnswer(stamp, makePayload(id, headerSize, count))
  }, Effect.scoped)

  const chat = (args: Uint8Array, items: Stream.Stream<Uint8Array>): Stream.Stream<Bytes, E> =>
    Stream.unwrap(Effect.gen(function*() {
      const { id, order } = yield* open(args)
      yield* counted("chat")
      return taken(id, order, items).pipe(stamped, Stream.concat(end(id, order)), untilLeaving(order))
    }))

  return { feed, queue, upload, chat }
}
