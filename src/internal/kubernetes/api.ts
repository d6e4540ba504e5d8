/**
 * The API of Kubernetes: lists and watches the EndpointSlices of a Service. Each call makes one attempt. It knows no
 * resolver.
 */
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Ndjson from "effect/encoding/Ndjson"
import * as Random from "effect/Random"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { CurrentObstacles, Obstacles } from "../net/obstacles.ts"
import type { Cluster } from "./credentials.ts"
import { Failure } from "./failure.ts"
import { get, type Response, text } from "./http.ts"
import { Slice, SliceList } from "./slices.ts"

/** An event of a watch. */
export type Event =
  | { readonly _tag: "Put" | "Remove"; readonly slice: Slice }
  /** All changes up to this version have been sent. */
  | { readonly _tag: "Bookmark"; readonly resourceVersion: string }
  /** An event that this version of the package does not know. */
  | { readonly _tag: "Unknown"; readonly type: string }

export interface Api {
  readonly list: Effect.Effect<
    { readonly slices: ReadonlyArray<Slice>; readonly resourceVersion: string },
    Failure
  >
  /**
   * The events after a version. If an event cannot be read, the events after it are of no use. The socket closes with
   * the Scope.
   */
  readonly watch: (
    resourceVersion: string
  ) => Effect.Effect<Stream.Stream<Result.Result<Event, Failure>, Failure>, Failure, Scope.Scope>
}

/** The slices of one page of a list. Kubernetes makes slices of 100 endpoints, so a page has a few megabytes. */
const pageSize = 100
const maxPageBytes = 64 * 1024 * 1024

/** The largest event. It has one slice. Etcd stores no object of more than 1.5 MiB. */
const maxLineBytes = 8 * 1024 * 1024
const maxErrorBytes = 64 * 1024

/** The time limit for the start of an answer, and for a complete page. */
const answerTimeout = "30 seconds"

/**
 * The range of a watch's time limit in seconds. The limit is drawn at random, so that the watches of all clients do not
 * end together.
 */
const watchSeconds = { min: 300, max: 600 }

/**
 * The longest silence of a watch. A server sends a bookmark about each minute. After a longer silence, it is gone or
 * sends no bookmarks. A new watch is cheap.
 */
const silence = "150 seconds"

const Status = Schema.Struct({
  message: Schema.optionalKey(Schema.String),
  reason: Schema.optionalKey(Schema.String),
  code: Schema.optionalKey(Schema.Number)
})

const readStatus = Schema.decodeUnknownResult(Status)
const readStatusText = Schema.decodeUnknownResult(Schema.fromJsonString(Status))
const readList = Schema.decodeUnknownResult(Schema.fromJsonString(SliceList))
const readEnvelope = Schema.decodeUnknownResult(Schema.Struct({ type: Schema.String, object: Schema.Unknown }))
const readSlice = Schema.decodeUnknownResult(Slice)
const readBookmark = Schema.decodeUnknownResult(
  Schema.Struct({ metadata: Schema.Struct({ resourceVersion: Schema.String }) })
)

const garbled = (what: string) => (error: Schema.SchemaError) =>
  new Failure({ kind: "Garbled", message: `${what} cannot be read: ${error.message}`, cause: error })

/** Reads one event of a watch. */
const readEvent = (value: unknown): Result.Result<Event, Failure> =>
  Result.gen(function*() {
    const { object, type } = yield* Result.mapError(readEnvelope(value), garbled("an event of the watch"))
    const what = `the object of an event ${type}`
    switch (type) {
      case "ADDED":
      case "MODIFIED":
        return { _tag: "Put", slice: yield* Result.mapError(readSlice(object), garbled(what)) }
      case "DELETED":
        return { _tag: "Remove", slice: yield* Result.mapError(readSlice(object), garbled(what)) }
      case "BOOKMARK": {
        const { metadata } = yield* Result.mapError(readBookmark(object), garbled(what))
        return { _tag: "Bookmark", resourceVersion: metadata.resourceVersion }
      }
      case "ERROR": {
        const { code, message, reason } = yield* Result.mapError(readStatus(object), garbled(what))
        return yield* Result.fail(
          new Failure({
            kind: code === 410 ? "Expired" : "Refused",
            message: `the watch ended with an error: ${code ?? ""} ${message ?? reason ?? "no reason given"}`,
            status: code
          })
        )
      }
      default:
        return { _tag: "Unknown", type }
    }
  })

const ndjsonProblems: Readonly<Record<Ndjson.NdjsonErrorReason, string>> = {
  InvalidJson: "is not JSON",
  InvalidUtf8: "is not UTF-8",
  LineTooLarge: `has more than ${maxLineBytes} bytes`
}

const fromNdjson = (cause: Ndjson.NdjsonError): Failure =>
  // A cut connection leaves an incomplete line.
  cause.unterminated === true
    ? new Failure({ kind: "Cut", message: "the watch ended in the middle of an event", cause })
    : new Failure({
      kind: "Garbled",
      message: `an event of the watch ${cause.reason === undefined ? "cannot be read" : ndjsonProblems[cause.reason]}`,
      cause
    })

const inTime = <A, R>(effect: Effect.Effect<A, Failure, R>): Effect.Effect<A, Failure, R> =>
  Effect.suspend(() => {
    const obstacles = new Obstacles()
    return Effect.timeoutOrElse(Effect.provideService(effect, CurrentObstacles, obstacles), {
      duration: answerTimeout,
      orElse: () =>
        Effect.fail(new Failure({ kind: "Unreachable", message: `no answer within ${answerTimeout}${obstacles.text}` }))
    })
  })

/** The EndpointSlices of a Service. */
export const makeApi = (cluster: Cluster, service: string, namespace: string): Api => {
  const base = new URL(cluster.server)
  base.pathname = `${base.pathname.replace(/\/+$/, "")}/apis/discovery.k8s.io/v1/namespaces/${namespace}/endpointslices`
  const labelSelector = `kubernetes.io/service-name=${service}`

  const explain = (verb: "list" | "watch", status: number): string => {
    switch (status) {
      case 401:
        return `; the cluster does not know ${cluster.identity}`
      case 403:
        return `; a Role in the namespace ${namespace} has to allow ${cluster.identity} the verb "${verb}" on the resource ` +
          `"endpointslices" of the API group "discovery.k8s.io"`
      case 404:
        return "; discovery.k8s.io/v1 exists since Kubernetes 1.21"
      default:
        return ""
    }
  }

  const about = (verb: "list" | "watch") => (failure: Failure): Failure =>
    failure.under(
      `cannot ${verb} the EndpointSlices of the Service ${service} in the namespace ${namespace} (GET ${base.href})`
    )

  const refused = Effect.fnUntraced(function*(verb: "list" | "watch", response: Response) {
    const { retryAfterMillis, status, statusText } = response
    // If the reason cannot be read, the request has still failed.
    const said = yield* Effect.orElseSucceed(text(response.body, maxErrorBytes), () => "")
    const message = Result.match(readStatusText(said), {
      onSuccess: ({ message, reason }) => message ?? reason ?? "",
      onFailure: () => said.trim().slice(0, 200)
    })
    return new Failure({
      kind: status === 410 ? "Expired" : "Refused",
      message: `${status} ${statusText}${message === "" ? "" : `: ${message}`}${explain(verb, status)}`,
      status,
      retryAfterMillis
    })
  })

  const ask = Effect.fnUntraced(function*(
    verb: "list" | "watch",
    query: Readonly<Record<string, string>>
  ): Effect.fn.Return<Response, Failure, Scope.Scope> {
    const url = new URL(base)
    url.search = new URLSearchParams({ labelSelector, ...query }).toString()
    const attempt = Effect.gen(function*() {
      // Read for each request: tokens and certificates are replaced while this process runs, and requests are minutes
      // apart.
      const { authorization, tls } = yield* cluster.credentials
      const headers = { accept: "application/json", "user-agent": "effect-call" }
      return yield* get(url, authorization === undefined ? headers : { ...headers, authorization }, tls)
    })
    let response = yield* attempt
    if (response.status === 401) {
      // The token may have been replaced after it was read.
      yield* response.close
      response = yield* attempt
    }
    return response.status === 200 ? response : yield* yield* refused(verb, response)
  }, inTime)

  const page = Effect.fnUntraced(
    function*(continuation: string) {
      const query = { limit: String(pageSize), ...(continuation === "" ? {} : { continue: continuation }) }
      const response = yield* ask("list", query)
      const body = yield* text(response.body, maxPageBytes)
      return yield* Effect.fromResult(Result.mapError(readList(body), garbled("the list")))
    },
    Effect.scoped,
    inTime,
    Effect.mapError(about("list"))
  )

  return {
    list: Effect.gen(function*() {
      const slices: Array<Slice> = []
      let continuation = ""
      while (true) {
        const { items, metadata } = yield* page(continuation)
        slices.push(...items ?? [])
        continuation = metadata.continue ?? ""
        // All pages have the same version.
        if (continuation === "") return { slices, resourceVersion: metadata.resourceVersion }
      }
    }),
    watch: Effect.fnUntraced(function*(resourceVersion) {
      const response = yield* ask("watch", {
        watch: "true",
        allowWatchBookmarks: "true",
        resourceVersion,
        timeoutSeconds: String(yield* Random.nextIntBetween(watchSeconds.min, watchSeconds.max))
      })
      const silent = new Failure({ kind: "Cut", message: `nothing came from the watch within ${silence}` })
      return response.body.pipe(
        Stream.timeoutOrElse({ duration: silence, orElse: () => Stream.fail(silent) }),
        Stream.pipeThroughChannel(Ndjson.decode<Failure, unknown>({ ignoreEmptyLines: true, maxLineBytes })),
        Stream.mapError((error) => about("watch")(error._tag === "NdjsonError" ? fromNdjson(error) : error)),
        // Events that came together stay together.
        Stream.mapArray(Arr.map((value) => Result.mapError(readEvent(value), about("watch"))))
      )
    }, Effect.mapError(about("watch")))
  }
}
