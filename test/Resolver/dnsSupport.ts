/** For the tests of `Resolver.dns` and `dnsSrv`: a `Dns` that answers as a test wants it to, when it wants it to. */
import { Duration, Effect, Layer, Option } from "effect"
import { Resolver } from "effect-call"
import { Dns, Host, NetAddress } from "effect/net"

export const record = (address: string): Dns.DnsRecord => {
  const ip = NetAddress.ipFromStringUnsafe(address)
  return NetAddress.isIpv4Address(ip)
    ? Dns.makeRecordUnsafe("A", { address: ip })
    : Dns.makeRecordUnsafe("AAAA", { address: ip })
}

export const srv = (target: string, port: number, priority: number, weight: number): Dns.DnsRecord =>
  Dns.makeRecordUnsafe("SRV", { target: Host.domainNameFromStringUnsafe(target), port, priority, weight })

/** Records or why there are none, and after how long; 0 where that is not said. */
type Answer =
  | ReadonlyArray<Dns.DnsRecord>
  | Dns.DnsErrorReason
  | { readonly after: Duration.Input; readonly answer: Answer }

/** It never answers. */
export const silence: Answer = { after: Infinity, answer: [] }

/** A DNS whose answers a test changes: by `TYPE name`, without a dot at the end. It has nothing else. */
export const makeDns = () => {
  const records: Record<string, Answer> = {}
  const system: Record<string, ReadonlyArray<string> | Dns.DnsErrorReason> = {}
  const timesToLive: Record<string, Duration.Input> = {}
  const asked: Array<string> = []
  const givenUp: Array<string> = []
  const failed = (reason: Dns.DnsErrorReason, method: "lookup" | "resolve", hostname: string) =>
    Effect.fail(new Dns.DnsError({ reason, method, hostname }))
  const bare = (name: string) => name.replace(/\.$/, "")
  const service = Dns.make({
    lookup: (name) =>
      Effect.suspend(() => {
        asked.push(`system ${bare(name)}`)
        const answer = system[bare(name)] ?? "NotFound"
        return typeof answer === "string"
          ? failed(answer, "lookup", name)
          : Effect.succeed(answer.map(NetAddress.ipFromStringUnsafe))
      }),
    resolve: (name, type) =>
      Effect.suspend(() => {
        const question = `${type} ${bare(name)}`
        asked.push(question)
        const give = (answer: Answer): Effect.Effect<ReadonlyArray<Dns.DnsRecord>, Dns.DnsError> =>
          typeof answer === "string"
            ? failed(answer, "resolve", name)
            : "after" in answer
            ? Effect.andThen(Effect.sleep(answer.after), give(answer.answer))
            : Effect.succeed(answer)
        return Effect.onInterrupt(give(records[question] ?? "NotFound"), () =>
          Effect.sync(() => void givenUp.push(question)))
      })
  })
  const layer = Layer.merge(
    Layer.succeed(Dns.Dns, service),
    Layer.succeed(
      Resolver.DnsTimeToLive,
      (name, type) =>
        Effect.sync(() =>
          Option.map(Option.fromUndefinedOr(timesToLive[`${type} ${bare(name)}`]), Duration.fromInputUnsafe)
        )
    )
  )
  return { records, system, timesToLive, asked, givenUp, layer }
}

/** With a resolver of `cart:7000` that has answered once. */
export const started = Effect.fnUntraced(function*(dns: ReturnType<typeof makeDns>, options?: Resolver.DnsOptions) {
  const resolver = yield* Effect.provide(Resolver.dns("cart:7000", options), dns.layer)
  const first = yield* resolver.resolve()
  dns.asked.length = 0
  return { resolver, first }
})

/** With a resolver of SRV records that has answered once. */
export const startedSrv = Effect.fnUntraced(function*(dns: ReturnType<typeof makeDns>, name: string) {
  const resolver = yield* Effect.provide(Resolver.dnsSrv(name), dns.layer)
  return { resolver, first: yield* resolver.resolve() }
})
