/**
 * GET requests by HTTP/1.1, each over its own socket, which closes with a Scope. It knows nothing of Kubernetes.
 *
 * It uses `node:https` and not `effect/http`: the certificate authority and the client's certificate are part of the
 * cluster's configuration, and can change with each request. An application's `HttpClient` cannot know them.
 */
import type * as Arr from "effect/Array"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { Buffer } from "node:buffer"
import * as http from "node:http"
import * as https from "node:https"
import * as net from "node:net"
import * as tls from "node:tls"
import type { TcpTarget } from "../net/address.ts"
import { describe, ignoreError } from "../net/connect.ts"
import { dial } from "../net/dial.ts"
import { checkedOptions, withoutValue } from "../net/tlsOptions.ts"
import { Failure } from "./failure.ts"

/**
 * How long a socket is idle before the kernel checks whether its peer is still there. About ten seconds later, the
 * socket is given up.
 */
const keepAliveDelay = 15_000

export interface Response {
  readonly status: number
  readonly statusText: string
  /** How long the server asks clients to wait before the next request, if it says so. */
  readonly retryAfterMillis: number | undefined
  /** It fails if it ends too early. */
  readonly body: Stream.Stream<Uint8Array, Failure>
  /** Closes the socket before the Scope does. */
  readonly close: Effect.Effect<void>
}

interface Started {
  readonly request: http.ClientRequest
  readonly response: Deferred.Deferred<http.IncomingMessage, Failure>
}

const failure = (kind: "Unready" | "Unreachable", error: unknown) =>
  new Failure({ kind, message: describe(error), cause: withoutValue(error) })

/** The host and port of a URL. */
const targetOf = ({ hostname, port, protocol }: URL): TcpTarget => ({
  _tag: "Tcp",
  host: hostname.replace(/^\[|\]$/g, ""),
  port: port === "" ? (protocol === "https:" ? 443 : 80) : Number(port),
  family: 0
})

/** Sends a request. The socket closes with the Scope. */
const send = Effect.fnUntraced(function*(
  url: URL,
  headers: Readonly<Record<string, string>>,
  options: tls.ConnectionOptions
): Effect.fn.Return<Started, Failure, Scope.Scope> {
  const isSecure = url.protocol === "https:"
  const secureContext = yield* Effect.try({
    try: () => isSecure ? tls.createSecureContext(options) : undefined,
    // An invalid certificate or key.
    catch: (error) => failure("Unready", error)
  })
  const target = targetOf(url)
  // Node's own dial would give each address of a name, except the last, only a quarter of a second.
  const raw = yield* Effect.mapError(dial(target, {}), (error) => failure("Unreachable", error))
  raw.setKeepAlive(true, keepAliveDelay)
  const createConnection = () =>
    secureContext === undefined ? raw : secured(raw, target.host, { ...options, secureContext })
  return yield* Effect.acquireRelease(
    Effect.try({
      try: () => {
        const request = (isSecure ? https : http).request(url, { headers, createConnection })
        // The listeners stay: an error without a listener would end the process.
        const response = Deferred.makeUnsafe<http.IncomingMessage, Failure>()
        request.on("error", (error) => Deferred.doneUnsafe(response, Effect.fail(failure("Unreachable", error))))
        request.on("response", (incoming) => {
          incoming.on("error", ignoreError)
          Deferred.doneUnsafe(response, Effect.succeed(incoming))
        })
        request.end()
        return { request, response }
      },
      // A token that cannot be in a header.
      catch: (error) => failure("Unready", error)
    }),
    ({ request }) => Effect.sync(() => request.destroy())
  )
})

const secured = (socket: net.Socket, host: string, options: tls.ConnectionOptions): tls.TLSSocket =>
  tls.connect({
    host,
    ...(net.isIP(host) === 0 && { servername: host }),
    ALPNProtocols: ["http/1.1"],
    ...options,
    socket,
    // NODE_TLS_REJECT_UNAUTHORIZED is ignored: tokens are only sent to servers that prove their identity.
    rejectUnauthorized: true
  })

const cut = (message: string, cause?: unknown) => new Failure({ kind: "Cut", message, cause })

/** The body, chunk by chunk. Nothing is read before it is asked for. */
const chunksOf = (response: http.IncomingMessage): Stream.Stream<Uint8Array, Failure> =>
  Stream.fromPull(Effect.succeed(
    Effect.callback<Arr.NonEmptyReadonlyArray<Uint8Array>, Failure | Cause.Done>((resume) => {
      const look = () => {
        const chunk: unknown = response.read()
        if (chunk instanceof Uint8Array) settle(Effect.succeed([chunk]))
        else if (response.readableEnded) settle(Cause.done())
        else if (response.destroyed) {
          settle(
            Effect.fail(cut(`the connection was lost: ${describe(response.errored ?? "closed")}`, response.errored))
          )
        }
      }
      const settle = (result: Effect.Effect<Arr.NonEmptyReadonlyArray<Uint8Array>, Failure | Cause.Done>) => {
        off()
        resume(result)
      }
      const off = () => {
        for (const event of ["readable", "end", "close"]) response.off(event, look)
      }
      for (const event of ["readable", "end", "close"]) response.on(event, look)
      look()
      return Effect.sync(off)
    })
  ))

/** Sends a request, and gives the answer when its headers have arrived. Redirects are not followed. */
export const get = Effect.fnUntraced(function*(
  url: URL,
  headers: Readonly<Record<string, string>>,
  tls: tls.ConnectionOptions
): Effect.fn.Return<Response, Failure, Scope.Scope> {
  // API servers speak TLS 1.3 since Kubernetes 1.19. A proxy in front of one may not.
  const checked = checkedOptions({ minVersion: "TLSv1.2" as const, ...tls })
  if (Result.isFailure(checked)) return yield* new Failure({ kind: "Unready", message: checked.failure })
  const { request, response: answer } = yield* send(url, headers, checked.success)
  const response = yield* Deferred.await(answer)
  const retryAfter = Number(response.headers["retry-after"])
  return {
    status: response.statusCode ?? 0,
    statusText: response.statusMessage ?? "",
    retryAfterMillis: Number.isFinite(retryAfter) && retryAfter > 0 ? retryAfter * 1000 : undefined,
    body: chunksOf(response),
    close: Effect.sync(() => request.destroy())
  }
})

/** The body as text. It fails if the body has more than `maxBytes`. */
export const text = (body: Response["body"], maxBytes: number): Effect.Effect<string, Failure> =>
  Effect.suspend(() => {
    const chunks: Array<Uint8Array> = []
    let size = 0
    return body.pipe(
      Stream.runForEach((chunk) => {
        size += chunk.length
        chunks.push(chunk)
        return size <= maxBytes
          ? Effect.void
          : Effect.fail(new Failure({ kind: "Garbled", message: `the answer has more than ${maxBytes} bytes` }))
      }),
      Effect.andThen(Effect.try({
        try: () => new TextDecoder("utf-8", { fatal: true }).decode(Buffer.concat(chunks)),
        catch: (cause) => new Failure({ kind: "Garbled", message: "the answer is not UTF-8", cause })
      }))
    )
  })
