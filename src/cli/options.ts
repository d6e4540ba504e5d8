/**
 * The options that several commands share: a resolver, certificates, a method, durations. It does not know what a
 * command does with them.
 */
import * as Argument from "effect/cli/Argument"
import * as CliError from "effect/cli/CliError"
import * as Flag from "effect/cli/Flag"
import * as GlobalFlag from "effect/cli/GlobalFlag"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import * as References from "effect/References"
import * as Endpoint from "../Endpoint.ts"
import * as MethodKey from "../MethodKey.ts"
import * as Resolver from "../Resolver.ts"
import { describe, failed, type Failure, unusable } from "./failure.ts"

/** The argument that names a resolver. */
export const resolver = Argument.String("resolver").pipe(
  Argument.withDescription(
    "Where the servers are, such as tcp://a:7000,b:7000, unix:///run/a.sock, dns://cart.internal:7000, dns+srv://_rpc._tcp.cart.internal, k8s://shop/cart:calls or unixdir:///run/cart"
  )
)

/** The options of mutual TLS. `cert` and `key` are both given, or neither is. */
export const tls = {
  ca: Flag.File("ca", { mustExist: true }).pipe(
    Flag.withDescription(
      "PEM file of the authority that signed the servers' certificates (default: those that Node trusts)"
    ),
    Flag.optional
  ),
  cert: Flag.File("cert", { mustExist: true }).pipe(
    Flag.withDescription("PEM file of the client's certificate: with --cert and --key, servers are called over mTLS"),
    Flag.optional
  ),
  key: Flag.File("key", { mustExist: true }).pipe(
    Flag.withDescription("PEM file of the private key of --cert"),
    Flag.optional
  ),
  servername: Flag.String("servername").pipe(
    Flag.withDescription("The name that the servers' certificates must have (default: the host that is dialed)"),
    Flag.optional
  )
}

/** The values of {@link tls}. */
export interface Tls {
  readonly ca: Option.Option<string>
  readonly cert: Option.Option<string>
  readonly key: Option.Option<string>
  readonly servername: Option.Option<string>
}

/** Refuses a combination of flags. */
export const invalid = (message: string): Effect.Effect<never, CliError.CliError> =>
  Effect.fail(new CliError.ValidationError({ message }))

/** Refuses a certificate without its key, and a key without its certificate. */
export const validateTls = ({ ca, cert, key, servername }: Tls): Effect.Effect<void, CliError.CliError> => {
  if (Option.isSome(cert) !== Option.isSome(key)) return invalid("--cert and --key go together: expected both or none")
  return Option.isNone(cert) && (Option.isSome(ca) || Option.isSome(servername))
    ? invalid("--ca and --servername are for mTLS: expected --cert and --key, too")
    : Effect.void
}

/**
 * The resolver that a text names, with certificates around its endpoints. They are read at each dial, since they may be
 * renewed.
 */
export const open = Effect.fnUntraced(function*(
  text: string,
  { ca, cert, key, servername }: Tls
): Effect.fn.Return<Resolver.Resolver, Failure, Resolver.SchemeServices> {
  const resolver = yield* Effect.mapError(
    Resolver.parse(text),
    (error) => error._tag === "InvalidResolver" ? unusable(error.message) : failed(describe(error))
  )
  if (Option.isNone(cert) || Option.isNone(key)) return resolver
  const fs = yield* FileSystem.FileSystem
  const read = (path: string) =>
    Effect.mapError(
      fs.readFileString(path),
      (cause) => new Endpoint.DialError({ message: `cannot read ${path}: ${cause.message}`, cause })
    )
  const certificates = Effect.all({
    cert: read(cert.value),
    key: read(key.value),
    ...(Option.isSome(ca) && { ca: read(ca.value) }),
    ...(Option.isSome(servername) && { servername: Effect.succeed(servername.value) })
  })
  return Resolver.map(resolver, (endpoint) => Endpoint.mtls(certificates, endpoint))
})

const units: Readonly<Record<string, (amount: number) => Duration.Duration>> = {
  ms: Duration.millis,
  s: Duration.seconds,
  m: Duration.minutes,
  h: Duration.hours
}

const parseDuration = (text: string): Option.Option<Duration.Duration> => {
  const [, amount, unit = ""] = /^(\d+(?:\.\d+)?)(ms|s|m|h)$/.exec(text) ?? []
  const short = units[unit]?.(Number(amount))
  // It refuses a text that is no duration.
  const duration = short ?? Option.getOrUndefined(Duration.fromInput(text as Duration.Input))
  return duration !== undefined && Duration.isGreaterThan(duration, Duration.zero)
    ? Option.some(duration)
    : Option.none()
}

/** A duration above 0, such as `500ms`, `10s` or `"10 seconds"`. */
export const duration = (name: string): Flag.Flag<Duration.Duration> =>
  Flag.filterMap(
    Flag.withMetavar(Flag.String(name), "duration"),
    parseDuration,
    () => "a duration above 0, such as 500ms, 10s or \"10 seconds\""
  )

export const timeout = duration("timeout").pipe(
  Flag.withDescription("How long a call may take, such as 500ms or 1m (default: 10s)"),
  Flag.withDefault(Duration.seconds(10))
)

/**
 * The key of `component.method`. The last dot separates them: names of components often have dots, names of methods
 * hardly ever. On the wire, it does not matter which dot separates them.
 */
export const methodKey = (text: string): Option.Option<MethodKey.MethodKey> => {
  const dot = text.lastIndexOf(".")
  return dot < 1 || dot === text.length - 1
    ? Option.none()
    : Option.some(MethodKey.make(text.slice(0, dot), text.slice(dot + 1)))
}

export const notAMethod = (text: string): string =>
  `${JSON.stringify(text)} does not name a method: expected "component.method", such as example/Cart.get`

/**
 * Runs without the warnings of a Connection: the command shows its state and errors itself. `--log-level` brings them
 * back.
 */
export const withoutWarnings = <A, E, R>(
  self: Effect.Effect<A, E, R>
): Effect.Effect<A, E, R | GlobalFlag.Setting.Identifier<"log-level">> =>
  Effect.flatMap(
    GlobalFlag.LogLevel,
    (asked) => Option.isSome(asked) ? self : Effect.provideService(self, References.MinimumLogLevel, "Error")
  )
