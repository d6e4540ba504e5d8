/**
 * Reads the annotations of a declared type of a schema: its id, and the type that it is encoded as.
 *
 * It knows the types of Effect that the binary format has a form for. It knows nothing of contracts or codecs.
 */
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import type * as SchemaAST from "effect/SchemaAST"

/** The types without parts that have their own form in the binary format. */
export type NativeLeaf =
  | "date"
  | "dateTimeUtc"
  | "dateTimeZoned"
  | "duration"
  | "bigDecimal"
  | "bytes"
  | "json"

/** These types, by the ids that Effect gives their schemas. */
export const nativeLeaves: ReadonlyMap<string, NativeLeaf> = new Map([
  ["effect/schema/Date", "date"],
  ["effect/schema/DateTimeUtc", "dateTimeUtc"],
  ["effect/schema/DateTimeZoned", "dateTimeZoned"],
  ["effect/schema/Duration", "duration"],
  ["effect/schema/BigDecimal", "bigDecimal"],
  ["effect/schema/Uint8Array", "bytes"],
  ["effect/schema/Json", "json"],
  ["effect/schema/MutableJson", "json"]
])

/** The types with parameters that have their own form in the binary format, by id. */
export const nativeGenerics: ReadonlySet<string> = new Set([
  "effect/schema/Option",
  "effect/schema/Result",
  "effect/schema/Exit",
  "effect/schema/Cause",
  "effect/schema/CauseReason"
])

/** The id that Effect gives to its types and checks; undefined if there is none. */
export const idOf = (annotations: Schema.Annotations.Annotations | undefined): string | undefined => {
  const representation: unknown = annotations?.["representation"]
  return Predicate.hasProperty(representation, "id") && typeof representation.id === "string"
    ? representation.id
    : undefined
}

/** Whether the type has no parts and has its own form in the binary format, other than JSON. */
export const isOwnLeaf = ({ annotations }: SchemaAST.Declaration): boolean => {
  const leaf = nativeLeaves.get(idOf(annotations) ?? "")
  return leaf !== undefined && leaf !== "json"
}

/** Gives the link to the type that a type is encoded as, from schemas of the type's parameters. */
export type LinkOf = (parameters: ReadonlyArray<Schema.Top>) => SchemaAST.Link | undefined

/** The annotations that may hold a {@link LinkOf}. The first one takes precedence. */
export const linkAnnotations = ["toCodecJson", "toCodec"] as const

// The types of these annotations depend on a type that is not known here.
export const isLinkOf = (u: unknown): u is LinkOf => Predicate.isFunction(u)

/** Schemas of a type's parameters. */
export const parametersOf = (
  { typeParameters }: SchemaAST.Declaration,
  of: (parameter: SchemaAST.AST) => SchemaAST.AST = (parameter) => parameter
): ReadonlyArray<Schema.Top> => typeParameters.map((parameter) => Schema.make<Schema.Top>(of(parameter)))
