/**
 * The public names, values and types, and their properties, read from the sources. TypeScript 7 has no API yet that
 * could be asked, so this relies on the format of our sources: what is declared begins at the start of a line.
 */
import { readFileSync } from "node:fs"
import { posix } from "node:path"
import { root } from "./page.ts"

interface Declared {
  /** The texts of the declarations by their name: an interface and a constant can share one. */
  readonly declarations: ReadonlyMap<string, ReadonlyArray<string>>
  readonly exported: ReadonlySet<string>
  /** Where the names come from that are imported, or exported from another file. */
  readonly origins: ReadonlyMap<string, { readonly file: string; readonly name: string }>
}

const read = new Map<string, Declared>()

const namesIn = (list: string): ReadonlyArray<readonly [name: string, alias: string]> =>
  list.split(",").map((part) => part.trim().replace(/^type /, "")).filter((part) => part !== "").map((part) => {
    const [name = "", alias = name] = part.split(" as ")
    return [name, alias]
  })

/** Reads a source file, given by its path below the root. */
const declaredIn = (file: string): Declared => {
  const known = read.get(file)
  if (known !== undefined) return known
  const text = readFileSync(root + file, "utf8")
  const declarations = new Map<string, Array<string>>()
  const exported = new Set<string>()
  const starts = [
    ...text.matchAll(/^(export )?(?:abstract )?(?:const|let|function|class|interface|type|enum)\s+(\w+)/gm)
  ]
  for (const [at, match] of starts.entries()) {
    const name = match[2] ?? ""
    const declaration = text.slice(match.index, starts[at + 1]?.index).replaceAll(/\/\*\*[\s\S]*?\*\//g, "")
    declarations.set(name, [...declarations.get(name) ?? [], declaration])
    if (match[1] !== undefined) exported.add(name)
  }
  const origins = new Map<string, { readonly file: string; readonly name: string }>()
  for (const match of text.matchAll(/^(import|export)(?: type)? \{([^}]*)\} from "(\.[^"]+)"/gm)) {
    const from = posix.join(posix.dirname(file), match[3] ?? "")
    for (const [name, alias] of namesIn(match[2] ?? "")) {
      origins.set(alias, { file: from, name })
      if (match[1] === "export") exported.add(alias)
    }
  }
  const declared = { declarations, exported, origins }
  read.set(file, declared)
  return declared
}

/** The public modules by their names. */
export const publicModules: ReadonlyMap<string, string> = new Map(
  ["src/index.ts", "src/testing/index.ts"].flatMap((index) =>
    [...readFileSync(root + index, "utf8").matchAll(/^export \* as (\w+) from "(.+)"/gm)].map((match) =>
      [match[1] ?? "", posix.join(posix.dirname(index), match[2] ?? "")] as const
    )
  )
)

/** What a public module exports. */
export const exportsOf = (file: string): ReadonlySet<string> => declaredIn(file).exported

/** The declaration of a name that a file declares, imports or exports, with the file that declares it. */
const declarationsOf = (file: string, name: string): ReadonlyArray<readonly [file: string, declaration: string]> => {
  const declared = declaredIn(file)
  const here = declared.declarations.get(name)
  if (here !== undefined) return here.map((declaration) => [file, declaration])
  const origin = declared.origins.get(name)
  return origin === undefined ? [] : declarationsOf(origin.file, origin.name)
}

/**
 * Whether a type of a module, or a type that it extends, has this property. Properties of its properties are indented
 * further. An error's class is made of fields, which stand in it or in a constant that it names.
 */
export const hasProperty = (file: string, name: string, property: string): boolean =>
  declarationsOf(file, name).some(([declaredIn, declaration]) => {
    const isClass = /^(export )?(abstract )?class /.test(declaration)
    const indent = isClass ? "( {2}){1,2}" : " {2}"
    return new RegExp(`^${indent}(readonly |get )?${property}\\??[:(<]`, "m").test(declaration) ||
      [...(/\bextends ([^{]+)\{/.exec(declaration)?.[1] ?? "").matchAll(/\w+/g)].some(([parent]) =>
        parent !== name && hasProperty(declaredIn, parent, property)
      )
  })
