/**
 * The parts of a schema that are written as they are, which are at the end of all its transformations, and how to put
 * others in their place.
 */
import * as Schema from "effect/Schema"
import * as SchemaAST from "effect/SchemaAST"
import { isLinkOf, isOwnLeaf, linkAnnotations, type LinkOf, parametersOf } from "./declaration.ts"

/**
 * The part itself, or what takes its place. What is inside a part has been replaced before it. `isField` says whether
 * it is all that a property holds: no element, and nothing that a transformation makes.
 */
export type Replace = (part: SchemaAST.AST, isField: boolean) => SchemaAST.AST

/** The schema with other parts; the schema itself where none of them is replaced. */
export const replaceParts = (schema: Schema.Top, replace: Replace): Schema.Top => {
  const seen = new Map<SchemaAST.AST, SchemaAST.AST>()
  const seenAsFields = new Map<SchemaAST.AST, SchemaAST.AST>()
  const suspended: Array<SchemaAST.Suspend> = []
  let isReplaced = false

  const go = (ast: SchemaAST.AST): SchemaAST.AST => goIn(seen, ast)

  const goIn = (known: Map<SchemaAST.AST, SchemaAST.AST>, ast: SchemaAST.AST): SchemaAST.AST => {
    let out = known.get(ast)
    if (out === undefined) {
      out = ast.encoding === undefined
        ? replaced(withInner(ast), known === seenAsFields)
        : changed(ast, { encoding: withLast(ast.encoding, linkOf) })
      known.set(ast, out)
    }
    return out
  }

  const replaced = (part: SchemaAST.AST, isField: boolean): SchemaAST.AST => {
    const out = replace(part, isField)
    if (out !== part) isReplaced = true
    return out
  }

  const linkOf = (link: SchemaAST.Link): SchemaAST.Link => new SchemaAST.Link(go(link.to), link.transformation)

  const withInner = (ast: SchemaAST.AST): SchemaAST.AST => {
    if (ast._tag === "Objects") {
      return changed(ast, {
        propertySignatures: ast.propertySignatures.map(({ name, type }) =>
          new SchemaAST.PropertySignature(name, goIn(seenAsFields, type))
        ),
        indexSignatures: ast.indexSignatures.map(({ parameter, type }) =>
          new SchemaAST.IndexSignature(parameter, go(type))
        )
      })
    }
    if (ast._tag === "Arrays") return changed(ast, { elements: ast.elements.map(go), rest: ast.rest.map(go) })
    if (ast._tag === "Union") return changed(ast, { types: ast.types.map(go) })
    if (ast._tag === "Declaration") return declared(ast)
    if (ast._tag !== "Suspend") return ast
    suspended.push(ast)
    return new SchemaAST.Suspend(() => go(ast.thunk()), ast.annotations, undefined, undefined, ast.context)
  }

  /** A declared type says in annotations what it is written as. */
  const declared = (ast: SchemaAST.Declaration): SchemaAST.Declaration => {
    if (isOwnLeaf(ast)) return ast
    const annotations: Record<string, unknown> = { ...ast.annotations }
    for (const name of linkAnnotations) {
      const make = annotations[name]
      if (!isLinkOf(make)) continue
      const mapped = (...args: Parameters<LinkOf>) => {
        const link = make(...args)
        if (link === undefined) return undefined
        return linkOf(ast.context === undefined ? link : linkIn(link, ast.context))
      }
      // What is replaced in there is found now, so that it is known whether anything is.
      mapped(parametersOf(ast, SchemaAST.toEncoded))
      annotations[name] = mapped
    }
    return changed(ast, { typeParameters: ast.typeParameters.map(go), annotations })
  }

  const out = go(schema.ast)
  // Where a thunk makes a schema anew each time, there is no end of them. What is replaced further down is then found
  // when it is needed.
  let looked = 0
  for (const { thunk } of suspended) {
    if (isReplaced || looked++ === maxLooked) break
    go(thunk())
  }
  return isReplaced || looked > maxLooked ? Schema.make<Schema.Top>(out) : schema
}

/** So many parts that are suspended are looked through for what is to be replaced. */
const maxLooked = 1000

/**
 * A link from a field or an element: each step of it may be missing where that may be, and has its number in binary.
 * (Effect says so of the last step only, which is another one here.)
 */
const linkIn = ({ to, transformation }: SchemaAST.Link, context: SchemaAST.Context): SchemaAST.Link => {
  const encoding = to.encoding === undefined ? undefined : withLast(to.encoding, (link) => linkIn(link, context))
  return new SchemaAST.Link(changed(to, { context, encoding }), transformation)
}

const withLast = (
  [first, ...more]: SchemaAST.Encoding,
  f: (last: SchemaAST.Link) => SchemaAST.Link
): SchemaAST.Encoding => {
  const last = more.pop()
  return last === undefined ? [f(first)] : [first, ...more, f(last)]
}

/** Whether it is a declared type that says that its values are JSON. */
export const isDeclaredJson = (ast: SchemaAST.AST): boolean => {
  if (ast._tag !== "Declaration" || isOwnLeaf(ast)) return false
  const make = ast.annotations?.toCodecJson
  return isLinkOf(make) && make(parametersOf(ast, SchemaAST.toEncoded)) === undefined
}

/** A copy of a node: they are plain data with a prototype. */
export const changed = <A extends SchemaAST.AST>(ast: A, changes: Partial<A>): A =>
  Object.assign(Object.create(Object.getPrototypeOf(ast)), ast, changes)
