/**
 * The contract of a method as data: the encoded shapes of its payload, its success, its errors and the items of its
 * streams, and a fingerprint of them.
 *
 * A shape holds what the binary format depends on: names, types, and which fields may be missing. Checks, brands,
 * annotations, docs and decoded types are not part of it. Two peers with the same fingerprint can read each other's
 * binary. With different fingerprints, only JSON is safe: its readers check every name and type.
 *
 * It does not know how values are written.
 */
import type * as Schema from "effect/Schema"
import * as SchemaAST from "effect/SchemaAST"
import { createHash, randomUUID } from "node:crypto"
import type { Fingerprint } from "../protocol/fingerprint.ts"
import { attempt } from "../userError.ts"
import {
  idOf,
  isLinkOf,
  linkAnnotations,
  nativeGenerics,
  type NativeLeaf,
  nativeLeaves,
  parametersOf
} from "./declaration.ts"

/**
 * The index of a shape in {@link Contract.shapes}. Schemas may be recursive, so shapes refer to each other by index.
 */
export type Ref = number

/** The form of a schema's values on the wire. */
export type Shape =
  | { readonly _tag: "Leaf"; readonly type: LeafType }
  | { readonly _tag: "Literal"; readonly type: "string" | "number" | "boolean" | "bigint"; readonly text: string }
  /** A symbol that is registered under a key. */
  | { readonly _tag: "UniqueSymbol"; readonly key: string }
  /** Fields in the order of their names, and the values of further keys. */
  | { readonly _tag: "Struct"; readonly fields: ReadonlyArray<Field>; readonly records: ReadonlyArray<RecordShape> }
  /**
   * Elements, and then the rest: any number of values of its first type, and one value of each other type at the end.
   */
  | { readonly _tag: "Array"; readonly elements: ReadonlyArray<ElementShape>; readonly rest: ReadonlyArray<Ref> }
  /** In the order of the schema: JSON takes the first member that fits. */
  | { readonly _tag: "Union"; readonly members: ReadonlyArray<Ref> }
  /** A type with parameters that the binary format has a form for. */
  | { readonly _tag: "Generic"; readonly name: string; readonly parameters: ReadonlyArray<Ref> }
  /** A type that has no form on the wire. */
  | { readonly _tag: "Opaque"; readonly name: string }

/** Types without parts. `integer` is a number whose schema allows no fraction: binary writes it in another form. */
export type LeafType =
  | "string"
  | "number"
  | "integer"
  | "boolean"
  | "bigint"
  | "symbol"
  | "null"
  | "undefined"
  | "never"
  | NativeLeaf

/** A named field. `id` is the number that stands for the name in binary; null if the schema gives none. */
export interface Field {
  readonly name: string
  readonly id: number | null
  readonly isOptional: boolean
  readonly shape: Ref
}

/** An element of a tuple. */
export interface ElementShape {
  readonly isOptional: boolean
  readonly shape: Ref
}

/** Keys of one kind, and their values. */
export interface RecordShape {
  readonly key: Ref
  readonly value: Ref
  /**
   * The form of the keys, if there are several records: binary finds the record of a key by it. Otherwise null.
   */
  readonly pattern: string | null
}

/**
 * The contract of a method. It is plain data in a canonical form: equal contracts have equal shapes at equal indices.
 */
export interface Contract {
  readonly shapes: ReadonlyArray<Shape>
  readonly payload: Ref
  readonly success: Ref
  /** A union: the method's own errors and those of its middleware. */
  readonly error: Ref
  /** The items of a stream; null for a method that is a call. */
  readonly items: ItemShapes | null
}

/** The items of a stream. */
export interface ItemShapes {
  /** Those of the handler; null if the method gives one result. */
  readonly results: Ref | null
  /** Those of the client; null if the method takes none. */
  readonly accepted: Ref | null
}

/** The schemas of a method, as they are written. */
export interface MethodSchemas {
  readonly payload: Schema.Top
  readonly success: Schema.Top
  readonly errors: ReadonlyArray<Schema.Top>
  /** The items of the handler, and those of the client. */
  readonly results: Schema.Top | undefined
  readonly accepted: Schema.Top | undefined
}

/** The contract of a method with these schemas. */
export const contractOf = ({ accepted, errors, payload, results, success }: MethodSchemas): Contract => {
  const description = new Description()
  const roots = [
    description.of(payload),
    description.of(success),
    description.add({ _tag: "Union", members: errors.map((schema) => description.of(schema)) })
  ]
  const items = [results, accepted].filter((schema) => schema !== undefined)
  const { refs: [first = 0, second = 0, third = 0, ...ofItems], shapes } = inOneForm(
    description.shapes,
    [...roots, ...items.map((schema) => description.of(schema))]
  )
  return {
    shapes,
    payload: first,
    success: second,
    error: third,
    items: items.length === 0 ? null : {
      results: results === undefined ? null : ofItems[0] ?? null,
      accepted: accepted === undefined ? null : ofItems.at(-1) ?? null
    }
  }
}

/** The first 64 bits of the SHA-256 of a contract's JSON. */
export const fingerprintOf = ({ error, items, payload, shapes, success }: Contract): Fingerprint => {
  const parts = [payload, success, error, shapes]
  const ofItems = items === null ? [] : [items.results, items.accepted]
  const bytes = createHash("sha256").update(JSON.stringify([...parts, ...ofItems])).digest()
  return { low: bytes.readInt32LE(0), high: bytes.readInt32LE(4) }
}

/** A shape whose references are replaced. */
const withParts = (shape: Shape, of: (ref: Ref) => Ref): Shape => {
  switch (shape._tag) {
    case "Leaf":
    case "Literal":
    case "UniqueSymbol":
    case "Opaque":
      return shape
    case "Struct":
      return {
        _tag: shape._tag,
        fields: shape.fields.map((field) => ({ ...field, shape: of(field.shape) })),
        records: shape.records.map(({ key, pattern, value }) => ({ key: of(key), value: of(value), pattern }))
      }
    case "Array":
      return {
        _tag: shape._tag,
        elements: shape.elements.map((element) => ({ ...element, shape: of(element.shape) })),
        rest: shape.rest.map(of)
      }
    case "Union":
      return { _tag: shape._tag, members: shape.members.map(of) }
    case "Generic":
      return { _tag: shape._tag, name: shape.name, parameters: shape.parameters.map(of) }
  }
}

/**
 * The shapes that `roots` refer to, each of them once, in the order in which they are found. The result does not depend
 * on how a schema was put together, or on which of its parts are the same object: a recursive schema may be unrolled
 * any number of times.
 */
const inOneForm = (
  shapes: ReadonlyArray<Shape>,
  roots: ReadonlyArray<Ref>
): { readonly shapes: ReadonlyArray<Shape>; readonly refs: ReadonlyArray<Ref> } => {
  // At first all shapes are in one class. Shapes whose parts are in different classes are then split, until there are
  // no new classes.
  let classes: ReadonlyArray<number> = shapes.map(() => 0)
  let count = 0
  while (true) {
    const numbers = new Map<string, number>()
    const finer = shapes.map((shape) => {
      const text = JSON.stringify(withParts(shape, (ref) => classes[ref] ?? 0))
      const known = numbers.get(text) ?? numbers.size
      numbers.set(text, known)
      return known
    })
    classes = finer
    if (numbers.size === count) break
    count = numbers.size
  }
  const members = new Map(shapes.map((shape, i) => [classes[i], shape]))
  const places = new Map<number, Ref>()
  const ordered: Array<Shape> = []
  const place = (ref: Ref): Ref => {
    const of = classes[ref] ?? 0
    const known = places.get(of)
    if (known !== undefined) return known
    const at = ordered.length
    places.set(of, at)
    const shape = members.get(of)
    if (shape !== undefined) {
      ordered.push(shape)
      ordered[at] = withParts(shape, place)
    }
    return at
  }
  return { refs: roots.map(place), shapes: ordered }
}

/** Reads schemas, and collects their shapes. */
class Description {
  readonly shapes: Array<Shape> = []
  private readonly known = new Map<SchemaAST.AST, Ref>()

  /** The shape of a schema's encoded values. */
  of(schema: Schema.Top): Ref {
    return this.ofEncoded(SchemaAST.toEncoded(schema.ast))
  }

  /**
   * Like `of`, for the encoded side of a schema. (The encoded side of an encoded side is equal, but for a recursive
   * schema it is a new object each time.)
   */
  private ofEncoded(encoded: SchemaAST.AST): Ref {
    let ast = encoded
    /** All nodes that stand for the same shape. */
    const met: Array<SchemaAST.AST> = []
    while (true) {
      const known = this.known.get(ast)
      if (known !== undefined) return known
      met.push(ast)
      const behind = ast._tag === "Suspend" ? ast.thunk() : ast._tag === "Declaration" ? encodedAs(ast) : undefined
      if (behind === undefined) break
      ast = behind
    }
    // Its index must be known before its parts are: it may be one of its own parts.
    const ref = this.add(leaf("never"))
    for (const one of met) this.known.set(one, ref)
    this.shapes[ref] = this.shape(ast)
    return ref
  }

  /**
   * Like `of`, for a field or an element. If it is a literal, binary distinguishes the members of a union by it, unless
   * it is suspended.
   */
  private ofPart(part: SchemaAST.AST): Ref {
    const ref = this.ofEncoded(part)
    if (part._tag !== "Suspend") return ref
    const { _tag } = behindSuspended(part)
    return _tag === "Literal" || _tag === "UniqueSymbol" ? this.add({ _tag: "Union", members: [ref] }) : ref
  }

  add(shape: Shape): Ref {
    return this.shapes.push(shape) - 1
  }

  private shape(ast: SchemaAST.AST): Shape {
    switch (ast._tag) {
      case "String":
      case "TemplateLiteral":
        return leaf("string")
      case "Number":
        return leaf(isInteger(ast) ? "integer" : "number")
      case "Boolean":
        return leaf("boolean")
      case "BigInt":
        return leaf("bigint")
      case "Symbol":
        return leaf("symbol")
      case "Null":
        return leaf("null")
      case "Undefined":
      case "Void":
        return leaf("undefined")
      case "Never":
        return leaf("never")
      case "Unknown":
      case "Any":
      case "ObjectKeyword":
        return leaf("json")
      case "Literal":
        return literal(ast.literal)
      case "UniqueSymbol":
        return { _tag: "UniqueSymbol", key: Symbol.keyFor(ast.symbol) ?? "" }
      case "Enum":
        return { _tag: "Union", members: ast.enums.map(([, value]) => this.add(literal(value))) }
      case "Union":
        return { _tag: "Union", members: ast.types.map((member) => this.ofEncoded(member)) }
      case "Arrays":
        return {
          _tag: "Array",
          elements: ast.elements.map((element) => ({
            isOptional: isOptional(element),
            shape: this.ofPart(element)
          })),
          rest: ast.rest.map((rest) => this.ofEncoded(rest))
        }
      case "Objects":
        return {
          _tag: "Struct",
          fields: ast.propertySignatures
            .map(({ name, type }) => ({
              name: String(name),
              id: fieldIdOf(type),
              isOptional: isOptional(type),
              shape: this.ofPart(type)
            }))
            .sort((one, other) => one.name < other.name ? -1 : 1),
          records: ast.indexSignatures.map(({ parameter, type }) => ({
            key: this.ofEncoded(parameter),
            value: this.ofEncoded(type),
            pattern: ast.indexSignatures.length === 1 ? null : patternOf(parameter)
          }))
        }
      case "Declaration":
        return this.declared(ast)
      case "Suspend":
        throw new TypeError("a recursive schema refers only to itself")
    }
  }

  /**
   * A declared type that the binary format has a form for. Other declared types have been replaced by the types that
   * they are encoded as.
   */
  private declared({ annotations, typeParameters }: SchemaAST.Declaration): Shape {
    const id = idOf(annotations) ?? "a type without an id"
    const type = nativeLeaves.get(id)
    if (type !== undefined) return leaf(type)
    return nativeGenerics.has(id)
      ? { _tag: "Generic", name: id, parameters: typeParameters.map((parameter) => this.ofEncoded(parameter)) }
      : { _tag: "Opaque", name: id }
  }
}

const behindSuspended = (ast: SchemaAST.AST): SchemaAST.AST =>
  ast._tag === "Suspend" ? behindSuspended(ast.thunk()) : ast

/**
 * The type that a declared type is encoded as; undefined if the binary format has a form for it, or if it has no
 * encoding.
 */
const encodedAs = (ast: SchemaAST.Declaration): SchemaAST.AST | undefined => {
  const id = idOf(ast.annotations)
  if (id !== undefined && (nativeLeaves.has(id) || nativeGenerics.has(id))) return undefined
  const parameters = parametersOf(ast)
  for (const name of linkAnnotations) {
    const make = ast.annotations?.[name]
    const link = isLinkOf(make) ? make(parameters) : undefined
    if (link !== undefined) return SchemaAST.toEncoded(link.to)
  }
  return undefined
}

const leaf = (type: LeafType): Shape => ({ _tag: "Leaf", type })

const literal = (value: SchemaAST.LiteralValue): Shape => ({
  _tag: "Literal",
  // A literal has one of these types.
  type: typeof value as "string" | "number" | "boolean" | "bigint",
  text: String(value)
})

const isOptional = (ast: SchemaAST.AST): boolean => ast.context?.isOptional === true

/** The number that `SchemaBinary.fieldId` gives a field. */
const fieldIdOf = (ast: SchemaAST.AST): number | null => {
  const id = ast.context?.annotations?.["~effect/encoding/SchemaBinary/fieldId"]
  return typeof id === "number" ? id : null
}

const ownIds = new WeakMap<object, string>()

/**
 * Stands for a check that does not describe itself. It differs in each process, since two such checks cannot be
 * compared. So the methods of such contracts are sent in JSON.
 */
const ownId = (check: object): string => {
  let id = ownIds.get(check)
  if (id === undefined) {
    id = randomUUID()
    ownIds.set(check, id)
  }
  return id
}

/** The form of the keys of a record: their type, the parts of a template, and the descriptions of checks. */
const patternOf = (parameter: SchemaAST.AST): string => {
  const ofCheck = (check: SchemaAST.Check<never>): unknown =>
    check._tag === "FilterGroup"
      ? check.checks.map(ofCheck)
      : check.annotations?.["representation"] ?? check.annotations?.["expected"] ?? ownId(check)
  const of = (ast: SchemaAST.AST): unknown => {
    const parts = ast._tag === "TemplateLiteral" ? ast.parts : ast._tag === "Union" ? ast.types : []
    const literal = ast._tag === "Literal" ? ast.literal : null
    return [ast._tag, literal, parts.map((part) => of(SchemaAST.toEncoded(part))), (ast.checks ?? []).map(ofCheck)]
  }
  // Annotations may hold any value.
  return attempt(
    () =>
      JSON.stringify(
        of(SchemaAST.toEncoded(parameter)),
        (_, value: unknown) => typeof value === "bigint" ? `${value}n` : value
      ),
    ""
  )
}

/** Whether a check, or a check in a group, forbids fractions. */
const isInteger = ({ checks }: SchemaAST.AST): boolean => {
  const says = (check: SchemaAST.Check<never>): boolean =>
    idOf(check.annotations) === "effect/schema/isInt" || (check._tag === "FilterGroup" && check.checks.some(says))
  return checks !== undefined && checks.some(says)
}
