/**
 * A small Kubernetes API server on loopback, for the example and the tests. It supports only EndpointSlices. Tests can
 * make it misbehave.
 *
 * It lists in pages, watches from a given version, sends bookmarks, and expires old versions. `kubectl get
 * endpointslices` works with it.
 */
import { Effect, type Scope } from "effect"
import * as http from "node:http"
import * as https from "node:https"

/** An EndpointSlice in JSON. This server uses only its metadata. */
export interface SliceObject {
  readonly metadata: {
    readonly name: string
    readonly namespace?: string
    readonly labels?: Readonly<Record<string, string>>
    readonly resourceVersion?: string
  }
  readonly [field: string]: unknown
}

export interface ApiRequest {
  readonly verb: "list" | "watch"
  readonly namespace: string
  readonly query: URLSearchParams
  readonly authorization: string | undefined
  readonly socket: http.IncomingMessage["socket"]
}

/** Answers one request in place of the server. */
export type Answer = (request: ApiRequest, response: http.ServerResponse) => void

export interface KubernetesApi {
  readonly url: string
  /** The requests for EndpointSlices, in the order of their arrival. */
  readonly requests: Array<ApiRequest>
  /** Waits until `count` requests have arrived. */
  readonly received: (count: number) => Effect.Effect<void>
  /** Waits until there is a watch that receives all changes from now on. */
  readonly watched: Effect.Effect<void>
  readonly put: (slice: SliceObject) => void
  readonly remove: (name: string) => void
  readonly bookmark: () => void
  /** Sends a line to all watchers. It can be any bytes. */
  readonly send: (line: string | Uint8Array) => void
  /** Deletes the history of changes. Versions before the current one are then too old to watch from. */
  readonly compact: () => void
  /** Ends all watches normally, as a server does after their timeout. */
  readonly end: () => void
  /** Destroys the connections of all watches. */
  readonly cut: () => void
  /** The number of watchers. */
  readonly watchers: () => number
  /** Uses these functions for the next requests, each for one request. */
  readonly answer: (...answers: ReadonlyArray<Answer>) => void
}

export interface KubernetesApiOptions {
  /** The options of `https.createServer`. Default: HTTP without TLS. */
  readonly tls?: https.ServerOptions
  /** Returns the status with which to refuse a request. Default: no request is refused. */
  readonly refuse?: (request: ApiRequest) => 401 | 403 | undefined
  /** The port. Default: a free one. */
  readonly port?: number
}

interface Change {
  readonly version: number
  readonly type: "ADDED" | "MODIFIED" | "DELETED"
  readonly object: SliceObject
}

interface Watcher {
  readonly response: http.ServerResponse
  readonly matches: (slice: SliceObject) => boolean
}

const path = /^\/apis\/discovery\.k8s\.io\/v1\/(?:namespaces\/([^/]+)\/)?endpointslices$/

export const sliceTypes = { kind: "EndpointSlice", apiVersion: "discovery.k8s.io/v1" }

const reasons: Readonly<Record<number, string>> = {
  401: "Unauthorized",
  403: "Forbidden",
  404: "NotFound",
  410: "Expired"
}

/** The body of an error response. */
export const status = (code: number, message: string) => ({
  kind: "Status",
  apiVersion: "v1",
  metadata: {},
  status: "Failure",
  message,
  reason: reasons[code] ?? "InternalError",
  code
})

export const sendJson = (response: http.ServerResponse, code: number, body: unknown) => {
  response.writeHead(code, { "content-type": "application/json" }).end(JSON.stringify(body))
}

const sendStatus = (response: http.ServerResponse, code: number, message: string) =>
  sendJson(response, code, status(code, message))

/** The responses to the discovery requests that kubectl makes first. */
const discovery: Readonly<Record<string, unknown>> = {
  "/api": { kind: "APIVersions", versions: ["v1"], serverAddressByClientCIDRs: [] },
  "/api/v1": { kind: "APIResourceList", groupVersion: "v1", resources: [] },
  "/apis": {
    kind: "APIGroupList",
    apiVersion: "v1",
    groups: [{
      name: "discovery.k8s.io",
      versions: [{ groupVersion: "discovery.k8s.io/v1", version: "v1" }],
      preferredVersion: { groupVersion: "discovery.k8s.io/v1", version: "v1" }
    }]
  },
  "/apis/discovery.k8s.io/v1": {
    kind: "APIResourceList",
    apiVersion: "v1",
    groupVersion: "discovery.k8s.io/v1",
    resources: [{
      name: "endpointslices",
      singularName: "endpointslice",
      namespaced: true,
      kind: "EndpointSlice",
      verbs: ["get", "list", "watch"]
    }]
  }
}

/** Starts a server. When the Scope closes, the server and all of its connections close. */
export const makeKubernetesApi = Effect.fnUntraced(function*(
  options: KubernetesApiOptions = {}
): Effect.fn.Return<KubernetesApi, Error, Scope.Scope> {
  let version = 1000
  let oldest = version
  const slices = new Map<string, SliceObject>()
  const changes: Array<Change> = []
  const watchers = new Set<Watcher>()
  const requests: Array<ApiRequest> = []
  const answers: Array<Answer> = []
  const waiting = new Set<() => void>()
  const happened = () => {
    for (const look of [...waiting]) look()
  }
  const until = (isSo: () => boolean) =>
    Effect.callback<void>((resume) => {
      const look = () => {
        if (!isSo()) return
        waiting.delete(look)
        resume(Effect.void)
      }
      waiting.add(look)
      look()
      return Effect.sync(() => waiting.delete(look))
    })

  const matcher = (request: ApiRequest) => {
    const wanted = (request.query.get("labelSelector") ?? "").split(",").filter((term) => term !== "")
    return ({ metadata }: SliceObject) =>
      (request.namespace === "" || metadata.namespace === request.namespace) &&
      wanted.every((term) => {
        const [label = "", value] = term.split("=")
        return metadata.labels?.[label] === value
      })
  }

  const line = (type: string, object: unknown) => `${JSON.stringify({ type, object })}\n`

  const list: Answer = (request, response) => {
    const { query } = request
    const all = [...slices.values()].filter(matcher(request))
    const [at = version, from = 0] = (query.get("continue") ?? "").split("/").filter((part) => part !== "").map(Number)
    if (at < oldest) return sendStatus(response, 410, "The provided continue parameter is too old")
    const limit = Number(query.get("limit") ?? 0) || all.length
    const items = all.slice(from, from + limit)
    const left = all.length - from - items.length
    const more = left > 0 ? { continue: `${at}/${from + items.length}`, remainingItemCount: left } : {}
    sendJson(response, 200, {
      kind: "EndpointSliceList",
      apiVersion: "discovery.k8s.io/v1",
      metadata: { resourceVersion: String(at), ...more },
      items
    })
  }

  const watch: Answer = (request, response) => {
    const since = Number(request.query.get("resourceVersion") ?? 0)
    if (since !== 0 && since < oldest) {
      return sendStatus(response, 410, `too old resource version: ${since} (${oldest})`)
    }
    const matches = matcher(request)
    response.writeHead(200, { "content-type": "application/json;stream=watch" }).flushHeaders()
    for (const { object, type, version } of changes) {
      if (version > since && matches(object)) response.write(line(type, object))
    }
    const watcher = { response, matches }
    watchers.add(watcher)
    response.on("close", () => watchers.delete(watcher))
  }

  const onRequest = (incoming: http.IncomingMessage, response: http.ServerResponse) => {
    const url = new URL(incoming.url ?? "/", "http://localhost")
    const [matched, namespace = ""] = path.exec(url.pathname) ?? []
    if (matched === undefined) {
      const found = discovery[url.pathname]
      return found === undefined
        ? sendStatus(response, 404, "the server could not find the requested resource")
        : sendJson(response, 200, found)
    }
    const { authorization } = incoming.headers
    const verb = ["1", "true"].includes(url.searchParams.get("watch") ?? "") ? "watch" : "list"
    const request: ApiRequest = { verb, namespace, query: url.searchParams, authorization, socket: incoming.socket }
    requests.push(request)
    const refused = options.refuse?.(request)
    const answer = answers.shift()
    if (answer !== undefined) answer(request, response)
    else if (refused === 401) sendStatus(response, 401, "Unauthorized")
    else if (refused === 403) {
      const resource = `resource "endpointslices" in API group "discovery.k8s.io" in the namespace "${namespace}"`
      sendStatus(
        response,
        403,
        `endpointslices.discovery.k8s.io is forbidden: User "system:anonymous" cannot ${verb} ${resource}`
      )
    } else (verb === "watch" ? watch : list)(request, response)
    happened()
  }

  const server = options.tls === undefined
    ? http.createServer(onRequest)
    : https.createServer(options.tls, onRequest)
  yield* Effect.acquireRelease(
    Effect.callback<void, Error>((resume) => {
      server.once("error", (error) => resume(Effect.fail(error)))
      server.listen(options.port ?? 0, "127.0.0.1", () => resume(Effect.void))
    }),
    () =>
      Effect.callback<void>((resume) => {
        server.close(() => resume(Effect.void))
        server.closeAllConnections()
      })
  )
  const address = server.address()
  const port = typeof address === "object" && address !== null ? address.port : 0

  const change = (type: Change["type"], slice: SliceObject) => {
    version++
    const object: SliceObject = {
      ...sliceTypes,
      ...slice,
      metadata: { ...slice.metadata, resourceVersion: String(version) }
    }
    changes.push({ version, type, object })
    for (const { matches, response } of watchers) if (matches(object)) response.write(line(type, object))
    return object
  }

  return {
    url: `${options.tls === undefined ? "http" : "https"}://127.0.0.1:${port}`,
    requests,
    received: (count) => until(() => requests.length >= count),
    watched: until(() => watchers.size > 0),
    put: (slice) => {
      const { name } = slice.metadata
      slices.set(name, change(slices.has(name) ? "MODIFIED" : "ADDED", slice))
    },
    remove: (name) => {
      const slice = slices.get(name)
      if (slice === undefined) return
      slices.delete(name)
      change("DELETED", slice)
    },
    bookmark: () => {
      const object = { ...sliceTypes, metadata: { resourceVersion: String(version) } }
      for (const { response } of watchers) response.write(line("BOOKMARK", object))
    },
    send: (line) => {
      for (const { response } of watchers) response.write(line)
    },
    compact: () => {
      oldest = version
      changes.length = 0
    },
    end: () => {
      for (const { response } of watchers) response.end()
      watchers.clear()
    },
    cut: () => {
      for (const { response } of watchers) response.destroy()
      watchers.clear()
    },
    watchers: () => watchers.size,
    answer: (...next) => void answers.push(...next)
  }
})
