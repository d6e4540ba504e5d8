/**
 * Replaces the written parts of a schema: the parts at the end of all its transformations.
 *
 * It does not know why a part is replaced.
 */
import * as Schema from "effect/Schema"
import * as SchemaAST from "effect/SchemaAST"
import { isLinkOf, isOwnLeaf, linkAnnotations, type LinkOf, parametersOf } from "./declaration.ts"

/**
 * Gives the part itself, or its replacement. The parts inside have been replaced before. `isField` says whether the
 * part is the whole value of a property: not an element, and not the result of a transformation.
 */
export type Replace = (part: SchemaAST.AST, isField: boolean) => SchemaAST.AST

/** The schema with its parts replaced; the schema itself if no part is replaced. */
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

  /** The annotations of a declared type say as which type it is written. */
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
      // Called now to find out whether anything inside is replaced.
      mapped(parametersOf(ast, SchemaAST.toEncoded))
      annotations[name] = mapped
    }
    return changed(ast, { typeParameters: ast.typeParameters.map(go), annotations })
  }

  const out = go(schema.ast)
  // If a thunk makes a new schema each time, there is no end of suspended parts. Parts further down are replaced when
  // they are needed.
  let looked = 0
  for (const { thunk } of suspended) {
    if (isReplaced || looked++ === maxLooked) break
    go(thunk())
  }
  return isReplaced || looked > maxLooked ? Schema.make<Schema.Top>(out) : schema
}

/** At most this many suspended parts are searched for parts to replace. */
const maxLooked = 1000

/**
 * A link of a field or an element. If the field is optional, or has a number in binary, so must each step of the link.
 * (Effect sets this only for the last step, which is a different one here.)
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

/** Whether the part is a declared type whose annotation says that its values are JSON. */
export const isDeclaredJson = (ast: SchemaAST.AST): boolean => {
  if (ast._tag !== "Declaration" || isOwnLeaf(ast)) return false
  const make = ast.annotations?.toCodecJson
  return isLinkOf(make) && make(parametersOf(ast, SchemaAST.toEncoded)) === undefined
}

/** A changed copy of a node. Nodes are plain data with a prototype. */
export const changed = <A extends SchemaAST.AST>(ast: A, changes: Partial<A>): A =>
  Object.assign(Object.create(Object.getPrototypeOf(ast)), ast, changes)
