/**
 * Typed calls of the command: loads a component from a module, reads and formats JSON. It does not know which server is
 * called.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import type { Rpc } from "effect/rpc"
import * as Schema from "effect/Schema"
import { isMap } from "node:util/types"
import { isCallError } from "../CallError.ts"
import * as Component from "../Component.ts"
import type { Connection } from "../Connection.ts"
import { schemasOf } from "../internal/component/methodCodecs.ts"
import { problemOf } from "../internal/component/problem.ts"
import { attempt, textOf, typeOf } from "../internal/userError.ts"
import { describe, failed, type Failure, unusable } from "./failure.ts"
import { json } from "./text.ts"

/** A method of a component. */
export interface Method {
  readonly component: Component.Component<Rpc.Any>
  readonly rpc: Rpc.AnyWithProps
}

/** The place in which a method is searched: a file, and one of its exports or all of them. */
export interface Source {
  readonly module: string
  readonly export: Option.Option<string>
}

/** The exports of a module. It is user code: it may throw, and an export may throw when it is read. */
const load = Effect.fnUntraced(function*(
  file: string
): Effect.fn.Return<ReadonlyArray<readonly [name: string, value: unknown]>, Failure, Path.Path> {
  const path = yield* Path.Path
  const url = yield* Effect.orDie(path.toFileUrl(path.resolve(file)))
  return yield* Effect.tryPromise({
    try: async () => Object.entries<unknown>(await import(url.href)),
    catch: (error) => unusable(`cannot load ${file}: ${textOf(error)}`)
  })
})

const quote = (text: string): string => JSON.stringify(text)

/** Whether an export is a component. An export may be anything, also a proxy. */
const isComponent = (u: unknown): u is Component.Component<Rpc.Any> =>
  attempt(() => Component.isComponent(u) && isMap(u.group.requests), false)

/** The components of a module, each once. */
const componentsIn = Effect.fnUntraced(function*(
  { export: chosen, module }: Source
): Effect.fn.Return<ReadonlyArray<Component.Component<Rpc.Any>>, Failure, Path.Path> {
  const exports = yield* load(module)
  const components = exports.flatMap(([name, value]) => isComponent(value) ? [[name, value] as const] : [])
  if (components.length === 0) {
    return yield* unusable(`${module} exports no component: expected one that Component.make has made`)
  }
  const picked = Option.isNone(chosen) ? components : components.filter(([name]) => name === chosen.value)
  if (Option.isSome(chosen) && picked.length === 0) {
    const names = components.map(([name]) => name).join(", ")
    return yield* unusable(`${module} exports no component as ${quote(chosen.value)}: expected one of ${names}`)
  }
  return [...new Set(picked.map(([, value]) => value))]
})

/**
 * The method that a text names: `component.method`, or only the method if --export has chosen the component.
 */
export const find = Effect.fnUntraced(function*(
  text: string,
  source: Source
): Effect.fn.Return<Method, Failure, Path.Path> {
  const components = yield* componentsIn(source)
  const methods = components.flatMap((component) =>
    // `Rpc.Any` hides the properties that each Rpc has.
    Array.from(component.group.requests.values(), (rpc): Method => ({ component, rpc: rpc as Rpc.AnyWithProps }))
  )
  const nameOf = ({ component, rpc }: Method) => `${component.name}.${rpc._tag}`
  const found = methods.filter((method) =>
    nameOf(method) === text || (Option.isSome(source.export) && method.rpc._tag === text)
  )
  const [method, other] = found
  if (method === undefined) {
    const names = [...new Set(methods.map(nameOf))].join(", ")
    return yield* unusable(`${source.module} has no method ${quote(text)}: expected one of ${names}`)
  }
  if (other !== undefined) {
    return yield* unusable(`${source.module} has several methods ${quote(text)}: choose a component with --export`)
  }
  const { accepted, results } = schemasOf(method.rpc)
  if (accepted !== undefined || results !== undefined) {
    return yield* unusable(`${nameOf(method)} is a stream: expected a method that is a call`)
  }
  return method
})

// There are no services for schemas here. A schema that needs one dies with a defect that says so.
const jsonOf = (schema: Schema.Top) => Schema.toCodecJson(schema as Schema.Codec<unknown, unknown>)

/** The payload in a JSON text. A method without payload takes no text. */
export const payload = Effect.fnUntraced(function*(
  { component, rpc }: Method,
  text: string
): Effect.fn.Return<unknown, Failure> {
  const where = `the arguments of ${component.name}.${rpc._tag}`
  const value = text.trim() === "" ? null : yield* Effect.try({
    try: (): unknown => JSON.parse(text),
    catch: (error) => unusable(`${where} are not JSON: ${problemOf(error)}`)
  })
  // A mistyped name of an optional field must be an error.
  return yield* Effect.mapError(
    Schema.decodeUnknownEffect(jsonOf(rpc.payloadSchema), { errors: "all", onExcessProperty: "error" })(value),
    (error) => unusable(`${where} do not fit its schema: ${problemOf(error)}`)
  )
})

/** Calls a method, and gives its result in JSON. */
export const call = Effect.fnUntraced(function*(
  { component, rpc }: Method,
  payload: unknown
): Effect.fn.Return<string, Failure, Connection> {
  // In JSON: the command line cannot give values without a JSON form anyway.
  const client = yield* Component.client(component, { format: "json", disableTracing: true })
  // It has a function for each method, with the types of the method's schemas.
  const methods = client as unknown as Record<string, (payload: unknown) => Effect.Effect<unknown, unknown>>
  const method = methods[rpc._tag]
  if (method === undefined) return yield* Effect.die(new Error(`a client without the method ${rpc._tag}`))
  const result = yield* Effect.catch(method(payload), (error) => Effect.flip(failureOf(rpc, error)))
  return json(yield* Effect.orDie(Schema.encodeUnknownEffect(jsonOf(rpc.successSchema))(result)))
})

/** Prints an error of the call, or of the method: its tag and its JSON. */
const failureOf = (rpc: Rpc.AnyWithProps, error: unknown): Effect.Effect<Failure> => {
  if (isCallError(error)) return Effect.succeed(failed(describe(error)))
  const schema = Schema.Union([rpc.errorSchema, ...Array.from(rpc.middlewares, (middleware) => middleware.error)])
  return Effect.map(
    Effect.orDie(Schema.encodeUnknownEffect(jsonOf(schema))(error)),
    (encoded) => failed(`${tagOf(error)}: ${json(encoded)}`)
  )
}

const tagOf = (error: unknown): string =>
  attempt(() => typeof error === "object" && error !== null && "_tag" in error, false) ? typeOf(error) : "Error"
