/**
 * The values that resolvers are made with: versions and errors. `Resolver.ts` documents and exports them.
 */
import * as Equal from "effect/Equal"
import * as Hash from "effect/Hash"
import * as Schema from "effect/Schema"
import type { Endpoint } from "../../Endpoint.ts"
import type { Resolution, Version } from "../../Resolver.ts"

import { textOf } from "../userError.ts"

export const VersionTypeId = "~effect-call/Resolver/Version"

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

export const version = (text: string): Version => Object.assign(Object.create(VersionProto), { opaque: text })

/**
 * The same version as another object. By its object a resolver knows who has not heard yet what has changed beside the
 * endpoints: the problem, or that it is well again.
 */
export const again = ({ opaque }: Version): Version => version(opaque)

export const resolution = (
  endpoints: ReadonlyArray<Endpoint>,
  version: Version,
  problem: string | undefined
): Resolution => problem === undefined ? { endpoints, version } : { endpoints, version, problem }

/** The problem of an answer, if there is one. A user's resolver may give anything for it. */
export const problemOf = ({ problem }: Resolution): ReadonlyArray<string> =>
  problem === undefined ? [] : [textOf(problem)]

/** Several problems as one; undefined where there are none. */
export const joined = (problems: ReadonlyArray<string>): string | undefined =>
  problems.length === 0 ? undefined : problems.join("; ")

const counts = new Map<string, number>()

/** Versions of a resolver that is made now: no other resolver's read like one of them. */
export const versions = (kind: string): () => Version => {
  const id = (counts.get(kind) ?? 0) + 1
  counts.set(kind, id)
  let changes = 0
  return () => version(`${kind} ${id}: ${changes++}`)
}

export class ResolverError extends Schema.TaggedError<ResolverError>("effect-call/ResolverError")("ResolverError", {
  message: Schema.String,
  cause: Schema.optionalKey(Schema.Defect())
}) {}

export class InvalidResolver
  extends Schema.TaggedError<InvalidResolver>("effect-call/Resolver/InvalidResolver")("InvalidResolver", {
    message: Schema.String,
    text: Schema.String
  })
{}
