/**
 * `effect-call resolve`: the endpoints that a resolver gives. It connects to none of them.
 */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Console from "effect/Console"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import { constVoid } from "effect/Function"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import type { Endpoint } from "../Endpoint.ts"
import { watch } from "../internal/resolver/watch.ts"
import type { Resolution } from "../Resolver.ts"
import { describe, failed } from "./failure.ts"
import * as Options from "./options.ts"
import { writeLines } from "./output.ts"
import * as Text from "./text.ts"

/** The fields of an endpoint that are shown. */
interface Listed {
  readonly address: string
  readonly weight: number
  readonly zone: string | null
  readonly priority: number
}

/** The parts of one resolution that are shown. */
interface Listing {
  readonly endpoints: ReadonlyArray<Listed>
  readonly problem: string | undefined
}

const nothing: Listing = { endpoints: [], problem: undefined }

const listed = ({ address, priority = 0, weight = 1, zone }: Endpoint): Listed => ({
  address,
  weight,
  zone: zone ?? null,
  priority
})

const listing = ({ endpoints, problem }: Resolution): Listing => ({ endpoints: endpoints.map(listed), problem })

const noTls: Options.Tls = { ca: Option.none(), cert: Option.none(), key: Option.none(), servername: Option.none() }

export const resolve = Command.make("resolve", {
  resolver: Options.resolver,
  watch: Flag.Boolean("watch").pipe(
    Flag.withDescription("Also print what changes, until it is interrupted or until nothing can change"),
    Flag.withDefault(false)
  ),
  json: Flag.Boolean("json").pipe(
    Flag.withDescription("Print one JSON object a line: the time and all endpoints"),
    Flag.withDefault(false)
  )
}).pipe(
  Command.withDescription("Prints the endpoints that a resolver gives now, with their weights, zones and priorities"),
  Command.withShortDescription("Print the endpoints of a resolver"),
  Command.withExamples([
    { command: "effect-call resolve dns+srv://_rpc._tcp.cart.internal" },
    { command: "effect-call resolve unixdir:///run/cart --watch", description: "Prints every change from then on, too" }
  ]),
  Command.withHandler(Effect.fnUntraced(
    function*(input) {
      const resolver = yield* Options.open(input.resolver, noTls)
      const first = yield* Effect.mapError(resolver.resolve(), (error) => failed(describe(error)))
      let current = listing(first)
      yield* input.json
        ? printJson(current)
        : input.watch
        ? printChanges(nothing, current)
        : printTable(current)
      if (!input.watch || resolver.isConstant) return
      const changes = yield* Queue.unbounded<(before: Listing) => Listing>()
      yield* Effect.forkScoped(
        watch(resolver, first, {
          changed: (resolution) => Queue.offerUnsafe(changes, () => listing(resolution)),
          unchanged: ({ problem }) => Queue.offerUnsafe(changes, ({ endpoints }) => ({ endpoints, problem })),
          failed: constVoid
        })
      )
      while (true) {
        const next = (yield* Queue.take(changes))(current)
        if (Text.json(next) !== Text.json(current)) yield* input.json ? printJson(next) : printChanges(current, next)
        current = next
      }
    },
    Effect.scoped
  ))
)

const columns: ReadonlyArray<Text.Column> = [
  { title: "ADDRESS" },
  { title: "WEIGHT", right: true },
  { title: "PRIORITY", right: true },
  { title: "ZONE" }
]

/** The line for a resolution without endpoints. */
const none = ({ problem }: Listing): string =>
  problem === undefined ? "no endpoints" : `no endpoints: ${Text.printable(problem)}`

const printTable = Effect.fnUntraced(function*(current: Listing) {
  const { endpoints, problem } = current
  if (endpoints.length === 0) return yield* Console.error(none(current))
  yield* writeLines(...Text.grid(
    columns,
    endpoints.map(({ address, priority, weight, zone }) => [address, `${weight}`, `${priority}`, zone ?? "-"])
  ))
  if (problem !== undefined) yield* Console.error(Text.printable(problem))
})

const now = Effect.map(DateTime.now, DateTime.formatIso)

const printJson = Effect.fnUntraced(function*({ endpoints, problem }: Listing) {
  yield* writeLines(Text.json({ time: yield* now, endpoints, problem: problem ?? null }))
})

/**
 * A line for each endpoint that came (`+`), went (`-`) or changed its attributes (`~`), and for a new problem (`!`).
 */
const printChanges = Effect.fnUntraced(function*(before: Listing, after: Listing) {
  const time = yield* now
  const known = new Map(before.endpoints.map((endpoint) => [endpoint.address, endpoint]))
  const stays = new Set(after.endpoints.map(({ address }) => address))
  const gone = before.endpoints.filter(({ address }) => !stays.has(address)).map((endpoint) => `- ${brief(endpoint)}`)
  const news = after.endpoints.flatMap((endpoint) => {
    const old = known.get(endpoint.address)
    if (old === undefined) return [`+ ${brief(endpoint)}`]
    return Text.json(old) === Text.json(endpoint) ? [] : [`~ ${brief(endpoint)}`]
  })
  const lines = [...gone, ...news]
  if (before.endpoints.length === 0 && after.endpoints.length === 0) lines.push(none(after))
  else if (after.problem !== undefined && after.problem !== before.problem) {
    lines.push(`! ${Text.printable(after.problem)}`)
  }
  yield* writeLines(...lines.map((line) => `${time} ${line}`))
})

const brief = ({ address, priority, weight, zone }: Listed): string =>
  Text.printable(`${address} weight ${weight} priority ${priority}${zone === null ? "" : ` zone ${zone}`}`)
