/**
 * A cluster, and what proves to it who asks.
 */
import * as Effect from "effect/Effect"
import type * as FileSystem from "effect/FileSystem"
import type { ConnectionOptions } from "node:tls"
import { effectOf } from "../guard.ts"
import { textOf } from "../userError.ts"
import { Failure } from "./failure.ts"

/** What proves who asks, at the moment of a request. */
export interface Credentials {
  readonly tls: ConnectionOptions
  /** The header. */
  readonly authorization: string | undefined
}

export interface Cluster {
  /** Where its API is; the path may be that of a proxy before it. */
  readonly server: string
  readonly namespace: string
  /** Who asks, for messages. */
  readonly identity: string
  /** Read anew each time: the files are replaced while we run. */
  readonly credentials: Effect.Effect<Credentials, Failure>
}

/** Reads a file of the configuration. */
export const readFile = (fs: FileSystem.FileSystem, path: string): Effect.Effect<string, Failure> =>
  effectOf("the readFileString of FileSystem", () => fs.readFileString(path)).pipe(
    Effect.catchDefect(Effect.fail),
    Effect.mapError((cause) =>
      new Failure({ kind: "Unready", message: `cannot read ${path}: ${textOf(cause)}`, cause })
    )
  )

/** A bearer token as a file has it. */
export const readToken = (fs: FileSystem.FileSystem, path: string): Effect.Effect<string, Failure> =>
  Effect.flatMap(readFile(fs, path), (text) => {
    const token = text.trim()
    // Anything else would end the header, or say nothing.
    return /^[\x21-\x7e]+$/.test(token)
      ? Effect.succeed(`Bearer ${token}`)
      : Effect.fail(new Failure({ kind: "Unready", message: `${path} has no token in it` }))
  })
