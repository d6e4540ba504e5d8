/**
 * `effect-call call`: makes one call. It does not know how its arguments are read.
 */
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Path from "effect/Path"
import * as Balancer from "../Balancer.ts"
import { type CallError, isCallError } from "../CallError.ts"
import * as Connection from "../Connection.ts"
import * as Deadline from "../Deadline.ts"
import { maxShardKey } from "../internal/balancer/shardKey.ts"
import * as Bytes from "./bytes.ts"
import * as Component from "./component.ts"
import { describe, failed, type Failure, unusable } from "./failure.ts"
import * as Options from "./options.ts"
import { write } from "./output.ts"

const parseShardKey = (text: string): Option.Option<bigint> => {
  if (!/^\d+$/.test(text)) return Option.none()
  const key = BigInt(text)
  return key <= maxShardKey ? Option.some(key) : Option.none()
}

const shardKey = Flag.String("shard-key").pipe(
  Flag.withMetavar("u64"),
  Flag.filterMap(
    parseShardKey,
    () => `a whole number from 0 to ${maxShardKey}`
  ),
  Flag.withDescription("Calls the server that Balancer.sharded picks for this key"),
  Flag.optional
)

export const call = Command.make("call", {
  resolver: Options.resolver,
  method: Argument.String("method").pipe(
    Argument.withMetavar("component.method"),
    Argument.withDescription("The method, such as example/Cart.get")
  ),
  args: Bytes.argumentsOf,
  module: Flag.File("module", { mustExist: true }).pipe(
    Flag.withDescription(
      "A JavaScript or TypeScript module that exports the component: arguments and results are then JSON"
    ),
    Flag.optional
  ),
  export: Flag.String("export").pipe(
    Flag.withDescription("The export of --module that is the component (default: the component that the method names)"),
    Flag.optional
  ),
  hex: Bytes.hex,
  base64: Bytes.base64,
  timeout: Options.timeout,
  shardKey,
  tls: Options.tls
}).pipe(
  Command.withDescription(
    "Calls a method once, with bytes or, with --module, with JSON. The answer goes to stdout. Exit codes: 0 with an answer; 1 if the call failed; 2 if nothing was called, because the input of the command is wrong"
  ),
  Command.withShortDescription("Call a method once"),
  Command.withExamples([
    {
      command: "effect-call call tcp://localhost:9000 example/Echo.echo hello",
      description: "Bytes, also for a server of the Go package"
    },
    {
      command: "effect-call call dns://cart.internal:7000 example/Cart.Get '{\"id\":\"a\"}' --module ./cart.ts",
      description: "JSON, checked by the schemas of a component"
    },
    {
      command: "effect-call call unix:///run/a.sock a/B.c - --hex < arguments.hex",
      description: "Arguments from stdin, in hex"
    }
  ]),
  Command.validate((input) =>
    Effect.gen(function*() {
      yield* Options.validateTls(input.tls)
      yield* Bytes.validateFormat(input)
      if (Option.isNone(input.module)) {
        if (Option.isSome(input.export)) {
          yield* Options.invalid("--export names an export of --module: expected --module, too")
        }
        if (Option.isNone(Options.methodKey(input.method))) yield* Options.invalid(Options.notAMethod(input.method))
      } else if (input.hex || input.base64) {
        yield* Options.invalid("--hex and --base64 are for bytes: with --module, arguments and results are JSON")
      }
    })
  ),
  Command.withHandler(Effect.fnUntraced(
    function*(input) {
      const resolver = yield* Options.open(input.resolver, input.tls)
      const given = yield* Bytes.read(input.args)
      const prepared = Option.isSome(input.module)
        ? yield* typed(input.method, { module: input.module.value, export: input.export }, given)
        : yield* raw(input.method, given, input)
      const answer = yield* Connection.make(resolver, { balancer: Balancer.sharded }).pipe(
        Effect.flatMap((connection) => Effect.provideService(prepared, Connection.Connection, connection)),
        Connection.withOptions({ shardKey: Option.getOrUndefined(input.shardKey) }),
        Deadline.within(input.timeout),
        Effect.mapError((error) =>
          isCallError(error) || error._tag === "ResolverError" ? failed(describe(error)) : error
        )
      )
      yield* write(answer)
    },
    Effect.scoped,
    Options.withoutWarnings
  ))
)

/** A call. Its result is the output for stdout. */
type Prepared = Effect.Effect<string | Uint8Array, CallError | Failure, Connection.Connection>

/** A call with bytes. */
const raw = Effect.fnUntraced(function*(
  method: string,
  given: Uint8Array,
  format: Bytes.Format
): Effect.fn.Return<Prepared, Failure> {
  const key = Options.methodKey(method)
  if (Option.isNone(key)) return yield* unusable(Options.notAMethod(method))
  const args = yield* Bytes.decode(given, format)
  return Connection.Connection.use((connection) => connection.call(key.value, args)).pipe(
    Effect.map((answer) => Bytes.encode(answer, format))
  )
})

/** A typed call of a component's method. */
const typed = Effect.fnUntraced(function*(
  text: string,
  source: Component.Source,
  given: Uint8Array
): Effect.fn.Return<Prepared, Failure, Path.Path> {
  const method = yield* Component.find(text, source)
  const payload = yield* Component.payload(method, new TextDecoder().decode(given))
  return Effect.map(Component.call(method, payload), (result) => `${result}\n`)
})
