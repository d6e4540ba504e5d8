/**
 * The codecs of a method: its payload, its result, its failures and its items, in each format.
 *
 * It does not know calls and streams, nor how values are written.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { Rpc, RpcSchema } from "effect/rpc"
import * as Schema from "effect/Schema"
import type { MethodKey } from "../../MethodKey.ts"
import type { Fingerprint } from "../protocol/fingerprint.ts"
import { methodName } from "../protocol/methodName.ts"
import { Accepts } from "./accepts.ts"
import * as Codec from "./codec.ts"
import { contractOf, fingerprintOf, type MethodSchemas } from "./contract.ts"
import { type ItemCodec, type ItemProblem, type Items, makeItemCodec } from "./items.ts"
import type { Format } from "./payload.ts"
import { Unsendable } from "./problem.ts"

/**
 * A failure that never happens. If a method has one kind of failure only, SchemaBinary does not write which one it is.
 * If a second kind were added, with a middleware for example, older bytes could not be read any more.
 */
const NoFailure = Schema.TaggedStruct("effect-call/NoFailure", {})

const allCodecs = new WeakMap<Rpc.AnyWithProps, MethodCodecs>()

/** The codecs of one method, in each format that it is called in. Each is compiled when it is first needed. */
export class MethodCodecs {
  readonly payload: (format: Format) => Codec.Codec
  /** Of the result; of nothing, if the method has a stream of results. */
  readonly success: (format: Format) => Codec.Codec
  readonly error: (format: Format) => Codec.Codec
  /** The items of a stream of results; undefined if the method gives one result. */
  readonly results: ItemCodecs | undefined
  /** The items of the client; undefined if the method takes none. */
  readonly accepted: ItemCodecs | undefined
  /** The codec of encoded payloads: it leaves out the transformations of the schema. */
  private readonly encodedPayload: (format: Format) => Codec.Codec
  /** The same of the client's items. */
  private readonly encodedAccepted: ItemCodecs | undefined
  /** The fingerprint of the contract; undefined if the method has no binary form. */
  readonly fingerprint: () => Fingerprint | undefined

  constructor(rpc: Rpc.AnyWithProps) {
    const options = Context.get(rpc.annotations, Rpc.ParseOptions)
    const schemas = schemasOf(rpc)
    const { accepted, errors, payload, results, success } = schemas
    this.payload = lazily("payload", () => payload, options)
    this.encodedPayload = lazily("payload", () => Schema.toEncoded(payload), options)
    this.success = lazily("success", () => success, options)
    this.error = lazily(
      "error",
      (format) => Schema.Union(format === "binary" ? [...errors, NoFailure] : [...errors]),
      options
    )
    this.results = results && lazyItems("results", () => results, options)
    this.accepted = accepted && lazyItems("items", () => accepted, options)
    this.encodedAccepted = accepted && lazyItems("items", () => Schema.toEncoded(accepted), options)
    let known: { readonly fingerprint: Fingerprint | undefined } | undefined
    this.fingerprint = () =>
      (known ??= {
        fingerprint: this.problemIn("binary") === undefined ? fingerprintOf(contractOf(schemas)) : undefined
      }).fingerprint
  }

  /**
   * Rewrites a binary payload in JSON. The schema's transformations are left out: a transformation may not be
   * reversible, and may need services that only a server has.
   */
  payloadInJson(bytes: Uint8Array): Effect.Effect<Uint8Array, Schema.SchemaError | SyntaxError> {
    return Effect.flatMap(
      this.encodedPayload("binary").decode(bytes),
      (encoded) => this.encodedPayload("json").encode(encoded)
    )
  }

  /** Rewrites an item of the client in JSON, from the bytes that it has in binary; as {@link payloadInJson} does. */
  acceptedInJson(item: Uint8Array): Effect.Effect<Items, ItemProblem> {
    const codecs = this.encodedAccepted
    if (codecs === undefined) return Exit.succeed([item])
    return Effect.flatMap(codecs("binary").decode(item), (encoded) => codecs("json").encode(encoded))
  }

  /** The codecs of an Rpc. All its clients and servers share them. */
  static of(rpc: Rpc.AnyWithProps): MethodCodecs {
    let codecs = allCodecs.get(rpc)
    if (codecs === undefined) {
      codecs = new MethodCodecs(rpc)
      allCodecs.set(rpc, codecs)
    }
    return codecs
  }

  /**
   * Compiles all codecs of the first format that all schemas can be written in. So a schema that cannot be sent is
   * found when the method is set up, and not by its first caller.
   */
  compile(key: MethodKey, ...formats: ReadonlyArray<Format>): void {
    const problems: Array<string> = []
    for (const format of formats) {
      const unsendable = this.problemIn(format)
      if (unsendable === undefined) return
      problems.push(`the ${unsendable.part} of ${methodName(key)} ${unsendable.problem}`)
    }
    throw new TypeError(problems.join("; "))
  }

  /** Whether the method is a stream on the wire. */
  get isStream(): boolean {
    return this.results !== undefined || this.accepted !== undefined
  }

  /** Throws if what follows a payload cannot be written in a format. */
  check(format: Format): void {
    this.success(format)
    this.error(format)
    if (this.results !== undefined) this.results(format)
    if (this.accepted !== undefined) this.accepted(format)
  }

  /** Why a schema cannot be written in a format; undefined if all schemas can be written. */
  problemIn(format: Format): Unsendable | undefined {
    try {
      this.payload(format)
      this.check(format)
      return undefined
    } catch (error) {
      if (error instanceof Unsendable) return error
      throw error
    }
  }
}

/** The codecs of one kind of items, by format. */
export type ItemCodecs = (format: Format) => ItemCodec

/** The schemas of a method. The response that ends a stream of results has none. */
export const schemasOf = (rpc: Rpc.AnyWithProps): MethodSchemas => {
  const { annotations, errorSchema, middlewares, payloadSchema, successSchema } = rpc
  const ofStream = RpcSchema.isStreamSchema(successSchema) ? successSchema : undefined
  const errors = new Set([
    errorSchema,
    ...(ofStream === undefined ? [] : [ofStream.error]),
    ...Array.from(middlewares, ({ error }) => error)
  ])
  return {
    payload: payloadSchema,
    success: ofStream === undefined ? successSchema : Schema.Void,
    errors: [...errors],
    results: ofStream?.success,
    accepted: Context.get(annotations, Accepts)?.schema
  }
}

const lazily = (
  part: string,
  schema: (format: Format) => Schema.Top,
  options: Codec.ParseOptions
): (format: Format) => Codec.Codec =>
  compiled(part, (format) => (format === "binary" ? Codec.binary : Codec.json)(schema(format), options))

const lazyItems = (part: string, schema: () => Schema.Top, options: Codec.ParseOptions): ItemCodecs =>
  compiled(part, (format) => makeItemCodec(schema(), format, options))

/** Compiles a codec when it is first needed. */
const compiled = <A>(part: string, make: (format: Format) => A): (format: Format) => A => {
  const made: Partial<Record<Format, A>> = {}
  const compile = (format: Format): A => {
    try {
      return make(format)
    } catch (cause) {
      throw new Unsendable(part, format, cause)
    }
  }
  return (format) => made[format] ??= compile(format)
}
