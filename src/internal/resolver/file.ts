/**
 * A resolver that has its endpoints once a file exists. It does not read the file.
 */
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as FileSystem from "effect/FileSystem"
import { identity } from "effect/Function"
import * as Schedule from "effect/Schedule"
import type { Endpoint } from "../../Endpoint.ts"
import { effectOf, isolated } from "../guard.ts"
import { type Resolution, resolution, type Resolver, ResolverError } from "./model.ts"
import { again, missing, type Version, version } from "./version.ts"

const pollInterval = "250 millis"

/**
 *     absent ◀───▶ failing
 *       │             │
 *       └─▶ present ◀─┘
 *
 * - `absent`: the file did not exist at the last look, or there was no look yet.
 * - `failing`: the last look could not find out whether the file exists.
 * - `present`: a look has found the file. There are no more looks.
 */
type FileState = "absent" | "failing" | "present"

export const file = (
  path: string,
  endpoints: ReadonlyArray<Endpoint>
): Effect.Effect<Resolver, never, FileSystem.FileSystem> =>
  Effect.map(FileSystem.FileSystem, (fs): Resolver => {
    const notYet = (version: Version): Resolution => resolution([], version, `the file "${path}" does not exist yet`)
    const present: Resolution = { endpoints, version: version(`created: ${path}`) }
    let absent = notYet(missing)
    let state: FileState = "absent"

    const transition = (next: FileState) => {
      // Two looks can be under way. The look that has found the file counts.
      if (state === "present") return
      // The waiters have seen this version. A new object tells them that the resolver works again.
      if (state === "failing" && next === "absent") absent = notYet(again(missing))
      state = next
    }

    const exists = Effect.tapDefect(
      Effect.suspend(() => isolated(effectOf("the exists of FileSystem", () => fs.exists(path)), identity)),
      () => Effect.sync(() => transition("failing"))
    )

    const look: Effect.Effect<Resolution, ResolverError> = Effect.suspend(() => {
      if (state === "present") return Effect.succeed(present)
      if (path === "") return Effect.fail(new ResolverError({ message: "the path of the file to wait for is empty" }))
      return Effect.matchEffect(exists, {
        onFailure: (cause) => {
          transition("failing")
          return Effect.fail(
            new ResolverError({
              message: `cannot check whether the file "${path}" exists: ${cause.message}`,
              cause
            })
          )
        },
        onSuccess: (exists) => {
          transition(exists ? "present" : "absent")
          return Effect.succeed(state === "present" ? present : absent)
        }
      })
    })

    const newerThan = (seen: Version): Effect.Effect<Resolution, ResolverError> =>
      Effect.repeat(look, {
        schedule: Schedule.spaced(pollInterval),
        until: (resolution) => resolution.version !== seen
      })

    return {
      isConstant: false,
      resolve: (version) => {
        if (version === undefined) return look
        if (Equal.equals(version, present.version)) return Effect.never
        return version === absent.version ? newerThan(version) : look
      }
    }
  })
