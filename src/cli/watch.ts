/**
 * `effect-call watch`: the endpoints of a resolver as a Connection sees them, live. The table itself is in `table.ts`.
 */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Stdio from "effect/Stdio"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as Terminal from "effect/Terminal"
import * as Balancer from "../Balancer.ts"
import * as Connection from "../Connection.ts"
import type { MethodKey } from "../MethodKey.ts"
import type * as Resolver from "../Resolver.ts"
import * as Bytes from "./bytes.ts"
import { describe, failed } from "./failure.ts"
import * as Options from "./options.ts"
import { writeLines } from "./output.ts"
import * as Table from "./table.ts"

export const watch = Command.make("watch", {
  resolver: Options.resolver,
  json: Flag.Boolean("json").pipe(
    Flag.withDescription("Print one JSON object a line for each state"),
    Flag.withDefault(false)
  ),
  health: Flag.String("health").pipe(
    Flag.withMetavar("component"),
    Flag.withDescription(
      "Asks the servers for the health of this component, or, with an empty text, of the whole server"
    ),
    Flag.optional
  ),
  call: Flag.String("call").pipe(
    Flag.withMetavar("component.method"),
    Flag.withDescription("Calls a method with bytes again and again, so that the table has rates and latencies"),
    Flag.optional
  ),
  args: Bytes.argumentsFlag,
  hex: Bytes.hex,
  base64: Bytes.base64,
  every: Options.duration("every").pipe(
    Flag.withDescription("The time from the start of one call of --call to the start of the next (default: 1s)"),
    Flag.withDefault(Duration.seconds(1))
  ),
  timeout: Options.timeout,
  tls: Options.tls
}).pipe(
  Command.withDescription(
    "Connects to all endpoints of a resolver, and shows their states as they change, until it is interrupted. In a terminal it shows a live table, otherwise it prints one table after the other"
  ),
  Command.withShortDescription("Show the endpoints of a resolver live"),
  Command.withExamples([
    { command: "effect-call watch dns://cart.internal:7000" },
    {
      command: "effect-call watch unixdir:///run/cart --call example/Echo.echo --args hello --every 100ms",
      description: "With ten calls a second, and their latencies"
    }
  ]),
  Command.validate((input) =>
    Effect.gen(function*() {
      yield* Options.validateTls(input.tls)
      yield* Bytes.validateFormat(input)
      if (Option.isSome(input.call)) {
        if (Option.isNone(Options.methodKey(input.call.value))) {
          yield* Options.invalid(Options.notAMethod(input.call.value))
        }
      } else if (Option.isSome(input.args) || input.hex || input.base64) {
        yield* Options.invalid("--args, --hex and --base64 are for --call: expected --call, too")
      }
    })
  ),
  Command.withHandler((input) =>
    Effect.gen(function*() {
      const inPlace = !input.json && (yield* Stdio.Stdio.use(({ stdoutIsTerminal }) => stdoutIsTerminal))
      const showing = Effect.gen(function*() {
        const { resolver, trouble } = yield* observed(yield* Options.open(input.resolver, input.tls))
        const args = yield* Effect.flatMap(Bytes.read(input.args), (given) => Bytes.decode(given, input))
        const key = Option.getOrUndefined(Option.flatMap(input.call, Options.methodKey))
        const counter = yield* makeCounter
        const show = input.json
          ? (snapshot: Table.Snapshot) => writeLines(Table.jsonOf(snapshot))
          : inPlace
          ? yield* redrawn
          : (snapshot: Table.Snapshot) => writeLines(...Table.linesOf(snapshot), "")
        const connection = yield* Connection.make(resolver, {
          balancer: Effect.succeed(counter.balancer),
          eager: true,
          health: Option.getOrUndefined(input.health)
        }).pipe(Effect.mapError((error) => failed(describe(error))))
        if (key !== undefined) yield* Effect.forkScoped(counter.calling(connection, key, args, input))
        const now = Effect.andThen(counter.measure, connection.state)
        const ticks = key !== undefined || inPlace ? Stream.fromSchedule(Schedule.spaced(tick)) : Stream.empty
        // The first resolution is the one that the Connection begins with.
        const troubles = Stream.drop(Stream.changesWith(SubscriptionRef.changes(trouble), isSame), 1)
        yield* Stream.merge(
          connection.changes,
          Stream.mapEffect(Stream.merge(ticks, troubles), () => now),
          { haltStrategy: "left" }
        ).pipe(
          Stream.runForEach(Effect.fnUntraced(function*({ endpoints }) {
            const { failure, problem } = yield* SubscriptionRef.get(trouble)
            yield* show({
              source: input.resolver,
              time: DateTime.formatIso(yield* DateTime.now),
              endpoints,
              calls: key === undefined ? undefined : counter.made(endpoints),
              resolverFailure: failure,
              resolverProblem: problem
            })
          }))
        )
      }).pipe(Effect.scoped)
      // Any log line would break the table, even a line of a resolver.
      yield* inPlace ? Effect.provide(showing, Logger.layer([])) : Options.withoutWarnings(showing)
    })
  )
)

/** The interval at which calls and latencies are read, since no event reports their changes. */
const tick = Duration.seconds(1)

/** Why the resolver's last answer failed, if it did, and the problem that it named last. */
interface Trouble {
  readonly failure: string | undefined
  readonly problem: string | undefined
}

const none: Trouble = { failure: undefined, problem: undefined }

const isSame = (one: Trouble, other: Trouble): boolean => one.failure === other.failure && one.problem === other.problem

/** A resolver together with its current trouble. */
const observed = Effect.fnUntraced(function*(resolver: Resolver.Resolver) {
  const trouble = yield* SubscriptionRef.make<Trouble>(none)
  const noted: Resolver.Resolver = {
    ...resolver,
    resolve: (version) =>
      resolver.resolve(version).pipe(
        Effect.tap(({ problem }) => SubscriptionRef.set(trouble, { failure: undefined, problem })),
        Effect.tapError(({ message }) =>
          SubscriptionRef.update(trouble, ({ problem }) => ({ failure: message, problem }))
        )
      )
  }
  return { resolver: noted, trouble }
})

interface Every {
  readonly every: Duration.Duration
  readonly timeout: Duration.Duration
}

/** Makes the calls, and counts them by endpoint. */
export const makeCounter = Effect.gen(function*() {
  const inner = yield* Balancer.roundRobin
  const clock = yield* Clock.Clock
  const counts = new Map<string, number>()
  let measured = new Map<string, number>()
  let measuredAt = clock.currentTimeMillisUnsafe()
  let rates: ReadonlyMap<string, number> = new Map()
  let answered = 0
  let failures = 0
  let lastError: string | undefined

  const balancer: Balancer.Balancer = {
    update: (endpoints, views) => inner.update(endpoints, views),
    pick: (options) =>
      Effect.tap(
        inner.pick(options),
        ({ address }) => Effect.sync(() => counts.set(address, (counts.get(address) ?? 0) + 1))
      )
  }

  /** The calls of each endpoint since the last look. */
  const measure = Effect.sync(() => {
    const now = clock.currentTimeMillisUnsafe()
    const seconds = (now - measuredAt) / 1000
    if (seconds <= 0) return
    rates = new Map(
      Array.from(counts, ([address, count]) => [address, (count - (measured.get(address) ?? 0)) / seconds])
    )
    measured = new Map(counts)
    measuredAt = now
  })

  const calling = (connection: Connection.Connection, key: MethodKey, args: Uint8Array, { every, timeout }: Every) =>
    connection.call(key, args, { timeout }).pipe(
      Effect.match({
        onSuccess: () => {
          answered++
        },
        onFailure: (error) => {
          failures++
          lastError = describe(error)
        }
      }),
      // A call that takes longer than the interval does not delay the next.
      Effect.forkChild,
      Effect.repeat(Schedule.fixed(every))
    )

  const made = (endpoints: Connection.ConnectionState["endpoints"]): Table.Made => {
    const present = new Set(endpoints.map(({ address }) => address))
    for (const address of counts.keys()) {
      if (present.has(address)) continue
      counts.delete(address)
      // An endpoint that comes back begins at 0.
      measured.delete(address)
    }
    const byEndpoint = new Map(
      Array.from(counts, ([address, count]) => [address, { count, perSecond: rates.get(address) ?? 0 }])
    )
    return { answered, failed: failures, lastError, byEndpoint }
  }

  return { balancer, measure, calling, made }
})

const enter = "\x1b[?1049h\x1b[?25l"
const leave = "\x1b[?25h\x1b[?1049l"
const home = "\x1b[H"
const clearLine = "\x1b[K"
const clearBelow = "\x1b[J"

/**
 * Draws each table over the last, on the terminal's second screen: if its size changes, no old text stays visible. At
 * the end of the Scope the cursor and the first screen come back, and the last table is printed there.
 */
const redrawn = Effect.gen(function*() {
  const terminal = yield* Terminal.Terminal
  let last: Table.Snapshot | undefined
  const sizeNow = Effect.map(
    Effect.all({ columns: terminal.columns, rows: terminal.rows }),
    // A terminal that does not tell its size.
    ({ columns, rows }): Table.Size => ({ columns: columns || 80, rows: rows || 24 })
  )
  const display = (text: string) => Effect.ignore(terminal.display(text))
  yield* Effect.acquireRelease(display(enter), () =>
    Effect.gen(function*() {
      yield* display(leave)
      if (last === undefined) return
      const { columns } = yield* sizeNow
      yield* display(Table.linesOf(last, { columns, rows: Infinity }).map((line) => `${line}\n`).join(""))
    }))
  return (snapshot: Table.Snapshot) =>
    Effect.gen(function*() {
      last = snapshot
      const lines = Table.linesOf(snapshot, yield* sizeNow)
      yield* terminal.display(home + lines.map((line) => line + clearLine).join("\r\n") + clearBelow)
    })
})
