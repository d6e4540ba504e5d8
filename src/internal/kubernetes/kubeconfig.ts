/**
 * Reads kubeconfig files as kubectl does: the cluster, user and namespace of a context. It sends no requests.
 *
 * An unsupported field that decides which credentials are used or which server is trusted is refused. It is never
 * ignored.
 */
import * as Effect from "effect/Effect"
import * as Base64 from "effect/encoding/Base64"
import * as Yaml from "effect/encoding/Yaml"
import * as FileSystem from "effect/FileSystem"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { Buffer } from "node:buffer"
import { dirname, resolve } from "node:path"
import { effectOf } from "../guard.ts"
import { type Cluster, readFile, readToken } from "./credentials.ts"
import { Failure } from "./failure.ts"

const absent = <S extends Schema.Constraint>(schema: S) => Schema.optionalKey(Schema.NullOr(schema))
const text = absent(Schema.String)

const ClusterEntry = Schema.Struct({
  server: text,
  "tls-server-name": text,
  "certificate-authority": text,
  "certificate-authority-data": text,
  "insecure-skip-tls-verify": absent(Schema.Boolean),
  "proxy-url": text
})

const UserEntry = Schema.Struct({
  token: text,
  tokenFile: text,
  "client-certificate": text,
  "client-certificate-data": text,
  "client-key": text,
  "client-key-data": text,
  username: text,
  as: text,
  exec: absent(Schema.Struct({ command: text })),
  "auth-provider": absent(Schema.Struct({ name: text }))
})

const ContextEntry = Schema.Struct({ cluster: text, user: text, namespace: text })

const Kubeconfig = Schema.Struct({
  "current-context": text,
  clusters: absent(Schema.Array(Schema.Struct({ name: Schema.String, cluster: absent(ClusterEntry) }))),
  users: absent(Schema.Array(Schema.Struct({ name: Schema.String, user: absent(UserEntry) }))),
  contexts: absent(Schema.Array(Schema.Struct({ name: Schema.String, context: absent(ContextEntry) })))
})

const readConfig = Schema.decodeUnknownEffect(Schema.NullOr(Kubeconfig))

const fail = (message: string, cause?: unknown) => new Failure({ kind: "Unready", message, cause })

/** An entry and its file. The paths of the entry are relative to the file. */
interface Entry<A> {
  readonly value: A
  readonly file: string
}

interface Merged {
  currentContext: string | undefined
  readonly clusters: Map<string, Entry<typeof ClusterEntry.Type>>
  readonly users: Map<string, Entry<typeof UserEntry.Type>>
  readonly contexts: Map<string, Entry<typeof ContextEntry.Type>>
}

/** Adds an entry. If two entries have the same name, the entry of the earlier file counts. */
const add = <A>(to: Map<string, Entry<A>>, name: string, value: A | null | undefined, file: string) => {
  if (value !== null && value !== undefined && !to.has(name)) to.set(name, { value, file })
}

const addFile = Effect.fnUntraced(function*(to: Merged, file: string, source: string) {
  const parsed = yield* Effect.try({
    try: () => Yaml.parse(source),
    catch: (cause) => fail(`${file} is not YAML: ${cause instanceof Error ? cause.message : String(cause)}`, cause)
  })
  const config = yield* Effect.mapError(
    readConfig(parsed),
    (cause) => fail(`${file} is not a kubeconfig: ${cause.message}`, cause)
  )
  to.currentContext ??= config?.["current-context"] || undefined
  for (const { cluster, name } of config?.clusters ?? []) add(to.clusters, name, cluster, file)
  for (const { name, user } of config?.users ?? []) add(to.users, name, user, file)
  for (const { context, name } of config?.contexts ?? []) add(to.contexts, name, context, file)
})

const names = (entries: ReadonlyMap<string, unknown>): string =>
  entries.size === 0 ? "there are none" : `there are ${[...entries.keys()].join(", ")}`

/** Says which field of a cluster or user is not supported here, though kubectl supports it. */
const unsupported = (
  server: URL,
  cluster: typeof ClusterEntry.Type,
  user: typeof UserEntry.Type | undefined
): string | undefined => {
  const proxy = "; use \"kubectl proxy\" and a kubeconfig with its address as server"
  if (cluster["insecure-skip-tls-verify"] === true) {
    return "insecure-skip-tls-verify is set, but credentials are only sent to servers that prove their identity: " +
      "expected certificate-authority or certificate-authority-data"
  }
  if (server.protocol === "http:" && (user?.token || user?.tokenFile)) {
    return "its server is not https, but tokens are only sent to servers that prove their identity"
  }
  if (cluster["proxy-url"]) return "proxy-url is not supported"
  if (user?.exec) return `exec plugins (${user.exec.command ?? "no command"}) are not supported${proxy}`
  if (user?.["auth-provider"]) return `auth-provider is not supported${proxy}`
  if (user?.username) return "username and password are not supported: expected a token or a client certificate"
  if (user?.as) return "impersonation (as) is not supported"
  return undefined
}

/** A certificate or key: in the file itself, in base64, or in another file. */
const material = Effect.fnUntraced(function*<Name extends string>(
  fs: FileSystem.FileSystem,
  { file, value }: Entry<{ readonly [K in Name | `${Name}-data`]?: string | null }>,
  name: Name
) {
  const data: string | null | undefined = value[`${name}-data`]
  if (data) {
    const bytes = Base64.decode(data)
    if (Result.isFailure(bytes)) return yield* fail(`${name}-data in ${file} is not base64`)
    return Buffer.from(bytes.success).toString()
  }
  const path: string | null | undefined = value[name]
  return path ? yield* readFile(fs, resolve(dirname(file), path)) : undefined
})

/**
 * Merges the files and reads one context. Some files may not exist. The files that a kubeconfig names are read for each
 * request.
 */
export const readKubeconfig = Effect.fnUntraced(function*(
  files: ReadonlyArray<string>,
  contextName: string | undefined
): Effect.fn.Return<Cluster, Failure, FileSystem.FileSystem> {
  const fs = yield* FileSystem.FileSystem
  const merged: Merged = { currentContext: undefined, clusters: new Map(), users: new Map(), contexts: new Map() }
  const present = yield* Effect.filter(
    files,
    (file) => Effect.orElseSucceed(effectOf("the exists of FileSystem", () => fs.exists(file)), () => true)
  )
  if (present.length === 0) return yield* fail(`there is no kubeconfig file ${files.join(" or ")}`)
  for (const file of present) yield* addFile(merged, file, yield* readFile(fs, file))

  const where = present.join(" and ")
  const name = contextName ?? merged.currentContext
  if (name === undefined) return yield* fail(`${where} has no current-context: ${names(merged.contexts)}`)
  const context = merged.contexts.get(name)?.value
  if (context === undefined) return yield* fail(`${where} has no context "${name}": ${names(merged.contexts)}`)
  const cluster = merged.clusters.get(context.cluster ?? "")
  if (cluster === undefined) {
    return yield* fail(`${where} has no cluster "${context.cluster ?? ""}" for its context "${name}"`)
  }
  const user = context.user ? merged.users.get(context.user) : undefined
  if (context.user && user === undefined) {
    return yield* fail(`${where} has no user "${context.user}" for its context "${name}"`)
  }
  const server = cluster.value.server ?? ""
  const url = URL.canParse(server) ? new URL(server) : undefined
  const withoutUser = server.replace(/:(\/*).*@/, ":$1…@")
  const isHttp = url?.protocol === "https:" || url?.protocol === "http:"
  if (!isHttp || url.username !== "" || url.password !== "" || url.search !== "") {
    return yield* fail(
      `the server of the cluster "${context.cluster}" in ${where} is "${withoutUser}": expected an http(s) URL`
    )
  }
  const problem = unsupported(url, cluster.value, user?.value)
  if (problem !== undefined) return yield* fail(`the context "${name}" of ${where} cannot be used: ${problem}`)

  const servername = cluster.value["tls-server-name"]
  return {
    server,
    namespace: context.namespace || "default",
    identity: `the user "${context.user || "(none)"}" of ${where}`,
    credentials: Effect.gen(function*() {
      const ca = yield* material(fs, cluster, "certificate-authority")
      const cert = user && (yield* material(fs, user, "client-certificate"))
      const key = user && (yield* material(fs, user, "client-key"))
      const tokenFile = user?.value.tokenFile
      return {
        tls: {
          ...(ca === undefined ? {} : { ca }),
          ...(cert === undefined ? {} : { cert }),
          ...(key === undefined ? {} : { key }),
          ...(servername ? { servername } : {})
        },
        authorization: user && tokenFile
          ? yield* readToken(fs, resolve(dirname(user.file), tokenFile))
          : user?.value.token
          ? `Bearer ${user.value.token}`
          : undefined
      }
    })
  }
})
