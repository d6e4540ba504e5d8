/**
 * Checks that refuse a value before it is written, if a format would carry it as another value.
 *
 * Both formats write `Unknown`, `Any` and `ObjectKeyword` as JSON, which turns NaN into null and a Map into `{}`, and
 * drops a function. Binary writes text as UTF-8, which has no lone surrogates. JSON writes the offset of a time zone in
 * minutes, but some offsets have seconds. Such parts of a schema get a check of the value that is written. The bytes
 * stay the same, and readers need no check.
 *
 * It does not know how values are written.
 */
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Schema from "effect/Schema"
import * as SchemaAST from "effect/SchemaAST"
import * as SchemaGetter from "effect/SchemaGetter"
import * as SchemaTransformation from "effect/SchemaTransformation"
import { Buffer } from "node:buffer"
import { attempt, clip } from "../userError.ts"
import { idOf, nativeLeaves } from "./declaration.ts"
import { changed, isDeclaredJson, replaceParts } from "./schemaParts.ts"

/** The problem with a value, and the path to it. */
interface Problem {
  readonly path: ReadonlyArray<PropertyKey>
  readonly issue: string
}

/**
 * The schema with checks: of all parts that both formats write as JSON, and of values without a form in JSON. It is the
 * schema itself if there is no such part.
 */
export const checkingJson = (schema: Schema.Top, format: "binary" | "json"): Schema.Top =>
  replaceParts(schema, (part, isField) => {
    const isOptional = part.context?.isOptional === true
    if (isJson(part)) {
      const any = changed(SchemaAST.any, { context: part.context })
      // Only a property may be left out. If a transformation has made a value undefined, it may read a missing value as
      // another value.
      return checked(any, isOptional && isField ? SchemaAST.decodeTo(any, part, withoutUndefined) : part, jsonProblem)
    }
    if (format === "json" && isZoned(part)) return checked(part, part, offsetProblem)
    // JSON has null for undefined. If anything is allowed, null would be read as null.
    return format === "json" && isOptional && part._tag === "Union" &&
        part.types.some((type) => isJson(SchemaAST.toEncoded(type)))
      ? SchemaAST.decodeTo(SchemaAST.toEncoded(part), part, withoutUndefined)
      : part
  })

/** Whether both formats write the part as JSON. */
const isJson = (part: SchemaAST.AST): boolean =>
  part._tag === "Unknown" || part._tag === "Any" || part._tag === "ObjectKeyword" || isDeclaredJson(part)

const isZoned = (part: SchemaAST.AST): boolean =>
  part._tag === "Declaration" && nativeLeaves.get(idOf(part.annotations) ?? "") === "dateTimeZoned"

const minute = 60_000

/**
 * JSON has the local time and its offset in whole minutes. Before time zones were standardised, their offsets had
 * seconds.
 */
const offsetProblem = (value: unknown): Problem | undefined =>
  DateTime.isDateTime(value) && DateTime.isZoned(value) && DateTime.zonedOffset(value) % minute !== 0
    ? { path: [], issue: "Expected a time whose offset is of whole minutes, for which JSON has a form" }
    : undefined

/** The schema with a check of the text that binary writes; the schema itself if it has no text. */
export const checkingText = (schema: Schema.Top): Schema.Top =>
  replaceParts(schema, (part) => {
    if (part._tag === "Objects" && part.indexSignatures.length > 0) {
      return checked(SchemaAST.toEncoded(part), part, keyProblem)
    }
    // A value that only the JSON member takes may be written as the text or the object of another member.
    if (part._tag === "Union" && part.types.some((type) => mayBeJson(SchemaAST.toEncoded(type)))) {
      return checked(SchemaAST.toEncoded(part), part, anyTextProblem)
    }
    return mayHaveProblem(part) ? checked(part, part, textProblem) : part
  })

/** Whether the part is JSON, or a union with a member that is. */
const mayBeJson = (part: SchemaAST.AST): boolean => part._tag === "Union" ? part.types.some(mayBeJson) : isJson(part)

/** Whether values of the part may be text that binary does not carry. Literals are checked here. */
const mayHaveProblem = (part: SchemaAST.AST): boolean =>
  part._tag === "String" || part._tag === "TemplateLiteral" || part._tag === "Symbol" ||
  (part._tag === "Literal" && textProblem(part.literal) !== undefined) ||
  (part._tag === "UniqueSymbol" && textProblem(part.symbol) !== undefined) ||
  (part._tag === "Enum" && part.enums.some(([, value]) => textProblem(value) !== undefined))

/** U+FFFD in UTF-8. */
const replacement = new TextEncoder().encode("\ufffd")

/** Up to this length, a loop is faster than a native call. */
const fewBytes = 256

/** Whether a text in these bytes may have lost something: in UTF-8, a lone surrogate becomes U+FFFD. */
export const hasReplacement = (bytes: Uint8Array): boolean => {
  if (bytes.length > fewBytes) return Buffer.prototype.includes.call(bytes, replacement)
  // U+FFFD has three bytes, so every third byte is looked at.
  for (let i = 2; i < bytes.length; i += 3) {
    const byte = bytes[i] ?? 0
    if (byte > 0x7f && isReplacement(bytes, byte === 0xef ? i : byte === 0xbf ? i - 1 : i - 2)) return true
  }
  return false
}

const isReplacement = (bytes: Uint8Array, at: number): boolean =>
  bytes[at] === 0xef && bytes[at + 1] === 0xbf && bytes[at + 2] === 0xbd

/**
 * The part with a check of the written value. It is not a check of the schema: options of an Rpc may turn those off.
 */
const checked = (
  written: SchemaAST.AST,
  part: SchemaAST.AST,
  problemOf: (value: unknown) => Problem | undefined
): SchemaAST.AST =>
  SchemaAST.decodeTo(
    written,
    part,
    new SchemaTransformation.Transformation<unknown, unknown>(
      SchemaGetter.passthrough(),
      SchemaGetter.checkEffect((value) => Effect.succeed(problemOf(value)))
    )
  )

/** Leaves out an optional property that is undefined. */
const withoutUndefined = new SchemaTransformation.Transformation<unknown, unknown>(
  SchemaGetter.passthrough(),
  SchemaGetter.transformOptional(Option.filter((value) => value !== undefined))
)

/** An array or an object that is being searched, and the position in it. */
interface Open {
  readonly value: Readonly<Record<PropertyKey, unknown>>
  /** The keys of an object; undefined for an array. */
  readonly keys: ReadonlyArray<string> | undefined
  readonly length: number
  at: number
}

/**
 * The first value inside that JSON carries as another value. It uses no recursion: values may be deeper than the stack.
 */
const jsonProblem = (value: unknown): Problem | undefined => {
  const open: Array<Open> = []
  const around = new Set<unknown>()
  let next = value
  try {
    while (true) {
      const found = around.has(next) ? "a value that contains itself" : notJson(next)
      if (found !== undefined) return notCarried(open.map(({ at, keys }) => keys?.[at] ?? at), found)
      if (typeof next === "object" && next !== null) {
        around.add(next)
        open.push(opened(next))
      }
      let last = open.at(-1)
      while (last !== undefined && ++last.at >= last.length) {
        around.delete(last.value)
        open.pop()
        last = open.at(-1)
      }
      if (last === undefined) return undefined
      const key = last.keys?.[last.at]
      // JSON leaves out a property that is undefined. It is read as undefined, too.
      next = key === undefined ? last.value[last.at] : last.value[key] ?? null
    }
  } catch {
    return notCarried([], "one that throws when it is read")
  }
}

const notCarried = (path: ReadonlyArray<PropertyKey>, found: string): Problem => ({
  path,
  issue: `Expected a value that JSON carries, got ${found}`
})

const opened = (object: object): Open => {
  // Only its own keys are read.
  const value = object as Record<PropertyKey, unknown>
  if (Array.isArray(object)) return { value, keys: undefined, length: object.length, at: -1 }
  const keys = Object.keys(object)
  return { value, keys, length: keys.length, at: -1 }
}

/** The kind of a value that JSON does not have. Its parts are not looked at. */
const notJson = (value: unknown): string | undefined => {
  if (value === null || typeof value === "string" || typeof value === "boolean") return undefined
  if (typeof value === "number") return Number.isFinite(value) ? undefined : String(value)
  if (typeof value !== "object") return value === undefined ? "undefined" : `a ${typeof value}`
  if (!Array.isArray(value) && !isPlain(value)) return `an instance of ${className(value)}`
  return hasToJson(value) ? "an object with a toJSON method" : undefined
}

const hasToJson = (value: object): boolean => "toJSON" in value && typeof value.toJSON === "function"

/**
 * Whether an object belongs to no class: it has no prototype, or that of plain objects, of this realm or another one.
 */
const isPlain = (value: object): boolean => {
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === null || prototype === Object.prototype ||
    (typeof prototype === "object" && Object.getPrototypeOf(prototype) === null &&
      Object.hasOwn(prototype, "isPrototypeOf"))
}

const className = (value: object): string =>
  attempt(() => {
    // Code without types may give any value.
    const name: unknown = value.constructor.name
    return typeof name === "string" && name !== "" ? clip(name, maxNameLength) : unnamed
  }, unnamed)

const unnamed = "a class"
const maxNameLength = 128

/** With the flag `u`, a surrogate of a pair does not match. */
const loneSurrogate = /\p{Surrogate}/u

const textProblem = (value: unknown): Problem | undefined => {
  const text = typeof value === "symbol" ? Symbol.keyFor(value) : value
  return typeof text === "string" && loneSurrogate.test(text)
    ? { path: [], issue: "Expected text without lone surrogates, which only format \"json\" carries" }
    : undefined
}

/**
 * The first problem of the texts and keys in plain objects and arrays. It uses no recursion: values may be deeper than
 * the stack.
 */
const anyTextProblem = (value: unknown): Problem | undefined => {
  const left = [value]
  while (left.length > 0) {
    const next = left.pop()
    const problem = textProblem(next)
    if (problem !== undefined) return problem
    if (typeof next !== "object" || next === null || !(Array.isArray(next) || isPlain(next))) continue
    const wrongKey = keyProblem(next)
    if (wrongKey !== undefined) return wrongKey
    for (const part of Object.values(next)) left.push(part)
  }
  return undefined
}

const keyProblem = (value: unknown): Problem | undefined => {
  const key = Object.keys(Object(value)).find((key) => loneSurrogate.test(key))
  return key === undefined
    ? undefined
    : { path: [key], issue: "Expected a key without lone surrogates, which only format \"json\" carries" }
}
