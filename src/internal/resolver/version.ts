/**
 * Versions of sets of endpoints. Pure; it knows no resolver.
 */
import * as Equal from "effect/Equal"
import * as Hash from "effect/Hash"

export const VersionTypeId = "~effect-call/Resolver/Version"

/**
 * The version of a set of endpoints.
 *
 * **When to use**
 *
 * Give it back to the `resolve` that it came from, to wait for newer endpoints. It means nothing to other resolvers.
 *
 * **Details**
 *
 * Versions have no order. Two are equal (`Equal.equals`) if their texts are.
 *
 * **Gotchas**
 *
 * Give a resolver the same object that it gave last. The resolvers of this package answer at once to any other object,
 * because its holder may not know the last `problem`.
 *
 * Source: `type Version` of the Go package.
 *
 * @category models
 * @since 0.1.0
 */
export interface Version extends Equal.Equal {
  /** Marks the objects that are versions. */
  readonly [VersionTypeId]: typeof VersionTypeId
  /** The text that tells this version from others. It has no other meaning. */
  readonly opaque: string
  /** The version for logs: `Version(text)`. */
  toString(): string
}

const VersionProto = {
  [VersionTypeId]: VersionTypeId,
  [Equal.symbol](this: Version, that: Equal.Equal): boolean {
    return isVersion(that) && this.opaque === that.opaque
  },
  [Hash.symbol](this: Version): number {
    return Hash.string(this.opaque)
  },
  toString(this: Version): string {
    return `Version(${this.opaque})`
  }
}

const isVersion = (u: object): u is Version => VersionTypeId in u

/**
 * A version with the given text, for custom resolvers.
 *
 * **Example**
 *
 * ```ts
 * import { Equal } from "effect"
 * import { Resolver } from "effect-call"
 *
 * console.log(Equal.equals(Resolver.version("a,b"), Resolver.version("a,b"))) // true
 * console.log(Equal.equals(Resolver.version("a,b"), Resolver.version("a"))) // false
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const version = (text: string): Version => Object.assign(Object.create(VersionProto), { opaque: text })

/**
 * The version of something that does not exist (yet).
 *
 * Source: `var Missing` of the Go package.
 *
 * @category constructors
 * @since 0.1.0
 */
export const missing: Version = version("__tombstone__")

/**
 * The same version as a new object. By the object, a resolver sees whether a caller knows changes other than of the
 * endpoints: a new problem, or that the resolver works again.
 */
export const again = ({ opaque }: Version): Version => version(opaque)

const counts = new Map<string, number>()

/** Makes the versions of one resolver. The versions of other resolvers have other texts. */
export const versions = (kind: string): () => Version => {
  const id = (counts.get(kind) ?? 0) + 1
  counts.set(kind, id)
  let changes = 0
  return () => version(`${kind} ${id}: ${changes++}`)
}
