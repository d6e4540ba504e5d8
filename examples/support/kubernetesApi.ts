/**
 * As much of a Kubernetes API server as EndpointSlices need, on loopback: for the example, and for the tests, which can
 * have it misbehave.
 *
 * It lists in pages, watches from a version on, sends bookmarks, and forgets what is too old. `kubectl get
 * endpointslices` can be used with it.
 */
import { Effect, type Scope } from "effect"
import * as http from "node:http"
import * as https from "node:https"

/** An EndpointSlice as it is in JSON, of which only the name matters here. */
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
  /** Those for EndpointSlices, in the order in which they came. */
  readonly requests: Array<ApiRequest>
  /** Waits until so many have come. */
  readonly received: (count: number) => Effect.Effect<void>
  /** Waits until a watch has begun that hears of all changes from now on. */
  readonly watched: Effect.Effect<void>
  readonly put: (slice: SliceObject) => void
  readonly remove: (name: string) => void
  readonly bookmark: () => void
  /** Sends a line to all who watch, whatever it is. */
  readonly send: (line: string | Uint8Array) => void
  /** Forgets what has happened: versions before now are too old. */
  readonly compact: () => void
  /** Ends all watches, as a server does when their time is over. */
  readonly end: () => void
  /** Cuts the connections of all watches. */
  readonly cut: () => void
  /** Who watches. */
  readonly watchers: () => number
  /** The next requests are answered by these, each one of them. */
  readonly answer: (...answers: ReadonlyArray<Answer>) => void
}

export interface KubernetesApiOptions {
  /** With TLS; the options of `https.createServer`. */
  readonly tls?: https.ServerOptions
  /** What is wrong with a request, as a status. Default: nothing. */
  readonly refuse?: (request: ApiRequest) => 401 | 403 | undefined
  /** Default: one that is free. */
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

/** What the API answers with where something is wrong. */
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

/** What kubectl asks for before anything else. */
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

/** Starts one. It ends with the Scope, and all connections with it. */
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
