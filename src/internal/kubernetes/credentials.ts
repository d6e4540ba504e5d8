/**
 * A cluster and its credentials, and how their files are read. It does not know where they come from.
 */
import * as Effect from "effect/Effect"
import type * as FileSystem from "effect/FileSystem"
import type { ConnectionOptions } from "node:tls"
import { effectOf } from "../guard.ts"
import { textOf } from "../userError.ts"
import { Failure } from "./failure.ts"

/** The credentials of one request. */
export interface Credentials {
  readonly tls: ConnectionOptions
  /** The value of the `authorization` header. */
  readonly authorization: string | undefined
}

export interface Cluster {
  /** The URL of its API. It can have the path of a proxy. */
  readonly server: string
  readonly namespace: string
  /** The name of the user or account, for messages. */
  readonly identity: string
  /** Read for each request: the files are replaced while this process runs. */
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

/** The header for the bearer token in a file. */
export const readToken = (fs: FileSystem.FileSystem, path: string): Effect.Effect<string, Failure> =>
  Effect.flatMap(readFile(fs, path), (text) => {
    const token = text.trim()
    // Other characters would break the header, and an empty token proves nothing.
    return /^[\x21-\x7e]+$/.test(token)
      ? Effect.succeed(`Bearer ${token}`)
      : Effect.fail(new Failure({ kind: "Unready", message: `${path} has no token` }))
  })
