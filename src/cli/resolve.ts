/**
 * `effect-call resolve`: the endpoints that a resolver gives.
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
import { watch } from "../internal/client/watch.ts"
import type { Resolution } from "../Resolver.ts"
import { describe, failed } from "./failure.ts"
import * as Options from "./options.ts"
import { writeLines } from "./output.ts"
import * as Text from "./text.ts"

/** What is shown of an endpoint. */
interface Listed {
  readonly address: string
  readonly weight: number
  readonly zone: string | null
  readonly priority: number
}

const listed = ({ address, priority = 0, weight = 1, zone }: Endpoint): Listed => ({
  address,
  weight,
  zone: zone ?? null,
  priority
})

const noTls: Options.Tls = { ca: Option.none(), cert: Option.none(), key: Option.none(), servername: Option.none() }

export const resolve = Command.make("resolve", {
  resolver: Options.resolver,
  watch: Flag.Boolean("watch").pipe(
    Flag.withDescription("Go on, and print what changes, until interrupted or nothing can change"),
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
    { command: "effect-call resolve unixdir:///run/cart --watch", description: "And every change from then on" }
  ]),
  Command.withHandler(Effect.fnUntraced(
    function*(input) {
      const resolver = yield* Options.open(input.resolver, noTls)
      const first = yield* Effect.mapError(resolver.resolve(), (error) => failed(describe(error)))
      let current = first.endpoints.map(listed)
      yield* input.json
        ? printJson(current)
        : input.watch
        ? printChanges([], current)
        : printTable(current)
      if (!input.watch || resolver.isConstant) return
      const changes = yield* Queue.unbounded<Resolution>()
      yield* Effect.forkScoped(
        watch(resolver, first, (resolution) => Queue.offerUnsafe(changes, resolution), constVoid)
      )
      while (true) {
        const next = (yield* Queue.take(changes)).endpoints.map(listed)
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

const printTable = (endpoints: ReadonlyArray<Listed>) =>
  endpoints.length === 0
    ? Console.error("no endpoints")
    : writeLines(...Text.grid(
      columns,
      endpoints.map(({ address, priority, weight, zone }) => [address, `${weight}`, `${priority}`, zone ?? "-"])
    ))

const now = Effect.map(DateTime.now, DateTime.formatIso)

const printJson = Effect.fnUntraced(function*(endpoints: ReadonlyArray<Listed>) {
  yield* writeLines(Text.json({ time: yield* now, endpoints }))
})

/** A line for each endpoint that came (`+`), went (`-`) or has other attributes (`~`). */
const printChanges = Effect.fnUntraced(function*(before: ReadonlyArray<Listed>, after: ReadonlyArray<Listed>) {
  const time = yield* now
  const known = new Map(before.map((endpoint) => [endpoint.address, endpoint]))
  const stays = new Set(after.map(({ address }) => address))
  const gone = before.filter(({ address }) => !stays.has(address)).map((endpoint) => `- ${brief(endpoint)}`)
  const news = after.flatMap((endpoint) => {
    const old = known.get(endpoint.address)
    if (old === undefined) return [`+ ${brief(endpoint)}`]
    return Text.json(old) === Text.json(endpoint) ? [] : [`~ ${brief(endpoint)}`]
  })
  const lines = [...gone, ...news]
  if (before.length === 0 && after.length === 0) lines.push("no endpoints")
  yield* writeLines(...lines.map((line) => `${time} ${line}`))
})

const brief = ({ address, priority, weight, zone }: Listed): string =>
  Text.printable(`${address} weight ${weight} priority ${priority}${zone === null ? "" : ` zone ${zone}`}`)
