/**
 * What TypeDoc does not know of this package.
 *
 * - Error classes extend what Effect's Schema makes. The reference shows their own fields, and not what each class of
 *   Schema has (`make`, `ast`, …).
 * - A link of a guide to a source file with a name (`../../src/Connection.ts#ClientOptions.timeout`) leads to that name
 *   in the reference.
 * - A guide is called as its title says, and not README.
 */
import { existsSync, statSync } from "node:fs"
import { dirname } from "node:path"
import {
  type Application,
  type CommentDisplayPart,
  type Context,
  Converter,
  DeclarationReflection,
  type DocumentReflection,
  type ProjectReflection,
  type Reflection,
  ReflectionKind,
  type SomeType
} from "typedoc"

/** Members of classes and interfaces that a dependency declares. */
const isForeign = (context: Context, reflection: Reflection): boolean => {
  if (!reflection.parent?.kindOf(ReflectionKind.ClassOrInterface)) return false
  const declarations = context.getSymbolFromReflection(reflection)?.declarations ?? []
  return declarations.length > 0 &&
    declarations.every((declaration) => declaration.getSourceFile().fileName.includes("/node_modules/"))
}

/** The types that a class extends hold a copy of each field. */
const removeNested = (project: ProjectReflection, type: SomeType): void => {
  if (type.type === "reflection") project.removeReflection(type.declaration)
  if (type.type === "intersection") { for (const part of type.types) removeNested(project, part) }
}

/** A class shows its fields only, not how Schema made them. */
const simplify = (project: ProjectReflection, reflection: DeclarationReflection): void => {
  for (const type of reflection.extendedTypes ?? []) removeNested(project, type)
  delete reflection.extendedTypes
  for (const child of reflection.children ?? []) {
    delete child.inheritedFrom
    delete child.overwrites
    delete child.defaultValue
    for (const signature of child.signatures ?? []) {
      delete signature.inheritedFrom
      delete signature.overwrites
      // What the constructor takes are the fields.
      for (const parameter of signature.parameters ?? []) {
        if (parameter.type?.type !== "reflection") continue
        for (const field of parameter.type.declaration.children ?? []) {
          const { comment } = reflection.getChildByName([field.name]) ?? {}
          if (comment !== undefined) field.comment ??= comment.clone()
        }
      }
    }
  }
}

/** What a module exports by a name such as `ClientOptions` or `ClientOptions.timeout`. */
const find = (module: DeclarationReflection, name: string): Reflection | undefined => {
  const [first, ...rest] = name.split(".")
  const candidates = (module.children ?? []).filter((child) => child.name === first)
  if (rest.length > 0) {
    return candidates.map((child) => child.getChildByName(rest)).find((found) => found !== undefined)
  }
  // A type and a constant can share a name: the type says more.
  return candidates.find((child) => !child.kindOf(ReflectionKind.Variable)) ?? candidates[0]
}

/** The page of a folder, or of the next folder above that has one. Any other path stays as it is. */
const pageOf = (path: string): string => {
  let folder = path
  while (statSync(folder, { throwIfNoEntry: false })?.isDirectory() === true) {
    if (existsSync(`${folder}/README.md`)) return `${folder}/README.md`
    folder = dirname(folder)
  }
  return path
}

/** Paths are normalized already. TypeDoc has a type for such paths, but exports nothing that makes one. */
const normalized = (path: string) => path as never

export const load = (app: Application): void => {
  const foreign = new Set<Reflection>()

  app.converter.on(Converter.EVENT_CREATE_DECLARATION, (context, reflection) => {
    // `~effect-call/Connection` and the like only tell values of a type apart.
    if (isForeign(context, reflection) || reflection.name.startsWith("~")) foreign.add(reflection)
  })

  app.converter.on(Converter.EVENT_CREATE_DOCUMENT, (_: undefined, document: DocumentReflection) => {
    const title = /^# (.+)$/m.exec(document.content.map(({ text }) => text).join(""))?.[1]
    if (title !== undefined) document.name = title.replaceAll("`", "")
  })

  app.converter.on(Converter.EVENT_RESOLVE_BEGIN, ({ project }) => {
    for (const reflection of foreign) project.removeReflection(reflection)
    foreign.clear()
    for (const reflection of project.getReflectionsByKind(ReflectionKind.Class)) {
      if (reflection instanceof DeclarationReflection) simplify(project, reflection)
    }
  })

  app.converter.on(Converter.EVENT_RESOLVE_END, ({ project }) => {
    const redirect = (parts: ReadonlyArray<CommentDisplayPart> | undefined, from: string): void => {
      for (const part of parts ?? []) {
        if (part.kind !== "relative-link" || part.target === undefined) continue
        const module = project.files.resolve(part.target, project)
        if (typeof module === "string") {
          part.target = project.files.registerAbsolute(normalized(pageOf(module))).target
          continue
        }
        if (!(module instanceof DeclarationReflection) || part.targetAnchor === undefined) continue
        const found = find(module, part.targetAnchor)
        if (found === undefined) {
          app.logger.warn(`${from}: the link ${part.text} leads to no name of the reference`)
          continue
        }
        const path = `${project.files.resolvePath(part.target)}/${part.targetAnchor}`
        project.files.registerReflectionPath(normalized(path), found)
        part.target = project.files.registerAbsolute(normalized(path)).target
        part.targetAnchor = undefined
      }
    }
    redirect(project.readme, "README.md")
    for (const reflection of Object.values(project.reflections)) {
      if (reflection.isDocument()) redirect(reflection.content, reflection.name)
      const { comment } = reflection
      redirect(comment?.summary, reflection.getFullName())
      for (const { content } of comment?.blockTags ?? []) redirect(content, reflection.getFullName())
    }
  })
}
