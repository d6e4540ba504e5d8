/**
 * Getting something by HTTP/1.1, over a socket of its own that lives as long as a Scope.
 *
 * With `node:https` and not `effect/http`: the authority to trust and the client's certificate come from the configuration of the cluster, and
 * may be others at each request, which an `HttpClient` that the user provides cannot know.
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

/** So long a socket may be idle before the kernel asks whether the peer is still there; it is given up about ten seconds later. */
const keepAliveDelay = 15_000

export interface Response {
  readonly status: number
  readonly statusText: string
  /** For how long the server wants to be left alone, where it says so. */
  readonly retryAfterMillis: number | undefined
  /** Fails where it ends too early. */
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

/** The place that a URL names. */
const targetOf = ({ hostname, port, protocol }: URL): TcpTarget => ({
  _tag: "Tcp",
  host: hostname.replace(/^\[|\]$/g, ""),
  port: port === "" ? (protocol === "https:" ? 443 : 80) : Number(port),
  family: 0
})

/** Sends a request; the socket goes with the Scope. */
const send = Effect.fnUntraced(function*(
  url: URL,
  headers: Readonly<Record<string, string>>,
  options: tls.ConnectionOptions
): Effect.fn.Return<Started, Failure, Scope.Scope> {
  const isSecure = url.protocol === "https:"
  const secureContext = yield* Effect.try({
    try: () => isSecure ? tls.createSecureContext(options) : undefined,
    // A certificate or key that is none.
    catch: (error) => failure("Unready", error)
  })
  const target = targetOf(url)
  // By Node itself each address of a name but the last would have a quarter of a second.
  const raw = yield* Effect.mapError(dial(target, {}), (error) => failure("Unreachable", error))
  raw.setKeepAlive(true, keepAliveDelay)
  const createConnection = () =>
    secureContext === undefined ? raw : secured(raw, target.host, { ...options, secureContext })
  return yield* Effect.acquireRelease(
    Effect.try({
      try: () => {
        const request = (isSecure ? https : http).request(url, { headers, createConnection })
        // Listened to from the beginning, and for good.
        const response = Deferred.makeUnsafe<http.IncomingMessage, Failure>()
        request.on("error", (error) => Deferred.doneUnsafe(response, Effect.fail(failure("Unreachable", error))))
        request.on("response", (incoming) => {
          incoming.on("error", ignoreError)
          Deferred.doneUnsafe(response, Effect.succeed(incoming))
        })
        request.end()
        return { request, response }
      },
      // A token that no header can have.
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
    // Whatever NODE_TLS_REJECT_UNAUTHORIZED says: a token is sent to no one who does not prove who they are.
    rejectUnauthorized: true
  })

const cut = (message: string, cause?: unknown) => new Failure({ kind: "Cut", message, cause })

/** What comes in, as it comes in; nothing is read ahead of need. */
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

/** Asks, and gives what answers when its head is there. A redirection is an answer like others. */
export const get = Effect.fnUntraced(function*(
  url: URL,
  headers: Readonly<Record<string, string>>,
  tls: tls.ConnectionOptions
): Effect.fn.Return<Response, Failure, Scope.Scope> {
  // API servers speak TLS 1.3 since Kubernetes 1.19; what stands before one may not.
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

/** All of a body as text, unless it has more than so many bytes. */
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
